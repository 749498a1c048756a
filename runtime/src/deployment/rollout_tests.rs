use std::collections::BTreeMap;

use super::*;

const GATE: Duration = Duration::from_secs(5);

/// Instances, and the time.
struct Plant {
    rollout: Rollout,
    at: BTreeMap<String, Standing>,
    start: Instant,
    now: Instant,
}

fn step(action: &str, name: &str, down: Option<u32>, up: Option<u32>) -> StepRecord {
    StepRecord { down, up, is_gated: up.is_some(), ..StepRecord::new(action, name, "because") }
}

impl Plant {
    fn new(steps: Vec<StepRecord>, health: Duration, can_go_back: bool) -> Plant {
        let now = Instant::now();
        Plant { rollout: Rollout::new(steps, health, can_go_back), at: BTreeMap::new(), start: now, now }
    }

    fn stands(&mut self, name: &str, standing: Standing) {
        self.rollout.saw(name, &standing);
        self.at.insert(name.to_owned(), standing);
    }

    /// What is ordered now, in words.
    fn orders(&mut self) -> Vec<String> {
        let at = self.at.clone();
        let orders = self.rollout.advance(|name| at.get(name).cloned().unwrap_or(Standing::Absent), self.now);
        let name = |index: usize| self.rollout.steps()[index].name.clone();
        let said = orders.iter().map(|order| match order {
            Order::Stop(index) => format!("stop {}", name(*index)),
            Order::Remove(index) => format!("remove {}", name(*index)),
            Order::Start(index) => format!("start {}", name(*index)),
            Order::Set => "set".to_owned(),
            Order::Succeed => "succeed".to_owned(),
            Order::GiveUp(reason) => format!("give up: {reason}"),
        });
        let said: Vec<String> = said.collect();
        for order in &orders {
            if let Order::Start(index) = order {
                self.rollout.was_started(*index);
            }
        }
        if said == ["set"] {
            self.rollout.was_set(Ok(()), self.now, |name| matches!(at.get(name), Some(Standing::Up(_))));
        }
        said
    }

    fn pass(&mut self, secs: u64) {
        self.now += Duration::from_secs(secs);
    }

    fn states(&self) -> Vec<(String, StepState)> {
        self.rollout.steps().iter().map(|step| (step.name.clone(), step.state)).collect()
    }
}

#[test]
fn groups_stop_in_reverse_and_start_in_order_each_after_the_other() {
    let steps = vec![
        step("remove", "old", Some(7), None),
        step("restart", "first", Some(1), Some(1)),
        step("restart", "second", Some(2), Some(2)),
    ];
    let mut plant = Plant::new(steps, GATE, true);
    for name in ["old", "first", "second"] {
        plant.stands(name, Standing::Up(plant.start));
    }

    assert_eq!(plant.orders(), ["remove old"]);
    plant.stands("old", Standing::OnItsWay);
    assert_eq!(plant.orders(), [] as [&str; 0], "it has not gone yet");
    plant.at.remove("old");
    assert_eq!(plant.orders(), ["stop second"]);
    plant.stands("second", Standing::Still("stopped".into()));
    assert_eq!(plant.orders(), ["stop first"]);
    plant.stands("first", Standing::Still("stopped".into()));
    assert_eq!(plant.orders(), ["set"]);
    assert_eq!(plant.orders(), ["start first"]);
    plant.stands("first", Standing::OnItsWay);
    assert_eq!(plant.orders(), [] as [&str; 0]);
    plant.stands("first", Standing::Up(plant.now));
    assert_eq!(plant.orders(), ["start second"]);
    plant.stands("second", Standing::Up(plant.now));
    assert_eq!(plant.orders(), [] as [&str; 0], "the gate is open");
    assert_eq!(plant.rollout.deadline(), Some(plant.now + GATE));
    plant.pass(5);
    assert_eq!(plant.orders(), ["succeed"]);
    assert!(plant.states().iter().all(|(_, state)| *state == StepState::Done));
}

#[test]
fn a_short_failure_within_the_gate_is_not_missed() {
    let mut plant = Plant::new(vec![step("start", "a", None, Some(1)), step("start", "b", None, Some(1))], GATE, true);
    plant.orders();
    assert_eq!(plant.orders(), ["start a", "start b"]);
    plant.stands("a", Standing::Up(plant.now));
    plant.stands("b", Standing::Up(plant.now));
    plant.orders();
    plant.pass(2);

    // It has been started again by the time anybody looks.
    plant.stands("a", Standing::Failed("panicked at x.rs:1".into()));
    plant.stands("a", Standing::Up(plant.now));

    assert_eq!(plant.orders(), ["give up: a: panicked at x.rs:1"]);
    assert_eq!(plant.orders(), [] as [&str; 0]);
}

#[test]
fn a_failure_after_the_gate_is_none_of_its_business() {
    let mut plant = Plant::new(vec![step("start", "a", None, Some(1)), step("start", "b", None, Some(1))], GATE, true);
    plant.orders();
    plant.orders();
    plant.stands("a", Standing::Up(plant.now));
    plant.stands("b", Standing::Waits("not here".into()));
    plant.orders();
    plant.pass(6);
    assert_eq!(plant.orders(), [] as [&str; 0], "one still waits for its image");
    plant.stands("a", Standing::Failed("panicked".into()));
    plant.stands("b", Standing::Up(plant.now));
    assert_eq!(plant.orders(), [] as [&str; 0]);
    plant.pass(5);
    assert_eq!(plant.orders(), ["succeed"]);
}

#[test]
fn without_a_way_back_everything_is_tried_and_the_failure_told_at_the_end() {
    let steps = || vec![step("start", "a", None, Some(1)), step("start", "b", None, Some(2))];
    for (health, can_go_back) in [(GATE, false), (Duration::ZERO, true)] {
        let mut plant = Plant::new(steps(), health, can_go_back);
        plant.orders();
        assert_eq!(plant.orders(), ["start a"]);
        plant.stands("a", Standing::Failed("no".into()));
        assert_eq!(plant.orders(), ["start b"]);
        plant.stands("b", Standing::Up(plant.now));
        plant.pass(5);
        assert_eq!(plant.orders(), ["give up: a: no"]);
        assert_eq!(plant.states(), [("a".into(), StepState::Failed), ("b".into(), StepState::Done)]);
    }
}

#[test]
fn what_hangs_in_its_start_does_not_keep_the_next_group_down_for_ever() {
    let mut plant = Plant::new(vec![step("start", "a", None, Some(1)), step("start", "b", None, Some(2))], GATE, true);
    plant.orders();
    assert_eq!(plant.orders(), ["start a"]);
    plant.stands("a", Standing::OnItsWay);
    assert_eq!(plant.orders(), [] as [&str; 0]);
    assert_eq!(plant.rollout.deadline(), Some(plant.now + PATIENCE));
    plant.now += PATIENCE;
    assert_eq!(plant.orders(), ["start b"]);
}

#[test]
fn a_retry_of_what_is_unchanged_is_not_judged() {
    let mut retry = step("start", "a", None, Some(1));
    retry.is_gated = false;
    let mut plant = Plant::new(vec![retry], GATE, true);
    plant.orders();
    plant.orders();
    plant.stands("a", Standing::Failed("still broken".into()));
    assert_eq!(plant.orders(), ["succeed"]);
}

#[test]
fn a_running_module_is_watched_with_its_new_desired_properties() {
    let mut plant = Plant::new(vec![step("twin", "a", None, None), step("twin", "b", None, None)], GATE, true);
    plant.stands("a", Standing::Up(plant.start));
    plant.pass(60);
    assert_eq!(plant.orders(), ["set"]);
    assert_eq!(plant.orders(), [] as [&str; 0]);
    plant.pass(1);
    plant.stands("a", Standing::Failed("panicked in on_desired".into()));
    assert_eq!(plant.orders(), ["give up: a: panicked in on_desired"]);
}

#[test]
fn at_a_start_the_gate_begins_anew_and_what_was_set_stays_set() {
    let mut steps = vec![step("start", "a", None, Some(1)), step("twin", "a", None, None)];
    steps[0].state = StepState::Done;
    steps[1].state = StepState::Done;
    let stored = serde_json::to_string(&steps).unwrap();
    let steps: Vec<StepRecord> = serde_json::from_str(&stored).unwrap();
    let mut plant = Plant::new(Vec::new(), GATE, true);
    plant.rollout = Rollout::at_start(steps, GATE, true);
    plant.stands("a", Standing::OnItsWay);

    assert_eq!(plant.orders(), [] as [&str; 0]);
    assert_eq!(plant.states(), [("a".into(), StepState::Running), ("a".into(), StepState::Done)]);
    plant.stands("a", Standing::Up(plant.now));
    plant.orders();
    plant.pass(5);
    assert_eq!(plant.orders(), ["succeed"]);
}

#[test]
fn a_superseding_rollout_goes_on_watching_what_was_not_found_good() {
    let mut former = Plant::new(vec![step("start", "a", None, Some(1)), step("start", "b", None, Some(1))], GATE, true);
    former.orders();
    former.orders();
    let mut plant = Plant::new(vec![step("restart", "b", Some(1), Some(1))], GATE, true);
    plant.rollout.take_over(4, &former.rollout, |_| true);

    let names: Vec<String> = plant.states().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["b", "a"]);
    plant.stands("b", Standing::Up(plant.start));
    plant.stands("a", Standing::Failed("panicked".into()));
    assert_eq!(plant.orders(), ["give up: a: panicked"]);
}

#[test]
fn what_somebody_starts_while_it_is_to_go_down_is_stopped_again() {
    let steps = vec![step("restart", "a", Some(1), Some(1)), step("remove", "b", Some(1), None)];
    let mut plant = Plant::new(steps, GATE, true);
    plant.stands("a", Standing::Up(plant.start));
    plant.stands("b", Standing::Up(plant.start));
    assert_eq!(plant.orders(), ["stop a", "remove b"]);
    plant.stands("a", Standing::OnItsWay);
    plant.stands("b", Standing::Absent);
    assert_eq!(plant.orders(), [] as [&str; 0]);

    plant.stands("a", Standing::Up(plant.now));

    assert_eq!(plant.orders(), ["stop a"]);
    plant.stands("a", Standing::Still("stopped".into()));
    assert_eq!(plant.orders(), ["set"]);
}

#[test]
fn what_had_failed_before_is_judged_by_its_start_alone() {
    let mut plant = Plant::new(vec![step("start", "a", None, Some(1))], GATE, true);
    let failed = Standing::Failed("the old reason".into());
    plant.stands("a", failed.clone());
    assert_eq!(plant.orders(), ["set"]);
    let orders = plant.rollout.advance(|_| failed.clone(), plant.now);
    assert_eq!(orders, [Order::Start(0)]);

    // While the order is carried out.
    plant.rollout.saw("a", &failed);
    plant.rollout.was_started(0);
    plant.stands("a", Standing::OnItsWay);
    assert_eq!(plant.orders(), [] as [&str; 0]);
    plant.stands("a", Standing::Up(plant.now));
    plant.orders();
    plant.pass(5);

    assert_eq!(plant.orders(), ["succeed"]);
}

#[test]
fn what_has_not_answered_to_its_desired_properties_keeps_the_gate_open_but_not_for_ever() {
    let twin = || Plant::new(vec![step("twin", "a", None, None)], GATE, true);
    let begun = || {
        let mut plant = twin();
        plant.stands("a", Standing::Up(plant.start));
        assert_eq!(plant.orders(), ["set"]);
        plant.stands("a", Standing::Answering(plant.start));
        plant.pass(6);
        assert_eq!(plant.orders(), [] as [&str; 0]);
        assert_eq!(plant.rollout.deadline(), Some(plant.start + PATIENCE));
        plant
    };

    let mut refusing = begun();
    refusing.stands("a", Standing::Failed("it refuses".into()));
    assert_eq!(refusing.orders(), ["give up: a: it refuses"]);

    let mut answering = begun();
    answering.stands("a", Standing::Up(answering.start));
    assert_eq!(answering.orders(), ["succeed"]);

    let mut silent = begun();
    silent.pass(24);
    assert_eq!(silent.orders(), ["succeed"]);
}
