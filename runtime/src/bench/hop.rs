//! `bench hop`: a message from one module to another.

use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use super::conditions::{self, Conditions};
use super::processors::pin_threads;
use super::raw::{self, BODY_BYTES};
use super::relay::{RATE, Relay, Run, Shape, WINDOW};
use super::rounds::{self, Processors};
use super::stage::Stage;
use super::{BenchError, Extent, Scratch, median};

/// Messages of a throughput run unless somebody says otherwise.
pub const MESSAGES: u64 = 2_000_000;
/// Inputs of a fan-out.
const FAN_OUT: u64 = 8;
/// Most messages of a paced run.
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
    /// What conditions of routes cost.
    pub conditions: Conditions,
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
    /// Of the rounds that count.
    pub processors: Processors,
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
    /// Of the rounds that count.
    pub processors: Processors,
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

/// Measures; `say` hears of the progress.
pub fn measure(probe: &Path, extent: Extent, say: &mut dyn FnMut(&str)) -> Result<Hop, BenchError> {
    let scratch = Scratch::new("hop")?;
    let routes = json!({
        "out": "FROM /messages/modules/source/outputs/out INTO BrokeredEndpoint(\"/modules/sink/inputs/in\")",
        "ack": "FROM /messages/modules/sink/outputs/ack INTO BrokeredEndpoint(\"/modules/source/inputs/ack\")"
    });
    let mut bench = Bench::start(&scratch.0, probe, &["sink"], routes)?;
    // A thread of its own that the source starts for a flood stays with it.
    pin_threads("source", 0);
    pin_threads("sink", 1);
    let outcome = bench.measure(extent, say);
    bench.stage.end();
    let (windowed, flood, paced) = outcome?;
    let fan_out = fan_out(probe, extent, say)?;
    let conditions = conditions::measure(probe, extent, say)?;
    Ok(Hop { isolation: "thread", windowed, flood, paced, fan_out, conditions })
}

fn fan_out(probe: &Path, extent: Extent, say: &mut dyn FnMut(&str)) -> Result<FanOut, BenchError> {
    let scratch = Scratch::new("fan-out")?;
    let names: Vec<String> = (0..FAN_OUT).map(|n| format!("sink{n}")).collect();
    let sinks: Vec<&str> = names.iter().map(String::as_str).collect();
    let route = |source: &str, sink: &str| {
        let into = format!("BrokeredEndpoint(\"/modules/{sink}/inputs/in\")");
        (sink.to_owned(), format!("FROM /messages/modules/{source}/outputs/out INTO {into}").into())
    };
    let routes = sinks.iter().map(|sink| route("source", sink)).chain([route("single", "sink")]);
    let modules: Vec<&str> = sinks.iter().copied().chain(["source", "single", "sink"]).collect();
    let stage = Stage::start(&scratch.0, probe, &modules, Value::Object(routes.collect()))?;
    pin_threads("single", 0);
    pin_threads("sink", 1);
    let outcome = compare_fan_out(&stage, &sinks, extent, say);
    stage.end();
    outcome
}

fn compare_fan_out(
    stage: &Stage,
    sinks: &[&str],
    extent: Extent,
    say: &mut dyn FnMut(&str),
) -> Result<FanOut, BenchError> {
    let (mut many, mut single) =
        (Relay::new("source", sinks, Shape::Bytes)?, Relay::new("single", &["sink"], Shape::Bytes)?);
    let (mut lost, mut reordered) = (0, 0);
    let rounds = rounds::measure::<2>(extent.rounds, |piece, where_it_stands| {
        say(&format!("hop, fan-out: {where_it_stands}"));
        let (relay, messages, inputs) = match piece {
            0 => (&mut many, (extent.messages / FAN_OUT).max(1), FAN_OUT),
            _ => (&mut single, extent.messages, 1),
        };
        let run = relay.run(stage, "flood", messages)?;
        lost += run.lost;
        reordered += run.reordered;
        Ok(run.per_s * inputs as f64)
    })?;
    Ok(FanOut {
        inputs: FAN_OUT,
        deliveries_per_s: rounds.median(0),
        single_per_s: rounds.median(1),
        ratio: rounds.ratio(0, 1),
        lost,
        reordered,
        processors: rounds.processors,
    })
}

struct Bench {
    stage: Stage,
    relay: Relay,
}

impl Bench {
    fn start(folder: &Path, probe: &Path, sinks: &[&str], routes: Value) -> Result<Bench, BenchError> {
        let modules: Vec<&str> = sinks.iter().copied().chain(["source"]).collect();
        let relay = Relay::new("source", sinks, Shape::Bytes)?;
        Ok(Bench { stage: Stage::start(folder, probe, &modules, routes)?, relay })
    }

    fn run(&mut self, mode: &str, count: u64) -> Result<Run, BenchError> {
        self.relay.run(&self.stage, mode, count)
    }

    fn measure(
        &mut self,
        extent: Extent,
        say: &mut dyn FnMut(&str),
    ) -> Result<(Throughput, Throughput, Paced), BenchError> {
        let windowed = self.throughput("windowed", Some(WINDOW), extent, say)?;
        let flood = self.throughput("flood", None, extent, say)?;
        let paced = self.paced(extent, say)?;
        Ok((windowed, flood, paced))
    }

    fn throughput(
        &mut self,
        mode: &str,
        window: Option<u64>,
        extent: Extent,
        say: &mut dyn FnMut(&str),
    ) -> Result<Throughput, BenchError> {
        let (mut lost, mut reordered) = (0, 0);
        let raw_failed = || BenchError::around("the raw channel could not be measured");
        let rounds = rounds::measure::<3>(extent.rounds, |piece, where_it_stands| {
            say(&format!("hop, {mode}: {where_it_stands}"));
            match piece {
                0 => {
                    let run = self.run(mode, extent.messages)?;
                    lost += run.lost;
                    reordered += run.reordered;
                    Ok(run.per_s)
                }
                1 => raw::throughput::<std::sync::Arc<[u8]>>(extent.messages, window).ok_or_else(raw_failed),
                _ => raw::throughput::<[u8; BODY_BYTES]>(extent.messages, window).ok_or_else(raw_failed),
            }
        })?;
        Ok(Throughput {
            ours_per_s: rounds.median(0),
            raw_per_s: rounds.median(1),
            ratio: rounds.ratio(0, 1),
            raw_inline_per_s: rounds.median(2),
            ratio_inline: rounds.ratio(0, 2),
            lost,
            reordered,
            processors: rounds.processors,
        })
    }

    fn paced(&mut self, extent: Extent, say: &mut dyn FnMut(&str)) -> Result<Paced, BenchError> {
        let mut figures: [Vec<f64>; 4] = Default::default();
        let count = (extent.messages / 8).clamp(1, PACED_COUNT);
        for round in 1..=extent.rounds {
            say(&format!("hop, {RATE} messages a second: round {round} of {}", extent.rounds));
            let ours = self.run("paced", count)?;
            let raw =
                raw::paced(count, RATE).ok_or_else(|| BenchError::around("the raw channel could not be paced"))?;
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
}
