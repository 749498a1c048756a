//! The start of the loop: opens what the state directory holds, takes up the deployment in force, and applies a manifest that
//! is new. Needs no network, and no image that is not in the store already.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::edge_agent::{self, Agent};
use super::own_messages::OwnMessages;
use super::switchboard::Switchboard;
use super::{Control, Directory, Event, Listeners};
use crate::clock;
use crate::config::Config;
use crate::database::tables::loss::{self, LossRow};
use crate::database::tables::queue;
use crate::database::tables::{barred, deployment, image, instance, removed, route, setting};
use crate::database::{Database, DatabaseError, File, Job, StoreError, disk_space};
use crate::deployment::{DeployRequest, Manifest};
use crate::identity::{self, Identities, IdentityError};
use crate::image::{Catalog, Digest, ImageStore, Reference};
use crate::instance::link::{Control as Tell, Link};
use crate::instance::services::Services;
use crate::instance::spec::{DeviceTwin, InstanceSpec};
use crate::instance::state::Hold;
use crate::log::Logs;
use crate::name::{EDGE_HUB, Identity};
use crate::queue::LaneLimits;
use crate::queue::budget::Limits;
use crate::queue::disk::Disk;
use crate::queue::ingest::Ingest;
use crate::queue::losses::{Loss, RUNTIME_DIED};
use crate::queue::sequences::Book;
use crate::queue::store_clock::StoreClock;
use crate::refusal::Refusal;
use crate::secret::Secrets;
use crate::state_folder::Folders;
use crate::twin::{Schemas, Twins};

/// Why the loop cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// A database cannot be opened.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A database cannot be read or written.
    #[error("the databases in the state directory cannot be used")]
    Store(#[from] StoreError),
    /// The device id is not acceptable.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The image store cannot be opened.
    #[error(transparent)]
    Images(#[from] crate::image::StoreError),
    /// The manifest that was given cannot be read.
    #[error("the manifest {} cannot be read", file.display())]
    Manifest {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The manifest that was given is refused.
    #[error("{0}")]
    Refused(Refusal),
}

impl BootError {
    /// The next step.
    pub fn hint(&self) -> String {
        match self {
            BootError::Database(error) => error.hint(),
            BootError::Store(error) => error.hint().unwrap_or("see the log above").to_owned(),
            BootError::Identity(error) => error.hint().unwrap_or_else(|| "see the log above".to_owned()),
            BootError::Images(_) => "see that the state directory is writable".to_owned(),
            BootError::Manifest { .. } => {
                "give the path of a deployment manifest, or leave it out to go on with the one in force".to_owned()
            }
            BootError::Refused(refusal) => refusal.hint.clone().unwrap_or_default(),
        }
    }
}

impl BootError {
    /// A change of the start that found no room: with how much is free. Unlike one while it runs, it is not tried again.
    pub(crate) fn on_full_disk(self, state: &Path) -> BootError {
        match self {
            BootError::Store(StoreError::Full(file))
            | BootError::Identity(IdentityError::Store(StoreError::Full(file))) => {
                DatabaseError::full(&state.join(file.name())).into()
            }
            other => other,
        }
    }
}

/// The loop, ready to run, and what others share with it.
pub struct Booted {
    /// The loop.
    pub control: Control,
    /// What it is to be run with.
    pub inbox: Receiver<Event>,
    /// The way to tell it something.
    pub events: Sender<Event>,
    /// What others share with it.
    pub parts: Parts,
}

/// What the loop shares with those who only read, or have a thread of their own.
pub struct Parts {
    /// Databases.
    pub database: Database,
    /// Identities.
    pub identities: Identities,
    /// Twins.
    pub twins: Twins,
    /// What instances can reach.
    pub services: Arc<Services>,
    /// Routes in force, and who listens in.
    pub listeners: Arc<Listeners>,
    /// Direct methods.
    pub switchboard: Arc<Switchboard>,
    /// What images say that their desired properties are like.
    pub schemas: Schemas,
    /// Image store.
    pub store: Arc<ImageStore>,
    /// Counts changes of anything that a client may wait for.
    pub changes: Arc<tokio::sync::watch::Sender<u64>>,
}

/// What the command line says of the device.
#[derive(Debug, Clone, Copy, Default)]
pub struct Device<'a> {
    /// Its id, at the first start.
    pub id: Option<&'a str>,
    /// Its key is to be made anew, because the one it had is lost or known to others.
    pub has_new_key: bool,
}

/// Opens everything and takes up where the last run ended.
pub fn boot(
    folders: &Folders,
    config: Config,
    device: Device<'_>,
    manifest: Option<&Path>,
    logs: Logs,
) -> Result<Booted, BootError> {
    let database = Database::open(&folders.state)?;
    let mut notes = database.notes().to_vec();
    let host_name = gethostname::gethostname().to_string_lossy().into_owned();
    let (master, key_notes) = identity::device_key(&database, &folders.state, device.has_new_key)?;
    let (identities, identity_notes) = Identities::open(&database, master, device.id, &host_name)?;
    notes.extend(key_notes.into_iter().chain(identity_notes));
    notes.iter().for_each(|note| tracing::warn!("{note}"));
    edge_agent::ensure_identities(&identities)?;
    let twins = Twins::open_with(&database, &identities, config.twin.history)?;
    let (secrets, secret_notes) = Secrets::open(&database, identities.master())?;
    secret_notes.iter().for_each(|note| tracing::error!("{note}: dinrail secret list"));
    notes.extend(secret_notes);
    let store = Arc::new(ImageStore::open(&folders.state.join("images"))?);
    let (book, left) =
        Book::open(&database, &folders.state, &format!("/devices/{}/modules/{EDGE_HUB}", identities.device_id()))?;
    let limits = LaneLimits { messages: config.queue.lane_messages as u64, bytes: config.queue.lane_bytes as u64 };
    let ingest = Arc::new(Ingest::new(identities.device_id(), book, limits));
    notes.extend(unclean_note(&left));
    let share = || super::budgets::share_of_disk(disk_space(&folders.state).map(|(_, size)| size));
    // Those of the deployment in force follow when it is taken up.
    let limits = Limits { total: config.queue.store_bytes.unwrap_or_else(share), ..Limits::default() };
    let disk = Arc::new(Disk::open(database.clone(), limits, store_clock(&database)?)?);
    ingest.connect(&disk)?;
    let directory = Arc::<Directory>::default();
    let (changes, _) = tokio::sync::watch::channel(0);
    let changes = Arc::new(changes);
    let (events, inbox) = unbounded();
    let agent = Agent::new(events.clone(), logs.clone(), identities.device_id());
    let switchboard = Arc::new(Switchboard::new(directory.clone(), identities.clone(), agent));
    let services = Arc::new(Services {
        ingest: ingest.clone(),
        disk,
        twins: twins.clone(),
        identities: identities.clone(),
        secrets: secrets.clone(),
        max_attempts: config.queue.max_attempts,
        completions: Default::default(),
        calls: Default::default(),
        logs,
        call_method: {
            let switchboard = switchboard.clone();
            Box::new(move |target, request| switchboard.call(target, request))
        },
        changed: {
            let changes = changes.clone();
            Box::new(move || changes.send_modify(|count| *count += 1))
        },
    });
    deliver_twin_changes(&twins, &directory, &changes);
    Control::set_module_level(config.log.level as u32);

    let listeners = Arc::new(Listeners::new(ingest.clone()));
    let hub = Identity::module(identities.device_id(), EDGE_HUB).map_err(IdentityError::from)?;
    let own_messages = Arc::new(OwnMessages::new(hub, ingest.clone(), services.disk.clone(), listeners.clone()));
    let (asked, telling) = (own_messages.clone(), own_messages.clone());
    twins.on_reported(
        move || asked.wants_twin_changes(),
        move |identity, patch, version| telling.twin_changed(identity, patch, version),
    );
    let schemas = Schemas::new(&database);
    let parts = Parts {
        database: database.clone(),
        identities: identities.clone(),
        twins: twins.clone(),
        services: services.clone(),
        listeners: listeners.clone(),
        switchboard,
        schemas: schemas.clone(),
        store: store.clone(),
        changes: changes.clone(),
    };
    let rows = database.read(File::Main, image::load_all)?;
    let described = rows.iter().filter(|row| row.schema.is_some() || row.defaults.is_some());
    let described = described.filter_map(|row| row.digest.parse().ok()).collect();
    let mut control = Control {
        config: config.clone(),
        folders: folders.clone(),
        database: database.clone(),
        identities,
        twins,
        store: store.clone(),
        catalog: Catalog::new(rows.iter().filter_map(super::images::record)),
        described,
        services,
        directory,
        listeners,
        instances: Default::default(),
        deployment: None,
        removed: database.read(File::Main, removed::load_all)?.into_iter().map(|row| (row.name.clone(), row)).collect(),
        local_routes: super::local_routes::load(database.read(File::Main, route::load_all)?),
        left_behind: Default::default(),
        last_good: None,
        bars: super::bars::Bars::new(database.read(File::Main, barred::load_all)?),
        turn: None,
        events: events.clone(),
        changes,
        is_settled: false,
        shutdown: None,
        started: clock::now(),
        deadly: None,
        watched: Vec::new(),
        notes,
        random: (clock::wall_us() as u32) | 1,
        ticks: 0,
        own: own_messages.clone(),
        upkeep: edge_agent::Upkeep::new(),
        has_grown: true,
        tidied_at: None,
        looking: super::looking::Looking::new(clock::now()),
    };
    control.identities.hear(super::identities::teller(control.events.clone()));
    let own = control.identities.device()?;
    let runtime = control.identities.of_device(&own).into_iter().map(|record| record.identity.clone());
    for identity in runtime.filter(|id| *id == own || id.is_runtime_of(own.device_id())) {
        control.identities.set_connected(&identity, true, clock::wall_us());
    }
    super::removing::sweep(&folders.uploads);
    control.load_instances()?;
    control.put_local_routes_in_force();
    control.resume(&database.read(File::Main, deployment::load_all)?);
    if let Some(file) = manifest {
        control.apply_argument(file, &schemas)?;
    }
    // Routes are in force by now.
    control.services.ingest.losses().ledger_grew();
    Ok(Booted { control, inbox, events, parts })
}

/// What is said of an image that a manifest names by a path where nothing is.
pub fn missing_image(file: &Path) -> String {
    format!("there is no file {}: paths are relative to the manifest; build the image first", file.display())
}

/// The time by which times to live go, from where the last run ended.
fn store_clock(database: &Database) -> Result<StoreClock, StoreError> {
    let boot = match std::fs::read_to_string("/proc/sys/kernel/random/boot_id") {
        Ok(boot_id) => {
            let now = clock::wall_us();
            Some(database.call(File::Queue, move |tx| queue::open_boot(tx, boot_id.trim(), now))?)
        }
        Err(_) => None,
    };
    StoreClock::open(database, boot)
}

/// What a person should know of an end without a word; `None` where nothing may be missing.
fn unclean_note(left: &[LossRow]) -> Option<String> {
    let is_died = |row: &&LossRow| row.reason == RUNTIME_DIED;
    let outputs = left.iter().filter(is_died).count();
    let count: u64 = left.iter().filter(is_died).map(|row| row.count).sum();
    let note = format!(
        "the last run ended without a word: of {outputs} outputs at most {count} messages that were in memory may be lost; `dinrail losses` has the ranges"
    );
    (outputs > 0).then(|| {
        tracing::error!("{note}");
        note
    })
}

/// Desired changes go straight from the commit to the instance.
fn deliver_twin_changes(twins: &Twins, directory: &Arc<Directory>, changes: &Arc<tokio::sync::watch::Sender<u64>>) {
    let known = directory.clone();
    twins.on_desired(move |identity, change| {
        let Ok(known) = known.read() else { return };
        match identity.module_id() {
            Some(module) => {
                if let Some(link) = known.get(module).cloned() {
                    drop(known);
                    link.tell(Tell::Desired(change.clone()));
                }
            }
            None => {
                let permitted = |link: &&Arc<Link>| link.device_twin != DeviceTwin::None;
                let links: Vec<Arc<Link>> = known.values().filter(permitted).cloned().collect();
                drop(known);
                for link in links {
                    link.tell(Tell::DeviceDesired(change.clone()));
                }
            }
        }
    });
    let changes = changes.clone();
    twins.on_change(move |_| changes.send_modify(|count| *count += 1));
}

/// Adds losses to the ledger on disk, and makes `also` in the same change; what cannot be stored is counted on in memory.
pub(super) fn store_losses(database: &Database, ingest: &Arc<Ingest>, losses: Vec<Loss>, mut also: Option<Job>) {
    let rows: Vec<LossRow> = losses.iter().map(Loss::row).collect();
    let ingest = ingest.clone();
    database.submit_now(
        File::Queue,
        Box::new(move |tx| {
            loss::add(tx, &rows, clock::wall_us())?;
            also.as_mut().map_or(Ok(()), |also| also(tx))
        }),
        Box::new(move |outcome| match outcome {
            Ok(()) => ingest.losses().ledger_grew(),
            Err(error) if losses.is_empty() => tracing::debug!("how far messages are settled is not stored: {error}"),
            Err(error) => {
                tracing::error!("counted losses could not be stored: {error}");
                ingest.losses().put_back(losses);
            }
        }),
    );
}

impl Control {
    /// Brings back the instances that were wanted, each with the image it had and a person's stop.
    fn load_instances(&mut self) -> Result<(), BootError> {
        for row in self.database.read(File::Main, instance::load_all)? {
            let mut spec: InstanceSpec = match serde_json::from_str(&row.spec) {
                Ok(spec) => spec,
                Err(error) => {
                    tracing::error!(module = row.name, "its stored form cannot be read ({error}); defaults are used");
                    InstanceSpec::new(&row.name, &row.image)
                }
            };
            spec.name.clone_from(&row.name);
            let origin = super::instances::origin_of(&row.origin);
            let hold = row.stopped_by.map(|by| Hold { by, at_us: row.stopped_us.unwrap_or_default() });
            let is_fixed = spec.image.parse::<Reference>().is_ok_and(|reference| !reference.is_moving());
            let first_found = row.digest.as_ref().filter(|_| is_fixed).and_then(|digest| digest.parse().ok());
            self.add(spec, origin, hold, first_found);
            if let Some(entry) = self.instances.get_mut(&row.name) {
                entry.stored_digest = row.digest;
                entry.was_local = row.is_local;
            }
        }
        Ok(())
    }

    /// Applies the manifest of the command line, if it is not the one that was given there last.
    fn apply_argument(&mut self, file: &Path, schemas: &Schemas) -> Result<(), BootError> {
        let unreadable = |source| BootError::Manifest { file: file.to_owned(), source };
        let text = std::fs::read_to_string(file).map_err(unreadable)?;
        let hash = Digest::of(text.as_bytes()).hex();
        if self.database.read(File::Main, |conn| setting::get(conn, setting::key::LAST_MANIFEST))?.as_deref()
            == Some(&hash)
        {
            tracing::info!(manifest = %file.display(), "is the one applied before; the deployment in force goes on");
            return Ok(());
        }
        let origin = file.display().to_string();
        let mut request = DeployRequest { text, origin, by: "run".to_owned(), ..DeployRequest::default() };
        self.take_in_named(file, &mut request);
        // The loop does not run yet, so that nobody waits for this.
        if let Some(manifest) = super::fitting::manifest_of(&request) {
            let fitting = self.fitting(manifest, &request.images);
            request.unfit = fitting.problems(self.identities.device_id(), &self.twins, schemas);
        }
        self.deploy_with(&request, Some((setting::key::LAST_MANIFEST, hash))).map_err(BootError::Refused)?;
        Ok(())
    }

    /// Takes the images in that a manifest names by path, relative to itself.
    fn take_in_named(&mut self, manifest: &Path, request: &mut DeployRequest) {
        let Ok(parsed) = Manifest::parse_with(&request.text, request.format(), &|_| Ok(())) else { return };
        let base = manifest.parent().unwrap_or(Path::new(""));
        for spec in parsed.manifest.modules.values() {
            let is_path = spec.image.parse::<Reference>().is_ok_and(|reference| reference.name().is_none());
            if !is_path {
                continue;
            }
            let file = base.join(&spec.image);
            match self.store.take_in(&file) {
                Err(_) if !file.exists() => {
                    request.missing.insert(spec.image.clone(), missing_image(&file));
                }
                Ok(taken) => {
                    let digest = taken.inspection.digest.to_string();
                    self.image_arrived(Some(&file), &taken);
                    request.images.insert(spec.image.clone(), digest);
                }
                Err(refusal) => {
                    request.missing.insert(spec.image.clone(), format!("{}: {}", file.display(), refusal.line()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn change_of_the_start_that_finds_no_room_says_what_is_free_and_to_start_again() {
        let state = tempfile::tempdir().unwrap();

        let told = BootError::from(StoreError::Full(File::Main)).on_full_disk(state.path());

        assert!(told.to_string().contains("the disk is full"), "{told}");
        assert!(!cfg!(unix) || told.to_string().contains("bytes are free"), "{told}");
        assert!(told.hint().contains("free some space") && told.hint().contains("start again"), "{}", told.hint());
    }
}
