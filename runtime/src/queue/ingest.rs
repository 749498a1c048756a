//! The one way in: a sender's own thread finds the targets of its output and puts the message into their lanes.
//!
//! What an output's messages go to is compiled once per change of the routes and kept with the output, behind the lock under
//! which sequences are given out and lanes are filled: that lock is what keeps the order.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::{Mutex as FairMutex, MutexGuard as FairGuard};

pub use super::backlog::InLine;
use super::choosing::{Choosing, Chosen};
use super::disk::Disk;
use super::lane::{LaneLimits, Source, lock};
pub use super::outgoing::{Outgoing, OutgoingBody, SendError};
use super::record::MetaWriter;
use super::sequences::{Book, Sequence};
pub use super::target::{Gate, Router, Sink, TargetSpec, WhenFull};
pub(super) use super::target::{Target, To, mixed};
use super::{Inbox, Keeping, Queue, QueueLane, changing};
use crate::clock;
use crate::database::Job;
pub use crate::database::tables::queue::StoredMessage as DiskMessage;
use crate::name::Identity;

/// Longest that a sender is held by a slower receiver in one send.
pub const MAX_HOLD: Duration = Duration::from_millis(50);

/// Longer than any wait.
pub(super) const FOR_EVER: Duration = Duration::from_secs(1 << 40);

/// Longest wait for a sender at the end of the runtime.
const LAST_WAIT: Duration = Duration::from_millis(100);

/// Name of the output that stands for what an operator sends straight to an input. No module can have it.
const OPERATOR: &str = "$operator";

/// An output of a sender: where sequences and targets live. On cache lines of its own: every message writes to it, and what the
/// receiver of the message writes elsewhere is not to take them away.
#[repr(align(128))]
pub struct Output {
    pub(super) source: Arc<Source>,
    /// Handed on in turn where senders are held.
    pub(super) sending: FairMutex<Sending>,
    pub(super) sent: AtomicU64,
    unrouted: AtomicU64,
    /// Its sender is to end: no receiver holds it for longer than any other.
    is_ending: AtomicBool,
}

impl Output {
    /// What its messages have in common.
    pub fn source(&self) -> &Arc<Source> {
        &self.source
    }

    /// For how long a receiver may hold the sender now, where its route says `limit`.
    pub(super) fn hold(&self, limit: Duration) -> Duration {
        if self.is_ending.load(Ordering::Relaxed) { limit.min(MAX_HOLD) } else { limit }
    }

    /// How many messages were sent to it, in this run.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// The lock, and for how long this waited for it: that time counts as being held by a slow receiver, for which another
    /// thread is waiting with the lock.
    #[inline]
    fn lock(&self) -> (FairGuard<'_, Sending>, Duration) {
        match self.sending.try_lock() {
            Some(sending) => (sending, Duration::ZERO),
            None => {
                let since = clock::now();
                let sending = self.sending.lock();
                (sending, since.elapsed())
            }
        }
    }
}

#[derive(Default)]
pub(super) struct Sending {
    pub sequence: Sequence,
    pub version: u64,
    pub targets: Vec<Target>,
    /// Where not every message goes to every target.
    pub choosing: Option<Box<Choosing>>,
}

/// What waits in memory for an endpoint, at one moment.
#[derive(Debug, Clone)]
pub struct QueueFigures {
    /// The endpoint.
    pub endpoint: Arc<str>,
    /// Messages that wait.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of the messages, those that are not on disk as well.
    pub only_here: u64,
    /// Messages that were taken out since the runtime started, by sender and output.
    pub taken: Vec<(Arc<Source>, u64)>,
}

/// Takes rows to the disk, in the order of its calls, with why others of the message are not among them. What it is given with them
/// is to be dropped when they are stored, or will not be.
pub type Store<'s> = dyn FnMut(Vec<DiskMessage>, InLine, Option<&SendError>) -> Result<(), SendError> + 's;

/// Identity of the sender, and name of the output.
type OutputKey = (Arc<str>, Arc<str>);

/// All outputs, queues and inboxes of the runtime.
pub struct Ingest {
    pub(super) device: Arc<str>,
    pub(super) book: Book,
    limits: LaneLimits,
    router: ArcSwap<Box<Router>>,
    pub(super) version: AtomicU64,
    outputs: Mutex<HashMap<OutputKey, Arc<Output>>>,
    pub(super) inboxes: Mutex<HashMap<Arc<str>, Arc<Inbox>>>,
    pub(super) queues: Mutex<HashMap<Arc<str>, Arc<Queue>>>,
    pub(super) marks: Mutex<super::settled::Marks>,
    pub(super) losses: super::losses::Losses,
    /// Some message was ever taken in with a time to live.
    pub(super) has_time_to_live: AtomicBool,
    pub(super) disk: OnceLock<Disk>,
    /// Endpoints for which what is sent now goes before what waits on disk.
    pub(super) live_first: Mutex<HashSet<Arc<str>>>,
}

impl Ingest {
    /// No routes yet. `book`: where sequences go on.
    pub fn new(device: &str, book: Book, limits: LaneLimits) -> Ingest {
        let nowhere: Box<Router> = Box::new(|_| Vec::new());
        Ingest {
            device: device.into(),
            book,
            limits,
            router: ArcSwap::from_pointee(nowhere),
            version: AtomicU64::new(1),
            outputs: Mutex::default(),
            inboxes: Mutex::default(),
            queues: Mutex::default(),
            marks: Mutex::default(),
            losses: super::losses::Losses::default(),
            has_time_to_live: AtomicBool::new(false),
            disk: OnceLock::new(),
            live_first: Mutex::default(),
        }
    }

    /// Puts other routes in force. A send that is under way ends by the old ones.
    pub fn set_router(&self, router: Box<Router>) {
        self.router.store(Arc::new(router));
        self.version.fetch_add(1, Ordering::Release);
    }

    /// The epoch of the sequences of this run.
    pub fn epoch(&self) -> u64 {
        self.book.epoch()
    }

    /// What was lost, and why.
    pub fn losses(&self) -> &super::losses::Losses {
        &self.losses
    }

    /// The output `output` of `sender`, the same one each time. The empty name is that of messages without an output.
    pub fn output(&self, sender: &Identity, output: &str) -> Arc<Output> {
        let sender: Arc<str> = sender.to_string().into();
        let output: Arc<str> = output.into();
        lock(&self.outputs)
            .entry((sender.clone(), output.clone()))
            .or_insert_with(|| {
                Arc::new(Output {
                    source: Arc::new(Source { identity: sender, output, epoch: self.book.epoch() }),
                    sending: FairMutex::default(),
                    sent: AtomicU64::new(0),
                    unrouted: AtomicU64::new(0),
                    is_ending: AtomicBool::new(false),
                })
            })
            .clone()
    }

    /// Whether a sender of this run has opened an output of this name, in any case of its letters.
    pub fn has_output(&self, sender: &Identity, name: &str) -> bool {
        let sender = sender.to_string();
        lock(&self.outputs).keys().any(|(of, output)| **of == *sender && output.eq_ignore_ascii_case(name))
    }

    /// Whether a sender is to end now: a thread of it that a route with `onFull: block` holds goes on at once then.
    pub fn set_ending(&self, sender: &Identity, is_ending: bool) {
        let sender = sender.to_string();
        let outputs = lock(&self.outputs);
        let own = outputs.values().filter(|output| *output.source.identity == *sender);
        own.for_each(|output| output.is_ending.store(is_ending, Ordering::Relaxed));
    }

    /// The inbox of a module of this device, with or without an instance.
    pub fn inbox(&self, module: &str) -> Arc<Inbox> {
        lock(&self.inboxes).entry(module.into()).or_default().clone()
    }

    /// The queue of an input of a module of this device.
    pub fn queue(&self, module: &str, input: &str) -> Arc<Queue> {
        let endpoint = endpoint(&self.device, module, input);
        let inbox = self.inbox(module);
        lock(&self.queues)
            .entry(endpoint.as_str().into())
            .or_insert_with(|| {
                let queue = Queue::new(&endpoint, input, inbox, self.limits);
                queue.set_live_first(self.is_live_first(&endpoint));
                Arc::new(queue)
            })
            .clone()
    }

    /// Messages and bytes that wait for all inputs of a module, with those that it was given and did not decide about.
    pub fn waiting(&self, module: &str) -> (u64, u64) {
        let returned = lock(&self.inboxes).get(module).map_or((0, 0), |inbox| inbox.returned());
        let prefix = self.endpoints_of(module);
        lock(&self.queues)
            .iter()
            .filter(|(endpoint, _)| endpoint.starts_with(&prefix))
            .map(|(_, queue)| queue.waiting())
            .fold(returned, |a, b| (a.0 + b.0, a.1 + b.1))
    }

    /// Sends a message along the routes. What goes to disk is handed to `disk`, in order, before the next message of this
    /// output can be sent; `disk` may wait for the disk and may refuse.
    ///
    /// May hold the caller for [`MAX_HOLD`] altogether while receivers' lanes are full. A message without any target is
    /// counted and gone.
    #[inline]
    pub fn send(
        self: &Arc<Self>,
        output: &Output,
        message: &Outgoing<'_>,
        disk: &mut Store<'_>,
    ) -> Result<(), SendError> {
        if self.send_at_once(output, message) {
            return Ok(());
        }
        match self.send_within(output, message, disk, MAX_HOLD) {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(*error),
            None => Err(SendError::Refused(String::new())),
        }
    }

    /// [`Ingest::send`] for whoever must not wait, neither for a receiver nor for the disk. `None` where the message has to wait for its
    /// number, which is on its way.
    pub fn send_now(
        self: &Arc<Self>,
        output: &Output,
        message: &Outgoing<'_>,
        disk: &mut Store<'_>,
    ) -> Option<Result<(), SendError>> {
        self.send_within(output, message, disk, Duration::ZERO).map(|outcome| outcome.map_err(|error| *error))
    }

    fn send_within(
        self: &Arc<Self>,
        output: &Output,
        message: &Outgoing<'_>,
        disk: &mut Store<'_>,
        patience: Duration,
    ) -> Option<Result<(), Box<SendError>>> {
        let (mut sending, held) = output.lock();
        // Longer than any limit: then nothing waits for room either.
        let held = if patience.is_zero() { FOR_EVER } else { held };
        let version = self.version.load(Ordering::Acquire);
        if sending.version != version {
            self.retarget(output, &mut sending, version);
        }
        let Sending { sequence: sequences, targets, choosing, .. } = &mut *sending;
        let sequence = match patience.is_zero() {
            true => sequences.take_now(&self.book, &output.source)?,
            false => match sequences.take(&self.book, &output.source) {
                Ok(sequence) => sequence,
                Err(error) => return Some(Err(Box::new(error))),
            },
        };
        let stamp = (sequence, clock::coarse_wall_us());
        let (chosen, meta) = match choosing {
            None => (Chosen::all(targets), None),
            Some(choosing) => {
                let (chosen, meta) = choosing.choose(targets, &output.source, message, stamp);
                (chosen, Some(meta))
            }
        };
        count(&output.sent);
        if chosen.is_empty() {
            count(&output.unrouted);
            return Some(Ok(()));
        }
        let encoded;
        let again;
        let message = match meta {
            None => message,
            Some(meta) => {
                encoded = move |out: &mut MetaWriter<'_>| out.put(meta);
                again = Outgoing { fill: &encoded, ..*message };
                &again
            }
        };
        let bytes = message.body.bytes().len() + message.meta_len;
        let fitting;
        let (chosen, refused) = match chosen.iter().any(|target| bytes > target.max_bytes) {
            false => (chosen, Ok(())),
            true => {
                fitting = chosen.places(|target| bytes <= target.max_bytes);
                let refused = self.too_large(output, chosen, bytes, sequence);
                (chosen.only(&fitting), refused)
            }
        };
        if refused.is_ok() && self.place_at_once(chosen, message, stamp) {
            return Some(Ok(()));
        }
        let outcome = self.place(output, chosen, message, stamp, (held, refused), disk);
        if outcome.is_err() {
            // Else this thread, sending again at once, would get the lock before those that it has kept waiting.
            FairGuard::unlock_fair(sending);
        }
        Some(outcome.map_err(Box::new))
    }

    /// Puts a message on an input of a module, past all routes: what an operator sends in the device's own name. Never holds
    /// the caller.
    pub fn send_to(
        self: &Arc<Self>,
        sender: &Identity,
        module: &str,
        input: &str,
        message: &Outgoing<'_>,
    ) -> Result<(), SendError> {
        let queue = self.queue(module, input);
        // One output for all endpoints, as its sequences are; what goes where is not for the routes to say.
        let output = self.output(sender, OPERATOR);
        let (mut sending, _) = output.lock();
        sending.sequence.goes_to_memory();
        let sequence = sending.sequence.take(&self.book, &output.source)?;
        let target = Target {
            to: To::Lane(queue.lane(&output.source, 0)),
            priority: 0,
            ttl_secs: None,
            max_bytes: crate::message::MAX_MESSAGE_BYTES,
            when_full: WhenFull::Spill,
            is_mixed: false,
        };
        let stamp = (sequence, clock::coarse_wall_us());
        // Whoever asks for this serves others too, and is not to be held.
        self.place(&output, Chosen::all(&[target]), message, stamp, (MAX_HOLD, Ok(())), &mut |_, _, _| Ok(()))
    }

    #[cold]
    fn retarget(&self, output: &Output, sending: &mut Sending, version: u64) {
        let specs = (self.router.load())(&output.source);
        sending.choosing = Choosing::of(&specs);
        let keepings = changing::keepings(&specs);
        let mut made: Vec<Arc<QueueLane>> = Vec::new();
        let targets = specs
            .into_iter()
            .zip(&keepings)
            .map(|(spec, keeping)| {
                let (keeping, mut is_mixed) = (*keeping, false);
                let lane = |queue: &Arc<Queue>, is_new| queue.lane_for(&output.source, spec.priority, keeping, is_new);
                let to = match spec.sink {
                    Sink::Input { module, input } => {
                        let queue = self.queue(&module, &input);
                        let is_same = |before: &Target| {
                            matches!(&before.to, To::Lane(known) if known.is_of(&queue, spec.priority, keeping))
                        };
                        let is_new = !sending.targets.iter().any(is_same);
                        let known = made.iter().find(|lane| lane.is_of(&queue, spec.priority, keeping));
                        let lane = known.cloned().unwrap_or_else(|| lane(&queue, is_new));
                        if is_new && keeping == Keeping::Spilling {
                            queue.keep_order(&output.source, spec.priority, false);
                        }
                        made.push(lane.clone());
                        To::Lane(lane)
                    }
                    Sink::Stored { module, input } => {
                        let queue = self.queue(&module, &input);
                        queue.leave_for_rows(&output.source, spec.priority);
                        // Until the first row is in line that is only for now: it is looked at again with each message.
                        is_mixed = queue.keep_order(&output.source, spec.priority, true);
                        let backlog = queue.backlog(spec.priority);
                        To::Rows(queue, backlog)
                    }
                    Sink::Listener(queue) => To::Lane(lane(&queue, false)),
                    Sink::Disk(endpoint) => To::Disk(endpoint),
                };
                if spec.ttl_secs.is_some() {
                    self.has_time_to_live.store(true, Ordering::Relaxed);
                }
                let TargetSpec { priority, ttl_secs, max_bytes, when_full, .. } = spec;
                Target { to, priority, ttl_secs, max_bytes, when_full, is_mixed }
            })
            .collect::<Vec<_>>();
        sending.targets = mixed(targets);
        if sending.targets.iter().any(Target::is_memory) {
            sending.sequence.goes_to_memory();
        }
        sending.version = version;
    }

    pub(super) fn all_outputs(&self) -> Vec<Arc<Output>> {
        lock(&self.outputs).values().cloned().collect()
    }

    /// Outputs that have sent something in this run and do not send just now, and their last numbers.
    pub(super) fn outputs_in_use(&self) -> Vec<(Arc<Source>, u64)> {
        let last = |output: &Arc<Output>| Some((output.source.clone(), output.sending.try_lock()?.sequence.last()?));
        self.all_outputs().iter().filter_map(last).collect()
    }

    /// Whether a module has put messages back that are in no lane.
    pub(super) fn has_returned(&self, module: &str) -> bool {
        lock(&self.inboxes).get(module).is_some_and(|inbox| inbox.returned().0 > 0)
    }

    /// What notes how far messages are settled, see [`Ingest::settled`].
    pub fn noting_settled(&self, settled: Vec<(Arc<Source>, u64)>) -> Option<Job> {
        self.book.noting(settled)
    }

    /// Ends all sequences at their last numbers; nothing can be sent any more. For the end of the runtime.
    pub fn close_sequences(&self) {
        self.book.end();
        let close = |output: &Arc<Output>| {
            // One that is sending all the same is left to the next start, which goes on behind its block.
            let mut sending = output.sending.try_lock_for(LAST_WAIT)?;
            Some((output.source.clone(), sending.sequence.close()?))
        };
        self.book.close(self.all_outputs().iter().filter_map(close).collect());
    }

    /// What all endpoints of a module's inputs begin with.
    pub fn endpoints_of(&self, module: &str) -> String {
        endpoint(&self.device, module, "")
    }

    /// What waits in memory for each endpoint and was taken out of it.
    pub fn queue_figures(&self) -> Vec<QueueFigures> {
        let queues: Vec<Arc<Queue>> = lock(&self.queues).values().cloned().collect();
        let figures = |queue: &Arc<Queue>| {
            let [only, also] = queue.in_memory();
            let (messages, bytes) = (only.0 + also.0, only.1 + also.1);
            QueueFigures {
                endpoint: queue.endpoint().clone(),
                messages,
                bytes,
                only_here: only.0,
                taken: queue.taken(),
            }
        };
        queues.iter().map(figures).collect()
    }

    /// Messages taken in, and of those the ones that no route wanted, per output.
    pub fn counts(&self) -> Vec<(Arc<Source>, u64, u64)> {
        lock(&self.outputs)
            .values()
            .map(|o| (o.source.clone(), o.sent.load(Ordering::Relaxed), o.unrouted.load(Ordering::Relaxed)))
            .collect()
    }
}

/// Adds one to a number that changes under its output's lock alone, so that it needs no locked instruction.
#[inline]
pub(super) fn count(of: &AtomicU64) {
    of.store(of.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

pub(super) fn endpoint(device: &str, module: &str, input: &str) -> String {
    format!("/devices/{device}/modules/{module}/inputs/{input}")
}

#[cfg(test)]
mod tests;
