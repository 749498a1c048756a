//! What a worker promises its module and those who talk to it, with a real worker.

use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dinrail_plugin::abi::*;

use super::link::Control;
use super::lock;
use super::testing::*;
use super::worker::Ending;

fn body(message: &DrMessage) -> u64 {
    // SAFETY: the message is borrowed for the call.
    let bytes = unsafe { DrText { ptr: message.body, len: message.body_len }.bytes() };
    u64::from_le_bytes(bytes.try_into().unwrap())
}

#[test]
fn a_message_reaches_the_handler() {
    let house = House::new();
    let (say, heard) = channel();
    let live = house.start(Script {
        message: Some(Box::new(move |_, _, message| {
            say.send(body(message)).unwrap();
            ACCEPT
        })),
        ..Script::default()
    });
    house.send(&live.name, &7u64.to_le_bytes()).unwrap();
    assert_eq!(heard.recv(), Ok(7));
    assert_eq!(live.stop(), Ending::Stopped);
}

#[test]
fn a_stop_is_not_held_up_by_the_messages_that_wait() {
    let house = House::new();
    let (begin, begun) = channel();
    let (go, gone) = channel();
    let gone = Mutex::new(gone);
    let count = Arc::new(AtomicU64::new(0));
    let counted = count.clone();
    let live = house.start(Script {
        message: Some(Box::new(move |_, _, _| {
            if counted.fetch_add(1, Ordering::SeqCst) == 0 {
                begin.send(()).unwrap();
                lock(&gone).recv().unwrap();
            }
            ACCEPT
        })),
        ..Script::default()
    });
    for n in 0..50u64 {
        house.send(&live.name, &n.to_le_bytes()).unwrap();
    }
    begun.recv().unwrap();
    live.link.tell(Control::Stop);
    go.send(()).unwrap();
    assert_eq!(live.ended(), Ending::Stopped);
    assert_eq!(count.load(Ordering::SeqCst), 1, "handled after it was asked to stop");
    assert_eq!(house.services.ingest.waiting(&live.name).0, 49);
}

#[test]
fn a_module_without_a_message_handler_sleeps_while_messages_wait_for_it() {
    let house = House::new();
    let live = house.start(Script { is_deaf: true, ..Script::default() });
    house.send(&live.name, &[0; 8]).unwrap();
    let turned = || super::usage::cpu_seconds(live.link.thread.load(Ordering::Relaxed));
    if let Some(before) = turned() {
        let since = Instant::now();
        wait_until("100 ms", || since.elapsed() > Duration::from_millis(100));
        assert!(turned().unwrap() - before < 0.02, "it spins");
    }
    assert_eq!(live.stop(), Ending::Stopped);
    assert_eq!(house.services.ingest.waiting(&live.name).0, 1);
}

#[test]
fn handlers_that_post_again_hold_up_neither_messages_nor_timers() {
    let house = House::new();
    let (ticked, told) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (tick, tell) = (ticked.clone(), told.clone());
    let live = house.start(Script {
        // SAFETY: the table is the runtime's.
        event: Some(Box::new(|me, value| unsafe { (me.host.post)(me.ticket, value) })),
        timer: Some(Box::new(move |_, _| {
            tick.store(true, Ordering::SeqCst);
            DR_OK
        })),
        message: Some(Box::new(move |_, _, _| {
            tell.store(true, Ordering::SeqCst);
            ACCEPT
        })),
        ..Script::default()
    });
    for value in 0..100 {
        live.link.tell(Control::Event(value));
    }
    let timer = Control::TimerStart { id: 1, first: Duration::from_millis(1), period: Duration::ZERO };
    live.link.tell(timer);
    house.send(&live.name, &[0; 8]).unwrap();
    wait_until("a tick and a message", || ticked.load(Ordering::SeqCst) && told.load(Ordering::SeqCst));
    assert_eq!(live.stop(), Ending::Stopped);
}

#[test]
fn slow_message_handlers_do_not_keep_a_timer_waiting_for_a_whole_batch() {
    let house = House::new();
    let (count, ticks) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (counted, ticking) = (count.clone(), ticks.clone());
    let live = house.start(Script {
        message: Some(Box::new(move |_, _, _| {
            let since = Instant::now();
            while since.elapsed() < Duration::from_millis(5) {
                std::hint::spin_loop();
            }
            counted.fetch_add(1, Ordering::SeqCst);
            ACCEPT
        })),
        timer: Some(Box::new(move |_, _| {
            ticking.fetch_add(1, Ordering::SeqCst);
            DR_OK
        })),
        ..Script::default()
    });
    let period = Duration::from_millis(1);
    live.link.tell(Control::TimerStart { id: 1, first: period, period });
    wait_until("the timer runs", || ticks.load(Ordering::SeqCst) > 0);
    for n in 0..60u64 {
        house.send(&live.name, &n.to_le_bytes()).unwrap();
    }
    wait_until("all are handled", || count.load(Ordering::SeqCst) == 60);
    assert!(ticks.load(Ordering::SeqCst) > 30, "{ticks:?} ticks in 300 ms of messages");
    assert_eq!(live.stop(), Ending::Stopped);
}

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
