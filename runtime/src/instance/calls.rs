//! Direct method calls under way. Each is answered exactly once: by the instance, by whoever drops it without an answer, or by
//! its deadline, whichever comes first. An answer after that is dropped and counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dinrail_plugin::abi::{DR_FAILED, DR_NOT_FOUND, DR_TIMEOUT, DrStatus};

use super::lock;
use crate::clock;

/// Longest that an answer is waited for.
const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// What a handler answered to a direct method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodAnswer {
    /// Status, 200 to 299 for success.
    pub status: i32,
    /// Payload: JSON text.
    pub payload: String,
}

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Nobody is there to answer, or nobody knows the method; says which.
    #[error("{0}")]
    NotFound(String),
    /// The instance did not answer in time; what it still does about the call, it does for nobody.
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The handler failed; says why.
    #[error("{0}")]
    Failed(String),
}

impl CallError {
    /// The status for a module.
    pub fn status(&self) -> DrStatus {
        match self {
            CallError::NotFound(_) => DR_NOT_FOUND,
            CallError::Timeout(_) => DR_TIMEOUT,
            CallError::Failed(_) => DR_FAILED,
        }
    }
}

/// Takes the end of a call, on any thread; must not block.
pub type Hear = Box<dyn FnOnce(Result<MethodAnswer, CallError>) + Send>;

/// All calls under way; clones are the same.
#[derive(Clone, Default)]
pub struct Calls(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    sooner: Condvar,
    late: AtomicU64,
}

#[derive(Default)]
struct State {
    open: BTreeMap<Key, (Duration, Hear)>,
    last: u64,
    has_thread: bool,
}

/// Deadline and number.
type Key = (Instant, u64);

/// The right and the duty to answer one call.
pub struct Reply {
    shared: Arc<Shared>,
    key: Key,
    is_given: bool,
}

impl Calls {
    /// A call begins: `hear` is told its end once, at the latest when `timeout` is over.
    pub fn begin(&self, timeout: Duration, hear: Hear) -> Reply {
        let mut state = lock(&self.0.state);
        let timeout = timeout.min(MAX_TIMEOUT);
        state.last += 1;
        let key = (clock::now() + timeout, state.last);
        state.open.insert(key, (timeout, hear));
        if !state.has_thread {
            let shared = self.0.clone();
            let thread = std::thread::Builder::new().name("method-deadlines".to_owned()).stack_size(256 << 10);
            match thread.spawn(move || shared.watch()) {
                Ok(_) => state.has_thread = true,
                Err(error) => tracing::error!("no thread for the deadlines of method calls: {error}"),
            }
        }
        drop(state);
        self.0.sooner.notify_one();
        Reply { shared: self.0.clone(), key, is_given: false }
    }

    /// Answers that came after their deadline.
    pub fn late_answers(&self) -> u64 {
        self.0.late.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// Ends what is overdue, until nothing is open.
    fn watch(&self) {
        let mut state = lock(&self.state);
        while let Some(first) = state.open.first_entry() {
            let left = first.key().0.saturating_duration_since(clock::now());
            if left.is_zero() {
                let (timeout, hear) = first.remove();
                drop(state);
                hear(Err(CallError::Timeout(timeout)));
                state = lock(&self.state);
            } else {
                state = self.sooner.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
        state.has_thread = false;
    }

    fn take(&self, key: Key) -> Option<Hear> {
        lock(&self.state).open.remove(&key).map(|(_, hear)| hear)
    }
}

impl Reply {
    /// True while the caller waits for it.
    pub fn is_awaited(&self) -> bool {
        lock(&self.shared.state).open.contains_key(&self.key)
    }

    /// Answers.
    pub fn give(mut self, answer: Result<MethodAnswer, CallError>) {
        self.is_given = true;
        match self.shared.take(self.key) {
            Some(hear) => hear(answer),
            None => drop(self.shared.late.fetch_add(1, Ordering::Relaxed)),
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.is_given
            && let Some(hear) = self.shared.take(self.key)
        {
            hear(Err(CallError::NotFound("the instance ended before it took the call".to_owned())));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn begin(calls: &Calls, timeout: Duration) -> (Reply, Receiver<Result<MethodAnswer, CallError>>) {
        let (say, heard) = channel();
        (calls.begin(timeout, Box::new(move |end| say.send(end).unwrap())), heard)
    }

    fn answer() -> Result<MethodAnswer, CallError> {
        Ok(MethodAnswer { status: 200, payload: "1".to_owned() })
    }

    #[test]
    fn an_answer_in_time_reaches_the_caller() {
        let calls = Calls::default();
        let (reply, heard) = begin(&calls, LONG);
        reply.give(answer());
        assert_eq!(heard.recv(), Ok(answer()));
        assert!(heard.recv().is_err(), "once only");
        assert_eq!(calls.late_answers(), 0);
    }

    #[test]
    fn late_answer_is_dropped_and_counted() {
        let calls = Calls::default();
        let (long, _unheard) = begin(&calls, LONG);
        let (reply, heard) = begin(&calls, Duration::from_millis(5));
        assert_eq!(heard.recv(), Ok(Err(CallError::Timeout(Duration::from_millis(5)))));
        reply.give(answer());
        assert!(heard.recv().is_err());
        assert_eq!(calls.late_answers(), 1);
        drop(long);
    }

    #[test]
    fn a_call_that_is_dropped_is_answered() {
        let calls = Calls::default();
        let (reply, heard) = begin(&calls, LONG);
        drop(reply);
        assert!(matches!(heard.recv(), Ok(Err(CallError::NotFound(_)))));
    }
}
