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
