//! A link: what a running instance and the runtime share. The module's threads reach it through the ticket, the runtime
//! through the supervisor; whoever holds it can tell the worker something without ever waiting for it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use dinrail_plugin::abi::{DR_INFO, DrVerdict};
use serde_json::Value;

use super::delivery::Deliveries;
use super::lock;
use super::services::Services;
use super::ticket::Ticket;
use crate::name::{Identity, check_id};
use crate::queue::Inbox;
use crate::queue::ingest::Output;
use crate::twin::DesiredChange;

/// Most things other than messages that may wait for one instance.
const MAX_CONTROL: usize = 4096;
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
    /// A posted value.
    Event(u64),
    /// Start a timer.
    TimerStart {
        /// Its id.
        id: u64,
        /// Time until it first fires.
        first: Duration,
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

/// A direct method call on its way to the handler.
pub struct MethodRequest {
    /// Method.
    pub name: String,
    /// JSON, or empty.
    pub payload: String,
    /// Identity of the caller; empty for the operator.
    pub caller: String,
    /// Time for which the caller waits.
    pub timeout: Duration,
    /// Takes the answer.
    pub answer: Box<dyn FnOnce(Result<MethodAnswer, String>) + Send>,
}

/// What a handler answered to a direct method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodAnswer {
    /// Status, 200 to 299 for success.
    pub status: i32,
    /// Payload: JSON text.
    pub payload: String,
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

/// See the module's documentation.
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
    /// Odd while module code runs; moves on with every call.
    pub calls: AtomicU64,
    /// Kernel id of the worker's thread; 0 before it runs.
    pub thread: AtomicU32,
    outputs: [OnceLock<Box<[OutputSlot; OUTPUT_CHUNK]>>; OUTPUT_CHUNK],
    next_timer: AtomicU64,
    control: Mutex<VecDeque<Control>>,
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
            calls: AtomicU64::new(0),
            thread: AtomicU32::new(0),
            outputs: [const { OnceLock::new() }; OUTPUT_CHUNK],
            next_timer: AtomicU64::new(1),
            control: Mutex::default(),
            health: Mutex::new(Health { level: DR_INFO, sentence: String::new() }),
        }
    }

    /// Tells the worker something. False when too much waits; what must not be lost is never refused.
    pub fn tell(&self, control: Control) -> bool {
        let is_optional = matches!(control, Control::Event(_) | Control::TimerStart { .. } | Control::Method(_));
        {
            let mut waiting = lock(&self.control);
            if is_optional && waiting.len() >= MAX_CONTROL {
                return false;
            }
            if matches!(control, Control::Stop) {
                waiting.push_front(control);
            } else {
                waiting.push_back(control);
            }
        }
        self.inbox.nudge();
        true
    }

    /// The next thing that the worker was told.
    pub fn next_control(&self) -> Option<Control> {
        lock(&self.control).pop_front()
    }

    /// True when more waits to be told.
    pub fn has_control(&self) -> bool {
        !lock(&self.control).is_empty()
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

    /// A fresh timer id.
    pub fn next_timer_id(&self) -> u64 {
        self.next_timer.fetch_add(1, Ordering::Relaxed)
    }

    /// Sets the module's own sentence about its state.
    pub fn set_health(&self, health: Health) {
        *lock(&self.health) = health;
        (self.services.changed)();
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
    /// Merge patches for the reported properties, in order; they become one change.
    pub reported: Vec<Value>,
}
