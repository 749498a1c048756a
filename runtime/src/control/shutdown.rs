//! The end of the runtime: instances are stopped in reverse start order, group by group, within the longest stop grace.

use std::time::{Duration, Instant};

use super::Control;
use super::instances::Entry;
use crate::clock;
use crate::instance::state::{By, Input, Settings};
use crate::queue::{Source, losses};

/// Time for bringing what waits in memory to the disk.
const KEEPING: Duration = Duration::from_secs(5);

/// A shutdown under way.
pub(super) struct Shutdown {
    /// Start orders whose instances were not asked yet, the last to be asked first.
    left: Vec<u32>,
    asked: Option<u32>,
    /// Everything has ended, or is given up: the longest stop grace of all.
    until: Instant,
    /// When the next group is asked, whoever of this one is still there.
    patience_until: Instant,
}

impl Control {
    pub(super) fn begin_shutdown(&mut self) {
        if self.shutdown.is_some() {
            return;
        }
        tracing::info!("stopping");
        let mut left: Vec<u32> = self.instances.values().map(|entry| entry.spec.startup_order).collect();
        left.sort_unstable();
        left.dedup();
        let grace = self.instances.values().map(|entry| entry.spec.options.stop_grace).max().unwrap_or_default();
        let now = clock::now();
        self.shutdown = Some(Shutdown { left, asked: None, until: now + grace, patience_until: now });
    }

    /// When a shutdown goes on whatever happens.
    pub(super) fn shutdown_deadline(&self) -> Option<Instant> {
        let shutdown = self.shutdown.as_ref()?;
        (!shutdown.left.is_empty()).then_some(shutdown.patience_until)
    }

    /// Goes on with a shutdown; true when everything has ended.
    ///
    /// One that does not stop holds up those that started before it, but only for a share of the time: all are asked, and the
    /// whole takes no longer than the longest stop grace.
    pub(super) fn advance_shutdown(&mut self, now: Instant) -> bool {
        loop {
            let Some(shutdown) = &mut self.shutdown else { return false };
            let is_there = |entry: &Entry| {
                shutdown.asked.is_some_and(|asked| asked <= entry.spec.startup_order)
                    && entry.life.live_worker().is_some()
            };
            let is_waited_for = self.instances.values().any(is_there);
            if is_waited_for && (shutdown.left.is_empty() || now < shutdown.patience_until) {
                return false;
            }
            let Some(next) = shutdown.left.pop() else { return true };
            shutdown.asked = Some(next);
            let time_left = shutdown.until.saturating_duration_since(now);
            shutdown.patience_until = now + time_left / (shutdown.left.len() as u32 + 2);
            let of_group = self.instances.values().filter(|entry| entry.spec.startup_order == next);
            let group: Vec<(String, Settings)> = of_group
                .map(|entry| {
                    let stop_grace = entry.life.settings.stop_grace.min(time_left);
                    (entry.spec.name.clone(), Settings { stop_grace, ..entry.life.settings })
                })
                .collect();
            for (name, settings) in group {
                self.apply(&name, Input::Configured(settings));
                self.apply(&name, Input::StopRequested { by: By::Runtime });
            }
        }
    }

    /// What memory still holds goes with it: counted, while that can still be stored.
    pub(super) fn settle_accounts(&self) {
        let (ingest, disk) = (&self.services.ingest, &self.services.disk);
        self.identities.settle_presence(clock::wall_us());
        disk.retry();
        disk.clock().close(&self.database);
        self.report_own_end();
        if let Err(error) = self.database.flush() {
            tracing::error!("the databases did not take the last changes: {error}");
        }
        for row in disk.take_unstored() {
            let source = Source { identity: row.sender, output: row.output, epoch: row.epoch };
            ingest.losses().count(&source, &row.endpoint, losses::NOT_STORED, row.sequence);
        }
        ingest.keep_waiting(clock::now() + KEEPING);
        self.keep_losses();
        // Of that it is told once it is stored; what cannot be told now is told after the next start.
        let _ = self.database.flush();
        self.own.tell_losses();
        self.own.give_up();
        ingest.keep_waiting(clock::now() + KEEPING);
        self.keep_losses();
        // Once for what was said, and once for what is noted as told by that.
        let _ = self.database.flush();
        let _ = self.database.flush();
        if ingest.losses().is_any_fresh() {
            // An output whose losses are nowhere is not closed: the next start says which of its messages may be missing.
            tracing::error!("what was lost could not be stored; the next start counts all that was in memory as lost");
            return;
        }
        ingest.close_sequences();
    }

    /// Names of instances whose thread did not return.
    pub(super) fn abandoned(&self) -> Vec<String> {
        let abandoned = self.instances.values().filter(|e| e.life.is_abandoned()).map(|e| e.spec.name.clone());
        abandoned.chain(self.left_behind.iter().cloned()).collect()
    }
}
