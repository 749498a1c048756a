//! The past of a twin, as clients are shown it.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// Who changed desired properties and tags, newest first.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TwinHistoryView {
    /// Whose twin.
    pub identity: String,
    /// What is kept of its changes.
    pub changes: Vec<TwinChangeView>,
}

/// One change of desired properties or of tags.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TwinChangeView {
    /// `desired` or `tags`.
    pub section: String,
    /// `$version` of the section before it.
    pub from_version: u64,
    /// `$version` of the section after it.
    pub to_version: u64,
    /// When.
    pub at_utc: String,
    /// Who.
    pub by: String,
    /// `patch`, `replace` or `undo to N`.
    pub action: String,
    /// Made although the module's image does not take such properties.
    pub forced: bool,
    /// What it changed.
    pub changes: Vec<PathChangeView>,
}

/// One path whose value changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PathChangeView {
    /// Keys, joined by dots.
    pub path: String,
    /// Value before; `null` where there was none.
    pub old: Option<Value>,
    /// Value after; `null` where it was removed.
    pub new: Option<Value>,
}
