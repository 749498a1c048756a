//! Delivering: takes messages from the inbox to the handler and does what its verdict says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dinrail_plugin::abi::*;

use super::guest::Guest;
use super::link::{Link, Stage};
use super::retrying::Which;
use super::settle::{HandedOver, is_fault, row_behind};
use super::worker::Due;
use crate::clock;
use crate::message::{Meta, MetaKind};
use crate::queue::disk::{End, RowBehind, Settling};
use crate::queue::kept::{Kept, Standing};
use crate::queue::losses::EXPIRED;
use crate::queue::settling::Tries;
use crate::queue::{Consumer, QueueLane, Record, Restocked, Source, expired_of};

/// While messages come closer together than this, the worker looks for the next one before it sleeps: about what it takes to be woken
/// on another processor, of a virtual machine too.
const HOT_GAP: Duration = Duration::from_micros(50);
/// Wait after the disk could not be read.
const READ_AGAIN: Duration = Duration::from_secs(1);
/// Between two looks at what a lane stands behind.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// While hot: time for which messages may gather, so that sender and receiver do not fight over every single one.
const COALESCE: Duration = Duration::from_micros(3);
/// A yield of the processor that takes no longer has found nobody who waits for it.
const ALONE: Duration = Duration::from_micros(2);
/// While hot, on a processor that others use too: time for which messages may gather, and how often before the worker sleeps.
const NAP: Duration = Duration::from_micros(100);
const NAPS: u32 = 3;

/// What a step did.
pub enum Step {
    /// Nothing was there.
    Idle,
    /// Messages were handled; there may be more.
    Busy,
    /// The handler panicked.
    Panicked(String),
}

/// What happens to the lane after a message.
pub(super) enum Then {
    Next,
    Hold(Duration),
    Panic(String),
}

/// Where a lane goes after its turn.
enum Place {
    /// To the end of the ready list.
    Ready,
    /// It is the next again.
    InHand,
    /// Aside, for so long.
    Held(Duration),
    /// Aside, until messages may be delivered again.
    Blocked,
    /// Aside, until another lane is empty: what is in memory comes before what is on disk.
    Aside,
    /// Nowhere: it is empty.
    Off,
    /// To the ready list, for the next worker: the handler panicked.
    Panicked(String),
}

/// See the module's documentation.
pub struct Delivering {
    pub(super) link: Arc<Link>,
    lane: Option<Arc<QueueLane>>,
    held: Vec<(Instant, Arc<QueueLane>)>,
    held_back: Vec<(Instant, Kept)>,
    blocked: Vec<Arc<QueueLane>>,
    aside: Vec<Arc<QueueLane>>,
    delivery: u64,
    properties: Vec<DrProperty>,
    inputs: Vec<String>,
    is_hot: bool,
    pub(super) settling: Option<Arc<Settling>>,
}

impl Delivering {
    /// Nothing in hand.
    pub fn new(link: Arc<Link>, inputs: Vec<String>) -> Delivering {
        if link.inbox.returned().0 > 0 {
            link.deliveries.keeps();
        }
        // What the worker before has left to be committed counts for this one.
        let settling = link.services.disk.find_settling(&link.identity.to_string());
        Delivering {
            settling,
            link,
            lane: None,
            held: Vec::new(),
            held_back: Vec::new(),
            blocked: Vec::new(),
            aside: Vec::new(),
            delivery: 0,
            properties: Vec::new(),
            inputs,
            is_hot: false,
        }
    }

    /// When something that is held is due again.
    pub fn next_due(&self) -> Due {
        let lanes = self.held.iter().map(|(at, _)| *at);
        lanes.chain(self.held_back.iter().map(|(at, _)| *at)).min()
    }

    /// Handles up to `limit` messages of one lane, or one that was put back; no more than one once there is a nudge.
    pub fn step(&mut self, guest: &mut Guest, consumer: &mut Consumer, limit: u32) -> Step {
        if !self.held.is_empty() || !self.held_back.is_empty() {
            self.release_due(consumer);
        }
        if !self.blocked.is_empty() && self.may_deliver() {
            self.blocked.drain(..).for_each(|lane| consumer.give_back(lane));
        }
        if let Some(kept) = if self.may_settle() { consumer.take_returned() } else { None } {
            return match survive(|| self.deliver_kept(guest, &kept)) {
                Some(Then::Panic(reason)) => Step::Panicked(reason),
                Some(_) => Step::Busy,
                None => {
                    self.held_back.push((clock::now(), kept));
                    self.give_up()
                }
            };
        }
        let Some(lane) = self.lane.take().or_else(|| consumer.next_lane()) else {
            self.is_hot = false;
            return Step::Idle;
        };
        // A lane that is in nobody's hands and not on the ready list would never be looked at again.
        match survive(|| self.handle(guest, consumer, &lane, limit)) {
            Some(Place::Ready) => consumer.give_back(lane),
            Some(Place::InHand) => self.lane = Some(lane),
            Some(Place::Held(wait)) => self.held.push((clock::now() + wait, lane)),
            Some(Place::Blocked) => self.blocked.push(lane),
            Some(Place::Aside) => self.aside.push(lane),
            Some(Place::Off) => self.aside.drain(..).for_each(|lane| consumer.give_back(lane)),
            Some(Place::Panicked(reason)) => {
                consumer.give_back(lane);
                return Step::Panicked(reason);
            }
            None => {
                consumer.give_back(lane);
                return self.give_up();
            }
        }
        Step::Busy
    }

    /// After a defect of ours: the message stays where it is, for the next worker.
    #[cold]
    fn give_up(&self) -> Step {
        self.link.deliveries.end();
        Step::Panicked("internal error in the worker; see the log above".to_owned())
    }

    fn handle(&mut self, guest: &mut Guest, consumer: &mut Consumer, lane: &Arc<QueueLane>, limit: u32) -> Place {
        // SAFETY: this worker holds the inbox's one consumer.
        if unsafe { lane.must_wait() } {
            return Place::Held(LOOK_AGAIN);
        }
        let class = lane.class();
        let input = &**lane.queue.input();
        let input_index = self.inputs.iter().position(|known| known == input).map_or(DR_NO_INDEX, |at| at as u32);
        for handled in 0..limit {
            // SAFETY: this worker holds the inbox's one consumer.
            let Some(record) = (unsafe { lane.lane.peek() }) else {
                match lane.restock(Some(&self.link.services.disk)) {
                    Restocked::Filled if consumer.has_better(class) => return Place::Ready,
                    Restocked::Filled => continue,
                    Restocked::Failed => return Place::Held(READ_AGAIN),
                    Restocked::Empty => {}
                }
                self.is_hot |= handled > 1;
                if self.is_hot && !consumer.has_ready() && gather(lane, consumer) {
                    return Place::InHand;
                }
                // SAFETY: as above.
                return match unsafe { lane.unschedule() } {
                    true => Place::Off,
                    false if consumer.has_ready() => Place::Ready,
                    false => Place::InHand,
                };
            };
            // SAFETY: as above.
            if record.row.is_some() && unsafe { lane.must_yield(&record) } {
                return Place::Aside;
            }
            if !self.may_deliver() {
                return Place::Blocked;
            }
            if record.has_expired() {
                self.expire(lane, &record);
                continue;
            }
            match self.deliver(guest, lane, input_index, &record) {
                Then::Next if consumer.has_better(class) => return Place::Ready,
                Then::Next => {}
                Then::Hold(wait) => return Place::Held(wait),
                Then::Panic(reason) => return Place::Panicked(reason),
            }
        }
        Place::Ready
    }

    /// True when one more message may be delivered; else there is a nudge once that changes.
    #[inline]
    fn may_deliver(&self) -> bool {
        self.link.deliveries.may_deliver() && self.may_settle()
    }

    /// Not too many ends of deliveries are uncommitted.
    #[inline]
    fn may_settle(&self) -> bool {
        self.settling.as_ref().is_none_or(|settling| settling.has_room() || !settling.block())
    }

    /// Takes out a message whose time to live is over.
    #[cold]
    fn expire(&mut self, lane: &QueueLane, record: &Record<'_>) {
        let Source { identity, output, epoch } = record.source;
        let (input, sequence) = (&**lane.queue.input(), record.sequence);
        let which = Which { input, sender: identity, output, epoch: *epoch, sequence };
        self.link.retries.end(which, clock::now());
        match row_behind(record.row, &lane.queue, record.meta.len(), record.body.len()) {
            Some(row) => self.settle(Some(row), End::Expired(expired_of(lane, record)), Stage::default()),
            None => {
                let losses = self.link.services.ingest.losses();
                losses.count(record.source, lane.queue.endpoint(), EXPIRED, record.sequence);
            }
        }
        // SAFETY: this worker holds the inbox's one consumer; the record is not used any more.
        unsafe { lane.lane.advance() };
    }

    fn deliver(&mut self, guest: &mut Guest, lane: &Arc<QueueLane>, input_index: u32, record: &Record<'_>) -> Then {
        self.delivery += 1;
        let delivery = self.delivery;
        // SAFETY: this worker holds the inbox's one consumer.
        let mut tries = unsafe { Tries { attempts: lane.lane.begin_attempt(), faults: lane.lane.faults() } };
        let row = row_behind(record.row, &lane.queue, record.meta.len(), record.body.len());
        if let Some(row) = &row {
            let before = self.link.services.disk.tries(row.id.get());
            tries = Tries { attempts: tries.attempts + before.attempts, faults: tries.faults + before.faults };
        }
        let source = record.source;
        let mut message = DrMessage {
            size: size_of::<DrMessage>() as u32,
            attempt: tries.attempts,
            input: DrText::new(lane.queue.input()),
            input_index,
            property_count: 0,
            properties: std::ptr::null(),
            body: record.body.as_ptr(),
            body_len: record.body.len(),
            buffer: record.buffer.map_or(std::ptr::null(), std::ptr::from_ref),
            sender: DrText::new(&source.identity),
            output: DrText::new(&source.output),
            epoch: source.epoch,
            sequence: record.sequence,
            created_us: record.created_us,
            message_id: DrText::ABSENT,
            correlation_id: DrText::ABSENT,
            content_type: DrText::ABSENT,
            content_encoding: DrText::ABSENT,
        };
        if !record.meta.is_empty() {
            self.unpack(record.meta, &mut message);
        }
        let standing = Standing { priority: lane.priority, expires_ms: record.expires_ms };
        let mut reason = String::new();
        let verdict = self.hand_over(guest, delivery, &message, tries, row.as_ref(), standing, &mut reason);
        if verdict.kind == DR_ACCEPT {
            if tries.attempts > 1 {
                self.passed(&message, tries);
            }
            self.accept(delivery, row);
            // SAFETY: this worker holds the inbox's one consumer; nothing refers to the record any more.
            unsafe { lane.lane.advance() };
            return Then::Next;
        }
        self.decide(verdict, &reason, delivery, HandedOver { message: &message, row, tries, standing }, lane)
    }

    #[cold]
    fn decide(
        &mut self,
        verdict: DrVerdict,
        reason: &str,
        delivery: u64,
        mut handed: HandedOver<'_>,
        lane: &Arc<QueueLane>,
    ) -> Then {
        let (then, is_done) = match verdict.kind {
            // `hand_over` has kept a copy: the lane goes on.
            DR_DEFER => (Then::Next, true),
            kind => {
                self.withdraw(delivery);
                if is_fault(kind) {
                    handed.tries.faults += 1;
                    // SAFETY: this worker holds the inbox's one consumer.
                    unsafe { lane.lane.set_faults(lane.lane.faults() + 1) };
                }
                self.after_failure(kind, verdict.retry_after_ms, reason, &handed)
            }
        };
        if is_done {
            // SAFETY: this worker holds the inbox's one consumer; nothing refers to the record any more.
            unsafe { lane.lane.advance() };
        }
        then
    }

    /// Delivers a message that had left its lane.
    fn deliver_kept(&mut self, guest: &mut Guest, kept: &Kept) -> Then {
        self.delivery += 1;
        let delivery = self.delivery;
        let (row, standing, mut reason) = (kept.row(), kept.standing(), String::new());
        let verdict =
            self.hand_over(guest, delivery, kept.message(), kept.tries(), row.as_ref(), standing, &mut reason);
        self.settle_kept(delivery, verdict, &reason, kept)
    }

    fn settle_kept(&mut self, delivery: u64, verdict: DrVerdict, reason: &str, kept: &Kept) -> Then {
        match verdict.kind {
            DR_ACCEPT => {
                if kept.tries().attempts > 1 {
                    self.passed(kept.message(), kept.tries());
                }
                self.accept(delivery, kept.row());
                Then::Next
            }
            DR_DEFER => Then::Next,
            kind => {
                self.withdraw(delivery);
                let Tries { attempts, faults } = kept.tries();
                let tries = Tries { attempts, faults: faults + u32::from(is_fault(kind)) };
                let handed = HandedOver { message: kept.message(), row: kept.row(), tries, standing: kept.standing() };
                let (then, is_done) = self.after_failure(kind, verdict.retry_after_ms, reason, &handed);
                let wait = if let Then::Hold(wait) = then { wait } else { Duration::ZERO };
                if !is_done {
                    self.held_back.push((clock::now() + wait, kept.next_attempt(tries)));
                }
                if matches!(then, Then::Panic(_)) { then } else { Then::Next }
            }
        }
    }

    /// Ends a deferred delivery.
    pub fn complete(&mut self, delivery: u64, verdict: DrVerdict, reason: &str) {
        if let Some(kept) = self.link.deliveries.take_deferred(delivery) {
            // A completion is not a call of the module: a panic it speaks of happened elsewhere and counts as a fault.
            let kind = if verdict.kind == DR_PANIC { DR_FAULT } else { verdict.kind };
            self.settle_kept(delivery, DrVerdict { kind, ..verdict }, reason, &kept);
        }
    }

    #[inline]
    #[allow(clippy::too_many_arguments)]
    fn hand_over(
        &mut self,
        guest: &mut Guest,
        delivery: u64,
        message: &DrMessage,
        tries: Tries,
        row: Option<&RowBehind>,
        standing: Standing,
        reason: &mut String,
    ) -> DrVerdict {
        self.link.deliveries.begin(delivery, message);
        let verdict = guest.on_message(delivery, message, reason);
        if verdict.kind == DR_DEFER {
            // SAFETY: the message and what it points to is in place until this worker moves its lane on.
            self.link.deliveries.defer(delivery, unsafe { Kept::copy(message, tries, row.cloned(), standing) });
        }
        self.link.deliveries.end();
        verdict
    }

    fn unpack(&mut self, meta: &[u8], message: &mut DrMessage) {
        self.properties.clear();
        for (kind, key, value) in Meta(meta).iter() {
            let text = |bytes: &[u8]| DrText { ptr: bytes.as_ptr(), len: bytes.len() };
            match kind {
                MetaKind::Property => self.properties.push(DrProperty { key: text(key), value: text(value) }),
                MetaKind::MessageId => message.message_id = text(value),
                MetaKind::CorrelationId => message.correlation_id = text(value),
                MetaKind::ContentType => message.content_type = text(value),
                MetaKind::ContentEncoding => message.content_encoding = text(value),
                // Has no place in what modules are given.
                MetaKind::System => {}
            }
        }
        message.property_count = self.properties.len() as u32;
        message.properties = self.properties.as_ptr();
    }

    fn release_due(&mut self, consumer: &mut Consumer) {
        let now = clock::now();
        for at in (0..self.held.len()).rev() {
            if self.held[at].0 <= now {
                consumer.give_back(self.held.swap_remove(at).1);
            }
        }
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.held_back).into_iter().partition(|(at, _)| *at <= now);
        self.held_back = later;
        consumer.put_back(due.into_iter().map(|(_, kept)| kept));
    }

    /// Leaves everything in hand to the next worker.
    pub fn give_back(&mut self, consumer: &mut Consumer) {
        let held = self.held.drain(..).map(|(_, lane)| lane);
        for lane in self.lane.take().into_iter().chain(self.blocked.drain(..)).chain(self.aside.drain(..)).chain(held) {
            consumer.give_back(lane);
        }
        consumer.put_back(self.held_back.drain(..).map(|(_, kept)| kept));
    }
}

/// Runs what must not take anything with it should it panic. The hook has logged it.
fn survive<T>(act: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(act)).ok()
}

/// Waits a moment for the next message of a busy lane: cheaper for both sides than sleeping and being woken. True when the lane is to
/// be looked at again, false when the worker may sleep, or has another lane to go on with.
///
/// Where more threads than processors are busy, whoever looks again and again takes the processor from those it waits for, and who
/// sleeps at once has to be woken for a few messages, at the cost of the sender. There it naps: the lane stays in its hands, so that
/// this sender does not wake it, while anything else does.
pub(super) fn gather(lane: &QueueLane, consumer: &mut Consumer) -> bool {
    // SAFETY: the caller, a worker, holds the inbox's one consumer.
    let has_message = || unsafe { lane.lane.peek() }.is_some() || lane.has_stock();
    let (mut since, mut naps, mut is_first) = (clock::now(), 0, true);
    loop {
        for _ in 0..16 {
            std::hint::spin_loop();
        }
        // The sender may be waiting for this very processor: on an idle one this costs next to nothing.
        let is_shared = !std::mem::take(&mut is_first) && lets_others_run();
        let waited = since.elapsed();
        // Another lane first: its class may be a better one.
        if consumer.has_ready() {
            return false;
        }
        if has_message() {
            while since.elapsed() < COALESCE.min(waited + COALESCE) {
                std::hint::spin_loop();
            }
            return true;
        }
        if is_shared && naps < NAPS {
            naps += 1;
            consumer.sleep_until(Some(clock::now() + NAP));
            if consumer.has_ready() {
                return false;
            }
            let is_nudged = consumer.has_better(0);
            if is_nudged || has_message() {
                return true;
            }
            since = clock::now();
        } else if is_shared || waited > HOT_GAP {
            return false;
        }
    }
}

/// Gives the processor to whoever waits for it; true where somebody did.
fn lets_others_run() -> bool {
    let since = clock::now();
    std::thread::yield_now();
    since.elapsed() > ALONE
}
