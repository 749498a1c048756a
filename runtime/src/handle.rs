//! How the outside talks to the running runtime: every question and command of the management API is a method here.
//!
//! A command becomes an event of the control loop and an answer that can be awaited; reads of twins do not disturb the loop.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Sender;
use serde_json::Value;
use tokio::sync::{Notify, oneshot, watch};

use crate::control::{Control, Event, Folders, Listeners};
use crate::identity::Identities;
use crate::image::ImageStore;
use crate::instance::services::Services;
use crate::instance::state::{By, Input};
use crate::message::{MAX_MESSAGE_BYTES, Message, Stamp};
use crate::name::{Identity, check_id};
use crate::queue::ingest::{Outgoing, OutgoingBody, SendError};
use crate::queue::lane::MetaWriter;
use crate::queue::{Consumer, Inbox, Queue};
use crate::routing::Selection;
use crate::twin::{TwinError, TwinSnapshot, Twins};
use crate::view::{DeploymentView, HealthView, ImageView, ModuleDetail, ModuleView, PlanView, SendView};

/// Kind of a refusal; the management API maps it to an HTTP status in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// The request itself is wrong (400).
    Invalid,
    /// No such thing (404).
    NotFound,
    /// The state does not allow it (409).
    Conflict,
    /// `If-Match` does not match (412).
    PreconditionFailed,
    /// Over a limit (413).
    TooLarge,
    /// It was tried and failed (500).
    Failed,
    /// Not within the time allowed (504).
    Timeout,
}

/// Why a request was not done: for a person, with the next step.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What class of refusal.
    pub kind: RefusalKind,
    /// What is wrong, naming the thing.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
    /// Every single problem, where there are several, each with its place.
    pub details: Vec<String>,
}

impl Refusal {
    fn new(kind: RefusalKind, message: impl Into<String>, hint: impl Into<String>) -> Refusal {
        Refusal { kind, message: message.into(), hint: Some(hint.into()), details: Vec::new() }
    }

    fn ending() -> Refusal {
        Refusal::new(RefusalKind::Failed, "the runtime is ending", "start it again, then repeat the command")
    }
}

impl From<TwinError> for Refusal {
    fn from(error: TwinError) -> Refusal {
        let (kind, details) = match &error {
            TwinError::NotFound { .. } => (RefusalKind::NotFound, Vec::new()),
            TwinError::Invalid { violations, .. } => {
                (RefusalKind::Invalid, violations.iter().map(ToString::to_string).collect())
            }
            TwinError::EtagMismatch { .. } => (RefusalKind::PreconditionFailed, Vec::new()),
            TwinError::Store { .. } => (RefusalKind::Failed, Vec::new()),
        };
        Refusal { kind, message: error.to_string(), hint: Some(error.hint()), details }
    }
}

/// A manifest to plan or to apply.
#[derive(Debug, Clone)]
pub struct DeployRequest {
    /// The manifest: JSON.
    pub text: String,
    /// Where it came from, for `deployment`: a path, or `cli`.
    pub origin: String,
    /// Images named by path in the manifest, by that path: the digest (`sha256:…`) under which they were added.
    pub images: BTreeMap<String, String>,
}

/// Handle of a running runtime. Clones are the same.
#[derive(Clone)]
pub struct Handle {
    identities: Identities,
    twins: Twins,
    services: Arc<Services>,
    listeners: Arc<Listeners>,
    store: Arc<ImageStore>,
    events: Sender<Event>,
    changes: Arc<watch::Sender<u64>>,
    folders: Folders,
}

type Answer<T> = Result<T, Refusal>;

impl Handle {
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn new(
        identities: Identities,
        twins: Twins,
        services: Arc<Services>,
        listeners: Arc<Listeners>,
        store: Arc<ImageStore>,
        events: Sender<Event>,
        changes: Arc<watch::Sender<u64>>,
        folders: Folders,
    ) -> Handle {
        Handle { identities, twins, services, listeners, store, events, changes, folders }
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

    /// Changes whenever an instance, image or twin changes: what `wait` waits on.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// State of the runtime.
    pub async fn health(&self) -> Answer<HealthView> {
        self.ask(|control, _| control.health_view()).await
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
        let name = name.to_owned();
        self.ask(move |control, _| control.command(&name, input)).await?
    }

    /// What applying a manifest would do.
    pub async fn plan(&self, request: DeployRequest) -> Answer<PlanView> {
        self.ask(move |control, _| control.plan_request(&request)).await?
    }

    /// Applies a manifest.
    pub async fn deploy(&self, request: DeployRequest) -> Answer<DeploymentView> {
        self.ask(move |control, _| control.deploy(&request)).await?
    }

    /// The deployment in force.
    pub async fn deployment(&self) -> Answer<Option<DeploymentView>> {
        self.ask(|control, _| control.deployment_view()).await
    }

    /// Images of the store, and files that were refused.
    pub async fn images(&self) -> Answer<Vec<ImageView>> {
        self.ask(|control, _| control.image_views()).await
    }

    /// Takes in a complete library file (an upload, already on this disk); `name` is the file name a person knows it by.
    pub async fn image_add(&self, file: PathBuf, name: String) -> Answer<ImageView> {
        let store = self.store.clone();
        let (done, wait) = oneshot::channel();
        // Copying and hashing takes its time, which other clients shall not wait for.
        std::thread::Builder::new()
            .name("image-add".to_owned())
            .spawn(move || drop(done.send(store.take_in(&file))))
            .map_err(|error| Refusal::new(RefusalKind::Failed, format!("no thread to take it in: {error}"), "try again"))?;
        let taken = wait.await.map_err(|_| Refusal::ending())?;
        self.ask(move |control, _| control.image_added(name, taken)).await?
    }

    /// Removes an image that nothing uses.
    pub async fn image_remove(&self, reference: &str) -> Answer<ImageView> {
        let reference = reference.to_owned();
        self.ask(move |control, _| control.image_remove(&reference)).await?
    }

    fn snapshot(&self, id: &Identity) -> Answer<Arc<TwinSnapshot>> {
        self.twins.get(id).ok_or_else(|| TwinError::NotFound { identity: id.clone() }.into())
    }

    /// The root document of a twin as the service side sees it.
    pub async fn twin(&self, id: &Identity) -> Answer<Value> {
        let snapshot = self.snapshot(id)?;
        self.root(snapshot).await
    }

    async fn root(&self, snapshot: Arc<TwinSnapshot>) -> Answer<Value> {
        self.ask(move |control, _| snapshot.root(control.is_connected(&snapshot.identity))).await
    }

    /// Merges `{"tags": …, "properties": {"desired": …}}`; answers with the new root document, once it is committed.
    pub async fn twin_patch(&self, id: &Identity, patch: Value, if_match: Option<String>, by: &str) -> Answer<Value> {
        let (done, wait) = oneshot::channel();
        self.twins.patch(id, &patch, by, if_match.as_deref(), move |outcome| drop(done.send(outcome)))?;
        let snapshot = wait.await.map_err(|_| Refusal::ending())??;
        self.root(snapshot).await
    }

    /// Replaces tags and desired properties.
    pub async fn twin_replace(&self, id: &Identity, doc: Value, if_match: Option<String>, by: &str) -> Answer<Value> {
        let (done, wait) = oneshot::channel();
        self.twins.replace(id, &doc, by, if_match.as_deref(), move |outcome| drop(done.send(outcome)))?;
        let snapshot = wait.await.map_err(|_| Refusal::ending())??;
        self.root(snapshot).await
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
        if message.body.len() > MAX_MESSAGE_BYTES {
            let text = format!("the body has {} bytes; a message has at most {MAX_MESSAGE_BYTES}", message.body.len());
            return Err(Refusal::new(RefusalKind::TooLarge, text, "send it in parts"));
        }
        let module = name.to_owned();
        let receiver = self
            .ask(move |control, _| control.status_of(&module).ok_or_else(|| control.unknown_module(&module)))
            .await??;
        let device = self
            .identities
            .device()
            .map_err(|error| Refusal::new(RefusalKind::Failed, error.to_string(), "see the log of the runtime"))?;
        let meta = message.encode_meta();
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

    /// Follows what passes `FROM …`; `None` means everything.
    pub fn tail(&self, route: Option<&str>) -> Answer<Tail> {
        let text = route.unwrap_or("FROM /*");
        let selection = Selection::parse(text).map_err(|error| Refusal {
            kind: RefusalKind::Invalid,
            message: format!("not a route to follow: {error}"),
            hint: error.hint.clone(),
            details: vec![error.render(text)],
        })?;
        let inbox = Arc::<Inbox>::default();
        let arrived = Arc::new(Notify::new());
        let wake = arrived.clone();
        let consumer = inbox.consume_with(Box::new(move || wake.notify_one())).ok_or_else(Refusal::ending)?;
        let (id, queue) = self.listeners.listen(selection, inbox);
        Ok(Tail { id, listeners: self.listeners.clone(), queue, consumer, arrived })
    }

    /// The directory for uploads; on the same file system as the image store.
    pub fn upload_folder(&self) -> PathBuf {
        self.folders.uploads.clone()
    }
}

/// A live view of the messages that pass a route. Never holds up a sender: what the reader is too slow for is left out and
/// counted.
pub struct Tail {
    id: u64,
    listeners: Arc<Listeners>,
    queue: Arc<Queue>,
    consumer: Consumer,
    arrived: Arc<Notify>,
}

/// What [`Tail::next`] gives.
#[derive(Debug)]
pub enum TailItem {
    /// A message that passed.
    Message(Message),
    /// So many were left out, since the reader was too slow.
    Skipped(u64),
}

impl Tail {
    /// The next message; waits for it. `None` when the runtime ends.
    pub async fn next(&mut self) -> Option<TailItem> {
        loop {
            let skipped = self.queue.take_skipped();
            if skipped > 0 {
                return Some(TailItem::Skipped(skipped));
            }
            if let Some(message) = self.take() {
                return Some(TailItem::Message(message));
            }
            if self.consumer.prepare_sleep() {
                self.arrived.notified().await;
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
