//! What handlers and the client answer when something does not work.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use crate::abi::{
    DR_DENIED, DR_FAILED, DR_FULL, DR_GONE, DR_INVALID, DR_NOT_FOUND, DR_REFUSED, DR_TIMEOUT, DR_TOO_LARGE,
    DR_UNSUPPORTED, DrStatus,
};

/// What a caller can do differently about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// It was tried and failed; the text says why.
    Failed,
    /// The desired properties are not acceptable; the instance goes on with the old ones.
    Refused,
    /// The instance that this client belongs to was stopped or replaced. Nothing was done; end the thread.
    Gone,
    /// An argument is malformed.
    Invalid,
    /// Over a limit; nothing was done.
    TooLarge,
    /// A receiver's queue stayed full for as long as a sender may be held. Receivers with room got the message.
    Full,
    /// Not within the time allowed.
    Timeout,
    /// No such target, method or name.
    NotFound,
    /// Not allowed for this identity or in this state.
    Denied,
    /// The runtime is older than this call.
    Unsupported,
}

/// A failure with everything that led to it; prints the whole chain on one line, outermost first.
///
/// Made by `?` from every error type, from text, and from boxed errors. It is deliberately not a [`std::error::Error`] itself,
/// which is what makes that conversion possible.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    /// Innermost first.
    context: Vec<String>,
    cause: Box<dyn StdError + Send + Sync>,
}

impl Error {
    /// A failure with this text.
    pub fn new(text: impl fmt::Display) -> Error {
        Error::with_kind(ErrorKind::Failed, text)
    }

    /// Refuses the desired properties: from `create`, the instance is not started until they change; from `on_desired`, the
    /// module goes on with the old ones. Name the property in the text.
    pub fn refused(text: impl fmt::Display) -> Error {
        Error::with_kind(ErrorKind::Refused, text)
    }

    /// No such method.
    pub fn not_found(text: impl fmt::Display) -> Error {
        Error::with_kind(ErrorKind::NotFound, text)
    }

    /// What a caller can do differently.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Says what was being done: `Error::new("no such file").context("opening /dev/ttyS1")`.
    pub fn context(mut self, text: impl fmt::Display) -> Error {
        self.0.context.push(text.to_string());
        self
    }

    pub(crate) fn with_kind(kind: ErrorKind, text: impl fmt::Display) -> Error {
        Error(Box::new(Inner { kind, context: Vec::new(), cause: text.to_string().into() }))
    }

    /// The answer of the runtime to `what`; `detail` is its own text, if it gave one.
    #[cold]
    pub(crate) fn from_status(status: DrStatus, what: &str, detail: &str) -> Error {
        let (kind, meaning) = match status {
            DR_GONE => (ErrorKind::Gone, "this instance was stopped or replaced"),
            DR_INVALID => (ErrorKind::Invalid, "malformed argument"),
            DR_TOO_LARGE => (ErrorKind::TooLarge, "larger than the limit allows"),
            DR_FULL => (
                ErrorKind::Full,
                "a receiver's queue stayed full, or its messages fill what the store grants them; try again later",
            ),
            DR_TIMEOUT => (ErrorKind::Timeout, "no answer within the time allowed"),
            DR_NOT_FOUND => (ErrorKind::NotFound, "not found"),
            DR_DENIED => (ErrorKind::Denied, "not allowed for this identity or in this state"),
            DR_UNSUPPORTED => (ErrorKind::Unsupported, "this runtime is too old for it; upgrade dinrail"),
            DR_REFUSED => (ErrorKind::Refused, "refused"),
            DR_FAILED => (ErrorKind::Failed, "failed"),
            _ => (ErrorKind::Failed, "failed with a status this SDK does not know"),
        };
        Error::with_kind(kind, if detail.is_empty() { meaning } else { detail }).context(what)
    }

    /// The status that the border knows it by.
    pub(crate) fn status(&self) -> DrStatus {
        match self.kind() {
            ErrorKind::Refused => DR_REFUSED,
            ErrorKind::NotFound => DR_NOT_FOUND,
            _ => DR_FAILED,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for context in self.0.context.iter().rev() {
            write!(f, "{context}: ")?;
        }
        let mut said = self.0.cause.to_string();
        f.write_str(&said)?;
        let mut source = self.0.cause.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            // Many errors already say their cause in their own text.
            if !said.contains(&text) {
                write!(f, ": {text}")?;
            }
            said = text;
            source = cause.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} ({:?})", self.0.kind)
    }
}

impl<E: Into<Box<dyn StdError + Send + Sync>>> From<E> for Error {
    fn from(cause: E) -> Error {
        Error(Box::new(Inner { kind: ErrorKind::Failed, context: Vec::new(), cause: cause.into() }))
    }
}

/// Adds what was being done to the error of a result.
pub trait Context<T> {
    /// `File::open(path).context("opening the journal")?`
    fn context(self, text: impl fmt::Display) -> Result<T, Error>;
    /// As `context`; the text is made only when it is needed.
    fn with_context<D: fmt::Display>(self, text: impl FnOnce() -> D) -> Result<T, Error>;
}

impl<T, E: Into<Error>> Context<T> for Result<T, E> {
    fn context(self, text: impl fmt::Display) -> Result<T, Error> {
        self.map_err(|e| e.into().context(text))
    }

    fn with_context<D: fmt::Display>(self, text: impl FnOnce() -> D) -> Result<T, Error> {
        self.map_err(|e| e.into().context(text()))
    }
}

/// Why a message was not handled, and what becomes of it. Whatever the handler staged is discarded; what it sent along
/// memory routes stays sent.
///
/// `?` on any error gives [`Fault::Failed`].
#[derive(Debug)]
pub enum Fault {
    /// Not now: delivered again, after the given time or when the runtime thinks best. Messages behind it wait.
    Retry {
        /// Least time until then.
        after: Option<Duration>,
        /// Why, for the operator: `dinrail show` has it while the message waits. May be empty.
        reason: String,
    },
    /// Never again by itself: set aside, counted, to be seen in `dinrail losses`.
    Park {
        /// What is wrong with it.
        reason: String,
    },
    /// The handler failed: delivered again a few times, then parked.
    Failed(Error),
}

impl Fault {
    /// Not now; the runtime chooses when.
    pub fn retry() -> Fault {
        Fault::Retry { after: None, reason: String::new() }
    }

    /// Not before `after` has passed, or an hour if that is less.
    pub fn retry_after(after: Duration) -> Fault {
        Fault::Retry { after: Some(after), reason: String::new() }
    }

    /// The same with a reason: what a retry waits for, why it is parked, or what was being done when it failed.
    ///
    /// ```
    /// # use dinrail_plugin::Fault;
    /// let fault = Fault::retry().because("the PLC is offline");
    /// # assert!(matches!(fault, Fault::Retry { after: None, reason } if reason == "the PLC is offline"));
    /// ```
    #[must_use]
    pub fn because(self, reason: impl fmt::Display) -> Fault {
        let reason = reason.to_string();
        match self {
            Fault::Retry { after, .. } => Fault::Retry { after, reason },
            Fault::Park { .. } => Fault::Park { reason },
            Fault::Failed(error) => Fault::Failed(error.context(reason)),
        }
    }

    /// Never again by itself.
    pub fn park(reason: impl fmt::Display) -> Fault {
        Fault::Park { reason: reason.to_string() }
    }
}

impl<E: Into<Error>> From<E> for Fault {
    fn from(cause: E) -> Fault {
        Fault::Failed(cause.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<Layer>>);
    impl fmt::Display for Layer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }
    impl StdError for Layer {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            self.1.as_deref().map(|layer| layer as &(dyn StdError + 'static))
        }
    }

    #[test]
    fn an_error_prints_its_whole_chain_once() {
        let chain = Layer("reading frame", Some(Box::new(Layer("timed out", None))));
        let error = Error::from(chain).context("polling PLC 3").context("start");

        assert_eq!(error.to_string(), "start: polling PLC 3: reading frame: timed out");

        let repeats_itself = Layer("cannot read: timed out", Some(Box::new(Layer("timed out", None))));
        assert_eq!(Error::from(repeats_itself).to_string(), "cannot read: timed out");
    }

    #[test]
    fn text_errors_and_boxed_errors_become_faults_by_question_mark() {
        fn fails(how: u8) -> Result<(), Fault> {
            match how {
                0 => Err("plain text")?,
                1 => Err(String::from("owned text"))?,
                2 => Err(Box::<dyn StdError + Send + Sync>::from("boxed"))?,
                3 => Err(Error::refused("own"))?,
                _ => Err(Layer("std", None)).context("doing")?,
            }
            Ok(())
        }
        for (how, said) in ["plain text", "owned text", "boxed", "own", "doing: std"].iter().enumerate() {
            let Err(Fault::Failed(error)) = fails(how as u8) else { panic!("{how} did not fail") };
            assert_eq!(error.to_string(), *said);
        }
    }

    #[test]
    fn the_kind_survives_context() {
        assert_eq!(Error::refused("x").context("y").kind(), ErrorKind::Refused);
        assert_eq!(Error::from_status(DR_GONE, "send", "").kind(), ErrorKind::Gone);
    }
}
