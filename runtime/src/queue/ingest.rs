//! The one way in: a sender's own thread finds the targets of its output and puts the message into their lanes.
//!
//! What an output's messages go to is compiled once per change of the routes and kept with the output, behind the lock under
//! which sequences are given out and lanes are filled: that lock is what keeps the order.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use dinrail_plugin::abi::DrBuffer;

use super::lane::{self, Body, INLINE_BODY, LaneLimits, MetaWriter, Source, lock};
use super::{Inbox, Queue, QueueLane, WhenFull};
use crate::clock;
pub use crate::database::tables::queue::StoredMessage as DiskMessage;
use crate::name::Identity;

/// Longest that a sender is held by a slower receiver in one send.
pub const MAX_HOLD: Duration = Duration::from_millis(50);

/// Where the messages of an output go.
#[derive(Clone)]
pub struct TargetSpec {
    /// The endpoint.
    pub sink: Sink,
    /// 0 is the most urgent.
    pub priority: u32,
    /// Seconds for which a message is worth keeping.
    pub ttl_secs: Option<u64>,
    /// Largest body in bytes.
    pub max_bytes: usize,
}

/// An endpoint.
#[derive(Clone)]
pub enum Sink {
    /// An input of a module of this device, in memory.
    Input {
        /// Name of the module.
        module: Arc<str>,
        /// Name of its input.
        input: Arc<str>,
    },
    /// On disk, under the endpoint's name, for whoever forwards it.
    Disk(Arc<str>),
    /// Someone who listens in.
    Listener(Arc<Queue>),
}

/// Name of the output that stands for what an operator sends straight to an input. No module can have it.
const OPERATOR: &str = "$operator";

/// Gives the targets of a source; made anew at each change of the routes.
pub type Router = dyn Fn(&Source) -> Vec<TargetSpec> + Send + Sync;

/// A message as a sender hands it in.
pub struct Outgoing<'a> {
    /// Length of the encoded properties.
    pub meta_len: usize,
    /// Writes them.
    pub fill: &'a dyn Fn(&mut MetaWriter<'_>),
    /// Body; where it is a buffer, lanes take references of their own.
    pub body: OutgoingBody<'a>,
}

/// The body of a message that is handed in.
#[derive(Clone, Copy)]
pub enum OutgoingBody<'a> {
    /// Copied.
    Bytes(&'a [u8]),
    /// Shared, if it is too large for a copy.
    Buffer(&'a DrBuffer, &'a [u8]),
}

impl<'a> OutgoingBody<'a> {
    fn bytes(self) -> &'a [u8] {
        match self {
            OutgoingBody::Bytes(bytes) | OutgoingBody::Buffer(_, bytes) => bytes,
        }
    }
}

/// Why a send did not reach every target. Those that had room did get the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Larger than a route allows.
    #[error("the body has {bytes} bytes; the route to {endpoint} takes at most {limit}")]
    TooLarge {
        /// Size of the body.
        bytes: usize,
        /// Limit of the route.
        limit: usize,
        /// Endpoint.
        endpoint: String,
    },
    /// The byte budget of the store is spent.
    #[error(
        "the store is full: {stored} of {budget} bytes wait for {endpoint}; nothing more is taken until some are gone"
    )]
    StoreFull {
        /// Endpoint.
        endpoint: String,
        /// Bytes that wait.
        stored: u64,
        /// Bytes that may wait.
        budget: u64,
    },
    /// The instance that sends is gone or may not send.
    #[error("{0}")]
    Refused(String),
    /// A receiver did not make room in time.
    #[error("the queue of {endpoint} stayed full for {} ms; send again later, or see why it is slow: dinrail list", MAX_HOLD.as_millis())]
    Full {
        /// Endpoint.
        endpoint: String,
    },
}

/// An output of a sender: where sequences and targets live.
pub struct Output {
    source: Arc<Source>,
    sending: Mutex<Sending>,
    sent: AtomicU64,
    unrouted: AtomicU64,
}

impl Output {
    /// What its messages have in common.
    pub fn source(&self) -> &Arc<Source> {
        &self.source
    }
}

#[derive(Default)]
struct Sending {
    sequence: u64,
    version: u64,
    targets: Vec<Target>,
}

struct Target {
    to: To,
    priority: u32,
    ttl_secs: Option<u64>,
    max_bytes: usize,
}

enum To {
    Lane(Arc<QueueLane>),
    Disk(Arc<str>),
}

/// Identity of the sender, and name of the output.
type OutputKey = (Arc<str>, Arc<str>);

/// All outputs, queues and inboxes of the runtime.
pub struct Ingest {
    device: Arc<str>,
    epoch: u64,
    limits: LaneLimits,
    router: ArcSwap<Box<Router>>,
    version: AtomicU64,
    outputs: Mutex<HashMap<OutputKey, Arc<Output>>>,
    inboxes: Mutex<HashMap<Arc<str>, Arc<Inbox>>>,
    queues: Mutex<HashMap<Arc<str>, Arc<Queue>>>,
    losses: super::losses::Losses,
}

impl Ingest {
    /// No routes yet. `epoch` is larger than in every earlier run of the runtime.
    pub fn new(device: &str, epoch: u64, limits: LaneLimits) -> Ingest {
        let nowhere: Box<Router> = Box::new(|_| Vec::new());
        Ingest {
            device: device.into(),
            epoch,
            limits,
            router: ArcSwap::from_pointee(nowhere),
            version: AtomicU64::new(1),
            outputs: Mutex::default(),
            inboxes: Mutex::default(),
            queues: Mutex::default(),
            losses: super::losses::Losses::default(),
        }
    }

    /// Puts other routes in force. A send that is under way ends by the old ones.
    pub fn set_router(&self, router: Box<Router>) {
        self.router.store(Arc::new(router));
        self.version.fetch_add(1, Ordering::Release);
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
                    source: Arc::new(Source { identity: sender, output, epoch: self.epoch }),
                    sending: Mutex::default(),
                    sent: AtomicU64::new(0),
                    unrouted: AtomicU64::new(0),
                })
            })
            .clone()
    }

    /// The inbox of a module of this device, with or without an instance.
    pub fn inbox(&self, module: &str) -> Arc<Inbox> {
        lock(&self.inboxes).entry(module.into()).or_default().clone()
    }

    /// The queue of an input of a module of this device.
    pub fn queue(&self, module: &str, input: &str) -> Arc<Queue> {
        let endpoint = format!("/devices/{}/modules/{module}/inputs/{input}", self.device);
        let inbox = self.inbox(module);
        lock(&self.queues)
            .entry(endpoint.as_str().into())
            .or_insert_with(|| Arc::new(Queue::new(&endpoint, input, inbox, self.limits, WhenFull::Wait)))
            .clone()
    }

    /// Messages and bytes that wait for all inputs of a module, with those that it was given and did not decide about.
    pub fn waiting(&self, module: &str) -> (u64, u64) {
        let returned = lock(&self.inboxes).get(module).map_or((0, 0), |inbox| inbox.returned());
        let prefix = format!("/devices/{}/modules/{module}/inputs/", self.device);
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
    pub fn send(
        &self,
        output: &Output,
        message: &Outgoing<'_>,
        disk: &mut dyn FnMut(Vec<DiskMessage>) -> Result<(), SendError>,
    ) -> Result<(), SendError> {
        let mut sending = lock(&output.sending);
        let version = self.version.load(Ordering::Acquire);
        if sending.version != version {
            self.retarget(output, &mut sending, version);
        }
        let body_len = message.body.bytes().len();
        if let Some(target) = sending.targets.iter().find(|target| body_len > target.max_bytes) {
            let endpoint = target.endpoint().to_owned();
            return Err(SendError::TooLarge { bytes: body_len, limit: target.max_bytes, endpoint });
        }
        sending.sequence += 1;
        output.sent.fetch_add(1, Ordering::Relaxed);
        if sending.targets.is_empty() {
            output.unrouted.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let stamp = (sending.sequence, clock::coarse_wall_us());
        self.push_all(output, &sending.targets, message, stamp, disk)
    }

    /// Puts a message on an input of a module, past all routes: what an operator sends in the device's own name.
    pub fn send_to(
        &self,
        sender: &Identity,
        module: &str,
        input: &str,
        message: &Outgoing<'_>,
    ) -> Result<(), SendError> {
        let queue = self.queue(module, input);
        // One output for each endpoint, so that its lock guards its lane.
        let key: (Arc<str>, Arc<str>) = (sender.to_string().into(), format!("{OPERATOR}>{}", queue.endpoint()).into());
        let output = lock(&self.outputs)
            .entry(key)
            .or_insert_with(|| {
                let source = Source { identity: sender.to_string().into(), output: OPERATOR.into(), epoch: self.epoch };
                Arc::new(Output {
                    source: Arc::new(source),
                    sending: Mutex::default(),
                    sent: AtomicU64::new(0),
                    unrouted: AtomicU64::new(0),
                })
            })
            .clone();
        let mut sending = lock(&output.sending);
        if sending.targets.is_empty() {
            let to = To::Lane(queue.lane(&output.source, 0));
            sending.targets.push(Target {
                to,
                priority: 0,
                ttl_secs: None,
                max_bytes: crate::message::MAX_MESSAGE_BYTES,
            });
        }
        sending.sequence += 1;
        let stamp = (sending.sequence, clock::coarse_wall_us());
        self.push_all(&output, &sending.targets, message, stamp, &mut |_| Ok(()))
    }

    fn push_all(
        &self,
        output: &Output,
        targets: &[Target],
        message: &Outgoing<'_>,
        (sequence, created_us): (u64, i64),
        disk: &mut dyn FnMut(Vec<DiskMessage>) -> Result<(), SendError>,
    ) -> Result<(), SendError> {
        let bytes = message.body.bytes();
        // A body that is too large for a lane and came as bytes is copied once, for all targets.
        let own = match message.body {
            OutgoingBody::Bytes(bytes) if bytes.len() > INLINE_BODY => Some(lane::host_buffer(bytes.to_vec())),
            _ => None,
        };
        let body = || match (&own, message.body) {
            _ if bytes.len() <= INLINE_BODY => Body::Inline(bytes),
            (Some(own), _) => Body::Buffer(lane::retained(own)),
            (None, OutgoingBody::Buffer(buffer, _)) => Body::Buffer(lane::retained(buffer)),
            (None, OutgoingBody::Bytes(_)) => Body::Inline(bytes),
        };
        let mut held = Duration::ZERO;
        let mut rows = Vec::new();
        let mut outcome = Ok(());
        for target in targets {
            match &target.to {
                To::Lane(lane) => {
                    let push = |body| {
                        // SAFETY: `send` holds the output's lock, and the lane is this output's alone.
                        unsafe { lane.lane.push(sequence, created_us, message.meta_len, message.fill, body) }
                    };
                    let Err(body) = push(body()) else {
                        lane.announce();
                        continue;
                    };
                    let body = match lane.queue.when_full() {
                        WhenFull::Skip => Some(body),
                        WhenFull::Wait => {
                            let since = clock::now();
                            // SAFETY: as above.
                            let has_room =
                                unsafe { lane.lane.wait_for_room(bytes.len(), MAX_HOLD.saturating_sub(held)) };
                            held += since.elapsed();
                            let rest = if has_room { push(body).err() } else { Some(body) };
                            if rest.is_some() {
                                outcome = Err(SendError::Full { endpoint: lane.queue.endpoint().to_string() });
                            } else {
                                lane.announce();
                            }
                            rest
                        }
                    };
                    let Some(body) = body else { continue };
                    if let Body::Buffer(buffer) = body {
                        lane::release(buffer);
                    }
                    match lane.queue.when_full() {
                        WhenFull::Skip => lane.queue.count_skipped(),
                        WhenFull::Wait => self.losses.count(&output.source, lane.queue.endpoint(), "full", sequence),
                    }
                }
                To::Disk(endpoint) => {
                    let mut meta = vec![0; message.meta_len];
                    (message.fill)(&mut MetaWriter::new(&mut meta));
                    rows.push(DiskMessage {
                        endpoint: endpoint.clone(),
                        priority: target.priority,
                        ttl_secs: target.ttl_secs,
                        sender: output.source.identity.clone(),
                        output: output.source.output.clone(),
                        epoch: output.source.epoch,
                        sequence,
                        created_us,
                        meta,
                        body: bytes.to_vec(),
                    });
                }
            }
        }
        if let Some(own) = own {
            lane::release(own);
        }
        if rows.is_empty() {
            return outcome;
        }
        let endpoints: Vec<Arc<str>> = rows.iter().map(|row| row.endpoint.clone()).collect();
        let stored = disk(rows);
        if let Err(SendError::StoreFull { .. }) = stored {
            endpoints.iter().for_each(|endpoint| self.losses.count(&output.source, endpoint, "storeFull", sequence));
        }
        stored.and(outcome)
    }

    #[cold]
    fn retarget(&self, output: &Output, sending: &mut Sending, version: u64) {
        let specs = (self.router.load())(&output.source);
        sending.targets = specs
            .into_iter()
            .map(|spec| {
                let to = match spec.sink {
                    Sink::Input { module, input } => {
                        To::Lane(self.queue(&module, &input).lane(&output.source, spec.priority))
                    }
                    Sink::Listener(queue) => To::Lane(queue.lane(&output.source, spec.priority)),
                    Sink::Disk(endpoint) => To::Disk(endpoint),
                };
                Target { to, priority: spec.priority, ttl_secs: spec.ttl_secs, max_bytes: spec.max_bytes }
            })
            .collect();
        sending.version = version;
    }

    /// Messages taken in, and of those the ones that no route wanted, per output.
    pub fn counts(&self) -> Vec<(Arc<Source>, u64, u64)> {
        lock(&self.outputs)
            .values()
            .map(|o| (o.source.clone(), o.sent.load(Ordering::Relaxed), o.unrouted.load(Ordering::Relaxed)))
            .collect()
    }
}

impl Target {
    fn endpoint(&self) -> &str {
        match &self.to {
            To::Lane(lane) => lane.queue.endpoint(),
            To::Disk(endpoint) => endpoint,
        }
    }
}
