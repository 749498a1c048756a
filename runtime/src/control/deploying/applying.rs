//! Carrying a deployment out: what the rollout orders is done here, and what it is told comes from here.

use std::collections::HashSet;
use std::time::Instant;

use serde_json::Value;

use super::super::Control;
use super::super::instances::Entry;
use super::record::status;
use crate::clock;
use crate::database::File;
use crate::database::tables::deployment::{self as deployment_table};
use crate::deployment::manifest::{DesiredSection, Manifest};
use crate::deployment::rollout::{Order, Rollout};
use crate::deployment::{EndpointOrder, Image, Standing, StepRecord, StepState};
use crate::instance::spec::{InstanceSpec, Origin};
use crate::instance::state::{By, Input, State};
use crate::name::Identity;
use crate::routing::RouteTable;
use crate::twin::{Acknowledgement, Change, Part, TwinError};

/// What a module makes of desired properties that a deployment set.
enum Answer {
    Given,
    /// It has not said it yet.
    Awaited,
    Refused(String),
}

impl Control {
    /// When the rollout needs to be looked at.
    pub(in super::super) fn rollout_deadline(&self) -> Option<Instant> {
        self.deployment.as_ref()?.rollout.as_ref()?.deadline()
    }

    /// Enters new instances at once, though their turn comes later: whoever asks for one hears that it is on its way.
    pub(super) fn enter_ahead(&mut self) {
        let Some(rollout) = self.deployment.as_ref().and_then(|deployment| deployment.rollout.as_ref()) else { return };
        let is_new = |step: &&StepRecord| step.action == "start" && !self.instances.contains_key(&step.name);
        let new: Vec<InstanceSpec> =
            rollout.steps().iter().filter(is_new).filter_map(|step| self.wanted(&step.name)).collect();
        for spec in new {
            let name = self.want(spec);
            if let Some(entry) = self.instances.get_mut(&name)
                && let State::Waiting { reason } = &mut entry.life.state
            {
                "the deployment has not come to it yet".clone_into(reason);
            }
            if let Some(deployment) = &mut self.deployment {
                deployment.ahead.insert(name);
            }
        }
    }

    /// Lets those start that the former deployment had not come to, and that this one only keeps.
    pub(super) fn release(&mut self, ahead: HashSet<String>) {
        let Some(deployment) = &self.deployment else { return };
        let steps = deployment.rollout.iter().flat_map(|rollout| rollout.steps());
        let own: HashSet<&str> =
            steps.filter(|step| step.up.is_some() || step.down.is_some()).map(|step| step.name.as_str()).collect();
        let left: Vec<String> = ahead.into_iter().filter(|name| !own.contains(name.as_str())).collect();
        for name in left {
            if let Some(input) = self.choose_image(&name) {
                self.apply(&name, input);
            }
        }
    }

    /// Goes on with the deployment that is being applied, as far as it can go now.
    pub(in super::super) fn advance_rollout(&mut self, now: Instant) {
        if !self.is_settled || self.shutdown.is_some() {
            return;
        }
        loop {
            let Some(mut rollout) = self.deployment.as_mut().and_then(|deployment| deployment.rollout.take()) else {
                return;
            };
            let orders = rollout.advance(|name| self.standing(name), now);
            if let Some(deployment) = &mut self.deployment {
                deployment.rollout = Some(rollout);
            }
            if orders.is_empty() {
                break;
            }
            for order in orders {
                self.carry_out(order);
            }
        }
        self.keep_steps();
    }

    /// Tells the rollout what became of an instance.
    pub(in super::super) fn rollout_saw(&mut self, name: &str) {
        if self.shutdown.is_some() || self.deployment.as_ref().is_none_or(|deployment| deployment.rollout.is_none()) {
            return;
        }
        let standing = self.standing(name);
        if let Some(rollout) = self.rollout() {
            rollout.saw(name, &standing);
        }
    }

    pub(super) fn rollout(&mut self) -> Option<&mut Rollout> {
        self.deployment.as_mut()?.rollout.as_mut()
    }

    fn standing(&self, name: &str) -> Standing {
        let Some(entry) = self.instances.get(name) else { return Standing::Absent };
        let life = &entry.life;
        let awaits = self.deployment.as_ref().and_then(|deployment| deployment.awaiting.get(name));
        if awaits.is_some() && awaits == life.digest.as_ref() {
            return Standing::Waits("waits for its image; what ran before goes on".to_owned());
        }
        match &life.state {
            State::Waiting { .. } if !self.is_settled || !self.has_turn(entry) => Standing::OnItsWay,
            State::Waiting { reason } if reason.starts_with("secret ") => Standing::Waits(format!("waits: {reason}")),
            State::Waiting { reason } => Standing::Waits(format!("waits for its image: {reason}")),
            State::Starting | State::Stopping { .. } => Standing::OnItsWay,
            State::Running { since } => match self.answer_of(name) {
                Answer::Refused(why) => Standing::Failed(format!("it refuses its desired properties: {why}")),
                Answer::Awaited => Standing::Answering(*since),
                Answer::Given => Standing::Up(*since),
            },
            State::Unhealthy { reason, .. } => Standing::Failed(format!("unhealthy: {reason}")),
            State::Backoff { reason, .. } | State::Failed { reason, .. } => Standing::Failed(reason.clone()),
            State::Quarantined { reason } => Standing::Failed(format!("its image is quarantined: {reason}")),
            State::Stopped { reason, .. } => Standing::Still(reason.clone()),
            State::Removed => Standing::Absent,
        }
    }

    /// What a module says to what this deployment set.
    fn answer_of(&self, name: &str) -> Answer {
        let Some(deployment) = self.deployment.as_ref().filter(|deployment| deployment.sets.contains(name)) else {
            return Answer::Given;
        };
        let identity = Identity::module(self.identities.device_id(), name);
        let Some(twin) = identity.ok().and_then(|identity| self.twins.get(&identity)) else { return Answer::Given };
        let said = twin.acknowledged();
        let is_of_this = |said: &Acknowledgement| said.version == twin.desired.version;
        let answer = match said {
            // Nobody answers to nothing.
            None if &*twin.desired.document == "{}" => return Answer::Given,
            Some(said) if is_of_this(&said) && said.ok => return Answer::Given,
            Some(said) if is_of_this(&said) => Answer::Refused(said.error.unwrap_or_default()),
            _ => Answer::Awaited,
        };
        // What somebody has written since is none of the deployment's business.
        let set = match (deployment.document.restore.get(name), deployment.manifest.desired.get(name)) {
            (Some(before), _) => before,
            (None, Some(DesiredSection::Replace(properties))) => properties,
            (None, _) => return Answer::Given,
        };
        if twin.section(Part::Desired).parse() == *set { answer } else { Answer::Given }
    }

    fn carry_out(&mut self, order: Order) {
        match order {
            Order::Stop(index) => self.stop_step(index),
            Order::Remove(index) => {
                if let Some((name, _)) = self.step(index) {
                    self.apply(&name, Input::RemoveRequested);
                }
            }
            Order::Set => self.set_step(),
            Order::Start(index) => {
                self.start_step(index);
                if let Some(rollout) = self.rollout() {
                    rollout.was_started(index);
                }
            }
            Order::Succeed => self.end_rollout(status::APPLIED, String::new()),
            Order::GiveUp(reason) => self.give_up(reason),
        }
    }

    /// Name and action of a step.
    pub(super) fn step(&self, index: usize) -> Option<(String, String)> {
        let step = self.deployment.as_ref()?.rollout.as_ref()?.steps().get(index)?;
        Some((step.name.clone(), step.action.clone()))
    }

    pub(super) fn wanted(&self, name: &str) -> Option<InstanceSpec> {
        self.deployment.as_ref()?.specs().find(|spec| spec.name == name).cloned()
    }

    /// What the image of an instance is, under the deployment in force.
    fn image_of(&self, spec: &InstanceSpec) -> Option<Image> {
        let document = &self.deployment.as_ref()?.document;
        let pin = document.pins.get(&spec.name).and_then(|digest| digest.parse().ok());
        let meaning = self.meaning(spec, &document.images, pin);
        Some(if document.is_rollback { meaning.kept } else { meaning.afresh })
    }

    fn stop_step(&mut self, index: usize) {
        let Some((name, action)) = self.step(index) else { return };
        let Some(spec) = self.wanted(&name) else { return };
        if action == "restart" {
            // What has no image to come up with had better stay up.
            if matches!(self.image_of(&spec), Some(Image::Here { .. })) {
                self.apply(&name, Input::StopRequested { by: By::Deployment });
            } else if let Some(rollout) = self.rollout() {
                rollout.leave_up(index);
            }
            return;
        }
        let name = self.want(spec);
        self.keep(std::slice::from_ref(&name));
        self.apply(&name, Input::StopRequested { by: By::Deployment });
    }

    fn start_step(&mut self, index: usize) {
        let Some((name, _)) = self.step(index) else { return };
        let Some(spec) = self.wanted(&name) else { return };
        let Some(deployment) = &mut self.deployment else { return };
        deployment.ahead.remove(&name);
        let (is_rollback, pin) = (deployment.document.is_rollback, deployment.document.pins.get(&name).cloned());
        if !is_rollback {
            self.lift_bars(&name);
        }
        let image = self.image_of(&spec);
        self.want(spec);
        if let Some(entry) = self.instances.get_mut(&name) {
            entry.first_found = pin.and_then(|digest| digest.parse().ok());
        }
        self.keep(std::slice::from_ref(&name));
        let is_up = self.instances.get(&name).is_some_and(|entry| entry.life.live_worker().is_some());
        match image {
            Some(Image::Here { digest, .. }) => {
                // Also enters it as the one of this instance.
                if let Some(input) = self.choose_image(&name) {
                    self.apply(&name, input);
                }
                tracing::debug!(module = name, image = digest, "is started by the deployment");
                self.apply(&name, Input::StartRequested { by: By::Deployment });
            }
            Some(Image::Quarantined(reason)) if is_up => {
                if let Some(rollout) = self.rollout() {
                    rollout.fail(index, &format!("its image is quarantined: {reason}"));
                }
            }
            _ if is_up => {
                let digest = self.instances.get(&name).and_then(|entry| entry.life.digest.clone());
                if let (Some(deployment), Some(digest)) = (&mut self.deployment, digest) {
                    deployment.awaiting.insert(name, digest);
                }
            }
            _ => {
                // What it ran before is not what it is to run.
                if let Some(entry) = self.instances.get_mut(&name) {
                    entry.life.digest = None;
                }
                self.apply(&name, Input::StartRequested { by: By::Deployment });
            }
        }
    }

    /// Desired properties, routes, and what is to be remembered of instances that are kept.
    fn set_step(&mut self) {
        let outcome = self.set_all();
        if let Err(reason) = &outcome {
            tracing::error!("desired properties or routes of the deployment could not be set: {reason}");
        }
        self.want_kept();
        let up: Vec<String> = self
            .instances
            .values()
            .filter(|entry| matches!(entry.life.state, State::Running { .. }))
            .map(|entry| entry.spec.name.clone())
            .collect();
        let now = clock::now();
        if let Some(rollout) = self.rollout() {
            rollout.was_set(outcome, now, |name| up.iter().any(|known| known == name));
        }
    }

    /// Takes over what is wanted of instances that no step is about.
    fn want_kept(&mut self) {
        let Some(deployment) = &self.deployment else { return };
        let Some(rollout) = &deployment.rollout else { return };
        let has_step = |name: &str| {
            rollout.steps().iter().any(|step| step.name == name && (step.down.is_some() || step.up.is_some()))
        };
        let is_other = |entry: &Entry, spec: &InstanceSpec| {
            entry.spec != *spec || entry.origin != deployment.origin_of(&spec.name)
        };
        let kept: Vec<InstanceSpec> = deployment
            .specs()
            .filter(|spec| !has_step(&spec.name))
            .filter(|spec| self.instances.get(&spec.name).is_none_or(|entry| is_other(entry, spec)))
            .cloned()
            .collect();
        let names: Vec<String> = kept.into_iter().map(|spec| self.want(spec)).collect();
        self.keep(&names);
    }

    pub(super) fn set_all(&mut self) -> Result<(), String> {
        let Some(deployment) = &self.deployment else { return Ok(()) };
        let Some(rollout) = &deployment.rollout else { return Ok(()) };
        let sections: Vec<(String, DesiredSection)> = rollout
            .steps()
            .iter()
            .filter(|step| step.action == "twin" && step.state == StepState::Pending)
            .filter_map(|step| {
                let section = match deployment.document.restore.get(&step.name) {
                    Some(before) => DesiredSection::Replace(before.clone()),
                    None => deployment.manifest.desired.get(&step.name)?.clone(),
                };
                Some((step.name.clone(), section))
            })
            .collect();
        // Submitted together, so that they are committed together; then waited for, all of them.
        let (done, outcomes) = std::sync::mpsc::channel::<Result<(), TwinError>>();
        for (module, section) in &sections {
            let identity = Identity::module(self.identities.device_id(), module).map_err(|error| error.to_string())?;
            let done = done.clone();
            let report = move |outcome: Result<_, TwinError>| drop(done.send(outcome.map(drop)));
            let document = Value::Object(section.properties().clone());
            let change = match section {
                DesiredSection::Replace(_) => Change::replace_desired(&document, "deployment"),
                DesiredSection::Merge(_) => Change::patch_desired(&document, "deployment"),
            };
            let change = change.forced(deployment.document.forced.contains(module));
            self.twins.change(&identity, &change, report).map_err(|error| error.to_string())?;
        }
        drop(done);
        outcomes.iter().collect::<Result<Vec<()>, _>>().map_err(|error| error.to_string())?;
        self.put_routes_in_force(&deployment.manifest)
    }

    pub(super) fn put_routes_in_force(&self, manifest: &Manifest) -> Result<(), String> {
        let table = RouteTable::compile(&manifest.routes).map_err(|errors| {
            errors.iter().map(|(name, e)| format!("route {name}: {e}")).collect::<Vec<_>>().join("; ")
        })?;
        self.put_budgets_in_force(&manifest.store);
        let endpoints = manifest.store.endpoints.iter();
        let live_first = endpoints.filter(|(_, endpoint)| endpoint.order == EndpointOrder::LiveFirst);
        self.services.ingest.set_live_first(&live_first.map(|(name, _)| name.clone()).collect::<Vec<_>>());
        self.listeners.set_routes(table, manifest.store.time_to_live);
        Ok(())
    }

    /// Takes over what is wanted of an instance; adds it where it is not there.
    pub(super) fn want(&mut self, spec: InstanceSpec) -> String {
        let name = spec.name.clone();
        let settings = self.settings(&spec);
        let origin = self.deployment.as_ref().map_or(Origin::Deployment, |deployment| deployment.origin_of(&name));
        match self.instances.get_mut(&name) {
            Some(entry) => {
                entry.was_local |= entry.origin != Origin::Deployment;
                entry.spec = spec;
                entry.origin = origin;
                self.apply(&name, Input::Configured(settings));
            }
            None => {
                self.forget_removal(&name);
                self.add(spec, origin, None, None);
            }
        }
        name
    }

    /// Ends the rollout with what became of the deployment.
    pub(super) fn end_rollout(&mut self, status: &'static str, reason: String) {
        let Some(mut deployment) = self.deployment.take() else { return };
        if let Some(rollout) = deployment.rollout.take() {
            deployment.steps = rollout.into_steps();
        }
        deployment.awaiting.clear();
        let is_any_ahead = !std::mem::take(&mut deployment.ahead).is_empty();
        self.has_grown = true;
        status.clone_into(&mut deployment.status);
        deployment.reason.clone_from(&reason);
        let id = deployment.id;
        if status == status::APPLIED {
            self.last_good = Some(id);
            tracing::info!(deployment = id, "applied, and found good");
        } else {
            tracing::error!(deployment = id, "{status}: {reason}");
        }
        let steps = serde_json::to_string(&deployment.steps).unwrap_or_else(|_| "[]".to_owned());
        let ran = self.ran(&deployment);
        self.deployment = Some(deployment);
        if is_any_ahead || status == status::APPLIED {
            // Images that came with it may be better for others too. And where it failed before it came to all, those are wanted
            // all the same, as long as it is in force.
            self.choose_images();
        }
        self.database.submit_now(
            File::Main,
            Box::new(move |tx| {
                deployment_table::set_status(tx, id, status, &reason)?;
                deployment_table::set_steps(tx, id, &steps)?;
                deployment_table::set_ran(tx, id, &ran)
            }),
            Box::new(|outcome| {
                if let Err(error) = outcome {
                    tracing::error!("what became of a deployment could not be stored: {error}");
                }
            }),
        );
        self.changed();
    }

    /// Stores the steps, where any has changed.
    pub(super) fn keep_steps(&mut self) {
        let Some(deployment) = &mut self.deployment else { return };
        let Some(rollout) = &mut deployment.rollout else { return };
        if !rollout.take_changed() {
            return;
        }
        let (id, steps) = (deployment.id, serde_json::to_string(rollout.steps()).unwrap_or_else(|_| "[]".to_owned()));
        self.database.submit_now(
            File::Main,
            Box::new(move |tx| deployment_table::set_steps(tx, id, &steps)),
            Box::new(|outcome| {
                if let Err(error) = outcome {
                    tracing::error!("the steps of a deployment could not be stored: {error}");
                }
            }),
        );
        self.changed();
    }
}
