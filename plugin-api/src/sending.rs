//! A send that was begun: it can be awaited by any executor, or waited for by a thread.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::error::Error;
use crate::work::lock;

/// A message on its way to the disk, from [`Client::start_send`](crate::Client::start_send): a [`Future`] that needs no particular
/// executor. Begun already: it goes its way whether or not anybody looks, and dropping this does not call it back.
#[must_use = "what became of the message is told by this alone"]
pub struct Sending(Arc<Shared>);

#[derive(Default)]
pub(crate) struct Shared {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    end: Option<Result<(), Error>>,
    waker: Option<Waker>,
}

impl Shared {
    /// It has ended. `[any thread]`
    pub fn end(&self, end: Result<(), Error>) {
        let mut state = lock(&self.state);
        state.end = Some(end);
        let waker = state.waker.take();
        drop(state);
        self.ended.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Sending {
    pub(crate) fn new() -> (Sending, Arc<Shared>) {
        let shared = Arc::new(Shared::default());
        (Sending(shared.clone()), shared)
    }

    /// Whether it has ended; the end is told by [`Sending::wait`] or by awaiting it. `[never blocks]`
    pub fn has_ended(&self) -> bool {
        lock(&self.0.state).end.is_some()
    }

    /// Waits for its end on this thread.
    ///
    /// # Errors
    /// As [`Client::send_message_to_output`](crate::Client::send_message_to_output).
    pub fn wait(self) -> Result<(), Error> {
        let mut state = lock(&self.0.state);
        loop {
            if let Some(end) = state.end.take() {
                return end;
            }
            state = self.0.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Future for Sending {
    type Output = Result<(), Error>;

    /// # Panics
    /// When polled again after it was ready, as futures may.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut state = lock(&self.0.state);
        if let Some(end) = state.end.take() {
            return Poll::Ready(end);
        }
        if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            state.waker = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

impl fmt::Debug for Sending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sending").field("has_ended", &self.has_ended()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn it_wakes_who_polled_it_last_once_and_gives_its_end() {
        let (mut sending, shared) = Sending::new();
        let (first, last) = (Arc::new(Count(0.into())), Arc::new(Count(0.into())));
        for count in [&first, &last] {
            let waker = Waker::from(count.clone());
            assert!(Pin::new(&mut sending).poll(&mut Context::from_waker(&waker)).is_pending());
        }
        assert!(!sending.has_ended());
        shared.end(Ok(()));
        assert_eq!((first.0.load(Ordering::SeqCst), last.0.load(Ordering::SeqCst)), (0, 1));
        let waker = Waker::from(last);
        assert!(matches!(Pin::new(&mut sending).poll(&mut Context::from_waker(&waker)), Poll::Ready(Ok(()))));
    }

    #[test]
    fn a_thread_may_wait_for_it_before_and_after_its_end() {
        let (before, shared) = Sending::new();
        let waits = std::thread::spawn(move || before.wait());
        shared.end(Err(Error::new("no")));
        assert_eq!(waits.join().unwrap().unwrap_err().to_string(), "no");
        let (after, shared) = Sending::new();
        shared.end(Ok(()));
        assert!(after.has_ended());
        after.wait().unwrap();
    }
}
