//! Deployments: one document that says which modules run, with which desired properties and routes.
//!
//! A manifest is parsed (all problems at once), compared with what there is into a [`Plan`], and only then carried out, elsewhere.
//! Everything here is pure: no clock, no file, no database.

mod export;
mod hub;
pub mod manifest;
mod modules;
mod options;
mod overwritten;
pub mod plan;
mod reader;
pub mod rollout;
mod route_changes;
pub mod schema;
pub mod step;
mod step_record;
mod store;

pub use crate::document::{Format, Place, Problem};
pub use export::{Export, export};
pub use hub::read_single as read_route;
pub use manifest::{DesiredSection, Manifest, Parsed, own_section};
pub use plan::{Actual, ActualInstance, Image, Meaning, plan};
pub use rollout::{Order, Rollout, Standing};
pub use route_changes::{kept_for, wait};
pub use step::{Plan, Step};
pub use step_record::{StepRecord, StepState, records};
pub use store::{EndpointConfiguration, Order as EndpointOrder, StoreConfiguration};

/// A manifest to plan or to apply.
#[derive(Debug, Clone, Default)]
pub struct DeployRequest {
    /// The manifest: JSON or YAML.
    pub text: String,
    /// Where it came from, for `deployment`: a path, or `cli`.
    pub origin: String,
    /// Who applies it.
    pub by: String,
    /// Images named by path in the manifest, by that path: the digest (`sha256:…`) under which they were added.
    pub images: std::collections::BTreeMap<String, String>,
    /// Images named by path that are not there, each with the reason.
    pub missing: std::collections::BTreeMap<String, String>,
    /// Desired properties that the modules' images do not take are applied all the same.
    pub is_forced: bool,
    /// Desired properties that the modules' images do not take, by module.
    pub unfit: std::collections::BTreeMap<String, Vec<Problem>>,
}

impl DeployRequest {
    /// How the manifest is written, as far as the name of its file says.
    pub fn format(&self) -> Option<Format> {
        Format::of_name(&self.origin)
    }

    /// A problem as a person is told it: `FILE:LINE:COLUMN: …` where the manifest is a file.
    pub fn tell(&self, problem: &Problem) -> String {
        if self.origin.contains(['/', '\\', '.']) { problem.in_file(&self.origin) } else { problem.to_string() }
    }
}
