//! Torture: whatever happens to the runtime, at the end the accounts of senders and receivers agree with its ledger.
//!
//! Modules send numbers along durable routes and along routes in memory, while chance draws what happens: kill -9, restarts, a full
//! disk, clocks that jump, receivers that crash, hang and refuse, other routes, other deployments. See [`checker`] for what must
//! agree. The seed is printed; `DINRAIL_SEED` has a run again, as far as time allows.
//!
//! By hand, for as long as `DINRAIL_TORTURE` and `DINRAIL_SOAK` say, such as `90s`, `30m` or `1h`: see `.ci/long`.

mod checker;
mod checker_tests;
mod disk;
mod flow;
mod memory;
mod stage;
mod steps;

use std::time::{Duration, Instant};

use crate::harness::Chance;
use checker::Figures;
use stage::Stage;

/// Time between two comparisons.
const ROUND: Duration = Duration::from_secs(60);
/// From here on a run says something about memory.
const TELLING: Duration = Duration::from_secs(600);

/// How long it runs: `variable`, else `usual`.
fn duration(variable: &str, usual: Duration) -> Duration {
    let Ok(text) = std::env::var(variable) else { return usual };
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => panic!("{variable}={text}: such as 90s, 30m or 1h"),
    };
    Duration::from_secs(number.parse::<u64>().expect("a whole number before s, m or h") * seconds)
}

fn told(count: usize, what: &str, figures: Figures, stage: &Stage) {
    let Figures { acknowledged, accepted, repeated, parked, declared, dropped } = figures;
    println!(
        "{count} {what}: {acknowledged} acknowledged, {accepted} accepted, {repeated} repeated, {parked} parked, {declared} in the \
         ledger, {dropped} dropped or expired as their routes say and in the ledger; at most {} KiB resident",
        stage.most_memory() >> 10
    );
    let times = stage.first_deliveries();
    if let (Some(median), Some(longest)) = (times.get(times.len() / 2), times.last()) {
        println!("{} starts: first delivery after {median:?} (median), {longest:?} (longest)", times.len());
    }
}

#[test]
fn whatever_happens_nothing_is_unaccounted_for() {
    let time = duration("DINRAIL_TORTURE", Duration::from_secs(10));
    let (mut chance, _) = Chance::told("torture");
    let mut stage = Stage::start(1000, true);
    let (end, mut figures, mut count) = (Instant::now() + time, Figures::default(), 0);
    while Instant::now() < end {
        let round = Instant::now();
        while Instant::now() < end && round.elapsed() < ROUND {
            let step = steps::draw(&mut chance, stage.possible());
            stage.act(&step);
            println!("{count} {step:?}, then {} KiB", stage.memory().last() >> 10);
            count += 1;
        }
        figures.add(stage.settle());
    }
    told(count, "steps", figures, &stage);
    stage.assert_agreed();
    assert!(figures.acknowledged > 100 && figures.accepted > 100, "hardly anything was sent");
}

#[test]
fn kill_9_under_load_loses_nothing_that_was_acknowledged() {
    let kills: usize = std::env::var("DINRAIL_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let (mut chance, _) = Chance::told("kills under load");
    let mut stage = Stage::start(1000, false);
    let mut figures = Figures::default();
    for kill in 1..=kills {
        stage.go_on(1 + chance.below(300));
        stage.act(&steps::Step::Kill);
        if kill % 100 == 0 || kill == kills {
            figures.add(stage.settle());
        }
    }
    told(kills, "kills", figures, &stage);
    stage.assert_agreed();
    assert!(figures.acknowledged > 100, "hardly anything was sent");
}

#[test]
fn a_long_run_loses_nothing_and_needs_no_more_memory() {
    let time = duration("DINRAIL_SOAK", Duration::from_secs(3));
    let mut stage = Stage::start(1000, false);
    let (end, mut figures, mut rounds) = (Instant::now() + time, Figures::default(), 0);
    while Instant::now() < end {
        let round = Instant::now();
        while Instant::now() < end && round.elapsed() < ROUND {
            stage.go_on(100);
        }
        figures.add(stage.settle());
        rounds += 1;
    }
    told(rounds, "rounds", figures, &stage);
    stage.assert_agreed();
    let slope = stage.memory().slope() / f64::from(1 << 20);
    if time >= ROUND {
        let kib = slope * 1024.0;
        println!(
            "resident memory grows by {kib:.0} KiB an hour, as a straight line over the last two thirds of {time:?}"
        );
    }
    assert_eq!((figures.repeated, figures.parked, figures.declared), (0, 0, 0), "{}", stage.log());
    assert!(time < TELLING || slope < 1.0, "resident memory grows by {slope:.2} MiB an hour");
}
