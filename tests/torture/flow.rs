//! Who sends what to whom during the torture, and the manifest that says so.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::Manifest;

/// What is promised about the messages of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// Every acknowledged message arrives.
    Durable,
    /// Each arrives or is in the ledger, with one of [`DEATHS`] or of these reasons.
    Memory(&'static [&'static str]),
    /// Each arrives or has expired, and is in the ledger then.
    DurableForATime,
}

/// Why a message in memory may be lost on any route.
const DEATHS: [&str; 5] = ["runtimeDied", "notStored", "storeFull", "full", "stopped"];

impl Promise {
    /// Whether a message may be missing for this reason.
    pub fn allows(self, reason: &str) -> bool {
        match self {
            Promise::Durable => false,
            Promise::Memory(more) => DEATHS.contains(&reason) || more.contains(&reason),
            Promise::DurableForATime => reason == "expired",
        }
    }

    /// Whether messages may be missing although nothing bad happened but that a receiver was slow.
    pub fn is_loose(self) -> bool {
        !matches!(self, Promise::Durable | Promise::Memory([]))
    }
}

/// Messages of one output on their way to one receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Module and output that numbered them.
    pub origin: (&'static str, &'static str),
    /// Of that output, those of one level; `None`: all.
    pub level: Option<u64>,
    /// Who is to handle them; `None`: they wait for the hub.
    pub receiver: Option<&'static str>,
    pub promise: Promise,
    /// Within one priority order is kept.
    pub priority: u8,
    /// Who handles them before, and sends them on.
    pub via: Option<&'static str>,
    /// Order is promised: nobody on the way decides later about a message, and others meanwhile; nor does what is new go first.
    pub is_ordered: bool,
}

const fn to(origin: (&'static str, &'static str), receiver: &'static str, promise: Promise) -> Flow {
    Flow { origin, level: None, receiver: Some(receiver), promise, priority: 0, via: None, is_ordered: true }
}

const fn level(level: u64, priority: u8, promise: Promise) -> Flow {
    Flow { level: Some(level), priority, ..to(("sorter", "a"), "first", promise) }
}

const fn via(via: &'static str, flow: Flow) -> Flow {
    Flow { via: Some(via), ..flow }
}

const fn in_any_order(flow: Flow) -> Flow {
    Flow { is_ordered: false, ..flow }
}

/// All flows that are checked. What `chain` sends reaches `last` through `relay`, which handles each message by sending it on; what
/// `pair` sends does so through `late`, where a thread decides.
pub const FLOWS: [Flow; 19] = [
    to(("mixed", "a"), "first", Promise::Memory(&[])),
    to(("mixed", "b"), "first", Promise::Durable),
    to(("chain", "a"), "relay", Promise::Durable),
    via("relay", to(("chain", "a"), "last", Promise::Durable)),
    to(("quick", "a"), "last", Promise::Memory(&[])),
    Flow { receiver: None, ..to(("upward", "a"), "", Promise::Durable) },
    // One output by conditions, on disk and in memory at one priority, and with times to live.
    level(0, 2, Promise::Durable),
    level(1, 2, Promise::Memory(&[])),
    level(2, 7, Promise::Memory(&["expired"])),
    level(3, 9, Promise::DurableForATime),
    to(("pushy", "a"), "narrow", Promise::Memory(&["dropOldest"])),
    to(("pushy", "b"), "narrow", Promise::Memory(&["dropNewest"])),
    // A sender that is told of an error has nothing acknowledged.
    to(("pushy", "c"), "narrow", Promise::Memory(&[])),
    to(("pushy", "d"), "narrow", Promise::Memory(&[])),
    to(("pair", "a"), "first", Promise::Memory(&[])),
    in_any_order(to(("pair", "a"), "late", Promise::Durable)),
    in_any_order(via("late", to(("pair", "a"), "last", Promise::Durable))),
    // What comes while the receiver is behind goes before what waits.
    in_any_order(to(("brisk", "a"), "fresh", Promise::Memory(&[]))),
    in_any_order(to(("brisk", "b"), "fresh", Promise::Durable)),
];

pub const SENDERS: [&str; 8] = ["mixed", "chain", "quick", "upward", "sorter", "pushy", "pair", "brisk"];
/// Those whose accounts are checked.
pub const RECEIVERS: [&str; 6] = ["first", "relay", "last", "narrow", "late", "fresh"];
/// Gets what others get too, by a route that comes and goes.
pub const LISTENER: &str = "aside";

/// A route to it.
pub const ASIDE: &str = "FROM /messages/modules/mixed/outputs/a INTO BrokeredEndpoint(\"/modules/aside/inputs/in\")";

/// Where a module keeps its account: not where the disk is filled.
pub fn account(accounts: &Path, module: &str) -> String {
    let folder = accounts.join(module);
    std::fs::create_dir_all(&folder).unwrap();
    folder.to_string_lossy().into_owned()
}

/// Says the same in several ways, so that a deployment changes something without changing who gets what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Variant {
    /// Routes are written otherwise.
    pub wide: bool,
    /// A module of its own that has nothing to do is there.
    pub idler: bool,
    /// Number in the environment of a receiver, which is restarted when it changes.
    pub environment: u8,
}

/// The manifest. `pace_us`: pause between two messages of an output.
pub fn manifest(accounts: &Path, variant: Variant, pace_us: u64) -> Manifest {
    let told = |module: &str, more: Value| {
        let mut desired = more;
        desired["folder"] = account(accounts, module).into();
        desired
    };
    let from = |module: &str, output: &str| match variant.wide {
        false => format!("FROM /messages/modules/{module}/outputs/{output}"),
        true => format!("SELECT * FROM /messages/modules/{module}/outputs/{output} /* and no other */"),
    };
    let into = |text: String, module: &str| format!("{text} INTO BrokeredEndpoint(\"/modules/{module}/inputs/in\")");
    let durable = |text: String| json!({"route": text, "durability": "disk"});
    let sorted = |condition: &str, priority: u8, more: Value| {
        let text = into(format!("{} WHERE {condition}", from("sorter", "a")), "first");
        let mut route = json!({"route": text, "priority": priority});
        more.as_object().into_iter().flatten().for_each(|(key, value)| route[key] = value.clone());
        route
    };
    let pushed =
        |output: &str, on_full: &str| json!({"route": into(from("pushy", output), "narrow"), "onFull": on_full});
    let mut blocking = pushed("c", "block");
    blocking["blockMs"] = 20.into();
    let sender = |module, more| told(module, more);
    let mut manifest = Manifest::new()
        .numbering_sender("mixed", &["a", "b"], sender("mixed", json!({"pauseUs": pace_us})))
        .numbering_sender("chain", &["a"], sender("chain", json!({"pauseUs": pace_us, "window": 16})))
        .numbering_sender("quick", &["a"], sender("quick", json!({"pauseUs": pace_us / 4})))
        .numbering_sender("upward", &["a"], sender("upward", json!({"pauseUs": 100_000, "maxBytes": 300})))
        .numbering_sender("sorter", &["a"], sender("sorter", json!({"pauseUs": pace_us, "levels": 4, "json": true})))
        .numbering_sender("pushy", &["a", "b", "c", "d"], sender("pushy", json!({"pauseUs": pace_us})))
        .numbering_sender("pair", &["a"], sender("pair", json!({"pauseUs": 2 * pace_us, "window": 8})))
        .numbering_sender("brisk", &["a", "b"], sender("brisk", json!({"pauseUs": pace_us})))
        .numbering_receiver("first", told("first", json!({})))
        .numbering_receiver("relay", told("relay", json!({"relay": true, "relayAll": true})))
        .numbering_receiver("last", told("last", json!({})))
        .numbering_receiver("narrow", told("narrow", json!({})))
        .numbering_receiver("late", told("late", json!({"relay": true, "relayAll": true, "defer": true})))
        .numbering_receiver("fresh", told("fresh", json!({})))
        .numbering_receiver(LISTENER, told(LISTENER, json!({})))
        .route("mixed-memory", &into(from("mixed", "a"), "first"))
        .any_route("mixed-disk", durable(into(from("mixed", "b"), "first")))
        .any_route("chain-1", durable(into(from("chain", "a"), "relay")))
        .any_route("chain-2", durable(into(from("relay", "out"), "last")))
        .route("quick", &into(from("quick", "a"), "last"))
        .any_route("sorter-0", sorted("level = '0'", 2, json!({"durability": "disk"})))
        .any_route("sorter-1", sorted("$body.level = 1", 2, json!({})))
        .any_route("sorter-2", sorted("level = '2' AND $body.level > 1", 7, json!({"timeToLiveSecs": 2})))
        .any_route("sorter-3", sorted("NOT (level < '3')", 9, json!({"durability": "disk", "timeToLiveSecs": 3})))
        .any_route("pushy-a", pushed("a", "dropOldest"))
        .any_route("pushy-b", pushed("b", "dropNewest"))
        .any_route("pushy-c", blocking)
        .any_route("pushy-d", pushed("d", "spill"))
        .route("pair-memory", &into(from("pair", "a"), "first"))
        .any_route("pair-disk", durable(into(from("pair", "a"), "late")))
        .any_route("pair-on", durable(into(from("late", "out"), "last")))
        .route("brisk-memory", &into(from("brisk", "a"), "fresh"))
        .any_route("brisk-disk", durable(into(from("brisk", "b"), "fresh")))
        .store(json!({"endpoints": {"/modules/fresh/inputs/in": {"order": "liveFirst"}}}))
        .route("up", "FROM /messages/modules/upward/* INTO $upstream")
        .with("first", "env", json!({"VARIANT": {"value": variant.environment.to_string()}}));
    if variant.idler {
        manifest = manifest.numbering_receiver("idler", told("idler", json!({})));
    }
    manifest
}
