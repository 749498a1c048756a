//! The end of what waits in memory: kept on disk when the runtime stops, or discarded by a person.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::disk::Disk;
use super::ingest::{DiskMessage, Ingest, endpoint};
use super::kept::Standing;
use super::lane::{Record, Source, lock};
use super::losses::STOPPED;
use super::{Consumer, QueueLane, Restocked};
use crate::clock;

impl Ingest {
    /// Brings what waits in memory only to the disk, before all that is there: the next run goes on with it in order. What is not
    /// stored by `until`, or is in the hands of a thread that never returned, is counted as lost. For the end of the runtime.
    pub fn keep_waiting(&self, until: Instant) {
        let modules: Vec<Arc<str>> = lock(&self.inboxes).keys().cloned().collect();
        for module in modules {
            let Some(inbox) = lock(&self.inboxes).get(&module).cloned() else { continue };
            let Some(mut place) = inbox.consume() else { continue };
            let Left { rows, behind } = self.take_all(&module, &mut place);
            if rows.is_empty() && behind.is_empty() {
                continue;
            }
            let stored = match self.disk().filter(|_| clock::now() < until) {
                Some(disk) => disk.keep(&rows, &behind).map_err(|error| error.to_string()),
                None => Err("there was no time left".to_owned()),
            };
            match stored {
                Ok(()) => tracing::info!(
                    "{} messages for {module} wait on disk until the next start",
                    rows.len() + behind.len()
                ),
                Err(error) => {
                    tracing::error!("{} messages for {module} cannot be kept: {error}", rows.len() + behind.len());
                    rows.iter().chain(&behind).for_each(|row| self.count_row(row, STOPPED));
                }
            }
        }
        // Nobody may look into what an abandoned thread still holds: how many there are is all that can be said.
        for queue in lock(&self.queues).values() {
            for (source, count) in queue.left() {
                self.losses.count_unseen(&source, queue.endpoint(), STOPPED, count);
            }
        }
    }

    /// Takes out what waits in memory for the inputs of a module and counts it as lost: how many that were. What is on disk too is
    /// left to whoever removes it there; what a thread that never returned still holds stays where it is.
    pub fn discard(&self, module: &str, reason: &'static str) -> u64 {
        let Some(inbox) = lock(&self.inboxes).get(module).cloned() else { return 0 };
        let Some(mut place) = inbox.consume() else { return 0 };
        let Left { rows, behind } = self.take_all(module, &mut place);
        rows.iter().chain(&behind).for_each(|row| self.count_row(row, reason));
        (rows.len() + behind.len()) as u64
    }

    /// Reads on where messages of a module were removed on disk, so that nobody takes them for waiting ones. What came since is found.
    pub fn look_again(&self, module: &str, disk: &Disk) {
        let Some(inbox) = lock(&self.inboxes).get(module).cloned() else { return };
        let Some(mut place) = inbox.consume() else { return };
        let lanes: Vec<_> = std::iter::from_fn(|| place.next_lane()).collect();
        for lane in lanes {
            // SAFETY: `place` is the one consumer's, for as long as this runs.
            let is_empty = unsafe {
                lane.lane.peek().is_none() && lane.restock(Some(disk)) == Restocked::Empty && lane.unschedule()
            };
            if !is_empty {
                place.give_back(lane);
            }
        }
    }

    fn count_row(&self, row: &DiskMessage, reason: &'static str) {
        let source = Source { identity: row.sender.clone(), output: row.output.clone(), epoch: row.epoch };
        self.losses.count(&source, &row.endpoint, reason, row.sequence);
    }

    /// Everything that is in memory only, first what was given to the module and came back. Messages of rows are taken out and not
    /// given.
    fn take_all(&self, module: &str, place: &mut Consumer) -> Left {
        let (mut rows, mut behind) = (Vec::new(), Vec::new());
        while let Some(kept) = place.take_returned() {
            if kept.row().is_none() {
                rows.push(kept.to_row(|input| endpoint(&self.device, module, input)));
            } else {
                self.queue(module, &kept.input()).backlog(kept.standing().priority).stay_behind();
            }
        }
        // SAFETY: `place` is the one consumer's, for as long as this runs.
        let with_rows = |lane: Arc<QueueLane>| (unsafe { lane.must_wait_for_rows() }, lane);
        let mut lanes: VecDeque<_> = std::iter::from_fn(|| place.next_lane()).map(with_rows).collect();
        while let Some((waits_for_rows, lane)) = lanes.pop_front() {
            // SAFETY: as above.
            let must_wait = |lane: &Arc<QueueLane>| unsafe { lane.must_wait() };
            if must_wait(&lane) && lanes.iter().any(|(_, other)| !must_wait(other)) {
                lanes.push_back((waits_for_rows, lane));
                continue;
            }
            // What is sent meanwhile waits for whoever comes next, so that no flood keeps this from its end.
            let mut left = lane.waiting();
            loop {
                // SAFETY: `place` is the one consumer's, for as long as this runs.
                unsafe {
                    if let Some(record) = lane.lane.peek() {
                        match record.row {
                            None if waits_for_rows => behind.push(row_of(&lane, &record)),
                            None => rows.push(row_of(&lane, &record)),
                            Some(_) => lane.queue.backlog(lane.priority).stay_behind(),
                        }
                        lane.lane.advance();
                        left = left.saturating_sub(1);
                        if left > 0 {
                            continue;
                        }
                    } else if lane.restock(None) == Restocked::Filled {
                        continue;
                    } else if lane.unschedule() {
                        break;
                    }
                }
                // There is more of it, in memory or on disk.
                place.give_back(lane);
                break;
            }
        }
        Left { rows, behind }
    }
}

/// What was in memory only.
struct Left {
    rows: Vec<DiskMessage>,
    /// What comes behind that which is on disk.
    behind: Vec<DiskMessage>,
}

fn row_of(lane: &QueueLane, record: &Record<'_>) -> DiskMessage {
    DiskMessage {
        endpoint: lane.queue.endpoint().clone(),
        priority: lane.priority,
        ttl_secs: Standing { priority: lane.priority, expires_ms: record.expires_ms }.ttl_secs(),
        sender: record.source.identity.clone(),
        output: record.source.output.clone(),
        epoch: record.source.epoch,
        sequence: record.sequence,
        created_us: record.created_us,
        meta: record.meta.to_vec(),
        body: record.body.to_vec(),
    }
}
