//! What a service manager is told while it runs us (systemd's `Type=notify`): that we are ready, how we are, that we are alive,
//! that we are ending.
//!
//! Guarantee: `WATCHDOG=1` is an answer. Every beat goes through the control loop and then through a transaction of the database
//! writer, and is passed on only if it came back within the watchdog's time; nothing else feeds the watchdog. An answer may be
//! bad news, such as a full disk: a restart would not cure that, and the modules go on. Modules have no part in it.
//!
//! ```text
//! start ─ API answers, first beat ─► READY ─► beat: WATCHDOG, STATUS ◄─┐
//!                                     │        none: STATUS says so ───┘
//!                                  signal ─► STOPPING ─► beat: EXTEND_TIMEOUT ─► loop has ended
//! ```

#[cfg(target_os = "linux")]
pub(super) use systemd::Service;

/// Elsewhere nobody wants to be told.
#[cfg(not(target_os = "linux"))]
pub(super) struct Service;

#[cfg(not(target_os = "linux"))]
impl Service {
    pub(super) fn begin(_: &crate::runtime::Running, _: &std::path::Path) -> Service {
        Service
    }

    pub(super) fn stopping(&self) {}
}

#[cfg(target_os = "linux")]
mod systemd {
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
    use sd_notify::NotifyState;

    use crate::admin::client::Client;
    use crate::clock;
    use crate::runtime::{Beat, Running};
    use crate::view::HealthView;

    /// Between two beats, where the watchdog asks for none or for fewer.
    const LONGEST_PAUSE: Duration = Duration::from_secs(5);
    /// How long a beat may take where there is no watchdog.
    const PATIENCE: Duration = Duration::from_secs(30);
    /// What an answer of a runtime that is ending buys it. The service manager's own limit holds until then.
    const EXTENSION: Duration = Duration::from_secs(30);
    /// Between two tries to reach the API at the start.
    const RETRY: Duration = Duration::from_millis(100);

    /// Speaks to the service manager; does nothing where there is none.
    pub struct Service {
        stopping: Option<Sender<()>>,
    }

    impl Service {
        /// Says that we are ready once it is so, and from then on how we are.
        pub fn begin(running: &Running, state: &Path) -> Service {
            if std::env::var_os("NOTIFY_SOCKET").is_none_or(|socket| socket.is_empty()) {
                return Service { stopping: None };
            }
            let (stopping, told_to_stop) = bounded(1);
            let limit = sd_notify::watchdog_enabled();
            let reporter = Reporter { ask: Box::new(running.pulse()), limit, told_to_stop, said: String::new() };
            let state = state.to_owned();
            let spawned = std::thread::Builder::new()
                .name("service".to_owned())
                .stack_size(256 << 10)
                .spawn(move || reporter.run(state));
            if let Err(error) = spawned {
                tracing::error!("the service manager cannot be told anything: {error}");
            }
            Service { stopping: Some(stopping) }
        }

        /// Says that we are ending. `[any thread, never blocks]`
        pub fn stopping(&self) {
            if let Some(stopping) = &self.stopping {
                tell(&[NotifyState::Stopping, NotifyState::Status("stopping the modules"), extension()]);
                let _ = stopping.try_send(());
            }
        }
    }

    /// Asks the runtime for a beat; what is handed over hears it.
    type Ask = Box<dyn Fn(Box<dyn FnOnce(Beat) + Send>) + Send>;

    struct Reporter {
        ask: Ask,
        limit: Option<Duration>,
        told_to_stop: Receiver<()>,
        said: String,
    }

    /// What became of a question.
    enum Answer {
        InTime(Beat),
        Late,
        /// The loop has ended.
        Gone,
    }

    impl Reporter {
        fn run(mut self, state: PathBuf) {
            if !self.await_api(state) {
                return self.end();
            }
            let mut is_ready = false;
            let pause = self.limit.map_or(LONGEST_PAUSE, |limit| (limit / 3).min(LONGEST_PAUSE));
            loop {
                match self.beat() {
                    Answer::InTime(beat) => {
                        if !is_ready {
                            is_ready = true;
                            tell(&[NotifyState::Ready]);
                        }
                        if self.limit.is_some() {
                            tell(&[NotifyState::Watchdog]);
                        }
                        self.say(status(&beat));
                    }
                    Answer::Late => {}
                    Answer::Gone => return,
                }
                if self.told_to_stop.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                    return self.end();
                }
            }
        }

        /// Waits until the management API answers; false if the end came first.
        fn await_api(&mut self, state: PathBuf) -> bool {
            let states = [state];
            while let Err(error) = Client::find(&states).and_then(|client| client.get::<HealthView>("/health")) {
                self.say(format!("starting; the management API does not answer: {error}"));
                if self.told_to_stop.recv_timeout(RETRY) != Err(RecvTimeoutError::Timeout) {
                    return false;
                }
            }
            true
        }

        /// Asks for a sign of life and waits for it, however late it comes.
        fn beat(&mut self) -> Answer {
            let (answer, wait) = bounded(1);
            let asked = clock::now();
            (self.ask)(Box::new(move |beat| drop(answer.try_send(beat))));
            let limit = self.limit.unwrap_or(PATIENCE);
            let answered = match wait.recv_timeout(limit / 2) {
                // Said before the watchdog's time is up: whoever looks for the reason of a restart finds it.
                Err(RecvTimeoutError::Timeout) => {
                    let text = format!("the control loop or the database has not answered for {:?}", limit / 2);
                    tracing::error!("{text}");
                    self.say(text);
                    wait.recv().ok()
                }
                answered => answered.ok(),
            };
            match answered {
                Some(beat) if asked.elapsed() <= limit => Answer::InTime(beat),
                Some(_) => Answer::Late,
                None => Answer::Gone,
            }
        }

        /// Asks for more time for as long as the loop, which stops the modules, answers.
        fn end(self) {
            loop {
                let (answer, wait) = bounded(1);
                (self.ask)(Box::new(move |beat| drop(answer.try_send(beat))));
                let has_ended = wait.recv().is_err();
                tell(&[extension()]);
                // What is left then is to close the databases.
                if has_ended {
                    return;
                }
                std::thread::park_timeout(LONGEST_PAUSE);
            }
        }

        fn say(&mut self, text: String) {
            if text != self.said {
                tell(&[NotifyState::Status(&text)]);
                self.said = text;
            }
        }
    }

    fn extension() -> NotifyState<'static> {
        NotifyState::ExtendTimeoutUsec(u32::try_from(EXTENSION.as_micros()).unwrap_or(u32::MAX))
    }

    fn status(beat: &Beat) -> String {
        let Beat { running, modules, trouble } = beat;
        let modules = format!("{running} of {modules} modules running");
        match trouble {
            // A line of the protocol holds a line of text.
            Some(trouble) => format!("{modules}; nothing can be stored: {}", trouble.replace('\n', " ")),
            None => modules,
        }
    }

    fn tell(what: &[NotifyState<'_>]) {
        if let Err(error) = sd_notify::notify(what) {
            tracing::warn!("the service manager could not be told {what:?}: {error}");
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn status_says_how_many_run_and_what_cannot_be_stored() {
            let beat = |trouble: Option<&str>| Beat { running: 2, modules: 3, trouble: trouble.map(str::to_owned) };
            assert_eq!(status(&beat(None)), "2 of 3 modules running");
            assert_eq!(
                status(&beat(Some("the disk\nis full"))),
                "2 of 3 modules running; nothing can be stored: the disk is full"
            );
        }
    }
}
