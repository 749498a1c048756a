//! Deployments: a manifest is read, planned, stored, and carried out by a rollout that the loop advances with every event.
//!
//! The deployment in force is stored before any of it takes effect, and its steps as they are done, so that a power cut in
//! between is made up for at the next start. It is the latest in the table; every older one is history. A rollback is a
//! deployment like any other, of a manifest that was in force before.

mod applying;
pub(crate) mod fitting;
mod planning;
mod reading;
mod record;
mod resuming;
mod rolling_back;

use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value};

pub(super) use record::Deployment;
use record::{Document, Local, status};

use super::Control;
use crate::clock;
use crate::database::File;
use crate::database::tables::barred::{self, BarredRow};
use crate::database::tables::deployment::{self as deployment_table, DeploymentRow};
use crate::database::tables::setting;
use crate::deployment::manifest::{Manifest, Parsed};
use crate::deployment::rollout::Rollout;
use crate::deployment::{self, DeployRequest, Plan, Step};
use crate::image::Digest;
use crate::instance::spec::Origin;
use crate::name::Identity;
use crate::refusal::{Refusal, RefusalKind};
use crate::twin::Part;
use crate::view::{DeploymentSummary, DeploymentView, PlanView};

/// Deployments that are kept for looking back.
const KEPT_DEPLOYMENTS: u32 = 50;

/// A deployment that is about to be put in force.
struct Candidate {
    origin: String,
    by: String,
    parsed: Parsed,
    document: Document,
    plan: Plan,
    /// Images that are barred with it.
    bars: Vec<BarredRow>,
    /// A setting that is stored with it.
    setting: Option<(&'static str, String)>,
    /// What becomes of the one before: status and reason; `None`: it is replaced.
    former: Option<(&'static str, String)>,
}

impl Control {
    /// What applying a manifest would do.
    pub(crate) fn plan_request(&self, request: &DeployRequest) -> Result<PlanView, Refusal> {
        let mut parsed = self.read_manifest(request, false)?;
        let plan = self.plan_for(&parsed.manifest, &request.images, &BTreeMap::new());
        let missing = self.missing_of(request, &parsed.manifest).into_iter();
        parsed.notes.extend(missing.map(|problem| format!("it would be refused: {}", request.tell(&problem))));
        Ok(plan.view(&parsed.notes))
    }

    /// Applies a manifest: begins with all of it or, where it is not acceptable, with nothing.
    ///
    /// Whoever deploys is there to set what it needs: secrets that are missing refuse it. A start of the runtime does not ask; its
    /// instances wait.
    pub(crate) fn deploy(&mut self, request: &DeployRequest) -> Result<DeploymentView, Refusal> {
        let parsed = self.read_manifest(request, true)?;
        self.refuse(request, self.missing_of(request, &parsed.manifest))?;
        self.deploy_with(request, None)
    }

    /// [`Control::deploy`] that stores a setting with it.
    pub(super) fn deploy_with(
        &mut self,
        request: &DeployRequest,
        setting: Option<(&'static str, String)>,
    ) -> Result<DeploymentView, Refusal> {
        let parsed = self.read_manifest(request, true)?;
        let plan = self.plan_for(&parsed.manifest, &request.images, &BTreeMap::new());
        let document = Document {
            manifest: request.text.clone(),
            images: request.images.clone(),
            forced: request.unfit.keys().cloned().collect(),
            ..Document::default()
        };
        self.put_in_force(Candidate {
            origin: request.origin.clone(),
            by: request.by.clone(),
            parsed,
            document,
            plan,
            bars: Vec::new(),
            setting,
            former: None,
        })?;
        self.deployment_view().ok_or_else(|| self.no_deployment())
    }

    /// Stores a deployment as the one in force and begins with it.
    fn put_in_force(&mut self, candidate: Candidate) -> Result<i64, Refusal> {
        let Candidate { origin, by, parsed, mut document, plan, bars, setting, former } = candidate;
        let names: Vec<&str> =
            parsed.manifest.modules.keys().chain(parsed.manifest.desired.keys()).map(String::as_str).collect();
        self.identities
            .ensure_many(&names)
            .map_err(|e| failed("identities cannot be made; nothing was changed", &e))?;
        document.before = self.before(&plan);
        document.taken = self.taken(&parsed.manifest);
        let order_now = |name: &str| self.instances.get(name).map(|entry| entry.spec.startup_order);
        let records = deployment::records(&plan, order_now);
        let written = |error| failed("the deployment cannot be written; nothing was changed", &error);
        let row = DeploymentRow {
            id: 0,
            origin,
            source_sha256: Digest::of(document.manifest.as_bytes()).hex(),
            document: serde_json::to_string(&document).map_err(written)?,
            applied_us: clock::wall_us(),
            status: status::APPLYING.to_owned(),
            reason: String::new(),
            applied_by: by,
            steps: serde_json::to_string(&records).map_err(written)?,
            ran: "{}".to_owned(),
        };
        let ends = self.deployment.as_ref().map(|old| {
            let steps = old.rollout.as_ref().and_then(|rollout| serde_json::to_string(rollout.steps()).ok());
            (old.id, old.status.clone(), steps, self.ran(old))
        });
        let stored = row.clone();
        let id = self
            .database
            .call(File::Main, move |tx| {
                let id = deployment_table::insert(tx, &stored)?;
                bars.iter().try_for_each(|bar| barred::put(tx, bar))?;
                if let Some((key, value)) = &setting {
                    setting::set(tx, key, value)?;
                }
                let Some((old, old_status, steps, ran)) = &ends else { return Ok(id) };
                steps.iter().try_for_each(|steps| deployment_table::set_steps(tx, *old, steps))?;
                if old_status == status::APPLIED {
                    deployment_table::set_ran(tx, *old, ran)?;
                }
                match &former {
                    Some((status, reason)) => deployment_table::set_status(tx, *old, status, reason)?,
                    None if old_status == status::APPLYING => {
                        let reason = format!("deployment {id} took its place before it was found good");
                        deployment_table::set_status(tx, *old, status::SUPERSEDED, &reason)?;
                    }
                    None => {}
                }
                deployment_table::prune(tx, KEPT_DEPLOYMENTS)?;
                Ok(id)
            })
            .map_err(|error| failed("the deployment cannot be stored; nothing was changed", &error))?;
        let can_go_back = self.last_good.is_some() && document.rolled_back.is_none();
        tracing::info!(
            deployment = id,
            origin = row.origin,
            modules = parsed.manifest.modules.len(),
            "is being applied"
        );
        let former = self.deployment.take();
        let mut rollout = Rollout::new(records, parsed.manifest.health, can_go_back);
        if let Some(open) =
            former.as_ref().and_then(|former| former.rollout.as_ref().map(|rollout| (former.id, rollout)))
        {
            rollout.take_over(open.0, open.1, |name| parsed.manifest.modules.contains_key(name));
        }
        let sets = rollout.steps().iter().filter(|step| step.action == "twin").map(|step| step.name.clone()).collect();
        self.deployment = Some(Deployment {
            id,
            origin: row.origin,
            by: row.applied_by,
            applied_us: row.applied_us,
            status: row.status,
            reason: String::new(),
            manifest: parsed.manifest,
            document,
            notes: parsed.notes,
            steps: Vec::new(),
            rollout: Some(rollout),
            awaiting: BTreeMap::new(),
            sets,
            ahead: HashSet::new(),
        });
        if self.is_settled {
            self.enter_ahead();
            self.release(former.map(|former| former.ahead).unwrap_or_default());
            self.advance_rollout(clock::now());
        } else {
            self.carry_out_at_start();
        }
        self.changed();
        Ok(id)
    }

    /// The desired properties that a plan changes, as they are now; with those that a superseded deployment had changed.
    fn before(&self, plan: &Plan) -> BTreeMap<String, Map<String, Value>> {
        let mut before: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
        for step in &plan.steps {
            let Step::SetDesired { module, .. } = step else { continue };
            let twin = Identity::module(self.identities.device_id(), module).ok().and_then(|id| self.twins.get(&id));
            if let Some(twin) = twin {
                before.insert(module.clone(), twin.section(Part::Desired).parse());
            }
        }
        if let Some(open) = self.deployment.as_ref().filter(|open| open.status == status::APPLYING) {
            before.extend(open.document.before.clone());
        }
        before
    }

    /// The instances of the local layer that a manifest takes over; with those that a superseded deployment had taken.
    fn taken(&self, manifest: &Manifest) -> BTreeMap<String, Local> {
        let local = self.instances.values().filter(|entry| entry.origin != Origin::Deployment);
        let mut taken: BTreeMap<String, Local> = local
            .filter(|entry| manifest.modules.contains_key(&entry.spec.name))
            .map(|entry| (entry.spec.name.clone(), Local { origin: entry.origin, spec: entry.spec.clone() }))
            .collect();
        if let Some(open) = self.deployment.as_ref().filter(|open| open.status == status::APPLYING) {
            taken.extend(open.document.taken.clone());
        }
        taken
    }

    /// The deployment in force.
    pub(crate) fn deployment_view(&self) -> Option<DeploymentView> {
        self.deployment.as_ref().map(|deployment| deployment.view(true))
    }

    /// The deployment `id`, or the one in force.
    pub(crate) fn deployment_shown(&self, id: Option<i64>) -> Result<Option<DeploymentView>, Refusal> {
        let in_force = self.deployment.as_ref().map(|deployment| deployment.id);
        match id {
            Some(id) if Some(id) != in_force => Ok(Some(self.stored_deployment(id)?.view(false))),
            _ => Ok(self.deployment_view()),
        }
    }

    /// All deployments that are kept, latest first.
    pub(crate) fn deployment_history(&self) -> Result<Vec<DeploymentSummary>, Refusal> {
        let rows = self
            .database
            .read(File::Main, deployment_table::load_all)
            .map_err(|error| failed("the history cannot be read", &error))?;
        let in_force = self.deployment.as_ref();
        let known = rows.iter().filter(|row| row.status != status::REFUSED);
        Ok(known
            .filter_map(|row| match in_force.filter(|deployment| deployment.id == row.id) {
                Some(deployment) => Some(deployment.summary(true)),
                None => Deployment::read(row).ok().map(|deployment| deployment.summary(false)),
            })
            .collect())
    }

    fn stored_deployment(&self, id: i64) -> Result<Deployment, Refusal> {
        let row = self
            .database
            .read(File::Main, move |conn| deployment_table::get(conn, id))
            .map_err(|error| failed("the history cannot be read", &error))?;
        let row = row.filter(|row| row.status != status::REFUSED).ok_or_else(|| {
            Refusal::new(
                RefusalKind::NotFound,
                format!("there is no deployment {id}"),
                "`dinrail deployment history` lists those that are kept",
            )
        })?;
        Deployment::read(&row).map_err(|reason| {
            Refusal::new(
                RefusalKind::Failed,
                format!("deployment {id} cannot be read: {reason}"),
                "deploy its manifest again",
            )
        })
    }

    fn no_deployment(&self) -> Refusal {
        Refusal::new(RefusalKind::NotFound, "no deployment is in force", "apply one with `dinrail deploy FILE`")
    }
}

fn failed(what: &str, cause: &dyn std::error::Error) -> Refusal {
    Refusal {
        kind: RefusalKind::Failed,
        message: format!("{what}: {cause}"),
        hint: Some("see `dinrail check` and the log of the runtime".to_owned()),
        details: Vec::new(),
    }
}
