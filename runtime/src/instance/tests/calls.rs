//! What an instance is told: calls are answered, changes arrive, and what waits is bounded.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dinrail_plugin::abi::*;

use super::super::link::Control;
use super::super::lock;
use super::super::testing::*;
use super::super::worker::Ending;
use super::*;
use crate::method::{Call, CallError, MethodAnswer, MethodRequest};
use crate::twin::Change;

fn request(house: &House, timeout: Duration) -> (MethodRequest, Receiver<Result<MethodAnswer, CallError>>) {
    let (say, heard) = channel();
    let (caller, target, name) = ("ada".to_owned(), "/devices/d/modules/m".to_owned(), "ping".to_owned());
    let call = Call { caller, target, name, payload: String::new(), timeout };
    (house.services.calls.begin(call, Box::new(move |end| say.send(end).unwrap())).unwrap(), heard)
}

const LONG: Duration = Duration::from_secs(3600);

#[test]
fn a_call_of_an_instance_that_does_not_answer_ends_by_its_deadline_and_is_not_begun_later() {
    let house = House::new();
    let called = Arc::new(AtomicBool::new(false));
    let call = called.clone();
    let method = move |_, _: &str| {
        call.store(true, Ordering::SeqCst);
        DR_OK
    };
    let (live, go) = stuck(&house, Script { method: Some(Box::new(method)), ..Script::default() });
    let (request, heard) = request(&house, Duration::from_millis(20));
    live.link.tell(Control::Method(request));

    assert!(matches!(heard.recv().unwrap(), Err(CallError::Timeout { is_begun: false, .. })));
    drop(go);
    assert_eq!(live.stop(), Ending::Stopped);
    assert!(!called.load(Ordering::SeqCst));
}

#[test]
fn a_call_of_an_instance_that_has_stopped_is_answered() {
    let house = House::new();
    let live = house.start(Script::default());
    assert_eq!(live.stop(), Ending::Stopped);
    let (request, heard) = request(&house, LONG);

    assert!(!live.link.tell(Control::Method(request)));

    assert!(matches!(heard.recv().unwrap(), Err(CallError::NotConnected(_))));
}

#[test]
fn calls_that_wait_for_an_instance_that_is_given_up_are_answered() {
    let house = House::new();
    let (live, go) = stuck(&house, Script::default());
    let (waiting, heard) = request(&house, LONG);
    live.link.tell(Control::Method(waiting));
    live.link.tell(Control::Stop);
    live.link.tell(Control::Fail("too late".to_owned()));

    live.link.fence("given up");

    assert!(matches!(heard.recv().unwrap(), Err(CallError::NotConnected(_))));
    drop(go);
    assert_eq!(live.ended(), Ending::Stopped, "its stop still reaches it");
}

#[test]
fn what_waits_for_an_instance_that_never_returns_is_bounded() {
    let house = House::new();
    let (live, go) = stuck(&house, Script::default());
    let (twins, identity) = (&house.services.twins, live.link.identity.clone());
    for n in 0..300 {
        twins.change(&identity, &Change::patch_desired(&serde_json::json!({ "n": n }), "test"), |_| {}).unwrap();
        live.link.tell(Control::Fail("again".to_owned()));
    }
    house.database.flush().unwrap();
    // SAFETY: the table is the runtime's.
    let post = || unsafe { (super::super::host::table().post)(live.link.ticket.0, 1) };
    let posted = (0..10_000).filter(|_| post() == DR_OK).count();

    assert!(posted < 5000);
    assert!(live.link.told() < 5000);

    drop(go);
    assert_eq!(live.ended(), Ending::Failed("again".to_owned()));
}

#[test]
fn changes_that_were_left_out_are_made_up_for_by_the_whole_section() {
    let house = House::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let see = seen.clone();
    let desired = move |_, change: &DrDesired| {
        lock(&see).push((change.revision, change.flags & DR_DESIRED_WHOLE != 0));
        DR_OK
    };
    let (live, go) = stuck(&house, Script { desired: Some(Box::new(desired)), ..Script::default() });
    let (twins, identity) = (&house.services.twins, live.link.identity.clone());
    for n in 0..100 {
        twins.change(&identity, &Change::patch_desired(&serde_json::json!({ "n": n }), "test"), |_| {}).unwrap();
    }
    house.database.flush().unwrap();
    drop(go);
    wait_until("the last one is delivered", || lock(&seen).last().is_some_and(|(revision, _)| *revision == 101));
    let seen = lock(&seen).clone();
    assert!(seen.len() < 100);
    assert!(seen[0].1, "whole after the gap");
    assert!(seen[1..].windows(2).all(|pair| pair[1] == (pair[0].0 + 1, false)));
    assert_eq!(live.stop(), Ending::Stopped);
}

#[test]
fn the_change_after_a_refused_one_is_delivered_whole() {
    let house = House::new();
    let (say, heard) = channel();
    let live = house.start(Script {
        desired: Some(Box::new(move |_, change| {
            say.send((change.version, change.flags & DR_DESIRED_WHOLE != 0)).unwrap();
            if change.version == 2 { DR_REFUSED } else { DR_OK }
        })),
        ..Script::default()
    });
    let (twins, identity) = (&house.services.twins, live.link.identity.clone());
    for n in 0..3 {
        twins.change(&identity, &Change::patch_desired(&serde_json::json!({ "n": n }), "test"), |_| {}).unwrap();
    }
    let changes: Vec<_> = (0..3).map(|_| heard.recv().unwrap()).collect();
    assert_eq!(changes, [(2, false), (3, true), (4, false)]);
    assert_eq!(live.stop(), Ending::Stopped);
}
