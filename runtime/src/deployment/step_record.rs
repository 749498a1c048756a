//! A step of a plan while it is carried out: how far it is, as it is stored and shown.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::rollout::PATIENCE;
use super::step::{Plan, Step};
use crate::view::DeploymentStep;

/// How far a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StepState {
    /// Not begun, or waiting for an image.
    Pending,
    /// Begun; for what starts: until it has stayed up for the time of the gate.
    Running,
    /// Done for good.
    Done,
    /// It did not succeed.
    Failed,
}

/// A step and what became of it, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepRecord {
    /// As in [`PlanStep`](crate::view::PlanStep).
    pub action: String,
    /// Whose.
    pub name: String,
    /// Why it is done.
    pub reason: String,
    /// How far it is.
    pub state: StepState,
    /// Why it failed, or what it waits for; empty where there is nothing to say.
    #[serde(default)]
    pub outcome: String,
    /// Start order in which it goes down, if it does.
    #[serde(default)]
    pub down: Option<u32>,
    /// Start order in which it comes up, if it does.
    #[serde(default)]
    pub up: Option<u32>,
    /// The health gate looks at it.
    #[serde(default)]
    pub is_gated: bool,
    #[serde(skip)]
    pub(super) turn: Turn,
    /// Up since then.
    #[serde(skip)]
    pub(super) since: Option<Instant>,
    /// It has not said yet what it makes of its desired properties.
    #[serde(skip)]
    pub(super) is_answering: bool,
}

/// What was done about a step in this run of the runtime.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Turn {
    #[default]
    Ahead,
    AskedDown,
    Down,
    /// Its start is being carried out: what is seen of it meanwhile is what it was before.
    Ordered,
    AskedUp,
    Up,
}

impl StepRecord {
    pub(super) fn new(action: &str, name: &str, reason: &str) -> StepRecord {
        StepRecord {
            action: action.to_owned(),
            name: name.to_owned(),
            reason: reason.to_owned(),
            state: StepState::Pending,
            outcome: String::new(),
            down: None,
            up: None,
            is_gated: false,
            turn: Turn::Ahead,
            since: None,
            is_answering: false,
        }
    }

    /// As clients are shown it.
    pub fn view(&self) -> DeploymentStep {
        let state = match self.state {
            StepState::Pending => "pending",
            StepState::Running => "running",
            StepState::Done => "done",
            StepState::Failed => "failed",
        };
        DeploymentStep {
            action: self.action.clone(),
            name: self.name.clone(),
            reason: self.reason.clone(),
            state: state.to_owned(),
            outcome: self.outcome.clone(),
        }
    }

    /// How long it has to stay up. What has not answered yet may still refuse, but nobody waits for ever for it.
    pub(super) fn gate(&self, health: Duration) -> Duration {
        if self.is_answering && !health.is_zero() { health.max(PATIENCE) } else { health }
    }

    /// Whether the gate has still to say something about it.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, StepState::Pending | StepState::Running)
    }
}

/// The steps of a plan that do something.
///
/// `order_now`: start orders of the instances that there are.
pub fn records(plan: &Plan, order_now: impl Fn(&str) -> Option<u32>) -> Vec<StepRecord> {
    let mut records = Vec::new();
    for step in &plan.steps {
        let lines = step.view().into_iter().map(|line| StepRecord::new(&line.action, &line.name, &line.reason));
        records.extend(lines.map(|record| match step {
            Step::Stop { spec, .. } => {
                StepRecord { down: Some(order_now(&spec.name).unwrap_or(spec.startup_order)), ..record }
            }
            Step::Remove { name, .. } => StepRecord { down: Some(order_now(name).unwrap_or(u32::MAX)), ..record },
            Step::Start { spec, is_retry, .. } => {
                StepRecord { up: Some(spec.startup_order), is_gated: !is_retry, ..record }
            }
            Step::Restart { spec, .. } => StepRecord {
                down: Some(order_now(&spec.name).unwrap_or(spec.startup_order)),
                up: Some(spec.startup_order),
                is_gated: true,
                ..record
            },
            Step::SetDesired { .. } | Step::SetRoutes { .. } | Step::Keep { .. } => record,
        }));
    }
    records.retain(|record| record.action != "keep");
    records
}
