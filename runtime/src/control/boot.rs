//! Start and end of the runtime: opens everything in order, runs the loop, and closes everything in reverse.

use std::fs::File as OsFile;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, unbounded};

use super::{Control, Directory, Event, Folders, Listeners, instances};
use crate::admin::{self, AdminError, AdminServer};
use crate::clock;
use crate::config::{Config, LogLevel};
use crate::database::tables::queue::{self, ClockMark, LossRow};
use crate::database::tables::{deployment, image, instance, setting};
use crate::database::{Database, DatabaseError, File, StoreError};
use crate::handle::{DeployRequest, Handle, Refusal};
use crate::identity::{Identities, IdentityError};
use crate::image::{Catalog, Digest, ImageStore, Reference, WatchedFolder, Watcher};
use crate::instance::calls::CallError;
use crate::instance::link::{Control as Tell, MethodRequest};
use crate::instance::services::Services;
use crate::instance::spec::{InstanceSpec, Origin};
use crate::instance::state::Hold;
use crate::name::Identity;
use crate::queue::LaneLimits;
use crate::queue::disk::Disk;
use crate::queue::ingest::Ingest;
use crate::queue::losses::Loss;
use crate::twin::Twins;

/// Deployments that are kept for looking back.
const KEPT_DEPLOYMENTS: u32 = 50;
/// Counts the starts of the runtime on this state directory: the epoch of the sequences.
const EPOCH: &str = "epoch";
/// Hash of the manifest that was last given on the command line.
const MANIFEST_ARGUMENT: &str = "manifest-argument";

/// What the runtime is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Manifest to apply if its bytes differ from the last one given so.
    pub manifest: Option<PathBuf>,
    /// Settings of the runtime.
    pub config: Config,
    /// State directory.
    pub state: PathBuf,
    /// Device id for the first start.
    pub device_id: Option<String>,
    /// Further folders that supply images.
    pub watch: Vec<PathBuf>,
    /// Whether what appears in these is started, as in `drop/`.
    pub autostart: bool,
    /// The user's folder for short-lived files, for a socket whose path in the state directory would be too long.
    pub session_folder: Option<PathBuf>,
}

/// Why the runtime did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state directory cannot be made or written.
    #[error("the state directory {} cannot be used", folder.display())]
    StateFolder {
        /// It, or the part of it that made trouble.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another runtime runs on it.
    #[error("another runtime{} runs on the state directory {}", who(.pid), folder.display())]
    InUse {
        /// The state directory.
        folder: PathBuf,
        /// Its process, where it is known.
        pid: Option<u32>,
    },
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
    /// The management API cannot be opened.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// A thread cannot be started, or the watcher.
    #[error("the {what} cannot be started")]
    Thread {
        /// Which.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The manifest on the command line cannot be read.
    #[error("the manifest {} cannot be read", file.display())]
    Manifest {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The manifest on the command line is refused.
    #[error("{0}")]
    Refused(Refusal),
}

fn who(pid: &Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

impl StartError {
    /// The next step.
    pub fn hint(&self) -> String {
        match self {
            StartError::StateFolder { folder, source } if source.kind() == io::ErrorKind::StorageFull => {
                format!("the disk of {} is full: free some space, then start again", folder.display())
            }
            StartError::StateFolder { .. } => {
                "make it writable for this user, or choose another with --state DIR".to_owned()
            }
            StartError::InUse { .. } => {
                "stop that one first, or give this one a directory of its own with --state DIR".to_owned()
            }
            StartError::Database(error) => error.hint(),
            StartError::Store(error) => error.hint().unwrap_or("see the log above").to_owned(),
            StartError::Identity(error) => error.hint().unwrap_or_else(|| "see the log above".to_owned()),
            StartError::Images(_) => "see that the state directory is writable".to_owned(),
            StartError::Admin(error) => error.hint(),
            StartError::Thread { .. } => "the system is out of threads, memory or watches".to_owned(),
            StartError::Manifest { .. } => {
                "give the path of a deployment manifest, or leave it out to go on with the one in force".to_owned()
            }
            StartError::Refused(refusal) => refusal.hint.clone().unwrap_or_default(),
        }
    }
}

/// A running runtime.
pub struct Running {
    handle: Handle,
    events: Sender<Event>,
    control: Option<JoinHandle<()>>,
    server: Option<AdminServer>,
    watcher: Option<Watcher>,
    database: Database,
    _lock: OsFile,
}

/// Starts the runtime: when this returns, the management API answers.
pub fn start(options: Options) -> Result<Running, StartError> {
    let lock = lock_state(&options.state)?;
    let folders = make_folders(&options.state)?;
    let database = Database::open(&folders.state)?;
    let mut notes = database.notes().to_vec();
    let host_name = gethostname::gethostname().to_string_lossy().into_owned();
    let (identities, identity_notes) = Identities::open(&database, options.device_id.as_deref(), &host_name)?;
    notes.extend(identity_notes);
    notes.iter().for_each(|note| tracing::warn!("{note}"));
    let twins = Twins::open(&database, &identities)?;
    let store = Arc::new(ImageStore::open(&folders.state.join("images"))?);
    let epoch = database.call(File::Main, |tx| setting::count_up(tx, EPOCH))?;
    let limits = LaneLimits {
        messages: options.config.queue.lane_messages as u64,
        bytes: options.config.queue.lane_bytes as u64,
    };
    let ingest = Arc::new(Ingest::new(identities.device_id(), epoch, limits));
    let disk = Arc::new(Disk::open(database.clone(), options.config.queue.store_bytes, clock_mark(&database)?)?);
    let directory = Arc::<Directory>::default();
    let (changes, _) = tokio::sync::watch::channel(0);
    let changes = Arc::new(changes);
    let services = Arc::new(Services {
        ingest: ingest.clone(),
        disk,
        twins: twins.clone(),
        completions: Default::default(),
        calls: Default::default(),
        call_method: method_switchboard(directory.clone(), identities.device_id().to_owned()),
        changed: {
            let changes = changes.clone();
            Box::new(move || changes.send_modify(|count| *count += 1))
        },
    });
    deliver_twin_changes(&twins, &directory, &changes);
    Control::set_module_level(level(options.config.log.level));

    let (events, inbox) = unbounded();
    let listeners = Arc::new(Listeners::new(ingest));
    let handle = Handle::new(
        identities.clone(),
        twins.clone(),
        services.clone(),
        listeners.clone(),
        store.clone(),
        events.clone(),
        changes.clone(),
        folders.clone(),
    );
    let rows = database.read(File::Main, image::load_all)?;
    let described = rows.iter().filter(|row| row.schema.is_some() || row.defaults.is_some());
    let described = described.filter_map(|row| row.digest.parse().ok()).collect();
    let mut control = Control {
        config: options.config.clone(),
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
        events: events.clone(),
        changes,
        is_settled: false,
        shutdown: None,
        started: clock::now(),
        notes,
        random: (clock::wall_us() as u32) | 1,
    };
    control.load_instances()?;
    control.resume(&database.read(File::Main, deployment::load_all)?);
    if let Some(file) = &options.manifest {
        control.apply_argument(file)?;
    }
    let server = admin::serve(handle.clone(), &folders.state, options.session_folder.as_deref())?;
    let thread = |what| move |source| StartError::Thread { what, source };
    let control = std::thread::Builder::new()
        .name("control".to_owned())
        .stack_size(1 << 20)
        .spawn(move || control.run(&inbox))
        .map_err(thread("control loop"))?;
    let mut watched = vec![WatchedFolder { path: folders.drop.clone(), autostart: true }];
    watched.extend(options.watch.iter().map(|path| WatchedFolder { path: path.clone(), autostart: options.autostart }));
    let sink = {
        let events = events.clone();
        Box::new(move |event| drop(events.send(Event::File(event))))
    };
    let watcher = Watcher::spawn(watched, store, sink).map_err(thread("watcher of the folders"))?;
    tracing::info!(
        device = handle.device_id(),
        state = %folders.state.display(),
        drop = %folders.drop.display(),
        "dinrail {} runs",
        env!("CARGO_PKG_VERSION")
    );
    Ok(Running {
        handle,
        events,
        control: Some(control),
        server: Some(server),
        watcher: Some(watcher),
        database,
        _lock: lock,
    })
}

impl Running {
    /// Handle for clients in this process.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Asks it to end. `[any thread, never blocks]`
    pub fn ender(&self) -> impl Fn() + Send + 'static {
        let events = self.events.clone();
        move || drop(events.send(Event::Shutdown))
    }

    /// Ends it in an orderly way: instances in reverse start order, then the API, then the databases.
    ///
    /// A thread that never returned is left behind; it ends with the process.
    pub fn stop(mut self) {
        let _ = self.events.send(Event::Shutdown);
        self.wait();
    }

    /// Waits until it has ended because somebody asked it to.
    pub fn wait(&mut self) {
        if let Some(control) = self.control.take() {
            if control.join().is_err() {
                tracing::error!("the control loop ended with a defect; see above");
            }
        }
        drop(self.watcher.take());
        if let Some(server) = self.server.take() {
            server.stop();
        }
        self.database.close();
        tracing::info!("ended");
    }
}

fn lock_state(state: &Path) -> Result<OsFile, StartError> {
    let trouble = |source| StartError::StateFolder { folder: state.to_owned(), source };
    make_private(state).map_err(trouble)?;
    let path = state.join("lock");
    let file = OsFile::options().create(true).truncate(false).read(true).write(true).open(&path).map_err(trouble)?;
    if let Err(error) = file.try_lock() {
        return Err(match error {
            std::fs::TryLockError::WouldBlock => {
                let pid = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
                StartError::InUse { folder: state.to_owned(), pid }
            }
            std::fs::TryLockError::Error(source) => trouble(source),
        });
    }
    file.set_len(0).map_err(trouble)?;
    io::Write::write_all(&mut &file, format!("{}\n", std::process::id()).as_bytes()).map_err(trouble)?;
    Ok(file)
}

fn make_folders(state: &Path) -> Result<Folders, StartError> {
    let folder = |name: &str| {
        let folder = state.join(name);
        std::fs::create_dir_all(&folder)
            .map_err(|source| StartError::StateFolder { folder: folder.clone(), source })?;
        Ok::<_, StartError>(folder)
    };
    let state =
        std::path::absolute(state).map_err(|source| StartError::StateFolder { folder: state.to_owned(), source })?;
    Ok(Folders { data: folder("data")?, drop: folder("drop")?, uploads: folder("images/uploads")?, state })
}

/// Makes the state directory, for its owner and group alone.
fn make_private(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(folder)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o750))?;
    }
    Ok(())
}

fn clock_mark(database: &Database) -> Result<ClockMark, StoreError> {
    let Ok(boot_id) = std::fs::read_to_string("/proc/sys/kernel/random/boot_id") else {
        return Ok(ClockMark::default());
    };
    let now = clock::wall_us();
    let boot = database.call(File::Queue, move |tx| queue::open_boot(tx, boot_id.trim(), now))?;
    Ok(ClockMark { boot: Some(boot), monotonic_us: None, clock_doubted: false })
}

/// Desired changes go straight from the commit to the instance.
fn deliver_twin_changes(twins: &Twins, directory: &Arc<Directory>, changes: &Arc<tokio::sync::watch::Sender<u64>>) {
    let known = directory.clone();
    twins.on_desired(move |identity, change| {
        let link = identity.module_id().and_then(|module| known.read().ok()?.get(module).cloned());
        if let Some(link) = link {
            link.tell(Tell::Desired(change.clone()));
        }
    });
    let changes = changes.clone();
    twins.on_change(move |_| changes.send_modify(|count| *count += 1));
}

/// Brings a direct method call to the instance behind an identity.
fn method_switchboard(directory: Arc<Directory>, device: String) -> Box<crate::instance::services::CallMethod> {
    Box::new(move |target: &str, request: MethodRequest| {
        let identity = Identity::parse_on(&device, target).ok().filter(|identity| identity.device_id() == device);
        let link = identity
            .as_ref()
            .and_then(Identity::module_id)
            .and_then(|module| directory.read().ok()?.get(module).cloned());
        match link {
            Some(link) => {
                link.tell(Tell::Method(request));
            }
            None => request.reply.give(Err(CallError::NotFound(format!("{target} is not running on this device")))),
        }
    })
}

fn level(level: LogLevel) -> u32 {
    use dinrail_plugin::abi::{DR_DEBUG, DR_ERROR, DR_INFO, DR_TRACE, DR_WARN};
    match level {
        LogLevel::Error => DR_ERROR,
        LogLevel::Warn => DR_WARN,
        LogLevel::Info => DR_INFO,
        LogLevel::Debug => DR_DEBUG,
        LogLevel::Trace => DR_TRACE,
    }
}

/// Adds losses to the ledger on disk.
pub(super) fn store_losses(database: &Database, losses: Vec<Loss>) {
    let rows: Vec<LossRow> = losses
        .into_iter()
        .map(|loss| LossRow {
            sender: loss.sender.to_string(),
            output: loss.output.to_string(),
            endpoint: loss.endpoint.to_string(),
            reason: loss.reason.to_owned(),
            first: (loss.epoch, loss.first),
            last: (loss.epoch, loss.last),
            count: loss.count,
        })
        .collect();
    database.submit(
        File::Queue,
        Box::new(move |tx| queue::add_losses(tx, &rows)),
        Box::new(|outcome| {
            if let Err(error) = outcome {
                tracing::error!("counted losses could not be stored: {error}");
            }
        }),
    );
}

impl Control {
    /// Brings back the instances that were wanted, each with the image it had and a person's stop.
    fn load_instances(&mut self) -> Result<(), StartError> {
        for row in self.database.read(File::Main, instance::load_all)? {
            let mut spec: InstanceSpec = match serde_json::from_str(&row.spec) {
                Ok(spec) => spec,
                Err(error) => {
                    tracing::error!(module = row.name, "its stored form cannot be read ({error}); defaults are used");
                    InstanceSpec::new(&row.name, &row.image)
                }
            };
            spec.name.clone_from(&row.name);
            let origin = match row.origin.as_str() {
                "drop" => Origin::Drop,
                "cli" => Origin::Cli,
                _ => Origin::Deployment,
            };
            let hold = row.stopped_by.map(|by| Hold { by, at_us: row.stopped_us.unwrap_or_default() });
            let is_fixed = spec.image.parse::<Reference>().is_ok_and(|reference| !reference.is_moving());
            let first_found = row.digest.as_ref().filter(|_| is_fixed).and_then(|digest| digest.parse().ok());
            self.add(spec, origin, hold, first_found);
            if let Some(entry) = self.instances.get_mut(&row.name) {
                entry.life.digest = None;
                let _: &instances::Entry = entry;
            }
        }
        Ok(())
    }

    /// Applies the manifest of the command line, if it is not the one that was given there last.
    fn apply_argument(&mut self, file: &Path) -> Result<(), StartError> {
        let unreadable = |source| StartError::Manifest { file: file.to_owned(), source };
        let text = std::fs::read_to_string(file).map_err(unreadable)?;
        let hash = Digest::of(text.as_bytes()).hex();
        if self.database.read(File::Main, |conn| setting::get(conn, MANIFEST_ARGUMENT))?.as_deref() == Some(&hash) {
            tracing::info!(manifest = %file.display(), "is the one applied before; the deployment in force goes on");
            return Ok(());
        }
        let mut request = DeployRequest { text, origin: file.display().to_string(), images: Default::default() };
        self.take_in_named(file, &mut request)?;
        self.deploy(&request).map_err(StartError::Refused)?;
        self.database.call(File::Main, move |tx| {
            setting::set(tx, MANIFEST_ARGUMENT, &hash)?;
            deployment::prune(tx, KEPT_DEPLOYMENTS)
        })?;
        Ok(())
    }

    /// Takes the images in that a manifest names by path, relative to itself.
    fn take_in_named(&mut self, manifest: &Path, request: &mut DeployRequest) -> Result<(), StartError> {
        let Ok(parsed) = crate::deployment::manifest::Manifest::parse(&request.text) else { return Ok(()) };
        let base = manifest.parent().unwrap_or(Path::new(""));
        for spec in parsed.manifest.modules.values() {
            let is_path = spec.image.parse::<Reference>().is_ok_and(|reference| reference.name().is_none());
            if !is_path {
                continue;
            }
            let file = base.join(&spec.image);
            let taken = self.store.take_in(&file).map_err(|refusal| {
                StartError::Refused(Refusal {
                    kind: crate::handle::RefusalKind::Invalid,
                    message: format!("the manifest {} is refused: 1 problem", manifest.display()),
                    hint: Some(refusal.hint.clone()),
                    details: vec![format!("module {}: image {}: {}", spec.name, file.display(), refusal.line())],
                })
            })?;
            let digest = taken.inspection.digest.to_string();
            self.image_arrived(Some(&file), &taken);
            request.images.insert(spec.image.clone(), digest);
        }
        Ok(())
    }
}
