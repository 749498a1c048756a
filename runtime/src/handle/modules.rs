//! Instances that a person adds and removes.

use std::time::Instant;

use tokio::sync::oneshot;

use super::{Answer, Handle, Refusal, RefusalKind};
use crate::clock;
use crate::control::{Purge, discard};
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
        let (by, name) = (by.to_owned(), request.name.clone());
        let added = self.ask(move |control, _| control.add_instance(request, &by)).await??;
        self.committed().await?;
        // What it has come to meanwhile says more.
        Ok(self.module(&name).await.unwrap_or(added))
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
