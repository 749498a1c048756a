//! Completions: what modules hear when something that they began has ended, on a thread for nothing else.
//!
//! A completion is module code. It must not block, but the runtime does not depend on that: neither the database writer nor
//! another instance's worker runs it. They run one after the other, in the order in which things ended; one that does not
//! return in time loses its thread, and another one goes on with the rest, among which may be what the late one waits for.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dinrail_plugin::abi::{DrCompletion, DrStatus, DrText};

use super::link::Link;
use super::lock;
use crate::clock;

/// Time within which a completion has to return.
const PATIENCE: Duration = Duration::from_secs(1);
/// Late completions of one instance, each with a thread of its own; beyond it, its others wait until one returns.
const MAX_LATE: usize = 8;

/// A module's completion, to be called once.
pub struct Completion {
    call: DrCompletion,
    link: Arc<Link>,
}

// SAFETY: by contract a completion may be called on any thread.
unsafe impl Send for Completion {}

impl Completion {
    /// # Safety
    /// `completion` is null or points to a completion of the instance behind `link`.
    pub unsafe fn copy(completion: *const DrCompletion, link: &Arc<Link>) -> Option<Completion> {
        // SAFETY: the caller's promise.
        unsafe { completion.as_ref() }.map(|call| Completion { call: *call, link: link.clone() })
    }

    /// Ends what was begun; the module hears of it soon. `[any thread, never blocks]`
    pub fn done(self, status: DrStatus, detail: &str) {
        let completions = self.link.services.completions.clone();
        completions.push(Task { completion: self, status, detail: detail.to_owned() });
    }
}

struct Task {
    completion: Completion,
    status: DrStatus,
    detail: String,
}

impl Task {
    fn ticket(&self) -> u64 {
        self.completion.link.ticket.0
    }

    fn run(self) {
        let call = self.completion.call;
        // SAFETY: the module's function and context, called exactly once: `done` takes the completion.
        unsafe { (call.done)(call.ctx, self.status, DrText::new(&self.detail)) };
    }
}

/// Runs completions; clones are the same.
#[derive(Clone, Default)]
pub struct Completions(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Task>,
    /// The thread whose turn it is; 0: none was started yet.
    turn: u64,
    busy: Option<Busy>,
    late: HashMap<u64, Late>,
}

struct Busy {
    since: Instant,
    ticket: u64,
    module: Arc<str>,
}

/// What is late of one instance.
#[derive(Default)]
struct Late {
    threads: usize,
    aside: VecDeque<Task>,
}

impl Completions {
    fn push(&self, task: Task) {
        let mut state = lock(&self.0.state);
        // Only a thread that found nothing waits; a group of them then costs one waking.
        let is_awaited = state.waiting.is_empty();
        match state.late.get_mut(&task.ticket()).filter(|late| late.threads >= MAX_LATE) {
            Some(late) => late.aside.push_back(task),
            None => state.waiting.push_back(task),
        }
        self.replace(&mut state);
        drop(state);
        if is_awaited {
            self.0.filled.notify_one();
        }
    }

    /// Gives the turn to another thread where one does not come back. To be called now and then. `[never blocks]`
    pub fn watch(&self) {
        self.replace(&mut lock(&self.0.state));
    }

    fn replace(&self, state: &mut State) {
        let is_late = state.busy.as_ref().is_some_and(|busy| busy.since.elapsed() > PATIENCE);
        let is_first = state.turn == 0 && !state.waiting.is_empty();
        if !is_first && !is_late {
            return;
        }
        let (shared, turn) = (self.0.clone(), state.turn + 1);
        let thread = std::thread::Builder::new().name("completions".to_owned());
        if let Err(error) = thread.spawn(move || shared.run(turn)) {
            tracing::error!("no thread to tell modules what has ended, it is tried again: {error}");
            return;
        }
        state.turn = turn;
        let Some(busy) = state.busy.take() else { return };
        let secs = PATIENCE.as_secs();
        tracing::warn!(
            module = &*busy.module,
            "a completion of it has not returned for {secs} s: it must not wait; others go on without it"
        );
        let late = state.late.entry(busy.ticket).or_default();
        late.threads += 1;
        if late.threads >= MAX_LATE {
            let (own, others) = state.waiting.drain(..).partition(|task| task.ticket() == busy.ticket);
            (late.aside, state.waiting) = (own, others);
        }
    }
}

impl Shared {
    fn run(&self, turn: u64) {
        while let Some(task) = self.next(turn) {
            let ticket = task.ticket();
            task.run();
            if !self.ended(turn, ticket) {
                return;
            }
        }
    }

    /// The next task; waits for it. `None` once the turn is another's.
    fn next(&self, turn: u64) -> Option<Task> {
        let mut state = lock(&self.state);
        loop {
            if state.turn != turn {
                return None;
            }
            if let Some(task) = state.waiting.pop_front() {
                let module = task.completion.link.name.clone();
                state.busy = Some(Busy { since: clock::now(), ticket: task.ticket(), module });
                return Some(task);
            }
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A completion has returned; false where it was late, and its thread is of no use any more.
    fn ended(&self, turn: u64, ticket: u64) -> bool {
        let mut state = lock(&self.state);
        if state.turn == turn {
            state.busy = None;
            return true;
        }
        if let Some(late) = state.late.get_mut(&ticket) {
            late.threads -= 1;
            let aside = std::mem::take(&mut late.aside);
            if late.threads == 0 {
                state.late.remove(&ticket);
            }
            state.waiting.extend(aside);
        }
        drop(state);
        self.filled.notify_all();
        false
    }
}
