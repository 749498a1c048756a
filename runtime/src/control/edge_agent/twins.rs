//! Keeps the twins of `$edgeAgent` and `$edgeHub`: desired is what the deployment in force says, reported how it stands.
//!
//! A change is written soon, and further ones together, a second later: only what differs, and nothing where nothing does, since
//! each write wears the flash. What moves by itself, such as the time that is left, is not in it.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::shape::{self, Facts, ModuleFacts};
use crate::clock;
use crate::control::Control;
use crate::control::instances::Entry;
use crate::deployment;
use crate::instance::spec::{CreateOptions, InstanceSpec};
use crate::instance::state::State;
use crate::name::{EDGE_AGENT, EDGE_HUB, Identity};
use crate::twin::{Change, Part, TwinError, TwinSnapshot, patch};

/// Time in which changes gather before the first of them is written.
const SOON: Duration = Duration::from_millis(100);
/// Shortest time between two writes.
const PACE: Duration = Duration::from_secs(1);

/// What is to be written, and when.
pub(in crate::control) struct Upkeep {
    /// Wall time.
    started_us: i64,
    is_changed: Cell<bool>,
    due: Option<Instant>,
    written: Option<Instant>,
    /// The deployment that desired is of.
    shown: Option<i64>,
    /// Writes that are not committed yet.
    open: Arc<AtomicUsize>,
}

impl Upkeep {
    pub(in crate::control) fn new() -> Upkeep {
        Upkeep {
            started_us: clock::wall_us(),
            is_changed: Cell::new(true),
            due: None,
            written: None,
            shown: None,
            open: Arc::default(),
        }
    }

    /// Something may be different now.
    pub(in crate::control) fn changed(&self) {
        self.is_changed.set(true);
    }

    /// When there is something to do.
    pub(in crate::control) fn deadline(&self) -> Option<Instant> {
        self.due
    }
}

impl Control {
    /// Writes what is different, once it is time for that. `[never waits for the disk]`
    pub(in crate::control) fn keep_own_twins(&mut self, now: Instant) {
        let upkeep = &mut self.upkeep;
        if upkeep.is_changed.take() && upkeep.due.is_none() {
            let paced = upkeep.written.map(|written| written + PACE);
            upkeep.due = Some(paced.map_or(now + SOON, |paced| paced.max(now + SOON)));
        }
        if upkeep.due.is_none_or(|due| due > now) {
            return;
        }
        if upkeep.open.load(Ordering::Acquire) > 0 {
            // What differs is only known from what is committed.
            upkeep.due = Some(now + SOON);
            return;
        }
        (upkeep.due, upkeep.written) = (None, Some(now));
        if self.show_deployment() {
            // Its version is what is reported, once it has one.
            self.upkeep.due = Some(now + SOON);
            return;
        }
        self.report_own(false);
    }

    /// The last that is said: from now on nothing is known. Waits for the disk, since the runtime is ending.
    pub(in crate::control) fn report_own_end(&self) {
        if self.database.flush().is_ok() {
            self.report_own(true);
        }
    }

    fn report_own(&self, is_ending: bool) {
        let facts = self.own_facts(is_ending);
        for (name, report) in [(EDGE_AGENT, shape::agent(&facts)), (EDGE_HUB, shape::hub(&facts))] {
            let Some((identity, twin)) = self.own_twin(name) else { continue };
            let difference = patch::diff(&twin.section(Part::Reported).parse(), &report);
            if difference.is_empty() {
                continue;
            }
            let outcome = self.twins.patch_reported(&identity, &Value::Object(difference), self.noting(name));
            self.begun(name, outcome);
        }
    }

    /// Makes desired what the deployment in force says; true where it was not.
    fn show_deployment(&mut self) -> bool {
        let Some(deployment) = &self.deployment else { return false };
        if self.upkeep.shown == Some(deployment.id) {
            return false;
        }
        self.upkeep.shown = Some(deployment.id);
        let mut is_other = false;
        for name in [EDGE_AGENT, EDGE_HUB] {
            let section = deployment::own_section(&deployment.manifest().text, name).unwrap_or_default();
            let wanted = shape::desired(&section, deployment.id);
            let Some((identity, twin)) = self.own_twin(name) else { continue };
            if twin.section(Part::Desired).parse() == wanted {
                continue;
            }
            let document = Value::Object(wanted);
            let change = Change::replace_desired(&document, "deployment").of_runtime();
            let outcome = self.twins.change(&identity, &change, self.noting(name));
            self.begun(name, outcome);
            is_other = true;
        }
        is_other
    }

    fn own_twin(&self, name: &str) -> Option<(Identity, Arc<TwinSnapshot>)> {
        let identity = Identity::module(self.identities.device_id(), name).ok()?;
        let twin = self.twins.get(&identity)?;
        Some((identity, twin))
    }

    /// Counts a write, until what it gives is called.
    fn noting(&self, name: &'static str) -> impl FnOnce(Result<Arc<TwinSnapshot>, TwinError>) + Send + 'static {
        let open = self.upkeep.open.clone();
        open.fetch_add(1, Ordering::AcqRel);
        move |outcome| {
            open.fetch_sub(1, Ordering::AcqRel);
            if let Err(error) = outcome {
                tracing::warn!(
                    "the twin of {name} could not be stored, it is tried again with the next change: {error}"
                );
            }
        }
    }

    fn begun(&self, name: &str, outcome: Result<(), TwinError>) {
        if let Err(error) = outcome {
            self.upkeep.open.fetch_sub(1, Ordering::AcqRel);
            tracing::error!("the twin of {name} is not what it should be: {error}");
        }
    }

    fn own_facts(&self, is_ending: bool) -> Facts {
        let version = |name| self.own_twin(name).map_or(0, |(_, twin)| twin.desired.version);
        Facts {
            version: env!("CARGO_PKG_VERSION"),
            os_version: kernel_release(),
            started: clock::rfc3339(self.upkeep.started_us),
            agent_version: version(EDGE_AGENT),
            hub_version: version(EDGE_HUB),
            desired_status: self.deployment.as_ref().map_or((417, "nothing is deployed".to_owned()), |of| of.code()),
            is_ending,
            modules: self.instances.values().map(|entry| self.module_facts(entry)).collect(),
        }
    }

    fn module_facts(&self, entry: &Entry) -> ModuleFacts {
        let (life, spec) = (&entry.life, &entry.spec);
        let (runtime_status, description) = match &life.state {
            State::Waiting { reason } => ("unknown", format!("waiting: {reason}")),
            State::Starting => ("unknown", "starting".to_owned()),
            State::Running { .. } => ("running", "running".to_owned()),
            State::Unhealthy { reason, .. } => ("unhealthy", reason.clone()),
            State::Backoff { reason, .. } => ("backoff", reason.clone()),
            State::Stopping { .. } => ("running", "stopping".to_owned()),
            State::Stopped { reason, .. } => ("stopped", reason.clone()),
            State::Failed { reason, .. } => ("failed", reason.clone()),
            State::Quarantined { reason } => ("failed", format!("its image is quarantined: {reason}")),
            State::Removed => ("unknown", "removed".to_owned()),
        };
        ModuleFacts {
            name: spec.name.clone(),
            client: format!("{}/{}", self.identities.device_id(), spec.name),
            wanted: if self.instances.len() > shape::MAX_WHOLE_MODULES { Map::new() } else { wanted(spec) },
            image_hash: life.digest.clone(),
            exit_code: entry.exit_code,
            description,
            last_start: entry.last_start_us.map(clock::rfc3339),
            last_exit: entry.last_exit_us.map(clock::rfc3339),
            restart_count: life.failures,
            runtime_status,
        }
    }
}

/// What is wanted of an instance, as a manifest says it; references to secrets stay references.
fn wanted(spec: &InstanceSpec) -> Map<String, Value> {
    let mut settings = Map::from_iter([("image".to_owned(), spec.image.as_str().into())]);
    if spec.options != CreateOptions::default()
        && let Ok(options) = serde_json::to_value(&spec.options)
    {
        settings.insert("createOptions".to_owned(), options);
    }
    let mut wanted = Map::from_iter([
        ("type".to_owned(), json!("library")),
        ("status".to_owned(), spec.status.as_str().into()),
        ("restartPolicy".to_owned(), spec.restart_policy.as_str().into()),
        ("imagePullPolicy".to_owned(), spec.image_pull_policy.as_str().into()),
        ("startupOrder".to_owned(), spec.startup_order.into()),
        ("settings".to_owned(), Value::Object(settings)),
    ]);
    if let Some(version) = &spec.version {
        wanted.insert("version".to_owned(), version.as_str().into());
    }
    if let Ok(Value::Object(env)) = serde_json::to_value(&spec.env)
        && !env.is_empty()
    {
        let env: Map<String, Value> = env.into_iter().map(|(name, value)| (name, json!({"value": value}))).collect();
        wanted.insert("env".to_owned(), Value::Object(env));
    }
    wanted
}

/// Empty where the system does not say.
fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}
