//! Secrets as they are shown: everything but the value.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One secret.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretView {
    /// Its name.
    pub name: String,
    /// Counts its values, from 1.
    pub version: u64,
    /// When it was given its value: RFC 3339.
    pub set_time_utc: String,
    /// By whom.
    pub set_by: String,
    /// The device's key opens it; otherwise its value is to be given again.
    pub readable: bool,
    /// Modules that may have it; `*`: every one that names it.
    pub allowed: Vec<String>,
    /// Who refers to it.
    pub used_by: Vec<SecretUser>,
    /// What follows from a change, a line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// One place that refers to a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretUser {
    /// Name of the module, or `the device`.
    pub module: String,
    /// Where: `env NAME`, or the path in its desired properties.
    pub place: String,
    /// The module may have it.
    pub allowed: bool,
    /// It was started with another value than the one that is set.
    pub needs_restart: bool,
}
