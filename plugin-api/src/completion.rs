//! Turns "begun, a completion will come" into a call that waits, or into a callback.
//!
//! A completion may come on any thread, also before the call that began it has returned.

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, Thread};

use crate::abi::{DR_FAILED, DR_PENDING, DrCompletion, DrStatus, DrText};
use crate::host::lent;

/// What a call ended with: the status, and the reason or answer.
pub(crate) type Outcome = (DrStatus, String);

const EMPTY: u32 = 0;
const WAITING: u32 = 1;
const DONE: u32 = 2;

/// Lives on the waiter's stack: after the store of `DONE` the other side touches it no more.
struct Slot {
    state: AtomicU32,
    /// Written by the waiter before `WAITING`, taken by the completer before `DONE`.
    waiter: UnsafeCell<Option<Thread>>,
    /// Written by the completer before `DONE`, read by the waiter after it.
    outcome: UnsafeCell<Outcome>,
}

/// Begins a call and waits for its end. Costs nothing where it is done on return.
#[inline]
pub(crate) fn wait_for(begin: impl FnOnce(&DrCompletion) -> DrStatus) -> Outcome {
    let slot = Slot {
        state: AtomicU32::new(EMPTY),
        waiter: UnsafeCell::new(None),
        outcome: UnsafeCell::new((DR_FAILED, String::new())),
    };
    let completion = DrCompletion { ctx: (&raw const slot).cast_mut().cast(), done: fill_slot };
    match begin(&completion) {
        DR_PENDING => {
            wait_on(&slot);
            slot.outcome.into_inner()
        }
        status => (status, String::new()),
    }
}

#[cold]
fn wait_on(slot: &Slot) {
    // SAFETY: the state is not `WAITING` yet, so the completer does not look at it.
    unsafe { *slot.waiter.get() = Some(thread::current()) };
    if slot.state.compare_exchange(EMPTY, WAITING, Ordering::AcqRel, Ordering::Acquire).is_ok() {
        while slot.state.load(Ordering::Acquire) != DONE {
            thread::park();
        }
    }
}

unsafe extern "C" fn fill_slot(ctx: *mut c_void, status: DrStatus, detail: DrText) {
    // SAFETY: `ctx` is the slot of `wait_for`, which waits there until `DONE`; called once, so nobody else writes `outcome`.
    unsafe {
        let slot = &*ctx.cast::<Slot>();
        *slot.outcome.get() = (status, lent(detail).to_owned());
        if slot.state.compare_exchange(EMPTY, DONE, Ordering::AcqRel, Ordering::Acquire).is_err() {
            let waiter = (*slot.waiter.get()).take();
            slot.state.store(DONE, Ordering::Release);
            // The slot may be gone from here on; the thread handle is our own.
            if let Some(waiter) = waiter {
                waiter.unpark();
            }
        }
    }
}

/// Begins a call whose end is told to `then`, on any thread, exactly once. `then` must not block.
///
/// # Errors
/// A call that was refused at once gives its status back, and `then` is not called.
pub(crate) fn begin_with(
    begin: impl FnOnce(&DrCompletion) -> DrStatus,
    then: impl FnOnce(Outcome) + Send + 'static,
) -> Result<(), DrStatus> {
    let boxed: Box<Callback> = Box::new(Box::new(then));
    let ctx = Box::into_raw(boxed);
    match begin(&DrCompletion { ctx: ctx.cast(), done: call_back }) {
        DR_PENDING => Ok(()),
        status => {
            // SAFETY: only `DR_PENDING` hands the callback over, so it is still ours.
            let then = unsafe { Box::from_raw(ctx) };
            if status != crate::abi::DR_OK {
                return Err(status);
            }
            then((status, String::new()));
            Ok(())
        }
    }
}

type Callback = Box<dyn FnOnce(Outcome) + Send>;

unsafe extern "C" fn call_back(ctx: *mut c_void, status: DrStatus, detail: DrText) {
    // SAFETY: `ctx` is the box of `begin_with`, handed over with `DR_PENDING`; called once.
    let (then, detail) = unsafe { (Box::from_raw(ctx.cast::<Callback>()), lent(detail)) };
    // A panic must not unwind into the runtime; the hook has logged it.
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| then((status, detail.to_owned()))));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::DR_OK;

    #[derive(Clone, Copy)]
    struct Sendable(DrCompletion);
    // SAFETY: a completion may be called on any thread.
    unsafe impl Send for Sendable {}
    impl Sendable {
        fn call(self, status: DrStatus, detail: &str) {
            // SAFETY: the tests call each completion once.
            unsafe { (self.0.done)(self.0.ctx, status, DrText::new(detail)) }
        }
    }

    #[test]
    fn a_completion_before_the_call_returned_is_not_missed() {
        let outcome = wait_for(|completion| {
            Sendable(*completion).call(DR_OK, "early");
            DR_PENDING
        });
        assert_eq!(outcome, (DR_OK, "early".to_owned()));
    }

    #[test]
    fn completions_from_other_threads_wake_the_waiter_every_time() {
        let (tx, rx) = std::sync::mpsc::channel::<Sendable>();
        let completer = thread::spawn(move || {
            for (n, completion) in rx.iter().enumerate() {
                completion.call(DR_FAILED, &n.to_string());
            }
        });
        for n in 0..2000 {
            let outcome = wait_for(|completion| {
                tx.send(Sendable(*completion)).unwrap();
                DR_PENDING
            });
            assert_eq!(outcome, (DR_FAILED, n.to_string()));
        }
        drop(tx);
        completer.join().unwrap();
    }

    #[test]
    fn a_call_that_is_done_on_return_needs_no_completion() {
        assert_eq!(wait_for(|_| DR_OK), (DR_OK, String::new()));
    }

    #[test]
    fn a_callback_is_called_once_or_given_back_with_the_refusal() {
        let (tx, rx) = std::sync::mpsc::channel();
        let begun = tx.clone();
        assert_eq!(begin_with(|_| DR_OK, move |outcome| begun.send(outcome).unwrap()), Ok(()));
        let pending = tx.clone();
        let begin = |completion: &DrCompletion| {
            Sendable(*completion).call(DR_FAILED, "late");
            DR_PENDING
        };
        assert_eq!(begin_with(begin, move |outcome| pending.send(outcome).unwrap()), Ok(()));
        assert_eq!(begin_with(|_| DR_FAILED, move |outcome| tx.send(outcome).unwrap()), Err(DR_FAILED));
        assert_eq!(rx.iter().collect::<Vec<_>>(), [(DR_OK, String::new()), (DR_FAILED, "late".to_owned())]);
    }
}
