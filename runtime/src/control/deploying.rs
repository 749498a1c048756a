//! Deployments: reads a manifest, plans, and carries the plan out. The one in force is stored before any of it takes effect, so
//! that a power cut in between is made up for at the next start.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Control;
use super::instances::Entry;
use crate::clock;
use crate::database::File;
use crate::database::tables::deployment::{self as deployment_table, DeploymentRow};
use crate::deployment::DeployRequest;
use crate::deployment::Problem;
use crate::deployment::manifest::{DesiredSection, Manifest, Parsed, place_all};
use crate::deployment::plan::{Actual, ActualInstance, Plan, Step, plan};
use crate::image::{Digest, Reference};
use crate::instance::spec::{DesiredStatus, InstanceSpec, Origin};
use crate::instance::state::{By, Input};
use crate::name::Identity;
use crate::refusal::{Refusal, RefusalKind};
use crate::routing::RouteTable;
use crate::twin::patch::merge;
use crate::twin::rules;
use crate::twin::{Part, TwinError};
use crate::view::{DeploymentView, PlanView};

/// Deployments that are kept for looking back.
const KEPT_DEPLOYMENTS: u32 = 50;

/// The deployment in force.
pub(super) struct Deployment {
    id: i64,
    origin: String,
    applied_us: i64,
    reason: String,
    manifest: Manifest,
    /// Digests of the images that the manifest names by path.
    pub(super) images: BTreeMap<String, String>,
    notes: Vec<String>,
}

/// A deployment as it is stored.
#[derive(Serialize, Deserialize)]
struct Document {
    manifest: String,
    images: BTreeMap<String, String>,
}

impl Deployment {
    /// What it says.
    pub(super) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The digest of an image that it names by path.
    pub(super) fn image(&self, path: &str) -> Option<&str> {
        self.images.get(path).map(String::as_str)
    }

    /// Whether its manifest has a module of this name.
    pub(super) fn names(&self, module: &str) -> bool {
        self.manifest.modules.contains_key(module)
    }
}

impl Control {
    /// What applying a manifest would do.
    pub(crate) fn plan_request(&self, request: &DeployRequest) -> Result<PlanView, Refusal> {
        let parsed = self.read_manifest(request, false)?;
        Ok(self.plan_for(&parsed.manifest).view(&parsed.notes))
    }

    /// Applies a manifest: all of it or, where it is not acceptable, nothing.
    pub(crate) fn deploy(&mut self, request: &DeployRequest) -> Result<DeploymentView, Refusal> {
        let parsed = self.read_manifest(request, true)?;
        let plan = self.plan_for(&parsed.manifest);
        let document = Document { manifest: request.text.clone(), images: request.images.clone() };
        let document = serde_json::to_string(&document).map_err(|e| failed("the deployment cannot be written", &e))?;
        let row = DeploymentRow {
            id: 0,
            origin: request.origin.clone(),
            source_sha256: Digest::of(request.text.as_bytes()).hex(),
            document,
            applied_us: clock::wall_us(),
            status: "applying".to_owned(),
            reason: String::new(),
        };
        let stored = row.clone();
        let id = self
            .database
            .call(File::Main, move |tx| deployment_table::insert(tx, &stored))
            .map_err(|e| failed("the deployment cannot be stored; nothing was changed", &e))?;
        let deployment = Deployment {
            id,
            origin: row.origin,
            applied_us: row.applied_us,
            reason: String::new(),
            manifest: parsed.manifest,
            images: request.images.clone(),
            notes: parsed.notes,
        };
        self.carry_out(deployment, plan);
        self.deployment_view().ok_or_else(|| Refusal {
            kind: RefusalKind::Failed,
            message: "the deployment is gone".to_owned(),
            hint: None,
            details: Vec::new(),
        })
    }

    /// Reads a manifest with everything that can be wrong with it.
    ///
    /// `is_final`: images named by path must be in the store; a plan is asked for before they are uploaded.
    fn read_manifest(&self, request: &DeployRequest, is_final: bool) -> Result<Parsed, Refusal> {
        let check = |image: &str| image.parse::<Reference>().map(drop).map_err(|error| error.to_string());
        let parsed = Manifest::parse_with(&request.text, request.format(), &check);
        let problems = match &parsed {
            Err(problems) => problems.clone(),
            Ok(parsed) => {
                let mut problems = self.check_meaning(&parsed.manifest, request, is_final);
                place_all(&request.text, request.format(), &mut problems);
                problems
            }
        };
        match parsed {
            Ok(parsed) if problems.is_empty() => Ok(parsed),
            _ => {
                let mut details: Vec<String> = problems.iter().map(|problem| request.tell(problem)).collect();
                details.dedup();
                let count =
                    if details.len() == 1 { "1 problem".to_owned() } else { format!("{} problems", details.len()) };
                Err(Refusal {
                    kind: RefusalKind::Invalid,
                    message: format!("the manifest {} is refused: {count}", request.origin),
                    hint: Some("correct them and apply it again; nothing was changed".to_owned()),
                    details,
                })
            }
        }
    }

    /// What only the runtime can tell: limits of twins, images named by path, what this version cannot do yet.
    fn check_meaning(&self, manifest: &Manifest, request: &DeployRequest, is_final: bool) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (module, section) in &manifest.desired {
            let mut found = Vec::new();
            let path = format!("modulesContent.{module}.properties.desired");
            rules::check_patch(&path, section.properties(), &mut found);
            let (before, after) = match section {
                DesiredSection::Replace(properties) => (0, properties.clone()),
                DesiredSection::Merge(properties) => self.merged(module, properties),
            };
            rules::check_size(&path, before, &after, rules::MAX_SECTION_BYTES, &mut found);
            problems.extend(found.iter().map(|v| Problem::at(&v.path, format!("{} — {}", v.value, v.limit), "")));
        }
        for (name, spec) in &manifest.modules {
            let is_path = spec.image.parse::<Reference>().is_ok_and(|reference| reference.name().is_none());
            let path = format!("modulesContent.$edgeAgent.properties.desired.modules.{name}.settings.image");
            match (request.images.get(&spec.image), request.missing.get(&spec.image)) {
                (None, Some(why)) if is_path => problems.push(Problem::at(path, why, "")),
                (None, None) if is_path => problems.push(Problem::at(
                    path,
                    format!("the file {} did not come with the manifest", spec.image),
                    "deploy it with dinrail deploy, which uploads it",
                )),
                (Some(digest), _) if is_final && digest.parse().ok().and_then(|d| self.catalog.get(&d)).is_none() => {
                    problems.push(Problem::at(
                        path,
                        format!("the image {digest} is not in the store"),
                        "upload it again",
                    ));
                }
                _ => {}
            }
        }
        for route in &manifest.routes {
            if let Some((message, hint)) = route.not_possible() {
                let path = format!("modulesContent.$edgeHub.properties.desired.routes.{}.durability", route.name);
                problems.push(Problem::at(path, message, hint));
            }
        }
        problems
    }

    /// The size of a module's desired section as it is, and the section after a merge.
    fn merged(&self, module: &str, properties: &Map<String, Value>) -> (usize, Map<String, Value>) {
        let twin = Identity::module(self.identities.device_id(), module).ok().and_then(|id| self.twins.get(&id));
        let now = twin.map(|twin| twin.section(Part::Desired).parse()).unwrap_or_default();
        let before = rules::size_of(&now);
        let mut after = Value::Object(now);
        merge(&mut after, &Value::Object(properties.clone()));
        let Value::Object(after) = after else { return (before, Map::new()) };
        (before, after)
    }

    fn plan_for(&self, manifest: &Manifest) -> Plan {
        plan(&self.actual(), manifest)
    }

    fn actual(&self) -> Actual {
        let instance = |entry: &Entry| ActualInstance {
            spec: entry.spec.clone(),
            origin: entry.origin,
            status: entry.life.status(),
            held_by: entry.life.hold.as_ref().map(|hold| hold.by.clone()),
        };
        let desired = self.twins.list().into_iter().filter_map(|twin| {
            let module = twin.identity.module_id()?.to_owned();
            Some((module, Value::Object(twin.section(Part::Desired).parse())))
        });
        let in_force = self.deployment.as_ref().map(|deployment| &deployment.manifest);
        Actual {
            instances: self.instances.iter().map(|(name, entry)| (name.clone(), instance(entry))).collect(),
            last_desired: in_force.map(|manifest| manifest.desired.clone()).unwrap_or_default(),
            desired: desired.collect(),
            routes: in_force.map(|manifest| manifest.routes.clone()).unwrap_or_default(),
            local_routes: self.local_routes.keys().cloned().collect(),
        }
    }

    fn carry_out(&mut self, mut deployment: Deployment, plan: Plan) {
        let outcome = self.prepare(&deployment.manifest, &plan);
        if let Err(reason) = outcome {
            tracing::error!(deployment = deployment.id, "failed: {reason}");
            self.set_status(deployment.id, "failed", &reason);
            deployment.reason = reason;
            deployment.notes.push("the deployment before it stays in force".to_owned());
            // What was in force goes on; only the status of the failed one is shown.
            if self.deployment.is_none() {
                self.deployment = Some(deployment);
            }
            return;
        }
        deployment.notes.extend(plan.notes.iter().cloned());
        let id = deployment.id;
        tracing::info!(
            deployment = id,
            origin = deployment.origin,
            modules = deployment.manifest.modules.len(),
            "applied"
        );
        let named: BTreeSet<String> = deployment.manifest.modules.keys().cloned().collect();
        self.deployment = Some(deployment);
        let mut touched = Vec::new();
        let mut fresh = Vec::new();
        for step in plan.steps {
            match step {
                Step::Stop { spec, .. } => {
                    touched.push(spec.name.clone());
                    let name = self.want(spec);
                    self.apply(&name, Input::StopRequested { by: By::Deployment });
                }
                Step::Remove { name, .. } => self.apply(&name, Input::RemoveRequested),
                Step::SetDesired { .. } | Step::SetRoutes { .. } => {}
                Step::Start { spec, .. } => {
                    touched.push(spec.name.clone());
                    fresh.push((self.want(spec), false));
                }
                Step::Restart { spec, .. } => {
                    touched.push(spec.name.clone());
                    fresh.push((self.want(spec), true));
                }
                // Dropped and added instances that the manifest does not name stay what they are.
                Step::Keep { spec, .. } if !named.contains(&spec.name) => {}
                Step::Keep { spec, .. } => {
                    touched.push(spec.name.clone());
                    self.want(spec);
                }
            }
        }
        self.keep(&touched);
        for (name, is_running) in fresh {
            if let Some(entry) = self.instances.get_mut(&name) {
                entry.first_found = None;
            }
            if let Some(input) = self.choose_image(&name) {
                self.apply(&name, input);
            }
            let by = By::Deployment;
            let input = if is_running { Input::RestartRequested { by } } else { Input::StartRequested { by } };
            self.apply(&name, input);
        }
        self.set_status(id, "applied", "");
        self.changed();
    }

    /// Identities, desired properties and routes: what instances find when they start.
    fn prepare(&mut self, manifest: &Manifest, plan: &Plan) -> Result<(), String> {
        let mut names: Vec<&str> = manifest.modules.keys().map(String::as_str).collect();
        let sections: Vec<(&String, &DesiredSection)> = plan
            .steps
            .iter()
            .filter_map(|step| match step {
                Step::SetDesired { module, section, .. } => Some((module, section)),
                _ => None,
            })
            .collect();
        names.extend(sections.iter().map(|(module, _)| module.as_str()));
        self.identities.ensure_many(&names).map_err(|error| format!("identities cannot be made: {error}"))?;
        // Submitted together, so that they are committed together; then waited for, all of them.
        let (done, outcomes) = std::sync::mpsc::channel::<Result<(), TwinError>>();
        for (module, section) in &sections {
            let identity = Identity::module(self.identities.device_id(), module).map_err(|error| error.to_string())?;
            let done = done.clone();
            let report = move |outcome: Result<_, TwinError>| drop(done.send(outcome.map(drop)));
            let outcome = match section {
                DesiredSection::Replace(properties) => {
                    let document = Value::Object(properties.clone());
                    self.twins.replace_desired(&identity, &document, "deployment", None, report)
                }
                DesiredSection::Merge(properties) => {
                    let patch = Value::Object(properties.clone());
                    self.twins.patch_desired(&identity, &patch, "deployment", None, report)
                }
            };
            outcome.map_err(|error| error.to_string())?;
        }
        drop(done);
        outcomes.iter().collect::<Result<Vec<()>, _>>().map_err(|error| error.to_string())?;
        self.put_routes_in_force(manifest)
    }

    fn put_routes_in_force(&mut self, manifest: &Manifest) -> Result<(), String> {
        let table = RouteTable::compile(&manifest.routes).map_err(|errors| {
            errors.iter().map(|(name, e)| format!("route {name}: {e}")).collect::<Vec<_>>().join("; ")
        })?;
        self.listeners.set_routes(table);
        Ok(())
    }

    /// Takes over what is wanted of an instance; adds it where it is not there.
    fn want(&mut self, spec: InstanceSpec) -> String {
        let name = spec.name.clone();
        let settings = self.settings(&spec);
        match self.instances.get_mut(&name) {
            Some(entry) => {
                entry.spec = spec;
                entry.origin = Origin::Deployment;
                self.apply(&name, Input::Configured(settings));
            }
            None => self.add(spec, Origin::Deployment, None, None),
        }
        name
    }

    fn set_status(&self, id: i64, status: &'static str, reason: &str) {
        let reason = reason.to_owned();
        self.database.submit(
            File::Main,
            Box::new(move |tx| {
                deployment_table::set_status(tx, id, status, &reason)?;
                // Only then is the one in force among those that are kept.
                if status == "applied" { deployment_table::prune(tx, KEPT_DEPLOYMENTS) } else { Ok(()) }
            }),
            Box::new(|outcome| {
                if let Err(error) = outcome {
                    tracing::error!("the status of a deployment could not be stored: {error}");
                }
            }),
        );
    }

    /// Takes up the deployment that was in force, at a start: without any network, and without touching twins, unless it was
    /// interrupted while it was applied.
    ///
    /// `rows`: all deployments, latest first.
    pub(super) fn resume(&mut self, rows: &[DeploymentRow]) {
        let Some(row) = rows.iter().find(|row| row.status != "failed") else { return };
        let Some((parsed, images)) = read_back(row) else { return };
        let before = rows.iter().find(|row| row.status == "applied").and_then(read_back);
        let deployment = |parsed: Parsed, images| Deployment {
            id: row.id,
            origin: row.origin.clone(),
            applied_us: row.applied_us,
            reason: String::new(),
            manifest: parsed.manifest,
            images,
            notes: parsed.notes,
        };
        if row.status == "applying" {
            tracing::warn!(deployment = row.id, "was interrupted; it is applied again");
            self.deployment = before.map(|(parsed, images)| deployment(parsed, images));
            let plan = self.plan_for(&parsed.manifest);
            return self.carry_out(deployment(parsed, images), plan);
        }
        let specs: Vec<InstanceSpec> = parsed.manifest.modules.values().cloned().collect();
        if let Err(reason) = self.put_routes_in_force(&parsed.manifest) {
            tracing::error!(deployment = row.id, "its routes are not in force: {reason}");
        }
        // Removed by it, but not ended before the runtime was.
        let is_left = |entry: &&Entry| {
            entry.origin == Origin::Deployment && !parsed.manifest.modules.contains_key(&entry.spec.name)
        };
        let left: Vec<String> = self.instances.values().filter(is_left).map(|entry| entry.spec.name.clone()).collect();
        for name in left {
            self.apply(&name, Input::RemoveRequested);
        }
        self.deployment = Some(deployment(parsed, images));
        for spec in specs {
            if !self.instances.contains_key(&spec.name) {
                self.add(spec, Origin::Deployment, None, None);
            }
        }
    }

    /// The deployment in force.
    pub(crate) fn deployment_view(&self) -> Option<DeploymentView> {
        let deployment = self.deployment.as_ref()?;
        let module = |spec: &InstanceSpec| {
            let stopped = if spec.status == DesiredStatus::Stopped { " (stopped)" } else { "" };
            format!("{}: {}{stopped}", spec.name, spec.image)
        };
        Some(DeploymentView {
            id: deployment.id,
            origin: deployment.origin.clone(),
            applied_utc: clock::rfc3339(deployment.applied_us),
            status: if deployment.reason.is_empty() { "applied" } else { "failed" }.to_owned(),
            reason: deployment.reason.clone(),
            modules: deployment.manifest.modules.values().map(module).collect(),
            routes: deployment.manifest.routes.iter().map(|r| (r.name.clone(), r.text.clone())).collect(),
            notes: deployment.notes.clone(),
        })
    }
}

fn read_back(row: &DeploymentRow) -> Option<(Parsed, BTreeMap<String, String>)> {
    let read = || -> Result<_, String> {
        let document: Document = serde_json::from_str(&row.document).map_err(|e| e.to_string())?;
        let parsed = Manifest::parse(&document.manifest)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
        Ok((parsed, document.images))
    };
    match read() {
        Ok(read) => Some(read),
        Err(reason) => {
            tracing::error!(deployment = row.id, "the stored deployment cannot be read: {reason}");
            None
        }
    }
}

fn failed(what: &str, cause: &dyn std::error::Error) -> Refusal {
    Refusal { kind: RefusalKind::Failed, message: format!("{what}: {cause}"), hint: None, details: Vec::new() }
}
