//! Images as the loop sees them: what arrives in the folders, what a reference means now, and who is upgraded by it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::instances::Entry;
use super::{Control, Event};
use crate::clock;
use crate::database::File;
use crate::database::tables::image::{self as image_table, ImageRow};
use crate::image::{
    self, AbiVersion, Arrival, Digest, FileEvent, ImageRecord, ImageStore, Library, LoadError, Reference, Resolution,
    TakenIn, Verdict,
};
use crate::instance::spec::{InstanceSpec, Origin};
use crate::instance::state::Input;
use crate::instance::worker::LoadLibrary;
use crate::refusal::{Refusal, RefusalKind};
use crate::view::{ImageView, Status};

/// Who found that an image cannot be loaded: what another release finds may differ.
const JUDGE: &str = concat!("dinrail ", env!("CARGO_PKG_VERSION"));

/// Longest that start-up waits for the first look into the watched folders.
const SETTLE: Duration = Duration::from_secs(5);

impl Control {
    pub(crate) fn catalog(&self) -> &crate::image::Catalog {
        &self.catalog
    }

    pub(super) fn settle_deadline(&self) -> Option<Instant> {
        (!self.is_settled).then(|| self.started + SETTLE)
    }

    /// The folders have been looked at: from now on images are chosen.
    pub(super) fn settle(&mut self, now: Instant) {
        if !self.is_settled {
            self.is_settled = true;
            self.give_up_deadly();
            self.begin_turns(now);
        }
    }

    pub(super) fn file_event(&mut self, event: FileEvent) {
        match event {
            FileEvent::Taken { file, autostart, image, .. } => {
                let name = image.inspection.descriptor.name.clone();
                let arrival = self.catalog.arrive(Some(&file), &image, !self.is_settled, clock::wall_us());
                // The instance is stored first: an image that is known already would start none after a power cut in between.
                if autostart && arrival != Arrival::Known {
                    self.autostart(&name, arrival);
                }
                self.keep_arrival(&image, arrival);
                if self.is_settled && arrival != Arrival::Known {
                    self.choose_images();
                    let line = self.explain(&image.inspection.digest);
                    tracing::info!(file = %file.display(), image = name, "{line}");
                }
            }
            FileEvent::Refused { file, refusal, .. } => {
                // A copy that closes the file after each piece is refused for each; it is told once.
                if !self.catalog.is_refused_alike(&file, refusal.defect, clock::wall_us()) {
                    tracing::warn!(file = %file.display(), "not used: {}", refusal.line());
                }
                self.catalog.refuse(&file, refusal, clock::wall_us());
                self.look_again();
            }
            FileEvent::Gone { file, .. } => {
                self.catalog.forget_file(&file);
                self.look_again();
            }
            FileEvent::FolderTrouble { folder, trouble, .. } => {
                tracing::warn!(folder = %folder.display(), "watched folder: {trouble}");
                self.folder_is(&folder, Some(trouble));
            }
            FileEvent::FolderBack { folder } => {
                tracing::info!(folder = %folder.display(), "is watched again");
                self.folder_is(&folder, None);
            }
            FileEvent::FirstScanDone => self.settle(clock::now()),
        }
        self.changed();
    }

    fn folder_is(&mut self, path: &std::path::Path, trouble: Option<String>) {
        if let Some((_, known)) = self.watched.iter_mut().find(|(folder, _)| folder.path == path) {
            *known = trouble;
        }
    }

    /// Enters an image into the catalog and the database.
    pub(super) fn image_arrived(&mut self, file: Option<&std::path::Path>, taken: &TakenIn) -> Arrival {
        let arrival = self.catalog.arrive(file, taken, !self.is_settled, clock::wall_us());
        self.keep_arrival(taken, arrival);
        arrival
    }

    fn keep_arrival(&self, taken: &TakenIn, arrival: Arrival) {
        if arrival != Arrival::Known {
            let digest = taken.inspection.digest;
            if let Some(row) = self.catalog.get(&digest).map(row) {
                self.database.submit_now(
                    File::Main,
                    Box::new(move |tx| image_table::arrive(tx, &row).map(drop)),
                    Box::new(|outcome| {
                        if let Err(error) = outcome {
                            tracing::error!("an image could not be entered into the store: {error}");
                        }
                    }),
                );
            }
        }
    }

    /// A new image in a folder with autostart gets one instance, unless something asks for it already.
    ///
    /// One that a person removed stays away until there are bytes that were not there before.
    fn autostart(&mut self, name: &str, arrival: Arrival) {
        let is_asked_for = self.instances.values().any(|entry| {
            entry.spec.name == name
                || entry.spec.image.parse::<Reference>().is_ok_and(|reference| reference.name() == Some(name))
        });
        if is_asked_for || self.left_behind.contains(name) {
            return;
        }
        if arrival != Arrival::New && self.removed.contains_key(name) {
            return;
        }
        self.forget_removal(name);
        tracing::info!(module = name, "added: its image was dropped");
        self.add(InstanceSpec::new(name, name), Origin::Drop, None, None);
        self.keep(&[name.to_owned()]);
    }

    /// Lets every instance look for its image: a new one may start it, or upgrade it.
    pub(super) fn choose_images(&mut self) {
        let mut names: Vec<(u32, String)> =
            self.instances.values().map(|entry| (entry.spec.startup_order, entry.spec.name.clone())).collect();
        names.sort();
        if let Err(error) = self.make_identities(&names) {
            tracing::error!("identities or twins of instances cannot be made: {error}");
        }
        for (_, name) in names {
            if let Some(input) = self.choose_image(&name) {
                self.apply(&name, input);
            }
        }
    }

    /// Lets those that wait for an image say anew what for: a refused file may be the one.
    fn look_again(&mut self) {
        let is_waiting = |entry: &&Entry| entry.life.status() == Status::Waiting;
        let names: Vec<String> = self.instances.values().filter(is_waiting).map(|e| e.spec.name.clone()).collect();
        for name in names {
            if let Some(input) = self.choose_image(&name) {
                self.apply(&name, input);
            }
        }
    }

    /// Uses an image no more until it is tried again: by a person's start, another copy of it, or another release of the runtime.
    pub(super) fn quarantine(&mut self, digest: Digest, reason: &str) {
        let source = self.catalog.get(&digest).and_then(|image| image.source.clone()).unwrap_or_default();
        tracing::warn!(file = %source.display(), image = %digest, "not used: {reason}");
        self.catalog.judge(&digest, Verdict::Quarantined { reason: reason.to_owned() });
        self.keep_verdict(digest, "quarantined", reason);
        self.changed();
    }

    /// Lifts the quarantine of the image that an instance asks for: a person wants it tried again.
    pub(super) fn try_again(&mut self, name: &str) {
        let Some(entry) = self.instances.get(name) else { return };
        // One that was quarantined before this start has not been chosen by anybody.
        let chosen = entry.life.digest.as_ref().and_then(|digest| digest.parse().ok());
        let reference = entry.spec.image.parse::<Reference>().ok();
        let best = || Some(self.catalog.matching(&reference?).first()?.digest);
        let Some(digest) = chosen.or_else(best) else { return };
        self.catalog.judge(&digest, Verdict::Admitted);
        self.keep_verdict(digest, "admitted", "");
    }

    fn keep_verdict(&self, digest: Digest, verdict: &'static str, reason: &str) {
        let (digest, reason) = (digest.to_string(), reason.to_owned());
        self.database.submit_now(
            File::Main,
            Box::new(move |tx| image_table::judge(tx, &digest, verdict, &reason, JUDGE)),
            Box::new(|outcome| {
                if let Err(error) = outcome {
                    tracing::error!("the verdict on an image could not be stored: {error}");
                }
            }),
        );
    }

    /// Makes what is missing in one commit; each instance would do it for itself otherwise.
    fn make_identities(&self, names: &[(u32, String)]) -> Result<(), String> {
        let names: Vec<&str> = names.iter().map(|(_, name)| name.as_str()).collect();
        self.identities.ensure_many(&names).map(drop).map_err(|error| error.to_string())
    }

    /// Enters an uploaded image; `name` is the file that a person knows it by.
    pub(crate) fn image_added(
        &mut self,
        name: String,
        taken: Result<TakenIn, image::Refusal>,
        is_for_deployment: bool,
    ) -> Result<ImageView, Refusal> {
        let file = std::path::PathBuf::from(&name);
        let taken = match taken {
            Ok(taken) => taken,
            Err(refusal) => {
                self.catalog.refuse(&file, refusal.clone(), clock::wall_us());
                self.changed();
                return Err(Refusal {
                    kind: RefusalKind::Invalid,
                    message: format!("{name} is not used: {}", refusal.what),
                    hint: Some(refusal.hint),
                    details: Vec::new(),
                });
            }
        };
        self.image_arrived(Some(&file), &taken);
        if !is_for_deployment {
            self.choose_images();
        }
        self.changed();
        let digest = taken.inspection.digest.to_string();
        let view = self.image_views().into_iter().find(|view| view.digest.as_ref() == Some(&digest));
        view.ok_or_else(|| Refusal {
            kind: RefusalKind::Failed,
            message: format!("{name} was taken in and is gone again"),
            hint: None,
            details: Vec::new(),
        })
    }

    /// Removes an image that nothing uses, from catalog, database and disk; or forgets that an upload of this file name was refused.
    pub(crate) fn image_remove(&mut self, text: &str) -> Result<ImageView, Refusal> {
        let refuse = |kind, message: String, hint: &str| Refusal {
            kind,
            message,
            hint: Some(hint.to_owned()),
            details: Vec::new(),
        };
        if let Some(forgotten) = self.catalog.forget_upload(text) {
            self.changed();
            return Ok(forgotten);
        }
        let digest = match text.parse::<Digest>() {
            Ok(digest) => digest,
            Err(_) => {
                let reference: Reference = text.parse().map_err(|error| {
                    refuse(RefusalKind::Invalid, format!("{error}"), "dinrail image list shows them")
                })?;
                match self.catalog.matching(&reference).first() {
                    Some(record) => record.digest,
                    None => {
                        let message = format!("there is no image '{text}'");
                        return Err(refuse(RefusalKind::NotFound, message, "dinrail image list shows them"));
                    }
                }
            }
        };
        let users = self.users(&digest);
        if !users.is_empty() {
            let message = format!("{text} is used by {}", users.join(", "));
            return Err(refuse(RefusalKind::Conflict, message, "deploy them with another image first"));
        }
        let of_digest = digest.to_string();
        if let Some(good) = self.way_back_through(&of_digest) {
            let message =
                format!("{text} is what deployment {good} ran, which is put in force again if the present one fails");
            return Err(refuse(
                RefusalKind::Conflict,
                message,
                "wait until the deployment is applied: dinrail deployment",
            ));
        }
        let view = self.image_views().into_iter().find(|view| view.digest.as_ref() == Some(&of_digest));
        let Some(view) = view else {
            return Err(refuse(
                RefusalKind::NotFound,
                format!("there is no image '{text}'"),
                "dinrail image list shows them",
            ));
        };
        self.store.remove(&digest).map_err(|error| {
            refuse(RefusalKind::Failed, error.to_string(), "see that the state directory is writable")
        })?;
        self.catalog.remove(&digest);
        self.database.submit_now(
            File::Main,
            Box::new(move |tx| image_table::delete(tx, &of_digest)),
            Box::new(|outcome| {
                if let Err(error) = outcome {
                    tracing::error!("a removed image could not be removed from the database: {error}");
                }
            }),
        );
        self.changed();
        Ok(view)
    }

    pub(super) fn resolve(&self, entry: &Entry) -> Input {
        let image = &entry.spec.image;
        if let Some(digest) = self.deployment.as_ref().and_then(|deployment| deployment.image(image)) {
            return match digest.parse::<Digest>().ok().and_then(|digest| self.catalog.get(&digest)) {
                Some(ImageRecord { verdict: Verdict::Quarantined { reason }, .. }) => {
                    Input::ImageQuarantined { reason: reason.clone() }
                }
                Some(_) => Input::ImageChosen { digest: digest.to_owned() },
                None => Input::ImageMissing {
                    reason: format!(
                        "the image {image}, deployed as {digest}, is not in the store any more: deploy again"
                    ),
                },
            };
        }
        let reference: Reference = match image.parse() {
            Ok(reference) => reference,
            Err(error) => {
                return Input::ImageMissing { reason: format!("'{image}' is not an image reference: {error}") };
            }
        };
        match self.catalog.resolve(&reference, entry.first_found, &self.barred_digests(&entry.spec.name)) {
            Resolution::Found(digest) => Input::ImageChosen { digest: digest.to_string() },
            Resolution::NotFound { reason } => Input::ImageMissing { reason: self.with_refused(&reference, reason) },
            Resolution::Quarantined { reason, .. } => Input::ImageQuarantined { reason },
            Resolution::Barred(digest) => {
                let hint = format!("dinrail start {} allows it again", entry.spec.name);
                Input::ImageMissing { reason: format!("{digest} failed here before and is barred; {hint}") }
            }
        }
    }

    /// Adds to "not found" what was refused under a like name: that is most often the cause.
    fn with_refused(&self, reference: &Reference, reason: String) -> String {
        let Some(name) = reference.name() else { return reason };
        let stem = name.replace('-', "_");
        let refused = self.catalog.refused().find(|refused| {
            let file = refused.file.file_stem().unwrap_or_default().to_string_lossy();
            file.trim_start_matches("lib").replace('-', "_") == stem
        });
        match refused {
            Some(refused) => format!("{} was not used: {}", refused.file.display(), refused.refusal.line()),
            None => reason,
        }
    }

    /// One line about an image: who uses it, or why nobody does.
    pub(super) fn explain(&self, digest: &Digest) -> String {
        self.catalog.explain(digest, &self.users(digest), |name| self.removal_of(name))
    }

    /// Names of the instances that use an image.
    pub(super) fn users(&self, digest: &Digest) -> Vec<String> {
        let digest = digest.to_string();
        let uses = |entry: &&Entry| entry.life.digest.as_ref() == Some(&digest);
        self.instances.values().filter(uses).map(|entry| entry.spec.name.clone()).collect()
    }

    pub(super) fn image_described(&mut self, digest: &Digest, schema: Option<String>, defaults: Option<String>) {
        self.described.insert(*digest);
        let Some(record) = self.catalog.get(digest) else { return };
        let row = ImageRow { schema, defaults, ..row(record) };
        self.database.submit_now(
            File::Main,
            Box::new(move |tx| image_table::upsert(tx, &row)),
            Box::new(|outcome| {
                if let Err(error) = outcome {
                    tracing::warn!("the schema of an image could not be stored: {error}");
                }
            }),
        );
    }
}

fn row(record: &ImageRecord) -> ImageRow {
    let (verdict, reason) = match &record.verdict {
        Verdict::Admitted => ("admitted", String::new()),
        Verdict::Quarantined { reason } => ("quarantined", reason.clone()),
    };
    ImageRow {
        arrival: i64::try_from(record.order).unwrap_or(i64::MAX),
        digest: record.digest.to_string(),
        name: record.descriptor.name.clone(),
        version: record.descriptor.version.to_string(),
        descriptor: serde_json::to_string(&record.descriptor).unwrap_or_default(),
        source: record.source.as_ref().map(|source| source.to_string_lossy().into_owned()),
        bytes: record.bytes,
        arrived_us: record.arrived_us,
        verdict: verdict.to_owned(),
        reason,
        abi: match record.verdict {
            Verdict::Admitted => AbiVersion::RUNTIME.to_string(),
            Verdict::Quarantined { .. } => JUDGE.to_owned(),
        },
        schema: None,
        defaults: None,
    }
}

/// Reads a row back; `None` for one that another release wrote in a way this one does not know.
pub(super) fn record(row: &ImageRow) -> Option<ImageRecord> {
    Some(ImageRecord {
        digest: row.digest.parse().ok()?,
        descriptor: serde_json::from_str(&row.descriptor).ok()?,
        order: u64::try_from(row.arrival).ok()?,
        arrived_us: row.arrived_us,
        verdict: match row.verdict.as_str() {
            // Another release may be able to load it.
            "quarantined" if row.abi == JUDGE => Verdict::Quarantined { reason: row.reason.clone() },
            _ => Verdict::Admitted,
        },
        source: row.source.as_ref().map(Into::into),
        bytes: row.bytes,
    })
}

/// Loads an image on the worker's thread, and asks it for schema and defaults if nobody has yet.
pub(super) fn loader(store: Arc<ImageStore>, digest: Digest, ask: bool, events: Sender<Event>) -> LoadLibrary {
    Box::new(move || {
        let library = Library::load(&store, &digest).map_err(|error| {
            let reason = error.to_string();
            // Trouble of the store may pass; these bytes stay as they are.
            if !matches!(error, LoadError::Store(_)) {
                let _ = events.send(Event::LoadFailed { digest, reason: reason.clone() });
            }
            reason
        })?;
        if ask {
            let _ = events.send(Event::Described {
                digest,
                schema: described(&digest, "schema", library.schema()),
                defaults: described(&digest, "defaults", library.defaults()),
            });
        }
        Ok(library)
    })
}

/// An image that does not describe itself well runs all the same.
fn described(digest: &Digest, what: &str, answer: Result<Option<String>, image::DescribeError>) -> Option<String> {
    answer.unwrap_or_else(|error| {
        tracing::warn!(image = %digest, "no {what} of its desired properties: {error}");
        None
    })
}
