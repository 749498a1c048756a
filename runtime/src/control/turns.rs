//! Turns: at a start of the runtime, instances come up group by group in their start order. The next group has its turn when
//! each of the former runs, has failed, stands still or waits for its image, or after half a minute: what hangs in its start
//! must not keep the others down.

use std::time::Instant;

use super::Control;
use super::instances::Entry;
use crate::deployment::rollout::PATIENCE;
use crate::instance::state::State;

/// The group that comes up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    order: u32,
    until: Instant,
}

impl Control {
    /// Whether an instance may look for its image and start.
    pub(super) fn has_turn(&self, entry: &Entry) -> bool {
        let is_ahead = self.deployment.as_ref().is_some_and(|deployment| deployment.ahead.contains(&entry.spec.name));
        !is_ahead && self.turn.is_none_or(|turn| entry.spec.startup_order <= turn.order)
    }

    pub(super) fn turn_deadline(&self) -> Option<Instant> {
        self.turn.map(|turn| turn.until)
    }

    /// Begins with the first group.
    pub(super) fn begin_turns(&mut self, now: Instant) {
        let first = self.instances.values().map(|entry| entry.spec.startup_order).min();
        self.turn = first.map(|order| Turn { order, until: now + PATIENCE });
        self.choose_images();
        self.advance_turns(now);
    }

    /// Goes on to the next group, once the one before it has come up.
    pub(super) fn advance_turns(&mut self, now: Instant) {
        while let Some(turn) = self.turn {
            let is_coming =
                |entry: &Entry| entry.spec.startup_order <= turn.order && matches!(entry.life.state, State::Starting);
            if now < turn.until && self.instances.values().any(is_coming) {
                return;
            }
            let later =
                self.instances.values().map(|entry| entry.spec.startup_order).filter(|order| *order > turn.order);
            self.turn = later.min().map(|order| Turn { order, until: now + PATIENCE });
            if self.turn.is_some() {
                self.choose_images();
            }
        }
    }
}
