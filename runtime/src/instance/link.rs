//! A link: what a running instance and the runtime share. The module's threads reach it through the ticket, the runtime
//! through the supervisor; whoever holds it can tell the worker something without ever waiting for it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use dinrail_plugin::abi::{DR_INFO, DrVerdict};
use serde_json::Value;

use super::delivery::Deliveries;
use super::given::Given;
use super::lock;
use super::retrying::Retries;
use super::services::Services;
use super::spec::DeviceTwin;
use super::ticket::Ticket;
use crate::log::Speaker;
use crate::method::{CallError, MethodRequest, Pending, Waiting};
use crate::name::{Identity, check_id};
use crate::queue::Inbox;
use crate::queue::ingest::Output;
use crate::twin::DesiredChange;

/// Most events and new timers that may wait for one instance; calls have a bound of their own.
const MAX_CONTROL: usize = 4096;
/// Most changes of the desired properties that wait for one instance; it is told the whole section where one was left out.
const MAX_CHANGES: usize = 64;
/// Most timers of one instance.
const MAX_TIMERS: usize = 1024;
/// Most outputs that one instance may have: `OUTPUT_CHUNK` squared, allocated a chunk at a time.
const OUTPUT_CHUNK: usize = 8;

/// What a worker is told besides messages.
pub enum Control {
    /// Stop in an orderly way.
    Stop,
    /// Stop: the instance said that it cannot go on.
    Fail(String),
    /// The desired properties changed.
    Desired(Arc<DesiredChange>),
    /// Those of the device changed.
    DeviceDesired(Arc<DesiredChange>),
    /// A posted value.
    Event(u64),
    /// Start a timer.
    TimerStart {
        /// Its id.
        id: u64,
        /// When it first fires.
        first: Instant,
        /// Time between two ticks; zero for once.
        period: Duration,
    },
    /// End a timer.
    TimerStop(u64),
    /// A deferred delivery has ended.
    Complete {
        /// The delivery.
        delivery: u64,
        /// Its end.
        verdict: DrVerdict,
        /// The reason.
        reason: String,
    },
    /// A direct method was called.
    Method(MethodRequest),
}

/// One thing that waits to be told.
enum Item {
    Control(Control),
    /// The next of the calls.
    Call,
}

/// Why something is not told.
enum Refused {
    /// Nobody listens any more.
    Gone,
    /// Too much waits.
    Full,
}

/// What waits to be told. Bounded even for an instance that never listens: optional things are refused, changes are merged,
/// a timer, a delivery or the instance itself ends once.
#[derive(Default)]
struct Told {
    waiting: VecDeque<Item>,
    calls: Option<Box<Waiting>>,
    changes: usize,
    /// How much was taken up so far.
    taken: u64,
    has_failed: bool,
    is_fenced: bool,
    is_closed: bool,
    /// Why nobody listens any more.
    end: String,
}

/// The module's own sentence about its state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// A `DR_…` level.
    pub level: u32,
    /// Empty where it has none.
    pub sentence: String,
}

type OutputSlot = OnceLock<(Box<str>, Arc<Output>)>;

/// See the module's documentation. On cache lines of its own: its worker writes to it with every message.
#[repr(align(128))]
pub struct Link {
    /// Handle of the instance.
    pub ticket: Ticket,
    /// Name of the instance.
    pub name: Arc<str>,
    /// Identity that everything it does is stamped with.
    pub identity: Identity,
    /// Where it sends, reports and asks.
    pub services: Arc<Services>,
    /// Where its messages wait.
    pub inbox: Arc<Inbox>,
    /// Deliveries under way.
    pub deliveries: Deliveries,
    /// Messages that wait for another try.
    pub retries: Retries,
    /// Odd while module code runs; moves on with every call.
    pub calls: AtomicU64,
    /// Which: see [`Callback`](super::watchdog::Callback).
    pub doing: AtomicU32,
    /// Kernel id of the worker's thread; 0 before it runs.
    pub thread: AtomicU32,
    /// What the deployment permits it of the device's own twin.
    pub device_twin: DeviceTwin,
    /// What it was given of secrets.
    pub(super) given: Given,
    /// It has been started: a method called now is taken up soon.
    pub is_started: AtomicBool,
    /// Its ticket is stale.
    is_revoked: AtomicBool,
    speaker: OnceLock<Arc<Speaker>>,
    /// The call that the worker has taken up.
    handling: Mutex<Option<Pending>>,
    /// The other threads of the instance.
    pub(super) threads: Mutex<Vec<super::threads::Entered>>,
    /// Processor time of threads that have ended.
    pub(super) ended_cpu_ns: AtomicU64,
    outputs: [OnceLock<Box<[OutputSlot; OUTPUT_CHUNK]>>; OUTPUT_CHUNK],
    next_timer: AtomicU64,
    timers: Mutex<BTreeSet<u64>>,
    control: Mutex<Told>,
    health: Mutex<Health>,
}

impl Link {
    /// A link for an instance that is about to be created.
    pub fn new(ticket: Ticket, identity: Identity, services: Arc<Services>) -> Link {
        let name: Arc<str> = identity.module_id().unwrap_or_default().into();
        Link {
            ticket,
            inbox: services.ingest.inbox(&name),
            name,
            identity,
            services,
            deliveries: Deliveries::default(),
            retries: Retries::default(),
            calls: AtomicU64::new(0),
            doing: AtomicU32::new(0),
            thread: AtomicU32::new(0),
            device_twin: DeviceTwin::None,
            given: Given::default(),
            is_started: AtomicBool::new(false),
            is_revoked: AtomicBool::new(false),
            speaker: OnceLock::new(),
            handling: Mutex::default(),
            threads: Mutex::default(),
            ended_cpu_ns: AtomicU64::new(0),
            outputs: [const { OnceLock::new() }; OUTPUT_CHUNK],
            next_timer: AtomicU64::new(1),
            timers: Mutex::default(),
            control: Mutex::default(),
            health: Mutex::new(Health { level: DR_INFO, sentence: String::new() }),
        }
    }

    /// The same, permitted so much of the device's own twin.
    pub fn with_device_twin(self, device_twin: DeviceTwin) -> Link {
        Link { device_twin, ..self }
    }

    /// Tells the worker something. False when too much waits or nobody listens any more; what must not be lost is refused for
    /// the second reason only. `[any thread, never blocks]`
    pub fn tell(&self, control: Control) -> bool {
        if let Err((control, why)) = self.put(control) {
            self.refuse(control, &why);
            return false;
        }
        self.inbox.nudge();
        true
    }

    // What is refused goes back whole, once, to be answered.
    #[allow(clippy::result_large_err)]
    fn put(&self, control: Control) -> Result<(), (Control, Refused)> {
        let mut told = lock(&self.control);
        let is_optional = matches!(control, Control::Event(_) | Control::TimerStart { .. } | Control::Method(_));
        if told.is_closed || (is_optional && told.is_fenced) {
            return Err((control, Refused::Gone));
        }
        if matches!(control, Control::Event(_) | Control::TimerStart { .. }) && told.waiting.len() >= MAX_CONTROL {
            return Err((control, Refused::Full));
        }
        match control {
            Control::Stop => told.waiting.push_front(Item::Control(control)),
            Control::Method(request) => {
                let calls = told.calls.get_or_insert_default();
                if let Err(request) = calls.push(request) {
                    return Err((Control::Method(request), Refused::Full));
                }
                told.waiting.push_back(Item::Call);
            }
            Control::Fail(_) if told.has_failed => {}
            Control::Fail(_) => {
                told.has_failed = true;
                // A stop that was asked for stays one.
                let at = usize::from(matches!(told.waiting.front(), Some(Item::Control(Control::Stop))));
                told.waiting.insert(at, Item::Control(control));
            }
            Control::Desired(_) => {
                let is_change = |item: &Item| matches!(item, Item::Control(Control::Desired(_)));
                if told.changes == MAX_CHANGES {
                    told.waiting.iter().position(is_change).map(|at| told.waiting.remove(at));
                } else {
                    told.changes += 1;
                }
                told.waiting.push_back(Item::Control(control));
            }
            Control::DeviceDesired(_) => {
                let is_change = |item: &Item| matches!(item, Item::Control(Control::DeviceDesired(_)));
                if told.waiting.iter().filter(|item| is_change(item)).count() == MAX_CHANGES {
                    told.waiting.iter().position(is_change).map(|at| told.waiting.remove(at));
                }
                told.waiting.push_back(Item::Control(control));
            }
            _ => told.waiting.push_back(Item::Control(control)),
        }
        Ok(())
    }

    /// Answers whoever waits for an answer to what is not done.
    fn refuse(&self, control: Control, why: &Refused) {
        let Control::Method(request) = control else { return };
        let error = match why {
            Refused::Gone => self.gone(),
            Refused::Full => CallError::Busy(format!("too many method calls wait for {} already", self.identity)),
        };
        request.reply.give(Err(error));
    }

    /// What a caller hears whose call was not taken up.
    fn gone(&self) -> CallError {
        let end = lock(&self.control).end.clone();
        let why = if end.is_empty() { String::new() } else { format!(": {end}") };
        CallError::NotConnected(format!("{} ended before it took up the call{why}", self.identity))
    }

    /// The next thing that the worker was told.
    pub fn next_control(&self) -> Option<Control> {
        let mut told = lock(&self.control);
        loop {
            let next = match told.waiting.pop_front()? {
                Item::Control(control) => control,
                Item::Call => match told.calls.as_mut().and_then(|calls| calls.take()) {
                    Some(request) => Control::Method(request),
                    // Its caller had given up, and it made room for another one.
                    None => continue,
                },
            };
            told.taken += 1;
            told.changes -= usize::from(matches!(next, Control::Desired(_)));
            return Some(next);
        }
    }

    /// Method calls that wait.
    pub fn waiting_calls(&self) -> usize {
        lock(&self.control).calls.as_ref().map_or(0, |calls| calls.len())
    }

    /// A call is taken up, until [`Link::handled`].
    pub fn handles(&self, call: Pending) {
        *lock(&self.handling) = Some(call);
    }

    /// The call that was taken up has an answer.
    pub fn handled(&self) {
        *lock(&self.handling) = None;
    }

    /// The worker is given up: nothing new is begun, and calls that wait are answered, the one that it is busy with too. Its stop
    /// stays for it, should it ever listen again.
    pub fn fence(&self, why: &str) {
        self.turn_away(why);
        if let Some(call) = lock(&self.handling).take() {
            call.end(CallError::Failed(format!("{} did not finish the call: {why}", self.identity)));
        }
    }

    /// Nothing new is begun, and calls that wait are answered.
    fn turn_away(&self, why: &str) {
        let calls = {
            let mut told = lock(&self.control);
            told.is_fenced = true;
            if told.end.is_empty() {
                why.clone_into(&mut told.end);
            }
            told.waiting.retain(|item| matches!(item, Item::Control(_)));
            told.calls.take()
        };
        let mut calls = calls.unwrap_or_default();
        while let Some(request) = calls.take() {
            request.reply.give(Err(self.gone()));
        }
    }

    /// From now on nobody listens: later calls are answered at once, and so are those that wait. Gives what else waited.
    pub fn close(&self, why: &str) -> Vec<Control> {
        self.turn_away(why);
        let mut told = lock(&self.control);
        told.is_closed = true;
        told.changes = 0;
        let left = std::mem::take(&mut told.waiting).into_iter();
        left.filter_map(|item| match item {
            Item::Control(control) => Some(control),
            Item::Call => None,
        })
        .collect()
    }

    /// How much waits to be told.
    #[cfg(test)]
    pub fn told(&self) -> usize {
        lock(&self.control).waiting.len()
    }

    /// Whether anything waits to be told, and how much was taken up so far.
    pub fn told_and_taken(&self) -> (bool, u64) {
        let told = lock(&self.control);
        (!told.waiting.is_empty(), told.taken)
    }

    /// True when more waits to be told.
    pub fn has_control(&self) -> bool {
        !lock(&self.control).waiting.is_empty()
    }

    /// The id of an output, given out at first use; `None` for a bad name or too many outputs. Id 0 is "no output".
    pub fn output_id(&self, name: &str) -> Option<u32> {
        if check_id(name).is_err() {
            return None;
        }
        (1..(OUTPUT_CHUNK * OUTPUT_CHUNK) as u32).find(|id| {
            self.output_slot(*id).is_some_and(|slot| {
                let (known, _) = slot.get_or_init(|| (name.into(), self.services.ingest.output(&self.identity, name)));
                **known == *name
            })
        })
    }

    /// The output behind an id.
    pub fn output(&self, id: u32) -> Option<&Arc<Output>> {
        let slot = self.output_slot(id)?;
        if id == 0 {
            return Some(&slot.get_or_init(|| ("".into(), self.services.ingest.output(&self.identity, ""))).1);
        }
        slot.get().map(|(_, output)| output)
    }

    fn output_slot(&self, id: u32) -> Option<&OutputSlot> {
        let chunk = self.outputs.get(id as usize / OUTPUT_CHUNK)?;
        Some(&chunk.get_or_init(|| Box::new([const { OnceLock::new() }; OUTPUT_CHUNK]))[id as usize % OUTPUT_CHUNK])
    }

    /// Moves on with every call of its code and every message that it sends: a sign of life.
    pub fn work(&self) -> u64 {
        let outputs = self.outputs.iter().filter_map(OnceLock::get).flat_map(|chunk| chunk.iter());
        let sent = outputs.filter_map(OnceLock::get).map(|(_, output)| output.sent()).fold(0, u64::wrapping_add);
        self.calls.load(Ordering::Relaxed).wrapping_add(sent)
    }

    /// True where its ticket reaches nobody any more.
    #[inline]
    pub(super) fn is_revoked(&self) -> bool {
        self.is_revoked.load(Ordering::Acquire)
    }

    pub(super) fn note_revoked(&self) {
        self.is_revoked.store(true, Ordering::Release);
    }

    /// Enters a timer; `None` when there are too many.
    pub fn add_timer(&self) -> Option<u64> {
        let mut timers = lock(&self.timers);
        if timers.len() >= MAX_TIMERS {
            return None;
        }
        let id = self.next_timer.fetch_add(1, Ordering::Relaxed);
        timers.insert(id);
        Some(id)
    }

    /// Strikes a timer out; false where it has ended already.
    pub fn remove_timer(&self, id: u64) -> bool {
        lock(&self.timers).remove(&id)
    }

    /// True while a timer is neither stopped nor over.
    pub fn has_timer(&self, id: u64) -> bool {
        lock(&self.timers).contains(&id)
    }

    /// The instance as a speaker of the log, from its first line on.
    pub fn speaker(&self) -> &Arc<Speaker> {
        self.speaker.get_or_init(|| self.services.logs.module(&self.name))
    }

    /// Sets the module's own sentence about its state.
    pub fn set_health(&self, health: Health) {
        let before = std::mem::replace(&mut *lock(&self.health), health.clone());
        // A module may say the same as often as it likes, without waking whoever waits for a change.
        if before != health {
            (self.services.changed)();
        }
    }

    /// The module's own sentence about its state.
    pub fn health(&self) -> Health {
        lock(&self.health).clone()
    }
}

/// What a handler staged: it takes effect with the verdict, or not at all.
#[derive(Default)]
pub struct Stage {
    /// Messages for the disk.
    pub messages: Vec<crate::queue::ingest::DiskMessage>,
    /// Says so of these.
    pub line: crate::queue::ingest::InLine,
    /// Merge patches for the reported properties, in order; they become one change.
    pub reported: Vec<Value>,
    /// The same for those of the device.
    pub device_reported: Vec<Value>,
    /// What both hold.
    pub bytes: usize,
}
