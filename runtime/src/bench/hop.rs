//! `bench hop`: a message from one module to another.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::raw::{self, BODY_BYTES};
use super::{BenchError, Scratch, median};
use crate::config::Config;
use crate::name::Identity;
use crate::runtime::{self, Running};

/// Messages of a throughput run.
const COUNT: u64 = 2_000_000;
/// Messages outstanding in a windowed run.
const WINDOW: u64 = 1024;
/// Rate of a paced run.
const RATE: u64 = 1000;
/// Messages of a paced run.
const PACED_COUNT: u64 = 2000;
/// Longest that a run may take.
const LIMIT: Duration = Duration::from_secs(120);

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
    let mut bench = Bench::start(&scratch.0, probe)?;
    let outcome = bench.measure(rounds, say);
    bench.running.stop();
    outcome
}

struct Bench {
    running: Running,
    executor: tokio::runtime::Runtime,
    source: Identity,
    sink: Identity,
    run: u64,
}

impl Bench {
    fn start(folder: &Path, probe: &Path) -> Result<Bench, BenchError> {
        let module = json!({"type": "library", "settings": {"image": probe}});
        let manifest = json!({"modulesContent": {
            "$edgeAgent": {"properties.desired": {
                "schemaVersion": "1.1", "modules": {"source": module, "sink": module}
            }},
            "$edgeHub": {"properties.desired": {"schemaVersion": "1.1", "routes": {
                "out": "FROM /messages/modules/source/outputs/out INTO BrokeredEndpoint(\"/modules/sink/inputs/in\")",
                "ack": "FROM /messages/modules/sink/outputs/ack INTO BrokeredEndpoint(\"/modules/source/inputs/ack\")"
            }}}
        }});
        let file = folder.join("bench.json");
        std::fs::write(&file, manifest.to_string())
            .map_err(|source| BenchError::Io { what: "the manifest of the bench cannot be written", source })?;
        let running = runtime::start(runtime::Options {
            logs: crate::log::Logs::nowhere(),
            manifest: Some(file),
            config: Config::default(),
            state: folder.join("state"),
            device_id: Some("bench".to_owned()),
            new_device_key: false,
            watch: Vec::new(),
            autostart: false,
            session_folder: None,
        })?;
        let executor = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|source| BenchError::Io { what: "no executor", source })?;
        let identity = |name| Identity::module("bench", name).map_err(|error| BenchError::around(error.to_string()));
        let (source, sink) = (identity("source")?, identity("sink")?);
        Ok(Bench { running, executor, source, sink, run: 0 })
    }

    fn measure(&mut self, rounds: u32, say: &mut dyn FnMut(&str)) -> Result<Hop, BenchError> {
        self.until("the probes run", |views| views.iter().all(|(_, is_running)| *is_running))?;
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
            let patch = json!({"properties": {"desired": desired}});
            let handle = self.running.handle().clone();
            let root = self.executor.block_on(async { handle.twin_patch(&identity, patch, None, "bench").await });
            let version = root.map_err(|error| BenchError::around(error.to_string()))?;
            let version = version["properties"]["desired"]["$version"].as_u64().unwrap_or(u64::MAX);
            // The source begins at once: the sink must be ready for this run before.
            if role == "sink" {
                self.reported(&identity, |reported| reported["acknowledged"]["version"].as_u64() >= Some(version))?;
            }
        }
        let sink = self.sink.clone();
        let reported = self.reported(&sink, |reported| reported["result"]["run"].as_u64() == Some(run))?;
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

    /// Waits until the reported properties of a twin are as wanted, and gives them.
    fn reported(&self, identity: &Identity, is_wanted: impl Fn(&Value) -> bool) -> Result<Value, BenchError> {
        let handle = self.running.handle().clone();
        let mut changes = handle.changes();
        let wait = async {
            loop {
                changes.borrow_and_update();
                let root = handle.twin(identity).await.map_err(|error| BenchError::around(error.to_string()))?;
                let reported = &root["properties"]["reported"];
                if is_wanted(reported) {
                    return Ok(reported.clone());
                }
                changes.changed().await.map_err(|_| BenchError::around("the runtime ended"))?;
            }
        };
        let outcome = self.executor.block_on(async { tokio::time::timeout(LIMIT, wait).await });
        outcome.unwrap_or_else(|_| Err(BenchError::around(format!("{identity} did not report in time"))))
    }

    fn until(&self, what: &str, is_so: impl Fn(&[(String, bool)]) -> bool) -> Result<(), BenchError> {
        let handle = self.running.handle().clone();
        let mut changes = handle.changes();
        let wait = async {
            loop {
                changes.borrow_and_update();
                let views = handle.modules().await.map_err(|error| BenchError::around(error.to_string()))?;
                let states: Vec<(String, bool)> =
                    views.iter().map(|view| (view.name.clone(), view.status == crate::view::Status::Running)).collect();
                if states.len() == 2 && is_so(&states) {
                    return Ok(());
                }
                changes.changed().await.map_err(|_| BenchError::around("the runtime ended"))?;
            }
        };
        let outcome = self.executor.block_on(async { tokio::time::timeout(LIMIT, wait).await });
        outcome.unwrap_or_else(|_| Err(BenchError::around(format!("not in time: {what}"))))
    }
}
