//! The runtime as a whole: opens everything in order, and closes everything in reverse. The only code that knows the control
//! loop, the watched folders and the management API at once.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::Sender;

use crate::admin::remote::Remote;
use crate::admin::{self, AdminError, AdminServer, Reach};
use crate::check;
use crate::config::{ApiConfig, Config};
pub use crate::control::boot::missing_image;
use crate::control::boot::{self, BootError, Booted};
use crate::control::{Control, Event};
use crate::database::Database;
use crate::handle::Handle;
use crate::image::{WatchedFolder, Watcher};
use crate::log::Logs;
use crate::state_folder::{self, StateFolderError};
use crate::tls::GivenFiles;
use crate::view::Severity;

/// Time between the start and the look at how the disk syncs.
const DOUBT_AFTER: Duration = Duration::from_secs(5);

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
    /// Whether the device's key is to be made anew.
    pub new_device_key: bool,
    /// Further folders that supply images.
    pub watch: Vec<PathBuf>,
    /// Whether what appears in these is started, as in `drop/`.
    pub autostart: bool,
    /// The log; lines said so far are kept in the state directory too.
    pub logs: Logs,
    /// The user's folder for short-lived files, for a socket whose path in the state directory would be too long.
    pub session_folder: Option<PathBuf>,
}

/// Why the runtime did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state directory cannot be used.
    #[error(transparent)]
    StateFolder(#[from] StateFolderError),
    /// What it holds, or the manifest that was given, cannot be used.
    #[error(transparent)]
    Boot(#[from] BootError),
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
}

impl StartError {
    /// The next step.
    pub fn hint(&self) -> String {
        match self {
            StartError::StateFolder(error) => error.hint(),
            StartError::Boot(error) => error.hint(),
            StartError::Admin(error) => error.hint(),
            StartError::Thread { .. } => "the system is out of threads, memory or watches".to_owned(),
        }
    }

    /// Every single problem, where there are several.
    pub fn details(&self) -> Vec<String> {
        match self {
            StartError::Boot(BootError::Refused(refusal)) => refusal.details.clone(),
            _ => Vec::new(),
        }
    }
}

/// A running runtime.
pub struct Running {
    handle: Handle,
    events: Sender<Event>,
    /// Gives the names of those whose threads did not return.
    control: Option<JoinHandle<Vec<String>>>,
    server: Option<AdminServer>,
    watcher: Option<Watcher>,
    database: Database,
    _lock: File,
}

/// A sign of life, see [`Running::pulse`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat {
    /// Modules that run.
    pub running: usize,
    /// All modules.
    pub modules: usize,
    /// Why the writer cannot store anything; `None` where it can.
    pub trouble: Option<String>,
}

/// Starts the runtime: when this returns, the management API answers.
pub fn start(options: Options) -> Result<Running, StartError> {
    let lock = state_folder::lock(&options.state)?;
    let folders = state_folder::make(&options.state)?;
    options.logs.keep_in(&folders.logs);
    let device = boot::Device { id: options.device_id.as_deref(), has_new_key: options.new_device_key };
    let reach = reach(&options.config.api);
    let Booted { mut control, inbox, events, parts } =
        boot::boot(&folders, options.config, device, options.manifest.as_deref(), options.logs)
            .map_err(|error| error.on_full_disk(&folders.state))?;
    let (database, store) = (parts.database.clone(), parts.store.clone());
    let handle = Handle::new(parts, events.clone(), folders.clone());
    let server = admin::serve(handle.clone(), &folders.state, options.session_folder.as_deref(), reach)?;
    let mut watched = vec![WatchedFolder { path: folders.drop.clone(), autostart: true }];
    watched.extend(options.watch.into_iter().map(|path| {
        // As the watcher names it.
        let path = std::path::absolute(&path).unwrap_or(path);
        WatchedFolder { path, autostart: options.autostart }
    }));
    control.set_watched(&watched);
    let thread = |what| move |source| StartError::Thread { what, source };
    let control = std::thread::Builder::new()
        .name("control".to_owned())
        .stack_size(1 << 20)
        .spawn(move || control.run(&inbox))
        .map_err(thread("control loop"))?;
    let sink = {
        let events = events.clone();
        Box::new(move |event| drop(events.send(Event::File(event))))
    };
    let watcher = Watcher::spawn(watched, store, sink).map_err(thread("watcher of the folders"))?;
    doubt_the_disk(folders.state.clone(), database.clone());
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

/// Looks, some time after the start, whether the disk keeps what it says that it has kept, and whether it has kept the messages.
fn doubt_the_disk(state: PathBuf, database: Database) {
    let look = move || {
        // Whatever the start needs of the disk goes before.
        std::thread::park_timeout(DOUBT_AFTER);
        let found = check::disk_sync(&state);
        if matches!(found.status, Severity::Warning | Severity::Error) {
            tracing::warn!("the disk of the state directory: {}; {}", found.summary, found.hint.unwrap_or_default());
        }
        crate::database::step_back();
        database.look_for_damage();
    };
    let started = std::thread::Builder::new().name("disk-check".to_owned()).stack_size(128 << 10).spawn(look);
    if let Err(error) = started {
        tracing::warn!("the disk of the state directory is not looked at: {error}");
    }
}

fn reach(api: &ApiConfig) -> Reach {
    let given = |(certificate, private_key)| GivenFiles { certificate, private_key };
    let remote = api.listen.map(|listen| Remote {
        listen,
        host_names: api.host_names.clone(),
        host_name: gethostname::gethostname().to_string_lossy().into_owned(),
        files: api.certificate.clone().zip(api.private_key.clone()).map(given),
    });
    Reach { group_role: api.group_role, remote }
}

impl Running {
    /// Handle for clients in this process.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The databases, for who measures them.
    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    /// Asks it to end. `[any thread, never blocks]`
    pub fn ender(&self) -> impl Fn() + Send + 'static {
        let events = self.events.clone();
        move || drop(events.send(Event::Shutdown))
    }

    /// Asks for a sign of life: the answer has been through the control loop and then through a transaction of the database
    /// writer. A loop that has ended drops the question. `[any thread; never waits for a module]`
    pub fn pulse(&self) -> impl Fn(Box<dyn FnOnce(Beat) + Send>) + Send + 'static {
        let events = self.events.clone();
        move |answer| {
            let request = Box::new(move |control: &mut Control, _| {
                let (running, modules) = control.count_running();
                control.when_committed(move |outcome| {
                    answer(Beat { running, modules, trouble: outcome.err().map(|error| error.to_string()) });
                });
            });
            // A loop that has ended gives the question back, which drops it.
            drop(events.send(Event::Request(request)));
        }
    }

    /// Ends it in an orderly way: instances in reverse start order, then the API, then the databases.
    ///
    /// A thread that never returned is left behind; it ends with the process.
    pub fn stop(mut self) {
        let _ = self.events.send(Event::Shutdown);
        self.wait();
    }

    /// Waits until it has ended because somebody asked it to.
    ///
    /// False if the loop ended by a defect instead.
    pub fn wait(&mut self) -> bool {
        let Some(control) = self.control.take() else { return true };
        let outcome = control.join();
        if outcome.is_err() {
            tracing::error!("the control loop ended with a defect; see above");
        }
        drop(self.watcher.take());
        if let Some(server) = self.server.take() {
            server.stop();
        }
        self.database.close();
        match outcome.as_deref() {
            Ok([]) | Err(_) => tracing::info!("ended"),
            Ok(left) => tracing::warn!("ended without them, since their threads did not return: {}", left.join(", ")),
        }
        outcome.is_ok()
    }
}
