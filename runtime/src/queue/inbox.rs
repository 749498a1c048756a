//! An inbox: what one consumer waits for. It lists the lanes that hold messages, and a nudge says that something other than a
//! message needs attention.
//!
//! Strict priority: the ready lanes are listed by class, the best first, and a consumer looks for a better one after each message.
//! That, and whether there is a nudge, is one word: the look costs one relaxed load.
//!
//! The inbox outlives its consumers: an instance's next worker goes on where the last one stopped. There is one consumer at a
//! time, and a worker that never returns keeps that place for ever, so nobody else touches what it may still read.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering, fence};
use std::sync::{Arc, Mutex};
use std::thread::Thread;
use std::time::Instant;

use super::QueueLane;
use super::kept::Kept;
use super::lane::lock;

/// Classes of priority: 0 to 9, and behind them whatever has none.
pub const CLASSES: usize = 11;

/// The class of a priority.
pub fn class_of(priority: u32) -> u8 {
    priority.min(CLASSES as u32 - 1) as u8
}

/// In the word of signals, above a bit for each class that has a ready lane: there is a nudge.
const NUDGED: u32 = 1 << 31;
const READY: u32 = (1 << CLASSES) - 1;

/// Nobody is at the consumer's place.
const FREE: u8 = 0;
const TAKEN: u8 = 1;
/// Somebody takes out what has expired, and is gone in a moment.
const SWEPT: u8 = 2;

enum Waker {
    Nobody,
    Thread(Thread),
    Call(Box<dyn Fn() + Send + Sync>),
}

/// See the module's documentation.
pub struct Inbox {
    ready: Mutex<[VecDeque<Arc<QueueLane>>; CLASSES]>,
    /// Bits of classes change under the lock of `ready`.
    signals: AtomicU32,
    sleeping: AtomicBool,
    taken: AtomicU8,
    /// Written and read under the lock of `ready`.
    closed: AtomicBool,
    waker: Mutex<Waker>,
    returned: Mutex<VecDeque<Kept>>,
}

impl Default for Inbox {
    fn default() -> Inbox {
        Inbox {
            ready: Mutex::default(),
            signals: AtomicU32::new(0),
            sleeping: AtomicBool::new(false),
            taken: AtomicU8::new(FREE),
            closed: AtomicBool::new(false),
            waker: Mutex::new(Waker::Nobody),
            returned: Mutex::default(),
        }
    }
}

impl Inbox {
    /// Takes the consumer's place for the calling thread; `None` while another holds it.
    pub fn consume(self: &Arc<Self>) -> Option<Consumer> {
        self.take_place(Waker::Thread(std::thread::current()))
    }

    /// Takes the consumer's place for whoever `wake` wakes.
    pub fn consume_with(self: &Arc<Self>, wake: Box<dyn Fn() + Send + Sync>) -> Option<Consumer> {
        self.take_place(Waker::Call(wake))
    }

    fn take_place(self: &Arc<Self>, waker: Waker) -> Option<Consumer> {
        while let Err(now) = self.taken.compare_exchange(FREE, TAKEN, Ordering::AcqRel, Ordering::Acquire) {
            if now == TAKEN {
                return None;
            }
            std::thread::yield_now();
        }
        *lock(&self.waker) = waker;
        self.sleeping.store(false, Ordering::Release);
        Some(Consumer { inbox: self.clone() })
    }

    /// Takes the consumer's place for a moment, where it is free; whoever comes to consume waits for that moment.
    pub(super) fn sweep(self: &Arc<Self>) -> Option<Consumer> {
        self.taken.compare_exchange(FREE, SWEPT, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        Some(Consumer { inbox: self.clone() })
    }

    /// Says that there is something to look at besides messages. `[any thread, never blocks]`
    pub fn nudge(&self) {
        self.signals.fetch_or(NUDGED, Ordering::Release);
        self.wake();
    }

    /// Messages, and the bytes of their bodies, that were put back.
    pub fn returned(&self) -> (u64, u64) {
        let returned = lock(&self.returned);
        (returned.len() as u64, returned.iter().map(|kept| kept.message().body_len as u64).sum())
    }

    /// True while somebody consumes.
    pub(super) fn is_consumed(&self) -> bool {
        self.taken.load(Ordering::Relaxed) == TAKEN
    }

    pub(super) fn make_ready(&self, lane: Arc<QueueLane>) {
        self.enlist(lane);
        self.wake();
    }

    fn enlist(&self, lane: Arc<QueueLane>) {
        let class = usize::from(lane.class());
        let mut ready = lock(&self.ready);
        if self.closed.load(Ordering::Relaxed) {
            return;
        }
        ready[class].push_back(lane);
        self.signals.fetch_or(1 << class, Ordering::Release);
    }

    /// Nobody will consume this any more: lanes are no longer held, since each of them holds the inbox.
    pub(super) fn close(&self) {
        let held = {
            let mut ready = lock(&self.ready);
            self.closed.store(true, Ordering::Relaxed);
            self.signals.fetch_and(!READY, Ordering::Release);
            std::mem::take(&mut *ready)
        };
        drop(held);
    }

    fn wake(&self) {
        // Pairs with the fence in `sleep_until`.
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::AcqRel) {
            match &*lock(&self.waker) {
                Waker::Nobody => {}
                Waker::Thread(thread) => thread.unpark(),
                Waker::Call(call) => call(),
            }
        }
    }
}

/// The one consumer of an inbox, until it is dropped.
pub struct Consumer {
    inbox: Arc<Inbox>,
}

impl Consumer {
    /// The next lane that holds messages, of the best class. The caller gives it back with [`Consumer::give_back`] or
    /// unschedules it.
    pub fn next_lane(&mut self) -> Option<Arc<QueueLane>> {
        let classes = self.inbox.signals.load(Ordering::Acquire) & READY;
        if classes == 0 {
            return None;
        }
        let mut ready = lock(&self.inbox.ready);
        // Only the one consumer takes lanes off, so what was seen is still there.
        let class = classes.trailing_zeros() as usize;
        let lane = ready[class].pop_front();
        if ready[class].is_empty() {
            self.inbox.signals.fetch_and(!(1 << class), Ordering::Release);
        }
        lane
    }

    pub(super) fn is_of(&self, inbox: &Arc<Inbox>) -> bool {
        Arc::ptr_eq(&self.inbox, inbox)
    }

    /// True when another lane waits for its turn.
    pub fn has_ready(&self) -> bool {
        self.inbox.signals.load(Ordering::Acquire) & READY != 0
    }

    /// True when there is a nudge, or a lane whose class is better than this one's. Costs one relaxed load.
    #[inline]
    pub fn has_better(&self, class: u8) -> bool {
        self.inbox.signals.load(Ordering::Relaxed) & (NUDGED | ((1 << class) - 1)) != 0
    }

    /// Puts a lane, which still holds messages, at the end of the ready list.
    pub fn give_back(&mut self, lane: Arc<QueueLane>) {
        self.inbox.enlist(lane);
    }

    /// True when there was a nudge since the last call. Costs a load where there was none.
    pub fn take_nudge(&mut self) -> bool {
        let signals = &self.inbox.signals;
        signals.load(Ordering::Relaxed) & NUDGED != 0 && signals.fetch_and(!NUDGED, Ordering::AcqRel) & NUDGED != 0
    }

    /// Puts back messages that were taken out of their lanes and not decided about; they come before all others.
    pub fn put_back(&mut self, messages: impl IntoIterator<Item = Kept>) {
        lock(&self.inbox.returned).extend(messages);
    }

    /// The next message that was put back.
    pub fn take_returned(&mut self) -> Option<Kept> {
        lock(&self.inbox.returned).pop_front()
    }

    /// Announces that the consumer is about to sleep; false when there is something to do after all.
    pub fn prepare_sleep(&mut self) -> bool {
        self.prepare(true)
    }

    fn prepare(&mut self, heeds_messages: bool) -> bool {
        self.inbox.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let heeded = if heeds_messages { NUDGED | READY } else { NUDGED };
        let idle = self.inbox.signals.load(Ordering::Relaxed) & heeded == 0;
        if !idle {
            self.inbox.sleeping.store(false, Ordering::Relaxed);
        }
        idle
    }

    /// Sleeps until there is a message or a nudge, or until `deadline`. May wake early.
    pub fn sleep_until(&mut self, deadline: Option<Instant>) {
        self.sleep(deadline, true);
    }

    /// [`Consumer::sleep_until`] for a consumer that leaves all messages where they are.
    pub fn sleep_until_nudged(&mut self, deadline: Option<Instant>) {
        self.sleep(deadline, false);
    }

    fn sleep(&mut self, deadline: Option<Instant>, heeds_messages: bool) {
        if !self.prepare(heeds_messages) {
            return;
        }
        match deadline {
            None => std::thread::park(),
            Some(deadline) => std::thread::park_timeout(deadline.saturating_duration_since(crate::clock::now())),
        }
        self.inbox.sleeping.store(false, Ordering::Relaxed);
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        *lock(&self.inbox.waker) = Waker::Nobody;
        self.inbox.taken.store(FREE, Ordering::Release);
    }
}

#[cfg(test)]
mod tests;
