//! Deployments.
pub mod problem;
