//! How the outside talks to the running runtime: every question and command of the management API is a method here.
//!
//! A command becomes an event of the control loop and an answer that can be awaited; reads of twins do not disturb the loop.

mod access;
mod check;
mod dead_letters;
mod identities;
mod known;
mod losses;
mod methods;
mod metrics;
mod modules;
mod query;
mod routes;
mod secrets;
mod support;
mod twins;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use tokio::sync::{Notify, Semaphore, oneshot, watch};

pub use self::access::{AccessFigures, Unproven};
pub use self::identities::{
    IdentityChange, IdentityRecord, IdentityState, KeySlot, NewIdentity, Presence, Role, SymmetricKey,
};
pub use self::methods::MethodCall;
pub use self::query::QueryPage;
pub use self::twins::{TwinChange, TwinPart, TwinWish};
use crate::clock;
use crate::control::boot::Parts;
use crate::control::switchboard::Switchboard;
use crate::control::{Control, Event, Listeners};
use crate::database::{Database, StoreError};
pub use crate::deployment::DeployRequest;
use crate::identity::Identities;
use crate::image::ImageStore;
use crate::instance::services::Services;
use crate::instance::state::{By, Input};
pub use crate::log::{Follow as LogFollow, Followed as LogFollowed, Query as LogQuery, Which as LogWhich};
use crate::message::{self, Message, Stamp};
use crate::metrics::Traffic;
use crate::name::check_id;
use crate::queue::ingest::{Gate, Outgoing, OutgoingBody, SendError};
use crate::queue::lane::MetaWriter;
pub use crate::queue::store_clock::Worth;
use crate::queue::{Consumer, Inbox, Queue};
pub use crate::refusal::{Refusal, RefusalKind};
use crate::routing::{RouteError, Selection};
pub use crate::secret::Allow;
use crate::spelling::nearest;
use crate::state_folder::Folders;
pub use crate::twin::read_document;
use crate::twin::{Schemas, Twins};
use crate::view::{
    ApiView, DeploymentSummary, DeploymentView, ExportView, HealthView, ImageView, ModuleDetail, ModuleView, PlanView,
    SendView,
};

/// Handle of a running runtime. Clones are the same.
#[derive(Clone)]
pub struct Handle {
    identities: Identities,
    database: Database,
    twins: Twins,
    services: Arc<Services>,
    listeners: Arc<Listeners>,
    switchboard: Arc<Switchboard>,
    schemas: Schemas,
    store: Arc<ImageStore>,
    events: Sender<Event>,
    changes: Arc<watch::Sender<u64>>,
    folders: Folders,
    queries: Arc<Semaphore>,
    traffic: Arc<Traffic>,
    api: Arc<OnceLock<ApiView>>,
    access: Arc<AccessFigures>,
}

type Answer<T> = Result<T, Refusal>;

impl Handle {
    pub(crate) fn new(parts: Parts, events: Sender<Event>, folders: Folders) -> Handle {
        let Parts { database, identities, twins, services, listeners, switchboard, schemas, store, changes, .. } =
            parts;
        let queries = Arc::new(Semaphore::new(query::MAX_AT_WORK));
        Handle {
            database,
            identities,
            twins,
            services,
            listeners,
            switchboard,
            schemas,
            store,
            events,
            changes,
            folders,
            queries,
            traffic: Arc::default(),
            api: Arc::default(),
            access: Arc::default(),
        }
    }

    async fn ask<T: Send + 'static>(&self, act: impl FnOnce(&mut Control, Instant) -> T + Send + 'static) -> Answer<T> {
        let (answer, wait) = oneshot::channel();
        let request = Box::new(move |control: &mut Control, now| {
            // The client may have gone; what it asked for is done all the same.
            let _ = answer.send(act(control, now));
        });
        self.events.send(Event::Request(request)).map_err(|_| Refusal::ending())?;
        wait.await.map_err(|_| Refusal::ending())
    }

    /// Device id.
    pub fn device_id(&self) -> &str {
        self.identities.device_id()
    }

    /// The twins, for who measures them.
    pub(crate) fn twins(&self) -> &Twins {
        &self.twins
    }

    /// Changes whenever an instance, image or twin changes: what `wait` waits on.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// State of the runtime.
    pub async fn health(&self) -> Answer<HealthView> {
        let view = self.ask(|control, _| control.health_view()).await?;
        Ok(HealthView { api: self.api.get().cloned(), ..view })
    }

    /// All instances.
    pub async fn modules(&self) -> Answer<Vec<ModuleView>> {
        self.ask(|control, _| control.module_views()).await
    }

    /// One instance.
    pub async fn module(&self, name: &str) -> Answer<ModuleDetail> {
        let name = name.to_owned();
        self.ask(move |control, _| control.module_detail(&name).ok_or_else(|| control.unknown_module(&name))).await?
    }

    /// Starts an instance; also un-parks one that failed. `by` says who.
    pub async fn start(&self, name: &str, by: &str) -> Answer<()> {
        let by = By::Person(by.to_owned());
        self.command(name, Input::StartRequested { by }).await
    }

    /// Stops an instance; this holds until a start.
    pub async fn stop(&self, name: &str, by: &str) -> Answer<()> {
        let by = By::Person(by.to_owned());
        self.command(name, Input::StopRequested { by }).await
    }

    /// Stops an instance and starts it again.
    pub async fn restart(&self, name: &str, by: &str) -> Answer<()> {
        let by = By::Person(by.to_owned());
        self.command(name, Input::RestartRequested { by }).await
    }

    async fn command(&self, name: &str, input: Input) -> Answer<()> {
        let (of, name) = (name.to_owned(), name.to_owned());
        self.ask(move |control, _| control.command(&of, input)).await??;
        let (done, wait) = oneshot::channel();
        self.ask(move |control, _| control.when_kept(&name, move |outcome| drop(done.send(outcome)))).await?;
        stored(wait.await)
    }

    /// Waits until everything that the loop has submitted so far is committed: what is acknowledged then holds.
    async fn committed(&self) -> Answer<()> {
        let (done, wait) = oneshot::channel();
        self.ask(move |control, _| control.when_committed(move |outcome| drop(done.send(outcome)))).await?;
        stored(wait.await)
    }

    /// What applying a manifest would do.
    pub async fn plan(&self, request: DeployRequest) -> Answer<PlanView> {
        let request = self.fitted(request).await?;
        self.ask(move |control, _| control.plan_request(&request)).await?
    }

    /// Applies a manifest.
    pub async fn deploy(&self, request: DeployRequest) -> Answer<DeploymentView> {
        let request = self.fitted(request).await?;
        self.ask(move |control, _| control.deploy(&request)).await?
    }

    /// The deployment in force.
    pub async fn deployment(&self) -> Answer<Option<DeploymentView>> {
        self.ask(|control, _| control.deployment_view()).await
    }

    /// The manifest in force, as another device can take it.
    pub async fn export(&self) -> Answer<Option<ExportView>> {
        self.ask(|control, _| control.export()).await
    }

    /// A deployment that is kept.
    pub async fn deployment_of(&self, id: i64) -> Answer<DeploymentView> {
        self.committed().await?;
        let shown = self.ask(move |control, _| control.deployment_shown(Some(id))).await??;
        shown.ok_or_else(Refusal::ending)
    }

    /// All deployments that are kept, latest first.
    pub async fn deployment_history(&self) -> Answer<Vec<DeploymentSummary>> {
        self.committed().await?;
        self.ask(|control, _| control.deployment_history()).await?
    }

    /// Goes back to a deployment, or to the last good one before the one in force. `by` says who.
    pub async fn roll_back(&self, to: Option<i64>, by: &str) -> Answer<DeploymentView> {
        self.committed().await?;
        let by = by.to_owned();
        self.ask(move |control, _| control.roll_back(to, &by)).await?
    }

    /// Images of the store, and files that were refused.
    pub async fn images(&self) -> Answer<Vec<ImageView>> {
        self.ask(|control, _| control.image_views()).await
    }

    /// Takes in a complete library file (an upload, already on this disk); `name` is the file name a person knows it by.
    ///
    /// `is_for_deployment`: it comes with a manifest, so that no instance is upgraded before that is applied.
    pub async fn image_add(&self, file: PathBuf, name: String, is_for_deployment: bool) -> Answer<ImageView> {
        let store = self.store.clone();
        let (done, wait) = oneshot::channel();
        // Copying and hashing takes its time, which other clients shall not wait for.
        std::thread::Builder::new()
            .name("image-add".to_owned())
            .spawn(move || drop(done.send(store.take_in(&file))))
            .map_err(|error| Refusal::new(RefusalKind::Failed, format!("no thread to take it in: {error}"), "try again"))?;
        let taken = wait.await.map_err(|_| Refusal::ending())?;
        let view = self.ask(move |control, _| control.image_added(name, taken, is_for_deployment)).await??;
        self.committed().await?;
        Ok(view)
    }

    /// Removes an image that nothing uses.
    pub async fn image_remove(&self, reference: &str) -> Answer<ImageView> {
        let reference = reference.to_owned();
        let view = self.ask(move |control, _| control.image_remove(&reference)).await??;
        self.committed().await?;
        Ok(view)
    }

    /// Puts a message on a module's input, in the device's own name.
    pub async fn send(&self, name: &str, input: &str, message: Message) -> Answer<SendView> {
        check_id(input).map_err(|error| {
            Refusal::new(
                RefusalKind::Invalid,
                format!("'{input}' is not an input: {error}"),
                "dinrail show NAME lists its inputs",
            )
        })?;
        let meta = message.encode_meta();
        if let Some(text) = message::too_large(message.body.len(), meta.len()) {
            return Err(Refusal::new(RefusalKind::TooLarge, text, message::TOO_LARGE_HINT));
        }
        let module = name.to_owned();
        let asked = input.to_owned();
        let receiver = self.ask(move |control, _| control.receiver(&module, &asked)).await??;
        let device = self
            .identities
            .device()
            .map_err(|error| Refusal::new(RefusalKind::Failed, error.to_string(), "see the log of the runtime"))?;
        let fill = |out: &mut MetaWriter<'_>| out.put(&meta);
        let outgoing = Outgoing { meta_len: meta.len(), fill: &fill, body: OutgoingBody::Bytes(&message.body) };
        self.services.ingest.send_to(&device, name, input, &outgoing).map_err(|error| {
            let kind =
                if matches!(error, SendError::TooLarge { .. }) { RefusalKind::TooLarge } else { RefusalKind::Conflict };
            Refusal::new(kind, error.to_string(), format!("dinrail show {name}"))
        })?;
        let to = format!("/devices/{}/modules/{name}", self.device_id());
        Ok(SendView { to, input: input.to_owned(), receiver })
    }

    /// Follows what passes `FROM … [WHERE …]`; `None` means everything. Of that each `sample`th message, and no more than `rate` in
    /// any second.
    pub fn tail(&self, route: Option<&str>, sample: u64, rate: Option<u32>) -> Answer<Tail> {
        let text = route.unwrap_or("FROM /*");
        let selection = Selection::parse(text).map_err(|errors| no_selection(text, &errors))?;
        let inbox = Arc::<Inbox>::default();
        let arrived = Arc::new(Notify::new());
        let wake = arrived.clone();
        let consumer = inbox.consume_with(Box::new(move || wake.notify_one())).ok_or_else(Refusal::ending)?;
        let gate = Gate::new(sample, rate).map(Arc::new);
        let (id, queue) = self.listeners.listen(selection, gate.clone(), inbox);
        Ok(Tail { id, listeners: self.listeners.clone(), queue, gate, told: clock::now(), consumer, arrived })
    }

    /// What the device's clock is worth now.
    pub fn clock_worth(&self) -> Worth {
        self.services.disk.clock().worth()
    }

    /// A query of the log in words; see [`LogQuery::parse`].
    pub fn log_query<'a>(&self, which: LogWhich, word: impl Fn(&str) -> Option<&'a str>) -> Answer<LogQuery> {
        LogQuery::parse(which, word).map_err(|bad| Refusal {
            kind: RefusalKind::Invalid,
            message: bad.message,
            hint: Some(bad.hint),
            details: bad.details,
        })
    }

    /// Refused where nobody of this name has or had a log.
    pub async fn has_log(&self, name: &str) -> Answer<()> {
        if self.services.logs.has(name) {
            return Ok(());
        }
        let refusal = match self.module(name).await {
            Ok(_) => return Ok(()),
            Err(refusal) => refusal,
        };
        // One that was removed may be meant.
        let names = self.services.logs.names();
        match nearest(name, names.iter().map(String::as_str)) {
            Some(near) => Err(Refusal { hint: Some(format!("did you mean '{near}'?")), ..refusal }),
            None => Err(refusal),
        }
    }

    /// Lines of the log, oldest first, a JSON object each. `[blocks: reads files]`
    pub fn log(&self, query: &LogQuery) -> std::io::Result<Vec<Box<[u8]>>> {
        self.services.logs.read(query)
    }

    /// Lines of the log, and then those that come. `[blocks: reads files]`
    pub fn follow_log(&self, query: LogQuery) -> std::io::Result<LogFollow> {
        self.services.logs.follow(query)
    }

    /// The directory for uploads; on the same file system as the image store.
    pub fn upload_folder(&self) -> PathBuf {
        self.folders.uploads.clone()
    }
}

/// What became of a change, for whoever asked for what it stores.
fn stored(outcome: Result<Result<(), StoreError>, oneshot::error::RecvError>) -> Answer<()> {
    outcome.map_err(|_| Refusal::ending())?.map_err(|error| Refusal {
        kind: RefusalKind::Failed,
        message: format!("it is done but not stored: {error}"),
        hint: error.hint().map(str::to_owned),
        details: Vec::new(),
    })
}

/// What is wrong with a route that somebody wants to follow, all of it.
fn no_selection(text: &str, errors: &[RouteError]) -> Refusal {
    let (message, hint) = match errors {
        [only] => (format!("not a route to follow: {only}"), only.hint.clone()),
        several => (format!("not a route to follow: {} problems", several.len()), None),
    };
    let told = |error: &RouteError| {
        let hint = error.hint.as_deref().unwrap_or_default();
        format!("{error}\n{}\n{hint}", error.render(text))
    };
    let details = match errors {
        [only] => vec![only.render(text)],
        several => several.iter().map(told).collect(),
    };
    Refusal { kind: RefusalKind::Invalid, message, hint, details }
}

/// A live view of the messages that pass a route. Never holds up a sender: what the reader is too slow for is left out and
/// counted.
pub struct Tail {
    id: u64,
    listeners: Arc<Listeners>,
    queue: Arc<Queue>,
    gate: Option<Arc<Gate>>,
    /// When it was last said what the gate left out.
    told: Instant,
    consumer: Consumer,
    arrived: Arc<Notify>,
}

/// What [`Tail::next`] gives.
#[derive(Debug)]
pub enum TailItem {
    /// A message that passed.
    Message(Box<Message>),
    /// So many were left out, since the reader was too slow.
    Skipped(u64),
    /// So many were left out, since they were more in a second than the reader wanted.
    OverRate(u64),
}

/// How often it is said what the rate left out.
const SAID_WITHIN: Duration = Duration::from_secs(1);

impl Tail {
    /// The next message; waits for it. `None` when the runtime ends.
    pub async fn next(&mut self) -> Option<TailItem> {
        loop {
            let skipped = self.queue.take_skipped();
            if skipped > 0 {
                return Some(TailItem::Skipped(skipped));
            }
            if let Some(message) = self.take() {
                return Some(TailItem::Message(Box::new(message)));
            }
            if let Some(gate) = self.gate.as_ref().filter(|_| self.told.elapsed() >= SAID_WITHIN) {
                self.told = clock::now();
                let over_rate = gate.take_left_out();
                if over_rate > 0 {
                    return Some(TailItem::OverRate(over_rate));
                }
            }
            if self.consumer.prepare_sleep() {
                match &self.gate {
                    // What a gate leaves out wakes nobody.
                    Some(gate) if gate.has_rate() => {
                        let _ = tokio::time::timeout(SAID_WITHIN, self.arrived.notified()).await;
                    }
                    _ => self.arrived.notified().await,
                }
            }
        }
    }

    fn take(&mut self) -> Option<Message> {
        while let Some(lane) = self.consumer.next_lane() {
            if let Some(message) = crate::queue::take_message(&lane, &mut self.consumer, |source, record| {
                Message::from_parts(
                    record.meta,
                    record.body.to_vec(),
                    Stamp {
                        sender: source.identity.clone(),
                        output: source.output.clone(),
                        epoch: source.epoch,
                        sequence: record.sequence,
                        created_us: record.created_us,
                    },
                )
            }) {
                self.consumer.give_back(lane);
                return Some(message);
            }
        }
        None
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.listeners.forget(self.id);
    }
}
