//! The plan: what applying a manifest does to what there is, step by step, each with its reason. Nothing is carried out here.
//!
//! Order: what goes or stops, in reverse start order; desired properties; routes; what starts, in start order; what is kept. So a
//! module that starts finds its twin and its routes as the manifest wants them. What is to be restarted stops with those that
//! stop and starts with those that start.
//!
//! Guarantees: an unchanged module is not touched; desired properties are replaced only if their section of the manifest changed;
//! dropped and added instances are kept unless the manifest has their name.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::manifest::{DesiredSection, Manifest};
use super::overwritten::{overwritten, shortened};
use super::route_changes;
use super::step::{Plan, Step};
use crate::clock::spoken;
use crate::instance::spec::{DesiredStatus, InstanceSpec, Origin};
use crate::routing::{RouteSpec, Sink};
use crate::view::Status;

/// Modules that a note names one by one.
const MAX_NAMED: usize = 5;

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
    /// Messages that wait, by module and input.
    pub waiting: BTreeMap<(String, String), u64>,
    /// Where routes lead that were added outside a manifest.
    pub fed_locally: BTreeSet<Sink>,
    /// Bytes of messages that wait on disk for the hub.
    pub upstream_bytes: u64,
    /// What the image reference of each wanted module means.
    pub images: BTreeMap<String, Meaning>,
    /// The deployment to which a failed one goes back.
    pub last_good: Option<i64>,
}

/// An instance that there is.
#[derive(Debug, Clone)]
pub struct ActualInstance {
    /// What was wanted of it.
    pub spec: InstanceSpec,
    /// Who wanted it.
    pub origin: Origin,
    /// A file or a person wanted it before a deployment took it over.
    pub was_local: bool,
    /// Where it stands.
    pub status: Status,
    /// It is being stopped or removed, and nothing would start it again.
    pub is_going_down: bool,
    /// The image that it uses, `sha256:…`.
    pub digest: Option<String>,
    /// Its identity may not act: it stays stopped until that is enabled again.
    pub is_disabled: bool,
    /// Who stopped it, if a person did: it stays stopped until a person starts it.
    pub held_by: Option<String>,
    /// Messages that wait for it.
    pub messages: u64,
    /// Messages for it that were set aside.
    pub parked: u64,
}

/// What an image reference means for an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meaning {
    /// Looked up anew, without what is barred for the instance.
    pub kept: Image,
    /// The same with what is barred: a deployment that changes the instance tries it again.
    pub afresh: Image,
}

/// An image that was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Image {
    /// It is here.
    Here {
        /// `sha256:…`.
        digest: String,
        /// Name and version.
        title: String,
    },
    /// It comes with the manifest.
    Comes {
        /// `sha256:…`.
        digest: String,
    },
    /// It is not here yet.
    Missing(String),
    /// It may not be used.
    Quarantined(String),
}

impl Image {
    fn digest(&self) -> Option<&str> {
        match self {
            Image::Here { digest, .. } | Image::Comes { digest } => Some(digest),
            Image::Missing(_) | Image::Quarantined(_) => None,
        }
    }
}

/// The first twelve digits of a digest, as in `image list`.
fn short(digest: &str) -> &str {
    digest.get(.."sha256:".len() + 12).unwrap_or(digest)
}

/// Compares what there is with what is wanted.
pub fn plan(current: &Actual, wanted: &Manifest) -> Plan {
    let mut plan = Plan::default();
    let mut stops: Vec<Step> = Vec::new();
    let mut starts: Vec<Step> = Vec::new();
    let mut keeps: Vec<Step> = Vec::new();
    for (name, actual) in current.instances.iter().filter(|(name, _)| !wanted.modules.contains_key(*name)) {
        match actual.origin {
            Origin::Deployment => stops.push(step_for_gone(name, actual)),
            origin => keeps.push(Step::Keep { spec: actual.spec.clone(), why: local(origin).to_owned() }),
        }
    }
    for (name, spec) in &wanted.modules {
        let images = current.images.get(name);
        let step = match current.instances.get(name) {
            None => step_for_new(spec),
            Some(actual) => step_for_existing(actual, spec, images),
        };
        match with_image(step, images) {
            step @ Step::Stop { .. } => stops.push(step),
            step @ Step::Keep { .. } => keeps.push(step),
            step => starts.push(step),
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
    plan.steps.extend(route_changes::compare(&current.routes, &wanted.routes));
    plan.notes.extend(route_changes::note_local(current, wanted));
    plan.notes.extend(route_changes::note_unfed(current, wanted));
    plan.steps.extend(starts);
    plan.notes.extend(what_stays(&plan));
    plan.notes.extend(gate_note(current, wanted, &plan));
    plan.steps.extend(keeps);
    plan
}

/// Says that an identity does not go with its module.
fn what_stays(plan: &Plan) -> Option<String> {
    let gone: Vec<&str> =
        plan.steps.iter().filter(|step| matches!(step, Step::Remove { .. })).map(Step::name).collect();
    let whose = match gone[..] {
        [] => return None,
        [.., _] if gone.len() <= MAX_NAMED => gone.join(", "),
        _ => format!("the {} modules that are removed", gone.len()),
    };
    Some(format!("identity and twin of {whose} stay until they are removed by name: dinrail remove NAME --purge"))
}

/// What the health gate of the plan's changes will be.
fn gate_note(current: &Actual, wanted: &Manifest, plan: &Plan) -> Option<String> {
    let is_gated = |step: &&Step| matches!(step, Step::Start { is_retry: false, .. } | Step::Restart { .. });
    let changed = plan.steps.iter().filter(is_gated).count();
    if changed == 0 {
        return None;
    }
    if wanted.health.is_zero() {
        return Some("healthSecs is 0: no health gate, nothing is rolled back by itself".to_owned());
    }
    let who = if changed == 1 { "the changed module".to_owned() } else { format!("the {changed} changed modules") };
    let otherwise = match current.last_good {
        Some(id) => format!("else deployment {id} is put in force again"),
        None => "there is no good deployment to go back to otherwise".to_owned(),
    };
    Some(format!("health gate: {who} must stay up for {}; {otherwise}", spoken(wanted.health)))
}

fn step_for_gone(name: &str, actual: &ActualInstance) -> Step {
    let mut why = "no longer in the manifest".to_owned();
    if actual.was_local {
        why.push_str("; that it was dropped or added before a deployment took it over does not bring it back");
    }
    why = with_messages(why, actual);
    match actual.parked {
        0 => {}
        1 => why.push_str("; 1 message for it that was set aside stays too"),
        parked => why.push_str(&format!("; {parked} messages for it that were set aside stay too")),
    }
    Step::Remove { name: name.to_owned(), why }
}

fn with_messages(mut why: String, actual: &ActualInstance) -> String {
    match actual.messages {
        0 => {}
        1 => why.push_str("; 1 message waits for it and stays queued"),
        messages => why.push_str(&format!("; {messages} messages wait for it and stay queued")),
    }
    why
}

/// Says what a step that starts something will find as its image.
fn with_image(mut step: Step, images: Option<&Meaning>) -> Step {
    let is_up = matches!(step, Step::Restart { .. });
    if let (Step::Start { why, .. } | Step::Restart { why, .. }, Some(Meaning { afresh, .. })) = (&mut step, images) {
        why.push_str("; ");
        why.push_str(&match afresh {
            Image::Here { digest, title } => format!("runs {title} ({})", short(digest)),
            Image::Comes { digest } => format!("its image comes with the manifest ({})", short(digest)),
            Image::Missing(reason) if is_up => format!("what runs goes on until its image is here: {reason}"),
            Image::Missing(reason) => format!("waits for its image: {reason}"),
            Image::Quarantined(reason) => format!("its image is quarantined: {reason}"),
        });
    }
    step
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
        DesiredStatus::Running => Step::Start { spec, why: "new module".to_owned(), is_retry: false },
        DesiredStatus::Stopped => Step::Stop { spec, why: "new module that stays stopped".to_owned() },
    }
}

fn step_for_existing(actual: &ActualInstance, wanted: &InstanceSpec, images: Option<&Meaning>) -> Step {
    let spec = wanted.clone();
    let mut reasons = wanted.changes_from(&actual.spec);
    let other_image = other_image(actual, images);
    if reasons.is_empty() && wanted.status == DesiredStatus::Running {
        reasons.extend(other_image);
    }
    let is_changed = !reasons.is_empty();
    let is_up = !actual.is_going_down
        && matches!(
            actual.status,
            Status::Starting
                | Status::Running
                | Status::Unhealthy
                | Status::Backoff
                | Status::Stopping
                | Status::Waiting
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
        (DesiredStatus::Stopped, _) if is_up => {
            Step::Stop { spec, why: with_messages(said(&reasons, "wanted stopped"), actual) }
        }
        (DesiredStatus::Stopped, _) => Step::Keep { spec, why: said(&reasons, "unchanged: stopped") },
        (DesiredStatus::Running, _) if !is_up && actual.is_disabled => {
            reasons.push(format!("stays stopped: its identity is disabled (dinrail identity enable {})", wanted.name));
            Step::Keep { spec, why: reasons.join("; ") }
        }
        (DesiredStatus::Running, Some(by)) if !is_up => {
            reasons.push(format!("stays stopped: {by} stopped it (dinrail start {})", wanted.name));
            Step::Keep { spec, why: reasons.join("; ") }
        }
        (DesiredStatus::Running, _) if is_up && is_changed => Step::Restart { spec, why: reasons.join("; ") },
        (DesiredStatus::Running, _) if is_up => Step::Keep { spec, why: said(&reasons, "unchanged") },
        (DesiredStatus::Running, _) => {
            let why = format!("was {}: a deployment tries it again", actual.status.as_str());
            let is_retry = reasons.is_empty();
            Step::Start { spec, why: said(&reasons, &why), is_retry }
        }
    }
}

/// Says that the reference, as it was before, means other bytes now.
fn other_image(actual: &ActualInstance, images: Option<&Meaning>) -> Option<String> {
    let now = actual.digest.as_deref()?;
    let new = images?.kept.digest().filter(|new| *new != now)?;
    Some(format!("{} means other bytes now ({} instead of {})", actual.spec.image, short(new), short(now)))
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
            why.push_str(&format!("; overwrites what was set locally: {}", shortened(&overwritten)));
        }
        plan.steps.push(Step::SetDesired { module: module.clone(), section: section.clone(), why });
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
