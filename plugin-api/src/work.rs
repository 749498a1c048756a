//! Work beside the handlers: threads that end with the instance, and closures that come back to its own thread.

use std::any::{Any, TypeId};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::abi::{DR_GONE, DR_OK, DrText, DrThreads};
use crate::client::Client;
use crate::error::{Context, Error, ErrorKind};
use crate::logs::{self, Voice};
use crate::module::Module;

/// Tells a thread of [`Client::spawn`] to end.
#[derive(Clone)]
pub struct Stop(Arc<StopFlag>);

#[derive(Default)]
struct StopFlag {
    is_set: Mutex<bool>,
    changed: Condvar,
}

impl StopFlag {
    fn set(&self) {
        *lock(&self.is_set) = true;
        self.changed.notify_all();
    }
}

impl Stop {
    /// The instance stops: end the thread.
    pub fn is_set(&self) -> bool {
        *lock(&self.0.is_set)
    }

    /// Sleeps for `period`, or until the instance stops; says whether it does: `while !stop.wait(period) { … }`.
    pub fn wait(&self, period: Duration) -> bool {
        let guard = lock(&self.0.is_set);
        let waited = self.0.changed.wait_timeout_while(guard, period, |is_set| !*is_set);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// The threads and posted closures of one instance.
pub(crate) struct Work {
    module_type: TypeId,
    stop: Arc<StopFlag>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    posts: Mutex<Posts>,
}

type Posted = Box<dyn FnOnce(&mut dyn Any) -> Result<(), Error> + Send>;

#[derive(Default)]
struct Posts {
    closed: bool,
    next: u64,
    waiting: VecDeque<(u64, Posted)>,
}

impl Client {
    /// Runs `work` on a thread of its own, which is joined when the instance stops: look at the token often. The system shows it
    /// as `instance/name`, shortened; `dinrail show` lists it with the processor time that it uses. A panic in it is logged and
    /// fails the instance.
    pub fn spawn(&self, name: &str, work: impl FnOnce(Stop) + Send + 'static) -> Result<(), Error> {
        let mut threads = lock(&self.work().threads);
        let stop = Stop(self.work().stop.clone());
        if stop.is_set() {
            return Err(Error::from_status(DR_GONE, "spawn", ""));
        }
        threads.retain(|thread| !thread.is_finished());
        let (voice, thread) = (self.voice(), name.to_owned());
        let body = move || {
            let _belongs = Belonging::enter(voice, &thread);
            let _speaks = logs::enter(voice);
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| work(stop))) {
                let reason = format!("thread '{thread}' {}", logs::panic_text(payload));
                let _ = voice.host.fail(voice.ticket, DrText::new(&reason));
            }
        };
        let started = std::thread::Builder::new().name(name.to_owned()).spawn(body);
        threads.push(started.with_context(|| format!("starting thread '{name}'"))?);
        Ok(())
    }

    /// Runs `work` on the instance's own thread, between its handlers. An error is logged. Closures that still wait at stop are
    /// dropped. `[any thread]` `[never blocks]`
    ///
    /// # Errors
    /// [`ErrorKind::Full`] when too many wait; [`ErrorKind::Invalid`] when `M` is not the type of this instance.
    pub fn post<M: Module>(
        &self,
        work: impl FnOnce(&mut M) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        if self.work().module_type != TypeId::of::<M>() {
            let text = format!("post: this instance is not a {}", std::any::type_name::<M>());
            return Err(Error::with_kind(ErrorKind::Invalid, text));
        }
        let posted: Posted = Box::new(move |module| match module.downcast_mut::<M>() {
            Some(module) => work(module),
            None => Ok(()),
        });
        let id = {
            let mut posts = lock(&self.work().posts);
            if posts.closed {
                return Err(Error::from_status(DR_GONE, "post", ""));
            }
            posts.next += 1;
            let id = posts.next;
            posts.waiting.push_back((id, posted));
            id
        };
        let voice = self.voice();
        match voice.host.post(voice.ticket, id) {
            DR_OK => Ok(()),
            status => {
                drop(self.work().take_posted(id));
                Err(Error::from_status(status, "post", ""))
            }
        }
    }
}

/// The thread belongs to the instance: its time counts as the instance's, and its name tells whose it is.
struct Belonging {
    ticket: u64,
    threads: Option<&'static DrThreads>,
}

impl Belonging {
    fn enter(voice: Voice, name: &str) -> Belonging {
        let threads = voice.host.threads();
        if let Some(threads) = threads {
            // SAFETY: a function of the runtime that any thread may call; the name is borrowed for the call.
            unsafe { (threads.enter)(voice.ticket, DrText::new(name)) };
        }
        Belonging { ticket: voice.ticket, threads }
    }
}

impl Drop for Belonging {
    fn drop(&mut self) {
        if let Some(threads) = self.threads {
            // SAFETY: on the thread that has entered.
            unsafe { (threads.leave)(self.ticket) };
        }
    }
}

impl Work {
    pub fn of<M: Module>() -> Work {
        let module_type = TypeId::of::<M>();
        Work { module_type, stop: Arc::default(), threads: Mutex::default(), posts: Mutex::default() }
    }

    /// Takes out a closure that was posted.
    pub fn take_posted(&self, id: u64) -> Option<Posted> {
        let mut posts = lock(&self.posts);
        let at = posts.waiting.iter().position(|(waiting, _)| *waiting == id)?;
        posts.waiting.remove(at).map(|(_, posted)| posted)
    }

    /// Tells the threads to end.
    pub fn tell_threads(&self) {
        // Under the lock of `spawn`, so that no thread starts after it.
        let _threads = lock(&self.threads);
        self.stop.set();
    }

    /// Waits for the threads to end.
    pub fn join_threads(&self) {
        let threads = std::mem::take(&mut *lock(&self.threads));
        for thread in threads {
            // Its panic was caught inside.
            let _ = thread.join();
        }
    }

    /// Drops what was posted and not run, and takes no more.
    pub fn close_posts(&self) {
        let dropped = {
            let mut posts = lock(&self.posts);
            posts.closed = true;
            std::mem::take(&mut posts.waiting)
        };
        // Outside of the lock: what a closure captured may post when it is dropped.
        drop(dropped);
    }
}

/// A panic while one of these was held left nothing half done in it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
