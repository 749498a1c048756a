//! `bench hop`: a message from one module to another.

use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use super::raw::{self, BODY_BYTES};
use super::stage::Stage;
use super::{BenchError, Scratch, median};
use crate::name::Identity;

/// Messages of a throughput run.
const COUNT: u64 = 2_000_000;
/// Messages outstanding in a windowed run.
const WINDOW: u64 = 1024;
/// Rate of a paced run.
const RATE: u64 = 1000;
/// Messages of a paced run.
const PACED_COUNT: u64 = 2000;

/// Figures of the hop.
#[derive(Debug, Serialize)]
pub struct Hop {
    /// How both modules were run.
    pub isolation: &'static str,
    /// With a window of outstanding messages.
    pub windowed: Throughput,
    /// As fast as the sender can.
    pub flood: Throughput,
    /// At a fixed rate.
    pub paced: Paced,
}

/// Messages per second, ours and raw.
#[derive(Debug, Serialize)]
pub struct Throughput {
    /// Through two modules and a route.
    pub ours_per_s: f64,
    /// Two threads and a channel with refcounted bodies.
    pub raw_per_s: f64,
    /// The former by the latter.
    pub ratio: f64,
    /// Two threads and a channel with inline bodies.
    pub raw_inline_per_s: f64,
    /// Ours by the latter.
    pub ratio_inline: f64,
    /// Messages that did not arrive.
    pub lost: u64,
    /// Messages that arrived out of order.
    pub reordered: u64,
}

/// One-way latencies in microseconds, ours and raw.
#[derive(Debug, Serialize)]
pub struct Paced {
    /// Messages per second.
    pub rate_per_s: u64,
    /// Median.
    pub ours_p50_us: f64,
    /// 99th percentile.
    pub ours_p99_us: f64,
    /// Median of the raw channel.
    pub raw_p50_us: f64,
    /// 99th percentile of the raw channel.
    pub raw_p99_us: f64,
    /// Ratio of the medians.
    pub ratio_p50: f64,
    /// Ratio of the 99th percentiles.
    pub ratio_p99: f64,
}

/// What the sink says of a run.
struct Run {
    per_s: f64,
    lost: u64,
    reordered: u64,
    p50_us: f64,
    p99_us: f64,
}

/// Measures; `say` hears of the progress.
pub fn measure(probe: &Path, rounds: u32, say: &mut dyn FnMut(&str)) -> Result<Hop, BenchError> {
    let scratch = Scratch::new("hop")?;
    let routes = json!({
        "out": "FROM /messages/modules/source/outputs/out INTO BrokeredEndpoint(\"/modules/sink/inputs/in\")",
        "ack": "FROM /messages/modules/sink/outputs/ack INTO BrokeredEndpoint(\"/modules/source/inputs/ack\")"
    });
    let (source, sink) = (Stage::identity("source")?, Stage::identity("sink")?);
    let stage = Stage::start(&scratch.0, probe, &["source", "sink"], routes)?;
    let mut bench = Bench { stage, source, sink, run: 0 };
    let outcome = bench.measure(rounds, say);
    bench.stage.end();
    outcome
}

struct Bench {
    stage: Stage,
    source: Identity,
    sink: Identity,
    run: u64,
}

impl Bench {
    fn measure(&mut self, rounds: u32, say: &mut dyn FnMut(&str)) -> Result<Hop, BenchError> {
        let windowed = self.throughput("windowed", Some(WINDOW), rounds, say)?;
        let flood = self.throughput("flood", None, rounds, say)?;
        let paced = self.paced(rounds, say)?;
        Ok(Hop { isolation: "thread", windowed, flood, paced })
    }

    fn throughput(
        &mut self,
        mode: &str,
        window: Option<u64>,
        rounds: u32,
        say: &mut dyn FnMut(&str),
    ) -> Result<Throughput, BenchError> {
        let (mut ours, mut refcounted, mut inline) = (Vec::new(), Vec::new(), Vec::new());
        let (mut lost, mut reordered) = (0, 0);
        let raw_failed = || BenchError::around("the raw channel could not be measured");
        for round in 0..=rounds {
            say(&format!("hop, {mode}: round {round} of {rounds}"));
            let run = self.run(mode, COUNT)?;
            let raw = raw::throughput::<std::sync::Arc<[u8]>>(COUNT, window).ok_or_else(raw_failed)?;
            let raw_inline = raw::throughput::<[u8; BODY_BYTES]>(COUNT, window).ok_or_else(raw_failed)?;
            lost += run.lost;
            reordered += run.reordered;
            // The first round warms up all three.
            if round > 0 {
                ours.push(run.per_s);
                refcounted.push(raw);
                inline.push(raw_inline);
            }
        }
        let (ours_per_s, raw_per_s, raw_inline_per_s) = (median(ours), median(refcounted), median(inline));
        Ok(Throughput {
            ours_per_s,
            raw_per_s,
            ratio: ours_per_s / raw_per_s,
            raw_inline_per_s,
            ratio_inline: ours_per_s / raw_inline_per_s,
            lost,
            reordered,
        })
    }

    fn paced(&mut self, rounds: u32, say: &mut dyn FnMut(&str)) -> Result<Paced, BenchError> {
        let mut figures: [Vec<f64>; 4] = Default::default();
        for round in 1..=rounds {
            say(&format!("hop, {RATE} messages a second: round {round} of {rounds}"));
            let ours = self.run("paced", PACED_COUNT)?;
            let raw = raw::paced(PACED_COUNT, RATE)
                .ok_or_else(|| BenchError::around("the raw channel could not be paced"))?;
            let quantile = |q: f64| raw[((raw.len() - 1) as f64 * q) as usize] as f64 / 1e3;
            let round = [ours.p50_us, ours.p99_us, quantile(0.5), quantile(0.99)];
            figures.iter_mut().zip(round).for_each(|(all, one)| all.push(one));
        }
        let [ours_p50_us, ours_p99_us, raw_p50_us, raw_p99_us] = figures.map(median);
        Ok(Paced {
            rate_per_s: RATE,
            ours_p50_us,
            ours_p99_us,
            raw_p50_us,
            raw_p99_us,
            ratio_p50: ours_p50_us / raw_p50_us,
            ratio_p99: ours_p99_us / raw_p99_us,
        })
    }

    /// Lets the probes do one run and waits for the sink's word.
    fn run(&mut self, mode: &str, count: u64) -> Result<Run, BenchError> {
        self.run += 1;
        let run = self.run;
        for (identity, role) in [(self.sink.clone(), "sink"), (self.source.clone(), "source")] {
            let desired = json!({
                "role": role, "run": run, "mode": mode, "count": count, "bodyBytes": BODY_BYTES, "window": WINDOW,
                "ratePerSec": RATE
            });
            let version = self.stage.tell(&identity, desired)?;
            // The source begins at once: the sink must be ready for this run before.
            if role == "sink" {
                let is_told = |reported: &Value| reported["acknowledged"]["version"].as_u64() >= Some(version);
                self.stage.reported(&identity, is_told)?;
            }
        }
        let reported = self.stage.reported(&self.sink, |reported| reported["result"]["run"].as_u64() == Some(run))?;
        let result = &reported["result"];
        let number = |name: &str| result[name].as_f64().unwrap_or(f64::NAN);
        let count = |name: &str| result[name].as_u64().unwrap_or(u64::MAX);
        Ok(Run {
            per_s: number("perSecond"),
            lost: count("lost"),
            reordered: count("reordered"),
            p50_us: number("p50Us"),
            p99_us: number("p99Us"),
        })
    }
}
