//! The watchdog's rounds: which instances do not get on, and which do again.

use std::time::{Duration, Instant};

use super::Control;
use super::instances::Entry;
use crate::instance::state::{Input, State, WorkerEvent};
use crate::instance::watchdog::{self, Finding};

impl Control {
    /// Looks at every worker; says when to look again.
    pub(super) fn watch(&mut self, now: Instant) -> Instant {
        let default = self.config.instance.watchdog;
        let (mut found, mut shortest) = (Vec::new(), None::<Duration>);
        for entry in self.instances.values_mut() {
            let limit = entry.spec.options.watchdog.unwrap_or(default);
            let Some((worker, link)) = &entry.link else { continue };
            // One that is asked to stop has a deadline of its own.
            if matches!(entry.life.state, State::Stopping { .. }) {
                continue;
            }
            if !limit.is_zero() {
                shortest = Some(shortest.map_or(limit, |known| known.min(limit)));
            }
            let is_started =
                matches!(entry.life.state, State::Running { .. } | State::Unhealthy { running_since: Some(_), .. });
            let finding = watchdog::look(&mut entry.watch, link, is_started, limit, now);
            if finding != Finding::Nothing {
                found.push((entry.spec.name.clone(), *worker, finding));
            }
        }
        for (name, worker, finding) in found {
            let event = match finding {
                Finding::Nothing => continue,
                Finding::Unresponsive(_) => {
                    let reason = self.instances.get(&name).and_then(|entry| self.stuck_in(entry, now));
                    WorkerEvent::Unresponsive { reason: reason.unwrap_or_default() }
                }
                Finding::Responsive => WorkerEvent::Responsive,
            };
            self.apply(&name, Input::Worker(worker, event));
        }
        now + watchdog::look_again(shortest)
    }

    /// What an unresponsive instance does, and for how long by now.
    pub(super) fn stuck_in(&self, entry: &Entry, now: Instant) -> Option<String> {
        let image = entry.life.digest.as_ref().and_then(|digest| self.catalog.get(&digest.parse().ok()?));
        let inputs = image.map(|image| &image.descriptor.inputs[..]).unwrap_or_default();
        entry.watch.describe(&entry.link.as_ref()?.1, inputs, now)
    }
}
