//! A module of closures on a real worker, with real queues, twins and databases.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use dinrail_plugin::abi::*;
use tempfile::TempDir;

use super::link::{Control, Link};
use super::services::Services;
use super::worker::{Assignment, Ending, WorkerEvent, spawn};
use super::{host, lock, ticket};
use crate::database::{Database, File};
use crate::identity::Identities;
use crate::image::Library;
use crate::queue::LaneLimits;
use crate::queue::budget::Limits;
use crate::queue::disk::Disk;
use crate::queue::ingest::{Ingest, Outgoing, OutgoingBody, SendError, Sink, TargetSpec};
use crate::queue::lane::Source;
use crate::queue::sequences::Book;
use crate::queue::store_clock::StoreClock;
use crate::secret::Secrets;
use crate::twin::Twins;

pub const ACCEPT: DrVerdict = verdict(DR_ACCEPT);

pub const fn verdict(kind: DrVerdictKind) -> DrVerdict {
    DrVerdict { kind, reserved: 0, retry_after_ms: 1 }
}

/// What a handler of the test's module is given besides its argument: the runtime's table and its ticket.
#[derive(Clone, Copy)]
pub struct Me {
    pub host: &'static DrHost,
    pub ticket: u64,
}

type OnMessage = dyn Fn(Me, u64, &DrMessage) -> DrVerdict + Send + Sync;
type OnNumber = dyn Fn(Me, u64) -> DrStatus + Send + Sync;
type OnMethod = dyn Fn(Me, &str) -> DrStatus + Send + Sync;
type OnDesired = dyn Fn(Me, &DrDesired) -> DrStatus + Send + Sync;
type OnStop = dyn Fn(Me) + Send + Sync;

/// The module's handlers; those left out do nothing and succeed.
#[derive(Default)]
pub struct Script {
    pub message: Option<Box<OnMessage>>,
    pub event: Option<Box<OnNumber>>,
    pub timer: Option<Box<OnNumber>>,
    pub method: Option<Box<OnMethod>>,
    pub desired: Option<Box<OnDesired>>,
    pub stop: Option<Box<OnStop>>,
    /// Called in `create` with the ticket.
    pub create: Option<Box<dyn Fn(u64) + Send + Sync>>,
    /// Leaves `on_message` out of the table.
    pub is_deaf: bool,
}

struct Actor {
    script: Arc<Script>,
    me: Me,
}

static SCRIPTS: LazyLock<Mutex<HashMap<String, Arc<Script>>>> = LazyLock::new(Mutex::default);
static NAMES: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" fn create(args: *const DrCreate, instance: *mut *mut c_void, _: *const DrSink) -> DrStatus {
    // SAFETY: the contract of `create`.
    unsafe {
        let args = &*args;
        let script = lock(&SCRIPTS)[args.module.text().unwrap()].clone();
        if let Some(create) = &script.create {
            create(args.ticket);
        }
        let actor = Actor { script, me: Me { host: host::table(), ticket: args.ticket } };
        instance.write(Box::into_raw(Box::new(actor)).cast());
    }
    DR_OK
}

unsafe extern "C" fn destroy(instance: *mut c_void) {
    // SAFETY: made by `create`.
    drop(unsafe { Box::from_raw(instance.cast::<Actor>()) });
}

/// # Safety
/// The contract of the table: `instance` was made by `create`.
unsafe fn actor<'a>(instance: *mut c_void) -> &'a Actor {
    // SAFETY: the caller's promise.
    unsafe { &*instance.cast::<Actor>() }
}

unsafe extern "C" fn on_message(
    instance: *mut c_void,
    delivery: u64,
    message: *const DrMessage,
    _: *const DrSink,
) -> DrVerdict {
    // SAFETY: the contract of the table.
    let (actor, message) = unsafe { (actor(instance), &*message) };
    actor.script.message.as_ref().map_or(ACCEPT, |act| act(actor.me, delivery, message))
}

unsafe extern "C" fn on_event(instance: *mut c_void, value: u64, _: *const DrSink) -> DrStatus {
    // SAFETY: the contract of the table.
    let actor = unsafe { actor(instance) };
    actor.script.event.as_ref().map_or(DR_OK, |act| act(actor.me, value))
}

unsafe extern "C" fn on_timer(instance: *mut c_void, timer: u64, _: u64, _: *const DrSink) -> DrStatus {
    // SAFETY: the contract of the table.
    let actor = unsafe { actor(instance) };
    actor.script.timer.as_ref().map_or(DR_OK, |act| act(actor.me, timer))
}

unsafe extern "C" fn on_method(
    instance: *mut c_void,
    call: *const DrMethodCall,
    _: *mut i32,
    _: *const DrSink,
) -> DrStatus {
    // SAFETY: the contract of the table.
    let (actor, name) = unsafe { (actor(instance), (*call).name.text().unwrap()) };
    actor.script.method.as_ref().map_or(DR_OK, |act| act(actor.me, name))
}

unsafe extern "C" fn on_desired(instance: *mut c_void, change: *const DrDesired, _: *const DrSink) -> DrStatus {
    // SAFETY: the contract of the table.
    let (actor, change) = unsafe { (actor(instance), &*change) };
    actor.script.desired.as_ref().map_or(DR_OK, |act| act(actor.me, change))
}

unsafe extern "C" fn stop(instance: *mut c_void, _: *const DrSink) -> DrStatus {
    // SAFETY: the contract of the table.
    let actor = unsafe { actor(instance) };
    if let Some(act) = &actor.script.stop {
        act(actor.me);
    }
    DR_OK
}

fn table(is_deaf: bool) -> DrModule {
    DrModule {
        magic: DR_MAGIC,
        abi_major: DR_ABI_MAJOR,
        abi_minor: DR_ABI_MINOR,
        size: size_of::<DrModule>() as u32,
        flags: 0,
        descriptor: DrText::ABSENT,
        create,
        destroy,
        start: None,
        on_message: (!is_deaf).then_some(on_message),
        on_desired: Some(on_desired),
        on_method: Some(on_method),
        on_timer: Some(on_timer),
        on_event: Some(on_event),
        stop: Some(stop),
        describe: None,
        extension: None,
    }
}

/// Databases, twins and queues.
pub struct House {
    pub folder: TempDir,
    pub database: Database,
    pub identities: Identities,
    pub services: Arc<Services>,
    pub directory: Arc<Mutex<HashMap<String, Arc<Link>>>>,
}

/// An instance on its worker.
pub struct Live {
    pub name: String,
    pub link: Arc<Link>,
    pub said: Receiver<WorkerEvent>,
}

impl House {
    pub fn new() -> House {
        House::with_store_bytes(1 << 30)
    }

    pub fn with_store_bytes(budget: u64) -> House {
        House::with(budget, 1024)
    }

    pub fn with_lane_messages(messages: u64) -> House {
        House::with(1 << 30, messages)
    }

    fn with(budget: u64, messages: u64) -> House {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(folder.path()).unwrap();
        let (identities, _) =
            Identities::open(&database, crate::identity::MasterKey::random().unwrap(), Some("d"), "").unwrap();
        let twins = Twins::open(&database, &identities).unwrap();
        let directory = Arc::new(Mutex::new(HashMap::<String, Arc<Link>>::new()));
        let links = directory.clone();
        let services = Arc::new(Services {
            ingest: Arc::new(Ingest::new("d", Book::unkept(1), LaneLimits { messages, bytes: 1 << 20 })),
            disk: Arc::new(
                Disk::open(
                    database.clone(),
                    Limits { total: budget, ..Limits::default() },
                    StoreClock::open(&database, None).unwrap(),
                )
                .unwrap(),
            ),
            twins: twins.clone(),
            identities: identities.clone(),
            secrets: Secrets::open(&database, identities.master()).unwrap().0,
            max_attempts: 20,
            completions: Default::default(),
            calls: Default::default(),
            logs: crate::log::Logs::nowhere(),
            call_method: Box::new(move |target, request| {
                let link = lock(&links).get(target).cloned();
                if let Some(link) = link {
                    link.tell(Control::Method(request));
                }
            }),
            changed: Box::new(|| {}),
        });
        services.ingest.connect(&services.disk).unwrap();
        let links = directory.clone();
        twins.on_desired(move |identity, change| {
            let link = lock(&links).get(identity.module_id().unwrap()).cloned();
            if let Some(link) = link {
                link.tell(Control::Desired(change.clone()));
            }
        });
        House { folder, database, identities, services, directory }
    }

    /// A name that no other test uses.
    pub fn name(&self) -> String {
        format!("m{}", NAMES.fetch_add(1, Ordering::Relaxed))
    }

    /// Starts an instance and waits until it runs.
    pub fn start(&self, script: Script) -> Live {
        self.start_as(&self.name(), script)
    }

    pub fn start_as(&self, name: &str, script: Script) -> Live {
        let live = self.spawn_as(name, script);
        assert!(matches!(live.said.recv().unwrap(), WorkerEvent::Started));
        live
    }

    pub fn spawn_as(&self, name: &str, script: Script) -> Live {
        let identity = self.identities.ensure(Some(name)).unwrap().identity.clone();
        let library = Library::of_table(table(script.is_deaf));
        lock(&SCRIPTS).insert(name.to_owned(), Arc::new(script));
        let services = self.services.clone();
        let link = ticket::issue(|ticket| Arc::new(Link::new(ticket, identity, services))).unwrap();
        lock(&self.directory).insert(name.to_owned(), link.clone());
        let (say, said) = channel();
        spawn(Assignment {
            link: link.clone(),
            load: Box::new(move || Ok(library)),
            generation_id: "1".to_owned(),
            inputs: vec!["in".to_owned()],
            env: "{}".to_owned(),
            data_folder: self.folder.path().join(name),
            image_folder: self.folder.path().to_owned(),
            stack_bytes: 1 << 20,
            report: Box::new(move |event| drop(say.send(event))),
        })
        .unwrap();
        Live { name: name.to_owned(), link, said }
    }

    /// Everything that is sent goes to these.
    pub fn route(&self, targets: impl Fn(&Source) -> Vec<TargetSpec> + Send + Sync + 'static) {
        self.services.ingest.set_router(Box::new(targets));
    }

    /// Puts a message on `name`'s input "in", as an operator would.
    pub fn send(&self, name: &str, body: &[u8]) -> Result<(), SendError> {
        let outgoing = Outgoing { meta_len: 0, fill: &|_| {}, body: OutgoingBody::Bytes(body) };
        self.services.ingest.send_to(&self.identities.device().unwrap(), name, "in", &outgoing)
    }

    /// Makes every message fail that is written from now on.
    pub fn fail_writes(&self) {
        let sql = "CREATE TRIGGER no_room BEFORE INSERT ON message BEGIN SELECT raise(ABORT, 'no room'); END";
        self.database.call(File::Queue, move |tx| tx.execute_batch(sql)).unwrap();
    }

    /// Ends [`House::fail_writes`].
    pub fn mend_writes(&self) {
        self.database.call(File::Queue, |tx| tx.execute_batch("DROP TRIGGER no_room")).unwrap();
    }

    pub fn rows(&self) -> Vec<crate::database::tables::queue::ReadMessage> {
        self.database.flush().unwrap();
        let read = |conn: &_| crate::database::tables::queue::read_batch(conn, "$upstream", 0, 0, 10_000);
        self.database.read(File::Queue, read).unwrap()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        // Links know the services, and these the links.
        lock(&self.directory).clear();
    }
}

impl Live {
    pub fn stop(&self) -> Ending {
        self.link.tell(Control::Stop);
        self.ended()
    }

    pub fn ended(&self) -> Ending {
        loop {
            if let WorkerEvent::Ended(ending) = self.said.recv_timeout(Duration::from_secs(20)).expect("it ends") {
                return ending;
            }
        }
    }
}

/// Drops what the module's handlers hold.
pub fn forget(name: &str) {
    lock(&SCRIPTS).remove(name);
}

/// A target on disk, for `$upstream`.
pub fn upstream() -> TargetSpec {
    TargetSpec { max_bytes: 1 << 20, ..TargetSpec::new(Sink::Disk("$upstream".into())) }
}

/// A module's input.
pub fn input(module: &str) -> TargetSpec {
    let sink = Sink::Input { module: module.into(), input: "in".into() };
    TargetSpec { max_bytes: 1 << 20, ..TargetSpec::new(sink) }
}

pub fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "not within 20 s: {what}");
        std::thread::yield_now();
    }
}

impl Me {
    /// Sends from an output, with a completion where it is not null.
    pub fn send(&self, delivery: u64, output: &str, body: &[u8], completion: *const DrCompletion) -> DrStatus {
        let mut id = 0;
        let message = DrOutgoing {
            size: size_of::<DrOutgoing>() as u32,
            property_count: 0,
            properties: std::ptr::null(),
            body: body.as_ptr(),
            body_len: body.len(),
            buffer: std::ptr::null(),
            message_id: DrText::ABSENT,
            correlation_id: DrText::ABSENT,
            content_type: DrText::ABSENT,
            content_encoding: DrText::ABSENT,
        };
        // SAFETY: everything lives for the calls; the test keeps its promise about the completion.
        unsafe {
            assert_eq!((self.host.output)(self.ticket, DrText::new(output), &mut id), DR_OK);
            (self.host.send)(self.ticket, delivery, id, &message, completion)
        }
    }
}
