//! How the outside talks to the running runtime: every question and command of the management API is a method here.
//!
//! A command becomes an event of the control loop and an answer that can be awaited; reads of twins and images do not disturb
//! the loop.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use crate::message::Message;
use crate::name::Identity;
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

/// Handle of a running runtime.
#[derive(Clone)]
pub struct Handle {}

/// A live view of the messages that pass a route. Never holds up a sender: what the reader is too slow for is left out and
/// counted.
pub struct Tail {}

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
        None
    }
}

type Answer<T> = Result<T, Refusal>;

#[allow(missing_docs, unused_variables, clippy::unused_async)]
impl Handle {
    pub fn device_id(&self) -> &str {
        ""
    }
    /// Changes whenever an instance, image or twin changes: what `wait` waits on.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        unimplemented!()
    }
    pub async fn health(&self) -> Answer<HealthView> {
        unimplemented!()
    }
    pub async fn modules(&self) -> Answer<Vec<ModuleView>> {
        unimplemented!()
    }
    pub async fn module(&self, name: &str) -> Answer<ModuleDetail> {
        unimplemented!()
    }
    /// `by` says who: it is kept with a stop.
    pub async fn start(&self, name: &str, by: &str) -> Answer<()> {
        unimplemented!()
    }
    pub async fn stop(&self, name: &str, by: &str) -> Answer<()> {
        unimplemented!()
    }
    pub async fn restart(&self, name: &str, by: &str) -> Answer<()> {
        unimplemented!()
    }
    pub async fn plan(&self, request: DeployRequest) -> Answer<PlanView> {
        unimplemented!()
    }
    pub async fn deploy(&self, request: DeployRequest) -> Answer<DeploymentView> {
        unimplemented!()
    }
    pub async fn deployment(&self) -> Answer<Option<DeploymentView>> {
        unimplemented!()
    }
    pub async fn images(&self) -> Answer<Vec<ImageView>> {
        unimplemented!()
    }
    /// Takes in a complete library file (an upload, already on this disk); `name` is the file name a person knows it by.
    pub async fn image_add(&self, file: PathBuf, name: String) -> Answer<ImageView> {
        unimplemented!()
    }
    pub async fn image_remove(&self, reference: &str) -> Answer<ImageView> {
        unimplemented!()
    }
    /// The root document of a twin as the service side sees it.
    pub async fn twin(&self, id: &Identity) -> Answer<Value> {
        unimplemented!()
    }
    /// Merges `{"tags": …, "properties": {"desired": …}}`; answers with the new root document.
    pub async fn twin_patch(&self, id: &Identity, patch: Value, if_match: Option<String>, by: &str) -> Answer<Value> {
        unimplemented!()
    }
    /// Replaces tags and desired properties.
    pub async fn twin_replace(&self, id: &Identity, doc: Value, if_match: Option<String>, by: &str) -> Answer<Value> {
        unimplemented!()
    }
    /// Puts a message on a module's input.
    pub async fn send(&self, name: &str, input: &str, message: Message) -> Answer<SendView> {
        unimplemented!()
    }
    /// Follows what passes `FROM …`; `None` means everything.
    pub fn tail(&self, route: Option<&str>) -> Answer<Tail> {
        unimplemented!()
    }
    /// The directory for uploads; on the same file system as the image store.
    pub fn upload_folder(&self) -> PathBuf {
        PathBuf::new()
    }
}
