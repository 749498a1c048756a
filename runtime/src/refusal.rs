//! Why a request of a client was not done, in the form that every way in shares.

use crate::twin::TwinError;

/// Kind of a refusal; the management API maps it to an HTTP status in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// The request itself is wrong (400).
    Invalid,
    /// No such thing (404).
    NotFound,
    /// The thing is there, but nobody answers for it now (404).
    NotConnected,
    /// The thing is there, but does not know the method that it was called by (404).
    NoMethod,
    /// The state does not allow it (409).
    Conflict,
    /// `If-Match` does not match (412).
    PreconditionFailed,
    /// Over a limit (413).
    TooLarge,
    /// Too much of it is under way; it can be tried again (429).
    Busy,
    /// It was tried and failed (500).
    Failed,
    /// Not within the time allowed (504).
    Timeout,
}

/// Why a request was not done: for a person, with the next step.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What class of refusal.
    pub kind: RefusalKind,
    /// What is wrong, naming the thing.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
    /// Every single problem, where there are several, each with its place.
    pub details: Vec<String>,
}

impl Refusal {
    /// A refusal with its next step.
    pub fn new(kind: RefusalKind, message: impl Into<String>, hint: impl Into<String>) -> Refusal {
        Refusal { kind, message: message.into(), hint: Some(hint.into()), details: Vec::new() }
    }

    /// For whoever asks too late.
    pub fn ending() -> Refusal {
        Refusal::new(RefusalKind::Failed, "the runtime is ending", "start it again, then repeat the command")
    }
}

impl From<TwinError> for Refusal {
    fn from(error: TwinError) -> Refusal {
        let (kind, details) = match &error {
            TwinError::NotFound { .. } | TwinError::NoVersion { .. } => (RefusalKind::NotFound, Vec::new()),
            TwinError::Invalid { violations, .. } | TwinError::Unfit { violations, .. } => {
                (RefusalKind::Invalid, violations.iter().map(ToString::to_string).collect())
            }
            TwinError::EtagMismatch { .. } | TwinError::VersionMismatch { .. } | TwinError::Moved { .. } => {
                (RefusalKind::PreconditionFailed, Vec::new())
            }
            TwinError::Deployed { .. } => (RefusalKind::Invalid, Vec::new()),
            TwinError::Store { .. } => (RefusalKind::Failed, Vec::new()),
        };
        Refusal { kind, message: error.to_string(), hint: Some(error.hint()), details }
    }
}
