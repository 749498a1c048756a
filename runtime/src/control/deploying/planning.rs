//! What a plan is made from: instances, twins, routes, and what image references mean.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::Control;
use super::super::instances::Entry;
use crate::deployment::manifest::Manifest;
use crate::deployment::{Actual, ActualInstance, Image, Meaning, Plan, plan};
use crate::image::{Digest, Reference, Resolution, Verdict};
use crate::instance::spec::{InstanceSpec, Origin};
use crate::instance::state::{State, Then};
use crate::routing::Sink;
use crate::twin::Part;

impl Control {
    /// `images`: digests of what the manifest names by path; `pins`: digests to which a rollback goes back.
    pub(super) fn plan_for(
        &self,
        manifest: &Manifest,
        images: &BTreeMap<String, String>,
        pins: &BTreeMap<String, String>,
    ) -> Plan {
        let mut actual = self.actual();
        for (name, instance) in actual.instances.iter_mut().filter(|(name, _)| !manifest.modules.contains_key(*name)) {
            let endpoints = self.services.ingest.endpoints_of(name);
            // What cannot be read is not known; the plan is none the worse for the rest.
            instance.parked = self.services.disk.toll("", &endpoints).map(|(parked, _)| parked).unwrap_or_default();
        }
        for (name, spec) in &manifest.modules {
            let pin = pins.get(name).and_then(|digest| digest.parse().ok());
            actual.images.insert(name.clone(), self.meaning(spec, images, pin));
        }
        plan(&actual, manifest)
    }

    fn actual(&self) -> Actual {
        let instance = |entry: &Entry| ActualInstance {
            spec: entry.spec.clone(),
            origin: entry.origin,
            was_local: entry.was_local && entry.origin == Origin::Deployment,
            status: entry.life.status(),
            is_going_down: matches!(&entry.life.state, State::Stopping { then: Then::Stay | Then::Remove, .. })
                && entry.life.hold.is_none(),
            digest: entry.life.digest.clone(),
            is_disabled: entry.life.disabled.is_some(),
            held_by: entry.life.hold.as_ref().map(|hold| hold.by.clone()),
            messages: self.services.ingest.waiting(&entry.spec.name).0,
            parked: 0,
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
            waiting: self.services.ingest.waiting_inputs(),
            fed_locally: self.fed_locally(),
            upstream_bytes: self.services.disk.budget().holds("$upstream"),
            images: BTreeMap::new(),
            last_good: self.last_good,
        }
    }

    /// What an image reference means now. `pin`: the bytes on which a full version stays.
    pub(super) fn meaning(
        &self,
        spec: &InstanceSpec,
        images: &BTreeMap<String, String>,
        pin: Option<Digest>,
    ) -> Meaning {
        if let Some(digest) = images.get(&spec.image) {
            let image = match digest.parse::<Digest>().ok().and_then(|parsed| self.catalog.get(&parsed)) {
                Some(record) => match &record.verdict {
                    Verdict::Admitted => self.here(&record.digest),
                    Verdict::Quarantined { reason } => Image::Quarantined(reason.clone()),
                },
                None => Image::Comes { digest: digest.clone() },
            };
            return Meaning { kept: image.clone(), afresh: image };
        }
        let reference: Reference = match spec.image.parse() {
            Ok(reference) => reference,
            Err(error) => {
                let image = Image::Missing(format!("'{}' is not an image reference: {error}", spec.image));
                return Meaning { kept: image.clone(), afresh: image };
            }
        };
        let image = |barred: &[Digest]| match self.catalog.resolve(&reference, pin, barred) {
            Resolution::Found(digest) => self.here(&digest),
            Resolution::NotFound { reason } => Image::Missing(reason),
            Resolution::Quarantined { reason, .. } => Image::Quarantined(reason),
            Resolution::Barred(digest) => Image::Missing(format!("{digest} failed here before and is barred")),
        };
        let barred = self.barred_digests(&spec.name);
        // A rollback goes back behind what is barred.
        let afresh = if pin.is_some() { image(&barred) } else { image(&[]) };
        Meaning { kept: image(&barred), afresh }
    }

    fn fed_locally(&self) -> BTreeSet<Sink> {
        let (_, local) = self.listeners.routes();
        local.routes().iter().map(|route| route.target.sink.clone()).collect()
    }

    /// The image that an instance is to run, as far as it is known.
    pub(crate) fn image_for(&self, spec: &InstanceSpec, images: &BTreeMap<String, String>) -> Option<String> {
        match self.meaning(spec, images, None).kept {
            Image::Here { digest, .. } | Image::Comes { digest } => Some(digest),
            Image::Missing(_) | Image::Quarantined(_) => None,
        }
    }

    fn here(&self, digest: &Digest) -> Image {
        let title =
            self.catalog.get(digest).map(|record| format!("{} {}", record.descriptor.name, record.descriptor.version));
        Image::Here { digest: digest.to_string(), title: title.unwrap_or_default() }
    }

    /// The digests that the modules of a manifest run now, by name: JSON.
    pub(super) fn ran(&self, deployment: &super::Deployment) -> String {
        let of = |name: &String| Some((name.clone(), self.instances.get(name)?.life.digest.clone()?));
        let ran: BTreeMap<String, String> = deployment.manifest.modules.keys().filter_map(of).collect();
        serde_json::to_string(&ran).unwrap_or_else(|_| "{}".to_owned())
    }
}
