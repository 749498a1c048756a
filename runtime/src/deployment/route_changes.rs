//! How the routes of a manifest differ from those in force, in words.

use std::collections::BTreeSet;

use super::manifest::Manifest;
use super::plan::Actual;
use super::step::Step;
use crate::instance::spec::{DesiredStatus, Origin};
use crate::routing::{Route, RouteSpec, Sink};

/// The one step that puts `wanted` in force; `None` where that is so already.
pub(super) fn compare(current: &[RouteSpec], wanted: &[RouteSpec]) -> Option<Step> {
    let find = |routes: &[RouteSpec], name: &str| routes.iter().find(|route| route.name == name).cloned();
    let mut added = Vec::new();
    let mut changed = Vec::new();
    for route in wanted {
        match find(current, &route.name) {
            None => added.push(route.clone()),
            Some(old) if old != *route => changed.push((route.clone(), route_changes(&old, route))),
            Some(_) => {}
        }
    }
    let gone = current.iter().filter(|route| find(wanted, &route.name).is_none());
    let removed: Vec<String> = gone.map(|route| route.name.clone()).collect();
    if added.is_empty() && changed.is_empty() && removed.is_empty() {
        return None;
    }
    Some(Step::SetRoutes { added, removed, changed })
}

/// What becomes of routes that were added outside a manifest.
pub(super) fn note_local(current: &Actual, wanted: &Manifest) -> Vec<String> {
    let has = |routes: &[RouteSpec], name: &str| routes.iter().any(|route| route.name == name);
    let note = |name: &String| match (has(&current.routes, name), has(&wanted.routes, name)) {
        (_, true) => Some(format!(
            "route {name}: the one that was added by hand is hidden by the manifest's (dinrail route remove {name})"
        )),
        (true, false) => Some(format!("route {name}: the one that was added by hand is in force again")),
        (false, false) => None,
    };
    current.local_routes.iter().filter_map(note).collect()
}

/// Messages that wait where no route will lead any more: nothing of them is discarded, and a person is to know of it.
pub(super) fn note_unfed(current: &Actual, wanted: &Manifest) -> Vec<String> {
    let sinks = wanted.routes.iter().filter_map(|route| Some(Route::parse(&route.text).ok()?.sink));
    let fed: BTreeSet<Sink> = sinks.chain(current.fed_locally.iter().cloned()).collect();
    let waiting = current.waiting.iter().filter(|(_, messages)| **messages > 0);
    let note = |((module, input), messages): (&(String, String), &u64)| {
        let count = wait(*messages);
        let sink = Sink::Input { module: module.clone(), input: input.clone() };
        let led = no_longer_leading(current, wanted, &sink);
        let stays = wanted.modules.contains_key(module)
            || current.instances.get(module).is_some_and(|actual| actual.origin != Origin::Deployment);
        let place = format!("{count} at input {input} of {module}");
        if !stays {
            return Some(format!("{place}, {}", kept_for(module)));
        }
        let is_stopped = wanted.modules.get(module).is_some_and(|spec| spec.status == DesiredStatus::Stopped);
        let then = if is_stopped { "delivered, in order, once it is started" } else { "still delivered, in order" };
        match (fed.contains(&sink), led.is_empty()) {
            (true, true) => None,
            (true, false) => Some(format!("{place}, to which {led} led so far: {then}")),
            (false, true) => Some(format!("{place}, to which no route leads any more: {then}")),
            (false, false) => Some(format!("{place}, to which no route leads any more ({led} did): {then}")),
        }
    };
    let mut notes: Vec<String> = waiting.filter_map(note).collect();
    if current.upstream_bytes > 0 && !fed.contains(&Sink::Upstream) {
        let led = no_longer_leading(current, wanted, &Sink::Upstream);
        let led = if led.is_empty() { led } else { format!(" ({led} did)") };
        notes.push(format!(
            "messages of {} bytes wait for $upstream, to which no route leads any more{led}: kept on disk until a hub takes them",
            current.upstream_bytes
        ));
    }
    notes
}

/// So many messages wait, in words.
pub fn wait(messages: u64) -> String {
    if messages == 1 { "1 message waits".to_owned() } else { format!("{messages} messages wait") }
}

/// What becomes of messages for a module that there is not.
pub fn kept_for(module: &str) -> String {
    format!(
        "which is not among the modules: kept until a module of this name takes them, or until dinrail remove {module} --purge \
         discards them"
    )
}

/// Routes in force to this endpoint that the manifest removes or leads elsewhere, by name; empty where there are none.
fn no_longer_leading(current: &Actual, wanted: &Manifest, sink: &Sink) -> String {
    let leads = |route: &&RouteSpec| Route::parse(&route.text).is_ok_and(|route| route.sink == *sink);
    let stays = |old: &RouteSpec| wanted.routes.iter().filter(leads).any(|route| route.name == old.name);
    let led = current.routes.iter().filter(leads).filter(|route| !stays(route));
    let names: Vec<&str> = led.map(|route| &*route.name).collect();
    match names[..] {
        [] => String::new(),
        [name] => format!("route {name}"),
        _ => format!("routes {}", names.join(", ")),
    }
}

fn route_changes(old: &RouteSpec, new: &RouteSpec) -> String {
    let mut changes = Vec::new();
    if old.text != new.text {
        changes.push(format!("changed to {}", new.text));
    }
    if old.priority != new.priority {
        changes.push(format!("priority changed from {} to {}", old.priority, new.priority));
    }
    if old.ttl_secs != new.ttl_secs {
        changes.push("time to live changed".to_owned());
    }
    if old.durability != new.durability {
        changes.push(format!("durability changed from {} to {}", old.durability, new.durability));
    }
    if (old.on_full, old.block_ms) != (new.on_full, new.block_ms) {
        changes.push("onFull changed".to_owned());
    }
    if old.max_message_bytes != new.max_message_bytes {
        changes.push("maxMessageBytes changed".to_owned());
    }
    changes.join("; ")
}
