//! Direct method calls under way. Each is answered exactly once: by the instance, by whoever drops it without an answer, or by
//! its deadline, whichever comes first. An answer after that is dropped and counted.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::error::CallError;
use super::figures::{Figures, Outcome};
use super::lock;
use super::request::{Call, MAX_TIMEOUT, MethodAnswer, MethodRequest};
use crate::clock;
use crate::name::Identity;

/// Most calls under way.
pub const MAX_OPEN: usize = 4096;
/// Most calls under way of one caller: a quarter, so that none takes the place of all others.
pub const MAX_OPEN_PER_CALLER: usize = 1024;

/// Takes the end of a call, on any thread; must not block.
pub type Hear = Box<dyn FnOnce(Result<MethodAnswer, CallError>) + Send>;

/// All calls under way; clones are the same.
#[derive(Clone, Default)]
pub struct Calls(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    sooner: Condvar,
    figures: Figures,
}

#[derive(Default)]
struct State {
    open: BTreeMap<Key, Open>,
    /// Open calls of each caller that has any.
    of_caller: HashMap<Arc<str>, usize>,
    last: u64,
    has_thread: bool,
}

/// Deadline and number.
type Key = (Instant, u64);

struct Open {
    limit: Duration,
    begun: Instant,
    caller: Arc<str>,
    is_taken_up: bool,
    hear: Hear,
}

/// The right and the duty to answer one call.
pub struct Reply {
    pending: Pending,
    of: Box<Of>,
    is_given: bool,
}

/// Between whom a call is, for what is said of it.
struct Of {
    caller: Arc<str>,
    target: String,
    name: String,
}

/// A call under way, to be ended by somebody else than who answers it.
#[derive(Clone)]
pub struct Pending {
    shared: Arc<Shared>,
    key: Key,
}

impl Calls {
    /// A call begins: `hear` is told its end once, at the latest when its time is over. `None` where it was refused at once, and
    /// `hear` has been told why. `[any thread, never blocks]`
    pub fn begin(&self, call: Call, hear: Hear) -> Option<MethodRequest> {
        if let Some(error) = call.refused() {
            self.refuse(error, hear);
            return None;
        }
        let limit = call.timeout.min(MAX_TIMEOUT);
        let caller: Arc<str> = call.caller.as_str().into();
        let begun = clock::now();
        let mut state = lock(&self.0.state);
        if let Some(error) = state.full(&caller) {
            drop(state);
            self.refuse(error, hear);
            return None;
        }
        state.last += 1;
        let key = (begun + limit, state.last);
        *state.of_caller.entry(caller.clone()).or_default() += 1;
        state.open.insert(key, Open { limit, begun, caller: caller.clone(), is_taken_up: false, hear });
        let is_first = state.open.first_key_value().is_some_and(|(first, _)| *first == key);
        self.0.clone().look_after(&mut state);
        drop(state);
        if is_first {
            self.0.sooner.notify_one();
        }
        let Call { target, name, payload, caller: stamped, .. } = call;
        let of = Box::new(Of { caller, target, name: name.clone() });
        let reply = Reply { pending: Pending { shared: self.0.clone(), key }, of, is_given: false };
        Some(MethodRequest { name, payload, caller: stamped, timeout: limit, reply })
    }

    /// Answers a call that does not begin, and counts it.
    pub fn refuse(&self, error: CallError, hear: Hear) {
        self.0.figures.count(error.outcome(), Duration::ZERO);
        hear(Err(error));
    }

    /// Counters.
    pub fn figures(&self) -> &Figures {
        &self.0.figures
    }

    /// Calls under way.
    pub fn open(&self) -> usize {
        lock(&self.0.state).open.len()
    }
}

impl State {
    fn full(&self, caller: &Arc<str>) -> Option<CallError> {
        if self.open.len() >= MAX_OPEN {
            return Some(CallError::Busy(format!("{MAX_OPEN} method calls are under way on this device")));
        }
        let own = self.of_caller.get(caller).copied().unwrap_or_default();
        let is_full = own >= MAX_OPEN_PER_CALLER;
        is_full.then(|| {
            CallError::Busy(format!("{own} method calls of {caller} are under way, more wait for their answers"))
        })
    }

    fn take(&mut self, key: Key) -> Option<Open> {
        let open = self.open.remove(&key)?;
        if let Some(own) = self.of_caller.get_mut(&open.caller) {
            *own -= 1;
            if *own == 0 {
                self.of_caller.remove(&open.caller);
            }
        }
        Some(open)
    }
}

impl Shared {
    fn look_after(self: Arc<Self>, state: &mut State) {
        if state.has_thread {
            return;
        }
        let thread = std::thread::Builder::new().name("method-deadlines".to_owned()).stack_size(256 << 10);
        match thread.spawn(move || self.watch()) {
            Ok(_) => state.has_thread = true,
            Err(error) => tracing::error!("no thread for the deadlines of method calls: {error}"),
        }
    }

    /// Ends what is overdue, until nothing is open.
    fn watch(&self) {
        let mut state = lock(&self.state);
        while let Some((key, _)) = state.open.first_key_value() {
            let key = *key;
            let left = key.0.saturating_duration_since(clock::now());
            if !left.is_zero() {
                state = self.sooner.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            if let Some(open) = state.take(key) {
                drop(state);
                let error = CallError::Timeout { limit: open.limit, is_begun: open.is_taken_up };
                self.end(open, Err(error));
                state = lock(&self.state);
            }
        }
        state.has_thread = false;
    }

    fn take(&self, key: Key) -> Option<Open> {
        lock(&self.state).take(key)
    }

    fn end(&self, open: Open, end: Result<MethodAnswer, CallError>) {
        let outcome = end.as_ref().map_or_else(CallError::outcome, |_| Outcome::Answered);
        self.figures.count(outcome, open.begun.elapsed());
        (open.hear)(end);
    }
}

impl Pending {
    /// Ends it, unless it has ended.
    pub fn end(self, error: CallError) {
        if let Some(open) = self.shared.take(self.key) {
            self.shared.end(open, Err(error));
        }
    }
}

impl Reply {
    /// True while the caller waits for it.
    pub fn is_awaited(&self) -> bool {
        lock(&self.pending.shared.state).open.contains_key(&self.pending.key)
    }

    /// The method is about to begin; false where the caller has given up, and it had better not.
    pub fn take_up(&self) -> bool {
        let mut state = lock(&self.pending.shared.state);
        state.open.get_mut(&self.pending.key).map(|open| open.is_taken_up = true).is_some()
    }

    /// The call, for whoever ends it should the one who answers it never return.
    pub fn pending(&self) -> Pending {
        self.pending.clone()
    }

    /// Answers. `[any thread, never blocks]`
    pub fn give(mut self, answer: Result<MethodAnswer, CallError>) {
        self.is_given = true;
        let answer = answer.and_then(MethodAnswer::checked);
        if let Err(error @ CallError::BadAnswer(_)) = &answer {
            self.say(&format!("answered the method {} so that it is dropped: {error}", self.of.name));
        }
        let Pending { shared, key } = &self.pending;
        match shared.take(*key) {
            Some(open) => shared.end(open, answer),
            None => {
                shared.figures.count_late(&self.of.target);
                let late = clock::now().saturating_duration_since(key.0).as_millis();
                let Of { name, caller, .. } = &*self.of;
                self.say(&format!("answered the method {name} {late} ms after {caller} gave up waiting; dropped"));
            }
        }
    }

    /// In the log of the module that answers.
    fn say(&self, text: &str) {
        let identity = self.of.target.parse::<Identity>().ok();
        match identity.as_ref().and_then(Identity::module_id) {
            Some(module) if !module.starts_with('$') => tracing::warn!(module, "{text}"),
            _ => tracing::warn!("{} {text}", self.of.target),
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.is_given {
            let ended = CallError::NotConnected("the instance ended before it took the call".to_owned());
            self.pending.clone().end(ended);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn call(caller: &str, timeout: Duration) -> Call {
        Call {
            caller: caller.to_owned(),
            target: "/devices/d/modules/m".to_owned(),
            name: "ping".to_owned(),
            payload: String::new(),
            timeout,
        }
    }

    type Heard = Receiver<Result<MethodAnswer, CallError>>;

    fn try_begin(calls: &Calls, caller: &str, timeout: Duration) -> (Option<MethodRequest>, Heard) {
        let (say, heard) = channel();
        (calls.begin(call(caller, timeout), Box::new(move |end| say.send(end).unwrap())), heard)
    }

    fn begin(calls: &Calls, timeout: Duration) -> (Reply, Heard) {
        let (request, heard) = try_begin(calls, "ada", timeout);
        (request.unwrap().reply, heard)
    }

    fn answer(payload: &str) -> Result<MethodAnswer, CallError> {
        Ok(MethodAnswer { status: 200, payload: payload.to_owned() })
    }

    #[test]
    fn an_answer_in_time_reaches_the_caller() {
        let calls = Calls::default();
        let (reply, heard) = begin(&calls, LONG);
        reply.give(answer("1"));
        assert_eq!(heard.recv(), Ok(answer("1")));
        assert!(heard.recv().is_err(), "once only");
        assert_eq!((calls.figures().late_answers(), calls.figures().ended(Outcome::Answered), calls.open()), (0, 1, 0));
    }

    #[test]
    fn late_answer_is_dropped_and_counted() {
        let calls = Calls::default();
        let (long, _unheard) = begin(&calls, LONG);
        let (reply, heard) = begin(&calls, Duration::from_millis(5));
        let timeout = CallError::Timeout { limit: Duration::from_millis(5), is_begun: false };
        assert_eq!(heard.recv(), Ok(Err(timeout)));
        assert!(!reply.take_up());
        reply.give(answer("1"));
        assert!(heard.recv().is_err());
        let figures = calls.figures();
        assert_eq!((figures.late_answers(), figures.late_answers_of("/devices/d/modules/m")), (1, 1));
        assert_eq!((figures.late_answers_of("/devices/d/modules/n"), figures.ended(Outcome::Timeout)), (0, 1));
        drop(long);
    }

    #[test]
    fn a_deadline_says_whether_the_method_was_begun() {
        let calls = Calls::default();
        let (reply, heard) = begin(&calls, Duration::from_millis(20));
        assert!(reply.take_up());
        assert!(matches!(heard.recv(), Ok(Err(CallError::Timeout { is_begun: true, .. }))));
    }

    #[test]
    fn a_call_that_is_dropped_is_answered() {
        let calls = Calls::default();
        let (reply, heard) = begin(&calls, LONG);
        drop(reply);
        assert!(matches!(heard.recv(), Ok(Err(CallError::NotConnected(_)))));
    }

    #[test]
    fn a_call_can_be_ended_while_its_handler_never_returns() {
        let calls = Calls::default();
        let (reply, heard) = begin(&calls, LONG);
        let pending = reply.pending();
        pending.clone().end(CallError::Failed("given up".to_owned()));
        pending.end(CallError::Failed("twice".to_owned()));
        assert_eq!(heard.recv(), Ok(Err(CallError::Failed("given up".to_owned()))));
        reply.give(answer("1"));
        assert_eq!(calls.figures().late_answers(), 1);
    }

    #[test]
    fn an_answer_that_is_none_is_said_to_be_and_counted() {
        let calls = Calls::default();
        for payload in ["{", &"1".repeat(200_000)] {
            let (reply, heard) = begin(&calls, LONG);
            reply.give(answer(payload));
            assert!(matches!(heard.recv(), Ok(Err(CallError::BadAnswer(_)))));
        }
        assert_eq!(calls.figures().ended(Outcome::BadAnswer), 2);
    }

    #[test]
    fn open_calls_are_bounded_for_each_caller_and_for_all() {
        let calls = Calls::default();
        let mut open = Vec::new();
        for caller in ["a", "b", "c", "d"] {
            for _ in 0..MAX_OPEN_PER_CALLER {
                open.push(try_begin(&calls, caller, LONG));
            }
        }
        assert!(open.iter().all(|(request, _)| request.is_some()));
        for caller in ["a", "e"] {
            let (refused, heard) = try_begin(&calls, caller, LONG);
            assert!(refused.is_none());
            assert!(matches!(heard.recv(), Ok(Err(CallError::Busy(_)))), "{caller}");
        }
        let (request, _heard) = open.pop().unwrap();
        request.unwrap().reply.give(answer(""));
        let (refused, heard) = try_begin(&calls, "a", LONG);
        assert!(refused.is_none(), "a has too many of its own");
        assert!(matches!(heard.recv(), Ok(Err(CallError::Busy(text))) if text.contains("of a are")));
        assert!(try_begin(&calls, "e", LONG).0.is_some());
        open.clear();
        assert_eq!((calls.open(), lock(&calls.0.state).of_caller.len()), (0, 0));
    }

    #[test]
    fn deadlines_end_in_their_order_whatever_the_order_of_their_begin() {
        let calls = Calls::default();
        let (say, heard) = channel();
        let open: Vec<_> = [60, 40, 20, 50, 30, 10]
            .map(|ms| {
                let say = say.clone();
                calls.begin(call("ada", Duration::from_millis(ms)), Box::new(move |_| say.send(ms).unwrap())).unwrap()
            })
            .into_iter()
            .collect();
        assert_eq!(heard.iter().take(6).collect::<Vec<_>>(), [10, 20, 30, 40, 50, 60]);
        assert_eq!((calls.open(), calls.figures().ended(Outcome::Timeout)), (0, 6));
        drop(open);
    }
}
