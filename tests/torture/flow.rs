//! Who sends what to whom during the torture, and the manifest that says so.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::Manifest;

/// Messages of one output on their way to one receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Module and output that numbered them.
    pub origin: (&'static str, &'static str),
    /// Who is to handle them; `None`: they wait for the hub.
    pub receiver: Option<&'static str>,
    /// Every acknowledged message arrives; else each arrives or is in the ledger.
    pub is_durable: bool,
}

const fn to(origin: (&'static str, &'static str), receiver: &'static str, is_durable: bool) -> Flow {
    Flow { origin, receiver: Some(receiver), is_durable }
}

/// All flows that are checked. What `chain` sends reaches `last` through `relay`, which handles each message by sending it on.
pub const FLOWS: [Flow; 6] = [
    to(("mixed", "a"), "first", false),
    to(("mixed", "b"), "first", true),
    to(("chain", "a"), "relay", true),
    to(("chain", "a"), "last", true),
    to(("quick", "a"), "last", false),
    Flow { origin: ("upward", "a"), receiver: None, is_durable: true },
];

pub const SENDERS: [&str; 4] = ["mixed", "chain", "quick", "upward"];
/// Those whose accounts are checked.
pub const RECEIVERS: [&str; 3] = ["first", "relay", "last"];
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
    let sender = |module, more| told(module, more);
    let mut manifest = Manifest::new()
        .numbering_sender("mixed", &["a", "b"], sender("mixed", json!({"pauseUs": pace_us})))
        .numbering_sender("chain", &["a"], sender("chain", json!({"pauseUs": pace_us, "window": 16})))
        .numbering_sender("quick", &["a"], sender("quick", json!({"pauseUs": pace_us / 4})))
        .numbering_sender("upward", &["a"], sender("upward", json!({"pauseUs": 50_000, "maxBytes": 300})))
        .numbering_receiver("first", told("first", json!({})))
        .numbering_receiver("relay", told("relay", json!({"relay": true})))
        .numbering_receiver("last", told("last", json!({})))
        .numbering_receiver(LISTENER, told(LISTENER, json!({})))
        .route("mixed-memory", &into(from("mixed", "a"), "first"))
        .any_route("mixed-disk", durable(into(from("mixed", "b"), "first")))
        .any_route("chain-1", durable(into(from("chain", "a"), "relay")))
        .any_route("chain-2", durable(into(from("relay", "out"), "last")))
        .route("quick", &into(from("quick", "a"), "last"))
        .route("up", "FROM /messages/modules/upward/* INTO $upstream")
        .with("first", "env", json!({"VARIANT": {"value": variant.environment.to_string()}}));
    if variant.idler {
        manifest = manifest.numbering_receiver("idler", told("idler", json!({})));
    }
    manifest
}
