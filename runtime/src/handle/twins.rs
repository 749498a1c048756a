//! Twins as the service side reads and changes them, and their past.
//!
//! A change is merged, and checked against the schema of the module's image, on a thread of its own: neither the control loop nor
//! other clients wait for it.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::{Answer, DeployRequest, Handle, Refusal, RefusalKind};
use crate::control::fitting;
use crate::name::Identity;
use crate::spelling::nearest;
use crate::twin::{Change, Facts, Part, Past, PastChange, Schemas, TwinError, TwinSnapshot, Twins};
use crate::view::{PathChangeView, TwinChangeView, TwinHistoryView};

/// How often a change is checked anew, since another one came between check and change.
const MAX_CHECKS: usize = 100;

/// A change of a twin that somebody asks for.
#[derive(Debug, Clone)]
pub struct TwinChange {
    /// What is to become of it.
    pub wish: TwinWish,
    /// The value of `If-Match`.
    pub if_match: Option<String>,
    /// Made although the module's image does not take such desired properties.
    pub is_forced: bool,
    /// Who asks.
    pub by: String,
}

impl TwinChange {
    /// A change on any state, whatever the image says of it: the module itself shall answer.
    pub fn of_any(wish: TwinWish, by: &str) -> TwinChange {
        TwinChange { wish, if_match: None, is_forced: true, by: by.to_owned() }
    }
}

/// What is to become of a twin.
#[derive(Debug, Clone)]
pub enum TwinWish {
    /// Merge this body.
    Patch(Value),
    /// Put this body in place of tags and desired properties.
    Replace(Value),
    /// Put the parts of this body in place of tags and desired properties; one that it lacks stays.
    ReplaceGiven(Value),
    /// Put a part in place that was there at a version.
    Undo {
        /// Which.
        part: TwinPart,
        /// Its `$version`.
        to: u64,
    },
}

/// A part that can be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TwinPart {
    /// Desired properties.
    Desired,
    /// Tags.
    Tags,
}

impl From<TwinPart> for Part {
    fn from(part: TwinPart) -> Part {
        match part {
            TwinPart::Desired => Part::Desired,
            TwinPart::Tags => Part::Tags,
        }
    }
}

impl Handle {
    /// The root document of a twin as the service side sees it.
    pub async fn twin(&self, id: &Identity) -> Answer<Value> {
        match self.twins.get(id) {
            Some(snapshot) => Ok(self.root(&snapshot)),
            None => Err(self.twin_refusal(TwinError::NotFound { identity: id.clone() }).await),
        }
    }

    pub(super) fn root(&self, snapshot: &TwinSnapshot) -> Value {
        snapshot.root_with(&Facts::of(&self.identities, &snapshot.identity))
    }

    /// Changes a twin; answers with the new root document, once it is committed.
    pub async fn change_twin(&self, id: &Identity, change: TwinChange) -> Answer<Value> {
        if let TwinWish::Patch(body) | TwinWish::Replace(body) | TwinWish::ReplaceGiven(body) = &change.wish {
            self.check_secrets(id, body)?;
        }
        if let TwinWish::Undo { part: TwinPart::Desired, to } = &change.wish {
            // What was allowed then may not be allowed any more. What is not kept is refused below.
            let (twins, of, to) = (self.twins.clone(), id.clone(), *to);
            if let Ok(past) = off_the_loop(move || twins.past(&of, Part::Desired, to)).await? {
                self.check_secrets(id, &json!({"properties": {"desired": past.desired}}))?;
            }
        }
        let (done, wait) = oneshot::channel();
        let image = self.image_of(id).await?;
        let (twins, schemas, id) = (self.twins.clone(), self.schemas.clone(), id.clone());
        let submitted = off_the_loop(move || submit(&twins, &schemas, &id, &change, image.as_deref(), done)).await?;
        if let Err(error) = submitted {
            return Err(self.twin_refusal(error).await);
        }
        let snapshot = wait.await.map_err(|_| Refusal::ending())??;
        Ok(self.root(&snapshot))
    }

    /// The changes of desired properties and tags that are kept, newest first; those at `path` only, and `limit` at most.
    pub async fn twin_history(&self, id: &Identity, path: Option<String>, limit: usize) -> Answer<TwinHistoryView> {
        let (twins, of) = (self.twins.clone(), id.clone());
        let read = off_the_loop(move || twins.history(&of)).await?;
        let kept = match read {
            Ok(kept) => kept,
            Err(error) => return Err(self.twin_refusal(error).await),
        };
        let wanted = kept.iter().filter(|change| path.as_ref().is_none_or(|path| change.touches(path)));
        Ok(TwinHistoryView { identity: id.to_string(), changes: wanted.take(limit).map(view).collect() })
    }

    /// Tags and desired properties as they were when the desired properties had a version.
    pub async fn past_twin(&self, id: &Identity, version: u64) -> Answer<Value> {
        let (twins, of) = (self.twins.clone(), id.clone());
        match off_the_loop(move || twins.past(&of, Part::Desired, version)).await? {
            Ok(past) => Ok(past_root(id, past)),
            Err(error) => Err(self.twin_refusal(error).await),
        }
    }

    /// A request with what the modules' images do not take of it.
    pub(super) async fn fitted(&self, request: DeployRequest) -> Answer<DeployRequest> {
        let (request, manifest) = off_the_loop(move || {
            let manifest = fitting::manifest_of(&request);
            (request, manifest)
        })
        .await?;
        let Some(manifest) = manifest else { return Ok(request) };
        let images = request.images.clone();
        let fitting = self.ask(move |control, _| control.fitting(manifest, &images)).await?;
        let (device, twins, schemas) = (self.device_id().to_owned(), self.twins.clone(), self.schemas.clone());
        let unfit = off_the_loop(move || fitting.problems(&device, &twins, &schemas)).await?;
        Ok(DeployRequest { unfit, ..request })
    }

    async fn image_of(&self, id: &Identity) -> Answer<Option<String>> {
        let Some(module) = id.module_id().filter(|_| id.device_id() == self.device_id()).map(str::to_owned) else {
            return Ok(None);
        };
        self.ask(move |control, _| control.image_run_by(&module)).await
    }

    /// For a twin that is not there: who removed it, or the nearest one that is.
    async fn twin_refusal(&self, error: TwinError) -> Refusal {
        let TwinError::NotFound { identity } = &error else { return error.into() };
        let module = identity.module_id().filter(|_| identity.device_id() == self.device_id()).map(str::to_owned);
        let device = self.device_of_that_name(identity);
        let mut refusal = Refusal::from(error);
        let Some(module) = module else { return refusal };
        let twins = self.twins.list();
        let names: Vec<&str> = twins.iter().filter_map(|twin| twin.identity.module_id()).collect();
        let near = nearest(&module, names.iter().copied()).map(str::to_owned);
        let asked = module.clone();
        if let Ok(Some(removal)) = self.ask(move |control, _| control.removal_of(&asked)).await {
            refusal.message += &format!(": {module} was {removal}");
        } else if let Some(hint) = device {
            refusal.hint = Some(hint);
        } else if let Some(near) = near {
            refusal.hint = Some(format!("did you mean '{near}'?"));
        }
        refusal
    }
}

/// Runs what may compute long or wait for a disk.
pub(super) async fn off_the_loop<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Answer<T> {
    let (done, wait) = oneshot::channel();
    // Not of a pool: an idle runtime keeps no threads for it.
    let spawned = std::thread::Builder::new().name("twin-change".to_owned()).spawn(move || drop(done.send(work())));
    spawned.map_err(|error| Refusal::new(RefusalKind::Failed, format!("no thread to do it: {error}"), "try again"))?;
    wait.await.map_err(|_| Refusal::new(RefusalKind::Failed, "it was not done", "see the log of the runtime"))
}

type Done = oneshot::Sender<Result<Arc<TwinSnapshot>, TwinError>>;

fn submit(
    twins: &Twins,
    schemas: &Schemas,
    id: &Identity,
    asked: &TwinChange,
    image: Option<&str>,
    done: Done,
) -> Result<(), TwinError> {
    let by = asked.by.as_str();
    let document;
    let change = match &asked.wish {
        TwinWish::Patch(body) => Change::patch(body, by),
        TwinWish::Replace(body) => Change::replace(body, by),
        TwinWish::ReplaceGiven(body) => Change::replace_given(body, by),
        TwinWish::Undo { part, to } => {
            let past = twins.past(id, (*part).into(), *to)?;
            match part {
                TwinPart::Desired => {
                    document = Value::Object(past.desired);
                    Change::replace_desired(&document, by)
                }
                TwinPart::Tags => {
                    document = Value::Object(past.tags);
                    Change::replace_tags(&document, by)
                }
            }
            .undoing_to(*to)
        }
    };
    let change = change.if_match(asked.if_match.as_deref());
    let schema = image.and_then(|image| schemas.of(image));
    // One that was not made has not used it.
    let done = Arc::new(Mutex::new(Some(done)));
    let submit = |change: &Change<'_>| {
        let done = done.clone();
        twins.change(id, change, move |outcome| {
            let done = done.lock().ok().and_then(|mut done| done.take());
            done.map(|done| done.send(outcome));
        })
    };
    let Some(schema) = schema else { return submit(&change) };
    for _ in 0..MAX_CHECKS {
        // What cannot be made is refused as without a schema.
        let Ok(preview) = twins.preview(id, &change) else { return submit(&change) };
        let Some(desired) = preview.desired() else { return submit(&change) };
        let violations = schema.check(Part::Desired.path(), &desired);
        if !violations.is_empty() && !asked.is_forced {
            return Err(TwinError::Unfit { identity: id.clone(), violations });
        }
        let checked = change.clone().forced(!violations.is_empty()).on(&preview);
        match submit(&checked) {
            Err(TwinError::Moved { .. }) => {}
            outcome => return outcome,
        }
    }
    Err(TwinError::Moved { identity: id.clone() })
}

fn view(change: &PastChange) -> TwinChangeView {
    let path = |change: &crate::twin::PathChange| PathChangeView {
        path: change.path.clone(),
        old: change.old.clone(),
        new: change.new.clone(),
    };
    TwinChangeView {
        section: if change.part == Part::Tags { "tags" } else { "desired" }.to_owned(),
        from_version: change.from_version,
        to_version: change.to_version,
        at_utc: crate::clock::rfc3339(change.at_us),
        by: change.by.clone(),
        action: change.action.clone(),
        forced: change.is_forced,
        changes: change.changes.iter().map(path).collect(),
    }
}

/// In the shape of the root document, without what is not kept of the past.
fn past_root(id: &Identity, past: Past) -> Value {
    let mut desired = past.desired;
    desired.insert("$version".to_owned(), past.desired_version.into());
    let until = past.until_us.map(crate::clock::rfc3339);
    let mut root = json!({"deviceId": id.device_id()});
    if let Some(module) = id.module_id() {
        root["moduleId"] = module.into();
    }
    root["asOf"] = json!({"desiredVersion": past.desired_version, "tagsVersion": past.tags_version, "until": until});
    root["tags"] = Value::Object(past.tags);
    root["properties"] = json!({"desired": desired});
    root
}
