//! The start of the runtime: the deployment in force is taken up, and one that was interrupted is carried out again, or taken
//! back where the runtime ended under it again and again.

use super::super::Control;
use super::super::instances::Entry;
use super::record::{Deployment, status};
use crate::clock;
use crate::database::File;
use crate::database::tables::deployment::DeploymentRow;
use crate::database::tables::setting;
use crate::deployment::StepRecord;
use crate::deployment::rollout::Rollout;
use crate::instance::spec::{InstanceSpec, Origin};
use crate::instance::state::{By, Input};

/// Starts of the runtime that one deployment may take until it is found good: a power cut or two are no fault of it.
const MOST_STARTS: u32 = 3;

impl Control {
    /// Takes up the deployment that was in force, at a start: without any network, and without touching twins, unless it was
    /// interrupted while it was applied.
    ///
    /// `rows`: all deployments, latest first.
    pub(in super::super) fn resume(&mut self, rows: &[DeploymentRow]) {
        self.last_good = rows.iter().find(|row| row.status == status::APPLIED).map(|row| row.id);
        let Some(row) = rows.iter().find(|row| row.status != status::REFUSED) else { return };
        match Deployment::read(row) {
            Ok(deployment) => self.resume_with(deployment),
            // An older one may have been found bad: what was wanted last goes on, from the table of instances.
            Err(reason) => {
                tracing::error!(deployment = row.id, "the stored deployment cannot be read: {reason}; deploy it anew");
            }
        }
    }

    fn resume_with(&mut self, mut deployment: Deployment) {
        let is_open = deployment.status == status::APPLYING;
        if is_open {
            tracing::warn!(deployment = deployment.id, "was interrupted; it is applied again");
            // What it goes back to is older than itself.
            let can_go_back = self.last_good.is_some() && deployment.document.rolled_back.is_none();
            let steps = std::mem::take(&mut deployment.steps);
            deployment.sets = steps.iter().filter(|step| step.action == "twin").map(|step| step.name.clone()).collect();
            self.count_attempt(&deployment);
            deployment.rollout = Some(Rollout::new(steps, deployment.manifest.health, can_go_back));
        }
        // Removed by it, but not ended before the runtime was.
        let is_left = |entry: &&Entry| {
            entry.origin == Origin::Deployment && !deployment.specs().any(|spec| spec.name == entry.spec.name)
        };
        let left: Vec<String> = self.instances.values().filter(is_left).map(|entry| entry.spec.name.clone()).collect();
        let specs: Vec<InstanceSpec> = deployment.manifest.modules.values().cloned().collect();
        self.deployment = Some(deployment);
        for name in left {
            self.apply(&name, Input::RemoveRequested);
        }
        if is_open {
            return self.carry_out_at_start();
        }
        if let Some(deployment) = &self.deployment
            && let Err(reason) = self.put_routes_in_force(&deployment.manifest)
        {
            tracing::error!(deployment = deployment.id, "its routes are not in force: {reason}");
        }
        for spec in specs {
            if !self.instances.contains_key(&spec.name) {
                self.add(spec, Origin::Deployment, None, None);
            }
        }
    }

    /// Counts the starts of the runtime in which a deployment was not found good before the runtime ended.
    fn count_attempt(&mut self, deployment: &Deployment) {
        let id = deployment.id.to_string();
        let counted = self.database.call(File::Main, move |tx| {
            let before = setting::get(tx, setting::key::DEPLOYMENT_STARTS)?.unwrap_or_default();
            let of_this =
                before.split_once(' ').filter(|(of, _)| *of == id).and_then(|(_, count)| count.parse::<u32>().ok());
            let count = of_this.unwrap_or(0) + 1;
            setting::set(tx, setting::key::DEPLOYMENT_STARTS, &format!("{id} {count}"))?;
            Ok(count)
        });
        match counted {
            Ok(count) if count > MOST_STARTS && !deployment.manifest.health.is_zero() => {
                self.deadly = Some(format!("the runtime ended {count} times before it was found good"));
            }
            Ok(_) => {}
            Err(error) => tracing::error!("the starts of a deployment cannot be counted: {error}"),
        }
    }

    /// Takes a deployment back under which the runtime ended again and again, before anything of it runs.
    pub(in super::super) fn give_up_deadly(&mut self) {
        if let Some(reason) = self.deadly.take() {
            self.give_up(reason);
        }
    }

    /// Carries out what can be before anything runs; what is to run starts by itself, in its order.
    pub(super) fn carry_out_at_start(&mut self) {
        let Some(rollout) = self.rollout() else { return };
        let gone: Vec<String> =
            rollout.steps().iter().filter(|step| step.action == "remove").map(|step| step.name.clone()).collect();
        // Somebody may have added one of the name since.
        let is_its = |name: &&String| self.instances.get(*name).is_some_and(|entry| entry.origin == Origin::Deployment);
        let gone: Vec<String> = gone.iter().filter(is_its).cloned().collect();
        for name in gone {
            self.apply(&name, Input::RemoveRequested);
        }
        let outcome = self.set_all();
        let now = clock::now();
        let Some(deployment) = &self.deployment else { return };
        let specs: Vec<InstanceSpec> = deployment.specs().cloned().collect();
        let (is_rollback, pins) = (deployment.document.is_rollback, deployment.document.pins.clone());
        let steps = deployment.rollout.iter().flat_map(|rollout| rollout.steps());
        let (started, stopped): (Vec<_>, Vec<_>) =
            steps.filter(|step| step.up.is_some() || step.action == "stop").partition(|step| step.up.is_some());
        let names_of = |steps: Vec<&StepRecord>| steps.iter().map(|step| step.name.clone()).collect::<Vec<_>>();
        let (started, stopped) = (names_of(started), names_of(stopped));
        let names: Vec<String> = specs.into_iter().map(|spec| self.want(spec)).collect();
        for name in stopped {
            self.apply(&name, Input::StopRequested { by: By::Deployment });
        }
        for name in started {
            if !is_rollback {
                self.lift_bars(&name);
            }
            if let Some(entry) = self.instances.get_mut(&name) {
                entry.first_found = pins.get(&name).and_then(|digest| digest.parse().ok());
            }
            // Where it was wanted stopped before, nothing else would start it.
            self.apply(&name, Input::StartRequested { by: By::Deployment });
        }
        self.keep(&names);
        let has_last_good = self.last_good.is_some();
        if let Some(deployment) = &mut self.deployment
            && let Some(mut rollout) = deployment.rollout.take()
        {
            rollout.was_set(outcome, now, |_| false);
            let can_go_back = has_last_good && deployment.document.rolled_back.is_none();
            deployment.rollout = Some(Rollout::at_start(rollout.into_steps(), deployment.manifest.health, can_go_back));
        }
        self.keep_steps();
    }
}
