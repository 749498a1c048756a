//! What is to be tried: handed from the parent to the child as a file.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What is to be tried.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// The library.
    pub file: PathBuf,
    /// Name of the instance; `None`: that of the image.
    pub name: Option<String>,
    /// Desired properties at the start; an object.
    pub desired: Value,
    /// The deployment's `env`.
    pub env: Vec<(String, String)>,
    /// What is done with it, in this order.
    pub steps: Vec<Step>,
    /// Longest that one call into the module, or the way to its outcome, may take.
    pub timeout: Duration,
}

/// One thing that is done with the instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// A message on an input.
    Message {
        /// Input.
        input: String,
        /// Body.
        body: Vec<u8>,
        /// Application properties.
        properties: Vec<(String, String)>,
    },
    /// A change of the desired properties: a merge patch.
    Patch(Value),
    /// A direct method.
    Method {
        /// Name.
        name: String,
        /// JSON, or empty.
        payload: String,
    },
    /// Time goes by.
    Pass(Duration),
}

impl Plan {
    /// Longest that the whole can take, if the child keeps its own limits: what the parent waits.
    pub fn limit(&self) -> Duration {
        let passes: Duration =
            self.steps.iter().map(|step| if let Step::Pass(time) = step { *time } else { Duration::ZERO }).sum();
        // Loading, creating and starting, each step, each message once more at the end, stopping.
        let waits = u32::try_from(2 * self.steps.len() + 4).unwrap_or(u32::MAX);
        self.timeout.saturating_mul(waits).saturating_add(passes).saturating_add(Duration::from_secs(20))
    }
}
