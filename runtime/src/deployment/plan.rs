//! The plan: what applying a manifest does to what there is, step by step, each with its reason. Nothing is carried out here.
//!
//! Order: what goes or stops, in reverse start order; desired properties; routes; what starts, in start order; what is kept. So a
//! module that starts finds its twin and its routes as the manifest wants them.
//!
//! Guarantees: an unchanged module is not touched; desired properties are replaced only if their section of the manifest changed;
//! dropped and added instances are kept unless the manifest has their name.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::manifest::{DesiredSection, Manifest};
use crate::instance::spec::{DesiredStatus, InstanceSpec, Origin};
use crate::routing::RouteSpec;
use crate::view::{PlanStep, PlanView, Status};

/// What there is.
#[derive(Debug, Clone, Default)]
pub struct Actual {
    /// All instances, by name.
    pub instances: BTreeMap<String, ActualInstance>,
    /// Sections of desired properties of the manifest in force; empty where there is none.
    pub last_desired: BTreeMap<String, DesiredSection>,
    /// Desired properties as the twins have them now (without `$version` and `$metadata`); a module without a twin is left out.
    pub desired: BTreeMap<String, Value>,
    /// The routes of the manifest in force.
    pub routes: Vec<RouteSpec>,
    /// Names of the routes that were added outside a manifest.
    pub local_routes: BTreeSet<String>,
}

/// An instance that there is.
#[derive(Debug, Clone)]
pub struct ActualInstance {
    /// What was wanted of it.
    pub spec: InstanceSpec,
    /// Who wanted it.
    pub origin: Origin,
    /// Where it stands.
    pub status: Status,
    /// Who stopped it, if a person did: it stays stopped until a person starts it.
    pub held_by: Option<String>,
}

/// What a manifest changes, in the order of execution.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
    /// What a person should know besides.
    pub notes: Vec<String>,
}

/// One step of a plan; `why` is for a person.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Stop it, or have it without starting it.
    Stop {
        /// What is wanted of it from now on.
        spec: InstanceSpec,
        /// Why.
        why: String,
    },
    /// Stop it and forget it.
    Remove {
        /// Its name.
        name: String,
        /// Why.
        why: String,
    },
    /// Set desired properties.
    SetDesired {
        /// Whose.
        module: String,
        /// To what.
        section: DesiredSection,
        /// Why.
        why: String,
    },
    /// Put these routes in force in one go.
    SetRoutes {
        /// New ones.
        added: Vec<RouteSpec>,
        /// Names of those that go.
        removed: Vec<String>,
        /// Changed ones, each with what changed.
        changed: Vec<(RouteSpec, String)>,
    },
    /// Start it, from nothing or from a standstill.
    Start {
        /// What is wanted of it from now on.
        spec: InstanceSpec,
        /// Why.
        why: String,
    },
    /// Stop it and start it as it is wanted now; what waits for it is kept.
    Restart {
        /// What is wanted of it from now on.
        spec: InstanceSpec,
        /// Why.
        why: String,
    },
    /// Leave it as it is. `spec` differs from what was only where it does not run, or in its origin.
    Keep {
        /// What is wanted of it from now on.
        spec: InstanceSpec,
        /// Why.
        why: String,
    },
}

/// Compares what there is with what is wanted.
pub fn plan(current: &Actual, wanted: &Manifest) -> Plan {
    let mut plan = Plan::default();
    let mut stops: Vec<Step> = Vec::new();
    let mut starts: Vec<Step> = Vec::new();
    let mut keeps: Vec<Step> = Vec::new();
    for (name, actual) in current.instances.iter().filter(|(name, _)| !wanted.modules.contains_key(*name)) {
        match actual.origin {
            Origin::Deployment => {
                stops.push(Step::Remove { name: name.clone(), why: "no longer in the manifest".to_owned() });
            }
            origin => keeps.push(Step::Keep { spec: actual.spec.clone(), why: local(origin).to_owned() }),
        }
    }
    for (name, spec) in &wanted.modules {
        let step = match current.instances.get(name) {
            None => step_for_new(spec),
            Some(actual) => step_for_existing(actual, spec),
        };
        match step {
            Step::Stop { .. } => stops.push(step),
            Step::Keep { .. } => keeps.push(step),
            _ => starts.push(step),
        }
    }
    let order = |step: &Step| {
        let name = step.name().to_owned();
        let known = |spec: &InstanceSpec| spec.startup_order;
        let actual = current.instances.get(&name).map(|actual| known(&actual.spec));
        (actual.or_else(|| wanted.modules.get(&name).map(known)).unwrap_or(u32::MAX), name)
    };
    let wanted_order =
        |step: &Step| (wanted.modules.get(step.name()).map(|spec| spec.startup_order), step.name().to_owned());
    stops.sort_by_key(|step| Reverse(order(step)));
    starts.sort_by_key(wanted_order);

    plan.steps.extend(stops);
    plan_desired(current, wanted, &mut plan);
    plan.steps.extend(plan_routes(&current.routes, &wanted.routes));
    plan.notes.extend(note_local_routes(current, wanted));
    plan.steps.extend(starts);
    plan.steps.extend(keeps);
    plan
}

fn local(origin: Origin) -> &'static str {
    match origin {
        Origin::Drop => "not in the manifest; started by its file in a watched folder",
        Origin::Cli => "not in the manifest; added by a person",
        Origin::Deployment => "in the manifest",
    }
}

fn step_for_new(spec: &InstanceSpec) -> Step {
    let spec = spec.clone();
    match spec.status {
        DesiredStatus::Running => Step::Start { spec, why: "new module".to_owned() },
        DesiredStatus::Stopped => Step::Stop { spec, why: "new module that stays stopped".to_owned() },
    }
}

fn step_for_existing(actual: &ActualInstance, wanted: &InstanceSpec) -> Step {
    let spec = wanted.clone();
    let mut reasons = wanted.changes_from(&actual.spec);
    let is_changed = !reasons.is_empty();
    let is_up = matches!(
        actual.status,
        Status::Starting | Status::Running | Status::Unhealthy | Status::Backoff | Status::Stopping | Status::Waiting
    );
    match actual.origin {
        Origin::Deployment => {}
        Origin::Drop => reasons.push("taken over from the watched folder".to_owned()),
        Origin::Cli => reasons.push("taken over from a person".to_owned()),
    }
    if wanted.status != actual.spec.status {
        let only = if reasons.is_empty() { "only " } else { "" };
        reasons.push(format!("{only}status changed from {} to {}", actual.spec.status, wanted.status));
    }
    let said = |reasons: &[String], otherwise: &str| {
        if reasons.is_empty() { otherwise.to_owned() } else { reasons.join("; ") }
    };
    match (wanted.status, &actual.held_by) {
        (DesiredStatus::Stopped, _) if is_up => Step::Stop { spec, why: said(&reasons, "wanted stopped") },
        (DesiredStatus::Stopped, _) => Step::Keep { spec, why: said(&reasons, "unchanged: stopped") },
        (DesiredStatus::Running, Some(by)) if !is_up => {
            reasons.push(format!("stays stopped: {by} stopped it (dinrail start {})", wanted.name));
            Step::Keep { spec, why: reasons.join("; ") }
        }
        (DesiredStatus::Running, _) if is_up && is_changed => Step::Restart { spec, why: reasons.join("; ") },
        (DesiredStatus::Running, _) if is_up => Step::Keep { spec, why: said(&reasons, "unchanged") },
        (DesiredStatus::Running, _) => {
            let why = format!("was {}: a deployment tries it again", actual.status.as_str());
            Step::Start { spec, why: said(&reasons, &why) }
        }
    }
}

fn plan_desired(current: &Actual, wanted: &Manifest, plan: &mut Plan) {
    for (module, section) in &wanted.desired {
        let last = current.last_desired.get(module);
        let now = current.desired.get(module);
        let mut why = match (last, now) {
            (_, None) => "new twin".to_owned(),
            (Some(last), _) if last == section => continue,
            (Some(_), _) => "its section of the manifest changed".to_owned(),
            (None, _) => "its section is new in the manifest".to_owned(),
        };
        let overwritten = now.map(|now| overwritten(now, last, section)).unwrap_or_default();
        if !overwritten.is_empty() {
            let paths = shortened(&overwritten);
            why.push_str(&format!("; overwrites what was set locally: {paths}"));
            plan.notes.push(format!("{module}: overwrites desired properties that were set locally: {paths}"));
        }
        plan.steps.push(Step::SetDesired { module: module.clone(), section: section.clone(), why });
    }
}

/// Paths of what is in the twin, did not come from the last manifest and does not outlive the new one.
fn overwritten(now: &Value, last: Option<&DesiredSection>, section: &DesiredSection) -> Vec<String> {
    let empty = Map::new();
    let last = last.map_or(&empty, DesiredSection::properties);
    let mut local = Vec::new();
    differences(now, &Value::Object(last.clone()), "", &mut local);
    local.retain(|path| match (lookup(now, path), lookup(section.properties(), path)) {
        (now, Some(new)) => now != Some(new),
        // What a merge does not name, it leaves alone.
        (now, None) => now.is_some() && matches!(section, DesiredSection::Replace(_)),
    });
    local
}

/// Paths of the leaves in which `a` and `b` differ, as dotted texts.
fn differences(a: &Value, b: &Value, path: &str, found: &mut Vec<String>) {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                let path = crate::document::child_path(path, key);
                differences(a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null), &path, found);
            }
        }
        (Value::Object(members), Value::Null) | (Value::Null, Value::Object(members)) if !members.is_empty() => {
            for (key, value) in members {
                differences(value, &Value::Null, &crate::document::child_path(path, key), found);
            }
        }
        (a, b) if a != b => found.push(path.to_owned()),
        _ => {}
    }
}

/// The value at a dotted path. Keys of desired properties have no dots of their own.
fn lookup<'v>(root: impl Into<Node<'v>>, path: &str) -> Option<&'v Value> {
    let Node(mut members) = root.into();
    let (parents, last) = path.rsplit_once('.').map_or((None, path), |(parents, last)| (Some(parents), last));
    for part in parents.into_iter().flat_map(|parents| parents.split('.')) {
        members = members?.get(part)?.as_object();
    }
    members?.get(last)
}

struct Node<'v>(Option<&'v Map<String, Value>>);

impl<'v> From<&'v Value> for Node<'v> {
    fn from(value: &'v Value) -> Node<'v> {
        Node(value.as_object())
    }
}

impl<'v> From<&'v Map<String, Value>> for Node<'v> {
    fn from(members: &'v Map<String, Value>) -> Node<'v> {
        Node(Some(members))
    }
}

fn shortened(paths: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = paths[..paths.len().min(SHOWN)].join(", ");
    if paths.len() > SHOWN { format!("{shown} and {} more", paths.len() - SHOWN) } else { shown }
}

fn plan_routes(current: &[RouteSpec], wanted: &[RouteSpec]) -> Option<Step> {
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
fn note_local_routes(current: &Actual, wanted: &Manifest) -> Vec<String> {
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
    if old.on_full != new.on_full {
        changes.push("onFull changed".to_owned());
    }
    if old.max_message_bytes != new.max_message_bytes {
        changes.push("maxMessageBytes changed".to_owned());
    }
    changes.join("; ")
}

impl Step {
    /// The instance or twin that it is about; empty for routes.
    pub fn name(&self) -> &str {
        match self {
            Step::Stop { spec, .. }
            | Step::Start { spec, .. }
            | Step::Restart { spec, .. }
            | Step::Keep { spec, .. } => &spec.name,
            Step::Remove { name, .. } => name,
            Step::SetDesired { module, .. } => module,
            Step::SetRoutes { .. } => "",
        }
    }

    /// As clients are shown it: one line, or one for each route.
    pub fn view(&self) -> Vec<PlanStep> {
        let line = |action: &str, name: &str, reason: &str| PlanStep {
            action: action.to_owned(),
            name: name.to_owned(),
            reason: reason.to_owned(),
        };
        match self {
            Step::Stop { spec, why } => vec![line("stop", &spec.name, why)],
            Step::Remove { name, why } => vec![line("remove", name, why)],
            Step::SetDesired { module, why, .. } => vec![line("twin", module, why)],
            Step::Start { spec, why } => vec![line("start", &spec.name, why)],
            Step::Restart { spec, why } => vec![line("restart", &spec.name, why)],
            Step::Keep { spec, why } => vec![line("keep", &spec.name, why)],
            Step::SetRoutes { added, removed, changed } => {
                let gone = removed.iter().map(|name| line("route", name, "removed: no longer in the manifest"));
                let new = added.iter().map(|route| line("route", &route.name, &format!("new: {}", route.text)));
                let other = changed.iter().map(|(route, why)| line("route", &route.name, why));
                gone.chain(other).chain(new).collect()
            }
        }
    }
}

impl Plan {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.steps.iter().all(|step| matches!(step, Step::Keep { .. }))
    }

    /// As clients are shown it; `notes` are those of the manifest.
    pub fn view(&self, notes: &[String]) -> PlanView {
        PlanView {
            steps: self.steps.iter().flat_map(Step::view).collect(),
            notes: notes.iter().chain(&self.notes).cloned().collect(),
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
