//! Deployments: one document that says which modules run, with which desired properties and routes.
//!
//! A manifest is parsed (all problems at once), compared with what there is into a [`Plan`], and only then carried out, elsewhere.
//! Everything here is pure: no clock, no file, no database.

mod document;
mod hub;
pub mod manifest;
mod modules;
mod options;
pub mod plan;
pub mod problem;
mod reader;

pub use manifest::{DesiredSection, Manifest, Parsed};
pub use plan::{Actual, ActualInstance, Plan, Step, plan};
pub use problem::{Place, Problem};

/// A manifest to plan or to apply.
#[derive(Debug, Clone)]
pub struct DeployRequest {
    /// The manifest: JSON.
    pub text: String,
    /// Where it came from, for `deployment`: a path, or `cli`.
    pub origin: String,
    /// Images named by path in the manifest, by that path: the digest (`sha256:…`) under which they were added.
    pub images: std::collections::BTreeMap<String, String>,
}
