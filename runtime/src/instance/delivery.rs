//! Deliveries: a message in a handler's hands. What is sent or reported under it is staged, and a deferred one lives on as a
//! copy until it is completed.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use dinrail_plugin::abi::DrMessage;

use super::link::Stage;
use super::lock;
use crate::queue::ingest::DiskMessage;
use crate::queue::kept::Kept;

/// Most deliveries of one instance that may be deferred at a time; beyond it, messages wait.
pub const MAX_DEFERRED: usize = 1024;

/// Most bytes that may be staged under one delivery.
const MAX_STAGED_BYTES: usize = 16 << 20;
/// What anything that is staged counts besides its contents.
const STAGED_BYTES: usize = 128;

/// Why something is not staged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotStaged {
    /// The delivery has ended.
    Ended,
    /// `MAX_STAGED_BYTES` are staged.
    Full,
}

/// The deliveries of one instance.
#[derive(Default)]
pub struct Deliveries {
    current: AtomicU64,
    message: AtomicPtr<DrMessage>,
    has_stage: AtomicBool,
    has_ending: AtomicBool,
    has_kept: AtomicBool,
    deferred: AtomicUsize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    stages: HashMap<u64, Stage>,
    deferred: HashMap<u64, Kept>,
    /// Deliveries whose end was given and not carried out yet.
    ending: HashSet<u64>,
}

impl Deliveries {
    /// Opens a delivery for the time of its handler. `[worker]`
    pub fn begin(&self, delivery: u64, message: *const DrMessage) {
        self.message.store(message.cast_mut(), Ordering::Relaxed);
        self.current.store(delivery, Ordering::Release);
    }

    /// Ends the handler's time; its message can no longer be kept. `[worker]`
    pub fn end(&self) {
        self.current.store(0, Ordering::Release);
        self.message.store(std::ptr::null_mut(), Ordering::Relaxed);
    }

    /// True while something can be staged under `delivery`.
    #[inline]
    pub fn is_open(&self, delivery: u64) -> bool {
        let is_current = delivery != 0 && self.current.load(Ordering::Acquire) == delivery;
        is_current && !self.has_ending.load(Ordering::Relaxed) || self.may_stage(&lock(&self.open), delivery)
    }

    fn may_stage(&self, open: &Open, delivery: u64) -> bool {
        let is_current = delivery != 0 && self.current.load(Ordering::Acquire) == delivery;
        (is_current || open.deferred.contains_key(&delivery)) && !open.ending.contains(&delivery)
    }

    /// Notes that the end of a delivery was given; false where it has ended already. The handler may still be under way.
    pub fn begin_end(&self, delivery: u64) -> bool {
        let mut open = lock(&self.open);
        let is_open = self.may_stage(&open, delivery);
        if is_open {
            open.ending.insert(delivery);
            self.has_ending.store(true, Ordering::Relaxed);
        }
        is_open
    }

    /// The message in the handler's hands. Only meaningful on the worker's own thread.
    pub fn current_message(&self, delivery: u64) -> Option<*const DrMessage> {
        let message = self.message.load(Ordering::Relaxed);
        (self.current.load(Ordering::Acquire) == delivery && !message.is_null()).then_some(message.cast_const())
    }

    /// A further life for a deferred message.
    pub fn keep_deferred(&self, delivery: u64) -> Option<*const DrMessage> {
        lock(&self.open).deferred.get(&delivery).map(Kept::share)
    }

    /// Adds to what is staged under `delivery`: something that holds `bytes`.
    pub fn stage(&self, delivery: u64, bytes: usize, add: impl FnOnce(&mut Stage)) -> Result<(), NotStaged> {
        let mut open = lock(&self.open);
        if !self.may_stage(&open, delivery) {
            return Err(NotStaged::Ended);
        }
        let stage = open.stages.entry(delivery).or_default();
        stage.bytes += bytes + STAGED_BYTES;
        if stage.bytes > MAX_STAGED_BYTES {
            stage.bytes -= bytes + STAGED_BYTES;
            return Err(NotStaged::Full);
        }
        add(stage);
        self.has_stage.store(true, Ordering::Release);
        Ok(())
    }

    /// Takes what was staged under `delivery`, and the messages that other threads staged under one that was ending just then:
    /// they end with it.
    pub fn take_stage(&self, delivery: u64) -> Option<(Option<Stage>, Vec<DiskMessage>)> {
        if !self.has_stage.load(Ordering::Acquire) {
            return None;
        }
        let mut open = lock(&self.open);
        let stage = open.stages.remove(&delivery);
        let Open { stages, deferred, .. } = &mut *open;
        let late = stages.extract_if(|delivery, _| !deferred.contains_key(delivery));
        let late = late.flat_map(|(_, stage)| stage.messages).collect();
        self.has_stage.store(!open.stages.is_empty(), Ordering::Release);
        Some((stage, late))
    }

    /// Whether messages were ever kept by this worker outside of their lanes.
    pub fn has_kept(&self) -> bool {
        self.has_kept.load(Ordering::Acquire)
    }

    /// A message is outside of its lane from now on. `[worker]`
    pub fn keeps(&self) {
        self.has_kept.store(true, Ordering::Release);
    }

    /// Keeps a message until its delivery is completed.
    pub fn defer(&self, delivery: u64, message: Kept) {
        self.keeps();
        let mut open = lock(&self.open);
        open.deferred.insert(delivery, message);
        self.deferred.store(open.deferred.len(), Ordering::Relaxed);
    }

    /// True when one more message may be delivered: not too many are deferred.
    #[inline]
    pub fn may_deliver(&self) -> bool {
        self.deferred.load(Ordering::Relaxed) < MAX_DEFERRED
    }

    /// Ends a deferred delivery.
    pub fn take_deferred(&self, delivery: u64) -> Option<Kept> {
        let mut open = lock(&self.open);
        open.ending.remove(&delivery);
        self.has_ending.store(!open.ending.is_empty(), Ordering::Relaxed);
        let kept = open.deferred.remove(&delivery);
        self.deferred.store(open.deferred.len(), Ordering::Relaxed);
        kept
    }

    /// Everything that is still deferred, in the order of delivery, and what was staged and goes no further: at the end of a worker.
    pub fn take_all_deferred(&self) -> (Vec<Kept>, Vec<DiskMessage>) {
        let mut open = lock(&self.open);
        let staged = open.stages.drain().flat_map(|(_, stage)| stage.messages).collect();
        open.ending.clear();
        self.has_ending.store(false, Ordering::Relaxed);
        self.deferred.store(0, Ordering::Relaxed);
        let mut all: Vec<_> = open.deferred.drain().collect();
        all.sort_by_key(|(delivery, _)| *delivery);
        (all.into_iter().map(|(_, kept)| kept).collect(), staged)
    }
}
