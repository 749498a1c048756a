//! Going back: by itself when a deployment fails its health gate, and when a person says so.

use std::collections::BTreeMap;

use super::super::Control;
use super::record::{Deployment, Document, status};
use super::{Candidate, failed};
use crate::clock;
use crate::database::File;
use crate::database::tables::barred::BarredRow;
use crate::database::tables::deployment::{self as deployment_table, DeploymentRow};
use crate::deployment::manifest::{DesiredSection, Manifest, Parsed};
use crate::deployment::{Step, StepState};
use crate::image::Digest;
use crate::name::Identity;
use crate::refusal::{Refusal, RefusalKind};
use crate::twin::Part;
use crate::view::{DeploymentView, RolledBackView};

impl Control {
    /// The deployment in force failed: goes back to the last good one, where there is one to go back to.
    pub(super) fn give_up(&mut self, reason: String) {
        let Some(deployment) = &self.deployment else { return };
        let (id, is_gated) = (deployment.id, !deployment.manifest.health.is_zero());
        let is_rollback = deployment.document.rolled_back.is_some();
        let Some(good) = self.last_good.filter(|_| is_gated && !is_rollback) else {
            let what = match (is_gated, is_rollback) {
                (false, _) => "it has no health gate: what runs stays",
                (true, true) => "it is a rollback itself: what runs stays",
                (true, false) => "there is no good deployment to go back to: what runs stays",
            };
            return self.end_rollout(status::FAILED, format!("{reason}; {what}"));
        };
        tracing::error!(deployment = id, "failed its health gate and is rolled back to deployment {good}: {reason}");
        if let Err(refusal) = self.roll_back_to(good, &reason) {
            let details = refusal.details.join("; ");
            let why = format!("{reason}; it could not be rolled back to deployment {good}: {refusal} {details}");
            self.end_rollout(status::FAILED, why.trim_end().to_owned());
        }
    }

    fn roll_back_to(&mut self, good: i64, reason: &str) -> Result<(), Refusal> {
        let Some(failing) = &self.deployment else { return Err(self.no_deployment()) };
        let (row, former) = self.good_row(good)?;
        let ran = ran(&row);
        let rolled_back = RolledBackView {
            id: failing.id,
            origin: failing.origin.clone(),
            status: status::ROLLED_BACK.to_owned(),
            reason: reason.to_owned(),
        };
        let steps = failing.rollout.as_ref().map(|rollout| rollout.steps().to_vec()).unwrap_or_default();
        let restore: BTreeMap<_, _> = failing.document.before.clone();
        let mut bars: Vec<BarredRow> = Vec::new();
        for step in steps.iter().filter(|step| step.is_gated) {
            let now = self.instances.get(&step.name).and_then(|entry| entry.life.digest.clone());
            let before = ran.get(&step.name);
            if step.state == StepState::Failed
                && let Some(digest) = now
                && before != Some(&digest)
            {
                let why = format!("it failed the health gate of deployment {}: {}", failing.id, step.outcome);
                bars.push(self.bar(&step.name, &digest, why));
            }
            if let (Some(spec), Some(before)) = (former.manifest.modules.get(&step.name), before) {
                let behind = self.bars_behind(spec, before, &format!("rolled back from deployment {}", failing.id));
                // That it failed says more than that it was there.
                let is_known = |bar: &BarredRow| {
                    bars.iter().any(|known| (&known.instance, &known.digest) == (&bar.instance, &bar.digest))
                };
                let behind: Vec<BarredRow> = behind.into_iter().filter(|bar| !is_known(bar)).collect();
                bars.extend(behind);
            }
        }
        let why = reason.to_owned();
        let mut given_back = failing.document.taken.clone();
        given_back.retain(|name, _| !former.manifest.modules.contains_key(name));
        let document =
            Document { restore, pins: ran, given_back, rolled_back: Some(rolled_back), ..former.document.clone() };
        self.put_back(former, document, bars, "runtime", Some((status::ROLLED_BACK, why))).map(drop)
    }

    /// A person goes back to deployment `to`, or to the last good one before the one in force.
    pub(crate) fn roll_back(&mut self, to: Option<i64>, by: &str) -> Result<DeploymentView, Refusal> {
        let Some(now) = &self.deployment else { return Err(self.no_deployment()) };
        let to = match to {
            Some(id) => id,
            None => self.good_before(now)?,
        };
        let (row, former) = self.good_row(to)?;
        let mut ran = ran(&row);
        self.check_images(to, &former.manifest, &former.document, &ran)?;
        if to == now.id {
            ran.clear();
        }
        let mut bars = Vec::new();
        for (name, spec) in &former.manifest.modules {
            if let Some(digest) = ran.get(name) {
                bars.extend(self.bars_behind(spec, digest, &format!("rolled back to deployment {to} by {by}")));
            }
        }
        let document =
            Document { pins: ran, given_back: BTreeMap::new(), rolled_back: None, ..former.document.clone() };
        self.put_back(former, document, bars, by, None)?;
        self.deployment_view().ok_or_else(|| self.no_deployment())
    }

    fn put_back(
        &mut self,
        former: Deployment,
        document: Document,
        bars: Vec<BarredRow>,
        by: &str,
        end: Option<(&'static str, String)>,
    ) -> Result<i64, Refusal> {
        let known = self.bars.clone();
        for name in document.pins.keys() {
            // What a person goes back to by name is allowed again.
            if end.is_none() {
                self.lift_bars(name);
            }
        }
        bars.iter().for_each(|bar| self.bars.put(bar.clone()));
        // As if the manifest named what goes back to the local layer.
        let mut wanted = former.manifest.clone();
        wanted.modules.extend(document.given_back.iter().map(|(name, local)| (name.clone(), local.spec.clone())));
        let mut plan = self.plan_for(&wanted, &document.images, &document.pins);
        if end.is_some() {
            plan.steps.retain(|step| !matches!(step, Step::SetDesired { .. }));
            let goes = |step: &Step| matches!(step, Step::Stop { .. } | Step::Remove { .. });
            let place = plan.steps.iter().position(|step| !goes(step)).unwrap_or(plan.steps.len());
            plan.steps.splice(place..place, self.restoring(&document));
        }
        let document = Document {
            before: BTreeMap::new(),
            is_rollback: true,
            rolled_back: document.rolled_back.clone(),
            restore: if end.is_some() { document.restore.clone() } else { BTreeMap::new() },
            ..document
        };
        let outcome = self.put_in_force(Candidate {
            origin: format!("rollback to {}", former.id),
            by: by.to_owned(),
            parsed: Parsed { manifest: former.manifest, notes: former.notes },
            document,
            plan,
            bars,
            setting: None,
            former: end,
        });
        if outcome.is_err() {
            self.bars = known;
        }
        outcome
    }

    /// Steps that put desired properties back as they were.
    fn restoring(&self, document: &Document) -> Vec<Step> {
        let is_other = |module: &String, before| {
            let twin = Identity::module(self.identities.device_id(), module).ok().and_then(|id| self.twins.get(&id));
            twin.is_some_and(|twin| twin.section(Part::Desired).parse() != before)
        };
        let changed = document.restore.iter().filter(|(module, before)| is_other(module, (*before).clone()));
        changed
            .map(|(module, before)| Step::SetDesired {
                module: module.clone(),
                section: DesiredSection::Replace(before.clone()),
                why: "as it was before".to_owned(),
            })
            .collect()
    }

    /// The deployment that would be put in force again, where it needs this image: while another is being applied.
    pub(in super::super) fn way_back_through(&self, digest: &str) -> Option<i64> {
        let is_applying = self.deployment.as_ref().is_some_and(|deployment| deployment.rollout.is_some());
        let good = self.last_good.filter(|_| is_applying)?;
        let (row, _) = self.good_row(good).ok()?;
        ran(&row).values().any(|ran| ran == digest).then_some(good)
    }

    fn good_row(&self, id: i64) -> Result<(DeploymentRow, Deployment), Refusal> {
        let deployment = self.stored_deployment(id)?;
        let row = self
            .database
            .read(File::Main, move |conn| deployment_table::get(conn, id))
            .map_err(|error| failed("the history cannot be read", &error))?;
        Ok((row.ok_or_else(|| self.no_deployment())?, deployment))
    }

    /// The latest deployment that was found good and is another than the one in force.
    fn good_before(&self, now: &Deployment) -> Result<i64, Refusal> {
        let rows = self
            .database
            .read(File::Main, deployment_table::load_all)
            .map_err(|error| failed("the history cannot be read", &error))?;
        let is_good = |row: &&DeploymentRow| row.id < now.id && row.status == status::APPLIED;
        let is_other = |row: &&DeploymentRow| {
            serde_json::from_str::<Document>(&row.document).is_ok_and(|document| {
                document.manifest != now.document.manifest || document.images != now.document.images
            })
        };
        rows.iter().filter(is_good).find(is_other).map(|row| row.id).ok_or_else(|| {
            Refusal::new(
                RefusalKind::Conflict,
                "there is no other good deployment before the one in force to go back to",
                "`dinrail deployment history` lists those that are kept; `dinrail rollback N` takes any of them",
            )
        })
    }

    /// Refuses to go back to images that are gone.
    fn check_images(
        &self,
        to: i64,
        manifest: &Manifest,
        document: &Document,
        ran: &BTreeMap<String, String>,
    ) -> Result<(), Refusal> {
        let is_here =
            |digest: &String| digest.parse::<Digest>().is_ok_and(|digest| self.catalog.get(&digest).is_some());
        let details: Vec<String> = manifest
            .modules
            .values()
            .filter_map(|spec| {
                let digest = document.images.get(&spec.image).or_else(|| ran.get(&spec.name))?;
                (!is_here(digest)).then(|| format!("{}: the image {digest} ({}) is gone", spec.name, spec.image))
            })
            .collect();
        if details.is_empty() {
            return Ok(());
        }
        Err(Refusal {
            kind: RefusalKind::Conflict,
            message: format!("deployment {to} cannot be put in force again: images that it ran are gone"),
            hint: Some("add them again: dinrail image add FILE; nothing was changed".to_owned()),
            details,
        })
    }

    fn bars_behind(&self, spec: &crate::instance::spec::InstanceSpec, ran: &str, why: &str) -> Vec<BarredRow> {
        let Ok(ran) = ran.parse::<Digest>() else { return Vec::new() };
        let better = self.better_than(spec, &ran);
        better.iter().map(|digest| self.bar(&spec.name, &digest.to_string(), why.to_owned())).collect()
    }

    fn bar(&self, name: &str, digest: &str, reason: String) -> BarredRow {
        BarredRow { instance: name.to_owned(), digest: digest.to_owned(), reason, at_us: clock::wall_us() }
    }
}

/// The digest that each module of a stored deployment ran.
fn ran(row: &DeploymentRow) -> BTreeMap<String, String> {
    serde_json::from_str(&row.ran).unwrap_or_default()
}
