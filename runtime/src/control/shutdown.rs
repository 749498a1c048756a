//! The end of the runtime: instances are stopped in reverse start order, group by group, each with its deadline.

use std::time::Instant;

use super::Control;
use crate::instance::state::{By, Input};
use crate::queue::Source;

/// A shutdown under way.
pub(super) struct Shutdown {
    /// Start orders whose instances were not asked yet, the last to be asked first.
    left: Vec<u32>,
    asked: Option<u32>,
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
        self.shutdown = Some(Shutdown { left, asked: None });
    }

    /// Goes on with a shutdown; true when everything has ended.
    pub(super) fn advance_shutdown(&mut self, _now: Instant) -> bool {
        loop {
            let Some(shutdown) = &mut self.shutdown else { return false };
            if let Some(asked) = shutdown.asked {
                let is_there = |entry: &&super::instances::Entry| {
                    entry.spec.startup_order == asked && entry.life.live_worker().is_some()
                };
                if self.instances.values().any(|entry| is_there(&entry)) {
                    return false;
                }
            }
            let Some(next) = shutdown.left.pop() else { return true };
            shutdown.asked = Some(next);
            let names: Vec<String> = self
                .instances
                .values()
                .filter(|entry| entry.spec.startup_order == next)
                .map(|entry| entry.spec.name.clone())
                .collect();
            for name in names {
                self.apply(&name, Input::StopRequested { by: By::Runtime });
            }
        }
    }

    /// What memory still holds goes with it: counted, while that can still be stored.
    pub(super) fn settle_accounts(&self) {
        let (ingest, disk) = (&self.services.ingest, &self.services.disk);
        disk.retry();
        if let Err(error) = self.database.flush() {
            tracing::error!("the databases did not take the last changes: {error}");
        }
        for row in disk.take_unstored() {
            let source = Source { identity: row.sender, output: row.output, epoch: row.epoch };
            ingest.losses().count(&source, &row.endpoint, "notStored", row.sequence);
        }
        ingest.count_waiting_as_lost("stopped");
        self.keep_losses();
    }

    /// Names of instances whose thread did not return.
    pub(super) fn abandoned(&self) -> Vec<String> {
        self.instances.values().filter(|e| e.life.is_abandoned()).map(|e| e.spec.name.clone()).collect()
    }
}
