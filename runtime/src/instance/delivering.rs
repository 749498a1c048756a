//! Delivering: takes messages from the inbox to the handler and does what its verdict says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dinrail_plugin::abi::*;
use serde_json::Value;

use super::guest::Guest;
use super::link::Link;
use super::worker::Due;
use crate::clock;
use crate::message::{Meta, MetaKind};
use crate::name::Identity;
use crate::queue::ingest::DiskMessage;
use crate::queue::kept::Kept;
use crate::queue::losses::{NOT_STORED, PARKED};
use crate::queue::{Consumer, QueueLane, Record, Source};

/// Faults and panics over one message, before it is set aside as poisonous.
const MAX_FAULTS: u32 = 5;
/// Wait before the second delivery where the handler does not say; doubled for each further one.
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// Longest such wait.
const MAX_RETRY: Duration = Duration::from_secs(30);
/// While messages come closer together than this, the worker looks for the next one before it sleeps.
const HOT_GAP: Duration = Duration::from_micros(20);
/// While hot: time for which messages may gather, so that sender and receiver do not fight over every single one.
const COALESCE: Duration = Duration::from_micros(3);

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
enum Then {
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
    /// Nowhere: it is empty.
    Off,
    /// To the ready list, for the next worker: the handler panicked.
    Panicked(String),
}

/// See the module's documentation.
pub struct Delivering {
    link: Arc<Link>,
    lane: Option<Arc<QueueLane>>,
    held: Vec<(Instant, Arc<QueueLane>)>,
    held_back: Vec<(Instant, Kept)>,
    blocked: Vec<Arc<QueueLane>>,
    delivery: u64,
    properties: Vec<DrProperty>,
    inputs: Vec<String>,
    is_hot: bool,
}

impl Delivering {
    /// Nothing in hand.
    pub fn new(link: Arc<Link>, inputs: Vec<String>) -> Delivering {
        if link.inbox.returned().0 > 0 {
            link.deliveries.keeps();
        }
        Delivering {
            link,
            lane: None,
            held: Vec::new(),
            held_back: Vec::new(),
            blocked: Vec::new(),
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
        if !self.blocked.is_empty() && !self.link.deliveries.block() {
            self.blocked.drain(..).for_each(|lane| consumer.give_back(lane));
        }
        if let Some(kept) = consumer.take_returned() {
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
            Some(Place::Off) => {}
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
        let input = &**lane.queue.input();
        let input_index = self.inputs.iter().position(|known| known == input).map_or(DR_NO_INDEX, |at| at as u32);
        for handled in 0..limit {
            // SAFETY: this worker holds the inbox's one consumer.
            let Some(record) = (unsafe { lane.lane.peek() }) else {
                self.is_hot |= handled > 1;
                if self.is_hot && !consumer.has_ready() && gather(lane) {
                    return Place::InHand;
                }
                // SAFETY: as above.
                return match unsafe { lane.lane.unschedule() } {
                    true => Place::Off,
                    false if consumer.has_ready() => Place::Ready,
                    false => Place::InHand,
                };
            };
            if !self.link.deliveries.may_deliver() && self.link.deliveries.block() {
                return Place::Blocked;
            }
            match self.deliver(guest, lane, input_index, &record) {
                Then::Next if consumer.has_nudge() => return Place::Ready,
                Then::Next => {}
                Then::Hold(wait) => return Place::Held(wait),
                Then::Panic(reason) => return Place::Panicked(reason),
            }
        }
        Place::Ready
    }

    fn deliver(&mut self, guest: &mut Guest, lane: &Arc<QueueLane>, input_index: u32, record: &Record<'_>) -> Then {
        self.delivery += 1;
        let delivery = self.delivery;
        // SAFETY: this worker holds the inbox's one consumer.
        let attempt = unsafe { lane.lane.begin_attempt() };
        let source = lane.lane.source();
        let mut message = DrMessage {
            size: size_of::<DrMessage>() as u32,
            attempt,
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
        // SAFETY: as above.
        let faults = unsafe { lane.lane.faults() };
        let (verdict, reason) = self.hand_over(guest, delivery, &message, faults);
        if verdict.kind == DR_ACCEPT {
            if let Some(stage) = self.link.deliveries.take_stage(delivery) {
                self.commit(stage);
            }
            // SAFETY: this worker holds the inbox's one consumer; nothing refers to the record any more.
            unsafe { lane.lane.advance() };
            return Then::Next;
        }
        self.decide(verdict, &reason, delivery, &message, lane)
    }

    #[cold]
    fn decide(
        &mut self,
        verdict: DrVerdict,
        reason: &str,
        delivery: u64,
        message: &DrMessage,
        lane: &Arc<QueueLane>,
    ) -> Then {
        let (then, is_done) = match verdict.kind {
            // `hand_over` has kept a copy: the lane goes on.
            DR_DEFER => (Then::Next, true),
            kind => {
                let _discarded = self.link.deliveries.take_stage(delivery);
                // SAFETY: this worker holds the inbox's one consumer.
                let faults = unsafe { lane.lane.faults() } + u32::from(is_fault(kind));
                // SAFETY: as above.
                unsafe { lane.lane.set_faults(faults) };
                self.after_failure(kind, verdict.retry_after_ms, reason, message, faults)
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
        let (verdict, reason) = self.hand_over(guest, delivery, kept.message(), kept.faults());
        self.settle_kept(delivery, verdict, &reason, kept)
    }

    fn settle_kept(&mut self, delivery: u64, verdict: DrVerdict, reason: &str, kept: &Kept) -> Then {
        match verdict.kind {
            DR_ACCEPT => {
                if let Some(stage) = self.link.deliveries.take_stage(delivery) {
                    self.commit(stage);
                }
                Then::Next
            }
            DR_DEFER => Then::Next,
            kind => {
                let _discarded = self.link.deliveries.take_stage(delivery);
                let faults = kept.faults() + u32::from(is_fault(kind));
                let (then, is_done) = self.after_failure(kind, verdict.retry_after_ms, reason, kept.message(), faults);
                let wait = if let Then::Hold(wait) = then { wait } else { Duration::ZERO };
                if !is_done {
                    self.held_back.push((clock::now() + wait, kept.next_attempt(faults)));
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

    fn hand_over(&mut self, guest: &mut Guest, delivery: u64, message: &DrMessage, faults: u32) -> (DrVerdict, String) {
        self.link.deliveries.begin(delivery, message);
        let (verdict, reason) = guest.on_message(delivery, message);
        if verdict.kind == DR_DEFER {
            // SAFETY: the message and what it points to is in place until this worker moves its lane on.
            self.link.deliveries.defer(delivery, unsafe { Kept::copy(message, faults) });
        }
        self.link.deliveries.end();
        (verdict, reason)
    }

    /// Holds, parks or gives up, for every verdict that is neither acceptance nor deferral. True: the message is done with.
    fn after_failure(
        &self,
        kind: DrVerdictKind,
        retry_after_ms: u64,
        reason: &str,
        message: &DrMessage,
        faults: u32,
    ) -> (Then, bool) {
        let module = &*self.link.name;
        let is_poison = faults >= MAX_FAULTS && is_fault(kind);
        let is_parked = kind == DR_PARK || is_poison;
        if is_parked {
            self.park(message, reason);
        }
        let then = match kind {
            DR_PANIC => Then::Panic(reason.to_owned()),
            _ if is_parked => Then::Next,
            DR_RETRY if retry_after_ms > 0 => Then::Hold(Duration::from_millis(retry_after_ms)),
            DR_RETRY => Then::Hold(backoff(message.attempt)),
            _ => {
                let (sequence, attempt) = (message.sequence, message.attempt);
                tracing::warn!(module, sequence, attempt, "message not handled, will be delivered again: {reason}");
                Then::Hold(backoff(faults))
            }
        };
        (then, is_parked)
    }

    /// Sets a message aside, on disk, where a person finds it.
    fn park(&self, message: &DrMessage, reason: &str) {
        // SAFETY: the message is in place during its handling.
        let row = unsafe { disk_message(message, &format!("{}/inputs/", self.link.identity)) };
        let (module, sequence) = (&*self.link.name, message.sequence);
        tracing::error!(module, sequence, sender = %row.sender, "message parked: {reason}");
        let source = Source { identity: row.sender.clone(), output: row.output.clone(), epoch: row.epoch };
        let (ingest, endpoint) = (self.link.services.ingest.clone(), row.endpoint.clone());
        ingest.losses().count(&source, &endpoint, PARKED, sequence);
        let name = self.link.name.clone();
        self.link.services.disk.park(row, reason, move |error| {
            tracing::error!(module = &*name, sequence, "a parked message is lost: {error}");
            ingest.losses().count(&source, &endpoint, NOT_STORED, sequence);
        });
    }

    /// What a handler staged takes effect: the report first, then the messages.
    #[cold]
    fn commit(&self, stage: super::link::Stage) {
        if !stage.reported.is_empty() {
            self.report(&self.link.identity, &stage.reported);
        }
        if let (false, Some(device)) = (stage.device_reported.is_empty(), self.link.device()) {
            self.report(&device, &stage.device_reported);
        }
        if !stage.messages.is_empty() {
            self.link.deliveries.begin_commit();
            let link = self.link.clone();
            let stored = Box::new(move || {
                if link.deliveries.end_commit() {
                    link.inbox.nudge();
                }
            });
            self.link.services.disk.enqueue_staged(stage.messages, stored);
        }
    }

    fn report(&self, identity: &Identity, patches: &[Value]) {
        let module = self.link.name.clone();
        let lost = move |error: &crate::twin::TwinError| {
            tracing::error!(module = &*module, "what a handler reported is lost: {error}");
        };
        let later = lost.clone();
        let outcome = self.link.services.twins.report(identity, patches, None, move |outcome| {
            if let Err(error) = outcome {
                later(&error);
            }
        });
        if let Err(error) = outcome {
            lost(&error);
        }
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
        for lane in self.lane.take().into_iter().chain(self.blocked.drain(..)).chain(held) {
            consumer.give_back(lane);
        }
        consumer.put_back(self.held_back.drain(..).map(|(_, kept)| kept));
    }
}

/// Runs what must not take anything with it should it panic. The hook has logged it.
fn survive<T>(act: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(act)).ok()
}

fn is_fault(kind: DrVerdictKind) -> bool {
    matches!(kind, DR_FAULT | DR_PANIC)
}

fn backoff(attempt: u32) -> Duration {
    FIRST_RETRY.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(MAX_RETRY)
}

/// Waits a moment for the next message of a busy lane: cheaper for both sides than sleeping and being woken.
fn gather(lane: &QueueLane) -> bool {
    let since = clock::now();
    let mut is_first = true;
    loop {
        for _ in 0..16 {
            std::hint::spin_loop();
        }
        // The sender may be waiting for this very processor: on an idle one this costs next to nothing.
        if !std::mem::take(&mut is_first) {
            std::thread::yield_now();
        }
        // SAFETY: the caller, a worker, holds the inbox's one consumer.
        let has_message = unsafe { lane.lane.peek() }.is_some();
        let waited = since.elapsed();
        if has_message {
            while since.elapsed() < COALESCE.min(waited + COALESCE) {
                std::hint::spin_loop();
            }
            return true;
        }
        if waited > HOT_GAP {
            return false;
        }
    }
}

/// # Safety
/// The message and everything that it points to is readable.
unsafe fn disk_message(message: &DrMessage, endpoint_prefix: &str) -> DiskMessage {
    // SAFETY: the caller's promise.
    let owned = unsafe { Kept::copy(message, 0) };
    let message = owned.message();
    // SAFETY: points into `owned`.
    let text = |text: DrText| String::from_utf8_lossy(unsafe { text.bytes() }).into_owned();
    let mut whole = crate::message::Message::new(Vec::new());
    let some = |t: DrText| (!t.ptr.is_null()).then(|| text(t));
    whole.system.message_id = some(message.message_id);
    whole.system.correlation_id = some(message.correlation_id);
    whole.system.content_type = some(message.content_type);
    whole.system.content_encoding = some(message.content_encoding);
    for at in 0..message.property_count as usize {
        // SAFETY: `property_count` says how many there are.
        let property = unsafe { *message.properties.add(at) };
        whole.properties.push((text(property.key), text(property.value)));
    }
    DiskMessage {
        endpoint: format!("{endpoint_prefix}{}", text(message.input)).into(),
        priority: 0,
        ttl_secs: None,
        sender: text(message.sender).into(),
        output: text(message.output).into(),
        epoch: message.epoch,
        sequence: message.sequence,
        created_us: message.created_us,
        meta: whole.encode_meta(),
        // SAFETY: points into `owned`, or into its buffer.
        body: unsafe { DrText { ptr: message.body, len: message.body_len }.bytes() }.to_vec(),
    }
}
