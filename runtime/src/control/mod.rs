//! The control loop: one thread that owns everything which decides.
//!
//! It takes events one after the other, asks pure functions what follows, and hands the doing to others: workers, the writer,
//! the watcher. It never waits for a module or the network; what a command decides is committed before it is answered.
//!
//! ```text
//! watcher ──┐                                        ┌─► workers (start, stop, abandon)
//! workers ──┼─► Event ─► Control ─► next(state, …) ──┼─► database writer
//! clients ──┘                                        └─► route table
//! ```

mod adding;
mod bars;
pub mod boot;
mod budgets;
mod deploying;
mod edge_agent;
mod event;
mod exporting;
mod identities;
mod images;
mod instances;
mod listeners;
mod local_routes;
mod looking;
mod own_messages;
mod removing;
mod secrets;
mod shutdown;
pub mod switchboard;
mod tally;
mod turns;
mod views;
mod watching;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

pub(crate) use deploying::fitting;
pub use event::{Event, Request};
pub use listeners::Listeners;
pub(crate) use removing::{Purge, discard};

use crate::clock;
use crate::config::Config;
use crate::database::tables::removed::RemovedRow;
use crate::database::{Database, File, Job, StoreError};
use crate::identity::Identities;
use crate::image::{Catalog, ImageStore, WatchedFolder};
use crate::instance::link::Link;
use crate::instance::services::Services;
use crate::instance::state;
use crate::memory;
use crate::state_folder::Folders;
use crate::twin::Twins;

/// Time between two looks at what has no event of its own: losses to be stored, rows to be tried again.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// After a start, the time in which disk and databases are looked at beside the work.
const AFTERMATH: Duration = Duration::from_secs(8);
/// Looks at what has no event of its own, between two at how far messages are settled: each is a write.
const SETTLE_TICKS: u32 = 10;
/// Events between two looks at the clock.
const MAX_EVENTS: usize = 256;

/// Links of the instances that run, by name: for whoever has something to tell them without the loop.
pub type Directory = RwLock<HashMap<Arc<str>, Arc<Link>>>;

/// See the module's documentation.
pub struct Control {
    config: Config,
    folders: Folders,
    database: Database,
    identities: Identities,
    twins: Twins,
    store: Arc<ImageStore>,
    catalog: Catalog,
    described: std::collections::HashSet<crate::image::Digest>,
    services: Arc<Services>,
    directory: Arc<Directory>,
    listeners: Arc<Listeners>,
    instances: BTreeMap<String, instances::Entry>,
    deployment: Option<deploying::Deployment>,
    /// What a person removed, by name: its file in a watched folder does not bring it back.
    removed: BTreeMap<String, RemovedRow>,
    /// Routes that a person added, by name.
    local_routes: local_routes::LocalRoutes,
    /// Removed instances whose thread never returned.
    left_behind: BTreeSet<String>,
    /// The latest deployment that was found good.
    last_good: Option<i64>,
    bars: bars::Bars,
    /// The group whose turn it is to come up; `None`: all have had theirs.
    turn: Option<turns::Turn>,
    events: Sender<Event>,
    changes: Arc<tokio::sync::watch::Sender<u64>>,
    is_settled: bool,
    shutdown: Option<shutdown::Shutdown>,
    started: Instant,
    /// Why the deployment that is being applied is to be taken back before anything of it runs.
    deadly: Option<String>,
    /// Watched folders, and what is wrong with each.
    watched: Vec<(WatchedFolder, Option<String>)>,
    notes: Vec<String>,
    random: u32,
    /// Looks at what has no event of its own.
    ticks: u32,
    own: Arc<own_messages::OwnMessages>,
    /// The twins of the runtime's own identities.
    upkeep: edge_agent::Upkeep,
    /// Much has happened since memory was last given back: workers were started, or a deployment ended.
    has_grown: bool,
    /// When memory was given back last, until that is done once more.
    tidied_at: Option<Instant>,
    looking: looking::Looking,
}

impl Control {
    /// Says which folders are watched.
    pub fn set_watched(&mut self, folders: &[WatchedFolder]) {
        self.watched = folders.iter().map(|folder| (folder.clone(), None)).collect();
    }

    /// Runs until a shutdown has ended; gives the names of those whose threads did not return.
    pub fn run(mut self, inbox: &Receiver<Event>) -> Vec<String> {
        let mut housekeeping = clock::now() + HOUSEKEEPING;
        let mut watch = housekeeping;
        loop {
            let deadline = self.next_deadline().map_or(housekeeping, |at| at.min(housekeeping)).min(watch);
            match inbox.recv_deadline(deadline) {
                Ok(event) => {
                    self.handle(event);
                    // What is there already is taken in one go, so that clients see one change; but no flood of it keeps the
                    // loop from its deadlines.
                    inbox.try_iter().take(MAX_EVENTS).for_each(|event| self.handle(event));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Vec::new(),
            }
            let now = clock::now();
            self.tick(now);
            if self.shutdown.is_none() {
                self.advance_turns(now);
                self.advance_rollout(now);
            }
            if self.shutdown.is_none() {
                self.keep_own_twins(now);
            }
            if now >= watch {
                watch = self.watch(now);
            }
            if now >= housekeeping {
                self.keep_house();
                housekeeping = now + HOUSEKEEPING;
            }
            if self.advance_shutdown(now) {
                self.settle_accounts();
                return self.abandoned();
            }
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::File(event) => self.file_event(event),
            Event::Worker { name, worker, ticket, event } => self.worker_event(&name, worker, ticket, event),
            Event::Described { digest, schema, defaults } => self.image_described(&digest, schema, defaults),
            Event::LoadFailed { digest, reason } => self.quarantine(digest, &reason),
            Event::Request(request) => request(self, clock::now()),
            Event::Shutdown => self.begin_shutdown(),
        }
    }

    /// The next moment at which an instance needs a tick.
    fn next_deadline(&self) -> Option<Instant> {
        let instances = self.instances.values().filter_map(|entry| state::deadline(&entry.life));
        let others = match self.shutdown {
            // Nobody goes on with these then.
            Some(_) => [self.shutdown_deadline(), None, None, None],
            None => [self.settle_deadline(), self.turn_deadline(), self.rollout_deadline(), self.upkeep.deadline()],
        };
        instances.chain(others.into_iter().flatten()).min()
    }

    fn tick(&mut self, now: Instant) {
        let is_due = |entry: &instances::Entry| state::deadline(&entry.life).is_some_and(|at| at <= now);
        let due: Vec<String> = self.instances.values().filter(|e| is_due(e)).map(|e| e.spec.name.clone()).collect();
        for name in due {
            self.apply(&name, state::Input::Tick);
        }
        if !self.is_settled && self.settle_deadline().is_some_and(|at| at <= now) {
            self.settle(now);
        }
    }

    fn keep_house(&mut self) {
        // What starting many workers took at its peak is not needed any more, once no more are being started.
        let is_starting = |entry: &instances::Entry| matches!(entry.life.state, state::State::Starting);
        if self.has_grown && !self.instances.values().any(is_starting) {
            self.has_grown = false;
            self.tidied_at = Some(clock::now());
            memory::give_back();
        }
        // What a start leaves to be done beside the work is over by then.
        if self.tidied_at.is_some_and(|at| at.elapsed() > AFTERMATH) {
            self.tidied_at = None;
            memory::give_back();
        }
        self.services.disk.retry();
        self.services.disk.clock().tick(&self.database);
        self.services.disk.expire();
        self.services.ingest.sweep();
        self.look_for_damage(clock::now());
        self.services.completions.watch();
        self.twins.rest();
        self.settle_sequences();
        self.look_for_activity();
    }

    /// Brings the ledger to the disk, and now and then how far messages are settled.
    fn settle_sequences(&mut self) {
        if !self.database.has_room() {
            // What is counted stays counted; one more change of each second would make a long line longer.
            return;
        }
        self.ticks = self.ticks.wrapping_add(1);
        let is_due = self.ticks.is_multiple_of(SETTLE_TICKS);
        let settled =
            if is_due { self.services.ingest.settled(&|module| self.holds_messages(module)) } else { Vec::new() };
        self.keep_losses_and(self.services.ingest.noting_settled(settled));
        if is_due {
            self.services.ingest.rest();
        }
    }

    /// Whether the instance of a module has taken messages out of their lanes without having decided about them.
    fn holds_messages(&self, module: &str) -> bool {
        let Ok(known) = self.directory.read() else { return true };
        known.get(module).is_some_and(|link| link.deliveries.has_kept())
    }

    /// Brings the ledger to the disk.
    pub(crate) fn keep_losses(&self) {
        self.keep_losses_and(None);
    }

    /// [`Control::keep_losses`], and makes `also` in the same change: both are on disk, or neither.
    fn keep_losses_and(&self, also: Option<Job>) {
        self.own.catch_up();
        self.own.tell_losses();
        let losses = self.services.ingest.losses().take();
        if !losses.is_empty() || also.is_some() {
            boot::store_losses(&self.database, &self.services.ingest, losses, also);
        }
    }

    /// Calls `then` once everything that was submitted before is committed; it must not wait.
    pub(crate) fn when_committed(&self, then: impl FnOnce(Result<(), StoreError>) + Send + 'static) {
        self.database.submit_now(File::Main, Box::new(|_| Ok(())), Box::new(then));
    }

    /// Tells clients that wait that something has changed.
    fn changed(&self) {
        self.upkeep.changed();
        self.changes.send_modify(|count| *count += 1);
    }

    /// A number that is evenly distributed enough for jitter (xorshift).
    fn random(&mut self) -> u32 {
        let mut x = self.random;
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        self.random = x;
        x
    }
}
