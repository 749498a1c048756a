//! Instances that a person adds and removes.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::Value;

use tokio::sync::oneshot;

use super::twins::off_the_loop;
use super::{Answer, Handle, Refusal, RefusalKind};
use crate::clock;
use crate::control::{Purge, discard};
use crate::instance::spec::InstanceSpec;
use crate::name::Identity;
use crate::twin::patch::merge;
use crate::twin::{Part, TwinError};
use crate::view::{AddRequest, LossView, ModuleDetail, RemovedView};

/// Beyond its stop grace, until an instance that is given up has gone.
const REMOVAL_MARGIN: std::time::Duration = std::time::Duration::from_secs(5);

impl Handle {
    /// One instance, with what is known of it on disk too.
    pub async fn module_in_full(&self, name: &str) -> Answer<ModuleDetail> {
        let mut detail = self.module(name).await?;
        let (sender, prefix) = (detail.module.identity.clone(), self.services.ingest.endpoints_of(name));
        match self.services.disk.toll(&sender, &prefix) {
            Ok((parked, losses)) => {
                detail.parked = parked;
                let way = |is_sender: bool| if is_sender { "sent" } else { "to" }.to_owned();
                detail.losses =
                    losses.into_iter().map(|(own, reason, count)| LossView { way: way(own), reason, count }).collect();
            }
            Err(error) => detail.notes.push(format!("what it has lost cannot be read: {error}")),
        }
        Ok(detail)
    }

    /// Adds an instance without a manifest; it is stored when this returns.
    pub async fn add(&self, request: AddRequest, by: &str) -> Answer<ModuleDetail> {
        self.check_fit(&request).await?;
        let (by, name) = (by.to_owned(), request.name.clone());
        let added = self.ask(move |control, _| control.add_instance(request, &by)).await??;
        self.committed().await?;
        // What it has come to meanwhile says more.
        Ok(self.module(&name).await.unwrap_or(added))
    }

    /// Refuses desired properties that the image, where it is here, does not take.
    async fn check_fit(&self, request: &AddRequest) -> Answer<()> {
        let Some(desired) = request.desired.clone().filter(|desired| !desired.is_empty() && !request.force) else {
            return Ok(());
        };
        // A bad name or image is told with all else that is wrong.
        let Ok(identity) = Identity::module(self.device_id(), &request.name) else { return Ok(()) };
        let spec = InstanceSpec::new(&request.name, &request.image);
        let Some(image) = self.ask(move |control, _| control.image_for(&spec, &BTreeMap::new())).await? else {
            return Ok(());
        };
        let (twins, schemas) = (self.twins.clone(), self.schemas.clone());
        let check = move || {
            let Some(schema) = schemas.of(&image) else { return Ok(()) };
            let before = twins.get(&identity).map(|twin| twin.section(Part::Desired).parse()).unwrap_or_default();
            let mut after = Value::Object(before);
            merge(&mut after, &Value::Object(desired));
            let violations = match &after {
                Value::Object(after) => schema.check(Part::Desired.path(), after),
                _ => Vec::new(),
            };
            if violations.is_empty() { Ok(()) } else { Err(TwinError::Unfit { identity, violations }) }
        };
        Ok(off_the_loop(check).await??)
    }

    /// Ends an instance for good, and with `purge` discards what it leaves. Returns when its worker is gone or given up.
    pub async fn remove(&self, name: &str, purge: bool, by: &str) -> Answer<RemovedView> {
        let mut changes = self.changes();
        let (of, by) = (name.to_owned(), by.to_owned());
        let removal = self.ask(move |control, _| control.begin_removal(&of, purge, &by)).await??;
        self.committed().await?;
        let until = clock::now() + removal.patience + REMOVAL_MARGIN;
        while !self.has_gone(name).await? {
            let wait = changes.changed();
            if tokio::time::timeout_at(until.into(), wait).await.is_err() {
                let message = format!("{name} is removed, but its worker is not gone yet");
                return Err(Refusal::new(RefusalKind::Timeout, message, format!("dinrail show {name}")));
            }
        }
        let mut view = if purge { self.purge(name).await? } else { self.left_of(name).await? };
        view.kept.extend(self.stored_words(&self.services.ingest.endpoints_of(name), name));
        view.removed = removal.is_instance;
        self.committed().await?;
        Ok(view)
    }

    async fn has_gone(&self, name: &str) -> Answer<bool> {
        let name = name.to_owned();
        self.ask(move |control, _: Instant| control.has_gone(&name)).await
    }

    async fn left_of(&self, name: &str) -> Answer<RemovedView> {
        let name = name.to_owned();
        self.ask(move |control, _| control.removed_view(&name)).await
    }

    async fn purge(&self, name: &str) -> Answer<RemovedView> {
        let name = name.to_owned();
        let Purge { mut view, data } = self.ask(move |control, _| control.purge(&name)).await??;
        let Some(data) = data else { return Ok(view) };
        let (done, wait) = oneshot::channel();
        let folder = data.clone();
        // A folder may be large: nobody else waits for it.
        let started = std::thread::Builder::new().name("purge".to_owned()).spawn(move || {
            let _ = done.send(discard(&folder));
        });
        let outcome = match started {
            Ok(_) => wait.await.map_err(|_| Refusal::ending())?,
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            let next = "it is tried again when the runtime starts";
            view.problems.push(format!("{} cannot be deleted whole: {error}; {next}", data.display()));
        }
        Ok(view)
    }
}
