//! The rollout: a plan while it is carried out, step by step, and the health gate after it. Pure: it is told where instances
//! stand and what time it is, and gives the next orders.
//!
//! ```text
//! down: stop, remove, the stop of a restart      group by group, the highest start order first
//!   └─► set: desired properties, routes          at once
//!         └─► up: start, the start of a restart  group by group, the lowest start order first
//!               └─► watch: what was changed stays up for the time of the gate ─► succeeded | failed
//! ```
//!
//! A group has gone down when none of it has a worker, and has come up when each of it runs, has failed, or waits for its image.
//! A failure of something changed within the gate ends the rollout at once where there is a good deployment to go back to, and
//! otherwise once the rest was done too. What waits for its image holds the end back, and nothing else.

use std::time::{Duration, Instant};

use super::step_record::{StepRecord, StepState, Turn};

/// Longest that a group waits for the one before it: what hangs in its start must not keep the others down.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Where an instance stands, as far as a rollout is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// There is none of the name.
    Absent,
    /// It is about to run, or about to stop.
    OnItsWay,
    /// It runs, and has since then.
    Up(Instant),
    /// The same, but what it makes of the desired properties that were set is not known yet.
    Answering(Instant),
    /// It waits for its image, or runs another until that is here.
    Waits(String),
    /// It failed in one way or another.
    Failed(String),
    /// It stands still, and that is all right: somebody stopped it, or it has ended by itself.
    Still(String),
}

/// What a rollout wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Stop what the step is about.
    Stop(usize),
    /// Remove it.
    Remove(usize),
    /// Set all desired properties and routes; [`Rollout::was_set`] says how that went.
    Set,
    /// Start it, as it is wanted now.
    Start(usize),
    /// All is well: the deployment is good.
    Succeed,
    /// It is not; why.
    GiveUp(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Down,
    Set,
    Up,
    Watch,
    Over,
}

/// See the module's documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    steps: Vec<StepRecord>,
    phase: Phase,
    health: Duration,
    can_go_back: bool,
    /// Since when the group whose turn it is has been coming up.
    group_since: Option<Instant>,
    is_changed: bool,
}

impl Rollout {
    /// A rollout of these steps that has not begun. Without a deployment to go back to it does what it can.
    pub fn new(steps: Vec<StepRecord>, health: Duration, can_go_back: bool) -> Rollout {
        Rollout { steps, phase: Phase::Down, health, can_go_back, group_since: None, is_changed: false }
    }

    /// A rollout at the start of the runtime: nothing runs yet, and what is to run starts by itself, in its order. The caller has
    /// removed and set what the steps say.
    pub fn at_start(mut steps: Vec<StepRecord>, health: Duration, can_go_back: bool) -> Rollout {
        for step in &mut steps {
            if step.up.is_some() || step.is_gated {
                // What was set stays set; what was started has to start again.
                let state = if step.up.is_some() { StepState::Pending } else { StepState::Running };
                (step.turn, step.state) = (Turn::AskedUp, state);
                step.outcome.clear();
            } else if step.state != StepState::Failed {
                step.state = StepState::Done;
            }
        }
        Rollout { phase: Phase::Watch, is_changed: true, ..Rollout::new(steps, health, can_go_back) }
    }

    /// Goes on watching what a superseded rollout had changed and not yet found good, unless this one changes it again.
    pub fn take_over(&mut self, of: i64, former: &Rollout, is_wanted: impl Fn(&str) -> bool) {
        for open in former.steps.iter().filter(|step| step.is_gated && step.is_open() && is_wanted(&step.name)) {
            if self.steps.iter().any(|step| step.name == open.name && (step.up.is_some() || step.down.is_some())) {
                continue;
            }
            let reason = format!("unchanged; deployment {of} changed it and had not found it good yet");
            let mut step = StepRecord { is_gated: true, ..StepRecord::new("keep", &open.name, &reason) };
            (step.turn, step.state) = (Turn::AskedUp, StepState::Running);
            self.steps.push(step);
        }
    }

    /// The steps.
    pub fn steps(&self) -> &[StepRecord] {
        &self.steps
    }

    /// The steps, of a rollout that has ended.
    pub fn into_steps(self) -> Vec<StepRecord> {
        self.steps
    }

    /// Whether any step has changed since this was asked last.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }

    /// When time alone changes something; `None`: not before something happens.
    pub fn deadline(&self) -> Option<Instant> {
        let open = self.steps.iter().filter(|step| step.is_open());
        let gates = open.filter_map(|step| step.since?.checked_add(step.gate(self.health)));
        let group = self.group_since.filter(|_| self.phase == Phase::Up).and_then(|since| since.checked_add(PATIENCE));
        gates.chain(group).min().filter(|_| self.phase != Phase::Over)
    }

    /// Takes note of where an instance stands; to be called at every change, so that no short failure is missed.
    pub fn saw(&mut self, name: &str, standing: &Standing) {
        let Standing::Failed(reason) = standing else { return };
        for step in self.steps.iter_mut().filter(|step| step.name == name && step.is_open()) {
            if step.turn == Turn::AskedUp || step.turn == Turn::Up {
                (step.state, step.outcome, step.since) = (StepState::Failed, reason.clone(), None);
                self.is_changed = true;
            }
        }
    }

    /// A step whose instance cannot be had: it fails.
    pub fn fail(&mut self, index: usize, reason: &str) {
        self.mark(index, StepState::Failed, reason);
    }

    /// The start of a step was carried out: from now on it is looked at.
    pub fn was_started(&mut self, index: usize) {
        if let Some(step) = self.steps.get_mut(index).filter(|step| step.turn == Turn::Ordered) {
            step.turn = Turn::AskedUp;
        }
    }

    /// A restart that does not stop what runs, since its image is not here.
    pub fn leave_up(&mut self, index: usize) {
        self.steps[index].turn = Turn::Down;
    }

    /// How setting desired properties and routes went. `is_up`: whether an instance runs, so that it is to be watched with what
    /// it was given.
    pub fn was_set(&mut self, outcome: Result<(), String>, now: Instant, is_up: impl Fn(&str) -> bool) {
        let restarts: Vec<String> = self.steps.iter().filter(|s| s.up.is_some()).map(|s| s.name.clone()).collect();
        for step in self.steps.iter_mut().filter(|step| step.action == "twin" || step.action == "route") {
            if step.state != StepState::Pending {
                continue;
            }
            match &outcome {
                Ok(()) if step.action == "twin" && !restarts.contains(&step.name) && is_up(&step.name) => {
                    step.is_gated = true;
                    (step.turn, step.state, step.since) = (Turn::Up, StepState::Running, Some(now));
                }
                Ok(()) => step.state = StepState::Done,
                Err(reason) => {
                    (step.state, step.outcome, step.is_gated) = (StepState::Failed, reason.clone(), true);
                }
            }
        }
        self.phase = Phase::Up;
        self.is_changed = true;
    }

    /// What is to be done now. To be called until it gives nothing, after everything that happens and at [`Rollout::deadline`].
    pub fn advance(&mut self, look: impl Fn(&str) -> Standing, now: Instant) -> Vec<Order> {
        self.refresh(&look, now);
        if let Some(reason) = self.failure().filter(|_| self.phase != Phase::Over)
            && self.can_go_back
            && !self.health.is_zero()
        {
            self.phase = Phase::Over;
            return vec![Order::GiveUp(reason)];
        }
        let orders = match self.phase {
            Phase::Down => self.go_down(&look),
            Phase::Set => vec![Order::Set],
            Phase::Up => self.come_up(now),
            Phase::Watch | Phase::Over => Vec::new(),
        };
        if orders.is_empty() && self.phase == Phase::Watch && !self.steps.iter().any(StepRecord::is_open) {
            self.phase = Phase::Over;
            return vec![self.failure().map_or(Order::Succeed, Order::GiveUp)];
        }
        orders
    }

    fn go_down(&mut self, look: &impl Fn(&str) -> Standing) -> Vec<Order> {
        let is_left = |step: &StepRecord| matches!(step.turn, Turn::Ahead | Turn::AskedDown);
        loop {
            let left = self.steps.iter().filter(|step| is_left(step));
            let Some(group) = left.filter_map(|step| step.down).max() else {
                self.phase = Phase::Set;
                return vec![Order::Set];
            };
            let of_group: Vec<usize> = (0..self.steps.len())
                .filter(|&i| self.steps[i].down == Some(group) && is_left(&self.steps[i]))
                .collect();
            let mut orders = Vec::new();
            let mut is_waiting = false;
            for index in of_group {
                let step = &mut self.steps[index];
                if step.turn == Turn::Ahead {
                    step.turn = Turn::AskedDown;
                    let is_removal = step.action == "remove";
                    self.mark(index, StepState::Running, "");
                    orders.push(if is_removal { Order::Remove(index) } else { Order::Stop(index) });
                    continue;
                }
                match look(&step.name) {
                    Standing::OnItsWay => is_waiting = true,
                    // Somebody started it meanwhile.
                    Standing::Up(_) | Standing::Answering(_) if step.action == "remove" => {
                        orders.push(Order::Remove(index))
                    }
                    Standing::Up(_) | Standing::Answering(_) => orders.push(Order::Stop(index)),
                    standing => {
                        step.turn = Turn::Down;
                        match (step.up.is_some(), standing) {
                            (true, _) => {}
                            (false, Standing::Failed(reason)) => self.mark(index, StepState::Failed, &reason),
                            (false, _) => self.mark(index, StepState::Done, ""),
                        }
                    }
                }
            }
            if is_waiting || !orders.is_empty() {
                return orders;
            }
        }
    }

    fn come_up(&mut self, now: Instant) -> Vec<Order> {
        loop {
            let is_left = |step: &&StepRecord| step.up.is_some() && step.turn != Turn::Up;
            let Some(group) = self.steps.iter().filter(is_left).filter_map(|step| step.up).min() else {
                self.phase = Phase::Watch;
                return Vec::new();
            };
            let mut orders = Vec::new();
            for index in 0..self.steps.len() {
                let step = &mut self.steps[index];
                if step.up == Some(group) && matches!(step.turn, Turn::Ahead | Turn::Down) {
                    step.turn = Turn::Ordered;
                    self.group_since = Some(now);
                    self.mark(index, StepState::Running, "");
                    orders.push(Order::Start(index));
                }
            }
            if !orders.is_empty() {
                return orders;
            }
            let is_late = self.group_since.is_some_and(|since| now.saturating_duration_since(since) >= PATIENCE);
            if !is_late {
                return Vec::new();
            }
            for step in self.steps.iter_mut().filter(|step| step.up == Some(group)) {
                step.turn = Turn::Up;
            }
        }
    }

    /// Brings the steps that were started up to date.
    fn refresh(&mut self, look: &impl Fn(&str) -> Standing, now: Instant) {
        for index in 0..self.steps.len() {
            let step = &mut self.steps[index];
            if !matches!(step.turn, Turn::AskedUp | Turn::Up) {
                continue;
            }
            if step.turn == Turn::Up && !step.is_open() {
                continue;
            }
            let standing = look(&step.name);
            if step.turn == Turn::AskedUp && standing != Standing::OnItsWay {
                step.turn = Turn::Up;
            }
            if step.state == StepState::Failed && step.is_gated {
                continue;
            }
            step.is_answering = matches!(standing, Standing::Answering(_));
            match standing {
                Standing::Up(since) | Standing::Answering(since) => {
                    // A twin is watched from the time of its change.
                    let since = if step.action == "twin" { step.since.unwrap_or(since).max(since) } else { since };
                    step.since = Some(since);
                    let passed = now.saturating_duration_since(since);
                    if !step.is_gated || passed >= step.gate(self.health) {
                        self.mark(index, StepState::Done, "");
                    } else if passed >= self.health {
                        self.mark(index, StepState::Running, "up; it has not answered to its desired properties yet");
                    } else {
                        self.mark(index, StepState::Running, "up; the health gate is not over");
                    }
                }
                Standing::Waits(reason) => self.mark(index, StepState::Pending, &reason),
                Standing::Still(reason) => self.mark(index, StepState::Done, &reason),
                Standing::Absent => self.mark(index, StepState::Done, "it was removed meanwhile"),
                Standing::Failed(reason) => self.mark(index, StepState::Failed, &reason),
                Standing::OnItsWay => {
                    step.since = None;
                    self.mark(index, StepState::Running, "");
                }
            }
        }
    }

    /// What of the changed things failed, in words.
    fn failure(&self) -> Option<String> {
        let failed = |step: &&StepRecord| step.is_gated && step.state == StepState::Failed;
        let first = self.steps.iter().find(failed)?;
        let others = self.steps.iter().filter(failed).count() - 1;
        let said = format!("{}: {}", first.name, first.outcome);
        Some(match others {
            0 => said,
            1 => format!("{said} (and 1 other)"),
            others => format!("{said} (and {others} others)"),
        })
    }

    fn mark(&mut self, index: usize, state: StepState, outcome: &str) {
        let step = &mut self.steps[index];
        if step.state != state || step.outcome != outcome {
            step.state = state;
            outcome.clone_into(&mut step.outcome);
            self.is_changed = true;
        }
    }

    /// How far it is, in a sentence: for whoever waits.
    pub fn progress(&self) -> String {
        let done = self.steps.iter().filter(|step| !step.is_open()).count();
        let open = self.steps.iter().filter(|step| step.is_open() && (step.turn != Turn::Ahead));
        let told: Vec<String> = open
            .take(3)
            .map(|step| match step.outcome.as_str() {
                "" => format!("{} {}", step.action, step.name),
                outcome => format!("{}: {outcome}", step.name),
            })
            .collect();
        let told = if told.is_empty() { String::new() } else { format!("; {}", told.join("; ")) };
        format!("{done} of {} steps are done{told}", self.steps.len())
    }
}

#[cfg(test)]
#[path = "rollout_tests.rs"]
mod tests;
