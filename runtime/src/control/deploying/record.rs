//! A deployment as it is stored, and read back.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::clock;
use crate::database::tables::deployment::DeploymentRow;
use crate::deployment::StepRecord;
use crate::deployment::manifest::{Manifest, Parsed};
use crate::instance::spec::{DesiredStatus, InstanceSpec, Origin};
use crate::view::{DeploymentSummary, DeploymentView, RolledBackView};

/// Words for what became of a deployment.
pub(super) mod status {
    pub const APPLYING: &str = "applying";
    pub const APPLIED: &str = "applied";
    pub const FAILED: &str = "failed";
    pub const ROLLED_BACK: &str = "rolledBack";
    pub const SUPERSEDED: &str = "superseded";
    /// Of an earlier release: nothing of it was ever in force.
    pub const REFUSED: &str = "refused";
}

/// What a deployment consists of.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Document {
    pub manifest: String,
    /// Digests of the images that the manifest names by path.
    pub images: BTreeMap<String, String>,
    /// Desired properties that it changes, as they were before it, by module.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub before: BTreeMap<String, Map<String, Value>>,
    /// A rollback: desired properties that it puts back in place of the manifest's, by module.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub restore: BTreeMap<String, Map<String, Value>>,
    /// A rollback: the digest that each module ran in what it goes back to.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pins: BTreeMap<String, String>,
    /// A rollback that nobody asked for: the deployment that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<RolledBackView>,
    /// Instances that a file or a person wanted, which it takes over: as they were.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub taken: BTreeMap<String, Local>,
    /// A rollback: those that it gives back.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub given_back: BTreeMap<String, Local>,
    /// Modules whose desired properties are set although their images do not take them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub forced: BTreeSet<String>,
    /// Taken as it is from an earlier one: its modules are what they are, whatever was barred.
    #[serde(default)]
    pub is_rollback: bool,
}

/// An instance of the layer that deployments keep.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Local {
    pub origin: Origin,
    pub spec: InstanceSpec,
}

/// The deployment in force, or one that is read back to be looked at.
pub(in super::super) struct Deployment {
    pub id: i64,
    pub origin: String,
    pub by: String,
    pub applied_us: i64,
    pub status: String,
    pub reason: String,
    pub manifest: Manifest,
    pub(super) document: Document,
    pub notes: Vec<String>,
    pub(super) steps: Vec<StepRecord>,
    pub(super) rollout: Option<crate::deployment::Rollout>,
    /// Instances that run another image until theirs is here: the digest that they run meanwhile.
    pub(super) awaiting: BTreeMap<String, String>,
    /// Modules whose desired properties it sets.
    pub(super) sets: HashSet<String>,
    /// New instances that it has not come to yet.
    pub(in super::super) ahead: HashSet<String>,
}

impl Deployment {
    /// Reads a stored one. Errors: why it cannot be read, in words.
    pub(super) fn read(row: &DeploymentRow) -> Result<Deployment, String> {
        let document: Document = serde_json::from_str(&row.document).map_err(|e| e.to_string())?;
        let Parsed { manifest, notes } = Manifest::parse(&document.manifest)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
        Ok(Deployment {
            id: row.id,
            origin: row.origin.clone(),
            by: row.applied_by.clone(),
            applied_us: row.applied_us,
            status: row.status.clone(),
            reason: row.reason.clone(),
            manifest,
            document,
            notes,
            steps: serde_json::from_str(&row.steps).unwrap_or_default(),
            rollout: None,
            awaiting: BTreeMap::new(),
            sets: HashSet::new(),
            ahead: HashSet::new(),
        })
    }

    /// What became of it so far: a code of IoT Edge, and a sentence where there is more to say.
    pub(in super::super) fn code(&self) -> (u16, String) {
        match (self.status.as_str(), &self.document.rolled_back) {
            (status::APPLYING, _) => (406, format!("deployment {} is being applied", self.id)),
            (status::APPLIED, Some(of)) => (200, format!("deployment {} was taken back: {}", of.id, of.reason)),
            (status::APPLIED, None) => (200, String::new()),
            (other, _) => (500, format!("deployment {} {other}: {}", self.id, self.reason)),
        }
    }

    /// What it says.
    pub(in super::super) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Whether its manifest has a module of this name.
    pub(in super::super) fn names(&self, module: &str) -> bool {
        self.manifest.modules.contains_key(module)
    }

    /// The digest of an image that its manifest names by path.
    pub(in super::super) fn image(&self, reference: &str) -> Option<&str> {
        self.document.images.get(reference).map(String::as_str)
    }

    /// What it wants of instances: of its own modules, and of those that it gives back.
    pub(super) fn specs(&self) -> impl Iterator<Item = &InstanceSpec> {
        self.manifest.modules.values().chain(self.document.given_back.values().map(|local| &local.spec))
    }

    /// Who wants an instance, under this deployment.
    pub(super) fn origin_of(&self, name: &str) -> Origin {
        self.document.given_back.get(name).map_or(Origin::Deployment, |local| local.origin)
    }

    pub(super) fn view(&self, is_in_force: bool) -> DeploymentView {
        let module = |spec: &InstanceSpec| {
            let stopped = if spec.status == DesiredStatus::Stopped { " (stopped)" } else { "" };
            format!("{}: {}{stopped}", spec.name, spec.image)
        };
        let steps = self.rollout.as_ref().map_or(&self.steps[..], crate::deployment::Rollout::steps);
        DeploymentView {
            id: self.id,
            origin: self.origin.clone(),
            by: self.by.clone(),
            applied_utc: clock::rfc3339(self.applied_us),
            status: self.status.clone(),
            reason: self.rollout.as_ref().map_or_else(|| self.reason.clone(), crate::deployment::Rollout::progress),
            is_in_force,
            health_secs: self.manifest.health.as_secs(),
            modules: self.manifest.modules.values().map(module).collect(),
            routes: self.manifest.routes.iter().map(|r| (r.name.clone(), r.text.clone())).collect(),
            notes: self.notes.clone(),
            steps: steps.iter().map(StepRecord::view).collect(),
            rolled_back: self.document.rolled_back.clone(),
        }
    }

    /// Its line in the history.
    pub(super) fn summary(&self, is_in_force: bool) -> DeploymentSummary {
        DeploymentSummary {
            id: self.id,
            origin: self.origin.clone(),
            by: self.by.clone(),
            applied_utc: clock::rfc3339(self.applied_us),
            status: self.status.clone(),
            reason: self.reason.clone(),
            module_count: self.manifest.modules.len(),
            is_in_force,
        }
    }
}
