//! What clients are shown of plans and deployments.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanStep {
    /// `start`, `stop`, `restart`, `remove`, `keep`, `twin` or `route`.
    pub action: String,
    /// The instance, twin or route it is about.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// What applying a manifest would do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanView {
    /// In the order of their execution.
    pub steps: Vec<PlanStep>,
    /// What was accepted but means something else here, or nothing.
    pub notes: Vec<String>,
}

/// One step of a deployment, and how far it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentStep {
    /// `start`, `stop`, `restart`, `remove`, `keep`, `twin` or `route`.
    pub action: String,
    /// The instance, twin or route it is about.
    pub name: String,
    /// Why it is done.
    pub reason: String,
    /// `pending`, `running`, `done` or `failed`.
    pub state: String,
    /// Why it failed, or what it waits for; empty where there is nothing to say.
    pub outcome: String,
}

/// A deployment: the one in force, or an older one.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentView {
    /// Counts up.
    pub id: i64,
    /// Where it came from: a file, `cli`, the hub, or `rollback to N`.
    pub origin: String,
    /// Who applied it.
    pub by: String,
    /// RFC 3339.
    pub applied_utc: String,
    /// `applying`, `applied`, `failed`, `rolledBack` or `superseded`.
    pub status: String,
    /// Why it failed or was taken back, or how far it is; empty where there is nothing to say.
    pub reason: String,
    /// Whether it is the one in force.
    pub is_in_force: bool,
    /// How long what it changed must stay up.
    pub health_secs: u64,
    /// Modules and their image references.
    pub modules: Vec<String>,
    /// Names and texts of the routes.
    pub routes: Vec<(String, String)>,
    /// What was accepted but means something else here, or nothing.
    pub notes: Vec<String>,
    /// What it changed, in order.
    pub steps: Vec<DeploymentStep>,
    /// The deployment that failed, where this one took its place by itself.
    pub rolled_back: Option<RolledBackView>,
}

/// A deployment that failed its health gate and was taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolledBackView {
    /// Its number.
    pub id: i64,
    /// Where it came from.
    pub origin: String,
    /// `rolledBack`.
    pub status: String,
    /// What failed, and what it said.
    pub reason: String,
}

/// One line of the history of deployments.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentSummary {
    /// Counts up.
    pub id: i64,
    /// Where it came from.
    pub origin: String,
    /// Who applied it.
    pub by: String,
    /// RFC 3339.
    pub applied_utc: String,
    /// As in [`DeploymentView`].
    pub status: String,
    /// As in [`DeploymentView`].
    pub reason: String,
    /// Modules that it names.
    pub module_count: usize,
    /// Whether it is the one in force.
    pub is_in_force: bool,
}

/// The manifest in force, as another device can take it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExportView {
    /// The document as its author wrote it, but for images that were named by path.
    pub text: String,
    /// How the text is written: `json` or `yaml`.
    pub format: String,
    /// The same as a document.
    pub manifest: Value,
    /// What is written differently, and what is not included.
    pub notes: Vec<String>,
}
