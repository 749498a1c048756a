//! A worker: the thread that is an instance. It creates the guest, brings it messages, changes, ticks and calls, one at a time,
//! and ends with it. The runtime tells it things through the link and hears of it through `report`; neither waits.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::delivering::{Delivering, Step};
use super::guest::{Fault, Guest, Making};
use super::link::{Control, Link};
use super::timers::Timers;
use super::{guest, host, ticket};
use crate::clock;
use crate::image::Library;
use crate::memory;
use crate::method::{CallError, MethodRequest};
use crate::queue::Consumer;
use crate::queue::kept::Kept;
use crate::twin::{Accepted, Acknowledgement, DesiredChange};

/// Messages handled in one go before anything else is looked at; likewise for what the worker is told.
const BATCH: u32 = 64;
/// After a turn longer than this, a timer waits for no more than one message.
const SLOW_TURN: Duration = Duration::from_millis(2);

/// Loads the image's library; runs on the worker's thread, since it reads and maps files.
pub type LoadLibrary = Box<dyn FnOnce() -> Result<Arc<Library>, String> + Send>;

/// What a worker is made from.
pub struct Assignment {
    /// The instance's link.
    pub link: Arc<Link>,
    /// Loads the image.
    pub load: LoadLibrary,
    /// Changes when the identity is made anew.
    pub generation_id: String,
    /// Inputs that the image declares.
    pub inputs: Vec<String>,
    /// JSON object of strings.
    pub env: String,
    /// The instance's own folder; made if it is not there.
    pub data_folder: PathBuf,
    /// The image's folder.
    pub image_folder: PathBuf,
    /// Size of the thread's stack.
    pub stack_bytes: usize,
    /// Hears of the worker; must not wait.
    pub report: Box<dyn Fn(WorkerEvent) + Send>,
}

/// What a worker reports.
#[derive(Debug)]
pub enum WorkerEvent {
    /// The instance is created and started.
    Started,
    /// The thread is about to end; the instance is gone and its inbox is free.
    Ended(Ending),
}

/// How a worker ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// It was asked to.
    Stopped,
    /// It never got as far as running.
    StartFailed(String),
    /// It was running and failed.
    Failed(String),
}

impl Ending {
    /// In words.
    pub fn reason(&self) -> &str {
        match self {
            Ending::Stopped => "stopped as asked",
            Ending::StartFailed(reason) | Ending::Failed(reason) => reason,
        }
    }
}

/// Starts the worker's thread.
pub fn spawn(assignment: Assignment) -> std::io::Result<()> {
    std::thread::Builder::new()
        .name(super::threads::short_worker_name(&assignment.link.name))
        .stack_size(assignment.stack_bytes)
        .spawn(move || run(assignment))
        .map(drop)
}

fn run(mut assignment: Assignment) {
    let link = assignment.link.clone();
    host::bind_thread(link.ticket.0);
    ticket::belong_to(Some(link.clone()));
    link.thread.store(super::usage::current_thread(), Ordering::Relaxed);
    // The guest's own entry points catch their panics; this is for a defect of ours, which must not pass as a clean stop.
    let load = std::mem::replace(&mut assignment.load, Box::new(|| Err("already loaded".to_owned())));
    let work = || live(&assignment, load);
    let ending = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| internal_error());
    link.close(ending.reason());
    ticket::revoke(link.ticket);
    ticket::belong_to(None);
    link.add_cpu(super::usage::cpu_seconds(link.thread.swap(0, Ordering::Relaxed)));
    (assignment.report)(WorkerEvent::Ended(ending));
}

fn internal_error() -> Ending {
    Ending::Failed("internal error in the worker; see the log above".to_owned())
}

fn live(assignment: &Assignment, load: LoadLibrary) -> Ending {
    let Some(consumer) = assignment.link.inbox.consume() else {
        return Ending::StartFailed("the thread of an earlier run of this instance has not ended".to_owned());
    };
    match create(assignment, load) {
        Ok((guest, desired)) => serve_out(assignment, consumer, guest, desired),
        Err(fault) => Ending::StartFailed(fault.reason().to_owned()),
    }
}

/// Starts the guest and serves it to its end.
///
/// Apart from `create`, which goes deepest: the stack of an idle instance is as large as its deepest moment was.
#[inline(never)]
fn serve_out(assignment: &Assignment, consumer: Consumer, guest: Guest, desired: Desired) -> Ending {
    let link = &assignment.link;
    let delivering = Delivering::new(link.clone(), assignment.inputs.clone());
    let (timers, pace) = (Timers::default(), Pace::default());
    let device = Desired { revision: 0, is_current: false };
    let mut worker = Worker { link, guest, consumer, timers, pace, desired, device, delivering };
    let started = worker.guest.start().and_then(|()| worker.tell_of_device());
    let ending = match started {
        Ok(()) => {
            link.is_started.store(true, Ordering::Release);
            (assignment.report)(WorkerEvent::Started);
            memory::give_back_stack(assignment.stack_bytes);
            // What it has in hand is given back whatever happens.
            catch_unwind(AssertUnwindSafe(|| worker.serve())).unwrap_or_else(|_| internal_error())
        }
        Err(fault) => Ending::StartFailed(fault.reason().to_owned()),
    };
    worker.finish(ending)
}

/// What the guest knows of its desired properties.
struct Desired {
    revision: u64,
    /// False after a fallback to an older document: the next change is delivered whole.
    is_current: bool,
}

#[inline(never)]
fn create(assignment: &Assignment, load: LoadLibrary) -> Result<(Guest, Desired), Fault> {
    let link = &assignment.link;
    let failed = |what: &str, why: String| Fault::Failed(format!("{what}: {why}"));
    let library = load().map_err(Fault::Failed)?;
    std::fs::create_dir_all(&assignment.data_folder).map_err(|e| {
        failed(&format!("cannot make the data folder {}", assignment.data_folder.display()), e.to_string())
    })?;
    let snapshot = link.services.twins.get(&link.identity).ok_or_else(|| Fault::Failed("it has no twin".to_owned()))?;
    let (version, revision) = (snapshot.desired.version, snapshot.desired.revision);
    let env = link.deliverable_env(&assignment.env).map_err(|why| failed("its env", why))?;
    let make = |desired: &str| {
        let desired = link.deliverable(desired).map_err(|why| failed("its desired properties", why))?;
        let making = Making {
            generation_id: &assignment.generation_id,
            data_folder: &assignment.data_folder.to_string_lossy(),
            image_folder: &assignment.image_folder.to_string_lossy(),
            env: &env,
            desired: &desired,
            version,
            revision,
        };
        Guest::create(&library, link, &making)
    };
    let document = Accepted { document: snapshot.desired.document.clone(), version, revision };
    match make(&document.document) {
        Ok(guest) => {
            acknowledge(link, None, document);
            Ok((guest, Desired { revision, is_current: true }))
        }
        Err(Fault::Refused(reason)) => {
            // It shall run all the same: with the properties it last accepted, or else with its defaults.
            tracing::warn!(module = &*link.name, version, "desired properties refused: {reason}");
            acknowledge(link, Some(&reason), document);
            let accepted = snapshot.accepted.as_ref().map_or("{}", |accepted| &*accepted.document);
            let guest = make(accepted)?;
            Ok((guest, Desired { revision, is_current: false }))
        }
        Err(fault) => Err(fault),
    }
}

/// Reports `{version, ok, error}` about a document, unless it says what was reported before.
fn acknowledge(link: &Link, error: Option<&str>, document: Accepted) {
    let Some(snapshot) = link.services.twins.get(&link.identity) else { return };
    // An instance that never got a configuration has nothing to acknowledge.
    if error.is_none() && &*document.document == "{}" && &*snapshot.reported.document == "{}" {
        return;
    }
    let said = Acknowledgement { version: document.version, ok: error.is_none(), error: error.map(str::to_owned) };
    let before = snapshot.acknowledged();
    if before.as_ref() == Some(&said) || (said.ok && before.is_none() && &*document.document == "{}") {
        return;
    }
    let (name, version) = (link.name.clone(), said.version);
    let accepted = said.ok.then_some(document);
    let outcome = link.services.twins.acknowledge(&link.identity, &said, accepted, move |outcome| {
        if let Err(error) = outcome {
            tracing::error!(module = &*name, version, "its acknowledgement could not be stored: {error}");
        }
    });
    if let Err(error) = outcome {
        tracing::error!(module = &*link.name, version, "its acknowledgement is lost: {error}");
    }
}

struct Worker<'a> {
    link: &'a Arc<Link>,
    guest: Guest,
    consumer: Consumer,
    timers: Timers,
    pace: Pace,
    desired: Desired,
    /// Of the device's desired properties.
    device: Desired,
    delivering: Delivering,
}

/// How many messages may come before the next look at the timers: few where handlers are slow.
#[derive(Default)]
struct Pace {
    turned: Option<Instant>,
    batch: u32,
}

impl Pace {
    /// A turn begins.
    fn turn(&mut self, now: Instant) -> u32 {
        let is_slow = self.turned.replace(now).is_some_and(|before| now.duration_since(before) > SLOW_TURN);
        self.batch = if is_slow { 1 } else { (self.batch * 2).clamp(1, BATCH) };
        self.batch
    }

    /// The worker sleeps: the time until the next turn says nothing of its handlers, and what they are like then is not known.
    fn rest(&mut self) {
        *self = Pace::default();
    }
}

/// Why the worker stops serving.
type Stop = Ending;

impl Worker<'_> {
    fn serve(&mut self) -> Ending {
        loop {
            if let Err(ending) = self.turn() {
                return ending;
            }
        }
    }

    fn turn(&mut self) -> Result<(), Stop> {
        if self.consumer.take_nudge() {
            self.listen()?;
        }
        let (mut is_idle, mut limit) = (true, BATCH);
        if self.timers.next_due().is_some() {
            let now = clock::now();
            limit = self.pace.turn(now);
            is_idle &= !self.tick(now)?;
        }
        if self.guest.takes_messages() {
            match self.delivering.step(&mut self.guest, &mut self.consumer, limit) {
                Step::Idle => {}
                Step::Busy => is_idle = false,
                Step::Panicked(reason) => return Err(Ending::Failed(reason)),
            }
        }
        if is_idle {
            self.pace.rest();
            let deadline = [self.timers.next_due(), self.delivering.next_due()].into_iter().flatten().min();
            if self.guest.takes_messages() {
                self.consumer.sleep_until(deadline);
            } else {
                self.consumer.sleep_until_nudged(deadline);
            }
        }
        Ok(())
    }

    /// Does what the worker was told, a batch of it: handlers that post again must not keep everything else waiting.
    fn listen(&mut self) -> Result<(), Stop> {
        for _ in 0..BATCH {
            let Some(control) = self.link.next_control() else { return Ok(()) };
            match control {
                Control::Stop => return Err(Ending::Stopped),
                Control::Fail(reason) => return Err(Ending::Failed(reason)),
                Control::Desired(change) => self.change_desired(&change)?,
                Control::DeviceDesired(change) => {
                    if let Err(Fault::Panicked(reason)) = self.change_of_device(&change) {
                        return Err(Ending::Failed(reason));
                    }
                }
                Control::Event(value) => self.heed("a posted event", |guest| guest.on_event(value))?,
                Control::TimerStart { id, first, period } => self.timers.start(id, first, period),
                Control::TimerStop(id) => self.timers.stop(id),
                Control::Complete { delivery, verdict, reason } => {
                    self.delivering.complete(delivery, verdict, &reason);
                }
                Control::Method(request) => self.answer(request)?,
            }
        }
        if self.link.has_control() {
            self.link.inbox.nudge();
        }
        Ok(())
    }

    fn answer(&mut self, request: MethodRequest) -> Result<(), Stop> {
        // What its caller has given up is not begun.
        if !request.reply.take_up() {
            return Ok(());
        }
        self.link.handles(request.reply.pending());
        let outcome = self.guest.on_method(&request);
        self.link.handled();
        match outcome {
            Ok(answer) => {
                request.reply.give(answer);
                Ok(())
            }
            Err(fault) => {
                let why = format!("{} failed with the call: {}", self.link.identity, fault.reason());
                request.reply.give(Err(CallError::Failed(why)));
                Err(Ending::Failed(fault.reason().to_owned()))
            }
        }
    }

    /// True when a timer fired.
    fn tick(&mut self, now: Instant) -> Result<bool, Stop> {
        let Some(tick) = self.timers.take_due(now) else { return Ok(false) };
        let is_live = if tick.is_last { self.link.remove_timer(tick.timer) } else { self.link.has_timer(tick.timer) };
        if !is_live {
            self.timers.stop(tick.timer);
            return Ok(true);
        }
        self.heed("a timer", |guest| guest.on_timer(tick.timer, tick.missed))?;
        Ok(true)
    }

    /// Calls a handler whose failure is the module's business, but whose panic ends the instance.
    fn heed(&mut self, what: &str, call: impl FnOnce(&mut Guest) -> Result<(), Fault>) -> Result<(), Stop> {
        match call(&mut self.guest) {
            Ok(()) => Ok(()),
            Err(Fault::Panicked(reason)) => Err(Ending::Failed(reason)),
            Err(fault) => {
                tracing::warn!(module = &*self.link.name, "the handler of {what} failed: {}", fault.reason());
                Ok(())
            }
        }
    }

    fn change_desired(&mut self, change: &DesiredChange) -> Result<(), Stop> {
        if change.revision <= self.desired.revision {
            return Ok(());
        }
        let is_next = change.revision == self.desired.revision + 1;
        let is_whole = !is_next || !self.desired.is_current;
        let outcome = self.hand_over(change, is_whole);
        // After a refusal it goes on with what it had: the next change is no patch of that.
        self.desired = Desired { revision: change.revision, is_current: outcome.is_ok() };
        let error = outcome.as_ref().err().map(Fault::reason);
        let (version, revision) = (change.version, change.revision);
        acknowledge(self.link, error, Accepted { document: change.whole.clone(), version, revision });
        match outcome {
            Ok(()) => Ok(()),
            Err(Fault::Panicked(reason)) => Err(Ending::Failed(reason)),
            Err(fault) => {
                let version = change.version;
                tracing::warn!(module = &*self.link.name, version, "desired properties refused: {}", fault.reason());
                Ok(())
            }
        }
    }

    /// Hands desired properties over with the secrets that they refer to. Where one is not to be had, the module is told nothing.
    fn hand_over(&mut self, change: &DesiredChange, is_whole: bool) -> Result<(), Fault> {
        let whole = self.link.deliverable(&change.whole).map_err(Fault::Refused)?;
        let patch = match is_whole {
            true => None,
            false => Some(self.link.deliverable(&change.patch).map_err(Fault::Refused)?),
        };
        let (version, revision) = (change.version, change.revision);
        let patch = patch.as_deref().unwrap_or(&whole);
        self.guest.on_desired(&guest::Desired { patch, whole: &whole, is_whole, version, revision })
    }

    /// Tells it the device's desired properties as they are, once, before any change of them.
    fn tell_of_device(&mut self) -> Result<(), Fault> {
        if !self.guest.hears_of_device() {
            return Ok(());
        }
        let Some(snapshot) = self.link.device_snapshot() else { return Ok(()) };
        let desired = &snapshot.desired;
        self.hand_over_device(&desired.document, &desired.document, true, desired.version, desired.revision)
    }

    fn change_of_device(&mut self, change: &DesiredChange) -> Result<(), Fault> {
        if !self.guest.hears_of_device() || change.revision <= self.device.revision {
            return Ok(());
        }
        let is_whole = change.revision != self.device.revision + 1 || !self.device.is_current;
        let patch = if is_whole { &change.whole } else { &change.patch };
        self.hand_over_device(patch, &change.whole, is_whole, change.version, change.revision)
    }

    fn hand_over_device(
        &mut self,
        patch: &str,
        whole: &str,
        is_whole: bool,
        version: u64,
        revision: u64,
    ) -> Result<(), Fault> {
        let (patch, whole) = (self.link.deliverable_so_far(patch), self.link.deliverable_so_far(whole));
        let change = guest::Desired { patch: &patch, whole: &whole, is_whole, version, revision };
        let outcome = self.guest.on_device_desired(&change);
        self.device = Desired { revision, is_current: outcome.is_ok() };
        match outcome {
            Err(fault @ Fault::Panicked(_)) => Err(fault),
            Err(fault) => {
                let text = fault.reason();
                tracing::warn!(
                    module = &*self.link.name,
                    version,
                    "desired properties of the device not taken: {text}"
                );
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn finish(mut self, ending: Ending) -> Ending {
        self.link.is_started.store(false, Ordering::Release);
        let stopped = self.guest.stop();
        let ending = match (ending, stopped) {
            (Ending::Stopped, Err(fault)) => {
                tracing::warn!(module = &*self.link.name, "its stop handler failed: {}", fault.reason());
                Ending::Stopped
            }
            (ending, _) => ending,
        };
        // What the module has ended by now is ended, also in its stop; the rest is for the next worker.
        for control in self.link.close(ending.reason()) {
            if let Control::Complete { delivery, verdict, reason } = control {
                self.delivering.complete(delivery, verdict, &reason);
            }
        }
        self.delivering.give_back(&mut self.consumer);
        let (deferred, withdrawn) = self.link.deliveries.take_all_deferred();
        self.link.services.ingest.losses().withdrawn(&withdrawn);
        self.consumer.put_back(deferred.iter().map(Kept::interrupted));
        self.link.retries.clear();
        ending
    }
}

/// When something is due, or never.
pub(super) type Due = Option<Instant>;
