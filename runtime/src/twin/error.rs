//! Why a change of a twin was not made.

use super::rules::Violation;
use crate::database::StoreError;
use crate::name::Identity;

/// Why a change of a twin was not made. Nothing of it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TwinError {
    /// No such identity.
    #[error("there is no twin of {identity}")]
    NotFound {
        /// The identity.
        identity: Identity,
    },
    /// The change breaks rules: all of them that it breaks.
    #[error("the change of the twin of {identity} is not valid: {}", summary(.violations))]
    Invalid {
        /// Whose twin.
        identity: Identity,
        /// Each with its place.
        violations: Vec<Violation>,
    },
    /// `If-Match` names another state of the twin.
    #[error("the twin of {identity} has changed: its etag is \"{etag}\", not {asked}")]
    EtagMismatch {
        /// Whose twin.
        identity: Identity,
        /// Its present tag.
        etag: String,
        /// The tag that was asked for.
        asked: String,
    },
    /// Not stored.
    #[error("the change of the twin of {identity} is lost: {cause}")]
    Store {
        /// Whose twin.
        identity: Identity,
        /// Why.
        cause: StoreError,
    },
}

impl TwinError {
    /// What a person does next.
    pub fn hint(&self) -> String {
        match self {
            TwinError::NotFound { .. } => {
                "`dinrail list` shows the modules; a module has a twin from its first start on".to_owned()
            }
            TwinError::Invalid { .. } => "correct the change and send it again; nothing of it was applied".to_owned(),
            TwinError::EtagMismatch { .. } => {
                "read the twin again, then change it with its new etag, or with \"*\"".to_owned()
            }
            TwinError::Store { cause, .. } => cause.hint().unwrap_or("send it again").to_owned(),
        }
    }
}

fn summary(violations: &[Violation]) -> String {
    match violations {
        [] => String::new(),
        [only] => only.to_string(),
        [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
    }
}
