//! Arrivals: how what is on disk gets to the consumers of inputs, from the last run and as it is committed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::backlog::Backlog;
use super::disk::Disk;
use super::ingest::{DiskMessage, Ingest};
use super::lane::lock;
use super::{Queue, QueueLane, Stock};
use crate::database::StoreError;

impl Ingest {
    /// Says where what finds no room in memory goes, and takes up what waits there from the last run. Without it there is no
    /// spilling: a sender that finds no room is told.
    pub fn connect(self: &Arc<Self>, disk: &Disk) -> Result<(), StoreError> {
        for left in disk.left()? {
            let Some((module, input)) = self.input_of(&left.endpoint) else { continue };
            let queue = self.queue(module, input);
            let backlog = queue.backlog(left.priority);
            backlog.begin_behind(left.last);
            queue.announce_rows(&backlog);
            // Nobody has looked which of them have one.
            self.has_time_to_live.store(true, Ordering::Relaxed);
        }
        let ingest = Arc::downgrade(self);
        disk.on_counted(move |count| {
            let queue = ingest.upgrade().and_then(|ingest| lock(&ingest.queues).get(&*count.endpoint).cloned());
            queue.into_iter().for_each(|queue| queue.backlog(count.priority).counted(count.messages, count.bytes));
        });
        let ingest = Arc::downgrade(self);
        disk.on_arrival(move |rows, first| {
            if let Some(ingest) = ingest.upgrade() {
                ingest.arrived(rows, first);
            }
        });
        let ingest = Arc::downgrade(self);
        disk.on_expiry(move |endpoint, priority, row| {
            let queue = ingest.upgrade().and_then(|ingest| lock(&ingest.queues).get(endpoint).cloned());
            queue.is_some_and(|queue| queue.backlog(priority).is_in_hands(row))
        });
        let ingest = Arc::downgrade(self);
        disk.on_gone(move |rows| {
            if let Some(ingest) = ingest.upgrade() {
                for ((endpoint, priority), (count, bytes)) in rows {
                    let queue = lock(&ingest.queues).get(endpoint).cloned();
                    queue.into_iter().for_each(|queue| queue.backlog(*priority).removed(*count, *bytes));
                }
                ingest.losses().ledger_grew();
            }
        });
        // A second one would be a defect of ours, and the first goes on.
        let _ = self.disk.set(disk.clone());
        Ok(())
    }

    /// Where what finds no room in memory goes.
    pub(super) fn disk(&self) -> Option<&Disk> {
        self.disk.get()
    }

    /// Takes note of committed rows. `[writer]`
    fn arrived(&self, rows: &[DiskMessage], first: i64) {
        let mut last: Option<(Arc<Queue>, Arc<Backlog>)> = None;
        for (row, id) in rows.iter().zip(first..) {
            let is_of = |(queue, backlog): &&(Arc<Queue>, Arc<Backlog>)| {
                *queue.endpoint() == row.endpoint && backlog.priority() == row.priority
            };
            if last.as_ref().filter(is_of).is_none() {
                // Not held any more where one has to be made, which locks them too.
                let known = lock(&self.queues).get(&row.endpoint).cloned();
                let queue = match known {
                    Some(queue) => Some(queue),
                    None => self.input_of(&row.endpoint).map(|(module, input)| self.queue(module, input)),
                };
                if let Some((queue, backlog)) = last.take() {
                    queue.announce_rows(&backlog);
                }
                last = queue.map(|queue| (queue.clone(), queue.backlog(row.priority)));
            }
            if let Some((queue, backlog)) = &last {
                backlog.arrived(row, id, queue.is_live(&row.sender, &row.output, row.priority));
            }
        }
        if let Some((queue, backlog)) = last {
            queue.announce_rows(&backlog);
        }
    }

    /// Module and input of an endpoint of this device's modules.
    fn input_of<'e>(&self, endpoint: &'e str) -> Option<(&'e str, &'e str)> {
        let of_device = endpoint.strip_prefix("/devices/")?.strip_prefix(&*self.device)?;
        of_device.strip_prefix("/modules/")?.split_once("/inputs/")
    }

    /// Says for which inputs what is sent now goes before what waits on disk: `/modules/m/inputs/i`.
    pub fn set_live_first(&self, inputs: &[String]) {
        let full = |input: &String| format!("/devices/{}{input}", self.device).into();
        *lock(&self.live_first) = inputs.iter().map(full).collect();
        let queues: Vec<Arc<Queue>> = lock(&self.queues).values().cloned().collect();
        queues.iter().for_each(|queue| queue.set_live_first(self.is_live_first(queue.endpoint())));
    }

    pub(super) fn is_live_first(&self, endpoint: &str) -> bool {
        lock(&self.live_first).contains(endpoint)
    }

    /// Messages that wait, by module and input of this device.
    pub fn waiting_inputs(&self) -> BTreeMap<(String, String), u64> {
        let queues: Vec<Arc<Queue>> = lock(&self.queues).values().cloned().collect();
        let waiting = |queue: &Arc<Queue>| {
            let (module, input) = self.input_of(queue.endpoint())?;
            Some(((module.to_owned(), input.to_owned()), queue.waiting().0))
        };
        queues.iter().filter_map(waiting).filter(|(_, messages)| *messages > 0).collect()
    }

    /// Of the messages that wait for a module, those that are on disk.
    pub fn on_disk(&self, module: &str) -> u64 {
        let prefix = self.endpoints_of(module);
        let queues = lock(&self.queues);
        let of_module = queues.iter().filter(|(endpoint, _)| endpoint.starts_with(&prefix));
        of_module.map(|(_, queue)| queue.on_disk()).sum()
    }
}

impl Queue {
    /// Puts the lanes of a backlog on the ready list if they are not there, and wakes the consumer.
    fn announce_rows(self: &Arc<Self>, backlog: &Arc<Backlog>) {
        if backlog.lane().needs_schedule() {
            let (lane, stock) = (backlog.lane().clone(), Stock::Rows(backlog.clone()));
            let lane = QueueLane { lane, queue: self.clone(), priority: backlog.priority(), stock, before: None };
            self.inbox.make_ready(Arc::new(lane));
        }
        if let Some(lane) = backlog.live_lane().filter(|lane| lane.needs_schedule()) {
            let (lane, priority, stock) = (lane.clone(), backlog.priority(), Stock::Live);
            self.inbox.make_ready(Arc::new(QueueLane { lane, queue: self.clone(), priority, stock, before: None }));
        }
    }
}
