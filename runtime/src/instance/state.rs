//! The life of an instance, decided here and carried out elsewhere: [`next`] takes an instance, what happened and the time, and
//! gives the instance as it is then and what is to be done. It reads no clock and touches nothing.
//!
//! ```text
//! waiting ─image─► starting ─started─► running ─exit, fault─► backoff ─time─► starting
//!    │                │ failed ────────► backoff │  ▲              │ budget spent
//!  no image           │                          ▼  │ answers      └───────────► failed
//!    │                └── no answer ──────► unhealthy
//!    ▼                                           │ still none
//! quarantined        every state with a worker ──┴─► stopping ─exit─► stopped | starting | backoff | removed
//!                                                        └─deadline──► failed, its thread abandoned
//! ```
//!
//! Invariants: there is never more than one worker, save for abandoned ones, which are fenced; what a worker says after it is
//! gone is ignored; `failed` is left only because of a person, a deployment or a new image; removed is final. A stop by a
//! person holds against deployments, images and restarts of the runtime until that person's kind starts it again.

use std::time::{Duration, Instant};

use super::spec::RestartPolicy;
use crate::clock::{rfc3339, spoken};
use crate::view::Status;

/// How failures are paced. Source of the defaults: IoT Edge; the jitter is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartPacing {
    /// Delay after the first failure; doubles with each further one.
    pub first_delay: Duration,
    /// Longest delay, jitter included.
    pub max_delay: Duration,
    /// Restarts before it is left alone.
    pub max_starts: u32,
    /// Running so long clears the count of failures.
    pub steady_after: Duration,
    /// Each delay is varied by up to so many percent, up or down.
    pub jitter_percent: u32,
}

impl Default for RestartPacing {
    fn default() -> RestartPacing {
        RestartPacing {
            first_delay: Duration::from_secs(10),
            max_delay: Duration::from_secs(300),
            max_starts: 20,
            steady_after: Duration::from_secs(600),
            jitter_percent: 20,
        }
    }
}

impl RestartPacing {
    /// Delay before the start that follows the `failures`-th failure in a row (from 1). `random` is evenly distributed.
    pub fn delay(&self, failures: u32, random: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let delay = self.first_delay.saturating_mul(1 << doublings).min(self.max_delay);
        let share = f64::from(random) / f64::from(u32::MAX) * 2.0 - 1.0;
        let factor = 1.0 + f64::from(self.jitter_percent.min(100)) / 100.0 * share;
        delay.mul_f64(factor.max(0.0)).min(self.max_delay)
    }
}

/// Names a worker of an instance: 1 is its first. What an older one still says is told apart by it.
pub type WorkerId = u64;

/// Who asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// A person; the text says who.
    Person(String),
    /// The deployment in force.
    Deployment,
    /// The runtime, because it ends.
    Runtime,
}

/// A stop by a person, which holds until someone starts it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Who.
    pub by: String,
    /// When, in microseconds since 1970-01-01 UTC.
    pub at_us: i64,
}

/// What follows a stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Then {
    /// It stays stopped.
    Stay,
    /// It starts again.
    Start,
    /// It is treated as failed for this reason.
    Fail(String),
    /// It is removed.
    Remove,
}

/// Where an instance stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// There is no image for it yet.
    Waiting {
        /// Why not.
        reason: String,
    },
    /// Its worker was started and has not said that it is up.
    Starting,
    /// Up.
    Running {
        /// Since when.
        since: Instant,
    },
    /// Has a worker that does not answer.
    Unhealthy {
        /// Up since when; `None`: it never was.
        running_since: Option<Instant>,
        /// When it is asked to stop; `None`: its policy leaves it alone.
        stop_at: Option<Instant>,
        /// What it does not answer.
        reason: String,
    },
    /// Failed; starts again.
    Backoff {
        /// When.
        until: Instant,
        /// Why it failed.
        reason: String,
    },
    /// Asked to stop.
    Stopping {
        /// When it is given up.
        kill_at: Instant,
        /// What follows.
        then: Then,
    },
    /// Stopped on request, or ended by itself where its policy leaves it at that.
    Stopped {
        /// When, in microseconds since 1970-01-01 UTC.
        at_us: i64,
        /// By whom, or how.
        reason: String,
    },
    /// Left alone after failures, or not stoppable.
    Failed {
        /// Why.
        reason: String,
        /// The worker that never returned, if that is why: nothing starts beside it.
        abandoned: Option<WorkerId>,
    },
    /// Its image is not admitted.
    Quarantined {
        /// Why.
        reason: String,
    },
    /// Gone for good.
    Removed,
}

/// What decides about one instance, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Its name.
    pub name: String,
    /// What is wanted of it.
    pub settings: Settings,
    /// A person's stop.
    pub hold: Option<Hold>,
    /// The chosen image, `sha256:…`.
    pub digest: Option<String>,
    /// Where it stands.
    pub state: State,
    /// Failures since it last ran steadily.
    pub failures: u32,
    /// The newest worker; 0 before the first.
    pub worker: WorkerId,
}

/// The part of what is wanted of an instance that decides about its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Whether it is to run at all.
    pub wanted: bool,
    /// After what it starts again.
    pub policy: RestartPolicy,
    /// How failures are paced.
    pub pacing: RestartPacing,
    /// From being asked to stop until it is given up.
    pub stop_grace: Duration,
}

/// What can happen to an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Other settings; start, stop or restart it separately.
    Configured(Settings),
    /// This image is the one to use from now on; while another runs: an upgrade.
    ImageChosen {
        /// Its digest.
        digest: String,
    },
    /// No image satisfies the reference. What runs, runs on.
    ImageMissing {
        /// In words.
        reason: String,
    },
    /// The image that the reference names is not admitted. What runs, runs on.
    ImageQuarantined {
        /// In words, with what to do.
        reason: String,
    },
    /// It is to run.
    StartRequested {
        /// Who asked.
        by: By,
    },
    /// It is to stop.
    StopRequested {
        /// Who asked.
        by: By,
    },
    /// It is to start afresh.
    RestartRequested {
        /// Who asked.
        by: By,
    },
    /// It is to go for good.
    RemoveRequested,
    /// A worker says something.
    Worker(WorkerId, WorkerEvent),
    /// Time has passed; due at [`deadline`], harmless at any time.
    Tick,
}

/// What a worker says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerEvent {
    /// Created and started: it handles messages.
    Started,
    /// Could not load, create or start; the worker is gone.
    StartFailed {
        /// In words.
        reason: String,
    },
    /// The worker is gone.
    Exited {
        /// In words.
        reason: String,
        /// Without a failure.
        clean: bool,
    },
    /// It has been in one call for too long.
    Unresponsive {
        /// In words: which call, how long.
        reason: String,
    },
    /// It answers again.
    Responsive,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Find out which image it is to use and say so.
    ChooseImage,
    /// Start a worker.
    Spawn {
        /// Its number.
        worker: WorkerId,
        /// From this image.
        digest: String,
    },
    /// Ask the worker to stop.
    AskStop {
        /// Its number.
        worker: WorkerId,
        /// It is given up then.
        kill_at: Instant,
    },
    /// Fence the worker: its tickets are void, nobody waits for it.
    Abandon {
        /// Its number.
        worker: WorkerId,
        /// In words.
        reason: String,
    },
    /// Store the stop by a person, or (`None`) forget it.
    KeepHold(Option<Hold>),
    /// Forget the instance.
    Forget,
    /// Log it.
    Report {
        /// Whether a person should look: nothing is lost, but all is not well.
        warn: bool,
        /// In words, without the name.
        text: String,
    },
}

/// The outside world at the moment of an input.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Monotonic time.
    pub now: Instant,
    /// Wall time in microseconds since 1970-01-01 UTC; only shown, never compared.
    pub wall_us: i64,
    /// An evenly distributed number, for the jitter.
    pub random: u32,
}

impl Instance {
    /// An instance that has no worker and no image yet: stopped if it is held or not wanted to run, else waiting.
    pub fn new(name: &str, settings: Settings, hold: Option<Hold>, wall_us: i64) -> Instance {
        let state = match &hold {
            Some(hold) => State::Stopped { at_us: hold.at_us, reason: stopped_by(&hold.by) },
            None if !settings.wanted => {
                State::Stopped { at_us: wall_us, reason: "the deployment wants it stopped".to_owned() }
            }
            None => State::Waiting { reason: "its image is being looked for".to_owned() },
        };
        Instance { name: name.to_owned(), settings, hold, digest: None, state, failures: 0, worker: 0 }
    }

    /// The worker, if it has one.
    pub fn live_worker(&self) -> Option<WorkerId> {
        match self.state {
            State::Starting | State::Running { .. } | State::Unhealthy { .. } | State::Stopping { .. } => {
                Some(self.worker)
            }
            _ => None,
        }
    }

    /// Whether a thread of it never returned, so that nothing can be started.
    pub fn is_abandoned(&self) -> bool {
        matches!(self.state, State::Failed { abandoned: Some(_), .. })
    }

    /// The word for clients. A removed instance has none and counts as stopped.
    pub fn status(&self) -> Status {
        match self.state {
            State::Waiting { .. } => Status::Waiting,
            State::Starting => Status::Starting,
            State::Running { .. } => Status::Running,
            State::Unhealthy { .. } => Status::Unhealthy,
            State::Backoff { .. } => Status::Backoff,
            State::Stopping { .. } => Status::Stopping,
            State::Stopped { .. } | State::Removed => Status::Stopped,
            State::Failed { .. } => Status::Failed,
            State::Quarantined { .. } => Status::Quarantined,
        }
    }

    /// Why it is in its state, in one sentence; empty where there is nothing to say.
    pub fn reason(&self, now: Instant) -> String {
        match &self.state {
            State::Waiting { reason } | State::Quarantined { reason } | State::Failed { reason, .. } => reason.clone(),
            State::Starting => "being created and started".to_owned(),
            State::Running { .. } | State::Removed => String::new(),
            State::Unhealthy { reason, .. } => reason.clone(),
            State::Backoff { until, reason } => {
                let wait = spoken(until.saturating_duration_since(now));
                format!("{reason}; starts again in {wait} ({})", self.failure_count())
            }
            State::Stopping { kill_at, then } => {
                let left = spoken(kill_at.saturating_duration_since(now));
                let then = match then {
                    Then::Stay => "then stays stopped",
                    Then::Start => "then starts again",
                    Then::Fail(_) => "then starts again after a delay",
                    Then::Remove => "then is removed",
                };
                format!("asked to stop, given up in {left}; {then}")
            }
            State::Stopped { at_us, reason } => format!("{reason}, {}", rfc3339(*at_us)),
        }
    }

    /// What a person should do; `None` where nothing is to be done.
    pub fn next_step(&self) -> Option<String> {
        let name = &self.name;
        match &self.state {
            State::Waiting { .. } => Some("put the image into a watched folder, or: dinrail image add FILE".to_owned()),
            State::Stopped { .. } => Some(format!("dinrail start {name}")),
            State::Failed { abandoned: Some(_), .. } => {
                Some("restart the runtime to start it again, and have the module's stop looked at".to_owned())
            }
            State::Failed { .. } | State::Backoff { .. } => {
                Some(format!("remove the cause, then: dinrail start {name}"))
            }
            State::Quarantined { .. } => {
                Some("supply a library that is admitted: dinrail image inspect FILE".to_owned())
            }
            State::Unhealthy { stop_at: None, .. } => Some(format!("dinrail restart {name}")),
            _ => None,
        }
    }

    fn failure_count(&self) -> String {
        format!("failure {} of at most {}", self.failures, self.settings.pacing.max_starts)
    }
}

/// When the instance needs a [`Input::Tick`]; `None`: not before something happens.
pub fn deadline(instance: &Instance) -> Option<Instant> {
    match instance.state {
        State::Running { since } if instance.failures > 0 => since.checked_add(instance.settings.pacing.steady_after),
        State::Unhealthy { stop_at, .. } => stop_at,
        State::Backoff { until, .. } => Some(until),
        State::Stopping { kill_at, .. } => Some(kill_at),
        _ => None,
    }
}

/// What becomes of `instance`, and what is to be done, in that order.
pub fn next(instance: &Instance, input: Input, moment: Moment) -> (Instance, Vec<Action>) {
    let mut change = Change { it: instance.clone(), moment, actions: Vec::new() };
    if instance.state != State::Removed {
        change.apply(input);
    }
    (change.it, change.actions)
}

struct Change {
    it: Instance,
    moment: Moment,
    actions: Vec<Action>,
}

impl Change {
    fn apply(&mut self, input: Input) {
        match input {
            Input::Configured(settings) => self.it.settings = settings,
            Input::ImageChosen { digest } => self.image_chosen(digest),
            Input::ImageMissing { reason } => {
                if matches!(self.it.state, State::Waiting { .. } | State::Quarantined { .. }) {
                    self.it.state = State::Waiting { reason };
                }
            }
            Input::ImageQuarantined { reason } => {
                if matches!(self.it.state, State::Waiting { .. } | State::Quarantined { .. }) {
                    self.report(true, format!("quarantined: {reason}"));
                    self.it.state = State::Quarantined { reason };
                }
            }
            Input::StartRequested { by } => {
                if self.release(&by) {
                    self.start_requested();
                }
            }
            Input::RestartRequested { by } => {
                if self.release(&by) {
                    self.restart_requested();
                }
            }
            Input::StopRequested { by } => self.stop_requested(&by),
            Input::RemoveRequested => self.remove_requested(),
            Input::Worker(worker, event) => self.worker_event(worker, event),
            Input::Tick => self.tick(),
        }
    }

    fn image_chosen(&mut self, digest: String) {
        let is_new = self.it.digest.as_ref() != Some(&digest);
        self.it.digest = Some(digest);
        match &self.it.state {
            State::Waiting { .. } | State::Quarantined { .. } => self.start(),
            State::Running { .. } | State::Starting | State::Unhealthy { .. } if is_new => {
                self.it.failures = 0;
                self.report(false, "stops for another image".to_owned());
                self.ask_stop(Then::Start);
            }
            // A new image may be the cure: it gets a fresh budget at once.
            State::Backoff { .. } | State::Failed { abandoned: None, .. } if is_new => {
                self.it.failures = 0;
                self.report(false, "tried again with another image".to_owned());
                self.start();
            }
            State::Stopping { kill_at, then: Then::Fail(_) } if is_new => {
                self.it.failures = 0;
                self.it.state = State::Stopping { kill_at: *kill_at, then: Then::Start };
            }
            _ => {}
        }
    }

    /// Whether `by` may start it; a person's start ends a person's stop.
    fn release(&mut self, by: &By) -> bool {
        match (by, &self.it.hold) {
            (_, None) => true,
            (By::Person(_), Some(_)) => {
                self.it.hold = None;
                self.actions.push(Action::KeepHold(None));
                true
            }
            (By::Deployment | By::Runtime, Some(_)) => false,
        }
    }

    fn start_requested(&mut self) {
        match &self.it.state {
            State::Waiting { .. } => self.actions.push(Action::ChooseImage),
            State::Quarantined { .. } => self.choose_image(),
            State::Stopped { .. } | State::Backoff { .. } | State::Failed { abandoned: None, .. } => {
                self.it.failures = 0;
                match self.it.digest {
                    Some(_) => self.start(),
                    None => self.choose_image(),
                }
            }
            State::Stopping { kill_at, then: Then::Stay | Then::Fail(_) } => {
                self.it.failures = 0;
                self.it.state = State::Stopping { kill_at: *kill_at, then: Then::Start };
            }
            _ => {}
        }
    }

    fn restart_requested(&mut self) {
        match &self.it.state {
            State::Starting | State::Running { .. } | State::Unhealthy { .. } => {
                self.it.failures = 0;
                self.ask_stop(Then::Start);
            }
            _ => self.start_requested(),
        }
    }

    fn stop_requested(&mut self, by: &By) {
        if matches!(&self.it.state, State::Stopping { then: Then::Remove, .. }) {
            return;
        }
        if let By::Person(who) = by {
            let hold = Hold { by: who.clone(), at_us: self.moment.wall_us };
            self.it.hold = Some(hold.clone());
            self.actions.push(Action::KeepHold(Some(hold)));
        }
        match &self.it.state {
            State::Stopping { kill_at, .. } => {
                self.it.state = State::Stopping { kill_at: *kill_at, then: Then::Stay };
            }
            State::Starting | State::Running { .. } | State::Unhealthy { .. } => self.ask_stop(Then::Stay),
            State::Failed { abandoned: Some(_), .. } | State::Removed => {}
            // A hold that exists says who: a later stop by the deployment does not take its place.
            State::Stopped { .. } if !matches!(by, By::Person(_)) => {}
            _ => self.stopped(match by {
                By::Person(who) => stopped_by(who),
                By::Deployment => "stopped by the deployment".to_owned(),
                By::Runtime => "stopped with the runtime".to_owned(),
            }),
        }
    }

    fn remove_requested(&mut self) {
        match &self.it.state {
            State::Stopping { kill_at, .. } => {
                self.it.state = State::Stopping { kill_at: *kill_at, then: Then::Remove };
            }
            _ if self.it.live_worker().is_some() => self.ask_stop(Then::Remove),
            _ => self.removed(),
        }
    }

    fn worker_event(&mut self, worker: WorkerId, event: WorkerEvent) {
        if let State::Failed { abandoned: Some(late), .. } = self.it.state {
            if late == worker && matches!(event, WorkerEvent::Exited { .. } | WorkerEvent::StartFailed { .. }) {
                let reason = "its thread returned long after it was asked to stop; it can be started again".to_owned();
                self.report(true, reason.clone());
                self.it.state = State::Failed { reason, abandoned: None };
            }
            return;
        }
        if self.it.live_worker() != Some(worker) {
            return;
        }
        match event {
            WorkerEvent::Started => self.answers(self.moment.now),
            WorkerEvent::Responsive => {
                if let State::Unhealthy { running_since, .. } = self.it.state {
                    match running_since {
                        Some(since) => self.answers(since),
                        None => self.it.state = State::Starting,
                    }
                }
            }
            WorkerEvent::Unresponsive { reason } => self.unresponsive(reason),
            WorkerEvent::StartFailed { reason } => self.gone(reason, false),
            WorkerEvent::Exited { reason, clean } => self.gone(reason, clean),
        }
    }

    fn answers(&mut self, since: Instant) {
        match self.it.state {
            State::Starting => {
                self.report(false, "running".to_owned());
                self.it.state = State::Running { since };
            }
            State::Unhealthy { running_since, .. } => {
                self.report(false, "answers again".to_owned());
                self.it.state = State::Running { since: running_since.unwrap_or(since) };
            }
            _ => {}
        }
    }

    fn unresponsive(&mut self, reason: String) {
        let running_since = match self.it.state {
            State::Starting => None,
            State::Running { since } => Some(since),
            _ => return,
        };
        let acts = matches!(self.it.settings.policy, RestartPolicy::OnUnhealthy | RestartPolicy::Always);
        // A thread that does not return cannot be killed, only lost, so it gets its stop grace once more to come to itself.
        let stop_at = if acts { Some(self.moment.now + self.it.settings.stop_grace) } else { None };
        self.report(true, format!("unhealthy: {reason}"));
        self.it.state = State::Unhealthy { running_since, stop_at, reason };
    }

    /// The worker is gone: what follows depends on what was going on.
    fn gone(&mut self, reason: String, clean: bool) {
        let (State::Running { since } | State::Unhealthy { running_since: Some(since), .. }) = self.it.state else {
            return self.gone_from_elsewhere(reason, clean);
        };
        if self.moment.now.saturating_duration_since(since) >= self.it.settings.pacing.steady_after {
            self.it.failures = 0;
        }
        self.ended(reason, clean);
    }

    fn gone_from_elsewhere(&mut self, reason: String, clean: bool) {
        let State::Stopping { then, .. } = &self.it.state else {
            return self.ended(reason, clean);
        };
        match then.clone() {
            Then::Stay => self.stopped(match &self.it.hold {
                Some(hold) => stopped_by(&hold.by),
                None => "stopped as asked".to_owned(),
            }),
            Then::Start => self.start(),
            Then::Fail(cause) => self.failed(cause),
            Then::Remove => self.removed(),
        }
    }

    /// It ended without having been asked to.
    fn ended(&mut self, reason: String, clean: bool) {
        match (clean, self.it.settings.policy) {
            (true, RestartPolicy::Always) | (false, _) => self.failed(reason),
            (true, _) => self.stopped(format!("ended by itself: {reason}")),
        }
    }

    /// Starts again after a delay, or not at all.
    fn failed(&mut self, reason: String) {
        let pacing = self.it.settings.pacing;
        if self.it.settings.policy == RestartPolicy::Never {
            let reason = format!("{reason} (its restart policy is never)");
            self.report(true, format!("failed: {reason}"));
            self.it.state = State::Failed { reason, abandoned: None };
        } else if self.it.failures >= pacing.max_starts {
            let reason = format!("{reason}; given up after {} restarts", pacing.max_starts);
            self.report(true, format!("failed: {reason}"));
            self.it.state = State::Failed { reason, abandoned: None };
        } else {
            self.it.failures += 1;
            let delay = pacing.delay(self.it.failures, self.moment.random);
            let count = self.it.failure_count();
            self.report(true, format!("{reason}; starts again in {} ({count})", spoken(delay)));
            self.it.state = State::Backoff { until: self.moment.now + delay, reason };
        }
    }

    fn tick(&mut self) {
        let now = self.moment.now;
        if deadline(&self.it).is_none_or(|due| now < due) {
            return;
        }
        match self.it.state.clone() {
            State::Running { .. } => self.it.failures = 0,
            State::Backoff { .. } => self.start(),
            State::Unhealthy { reason, .. } => self.ask_stop(Then::Fail(reason)),
            State::Stopping { then, .. } => self.abandon(then == Then::Remove),
            _ => {}
        }
    }

    fn abandon(&mut self, remove: bool) {
        let (worker, grace) = (self.it.worker, spoken(self.it.settings.stop_grace));
        let reason = format!(
            "its thread never returned within {grace} of being asked to stop; the name cannot start again before the runtime does"
        );
        self.actions.push(Action::Abandon { worker, reason: reason.clone() });
        self.report(true, format!("abandoned: {reason}"));
        if remove {
            self.removed();
        } else {
            self.it.state = State::Failed { reason, abandoned: Some(worker) };
        }
    }

    /// Starts a worker, unless something stands against it.
    fn start(&mut self) {
        if let Some(hold) = &self.it.hold {
            self.it.state = State::Stopped { at_us: hold.at_us, reason: stopped_by(&hold.by) };
            return;
        }
        let Some(digest) = self.it.digest.clone() else {
            return self.choose_image();
        };
        self.it.worker += 1;
        self.it.state = State::Starting;
        self.actions.push(Action::Spawn { worker: self.it.worker, digest });
    }

    fn choose_image(&mut self) {
        self.it.state = State::Waiting { reason: "its image is being looked for".to_owned() };
        self.actions.push(Action::ChooseImage);
    }

    fn ask_stop(&mut self, then: Then) {
        let kill_at = self.moment.now + self.it.settings.stop_grace;
        self.actions.push(Action::AskStop { worker: self.it.worker, kill_at });
        self.it.state = State::Stopping { kill_at, then };
    }

    fn stopped(&mut self, reason: String) {
        self.report(false, reason.clone());
        self.it.state = State::Stopped { at_us: self.moment.wall_us, reason };
    }

    fn removed(&mut self) {
        self.it.state = State::Removed;
        self.actions.push(Action::Forget);
    }

    fn report(&mut self, warn: bool, text: String) {
        self.actions.push(Action::Report { warn, text });
    }
}

fn stopped_by(who: &str) -> String {
    format!("stopped by {who}")
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
