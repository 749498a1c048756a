//! What is counted of an instance since the runtime started: starts, ends, and how long it ran of the time that it should have.

use std::time::{Duration, Instant};

use super::Control;
use crate::instance::retrying::Counts;
use crate::instance::state::{Instance, State};
use crate::view::{InstanceFigures, RuntimeFigures};

/// The counters of one instance.
pub(super) struct Tally {
    pub starts: u64,
    pub clean_exits: u64,
    pub failed_exits: u64,
    /// Of its earlier workers.
    pub tries: Counts,
    running: Duration,
    expected: Duration,
    since: Instant,
}

impl Tally {
    pub fn new(now: Instant) -> Tally {
        let none = Duration::ZERO;
        let tries = Counts::default();
        Tally { starts: 0, clean_exits: 0, failed_exits: 0, tries, running: none, expected: none, since: now }
    }

    /// Its worker has ended.
    pub fn ended(&mut self, clean: bool) {
        let counter = if clean { &mut self.clean_exits } else { &mut self.failed_exits };
        *counter += 1;
    }

    /// To be called before `life` changes: the time until now was spent in it.
    pub fn pass(&mut self, life: &Instance, now: Instant) {
        (self.running, self.expected) = self.at(life, now);
        self.since = now;
    }

    /// How long it has run, and how long it should have, with the time in its present state.
    fn at(&self, life: &Instance, now: Instant) -> (Duration, Duration) {
        let here = now.saturating_duration_since(self.since);
        let is_expected = life.settings.wanted && life.hold.is_none();
        let is_running = is_expected && matches!(life.state, State::Running { .. });
        let add = |sum: Duration, does: bool| if does { sum + here } else { sum };
        (add(self.running, is_running), add(self.expected, is_expected))
    }
}

impl Control {
    /// Everything that only the loop knows, for metrics: cheap, so that nobody waits for whoever measures.
    pub(crate) fn figures(&self, now: Instant) -> RuntimeFigures {
        let instances = self.instances.iter().map(|(name, entry)| {
            let (running, expected) = entry.tally.at(&entry.life, now);
            let link = entry.link.as_ref().map(|(_, link)| link);
            let tries = entry.tally.tries + link.map(|link| link.retries.counts()).unwrap_or_default();
            InstanceFigures {
                name: name.clone(),
                status: entry.life.status(),
                digest: entry.life.digest.clone(),
                starts: entry.tally.starts,
                clean_exits: entry.tally.clean_exits,
                failed_exits: entry.tally.failed_exits,
                failures: entry.life.failures,
                last_start_us: entry.last_start_us,
                last_exit_us: entry.last_exit_us,
                exit_code: entry.exit_code,
                retries: tries.retries,
                faults: tries.faults,
                cpu_seconds: entry.cpu_before + link.map_or(0.0, |link| link.cpu_seconds()),
                running,
                expected,
            }
        });
        RuntimeFigures { uptime: now.saturating_duration_since(self.started), instances: instances.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::spec::RestartPolicy;
    use crate::instance::state::{Hold, RestartPacing, Settings};

    fn life(state: State, wanted: bool, is_held: bool) -> Instance {
        let settings = Settings {
            wanted,
            policy: RestartPolicy::Always,
            pacing: RestartPacing::default(),
            stop_grace: Duration::from_secs(1),
        };
        let mut life = Instance::new("w", settings, None, 0);
        life.hold = is_held.then(|| Hold { by: "meier".into(), at_us: 0 });
        life.state = state;
        life
    }

    #[test]
    fn time_counts_for_the_state_in_which_it_was_spent() {
        let start = Instant::now();
        let at = |secs: u64| start + Duration::from_secs(secs);
        let mut tally = Tally::new(start);
        let running = State::Running { since: start };
        // Three seconds until it is up, ten up, five down by a person's will, two failed.
        for (life, until) in [
            (life(State::Starting, true, false), 3),
            (life(running.clone(), true, false), 13),
            (life(State::Starting, true, true), 18),
            (life(State::Waiting { reason: String::new() }, true, false), 20),
            (life(running.clone(), false, false), 30),
        ] {
            tally.pass(&life, at(until));
        }
        assert_eq!((tally.running.as_secs(), tally.expected.as_secs()), (10, 15));
        let now = tally.at(&life(running, true, false), at(31));
        assert_eq!((now.0.as_secs(), now.1.as_secs()), (11, 16));
    }
}
