//! The manifest in force, as another device can take it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Control;
use super::instances::origin_word;
use crate::deployment::{DesiredSection, Format, export};
use crate::image::{Digest, Reference};
use crate::instance::spec::Origin;
use crate::name::Identity;
use crate::twin::Part;
use crate::view::ExportView;

impl Control {
    /// The manifest in force; `None` without one.
    pub(crate) fn export(&self) -> Option<ExportView> {
        let deployment = self.deployment.as_ref()?;
        let manifest = deployment.manifest();
        let mut renamed = BTreeMap::new();
        let mut notes = Vec::new();
        for spec in manifest.modules.values() {
            if !spec.image.parse::<Reference>().is_ok_and(|reference| reference.name().is_none()) {
                continue;
            }
            let digest = deployment.image(&spec.image).and_then(|digest| digest.parse::<Digest>().ok());
            match digest.and_then(|digest| self.catalog.get(&digest)) {
                Some(image) => {
                    let reference = format!("{}@{}", image.descriptor.name, image.digest);
                    notes.push(format!(
                        "{}: {} is written as {reference}; the other device needs that image (dinrail image add FILE)",
                        spec.name, spec.image
                    ));
                    renamed.insert(spec.name.clone(), reference);
                }
                None => notes.push(format!("{}: {} is kept: its image is not in the store", spec.name, spec.image)),
            }
        }
        let exported = export(&manifest.text, &renamed)?;
        notes.extend(self.changed_since(&manifest.desired));
        notes.extend(self.not_included());
        let format = match exported.format {
            Format::Json => "json",
            Format::Yaml => "yaml",
        };
        Some(ExportView { text: exported.text, format: format.to_owned(), manifest: exported.value, notes })
    }

    /// Twins that are not what the manifest makes them.
    fn changed_since(&self, desired: &BTreeMap<String, DesiredSection>) -> Vec<String> {
        let is_changed = |(module, section): &(&String, &DesiredSection)| {
            let DesiredSection::Replace(properties) = section else { return false };
            let twin = Identity::module(self.identities.device_id(), module).ok().and_then(|id| self.twins.get(&id));
            twin.is_some_and(|twin| {
                Value::Object(twin.section(Part::Desired).parse()) != Value::Object(properties.clone())
            })
        };
        let names: Vec<&str> = desired.iter().filter(is_changed).map(|(module, _)| module.as_str()).collect();
        match names[..] {
            [] => Vec::new(),
            _ => vec![format!(
                "not included: what was changed in twins since, of {} (dinrail twin get NAME)",
                names.join(", ")
            )],
        }
    }

    /// The local layer.
    fn not_included(&self) -> Vec<String> {
        let local = self.instances.values().filter(|entry| entry.origin != Origin::Deployment);
        let modules: Vec<String> =
            local.map(|entry| format!("{} ({})", entry.spec.name, origin_word(entry.origin))).collect();
        let routes: Vec<&str> = self.local_routes.keys().map(String::as_str).collect();
        let mut notes = Vec::new();
        if !modules.is_empty() {
            notes.push(format!("not included: modules of this device alone: {}", modules.join(", ")));
        }
        if !routes.is_empty() {
            notes.push(format!("not included: routes that were added by hand: {}", routes.join(", ")));
        }
        notes
    }
}
