//! Completions: nobody waits for one but its own module.

use std::ffi::c_void;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use dinrail_plugin::abi::*;

use super::super::link::Control;
use super::super::lock;
use super::super::testing::*;
use super::super::worker::Ending;

/// A completion that tells `begun`, and returns once `go` says so or is gone.
fn waiting_completion(begun: Sender<DrStatus>, go: Receiver<()>) -> DrCompletion {
    unsafe extern "C" fn done(ctx: *mut c_void, status: DrStatus, _: DrText) {
        // SAFETY: the box made below, called once.
        let (begun, go) = *unsafe { Box::from_raw(ctx.cast::<(Sender<DrStatus>, Receiver<()>)>()) };
        begun.send(status).unwrap();
        let _ = go.recv();
    }
    DrCompletion { ctx: Box::into_raw(Box::new((begun, go))).cast(), done }
}

/// An instance that sends a durable message at each event, with a completion of [`waiting_completion`].
fn sender_of_waiting_completions(house: &House) -> (Live, Receiver<DrStatus>, Sender<()>) {
    let (begin, begun) = channel();
    let (go, gone) = channel();
    let parts = Mutex::new(Some((begin, gone)));
    let live = house.start(Script {
        event: Some(Box::new(move |me, _| {
            let (begin, gone) = lock(&parts).take().unwrap();
            let completion = waiting_completion(begin, gone);
            assert_eq!(me.send(DR_NO_DELIVERY, "out", b"x", &completion), DR_PENDING);
            DR_OK
        })),
        ..Script::default()
    });
    (live, begun, go)
}

#[test]
fn a_completion_that_waits_does_not_hold_up_the_store() {
    let house = House::new();
    house.route(|_| vec![upstream()]);
    let (live, begun, go) = sender_of_waiting_completions(&house);
    live.link.tell(Control::Event(1));
    assert_eq!(begun.recv(), Ok(DR_OK));

    house.database.flush().unwrap();
    assert_eq!(house.rows().len(), 1);

    drop(go);
    assert_eq!(live.stop(), Ending::Stopped);
}

#[test]
fn a_completion_that_does_not_return_holds_up_no_other_module_for_long() {
    let house = House::new();
    house.route(|_| vec![upstream()]);
    let (bad, bad_begun, bad_go) = sender_of_waiting_completions(&house);
    let (good, good_begun, good_go) = sender_of_waiting_completions(&house);
    drop(good_go);
    bad.link.tell(Control::Event(1));
    assert_eq!(bad_begun.recv(), Ok(DR_OK));
    good.link.tell(Control::Event(1));

    wait_until("the other is told", || {
        house.services.completions.watch();
        good_begun.try_recv() == Ok(DR_OK)
    });

    drop(bad_go);
    assert_eq!((bad.stop(), good.stop()), (Ending::Stopped, Ending::Stopped));
}
