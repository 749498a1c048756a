//! Sweeping: what has expired leaves the queues of a consumer that is away, so that nothing new waits behind it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::disk::{End, RowBehind, Settlement};
use super::ingest::{InLine, Ingest};
use super::lane::lock;
use super::losses;
use super::losses::EXPIRED;
use super::{Consumer, Inbox, QueueLane, Record, Restocked, Source};
use crate::database::tables::loss::LossRow;

/// Messages that one look takes out of an inbox: whoever wants to consume waits for it.
const MAX_SWEPT: usize = 10_000;

impl Ingest {
    /// Takes out what has expired at the heads of lanes that nobody consumes. To be called now and then.
    pub fn sweep(&self) {
        if !self.has_time_to_live.load(Ordering::Relaxed) {
            return;
        }
        let inboxes: Vec<Arc<Inbox>> = lock(&self.inboxes).values().cloned().collect();
        for inbox in inboxes {
            if let Some(place) = inbox.sweep() {
                self.sweep_at(place);
            }
        }
    }

    /// Counts a message that has expired, and has its row removed.
    fn expire(&self, lane: &QueueLane, record: &Record<'_>) {
        let endpoint = lane.queue.endpoint();
        let (Some(id), Some(disk), Some((identity, _))) = (record.row, self.disk(), endpoint.split_once("/inputs/"))
        else {
            return self.losses.count(record.source, endpoint, EXPIRED, record.sequence);
        };
        let bytes = (record.meta.len() + record.body.len()) as u64;
        let row = Some(RowBehind { id, endpoint: endpoint.clone(), bytes });
        let end = End::Expired(expired_of(lane, record));
        let settlement = Settlement { row, end, staged: Vec::new(), line: InLine::default(), before: None };
        disk.settling(&identity.into(), &lane.queue.inbox).settle(settlement);
    }

    fn sweep_at(&self, mut place: Consumer) {
        let mut left = MAX_SWEPT;
        let lanes: Vec<_> = std::iter::from_fn(|| place.next_lane()).collect();
        for lane in lanes {
            // SAFETY: `place` is the one consumer's.
            let is_empty = unsafe {
                loop {
                    match lane.lane.peek() {
                        // The control loop never waits for a disk: what is over there goes by another way, see `expiring`.
                        None => match lane.restock(None) {
                            Restocked::Filled => {}
                            Restocked::Empty if lane.unschedule() => break true,
                            Restocked::Empty | Restocked::Failed => break false,
                        },
                        Some(record) if left > 0 && record.has_expired() => {
                            self.expire(&lane, &record);
                            lane.lane.advance();
                            left -= 1;
                        }
                        Some(_) => break false,
                    }
                }
            };
            if !is_empty {
                place.give_back(lane);
            }
        }
    }
}

/// What the ledger has of a message that has expired.
pub(crate) fn expired_of(lane: &QueueLane, record: &Record<'_>) -> LossRow {
    let Source { identity, output, epoch } = record.source;
    losses::line(identity, output, lane.queue.endpoint(), losses::EXPIRED, (*epoch, record.sequence))
}
