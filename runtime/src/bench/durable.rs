//! `bench durable`: messages that are on disk before their sender goes on.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::raw_queue::RawQueue;
use super::stage::Stage;
use super::{BenchError, Extent, Scratch, median};
use crate::clock;
use crate::database::File;

/// Modules that send at once.
const SENDERS: [&str; 8] = ["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7"];
/// Who handles what went through the store.
const TAKER: &str = "taker";
/// Messages of each sender in a round, unless somebody says otherwise; the single sender sends twice as many.
pub const MESSAGES: u64 = 1500;
/// Messages of each sender on the slow disk, at most.
const SLOW: u64 = 100;
/// What a sync of the slow disk takes.
const SLOW_SYNC: Duration = Duration::from_millis(5);
/// Bytes of a body.
const BODY_BYTES: usize = 256;
/// Bytes that a row of ours holds besides: identity, output, times and numbers.
const STAMP_BYTES: usize = 64;
/// Time in which all modules get ready to begin together.
const LEAD_MS: i64 = 300;
/// Between two looks at whether a run is over: rare, so as not to disturb it.
const LOOK: Duration = Duration::from_millis(20);
/// Longest that a run may take.
const LIMIT: Duration = Duration::from_secs(120);

/// Figures of the store.
#[derive(Debug, Serialize)]
pub struct Durable {
    /// Eight senders, each waiting until its message is synced before it sends the next.
    pub send: Rate,
    /// The same through the store to a handler: stored, delivered, handled, removed in the handler's transaction.
    pub end_to_end: Rate,
    /// One sender that waits for each message.
    pub single: Rate,
    /// Eight senders on a disk that takes its time.
    pub slow_disk: SlowDisk,
}

/// Messages per second, ours and raw.
#[derive(Debug, Serialize)]
pub struct Rate {
    /// Through modules, routes and the writer.
    pub ours_per_s: f64,
    /// One SQLite connection that writes the same bytes in groups of the same size.
    pub raw_per_s: f64,
    /// The former by the latter.
    pub ratio: f64,
    /// Mean number of rows that came or went with one commit.
    pub group: f64,
}

/// Durable sends where each commit takes longer.
#[derive(Debug, Serialize)]
pub struct SlowDisk {
    /// What each commit takes longer.
    pub fsync_ms: f64,
    /// Median of the time from a send to its `Ok`.
    pub p50_ms: f64,
    /// 99th percentile of the slowest sender.
    pub p99_ms: f64,
    /// Bytes that went to the disk for each message of 256 bytes, into the log and into the file.
    pub bytes_written_per_message: f64,
}

/// Measures; `say` hears of the progress.
pub fn measure(probe: &Path, extent: Extent, say: &mut dyn FnMut(&str)) -> Result<Durable, BenchError> {
    let scratch = Scratch::new("durable")?;
    let raw = RawQueue::new(&scratch.0)?;
    // A pattern may only end in a wildcard: each sender has routes of its own.
    let mut routes = Map::new();
    for sender in SENDERS {
        let from = format!("FROM /messages/modules/{sender}/outputs");
        let into = format!("BrokeredEndpoint(\"/modules/{TAKER}/inputs/in\")");
        routes.insert(format!("{sender}-out"), format!("{from}/out INTO $upstream").into());
        let through = json!({"route": format!("{from}/through INTO {into}"), "durability": "disk"});
        routes.insert(format!("{sender}-through"), through);
    }
    let modules: Vec<&str> = SENDERS.into_iter().chain([TAKER]).collect();
    let stage = Stage::start(&scratch.0, probe, &modules, routes.into())?;
    let outcome = Bench { stage: &stage, raw, run: 0 }.measure(extent, say);
    stage.end();
    outcome
}

struct Bench<'a> {
    stage: &'a Stage,
    raw: RawQueue,
    run: u64,
}

/// What a run came to.
struct Run {
    per_s: f64,
    commits: u64,
    p50_us: f64,
    p99_us: f64,
    written: u64,
}

impl Bench<'_> {
    fn measure(&mut self, extent: Extent, say: &mut dyn FnMut(&str)) -> Result<Durable, BenchError> {
        let Extent { rounds, messages } = extent;
        let (total, alone, slowly) = (messages * SENDERS.len() as u64, messages * 2, messages.min(SLOW));
        let send = self.rate("sends of 8 modules", rounds, say, |bench| {
            let run = bench.run(&SENDERS, false, messages)?;
            let group = total as f64 / run.commits.max(1) as f64;
            Ok((run.per_s, bench.raw.insert(total, group)?, group))
        })?;
        let end_to_end = self.rate("through the store", rounds, say, |bench| {
            let run = bench.run(&SENDERS, true, messages)?;
            // Every message comes and goes.
            let group = 2.0 * total as f64 / run.commits.max(1) as f64;
            Ok((run.per_s, bench.raw.pass(total, group)?, group))
        })?;
        let single = self.rate("sends of one module", rounds, say, |bench| {
            let run = bench.run(&SENDERS[..1], false, alone)?;
            let group = alone as f64 / run.commits.max(1) as f64;
            Ok((run.per_s, bench.raw.insert(alone, group)?, group))
        })?;
        say("durable, a disk that takes 5 ms for a sync");
        let figures = self.stage.running.database().figures();
        figures.delay_commits(SLOW_SYNC);
        let slow = self.run(&SENDERS, false, slowly);
        figures.delay_commits(Duration::ZERO);
        let slow = slow?;
        let slow_disk = SlowDisk {
            fsync_ms: SLOW_SYNC.as_secs_f64() * 1e3,
            p50_ms: slow.p50_us / 1e3,
            p99_ms: slow.p99_us / 1e3,
            bytes_written_per_message: slow.written as f64 / (slowly * SENDERS.len() as u64) as f64,
        };
        Ok(Durable { send, end_to_end, single, slow_disk })
    }

    /// Measures ours and raw in turns. `round` gives both, and the group.
    fn rate(
        &mut self,
        what: &str,
        rounds: u32,
        say: &mut dyn FnMut(&str),
        round: impl Fn(&mut Self) -> Result<(f64, f64, f64), BenchError>,
    ) -> Result<Rate, BenchError> {
        let mut figures: [Vec<f64>; 3] = Default::default();
        for number in 0..=rounds {
            say(&format!("durable, {what}: round {number} of {rounds}"));
            let (ours, raw, group) = round(self)?;
            // The first round warms up both.
            if number > 0 {
                figures.iter_mut().zip([ours, raw, group]).for_each(|(all, one)| all.push(one));
            }
        }
        let [ours_per_s, raw_per_s, group] = figures.map(median);
        Ok(Rate { ours_per_s, raw_per_s, ratio: ours_per_s / raw_per_s, group })
    }

    /// Lets each of `modules` send `count` messages; `through` the store to the taker, or only into it.
    fn run(&mut self, modules: &[&str], through: bool, count: u64) -> Result<Run, BenchError> {
        self.run += 1;
        let (run, total) = (self.run, count * modules.len() as u64);
        let starts_at = clock::wall_us() / 1000 + LEAD_MS;
        let told = |role: &str, count: u64| json!({"role": role, "run": run, "count": count, "bodyBytes": BODY_BYTES, "startAtMs": starts_at});
        if through {
            self.stage.tell(&Stage::identity(TAKER)?, told("taker", total))?;
        }
        for module in modules {
            self.stage.tell(&Stage::identity(module)?, told(if through { "passer" } else { "storer" }, count))?;
        }
        // What the start of the run itself writes is done well before.
        std::thread::sleep(Duration::from_millis((starts_at - clock::wall_us() / 1000 - 20).max(0) as u64));
        let figures = self.stage.running.database().figures();
        let counted = || {
            let (logged, folded) = figures.written(File::Queue);
            (figures.commits.load(Ordering::Relaxed), logged + folded)
        };
        let before = counted();
        let mut slowest: u64 = 1;
        let (mut p50_us, mut p99_us) = (Vec::new(), 0.0_f64);
        for module in modules {
            let result = self.result(run, module, count)?;
            slowest = slowest.max(result["elapsedUs"].as_u64().unwrap_or(0));
            p50_us.push(result["p50Us"].as_f64().unwrap_or(f64::NAN));
            p99_us = p99_us.max(result["p99Us"].as_f64().unwrap_or(f64::NAN));
        }
        if through {
            slowest = slowest.max(self.result(run, TAKER, total)?["elapsedUs"].as_u64().unwrap_or(0));
        }
        let after = counted();
        Ok(Run {
            per_s: total as f64 * 1e6 / slowest as f64,
            commits: after.0 - before.0,
            p50_us: median(p50_us),
            p99_us,
            written: after.1 - before.1,
        })
    }

    /// Waits for the word of a probe.
    fn result(&self, run: u64, module: &str, count: u64) -> Result<Value, BenchError> {
        let (begin, identity) = (Instant::now(), Stage::identity(module)?);
        loop {
            let twin = self.stage.running.handle().twins().get(&identity);
            let result = twin.and_then(|twin| twin.reported.parse().remove("result"));
            if let Some(result) = result.filter(|result| result["run"].as_u64() == Some(run)) {
                if result["done"].as_u64() != Some(count) {
                    return Err(BenchError::around(format!("{identity} ended its run early: {}", result["error"])));
                }
                return Ok(result);
            }
            if begin.elapsed() > LIMIT {
                return Err(BenchError::around(format!("{identity} did not end its run in time")));
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// Bytes of a row of the raw store.
pub(super) const ROW_BYTES: (usize, usize) = (STAMP_BYTES, BODY_BYTES);
