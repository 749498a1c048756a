//! Messages that may give their place to newer ones: what waits for a route that drops the oldest.
//!
//! They wait behind a lock, where their sender can reach them too; what the consumer has in hand is in an ordinary lane, which it
//! fills from here, a message at a time. So what is dropped is the oldest that nobody has seen yet.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use dinrail_plugin::abi::DrBuffer;

use super::lane::{self, Body, Entry, Lane, LaneLimits, MetaWriter, lock};
use crate::clock;

/// See the module's documentation.
pub struct Evicting {
    limits: LaneLimits,
    /// Full: whatever comes is dropped, instead of the oldest.
    keeps_oldest: bool,
    waiting: Mutex<Deque>,
    messages: AtomicU64,
    bytes: AtomicU64,
}

#[derive(Default)]
struct Deque {
    messages: VecDeque<Waiting>,
    bytes: u64,
}

struct Waiting {
    sequence: u64,
    created_us: i64,
    expires_ms: u64,
    meta: Box<[u8]>,
    inline: Box<[u8]>,
    buffer: Option<DrBuffer>,
}

// SAFETY: a buffer may be used and released on any thread by contract; the rest is owned.
unsafe impl Send for Waiting {}

impl Waiting {
    fn weight(&self) -> u64 {
        let body = self.buffer.as_ref().map_or(self.inline.len(), |buffer| buffer.len);
        (body + self.meta.len()) as u64
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            lane::release(buffer);
        }
    }
}

/// Why a message left without having been delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Its time was over.
    Expired,
    /// It made room.
    DropOldest,
    /// There was no room for it.
    DropNewest,
}

impl Evicting {
    /// Nothing waits. `keeps_oldest`: without room, the newest is dropped.
    pub(super) fn new(limits: LaneLimits, keeps_oldest: bool) -> Evicting {
        let (messages, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        Evicting { limits, keeps_oldest, waiting: Mutex::default(), messages, bytes }
    }

    /// Without room, the newest is dropped.
    pub(super) fn keeps_oldest(&self) -> bool {
        self.keeps_oldest
    }

    /// Messages and bytes that wait.
    pub fn waiting(&self) -> (u64, u64) {
        (self.messages.load(Ordering::SeqCst), self.bytes.load(Ordering::Relaxed))
    }

    /// Messages that wait here or in the lane that is filled from here; none is between the two.
    pub(super) fn waiting_with(&self, lane: &Lane) -> (u64, u64) {
        let deque = lock(&self.waiting);
        let in_lane = lane.waiting();
        (in_lane.0 + deque.messages.len() as u64, in_lane.1 + deque.bytes)
    }

    /// The number of the oldest message.
    pub(super) fn first(&self) -> Option<u64> {
        lock(&self.waiting).messages.front().map(|message| message.sequence)
    }

    /// Puts a message in; `left` hears the sequence of each one that leaves for it.
    pub(super) fn push(&self, entry: &Entry<'_>, body: Body<'_>, mut left: impl FnMut(u64, Left)) {
        let mut meta = vec![0; entry.meta_len];
        (entry.fill)(&mut MetaWriter::new(&mut meta));
        let (inline, buffer) = match body {
            Body::Inline(bytes) => (bytes.into(), None),
            Body::Buffer(buffer) => (Box::default(), Some(buffer)),
        };
        let Entry { sequence, created_us, expires_ms, .. } = *entry;
        let message = Waiting { sequence, created_us, expires_ms, meta: meta.into(), inline, buffer };
        let now_ms = clock::coarse_monotonic_ms();
        let mut deque = lock(&self.waiting);
        while let Some(oldest) = deque.messages.front() {
            let why = match oldest.expires_ms <= now_ms {
                true => Left::Expired,
                false if self.has_room(&deque, message.weight()) => break,
                false if self.keeps_oldest => {
                    left(sequence, Left::DropNewest);
                    return self.publish(&deque);
                }
                false => Left::DropOldest,
            };
            left(oldest.sequence, why);
            deque.bytes -= oldest.weight();
            deque.messages.pop_front();
        }
        deque.bytes += message.weight();
        deque.messages.push_back(message);
        self.publish(&deque);
    }

    fn has_room(&self, deque: &Deque, weight: u64) -> bool {
        (deque.messages.len() as u64) < self.limits.messages && deque.bytes + weight <= self.limits.bytes
    }

    fn publish(&self, deque: &Deque) {
        self.messages.store(deque.messages.len() as u64, Ordering::SeqCst);
        self.bytes.store(deque.bytes, Ordering::Relaxed);
    }

    /// Moves the oldest message into the consumer's hands; false when there is none. `[consumer]`
    pub(super) fn refill(&self, lane: &Lane) -> bool {
        let mut deque = lock(&self.waiting);
        let Some(mut message) = deque.messages.pop_front() else { return false };
        deque.bytes -= message.weight();
        self.publish(&deque);
        let entry = Entry {
            sequence: message.sequence,
            created_us: message.created_us,
            expires_ms: message.expires_ms,
            row: None,
            meta_len: message.meta.len(),
            fill: &|out| out.put(&message.meta),
        };
        let body = match message.buffer {
            Some(buffer) => Body::Buffer(buffer),
            None => Body::Inline(&message.inline),
        };
        // SAFETY: only whoever holds the lock pushes into this lane. It is empty, and an empty lane takes any message.
        let is_in = unsafe { lane.push(&entry, body) }.is_ok();
        if is_in {
            // The lane has taken the reference over.
            message.buffer = None;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::queue::lane::{NEVER, Source};

    const LIMITS: LaneLimits = LaneLimits { messages: 3, bytes: 1000 };

    fn push(kept: &Evicting, n: u64, body: &[u8], expires_ms: u64) -> Vec<(u64, Left)> {
        let mut gone = Vec::new();
        let entry = Entry { sequence: n, created_us: 0, expires_ms, row: None, meta_len: 0, fill: &|_| {} };
        let body = if body.len() > lane::INLINE_BODY {
            Body::Buffer(lane::host_buffer(body.to_vec()))
        } else {
            Body::Inline(body)
        };
        kept.push(&entry, body, |n, why| gone.push((n, why)));
        gone
    }

    fn drain(kept: &Evicting) -> Vec<u64> {
        let source = Source { identity: "m".into(), output: "o".into(), epoch: 1 };
        let lane = Lane::new(Arc::new(source), LIMITS);
        let mut taken = Vec::new();
        while kept.refill(&lane) {
            // SAFETY: one thread plays both sides.
            unsafe {
                taken.push(lane.peek().unwrap().sequence);
                lane.advance();
            }
        }
        taken
    }

    #[test]
    fn the_oldest_that_nobody_has_makes_room_for_the_newest() {
        let kept = Evicting::new(LIMITS, false);
        (1..=3).for_each(|n| assert!(push(&kept, n, b"x", NEVER).is_empty()));
        assert_eq!(push(&kept, 4, b"x", NEVER), [(1, Left::DropOldest)]);
        assert_eq!(push(&kept, 5, &[0; 999], NEVER), [(2, Left::DropOldest), (3, Left::DropOldest)]);
        assert_eq!(kept.waiting(), (2, 1000));
        assert_eq!(drain(&kept), [4, 5]);
        assert_eq!(kept.waiting(), (0, 0));
    }

    #[test]
    fn what_has_expired_leaves_first_and_one_that_keeps_the_oldest_drops_the_newest() {
        let kept = Evicting::new(LIMITS, true);
        push(&kept, 1, b"x", 0);
        assert_eq!(push(&kept, 2, b"x", NEVER), [(1, Left::Expired)]);
        push(&kept, 3, b"x", NEVER);
        push(&kept, 4, b"x", NEVER);
        assert_eq!(push(&kept, 5, b"x", NEVER), [(5, Left::DropNewest)]);
        assert_eq!(drain(&kept), [2, 3, 4]);
    }
}
