//! Steps of a plan: what is done to whom, and why.

use super::manifest::DesiredSection;
use crate::instance::spec::InstanceSpec;
use crate::routing::RouteSpec;
use crate::view::{PlanStep, PlanView};

/// What a manifest changes, in the order of execution.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
    /// What a person should know besides.
    pub notes: Vec<String>,
}

/// One step of a plan; `why` is for a person.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Stop it, or have it without starting it.
    Stop {
        /// What is wanted of it from now on.
        spec: InstanceSpec,
        /// Why.
        why: String,
    },
    /// Stop it and forget it.
    Remove {
        /// Its name.
        name: String,
        /// Why.
        why: String,
    },
    /// Set desired properties.
    SetDesired {
        /// Whose.
        module: String,
        /// To what.
        section: DesiredSection,
        /// Why.
        why: String,
    },
    /// Put these routes in force in one go.
    SetRoutes {
        /// New ones.
        added: Vec<RouteSpec>,
        /// Names of those that go.
        removed: Vec<String>,
        /// Changed ones, each with what changed.
        changed: Vec<(RouteSpec, String)>,
    },
    /// Start it, from nothing or from a standstill.
    Start {
        /// What is wanted of it from now on.
        spec: InstanceSpec,
        /// Why.
        why: String,
        /// Nothing about it changes: it had failed before, and is only tried once more.
        is_retry: bool,
    },
    /// Stop it and start it as it is wanted now; what waits for it is kept.
    Restart {
        /// What is wanted of it from now on.
        spec: InstanceSpec,
        /// Why.
        why: String,
    },
    /// Leave it as it is. `spec` differs from what was only where it does not run, or in its origin.
    Keep {
        /// What is wanted of it from now on.
        spec: InstanceSpec,
        /// Why.
        why: String,
    },
}

impl Step {
    /// The instance or twin that it is about; empty for routes.
    pub fn name(&self) -> &str {
        match self {
            Step::Stop { spec, .. }
            | Step::Start { spec, .. }
            | Step::Restart { spec, .. }
            | Step::Keep { spec, .. } => &spec.name,
            Step::Remove { name, .. } => name,
            Step::SetDesired { module, .. } => module,
            Step::SetRoutes { .. } => "",
        }
    }

    /// As clients are shown it: one line, or one for each route.
    pub fn view(&self) -> Vec<PlanStep> {
        let line = |action: &str, name: &str, reason: &str| PlanStep {
            action: action.to_owned(),
            name: name.to_owned(),
            reason: reason.to_owned(),
        };
        match self {
            Step::Stop { spec, why } => vec![line("stop", &spec.name, why)],
            Step::Remove { name, why } => vec![line("remove", name, why)],
            Step::SetDesired { module, why, .. } => vec![line("twin", module, why)],
            Step::Start { spec, why, .. } => vec![line("start", &spec.name, why)],
            Step::Restart { spec, why } => vec![line("restart", &spec.name, why)],
            Step::Keep { spec, why } => vec![line("keep", &spec.name, why)],
            Step::SetRoutes { added, removed, changed } => {
                let gone = removed.iter().map(|name| line("route", name, "removed: no longer in the manifest"));
                let new = added.iter().map(|route| line("route", &route.name, &format!("new: {}", route.text)));
                let other = changed.iter().map(|(route, why)| line("route", &route.name, why));
                gone.chain(other).chain(new).collect()
            }
        }
    }
}

impl Plan {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.steps.iter().all(|step| matches!(step, Step::Keep { .. }))
    }

    /// As clients are shown it; `notes` are those of the manifest.
    pub fn view(&self, notes: &[String]) -> PlanView {
        PlanView {
            steps: self.steps.iter().flat_map(Step::view).collect(),
            notes: notes.iter().chain(&self.notes).cloned().collect(),
        }
    }
}
