//! Whether the modules' images take the desired properties of a manifest. The loop only says which images these are; schemas are
//! compiled and asked elsewhere.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::Control;
use crate::deployment::manifest::{DesiredSection, Manifest};
use crate::deployment::{DeployRequest, Problem};
use crate::image::Reference;
use crate::name::Identity;
use crate::twin::patch::merge;
use crate::twin::{Part, Schemas, Twins};

/// What a manifest would set, and by which images it is to be taken.
pub(crate) struct Fitting {
    manifest: Manifest,
    /// Digests by module.
    images: BTreeMap<String, String>,
}

/// The manifest of a request, if it is one that sets desired properties; its problems are told elsewhere. Pure.
pub(crate) fn manifest_of(request: &DeployRequest) -> Option<Manifest> {
    let check = |image: &str| image.parse::<Reference>().map(drop).map_err(|error| error.to_string());
    let parsed = Manifest::parse_with(&request.text, request.format(), &check).ok()?;
    Some(parsed.manifest).filter(|manifest| !manifest.desired.is_empty())
}

impl Control {
    /// The image of each module whose section of the manifest is another than the one in force.
    pub(crate) fn fitting(&self, manifest: Manifest, images: &BTreeMap<String, String>) -> Fitting {
        let in_force = self.deployment.as_ref().map(|deployment| &deployment.manifest.desired);
        let is_new = |module: &str| in_force.is_none_or(|known| known.get(module) != manifest.desired.get(module));
        let image = |module: &str| match manifest.modules.get(module) {
            Some(spec) => self.image_for(spec, images),
            None => self.image_run_by(module),
        };
        let changed = manifest.desired.keys().filter(|module| is_new(module));
        let images = changed.filter_map(|module| Some((module.clone(), image(module)?))).collect();
        Fitting { manifest, images }
    }

    /// The image that an instance runs or ran last.
    pub(crate) fn image_run_by(&self, module: &str) -> Option<String> {
        self.instances.get(module)?.life.digest.clone()
    }
}

impl Fitting {
    /// What the images do not take, by module. `[blocks: compiles schemas]`
    pub(crate) fn problems(&self, device: &str, twins: &Twins, schemas: &Schemas) -> BTreeMap<String, Vec<Problem>> {
        let mut problems = BTreeMap::new();
        for (module, digest) in &self.images {
            let (Some(section), Some(schema)) = (self.manifest.desired.get(module), schemas.of(digest)) else {
                continue;
            };
            let mut after = match section {
                DesiredSection::Replace(_) => Value::Object(Default::default()),
                DesiredSection::Merge(_) => {
                    let twin = Identity::module(device, module).ok().and_then(|id| twins.get(&id));
                    Value::Object(twin.map(|twin| twin.section(Part::Desired).parse()).unwrap_or_default())
                }
            };
            merge(&mut after, &Value::Object(section.properties().clone()));
            let Value::Object(after) = after else { continue };
            let path = format!("modulesContent.{module}.properties.desired");
            let found = schema.check(&path, &after).into_iter().map(|violation| {
                let message = format!("{} — {}", violation.value, violation.limit);
                Problem::at(&violation.path, message, "correct it, or insist with --force")
            });
            let found: Vec<Problem> = found.collect();
            if !found.is_empty() {
                problems.insert(module.clone(), found);
            }
        }
        problems
    }
}
