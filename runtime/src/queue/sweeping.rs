//! Sweeping: what has expired leaves the queues of a consumer that is away, so that nothing new waits behind it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::ingest::Ingest;
use super::lane::lock;
use super::losses::EXPIRED;
use super::{Consumer, Inbox};

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

    fn sweep_at(&self, mut place: Consumer) {
        let mut left = MAX_SWEPT;
        let lanes: Vec<_> = std::iter::from_fn(|| place.next_lane()).collect();
        for lane in lanes {
            // SAFETY: `place` is the one consumer's.
            let is_empty = unsafe {
                loop {
                    match lane.lane.peek() {
                        None if lane.lane.unschedule() => break true,
                        None => {}
                        Some(record) if left > 0 && record.has_expired() => {
                            self.losses.count(record.source, lane.queue.endpoint(), EXPIRED, record.sequence);
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
