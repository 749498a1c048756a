//! Instances that a person ends for good, and what is left of them: identity and twin, messages, a data folder.
//!
//! That an instance is removed is stored before its worker is asked to stop, so that no power cut brings it back. What it left
//! is only touched by a purge, once its worker is gone.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Control;
use super::instances::origin_word;
use crate::clock;
use crate::database::File;
use crate::database::tables::instance as instance_table;
use crate::database::tables::removed::{self as removed_table, RemovedRow};
use crate::instance::spec::Origin;
use crate::instance::state::Input;
use crate::name::{Identity, folder_name};
use crate::queue::losses::PURGED;
use crate::refusal::{Refusal, RefusalKind};
use crate::view::RemovedView;

/// A removal that has begun.
#[derive(Debug, Clone, Copy)]
pub struct Removal {
    /// There is an instance that is being ended.
    pub is_instance: bool,
    /// Its worker is gone, or given up, within this time.
    pub patience: Duration,
}

/// What a purge has done so far.
#[derive(Debug)]
pub struct Purge {
    /// For the client.
    pub view: RemovedView,
    /// The data folder, set aside: to be deleted by whoever may take the time for it.
    pub data: Option<PathBuf>,
}

impl Control {
    /// Ends an instance for good; its worker may take until its stop grace is over. `by` says who.
    pub(crate) fn begin_removal(&mut self, name: &str, purge: bool, by: &str) -> Result<Removal, Refusal> {
        if self.shutdown.is_some() {
            return Err(Refusal::ending());
        }
        let Some(entry) = self.instances.get(name) else { return self.only_left(name, purge) };
        let patience = entry.spec.options.stop_grace;
        if self.is_deployed(name) {
            return Err(Refusal::new(
                RefusalKind::Conflict,
                format!("{name} belongs to the deployment in force, which would bring it back"),
                format!("deploy a manifest without it; or `dinrail stop {name}`, which holds until a start"),
            ));
        }
        if entry.is_leaving() {
            return Ok(Removal { is_instance: true, patience });
        }
        let row = RemovedRow {
            name: name.to_owned(),
            by: by.to_owned(),
            at_us: clock::wall_us(),
            origin: origin_word(entry.origin).to_owned(),
            spec: serde_json::to_string(&entry.spec).unwrap_or_default(),
        };
        // Only what a file might start again has to be remembered.
        let is_remembered = entry.origin == Origin::Drop || self.catalog.has_name(name);
        if is_remembered {
            self.removed.insert(name.to_owned(), row.clone());
        }
        tracing::info!(module = name, "removed by {by}");
        self.database.submit_now(
            File::Main,
            Box::new(move |tx| {
                if is_remembered {
                    removed_table::upsert(tx, &row)?;
                }
                instance_table::delete(tx, &row.name)
            }),
            Box::new(|outcome| {
                if let Err(error) = outcome {
                    tracing::error!("that an instance was removed could not be stored: {error}");
                }
            }),
        );
        self.apply(name, Input::RemoveRequested);
        Ok(Removal { is_instance: true, patience })
    }

    /// Whether the deployment in force would bring an instance back.
    pub(crate) fn is_deployed(&self, name: &str) -> bool {
        let is_of_deployment = |entry: &super::instances::Entry| entry.origin == Origin::Deployment;
        self.instances.get(name).is_some_and(is_of_deployment)
            || self.deployment.as_ref().is_some_and(|deployment| deployment.names(name))
    }

    /// There is no such instance: what an earlier one left can be purged.
    fn only_left(&self, name: &str, purge: bool) -> Result<Removal, Refusal> {
        let left = self.left_of(name);
        match (left.is_empty(), purge) {
            (false, true) => Ok(Removal { is_instance: false, patience: Duration::ZERO }),
            (true, _) => Err(self.unknown_module(name)),
            (false, false) => Err(Refusal {
                details: left,
                ..Refusal::new(
                    RefusalKind::NotFound,
                    format!("there is no module '{name}' any more, only what it left"),
                    format!("dinrail remove {name} --purge discards that"),
                )
            }),
        }
    }

    /// Whether an instance that is being removed is gone.
    pub(crate) fn has_gone(&self, name: &str) -> bool {
        self.instances.get(name).is_none_or(|entry| !entry.is_leaving())
    }

    /// What there still is of an instance that was removed.
    pub(crate) fn removed_view(&self, name: &str) -> RemovedView {
        let mut view = RemovedView { name: name.to_owned(), kept: self.left_of(name), ..RemovedView::default() };
        self.tell_left_behind(name, &mut view);
        view
    }

    fn tell_left_behind(&self, name: &str, view: &mut RemovedView) {
        if self.left_behind.contains(name) {
            view.problems.push(
                "its thread never returned and is left behind, fenced, until the runtime ends; restart the runtime to use \
                 the name again"
                    .to_owned(),
            );
        }
    }

    /// Discards what an instance left.
    pub(crate) fn purge(&mut self, name: &str) -> Result<Purge, Refusal> {
        if self.instances.contains_key(name) {
            let message = format!("there is a module '{name}' again; nothing of it was discarded");
            return Err(Refusal::new(RefusalKind::Conflict, message, format!("dinrail remove {name} --purge")));
        }
        let mut view = RemovedView { name: name.to_owned(), purged: true, ..RemovedView::default() };
        self.tell_left_behind(name, &mut view);
        let mut messages = self.services.ingest.discard(name, PURGED);
        match self.services.disk.purge(&self.services.ingest.endpoints_of(name), PURGED) {
            Ok(purged) => {
                messages += purged.messages + purged.parked;
                self.services.ingest.losses().ledger_grew();
                self.services.ingest.look_again(name, &self.services.disk);
            }
            Err(error) => view.problems.push(format!("its messages on disk cannot be removed: {error}")),
        }
        self.keep_losses();
        if messages > 0 {
            view.discarded.push(format!("{} (see `dinrail losses`)", counted(messages)));
        }
        let (held, _) = self.services.ingest.waiting(name);
        if held > 0 {
            view.problems.push(format!("{} came since, or are in the hands of its thread", counted(held)));
        }
        if let Ok(identity) = Identity::module(self.identities.device_id(), name) {
            match self.identities.remove(&identity, None) {
                Ok(removed) if !removed.is_empty() => {
                    self.twins.forget(&identity);
                    view.discarded.push("its identity and twin".to_owned());
                }
                Ok(_) => {}
                Err(error) => view.problems.push(format!("its identity and twin cannot be removed: {error}")),
            }
        }
        let data = self.set_data_aside(name, &mut view);
        if self.services.logs.has(name) {
            view.discarded.push("its log".to_owned());
        }
        // Also the lines that are still on their way to a file.
        self.services.logs.forget(name);
        // In the log of the runtime: its own is gone.
        tracing::info!("{name} is purged: {}", view.discarded.join(", "));
        self.changed();
        Ok(Purge { view, data })
    }

    /// Moves the data folder out of the way, so that a new instance of the name never finds half of it.
    fn set_data_aside(&self, name: &str, view: &mut RemovedView) -> Option<PathBuf> {
        let folder = self.folders.data.join(folder_name(name));
        if !folder.exists() {
            return None;
        }
        let aside = self.folders.uploads.join(format!("purged-{}-{}", folder_name(name), clock::wall_us()));
        match std::fs::rename(&folder, &aside) {
            Ok(()) => {
                view.discarded.push(format!("its data folder {}", folder.display()));
                Some(aside)
            }
            Err(error) => {
                view.problems.push(format!("its data folder {} cannot be removed: {error}", folder.display()));
                None
            }
        }
    }

    /// What there is of a name that has no instance, each in words.
    fn left_of(&self, name: &str) -> Vec<String> {
        let mut left = Vec::new();
        let identity = Identity::module(self.identities.device_id(), name).ok();
        if let Some(identity) = identity.filter(|identity| self.identities.get(identity).is_some()) {
            left.push(format!("its identity {identity} and twin"));
        }
        let (messages, _) = self.services.ingest.waiting(name);
        if messages > 0 {
            let wait = if messages == 1 { "waits" } else { "wait" };
            left.push(format!("{} that {wait}", counted(messages)));
        }
        let folder = self.folders.data.join(folder_name(name));
        if crate::name::check_id(name).is_ok() && folder.exists() {
            left.push(format!("its data folder {}", folder.display()));
        }
        if self.services.logs.has(name) {
            left.push("its log".to_owned());
        }
        left
    }

    /// The line about an image whose instance was removed, for `image list`.
    pub(crate) fn removal_of(&self, name: &str) -> Option<String> {
        let row = self.removed.get(name).filter(|_| !self.instances.contains_key(name))?;
        let at = clock::rfc3339(row.at_us);
        Some(format!("removed by {} at {at}; not started again before `dinrail start {name}`", row.by))
    }
}

fn counted(messages: u64) -> String {
    if messages == 1 { "1 message".to_owned() } else { format!("{messages} messages") }
}

/// Removes what interrupted uploads and purges have left, without making the start wait for it.
pub(super) fn sweep(uploads: &Path) {
    let entries: Vec<PathBuf> =
        std::fs::read_dir(uploads).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    if entries.is_empty() {
        return;
    }
    let sweep = move || entries.iter().for_each(|entry| discard(entry).unwrap_or_default());
    let _ = std::thread::Builder::new().name("sweep".to_owned()).spawn(sweep);
}

/// Deletes a file or a whole folder.
pub(crate) fn discard(path: &Path) -> std::io::Result<()> {
    if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }
}
