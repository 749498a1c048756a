//! What becomes of an instance when something happens: the arrows of the drawing in [`state`](super::state).

use std::time::Instant;

use super::spec::RestartPolicy;
use super::state::{Action, By, Hold, Input, Instance, Moment, State, Then, WorkerEvent, WorkerId, stopped_by};
use crate::clock::spoken;

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
                    self.quarantined(reason);
                }
            }
            Input::StartRequested { by } => {
                if self.release(&by) {
                    // A deployment that names it again takes its removal back; a person says so with another word.
                    if let (By::Deployment, State::Stopping { kill_at, then: Then::Remove }) = (by, &self.it.state) {
                        self.it.state = State::Stopping { kill_at: *kill_at, then: Then::Start };
                    }
                    self.start_requested();
                }
            }
            Input::RestartRequested { by } => {
                if self.release(&by) {
                    self.restart_requested();
                }
            }
            Input::StopRequested { by } => self.stop_requested(&by),
            Input::Disabled { reason } => self.disabled(reason),
            Input::Enabled => self.enabled(),
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
                // Should something stand against a start, that is seen when it has stopped.
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

    fn disabled(&mut self, reason: String) {
        self.it.disabled = Some(reason.clone());
        match &self.it.state {
            State::Stopping { then: Then::Remove, .. } | State::Failed { abandoned: Some(_), .. } | State::Removed => {}
            State::Stopping { kill_at, .. } => {
                self.it.state = State::Stopping { kill_at: *kill_at, then: Then::Stay };
            }
            State::Starting | State::Running { .. } | State::Unhealthy { .. } => {
                self.report(false, format!("stops: {reason}"));
                self.ask_stop(Then::Stay);
            }
            // A person's stop goes on being one.
            State::Stopped { .. } if self.it.hold.is_some() => {}
            _ => self.stopped(reason),
        }
    }

    /// It comes back, unless a person or the deployment wants it stopped.
    fn enabled(&mut self) {
        let was_disabled = self.it.disabled.take().is_some();
        if !was_disabled || self.it.hold.is_some() || !self.it.settings.wanted {
            return;
        }
        if matches!(self.it.state, State::Stopped { .. } | State::Stopping { .. }) {
            self.start_requested();
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
            if late == worker
                && matches!(
                    event,
                    WorkerEvent::Exited { .. } | WorkerEvent::StartFailed { .. } | WorkerEvent::NotLoaded { .. }
                )
            {
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
            WorkerEvent::NotLoaded { reason } if self.it.state == State::Starting => {
                self.quarantined(reason);
                // There may be an older one that can be loaded.
                self.actions.push(Action::ChooseImage);
            }
            // Not its fault, so that it costs it no start.
            WorkerEvent::NotReady { reason } if self.it.state == State::Starting => {
                self.report(true, format!("waits: {reason}"));
                self.it.state = State::Waiting { reason };
            }
            WorkerEvent::StartFailed { reason }
            | WorkerEvent::NotLoaded { reason }
            | WorkerEvent::NotReady { reason } => self.gone(reason, false),
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
            Then::Stay => self.stopped(match (&self.it.hold, &self.it.disabled) {
                (Some(hold), _) => stopped_by(&hold.by),
                (None, Some(reason)) => reason.clone(),
                (None, None) => "stopped as asked".to_owned(),
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
        if let Some(reason) = &self.it.disabled {
            self.it.state = State::Stopped { at_us: self.moment.wall_us, reason: reason.clone() };
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

    fn quarantined(&mut self, reason: String) {
        let state = State::Quarantined { reason: reason.clone() };
        if self.it.state != state {
            self.report(true, format!("quarantined: {reason}"));
            self.it.state = state;
        }
    }

    fn removed(&mut self) {
        self.it.state = State::Removed;
        self.actions.push(Action::Forget);
    }

    fn report(&mut self, warn: bool, text: String) {
        self.actions.push(Action::Report { warn, text });
    }
}

#[cfg(test)]
#[path = "transition_tests.rs"]
mod tests;
