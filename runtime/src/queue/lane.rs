//! A lane: the messages of one sender's output for one endpoint, in order, in memory.
//!
//! One producer at a time (whoever holds the output's lock) and one consumer (whoever holds the inbox's [`super::Consumer`])
//! share rings of bytes. A message is one flat [`Record`] with a body of up to [`INLINE_BODY`] bytes; larger bodies stay in the
//! refcounted buffer they came in. The first ring is small and is allocated with the first message; a full one is followed by a
//! larger one, so an idle lane costs next to nothing.
//!
//! A record stays where it is until the consumer has decided about it: it is read in place, and what a worker did not finish
//! is there for the next one.
//!
//! ```text
//! producer ──► ring (1 KiB) ──next──► ring (4 KiB) ──next──► …          consumer frees a ring when it has moved on
//!              head ≤ records ≤ tail
//! ```

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering, fence};
use std::thread::Thread;

use dinrail_plugin::abi::DrBuffer;

use super::record::{self, Plan, SKIP};
pub use super::record::{Body, Entry, INLINE_BODY, MetaWriter, NEVER, Record, RowOf, Source};
use crate::memory;

/// Size of the first ring.
const FIRST_RING: usize = 1024;
/// Size of the largest ring: room for the default number of messages with inline bodies and a few properties.
const LARGEST_RING: usize = 1 << 20;

/// Bytes of a record with a full inline body, a few short properties among them.
const USUAL_RECORD: usize = 320;

/// Keeps what one side writes often off the cache line that the other reads.
#[repr(align(128))]
struct Apart<T>(T);

/// How much a lane may hold.
#[derive(Debug, Clone, Copy)]
pub struct LaneLimits {
    /// Messages.
    pub messages: u64,
    /// Bytes of bodies and encoded properties.
    pub bytes: u64,
}

struct Ring {
    tail: Apart<AtomicU64>,
    head: Apart<AtomicU64>,
    next: AtomicPtr<Ring>,
    data: Box<[UnsafeCell<u64>]>,
}

struct Producer {
    ring: *mut Ring,
    tail: u64,
    seen_head: u64,
    pushed: u64,
    seen_popped: u64,
    pushed_bytes: u64,
    seen_popped_bytes: u64,
}

struct Reader {
    ring: *mut Ring,
    head: u64,
    seen_tail: u64,
    popped: u64,
    popped_bytes: u64,
    attempts: u32,
    faults: u32,
}

/// See the module's documentation.
pub struct Lane {
    source: Arc<Source>,
    limits: LaneLimits,
    first: AtomicPtr<Ring>,
    producer: Apart<UnsafeCell<Producer>>,
    reader: Apart<UnsafeCell<Reader>>,
    pushed: Apart<AtomicU64>,
    pushed_bytes: AtomicU64,
    popped: Apart<AtomicU64>,
    popped_bytes: AtomicU64,
    scheduled: Apart<AtomicBool>,
    producer_waits: AtomicBool,
    waiting: std::sync::Mutex<Option<Thread>>,
}

// SAFETY: `producer` is touched only by methods that demand the output's lock, `reader` only by those that demand the inbox's
// one consumer; rings are handed from one to the other through release/acquire of `tail`, `head` and `next`. What a record
// owns (a buffer, boxed properties) may be released on any thread by contract.
unsafe impl Send for Lane {}
// SAFETY: as above.
unsafe impl Sync for Lane {}

impl Ring {
    fn new(bytes: usize) -> *mut Ring {
        let data = (0..bytes / 8).map(|_| UnsafeCell::new(0)).collect();
        Box::into_raw(Box::new(Ring {
            tail: Apart(AtomicU64::new(0)),
            head: Apart(AtomicU64::new(0)),
            next: AtomicPtr::new(ptr::null_mut()),
            data,
        }))
    }

    fn capacity(&self) -> u64 {
        self.data.len() as u64 * 8
    }

    fn at(&self, position: u64) -> *mut u8 {
        let word = (position & (self.capacity() - 1)) / 8;
        self.data[word as usize].get().cast()
    }
}

impl Lane {
    /// An empty lane.
    pub fn new(source: Arc<Source>, limits: LaneLimits) -> Lane {
        Lane {
            source,
            limits,
            first: AtomicPtr::new(ptr::null_mut()),
            producer: Apart(UnsafeCell::new(Producer {
                ring: ptr::null_mut(),
                tail: 0,
                seen_head: 0,
                pushed: 0,
                seen_popped: 0,
                pushed_bytes: 0,
                seen_popped_bytes: 0,
            })),
            reader: Apart(UnsafeCell::new(Reader {
                ring: ptr::null_mut(),
                head: 0,
                seen_tail: 0,
                popped: 0,
                popped_bytes: 0,
                attempts: 0,
                faults: 0,
            })),
            pushed: Apart(AtomicU64::new(0)),
            pushed_bytes: AtomicU64::new(0),
            popped: Apart(AtomicU64::new(0)),
            popped_bytes: AtomicU64::new(0),
            scheduled: Apart(AtomicBool::new(false)),
            producer_waits: AtomicBool::new(false),
            waiting: std::sync::Mutex::new(None),
        }
    }

    /// Whose messages these are.
    pub fn source(&self) -> &Arc<Source> {
        &self.source
    }

    /// Messages and bytes that wait, approximately while both sides are busy. `[any thread]`
    pub fn waiting(&self) -> (u64, u64) {
        let popped = (self.popped.0.load(Ordering::Acquire), self.popped_bytes.load(Ordering::Acquire));
        let pushed = (self.pushed.0.load(Ordering::Acquire), self.pushed_bytes.load(Ordering::Acquire));
        (pushed.0.saturating_sub(popped.0), pushed.1.saturating_sub(popped.1))
    }

    /// Messages that were taken out, by the receiver or by who discarded them. `[any thread]`
    pub fn taken(&self) -> u64 {
        self.popped.0.load(Ordering::Relaxed)
    }

    /// Appends a message; gives the body back when the lane is full.
    ///
    /// # Safety
    /// The caller holds the lock of the lane's output, or of its backlog: one producer at a time.
    pub unsafe fn push<'a>(&self, entry: &Entry<'_>, body: Body<'a>) -> Result<(), Body<'a>> {
        // SAFETY: the caller's promise.
        unsafe { self.append(entry, body) }
    }

    /// [`Lane::push`] of a body of up to [`INLINE_BODY`] bytes; false where there is no room.
    ///
    /// # Safety
    /// As [`Lane::push`].
    #[inline]
    pub unsafe fn push_inline(&self, entry: &Entry<'_>, body: &[u8]) -> bool {
        // SAFETY: the caller's promise.
        unsafe { self.append(entry, Body::Inline(body)) }.is_ok()
    }

    /// # Safety
    /// As [`Lane::push`].
    #[inline(always)]
    unsafe fn append<'a>(&self, entry: &Entry<'_>, body: Body<'a>) -> Result<(), Body<'a>> {
        // SAFETY: the caller's promise makes this the only reference to the producer's side.
        let side = unsafe { &mut *self.producer.0.get() };
        let plan = Plan::of(entry, &body);
        if !self.has_room(side, plan.weight) {
            return Err(body);
        }
        let Some(at) = self.reserve(side, plan.len as u64) else {
            return Err(body);
        };
        // SAFETY: `reserve` gave so many bytes of the ring, 8-aligned, that the reader does not look at before `tail` moves.
        unsafe { record::write(at, &plan, entry, &body) };
        side.tail += plan.len as u64;
        side.pushed += 1;
        side.pushed_bytes += plan.weight;
        self.pushed_bytes.store(side.pushed_bytes, Ordering::Relaxed);
        self.pushed.0.store(side.pushed, Ordering::Relaxed);
        // SAFETY: `reserve` made sure that the ring exists; only the producer moves on from it.
        let ring = unsafe { &*side.ring };
        ring.tail.0.store(side.tail, Ordering::Release);
        // The next one is of this size, most likely.
        memory::fetch_to_write(ring.at(side.tail), plan.len.min(USUAL_RECORD));
        Ok(())
    }

    /// True when the lane has to be put on the inbox's ready list, by the caller, now.
    pub fn needs_schedule(&self) -> bool {
        // Pairs with the fence in `unschedule`: either the consumer sees the new tail, or this sees the cleared flag.
        fence(Ordering::SeqCst);
        self.needs_schedule_after_fence()
    }

    /// [`Lane::needs_schedule`] for who has a fence behind its last push, of this and other lanes: it waits until what was pushed is
    /// written, and once for all of them is cheaper.
    #[inline]
    pub fn needs_schedule_after_fence(&self) -> bool {
        !self.scheduled.0.load(Ordering::Relaxed) && !self.scheduled.0.swap(true, Ordering::AcqRel)
    }

    /// Waits until the consumer has made room for a good part of the lane, or until `limit` has passed. `weight`: bytes of body
    /// and properties.
    ///
    /// # Safety
    /// As [`Lane::push`].
    pub unsafe fn wait_for_room(&self, weight: usize, limit: std::time::Duration) -> bool {
        let end = crate::clock::now() + limit;
        *lock(&self.waiting) = Some(std::thread::current());
        loop {
            self.producer_waits.store(true, Ordering::SeqCst);
            // SAFETY: the caller's promise.
            let side = unsafe { &mut *self.producer.0.get() };
            let now = crate::clock::now();
            let has_room = self.has_room(side, weight as u64) && self.has_ring_room(side);
            if has_room || now >= end {
                self.producer_waits.store(false, Ordering::Relaxed);
                return has_room;
            }
            // The short limit makes up for a wake-up that the consumer, which does not fence for it, may miss.
            std::thread::park_timeout((end - now).min(std::time::Duration::from_millis(1)));
        }
    }

    fn has_room(&self, side: &mut Producer, weight: u64) -> bool {
        if side.pushed - side.seen_popped >= self.limits.messages {
            side.seen_popped = self.popped.0.load(Ordering::Acquire);
            if side.pushed - side.seen_popped >= self.limits.messages {
                return false;
            }
        }
        // One message always fits, however large: admission has checked its own limit.
        if side.pushed_bytes - side.seen_popped_bytes + weight > self.limits.bytes && side.pushed > side.seen_popped {
            side.seen_popped = self.popped.0.load(Ordering::Acquire);
            side.seen_popped_bytes = self.popped_bytes.load(Ordering::Acquire);
            return side.pushed_bytes - side.seen_popped_bytes + weight <= self.limits.bytes
                || side.pushed == side.seen_popped;
        }
        true
    }

    fn has_ring_room(&self, side: &mut Producer) -> bool {
        if side.ring.is_null() {
            return true;
        }
        // SAFETY: the producer's current ring is freed by the consumer only after `next` was set.
        let ring = unsafe { &*side.ring };
        side.seen_head = ring.head.0.load(Ordering::Acquire);
        ring.capacity() < LARGEST_RING as u64 || side.tail - side.seen_head <= ring.capacity() / 2
    }

    /// Room for `len` bytes at the producer's tail, in this ring or in a new, larger one.
    fn reserve(&self, side: &mut Producer, len: u64) -> Option<*mut u8> {
        if side.ring.is_null() {
            side.ring = Ring::new(FIRST_RING.max((2 * len as usize).next_power_of_two()));
            self.first.store(side.ring, Ordering::Release);
        }
        loop {
            // SAFETY: the producer's current ring is freed by the consumer only after `next` was set, which is done below.
            let ring = unsafe { &*side.ring };
            let to_end = ring.capacity() - (side.tail & (ring.capacity() - 1));
            let needed = if len > to_end { to_end + len } else { len };
            if side.tail + needed - side.seen_head > ring.capacity() {
                side.seen_head = ring.head.0.load(Ordering::Acquire);
            }
            if side.tail + needed - side.seen_head <= ring.capacity() {
                if len > to_end {
                    // SAFETY: `to_end` bytes are free and 8-aligned; the reader looks at the first 8 only, and only after
                    // `tail` has moved past the record that follows.
                    unsafe { ring.at(side.tail).cast::<[u32; 2]>().write([to_end as u32, SKIP]) };
                    side.tail += to_end;
                }
                return Some(ring.at(side.tail));
            }
            if ring.capacity() >= LARGEST_RING as u64 {
                return None;
            }
            let larger = Ring::new((ring.capacity() as usize * 4).max((2 * len as usize).next_power_of_two()));
            ring.next.store(larger, Ordering::Release);
            (side.ring, side.tail, side.seen_head) = (larger, 0, 0);
        }
    }

    /// The oldest message, if there is one.
    ///
    /// # Safety
    /// The caller is the inbox's one consumer; the record is not used after [`Lane::advance`].
    #[inline(always)]
    pub unsafe fn peek(&self) -> Option<Record<'_>> {
        // SAFETY: the caller's promise makes this the only reference to the reader's side.
        let side = unsafe { &mut *self.reader.0.get() };
        let at = self.seek(side)?;
        // SAFETY: `seek` gives a complete record that was published by `tail`.
        let (record, len) = unsafe { (record::read(at, &self.source), record::len(at)) };
        if side.head + len < side.seen_tail {
            // The one behind it comes from the sender's processor while this one is handled.
            memory::fetch(at.wrapping_add(len as usize), USUAL_RECORD);
        }
        Some(record)
    }

    /// Removes the oldest message and releases what it owns.
    ///
    /// # Safety
    /// As [`Lane::peek`], which has just returned a record.
    #[inline]
    pub unsafe fn advance(&self) {
        // SAFETY: as in `peek`.
        let side = unsafe { &mut *self.reader.0.get() };
        if side.head == side.seen_tail {
            return;
        }
        // SAFETY: there is a record at the reader's head, so there is the ring: `peek` has just been there, past what is skipped.
        let at = unsafe { (*side.ring).at(side.head) };
        // SAFETY: a complete record; it is released once, here, and not read again.
        let (len, weight) = unsafe { record::release(at) };
        side.head += len;
        side.popped += 1;
        side.popped_bytes += weight;
        (side.attempts, side.faults) = (0, 0);
        // SAFETY: the reader's ring lives until the reader itself moves on.
        unsafe { (*side.ring).head.0.store(side.head, Ordering::Release) };
        self.popped_bytes.store(side.popped_bytes, Ordering::Release);
        self.popped.0.store(side.popped, Ordering::Release);
        if self.producer_waits.load(Ordering::Relaxed) {
            self.wake_producer(side);
        }
    }

    #[cold]
    fn wake_producer(&self, side: &Reader) {
        // Waking it for every single free place would make the two take turns; half a lane lets both work.
        let left = self.pushed.0.load(Ordering::Relaxed).saturating_sub(side.popped);
        if left <= self.limits.messages / 2
            && self.producer_waits.swap(false, Ordering::SeqCst)
            && let Some(thread) = &*lock(&self.waiting)
        {
            thread.unpark();
        }
    }

    /// Counts a delivery of the oldest message and says which one it is: 1 at the first.
    ///
    /// # Safety
    /// As [`Lane::peek`].
    pub unsafe fn begin_attempt(&self) -> u32 {
        // SAFETY: as in `peek`.
        let side = unsafe { &mut *self.reader.0.get() };
        side.attempts = side.attempts.saturating_add(1);
        side.attempts
    }

    /// How often the handling of the oldest message failed, which is less than it was delivered where it was retried.
    ///
    /// # Safety
    /// As [`Lane::peek`].
    pub unsafe fn faults(&self) -> u32 {
        // SAFETY: as in `peek`.
        unsafe { (*self.reader.0.get()).faults }
    }

    /// Sets [`Lane::faults`], until the message is removed.
    ///
    /// # Safety
    /// As [`Lane::peek`].
    pub unsafe fn set_faults(&self, faults: u32) {
        // SAFETY: as in `peek`.
        unsafe { (*self.reader.0.get()).faults = faults };
    }

    /// Takes the lane off the ready list, unless a message arrived meanwhile, here or where `has_more` looks: then it stays, and
    /// this says false.
    ///
    /// # Safety
    /// As [`Lane::peek`].
    pub unsafe fn unschedule(&self, has_more: impl FnOnce() -> bool) -> bool {
        self.scheduled.0.store(false, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        // SAFETY: the caller's promise.
        let is_empty = unsafe { self.peek() }.is_none() && !has_more();
        is_empty || self.scheduled.0.swap(true, Ordering::AcqRel)
    }

    #[inline(always)]
    fn seek(&self, side: &mut Reader) -> Option<*mut u8> {
        if side.head != side.seen_tail {
            // SAFETY: there is something in the ring, so there is the ring; between head and tail there are complete records, and a
            // skip shows in its first 8 bytes.
            let at = unsafe { (*side.ring).at(side.head) };
            // SAFETY: as above.
            let [_, flags] = unsafe { at.cast::<[u32; 2]>().read() };
            if flags & SKIP == 0 {
                return Some(at);
            }
        }
        self.seek_on(side)
    }

    /// Past what is skipped, to what has come since the last look, to the next ring.
    #[inline(never)]
    fn seek_on(&self, side: &mut Reader) -> Option<*mut u8> {
        loop {
            if side.ring.is_null() {
                side.ring = self.first.load(Ordering::Acquire);
                if side.ring.is_null() {
                    return None;
                }
            }
            // SAFETY: the reader's ring is freed only below, by itself.
            let ring = unsafe { &*side.ring };
            if side.head == side.seen_tail {
                side.seen_tail = ring.tail.0.load(Ordering::Acquire);
            }
            if side.head == side.seen_tail {
                let next = ring.next.load(Ordering::Acquire);
                if next.is_null() {
                    return None;
                }
                // The producer has left this ring; what it published before is visible now.
                side.seen_tail = ring.tail.0.load(Ordering::Acquire);
                if side.head == side.seen_tail {
                    // SAFETY: made by `Ring::new`; the producer does not come back to it, nobody else knows it.
                    drop(unsafe { Box::from_raw(side.ring) });
                    self.first.store(next, Ordering::Relaxed);
                    (side.ring, side.head, side.seen_tail) = (next, 0, 0);
                }
                continue;
            }
            let at = ring.at(side.head);
            // SAFETY: between head and tail there are complete records; a skip shows in its first 8 bytes.
            let [len, flags] = unsafe { at.cast::<[u32; 2]>().read() };
            if flags & SKIP != 0 {
                side.head += u64::from(len);
                continue;
            }
            return Some(at);
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        // SAFETY: nobody else has the lane any more; records are released in order, then the last ring.
        unsafe {
            while self.peek().is_some() {
                self.advance();
            }
            let last = (*self.reader.0.get()).ring;
            if !last.is_null() {
                drop(Box::from_raw(last));
            }
        }
    }
}

/// Wraps bytes of this side as a buffer with one reference; they are shared, not copied.
pub fn host_buffer<T: AsRef<[u8]> + Send + Sync + 'static>(bytes: T) -> DrBuffer {
    unsafe extern "C" fn retain<T>(owner: *mut c_void) {
        // SAFETY: `owner` is the `Arc` below, of which the caller holds a reference.
        unsafe { Arc::increment_strong_count(owner.cast::<T>()) }
    }
    unsafe extern "C" fn release<T>(owner: *mut c_void) {
        // SAFETY: as above; the caller gives its reference up.
        unsafe { Arc::decrement_strong_count(owner.cast::<T>()) }
    }
    let shared = Arc::new(bytes);
    let view = (*shared).as_ref();
    let (ptr, len) = (view.as_ptr(), view.len());
    DrBuffer { ptr, len, owner: Arc::into_raw(shared).cast_mut().cast(), retain: retain::<T>, release: release::<T> }
}

/// Adds a reference to a buffer and gives it.
pub fn retained(buffer: &DrBuffer) -> DrBuffer {
    // SAFETY: the caller holds a reference, so the buffer is alive; `retain` may be called on any thread by contract.
    unsafe { (buffer.retain)(buffer.owner) };
    *buffer
}

/// Gives a reference to a buffer up.
pub fn release(buffer: DrBuffer) {
    // SAFETY: the reference is the caller's and is not used again.
    unsafe { (buffer.release)(buffer.owner) };
}

/// Locks, going on after a panic elsewhere: what is guarded stays whole in every step.
pub(crate) fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
