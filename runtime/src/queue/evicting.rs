//! Messages that may give their place to newer ones: what waits for a route that drops the oldest, and what has a time to live and
//! would otherwise keep newer ones out after that is over.
//!
//! They wait behind a lock, where their sender can reach them too; what the consumer has in hand is in an ordinary lane, which it
//! fills from here, a message at a time. So what is dropped is the oldest that nobody has seen yet.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use dinrail_plugin::abi::DrBuffer;

use super::ingest::MAX_HOLD;
use super::lane::{self, Body, Entry, Lane, LaneLimits, MetaWriter, lock};
use crate::clock;

/// Shortest wait for a time to live to be over: the clock that it goes by moves in steps.
const STEP: Duration = Duration::from_millis(4);

/// What happens where nothing that is over leaves enough room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OnFull {
    /// The oldest leave.
    DropOldest,
    /// What comes is dropped.
    DropNewest,
    /// The sender waits.
    Hold,
}

/// See the module's documentation.
pub struct Evicting {
    limits: LaneLimits,
    on_full: OnFull,
    waiting: Mutex<Deque>,
    has_room: Condvar,
    messages: AtomicU64,
    bytes: AtomicU64,
}

#[derive(Default)]
struct Deque {
    messages: VecDeque<Waiting>,
    bytes: u64,
    /// A sender waits for room.
    is_held: bool,
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

impl Deque {
    /// How long it takes until the next one is over.
    fn until_next_expiry(&self) -> Duration {
        let next_ms = self.messages.iter().map(|message| message.expires_ms).min().unwrap_or(0);
        Duration::from_millis(next_ms.saturating_sub(clock::coarse_monotonic_ms()))
    }
}

impl Evicting {
    /// Nothing waits.
    pub(super) fn new(limits: LaneLimits, on_full: OnFull) -> Evicting {
        let (messages, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        Evicting { limits, on_full, waiting: Mutex::default(), has_room: Condvar::new(), messages, bytes }
    }

    /// What happens without room.
    pub(super) fn on_full(&self) -> OnFull {
        self.on_full
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

    /// Puts a message in; `left` hears the sequence of each one that leaves for it. `limit`: how long its sender may be held, which is
    /// asked again meanwhile. Gives how long it was; an error: in vain.
    pub(super) fn push(
        &self,
        entry: &Entry<'_>,
        body: Body<'_>,
        limit: impl Fn() -> Duration,
        mut left: impl FnMut(u64, Left),
    ) -> Result<Duration, Duration> {
        let mut meta = vec![0; entry.meta_len];
        (entry.fill)(&mut MetaWriter::new(&mut meta));
        let (inline, buffer) = match body {
            Body::Inline(bytes) => (bytes.into(), None),
            Body::Buffer(buffer) => (Box::default(), Some(buffer)),
        };
        let Entry { sequence, created_us, expires_ms, .. } = *entry;
        let message = Waiting { sequence, created_us, expires_ms, meta: meta.into(), inline, buffer };
        let mut since = None;
        let mut held = Duration::ZERO;
        let mut deque = lock(&self.waiting);
        while !self.make_room(&mut deque, message.weight(), &mut left) {
            self.publish(&deque);
            if self.on_full == OnFull::DropNewest {
                left(sequence, Left::DropNewest);
                return Ok(held);
            }
            let now = clock::now();
            held = now.saturating_duration_since(*since.get_or_insert(now));
            let left_of_limit = limit().saturating_sub(held);
            if left_of_limit.is_zero() {
                return Err(held);
            }
            let wait = deque.until_next_expiry().max(STEP).min(left_of_limit).min(MAX_HOLD);
            deque.is_held = true;
            deque = self.has_room.wait_timeout(deque, wait).unwrap_or_else(PoisonError::into_inner).0;
            deque.is_held = false;
        }
        deque.bytes += message.weight();
        deque.messages.push_back(message);
        self.publish(&deque);
        Ok(held)
    }

    /// Lets go what is over, and what else may go for a message of this weight. False: there is no room for it all the same.
    fn make_room(&self, deque: &mut Deque, weight: u64, left: &mut impl FnMut(u64, Left)) -> bool {
        let now_ms = clock::coarse_monotonic_ms();
        while let Some(oldest) = deque.messages.front() {
            let why = match oldest.expires_ms <= now_ms {
                true => Left::Expired,
                false if self.has_room(deque, weight) => return true,
                false if self.on_full == OnFull::DropOldest => Left::DropOldest,
                false => break,
            };
            left(oldest.sequence, why);
            deque.bytes -= oldest.weight();
            deque.messages.pop_front();
        }
        if self.on_full == OnFull::Hold {
            // Nobody is held by what is over, though it be behind others that live longer.
            let Deque { messages, bytes, .. } = deque;
            messages.retain(|message| {
                let stays = message.expires_ms > now_ms;
                if !stays {
                    left(message.sequence, Left::Expired);
                    *bytes -= message.weight();
                }
                stays
            });
        }
        // One message always fits, however large.
        deque.messages.is_empty() || self.has_room(deque, weight)
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
        if deque.is_held {
            self.has_room.notify_one();
        }
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
        let held = kept.push(&entry, body, || Duration::ZERO, |n, why| gone.push((n, why)));
        assert!(held.is_ok());
        gone
    }

    /// Whether it was in, and what went for it.
    fn hold(kept: &Evicting, n: u64, expires_ms: u64, limit: Duration) -> (bool, Vec<(u64, Left)>) {
        let mut gone = Vec::new();
        let entry = Entry { sequence: n, created_us: 0, expires_ms, row: None, meta_len: 0, fill: &|_| {} };
        let is_in = kept.push(&entry, Body::Inline(b"x"), || limit, |n, why| gone.push((n, why))).is_ok();
        (is_in, gone)
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
        let kept = Evicting::new(LIMITS, OnFull::DropOldest);
        (1..=3).for_each(|n| assert!(push(&kept, n, b"x", NEVER).is_empty()));
        assert_eq!(push(&kept, 4, b"x", NEVER), [(1, Left::DropOldest)]);
        assert_eq!(push(&kept, 5, &[0; 999], NEVER), [(2, Left::DropOldest), (3, Left::DropOldest)]);
        assert_eq!(kept.waiting(), (2, 1000));
        assert_eq!(drain(&kept), [4, 5]);
        assert_eq!(kept.waiting(), (0, 0));
    }

    #[test]
    fn what_has_expired_leaves_first_and_one_that_keeps_the_oldest_drops_the_newest() {
        let kept = Evicting::new(LIMITS, OnFull::DropNewest);
        push(&kept, 1, b"x", 0);
        assert_eq!(push(&kept, 2, b"x", NEVER), [(1, Left::Expired)]);
        push(&kept, 3, b"x", NEVER);
        push(&kept, 4, b"x", NEVER);
        assert_eq!(push(&kept, 5, b"x", NEVER), [(5, Left::DropNewest)]);
        assert_eq!(drain(&kept), [2, 3, 4]);
    }

    #[test]
    fn one_that_holds_its_sender_keeps_what_lives_and_lets_go_what_is_over_wherever_it_is() {
        let kept = Evicting::new(LIMITS, OnFull::Hold);
        for (n, expires_ms) in [(1, NEVER), (2, 0), (3, NEVER)] {
            assert_eq!(hold(&kept, n, expires_ms, Duration::ZERO), (true, vec![]));
        }
        assert_eq!(hold(&kept, 4, NEVER, Duration::ZERO), (true, vec![(2, Left::Expired)]));
        assert_eq!(hold(&kept, 5, NEVER, Duration::from_millis(1)), (false, vec![]));
        assert_eq!(kept.waiting(), (3, 3));
        assert_eq!(drain(&kept), [1, 3, 4]);
    }

    #[test]
    fn held_sender_goes_on_as_soon_as_the_oldest_is_over_or_taken() {
        const LONG: Duration = Duration::from_secs(3600);
        let kept = Evicting::new(LIMITS, OnFull::Hold);
        let soon = clock::coarse_monotonic_ms() + 20;
        (1..=3).for_each(|n| assert!(hold(&kept, n, soon, LONG).0));
        let gone: Vec<_> = (1..=3).map(|n| (n, Left::Expired)).collect();
        assert_eq!(hold(&kept, 4, NEVER, LONG), (true, gone));

        (5..=6).for_each(|n| assert!(hold(&kept, n, NEVER, LONG).0));
        std::thread::scope(|scope| {
            let held = scope.spawn(|| hold(&kept, 7, NEVER, LONG));
            while !lock(&kept.waiting).is_held {
                std::thread::yield_now();
            }
            assert_eq!(drain(&kept)[..3], [4, 5, 6]);
            assert_eq!(held.join().unwrap(), (true, vec![]));
        });
        // Before or after the sender was in: it is there once.
        assert!(kept.waiting().0 <= 1);
    }
}
