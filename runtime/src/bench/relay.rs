//! A source and its sinks on a stage: they do one run after the other, and the sinks say what came of each.

use serde_json::{Value, json};

use super::BenchError;
use super::raw::BODY_BYTES;
use super::stage::Stage;
use crate::name::Identity;

/// Messages outstanding in a windowed run.
pub(super) const WINDOW: u64 = 1024;
/// Rate of a paced run.
pub(super) const RATE: u64 = 1000;

/// What the messages of a relay look like.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// Bytes without properties.
    Bytes,
    /// A document in JSON with four properties.
    Document,
}

/// Probes that pass messages to each other.
pub(super) struct Relay {
    source: Identity,
    sinks: Vec<Identity>,
    shape: Shape,
    run: u64,
}

/// What the sinks say of a run.
pub(super) struct Run {
    pub per_s: f64,
    pub lost: u64,
    pub reordered: u64,
    pub p50_us: f64,
    pub p99_us: f64,
}

impl Relay {
    pub fn new(source: &str, sinks: &[&str], shape: Shape) -> Result<Relay, BenchError> {
        let sinks = sinks.iter().map(|sink| Stage::identity(sink)).collect::<Result<_, _>>()?;
        Ok(Relay { source: Stage::identity(source)?, sinks, shape, run: 0 })
    }

    /// Lets the probes do one run and waits for the word of every sink; of several, the slowest counts.
    pub fn run(&mut self, stage: &Stage, mode: &str, count: u64) -> Result<Run, BenchError> {
        self.run += 1;
        let run = self.run;
        let shape = match self.shape {
            Shape::Bytes => "bytes",
            Shape::Document => "document",
        };
        let roles = self.sinks.iter().map(|sink| (sink, "sink")).chain([(&self.source, "source")]);
        for (identity, role) in roles {
            let desired = json!({
                "role": role, "run": run, "mode": mode, "count": count, "shape": shape, "bodyBytes": BODY_BYTES,
                "window": WINDOW, "ratePerSec": RATE
            });
            let version = stage.tell(identity, desired)?;
            // The source begins at once: the sinks must be ready for this run before.
            if role == "sink" {
                let is_told = |reported: &Value| reported["acknowledged"]["version"].as_u64() >= Some(version);
                stage.reported(identity, is_told)?;
            }
        }
        let mut whole = Run { per_s: f64::INFINITY, lost: 0, reordered: 0, p50_us: 0.0, p99_us: 0.0 };
        for sink in &self.sinks {
            let reported = stage.reported(sink, |reported| reported["result"]["run"].as_u64() == Some(run))?;
            let result = &reported["result"];
            let number = |name: &str| result[name].as_f64().unwrap_or(f64::NAN);
            let count = |name: &str| result[name].as_u64().unwrap_or(u64::MAX);
            whole.per_s = whole.per_s.min(number("perSecond"));
            whole.lost = whole.lost.saturating_add(count("lost"));
            whole.reordered = whole.reordered.saturating_add(count("reordered"));
            (whole.p50_us, whole.p99_us) = (number("p50Us"), number("p99Us"));
        }
        Ok(whole)
    }
}
