//! How far the messages of an output are settled: up to where nothing of them is in memory any more.
//!
//! Found out from outside, now and then: whoever sends and delivers does nothing for it. What is noted is on the safe side; it
//! only serves to make the range small that an end without a word leaves in the ledger.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::ingest::{Ingest, Output};
use super::lane::{Source, lock};
use super::{Lane, Queue};

/// An output at an earlier look.
#[derive(Default)]
pub(super) struct Mark {
    /// Its last number then.
    last: u64,
    /// Its lanes then, and how many messages were put into each until then.
    lanes: Vec<(Arc<Lane>, u64)>,
    /// Up to here it is settled.
    settled: u64,
}

/// Sender and output.
type Key = (Arc<str>, Arc<str>);
pub(super) type Marks = HashMap<Key, Mark>;

impl Ingest {
    /// Looks once more: outputs of which more is settled than at the look before, and up to where. `holds`: whether a module has
    /// messages in hand that are in no lane any more.
    ///
    /// Losses that were counted before this are to be on the disk when what this gives is.
    pub fn settled(&self, holds: &dyn Fn(&str) -> bool) -> Vec<(Arc<Source>, u64)> {
        let outputs = self.outputs_in_use();
        let mut marks = lock(&self.marks);
        let is_taken = |(lane, put): &(Arc<Lane>, u64)| lane.taken() >= *put;
        let is_done = |mark: &Mark| mark.last > mark.settled && mark.lanes.iter().all(is_taken);
        let done: Vec<bool> = outputs.iter().map(|(source, _)| marks.get(&key(source)).is_some_and(is_done)).collect();
        // Only now: who has taken something out of a lane and keeps it says so before.
        let (lanes, held) = self.lanes_by_source(holds);
        let mut settled = Vec::new();
        for ((source, last), is_done) in outputs.into_iter().zip(done) {
            let key = key(&source);
            let mark = marks.entry(key.clone()).or_default();
            if held.contains(&key) {
                // What is in hand may be older than all that is in lanes.
                mark.last = mark.settled;
                continue;
            }
            if is_done {
                mark.settled = mark.last;
                settled.push((source, mark.settled));
            }
            // Another look is only begun when the last one is over: else a busy lane would never be done.
            if mark.last == mark.settled && mark.settled < last {
                let of_source = lanes.get(&key).map(Vec::as_slice).unwrap_or_default();
                mark.last = last;
                // In this order: what is taken out meanwhile is counted twice rather than not at all.
                mark.lanes = of_source.iter().map(|lane| (lane.clone(), lane.waiting().0 + lane.taken())).collect();
            }
        }
        settled
    }

    /// Outputs that rest give most of their numbers back, see [`Sequence::rest`](super::sequences::Sequence::rest).
    pub fn rest(&self) {
        let rest = |output: &Arc<Output>| output.sending.try_lock()?.sequence.rest(&output.source);
        self.book.shrink(self.all_outputs().iter().filter_map(rest).collect());
    }

    /// Lanes of each source, and the sources of which messages may be in somebody's hands.
    fn lanes_by_source(&self, holds: &dyn Fn(&str) -> bool) -> (HashMap<Key, Vec<Arc<Lane>>>, HashSet<Key>) {
        let mut lanes: HashMap<_, Vec<Arc<Lane>>> = HashMap::new();
        let mut held = HashSet::new();
        let queues: Vec<Arc<Queue>> = lock(&self.queues).values().cloned().collect();
        for queue in queues {
            let module = queue.endpoint().split("/modules/").nth(1).and_then(|rest| rest.split('/').next());
            let is_held =
                queue.has_beside_lanes() || module.is_some_and(|module| holds(module) || self.has_returned(module));
            for lane in queue.lanes() {
                let key = key(lane.source());
                if is_held {
                    held.insert(key.clone());
                }
                lanes.entry(key).or_default().push(lane);
            }
        }
        (lanes, held)
    }
}

fn key(source: &Source) -> Key {
    (source.identity.clone(), source.output.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Identity;
    use crate::queue::ingest::{Outgoing, OutgoingBody};
    use crate::queue::sequences::Book;
    use crate::queue::{LaneLimits, take_message};

    #[test]
    fn messages_are_settled_once_nothing_of_them_is_in_memory_and_not_before() {
        let ingest = Arc::new(Ingest::new("d", Book::unkept(1), LaneLimits { messages: 10, bytes: 1 << 20 }));
        let device = Identity::device("d").unwrap();
        let send = || {
            let message = Outgoing { meta_len: 0, fill: &|_| {}, body: OutgoingBody::Bytes(b"x") };
            ingest.send_to(&device, "m", "in", &message).unwrap();
        };
        let settled = |holds: bool| ingest.settled(&|_| holds).first().map(|(_, last)| *last);
        let mut place = ingest.inbox("m").consume().unwrap();
        let mut take = || {
            let lane = place.next_lane().unwrap();
            assert!(take_message(&lane, &mut place, |_, _| ()).is_some());
            place.give_back(lane);
        };
        (0..3).for_each(|_| send());
        assert_eq!((settled(false), settled(false)), (None, None));
        take();
        take();
        assert_eq!(settled(false), None, "one still waits");
        // A busy lane is settled up to where it was, whatever comes meanwhile.
        send();
        take();
        assert_eq!(settled(false), Some(3));
        take();
        assert_eq!((settled(true), settled(true)), (None, None), "somebody holds messages that are in no lane");
        assert_eq!(settled(false), None);
        assert_eq!(settled(false), Some(4));
        assert_eq!(settled(false), None, "said once");
    }
}
