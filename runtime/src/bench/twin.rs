//! `bench twin`: reported properties to the disk, reads of a twin, and a desired change on its way to the handler.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};

use super::raw_store::RawStore;
use super::stage::Stage;
use super::{BenchError, Scratch, median};
use crate::clock;
use crate::name::Identity;
use crate::twin::Change;

/// Modules that report at once.
const MODULES: [&str; 8] = ["m0", "m1", "m2", "m3", "m4", "m5", "m6", "m7"];
/// Reports of each in a round.
const REPORTS: u64 = 2500;
/// Size of a report, and so of the reported properties: all of them are new in each report.
const REPORT_BYTES: u64 = 1024;
/// Reads in a round.
const READS: u64 = 300_000;
/// Desired changes in a round, one after the other.
const CHANGES: u64 = 200;
/// Time in which all modules get ready to begin together.
const LEAD_MS: i64 = 300;
/// Between two looks at whether a run is over: rare, so as not to disturb it.
const LOOK: Duration = Duration::from_millis(20);
/// Longest that a run may take.
const LIMIT: Duration = Duration::from_secs(120);

/// Figures of twins.
#[derive(Debug, Serialize)]
pub struct Twin {
    /// Reported patches, each acknowledged after it was synced to the disk.
    pub report: Report,
    /// Reads of the own twin by a thread of a module.
    pub read_per_s: f64,
    /// Median time from the commit of a desired change, on the writer's thread, to the entry of the module's handler, in
    /// microseconds.
    pub desired_p50_us: f64,
}

/// Reports per second, ours and raw.
#[derive(Debug, Serialize)]
pub struct Report {
    /// From eight modules at once.
    pub ours_per_s: f64,
    /// One SQLite connection with the same bytes.
    pub raw_per_s: f64,
    /// The former by the latter.
    pub ratio: f64,
    /// Mean number of reports in one commit.
    pub group: f64,
}

/// Measures; `say` hears of the progress.
pub fn measure(probe: &Path, rounds: u32, say: &mut dyn FnMut(&str)) -> Result<Twin, BenchError> {
    let scratch = Scratch::new("twin")?;
    let raw = RawStore::new(&scratch.0, MODULES.len() as u64)?;
    let stage = Stage::start(&scratch.0, probe, &MODULES, json!({}))?;
    let outcome = Bench { stage: &stage, raw, run: 0 }.measure(rounds, say);
    stage.end();
    outcome
}

struct Bench<'a> {
    stage: &'a Stage,
    raw: RawStore,
    run: u64,
}

impl Bench<'_> {
    fn measure(&mut self, rounds: u32, say: &mut dyn FnMut(&str)) -> Result<Twin, BenchError> {
        let report = self.reports(rounds, say)?;
        let (mut reads, mut changes) = (Vec::new(), Vec::new());
        for round in 1..=rounds {
            say(&format!("twin, reads and desired changes: round {round} of {rounds}"));
            reads.push(self.reads()?);
            changes.push(self.changes()?);
        }
        Ok(Twin { report, read_per_s: median(reads), desired_p50_us: median(changes) })
    }

    fn reports(&mut self, rounds: u32, say: &mut dyn FnMut(&str)) -> Result<Report, BenchError> {
        let (mut ours, mut raws, mut groups) = (Vec::new(), Vec::new(), Vec::new());
        let figures = self.stage.running.database().figures();
        for round in 0..=rounds {
            say(&format!("twin, reports of {} modules: round {round} of {rounds}", MODULES.len()));
            let counted = || (figures.changes.load(Ordering::Relaxed), figures.commits.load(Ordering::Relaxed));
            let (run, starts_at) = self.prepare("reporter", &MODULES, REPORTS)?;
            // What the start of the run itself writes is done well before.
            std::thread::sleep(Duration::from_millis((starts_at - clock::wall_us() / 1000 - 20).max(0) as u64));
            let before = counted();
            let slowest_us = self.results(run, &MODULES, REPORTS)?;
            let after = counted();
            let total = REPORTS * MODULES.len() as u64;
            let group = (after.0 - before.0) as f64 / (after.1 - before.1).max(1) as f64;
            let raw = self.raw.write(MODULES.len() as u64, total, self.stored_bytes()?, group)?;
            // The first round warms up both.
            if round > 0 {
                ours.push(total as f64 * 1e6 / slowest_us as f64);
                raws.push(raw);
                groups.push(group);
            }
        }
        let (ours_per_s, raw_per_s) = (median(ours), median(raws));
        Ok(Report { ours_per_s, raw_per_s, ratio: ours_per_s / raw_per_s, group: median(groups) })
    }

    /// Bytes of document and metadata as one report writes them.
    fn stored_bytes(&self) -> Result<(usize, usize), BenchError> {
        let twin = self.stage.running.handle().twins().get(&Stage::identity(MODULES[0])?);
        twin.map(|twin| twin.reported.stored_bytes()).ok_or_else(|| BenchError::around("the probe has no twin"))
    }

    /// Reads per second.
    fn reads(&mut self) -> Result<f64, BenchError> {
        let (run, _) = self.prepare("reader", &MODULES[..1], READS)?;
        Ok(READS as f64 * 1e6 / self.results(run, &MODULES[..1], READS)? as f64)
    }

    /// The median over changes, in microseconds.
    fn changes(&mut self) -> Result<f64, BenchError> {
        let identity = Stage::identity(MODULES[0])?;
        let twins = self.stage.running.handle().twins();
        let database = self.stage.running.database();
        let mut spans = Vec::new();
        for _ in 0..CHANGES {
            self.run += 1;
            let run = self.run;
            let (committed, when) = mpsc::sync_channel(1);
            let noted = database.clone();
            // The completion runs on the writer's thread before its next commit, so that the figure is that of this one.
            let patch = json!({"role": "listener", "run": run});
            let submitted = twins.change(&identity, &Change::patch_desired(&patch, "bench"), move |outcome| {
                let at_us = noted.figures().last_commit_us.load(Ordering::Relaxed);
                let _ = committed.send(outcome.map(|_| at_us));
            });
            submitted.map_err(|error| BenchError::around(error.to_string()))?;
            let committed_us = when.recv().map_err(|_| BenchError::around("a desired change got lost"))?;
            let committed_us = committed_us.map_err(|error| BenchError::around(error.to_string()))?;
            let reported = self.stage.reported(&identity, |reported| reported["heard"]["run"].as_u64() == Some(run))?;
            let heard_ns: Option<i64> = reported["heard"]["atNs"].as_str().and_then(|text| text.parse().ok());
            let heard_ns = heard_ns.ok_or_else(|| BenchError::around("the probe does not say when it heard"))?;
            spans.push((heard_ns / 1000 - committed_us) as f64);
        }
        Ok(median(spans))
    }

    /// Tells probes what to do next; gives the run and when it begins, in ms since 1970.
    fn prepare(&mut self, role: &str, modules: &[&str], count: u64) -> Result<(u64, i64), BenchError> {
        self.run += 1;
        let starts_at = clock::wall_us() / 1000 + LEAD_MS;
        for module in modules {
            let desired = json!({
                "role": role, "run": self.run, "count": count, "bodyBytes": REPORT_BYTES, "startAtMs": starts_at
            });
            self.stage.tell(&Stage::identity(module)?, desired)?;
        }
        Ok((self.run, starts_at))
    }

    /// Waits for the word of each probe; gives the time of the slowest, in microseconds.
    fn results(&self, run: u64, modules: &[&str], count: u64) -> Result<u64, BenchError> {
        let begin = Instant::now();
        let mut slowest_us = 1;
        for module in modules {
            let identity = Stage::identity(module)?;
            let result = loop {
                if let Some(result) = self.result(run, &identity) {
                    break result;
                }
                if begin.elapsed() > LIMIT {
                    return Err(BenchError::around(format!("{identity} did not end its run in time")));
                }
                std::thread::sleep(LOOK);
            };
            if result["done"].as_u64() != Some(count) {
                return Err(BenchError::around(format!("{identity} ended its run early: {}", result["error"])));
            }
            slowest_us = slowest_us.max(result["elapsedUs"].as_u64().unwrap_or(0));
        }
        Ok(slowest_us)
    }

    fn result(&self, run: u64, identity: &Identity) -> Option<Value> {
        let twin: Arc<_> = self.stage.running.handle().twins().get(identity)?;
        let result = twin.reported.parse().remove("result")?;
        (result["run"].as_u64() == Some(run)).then_some(result)
    }
}
