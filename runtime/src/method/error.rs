//! Why a call has no answer.

use std::time::Duration;

use dinrail_plugin::abi::{DR_FAILED, DR_FULL, DR_INVALID, DR_NOT_FOUND, DR_TIMEOUT, DR_TOO_LARGE, DrStatus};

use super::figures::Outcome;

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The call itself cannot be meant; says all that is wrong with it.
    #[error("{0}")]
    Invalid(String),
    /// The payload is over the limit.
    #[error("{0}")]
    TooLarge(String),
    /// There is no such identity.
    #[error("{0}")]
    NoTarget(String),
    /// The identity is there, but nobody answers for it; the method was not begun.
    #[error("{0}")]
    NotConnected(String),
    /// The module does not know the method.
    #[error("{0}")]
    NoMethod(String),
    /// Too many calls are under way; the method was not begun.
    #[error("{0}")]
    Busy(String),
    /// Nobody answered in time; what is still done about the call is done for nobody.
    #[error("no answer within {}", span(*.limit))]
    Timeout {
        /// The time that the caller gave.
        limit: Duration,
        /// The method was begun.
        is_begun: bool,
    },
    /// The method was begun and failed, or its instance ended with it; says why.
    #[error("{0}")]
    Failed(String),
    /// The answer is none: too large, or not JSON.
    #[error("{0}")]
    BadAnswer(String),
}

impl CallError {
    /// The status for a module.
    pub fn status(&self) -> DrStatus {
        match self {
            CallError::Invalid(_) => DR_INVALID,
            CallError::TooLarge(_) => DR_TOO_LARGE,
            CallError::NoTarget(_) | CallError::NotConnected(_) | CallError::NoMethod(_) => DR_NOT_FOUND,
            CallError::Busy(_) => DR_FULL,
            CallError::Timeout { .. } => DR_TIMEOUT,
            CallError::Failed(_) | CallError::BadAnswer(_) => DR_FAILED,
        }
    }

    /// What it is counted as.
    pub fn outcome(&self) -> Outcome {
        match self {
            CallError::Invalid(_) | CallError::TooLarge(_) => Outcome::Invalid,
            CallError::NoTarget(_) | CallError::NoMethod(_) => Outcome::NotFound,
            CallError::NotConnected(_) => Outcome::NotConnected,
            CallError::Busy(_) => Outcome::Busy,
            CallError::Timeout { .. } => Outcome::Timeout,
            CallError::Failed(_) => Outcome::Failed,
            CallError::BadAnswer(_) => Outcome::BadAnswer,
        }
    }
}

/// A span as a person reads it: `30 s`, `250 ms`.
fn span(limit: Duration) -> String {
    match limit.subsec_millis() {
        0 => format!("{} s", limit.as_secs()),
        _ => format!("{} ms", limit.as_millis()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_said_in_the_unit_that_it_was_given_in() {
        for (ms, text) in
            [(5_000, "no answer within 5 s"), (250, "no answer within 250 ms"), (1, "no answer within 1 ms")]
        {
            let error = CallError::Timeout { limit: Duration::from_millis(ms), is_begun: false };
            assert_eq!(error.to_string(), text);
        }
    }
}
