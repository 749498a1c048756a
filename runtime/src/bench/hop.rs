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
/// Inputs of a fan-out.
const FAN_OUT: u64 = 8;
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
    /// From one output to many inputs.
    pub fan_out: FanOut,
}

/// Deliveries per second from one output to many inputs, and to one, both as fast as the sender can.
#[derive(Debug, Serialize)]
pub struct FanOut {
    /// Inputs.
    pub inputs: u64,
    /// To all of them together.
    pub deliveries_per_s: f64,
    /// To a single one.
    pub single_per_s: f64,
    /// The former by the latter.
    pub ratio: f64,
    /// Messages that did not arrive.
    pub lost: u64,
    /// Messages that arrived out of order.
    pub reordered: u64,
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

/// What the sinks say of a run.
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
    let mut bench = Bench::start(&scratch.0, probe, &["sink"], routes)?;
    let outcome = bench.measure(rounds, say);
    bench.stage.end();
    let (windowed, flood, paced) = outcome?;
    let fan_out = fan_out(probe, rounds, flood.ours_per_s, say)?;
    Ok(Hop { isolation: "thread", windowed, flood, paced, fan_out })
}

fn fan_out(probe: &Path, rounds: u32, single_per_s: f64, say: &mut dyn FnMut(&str)) -> Result<FanOut, BenchError> {
    let scratch = Scratch::new("fan-out")?;
    let names: Vec<String> = (0..FAN_OUT).map(|n| format!("sink{n}")).collect();
    let sinks: Vec<&str> = names.iter().map(String::as_str).collect();
    let route = |sink: &&str| {
        let into = format!("BrokeredEndpoint(\"/modules/{sink}/inputs/in\")");
        ((*sink).to_owned(), format!("FROM /messages/modules/source/outputs/out INTO {into}").into())
    };
    let routes: serde_json::Map<String, Value> = sinks.iter().map(route).collect();
    let mut bench = Bench::start(&scratch.0, probe, &sinks, routes.into())?;
    let mut measure = || {
        let (mut per_s, mut lost, mut reordered) = (Vec::new(), 0, 0);
        for round in 0..=rounds {
            say(&format!("hop, fan-out: round {round} of {rounds}"));
            let run = bench.run("flood", COUNT / FAN_OUT)?;
            lost += run.lost;
            reordered += run.reordered;
            if round > 0 {
                per_s.push(run.per_s * FAN_OUT as f64);
            }
        }
        let deliveries_per_s = median(per_s);
        let ratio = deliveries_per_s / single_per_s;
        Ok(FanOut { inputs: FAN_OUT, deliveries_per_s, single_per_s, ratio, lost, reordered })
    };
    let outcome = measure();
    bench.stage.end();
    outcome
}

struct Bench {
    stage: Stage,
    source: Identity,
    sinks: Vec<Identity>,
    run: u64,
}

impl Bench {
    fn start(folder: &Path, probe: &Path, sinks: &[&str], routes: Value) -> Result<Bench, BenchError> {
        let modules: Vec<&str> = sinks.iter().copied().chain(["source"]).collect();
        let named = sinks.iter().map(|sink| Stage::identity(sink)).collect::<Result<_, _>>()?;
        let stage = Stage::start(folder, probe, &modules, routes)?;
        Ok(Bench { stage, source: Stage::identity("source")?, sinks: named, run: 0 })
    }

    fn measure(
        &mut self,
        rounds: u32,
        say: &mut dyn FnMut(&str),
    ) -> Result<(Throughput, Throughput, Paced), BenchError> {
        let windowed = self.throughput("windowed", Some(WINDOW), rounds, say)?;
        let flood = self.throughput("flood", None, rounds, say)?;
        let paced = self.paced(rounds, say)?;
        Ok((windowed, flood, paced))
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

    /// Lets the probes do one run and waits for the word of every sink; of several, the slowest counts.
    fn run(&mut self, mode: &str, count: u64) -> Result<Run, BenchError> {
        self.run += 1;
        let run = self.run;
        let roles = self.sinks.iter().map(|sink| (sink, "sink")).chain([(&self.source, "source")]);
        for (identity, role) in roles {
            let desired = json!({
                "role": role, "run": run, "mode": mode, "count": count, "bodyBytes": BODY_BYTES, "window": WINDOW,
                "ratePerSec": RATE
            });
            let version = self.stage.tell(identity, desired)?;
            // The source begins at once: the sinks must be ready for this run before.
            if role == "sink" {
                let is_told = |reported: &Value| reported["acknowledged"]["version"].as_u64() >= Some(version);
                self.stage.reported(identity, is_told)?;
            }
        }
        let mut whole = Run { per_s: f64::INFINITY, lost: 0, reordered: 0, p50_us: 0.0, p99_us: 0.0 };
        for sink in &self.sinks {
            let reported = self.stage.reported(sink, |reported| reported["result"]["run"].as_u64() == Some(run))?;
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
