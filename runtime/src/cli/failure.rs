//! How a verb fails: what a person reads on stderr, and the exit code.

use std::fmt::Write;
use std::io;
use std::process::ExitCode;

use crate::admin::AdminError;
use crate::admin::client::ClientError;
use crate::admin::error::ErrorBody;

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const NO_RUNTIME: u8 = 3;

/// Why a verb was not done.
#[derive(Debug)]
pub enum Failure {
    /// The reader of our output has gone: not a failure for anybody.
    ClosedPipe,
    /// Anything else, in words.
    Told(Box<Told>),
}

/// The words of a [`Failure`].
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    exit_code: u8,
    message: String,
    causes: Vec<String>,
    details: Vec<String>,
    hint: Option<String>,
}

impl Failure {
    /// Refused or failed (exit 1).
    pub fn new(message: impl Into<String>) -> Failure {
        Failure::with_code(FAILED, message)
    }

    /// Refused or failed (exit 1), with the chain of causes.
    pub fn caused(message: impl Into<String>, cause: &dyn std::error::Error) -> Failure {
        let causes = std::iter::successors(Some(cause), |cause| cause.source()).map(ToString::to_string);
        Failure::new(message).causes(causes.collect())
    }

    /// Refused or failed (exit 1), in the words of an error and of what led to it.
    pub fn of(error: &dyn std::error::Error) -> Failure {
        match error.source() {
            Some(cause) => Failure::caused(error.to_string(), cause),
            None => Failure::new(error.to_string()),
        }
    }

    /// An argument that cannot be meant (exit 2).
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::with_code(USAGE, message)
    }

    fn with_code(exit_code: u8, message: impl Into<String>) -> Failure {
        let message = message.into();
        Failure::Told(Box::new(Told { exit_code, message, causes: Vec::new(), details: Vec::new(), hint: None }))
    }

    /// The same failure with the next step.
    pub fn hint(self, hint: impl Into<String>) -> Failure {
        self.change(|told| told.hint = Some(hint.into()))
    }

    /// The same failure with the next step, where there is one.
    pub fn maybe_hint(self, hint: Option<String>) -> Failure {
        self.change(|told| told.hint = hint)
    }

    /// The same failure with its single problems, a line each.
    pub fn details(self, details: Vec<String>) -> Failure {
        self.change(|told| told.details = details)
    }

    /// The same failure with another line about it.
    pub fn detail(self, detail: impl Into<String>) -> Failure {
        self.change(|told| told.details.push(detail.into()))
    }

    /// True if nobody answers (exit 3).
    pub fn is_no_runtime(&self) -> bool {
        matches!(self, Failure::Told(told) if told.exit_code == NO_RUNTIME)
    }

    /// The same failure with what led to it, nearest first.
    pub fn causes(self, causes: Vec<String>) -> Failure {
        self.change(|told| told.causes = causes)
    }

    fn change(mut self, change: impl FnOnce(&mut Told)) -> Failure {
        if let Failure::Told(told) = &mut self {
            change(told);
        }
        self
    }

    /// Says it on stderr and gives the exit code.
    pub fn report(&self) -> ExitCode {
        match self {
            Failure::ClosedPipe => ExitCode::SUCCESS,
            Failure::Told(told) => {
                // With stderr gone too there is nobody to tell.
                let _ = io::Write::write_all(&mut io::stderr(), told.text().as_bytes());
                ExitCode::from(told.exit_code)
            }
        }
    }
}

impl Told {
    fn text(&self) -> String {
        let mut text = format!("error: {}\n", self.message);
        for cause in &self.causes {
            let _ = writeln!(text, "  because: {cause}");
        }
        for detail in &self.details {
            let _ = writeln!(text, "  {}", detail.replace('\n', "\n  "));
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(text, "hint: {hint}");
        }
        text
    }
}

/// Only for writing our own output: other failures have more to say.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::ClosedPipe,
            _ => Failure::caused("the output cannot be written", &error),
        }
    }
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Failure {
        Failure::of(&error).hint(error.hint())
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        match error {
            ClientError::NoRuntime(tried) => {
                let lines = tried.iter().map(|tried| format!("tried {}: {}", tried.state_dir.display(), tried.why));
                Failure::with_code(NO_RUNTIME, "no runtime answers").details(lines.collect()).hint(
                    "start one with `dinrail run`, or name the state directory of a running one with --state DIR \
                     or DINRAIL_STATE",
                )
            }
            ClientError::Refused { error: ErrorBody { message, hint, details, .. }, .. } => {
                Failure::new(message).details(details).maybe_hint(hint)
            }
            ClientError::NoHost { .. } => Failure::with_code(NO_RUNTIME, error.to_string()).hint(
                "start it there with `dinrail run --listen ADDR:PORT` (or api.listen in its configuration); `dinrail check` \
                 there says its address",
            ),
            ClientError::Untrusted(trouble) => Failure::new(trouble.message).hint(trouble.hint),
            ClientError::Broken { .. } => Failure::new(error.to_string())
                .hint("it may have ended in between; see its log, and `dinrail list` whether it is back"),
            ClientError::Timeout { .. } => {
                Failure::new(error.to_string()).hint("what was asked for may still happen; look with `dinrail list`")
            }
            ClientError::File { .. } | ClientError::SetUp(_) => Failure::of(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::client::Tried;

    fn told(failure: Failure) -> Told {
        match failure {
            Failure::Told(told) => *told,
            Failure::ClosedPipe => panic!("a closed pipe"),
        }
    }

    #[test]
    fn no_runtime_is_exit_3_and_names_every_place_tried() {
        let tried = |dir: &str| Tried { state_dir: dir.into(), why: "there is no such directory".into() };
        let told = told(ClientError::NoRuntime(vec![tried("/a"), tried("/b")]).into());

        assert_eq!(told.exit_code, 3);
        assert_eq!(
            told.text(),
            "error: no runtime answers\n  tried /a: there is no such directory\n  tried /b: there is no such directory\n\
             hint: start one with `dinrail run`, or name the state directory of a running one with --state DIR or DINRAIL_STATE\n"
        );
    }

    #[test]
    fn refusal_is_exit_1_with_every_problem_and_the_hint() {
        let error = ErrorBody {
            code: "invalid".into(),
            message: "the manifest has 2 problems".into(),
            hint: Some("correct them".into()),
            details: vec!["$.a: x".into(), "$.b: y".into()],
        };
        let told = told(ClientError::Refused { status: 400, error }.into());

        assert_eq!(told.exit_code, 1);
        assert_eq!(told.text(), "error: the manifest has 2 problems\n  $.a: x\n  $.b: y\nhint: correct them\n");
    }

    #[test]
    fn causes_are_told_from_the_nearest_on() {
        let source = io::Error::other("disk on fire");
        let told = told(ClientError::SetUp(source).into());

        assert_eq!(told.text(), "error: the client cannot be set up\n  because: disk on fire\n");
    }

    #[test]
    fn closed_pipe_is_nobodys_failure() {
        assert!(matches!(Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)), Failure::ClosedPipe));
    }
}
