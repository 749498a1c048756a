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

pub use super::pacing::RestartPacing;
pub use super::transition::{deadline, next};

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
    /// Why its identity may not act, in words, if it may not: it stays stopped for so long.
    pub disabled: Option<String>,
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
    /// Its identity may not act any more.
    Disabled {
        /// In words.
        reason: String,
    },
    /// Its identity may act again.
    Enabled,
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
    /// Its image cannot be loaded, now or later; the worker is gone.
    NotLoaded {
        /// In words, with what to do.
        reason: String,
    },
    /// There is no worker: something that it needs, and a person has to give, is not there.
    NotReady {
        /// In words, with what to run.
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
        Instance { name: name.to_owned(), settings, hold, disabled: None, digest: None, state, failures: 0, worker: 0 }
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

    /// Whether there is somebody behind its identity.
    pub fn is_connected(&self) -> bool {
        matches!(self.state, State::Running { .. } | State::Unhealthy { running_since: Some(_), .. })
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
            // A reason that ends with a command says it all.
            State::Waiting { reason } => Some(match reason.split_once(": dinrail ") {
                Some((_, commands)) => format!("dinrail {}", commands.split("; ").next().unwrap_or(commands)),
                None => "put the image into a watched folder, or: dinrail image add FILE".to_owned(),
            }),
            State::Stopped { .. } if self.disabled.is_some() => Some(format!("dinrail identity enable {name}")),
            State::Stopped { .. } => Some(format!("dinrail start {name}")),
            State::Failed { abandoned: Some(_), .. } => {
                Some("restart the runtime to start it again, and have the module's stop looked at".to_owned())
            }
            State::Failed { .. } | State::Backoff { .. } => {
                Some(format!("remove the cause, then: dinrail start {name}"))
            }
            State::Quarantined { .. } => {
                Some(format!("supply a library that is admitted, or remove the cause, then: dinrail start {name}"))
            }
            State::Unhealthy { stop_at: None, .. } => Some(format!("dinrail restart {name}")),
            _ => None,
        }
    }

    pub(super) fn failure_count(&self) -> String {
        format!("failure {} of at most {}", self.failures, self.settings.pacing.max_starts)
    }
}

/// The reason of a stop by a person.
pub(super) fn stopped_by(who: &str) -> String {
    format!("stopped by {who}")
}
