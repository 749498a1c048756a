//! Reading a manifest with everything that can be wrong with it, and what only the runtime can tell of it.

use serde_json::{Map, Value};

use super::super::Control;
use crate::deployment::manifest::{DesiredSection, Manifest, Parsed, place_all};
use crate::deployment::{DeployRequest, Problem};
use crate::image::Reference;
use crate::name::Identity;
use crate::refusal::{Refusal, RefusalKind};
use crate::twin::patch::merge;
use crate::twin::{Part, rules};

impl Control {
    /// Reads a manifest with everything that can be wrong with it.
    ///
    /// `is_final`: images named by path must be in the store; a plan is asked for before they are uploaded.
    pub(super) fn read_manifest(&self, request: &DeployRequest, is_final: bool) -> Result<Parsed, Refusal> {
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
        self.refuse(request, problems)?;
        // Without problems there is one.
        parsed.map_err(|_| Refusal::ending())
    }

    /// The secrets that a manifest refers to and its modules are not to be given, each with its place.
    pub(super) fn missing_of(&self, request: &DeployRequest, manifest: &Manifest) -> Vec<Problem> {
        let mut problems = self.check_secrets(manifest);
        place_all(&request.text, request.format(), &mut problems);
        problems
    }

    /// Refuses a manifest for its problems, if there are any.
    pub(super) fn refuse(&self, request: &DeployRequest, problems: Vec<Problem>) -> Result<(), Refusal> {
        if problems.is_empty() {
            return Ok(());
        }
        let mut details: Vec<String> = problems.iter().map(|problem| request.tell(problem)).collect();
        details.dedup();
        let count = if details.len() == 1 { "1 problem".to_owned() } else { format!("{} problems", details.len()) };
        Err(Refusal {
            kind: RefusalKind::Invalid,
            message: format!("the manifest {} is refused: {count}", request.origin),
            hint: Some("correct them and apply it again; nothing was changed".to_owned()),
            details,
        })
    }

    /// What only the runtime can tell: limits of twins, images named by path, what this version cannot do yet.
    fn check_meaning(&self, manifest: &Manifest, request: &DeployRequest, is_final: bool) -> Vec<Problem> {
        let mut problems = Vec::new();
        if !request.is_forced {
            problems.extend(request.unfit.values().flatten().cloned());
        }
        for (module, section) in &manifest.desired {
            let mut found = Vec::new();
            let path = format!("modulesContent.{module}.properties.desired");
            rules::check_patch(&path, section.properties(), &mut found);
            let (before, after) = match section {
                DesiredSection::Replace(properties) => (0, properties.clone()),
                DesiredSection::Merge(properties) => self.merged(module, properties),
            };
            rules::check_size(&path, before, rules::size_of(&after), rules::MAX_SECTION_BYTES, &mut found);
            problems.extend(found.iter().map(|v| Problem::at(&v.path, format!("{} — {}", v.value, v.limit), "")));
        }
        for name in manifest.modules.keys().filter(|name| self.left_behind.contains(*name)) {
            problems.push(Problem::at(
                format!("modulesContent.$edgeAgent.properties.desired.modules.{name}"),
                format!("the thread of the {name} that was removed never returned"),
                "restart the runtime, or give the module another name",
            ));
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
}
