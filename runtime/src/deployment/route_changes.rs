//! How the routes of a manifest differ from those in force, in words.

use super::manifest::Manifest;
use super::plan::Actual;
use super::step::Step;
use crate::routing::RouteSpec;

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
