use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::instance::state::{RestartPacing, Settings};
use crate::view::Status;

const SECOND: Duration = Duration::from_secs(1);
const MIDDLE: u32 = u32::MAX / 2;

fn settings() -> Settings {
    Settings {
        wanted: true,
        policy: RestartPolicy::OnUnhealthy,
        pacing: RestartPacing::default(),
        stop_grace: 10 * SECOND,
    }
}

/// An instance and the time, driven by hand.
struct Life {
    it: Instance,
    moment: Moment,
    actions: Vec<Action>,
}

impl Life {
    fn new(settings: Settings) -> Life {
        let moment = Moment { now: crate::clock::now(), wall_us: 0, random: MIDDLE };
        Life { it: Instance::new("pump", settings, None, 0), moment, actions: Vec::new() }
    }

    fn running(settings: Settings) -> Life {
        let mut life = Life::new(settings);
        life.input(Input::ImageChosen { digest: "a".into() });
        life.worker(WorkerEvent::Started);
        life
    }

    fn input(&mut self, input: Input) -> &State {
        (self.it, self.actions) = next(&self.it, input, self.moment);
        &self.it.state
    }

    fn worker(&mut self, event: WorkerEvent) -> &State {
        self.input(Input::Worker(self.it.worker, event))
    }

    fn crash(&mut self) -> &State {
        self.worker(WorkerEvent::Exited { reason: "panicked".into(), clean: false })
    }

    fn after(&mut self, span: Duration) -> &State {
        self.moment.now += span;
        self.input(Input::Tick)
    }

    fn spawned(&self) -> Option<&str> {
        self.actions.iter().find_map(|action| match action {
            Action::Spawn { digest, .. } => Some(digest.as_str()),
            _ => None,
        })
    }
}

fn person() -> By {
    By::Person("ada".into())
}

#[test]
fn an_instance_starts_when_its_image_is_there() {
    let mut life = Life::new(settings());
    assert_eq!(life.it.status(), Status::Waiting);

    life.input(Input::ImageChosen { digest: "a".into() });
    assert_eq!((life.it.status(), life.spawned()), (Status::Starting, Some("a")));

    life.worker(WorkerEvent::Started);
    assert_eq!(life.it.status(), Status::Running);
}

#[test]
fn a_disabled_identity_stops_its_instance_until_it_is_enabled() {
    let mut life = Life::running(settings());
    life.input(Input::Disabled { reason: "its identity is disabled (stolen)".into() });
    assert!(matches!(life.it.state, State::Stopping { then: Then::Stay, .. }));

    life.worker(WorkerEvent::Exited { reason: "stopped".into(), clean: true });
    assert_eq!(life.it.status(), Status::Stopped);
    assert!(life.it.reason(life.moment.now).starts_with("its identity is disabled (stolen)"));
    assert_eq!(life.it.next_step().unwrap(), "dinrail identity enable pump");

    for by in [By::Runtime, By::Deployment, person()] {
        life.input(Input::StartRequested { by });
        assert_eq!((life.it.status(), life.spawned()), (Status::Stopped, None));
    }
    life.input(Input::ImageChosen { digest: "b".into() });
    assert_eq!((life.it.status(), life.spawned()), (Status::Stopped, None));

    life.input(Input::Enabled);
    assert_eq!((life.it.status(), life.spawned()), (Status::Starting, Some("b")));
}

#[test]
fn enabling_an_identity_does_not_undo_a_persons_stop() {
    let mut life = Life::running(settings());
    life.input(Input::StopRequested { by: person() });
    life.worker(WorkerEvent::Exited { reason: "stopped".into(), clean: true });
    life.input(Input::Disabled { reason: "off".into() });
    assert!(life.it.reason(life.moment.now).starts_with("stopped by ada"));

    life.input(Input::Enabled);

    assert_eq!((life.it.status(), life.spawned()), (Status::Stopped, None));
}

#[test]
fn enabling_an_identity_while_its_instance_stops_starts_it_again() {
    let mut life = Life::running(settings());
    life.input(Input::Disabled { reason: "off".into() });
    life.input(Input::Enabled);
    life.worker(WorkerEvent::Exited { reason: "stopped".into(), clean: true });
    assert_eq!(life.it.status(), Status::Starting);
}

#[test]
fn failures_are_paced_up_to_the_cap_and_end_when_the_budget_is_spent() {
    let mut life = Life::running(settings());
    let mut delays = Vec::new();
    loop {
        match life.crash() {
            State::Backoff { until, .. } => delays.push((*until - life.moment.now).as_secs_f64().round() as u64),
            state => {
                assert!(matches!(state, State::Failed { abandoned: None, .. }), "{state:?}");
                break;
            }
        }
        life.after(300 * SECOND);
        assert_eq!(life.spawned(), Some("a"));
    }
    assert_eq!(delays[..7], [10, 20, 40, 80, 160, 300, 300]);
    assert_eq!(delays.len(), 20);

    life.after(100_000 * SECOND);
    assert_eq!(life.it.status(), Status::Failed);
}

#[test]
fn ten_minutes_of_running_clear_the_count() {
    let mut life = Life::running(settings());
    life.crash();
    life.after(10 * SECOND);
    life.worker(WorkerEvent::Started);
    assert_eq!(life.it.failures, 1);

    life.after(599 * SECOND);
    assert_eq!(life.it.failures, 1);
    life.after(SECOND);
    assert_eq!((life.it.failures, deadline(&life.it)), (0, None));
}

#[test]
fn the_policy_says_after_which_end_it_starts_again() {
    for (policy, after_failure, after_end) in [
        (RestartPolicy::Never, Status::Failed, Status::Stopped),
        (RestartPolicy::OnFailure, Status::Backoff, Status::Stopped),
        (RestartPolicy::OnUnhealthy, Status::Backoff, Status::Stopped),
        (RestartPolicy::Always, Status::Backoff, Status::Backoff),
    ] {
        let mut life = Life::running(Settings { policy, ..settings() });
        life.crash();
        assert_eq!(life.it.status(), after_failure, "{policy}");

        let mut life = Life::running(Settings { policy, ..settings() });
        life.worker(WorkerEvent::Exited { reason: "done".into(), clean: true });
        assert_eq!(life.it.status(), after_end, "{policy}");
    }
}

#[test]
fn failed_is_left_by_a_person_a_deployment_or_a_new_image_only() {
    let spent = || {
        let mut life = Life::running(Settings { policy: RestartPolicy::Never, ..settings() });
        life.crash();
        life
    };
    for (input, status) in [
        (Input::Tick, Status::Failed),
        (Input::ImageChosen { digest: "a".into() }, Status::Failed),
        (Input::ImageMissing { reason: "gone".into() }, Status::Failed),
        (Input::ImageChosen { digest: "b".into() }, Status::Starting),
        (Input::StartRequested { by: person() }, Status::Starting),
        (Input::StartRequested { by: By::Deployment }, Status::Starting),
        (Input::RestartRequested { by: person() }, Status::Starting),
    ] {
        let mut life = spent();
        life.input(input.clone());
        assert_eq!(life.it.status(), status, "{input:?}");
    }
}

#[test]
fn a_stop_by_a_person_holds_until_a_person_starts_it() {
    let mut life = Life::running(settings());
    life.input(Input::StopRequested { by: person() });
    assert!(life.actions.iter().any(|action| matches!(action, Action::KeepHold(Some(hold)) if hold.by == "ada")));
    life.worker(WorkerEvent::Exited { reason: String::new(), clean: true });
    assert!(life.it.reason(life.moment.now).starts_with("stopped by ada"));

    for input in [
        Input::StartRequested { by: By::Deployment },
        Input::RestartRequested { by: By::Deployment },
        Input::ImageChosen { digest: "b".into() },
        Input::StopRequested { by: By::Runtime },
        Input::Tick,
    ] {
        life.input(input.clone());
        assert_eq!(life.it.status(), Status::Stopped, "{input:?}");
    }
    let rebooted = Instance::new("pump", settings(), life.it.hold.clone(), 0);
    assert_eq!(rebooted.status(), Status::Stopped);

    life.input(Input::StartRequested { by: person() });
    assert_eq!(life.spawned(), Some("b"));
    assert!(life.actions.contains(&Action::KeepHold(None)));
}

#[test]
fn a_worker_that_never_returns_is_abandoned_and_its_name_stays_down() {
    let mut life = Life::running(settings());
    life.input(Input::RestartRequested { by: person() });
    life.after(9 * SECOND);
    assert_eq!(life.it.status(), Status::Stopping);
    life.after(SECOND);
    assert!(life.it.is_abandoned());
    assert!(life.actions.iter().any(|action| matches!(action, Action::Abandon { worker: 1, .. })));

    for input in [
        Input::StartRequested { by: person() },
        Input::RestartRequested { by: By::Deployment },
        Input::ImageChosen { digest: "b".into() },
        Input::Worker(1, WorkerEvent::Started),
        Input::StopRequested { by: person() },
    ] {
        life.input(input.clone());
        assert!(life.it.is_abandoned() && life.spawned().is_none(), "{input:?}");
    }
    life.worker(WorkerEvent::Exited { reason: String::new(), clean: true });
    life.input(Input::StartRequested { by: person() });
    assert_eq!(life.spawned(), Some("b"));
}

#[test]
fn another_image_stops_the_old_worker_before_the_new_one_starts() {
    let mut life = Life::running(settings());
    life.input(Input::ImageChosen { digest: "b".into() });
    assert_eq!((life.it.status(), life.spawned()), (Status::Stopping, None));

    life.worker(WorkerEvent::Exited { reason: String::new(), clean: true });
    assert_eq!(life.spawned(), Some("b"));
}

#[test]
fn the_same_image_again_disturbs_nothing() {
    let mut life = Life::running(settings());
    life.input(Input::ImageChosen { digest: "a".into() });
    assert_eq!((life.it.status(), life.actions.len()), (Status::Running, 0));
}

#[test]
fn what_runs_outlives_the_loss_of_its_image() {
    let mut life = Life::running(settings());
    life.input(Input::ImageMissing { reason: "deleted".into() });
    life.input(Input::ImageQuarantined { reason: "rotten".into() });
    assert_eq!(life.it.status(), Status::Running);
}

#[test]
fn a_silent_worker_is_unhealthy_then_stopped_then_restarted() {
    let mut life = Life::running(settings());
    life.worker(WorkerEvent::Unresponsive { reason: "in on_message for 5 s".into() });
    assert_eq!(life.it.status(), Status::Unhealthy);
    life.after(10 * SECOND);
    assert_eq!(life.it.status(), Status::Stopping);
    life.worker(WorkerEvent::Exited { reason: String::new(), clean: true });
    assert!(matches!(&life.it.state, State::Backoff { reason, .. } if reason == "in on_message for 5 s"));
}

#[test]
fn a_silent_worker_that_answers_in_time_runs_on() {
    let mut life = Life::running(settings());
    let before = life.it.state.clone();
    life.worker(WorkerEvent::Unresponsive { reason: "slow".into() });
    life.after(9 * SECOND);
    life.worker(WorkerEvent::Responsive);
    assert_eq!(life.it.state, before);

    let mut life = Life::running(Settings { policy: RestartPolicy::OnFailure, ..settings() });
    life.worker(WorkerEvent::Unresponsive { reason: "slow".into() });
    assert_eq!(deadline(&life.it), None);
}

#[test]
fn a_start_during_a_stop_follows_it() {
    let mut life = Life::running(settings());
    life.input(Input::StopRequested { by: person() });
    life.input(Input::StartRequested { by: person() });
    assert_eq!((life.it.status(), life.spawned()), (Status::Stopping, None));
    life.worker(WorkerEvent::Exited { reason: String::new(), clean: true });
    assert_eq!(life.spawned(), Some("a"));
}

#[test]
fn an_instance_that_is_removed_goes_when_its_worker_is_gone() {
    let mut life = Life::running(settings());
    life.input(Input::RemoveRequested);
    life.input(Input::StartRequested { by: person() });
    life.worker(WorkerEvent::Exited { reason: String::new(), clean: false });
    assert_eq!((&life.it.state, life.actions.contains(&Action::Forget)), (&State::Removed, true));
}

#[test]
fn a_quarantined_image_is_looked_at_again_on_start() {
    let mut life = Life::new(settings());
    life.input(Input::ImageQuarantined { reason: "wrong architecture".into() });
    assert_eq!(life.it.status(), Status::Quarantined);
    life.input(Input::StartRequested { by: person() });
    assert_eq!((life.it.status(), &life.actions[..]), (Status::Waiting, &[Action::ChooseImage][..]));
}

#[test]
fn an_image_that_cannot_be_loaded_gives_way_to_one_that_can() {
    let mut life = Life::running(settings());
    life.input(Input::ImageChosen { digest: "b".into() });
    life.worker(WorkerEvent::Exited { reason: String::new(), clean: true });
    assert_eq!(life.spawned(), Some("b"));

    life.worker(WorkerEvent::NotLoaded { reason: "undefined symbol".into() });
    assert_eq!(life.it.status(), Status::Quarantined);
    assert!(life.actions.contains(&Action::ChooseImage));

    life.input(Input::ImageChosen { digest: "a".into() });
    assert_eq!((life.it.status(), life.spawned()), (Status::Starting, Some("a")));
}

#[test]
fn jitter_stays_within_its_share_and_under_the_cap() {
    let pacing = RestartPacing::default();
    assert_eq!(pacing.delay(1, 0), Duration::from_secs(8));
    assert_eq!(pacing.delay(1, u32::MAX), Duration::from_secs(12));
    assert_eq!(pacing.delay(9, 0), Duration::from_secs(240));
    assert_eq!(pacing.delay(u32::MAX, u32::MAX), Duration::from_secs(300));
}

fn any_input() -> impl Strategy<Value = (Input, u64)> {
    let by = prop_oneof![Just(By::Person("ada".into())), Just(By::Deployment), Just(By::Runtime)];
    let event = prop_oneof![
        3 => Just(WorkerEvent::Started),
        1 => Just(WorkerEvent::StartFailed { reason: "s".into() }),
        1 => Just(WorkerEvent::NotLoaded { reason: "n".into() }),
        3 => any::<bool>().prop_map(|clean| WorkerEvent::Exited { reason: "e".into(), clean }),
        1 => Just(WorkerEvent::Unresponsive { reason: "u".into() }),
        1 => Just(WorkerEvent::Responsive),
    ];
    let input = prop_oneof![
        3 => "[abc]".prop_map(|digest| Input::ImageChosen { digest }),
        1 => Just(Input::ImageMissing { reason: "m".into() }),
        1 => Just(Input::ImageQuarantined { reason: "q".into() }),
        2 => by.clone().prop_map(|by| Input::StartRequested { by }),
        2 => by.clone().prop_map(|by| Input::StopRequested { by }),
        1 => by.prop_map(|by| Input::RestartRequested { by }),
        // Most of what workers say comes from the newest: 0 stands for it, others are old numbers.
        12 => (prop_oneof![6 => Just(0u64), 1 => 1u64..6], event).prop_map(|(worker, event)| Input::Worker(worker, event)),
        4 => Just(Input::Tick),
        1 => Just(Input::Disabled { reason: "d".into() }),
        1 => Just(Input::Enabled),
    ];
    let input = prop_oneof![60 => input, 1 => Just(Input::RemoveRequested)];
    (input, prop_oneof![Just(0u64), 0u64..15, 0u64..700])
}

proptest! {
    #[test]
    fn whatever_happens_the_invariants_hold(
        inputs in prop::collection::vec(any_input(), 1..120),
        policy in prop::sample::select(RestartPolicy::WORDS.iter().map(|(_, policy)| *policy).collect::<Vec<_>>()),
        max_starts in 0u32..4,
    ) {
        let pacing = RestartPacing { max_starts, ..RestartPacing::default() };
        let mut life = Life::new(Settings { policy, pacing, ..settings() });
        let mut alive: Option<WorkerId> = None;
        for (input, seconds) in inputs {
            life.moment.now += Duration::from_secs(seconds);
            let input = match input {
                Input::Worker(0, event) => Input::Worker(life.it.worker, event),
                other => other,
            };
            // A worker that is gone says nothing more, unless it was abandoned.
            let is_gone = |event: &WorkerEvent| {
                use WorkerEvent::{Exited, NotLoaded, StartFailed};
                matches!(event, Exited { .. } | StartFailed { .. } | NotLoaded { .. })
            };
            if let Input::Worker(worker, event) = &input
                && is_gone(event)
                && alive == Some(*worker)
            {
                alive = None;
            }
            let before = life.it.clone();
            life.input(input.clone());

            for action in &life.actions {
                match action {
                    Action::Spawn { worker, digest } => {
                        prop_assert_eq!(alive, None, "a second worker after {:?}", input);
                        prop_assert!(life.it.hold.is_none(), "started although held");
                        prop_assert!(life.it.disabled.is_none(), "started although disabled");
                        prop_assert_eq!(Some(digest), life.it.digest.as_ref());
                        alive = Some(*worker);
                    }
                    Action::AskStop { worker, .. } => prop_assert_eq!(alive, Some(*worker)),
                    Action::Abandon { worker, .. } => {
                        prop_assert_eq!(alive.take(), Some(*worker));
                    }
                    _ => {}
                }
            }
            prop_assert_eq!(life.it.live_worker(), alive, "after {:?} from {:?}", input, before.state);
            if before.state == State::Removed {
                prop_assert_eq!(&life.it, &before);
            }
            if let State::Failed { abandoned, .. } = &before.state {
                let allowed = matches!(
                    input,
                    Input::StartRequested { .. } | Input::RestartRequested { .. } | Input::StopRequested { .. }
                        | Input::ImageChosen { .. } | Input::RemoveRequested | Input::Disabled { .. }
                );
                prop_assert!(allowed || matches!(life.it.state, State::Failed { .. }), "{:?}", input);
                prop_assert!(abandoned.is_none() || life.spawned().is_none());
            }
            prop_assert!(life.it.failures <= max_starts);
            // A due tick always gets somewhere: a loop that waits for the deadline cannot spin.
            if let Some(due) = deadline(&life.it) {
                let later = Moment { now: due.max(life.moment.now), ..life.moment };
                let (after, _) = next(&life.it, Input::Tick, later);
                prop_assert!(deadline(&after).is_none_or(|next| next > later.now), "{:?}", after.state);
            }
        }
    }

    #[test]
    fn delays_grow_until_the_cap(first in 0u64..100, cap in 0u64..1_000, failures in 1u32..100, random: u32) {
        let pacing = RestartPacing {
            first_delay: Duration::from_secs(first),
            max_delay: Duration::from_secs(cap),
            ..RestartPacing::default()
        };
        prop_assert!(pacing.delay(failures, random) <= pacing.delay(failures + 1, random));
        prop_assert!(pacing.delay(failures, random) <= pacing.max_delay);
    }
}
