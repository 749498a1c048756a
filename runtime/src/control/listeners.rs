//! Listeners: those who follow messages live, and the router that knows them beside the routes in force.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::message::MAX_MESSAGE_BYTES;
use crate::name::{EDGE_HUB, Identity};
use crate::queue::ingest::{Gate, Ingest, Router, Sink, TargetSpec};
use crate::queue::lane::{Source, lock};
use crate::queue::{Inbox, LaneLimits, Queue, WhenFull};
use crate::routing::{self, CompiledRoute, Durability, OnFull, RouteTable, Selection, SourcePath};

/// Most messages that wait for one listener and output; what comes while it is behind is left out and counted.
const LISTENER_LIMITS: LaneLimits = LaneLimits { messages: 4096, bytes: 8 << 20 };

/// The routes in force and who listens in.
pub struct Listeners {
    ingest: Arc<Ingest>,
    state: Mutex<State>,
    takes_twin_changes: AtomicBool,
    next_id: AtomicU64,
}

#[derive(Clone, Default)]
struct State {
    /// Of the deployment in force.
    deployed: Arc<RouteTable>,
    /// How long messages wait where their route does not say.
    time_to_live: Option<Duration>,
    /// Added outside a manifest.
    local: Arc<RouteTable>,
    /// In force.
    table: Arc<RouteTable>,
    listeners: Vec<Listener>,
}

#[derive(Clone)]
struct Listener {
    id: u64,
    selection: Arc<Selection>,
    gate: Option<Arc<Gate>>,
    queue: Arc<Queue>,
}

impl Listeners {
    /// No routes, no listeners.
    pub fn new(ingest: Arc<Ingest>) -> Listeners {
        Listeners {
            ingest,
            state: Mutex::default(),
            takes_twin_changes: AtomicBool::new(false),
            next_id: AtomicU64::new(1),
        }
    }

    /// Puts other routes of a deployment in force, in one go; messages wait for `time_to_live` where their route does not say.
    pub fn set_routes(&self, table: RouteTable, time_to_live: Option<Duration>) {
        self.change(|state| {
            state.time_to_live = time_to_live;
            state.deployed = Arc::new(table);
            state.table = Arc::new(state.deployed.with(&state.local));
        });
    }

    /// Puts other routes in force that belong to no deployment, in one go. One of the deployment goes before one of its name.
    pub fn set_local(&self, table: RouteTable) {
        self.change(|state| {
            state.local = Arc::new(table);
            state.table = Arc::new(state.deployed.with(&state.local));
        });
    }

    /// The routes of the deployment in force, and those that were added beside it.
    pub fn routes(&self) -> (Arc<RouteTable>, Arc<RouteTable>) {
        let state = lock(&self.state);
        (state.deployed.clone(), state.local.clone())
    }

    /// Begins to copy what `selection` takes and `gate` lets through into a queue of its own, whose lanes announce themselves at
    /// `inbox`.
    pub fn listen(&self, selection: Selection, gate: Option<Arc<Gate>>, inbox: Arc<Inbox>) -> (u64, Arc<Queue>) {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let queue = Arc::new(Queue::new(&format!("$tail/{id}"), "", inbox, LISTENER_LIMITS));
        let listener = Listener { id, selection: Arc::new(selection), gate, queue: queue.clone() };
        self.change(|state| state.listeners.push(listener));
        (id, queue)
    }

    /// Ends it.
    pub fn forget(&self, id: u64) {
        self.change(|state| {
            state.listeners.retain(|listener| {
                let stays = listener.id != id;
                if !stays {
                    listener.queue.close();
                }
                stays
            });
        });
    }

    /// Whether any route or listener takes changes of reported properties. Costs a load.
    pub(super) fn takes_twin_changes(&self) -> bool {
        self.takes_twin_changes.load(Ordering::Acquire)
    }

    /// Whether any route or listener takes what comes from there.
    pub(super) fn takes(&self, path: &SourcePath) -> bool {
        lock(&self.state).takes(path)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = lock(&self.state);
        change(&mut state);
        self.takes_twin_changes.store(state.takes(&SourcePath::twin_changes()), Ordering::Release);
        self.ingest.set_router(router(state.clone()));
    }
}

impl State {
    fn takes(&self, path: &SourcePath) -> bool {
        self.table.routes().iter().any(|route| route.source.matches(path))
            || self.listeners.iter().any(|listener| listener.selection.source.matches(path))
    }
}

fn router(state: State) -> Box<Router> {
    Box::new(move |source: &Source| {
        let path = source_path(source);
        let routed = state.table.candidates_for(&path).into_iter().flat_map(|routes| {
            // The first of an endpoint's routes that wants the message carries it.
            let target = |(rank, route)| TargetSpec { is_alternative: rank > 0, ..target(route, state.time_to_live) };
            routes.into_iter().enumerate().map(target).collect::<Vec<_>>()
        });
        let heard = state.listeners.iter().filter(|listener| listener.selection.source.matches(&path));
        let heard = heard.map(|listener| TargetSpec {
            when_full: WhenFull::Skip,
            condition: listener.selection.condition.clone(),
            gate: listener.gate.clone(),
            ..TargetSpec::new(Sink::Listener(listener.queue.clone()))
        });
        routed.chain(heard).collect()
    })
}

fn source_path(source: &Source) -> SourcePath {
    let module = source.identity.parse::<Identity>().ok().and_then(|id| id.module_id().map(str::to_owned));
    match module {
        // No module can have it, so these are the runtime's own.
        Some(module) if module == EDGE_HUB => SourcePath::own(&source.output),
        Some(module) => SourcePath::module(&module, (!source.output.is_empty()).then_some(&*source.output)),
        None => SourcePath::device(),
    }
}

fn target(route: &CompiledRoute, time_to_live: Option<Duration>) -> TargetSpec {
    let spec = route.target.clone();
    let max_bytes = spec.max_message_bytes.map_or(MAX_MESSAGE_BYTES, |max| max as usize);
    let sink = match (spec.sink, spec.durability) {
        (routing::Sink::Upstream, _) => Sink::Disk("$upstream".into()),
        (routing::Sink::Input { module, input }, Durability::Memory) => {
            Sink::Input { module: module.into(), input: input.into() }
        }
        (routing::Sink::Input { module, input }, Durability::Disk) => {
            Sink::Stored { module: module.into(), input: input.into() }
        }
    };
    let when_full = match spec.on_full {
        OnFull::Spill => WhenFull::Spill,
        OnFull::DropOldest => WhenFull::DropOldest,
        OnFull::DropNewest => WhenFull::DropNewest,
        OnFull::Block => WhenFull::Block(spec.block),
    };
    let ttl_secs = spec.ttl.or(time_to_live).map(|ttl| ttl.as_secs());
    TargetSpec {
        priority: spec.priority,
        ttl_secs,
        max_bytes,
        when_full,
        condition: route.condition.clone(),
        ..TargetSpec::new(sink)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::ingest::{Outgoing, OutgoingBody};
    use crate::queue::sequences::Book;

    #[test]
    fn a_listener_that_leaves_while_messages_wait_for_it_leaves_no_memory_behind() {
        let limits = LaneLimits { messages: 10, bytes: 1 << 20 };
        let ingest = Arc::new(Ingest::new("d", Book::unkept(1), limits));
        let listeners = Listeners::new(ingest.clone());
        let output = ingest.output(&Identity::module("d", "m").unwrap(), "out");
        let send = || {
            let outgoing = Outgoing { meta_len: 0, fill: &|_| {}, body: OutgoingBody::Bytes(b"x") };
            ingest.send(&output, &outgoing, &mut |_, _, _| Ok(())).unwrap();
        };
        let inbox = Arc::<Inbox>::default();
        let (id, queue) = listeners.listen(Selection::parse("FROM /*").unwrap(), None, inbox.clone());
        send();
        assert_eq!(queue.waiting(), (1, 1));
        let gone = (Arc::downgrade(&inbox), Arc::downgrade(&queue));

        listeners.forget(id);
        drop((inbox, queue));
        send();

        assert_eq!((gone.0.strong_count(), gone.1.strong_count()), (0, 0));
    }
}
