//! What a worker promises its module and those who talk to it, with a real worker.

use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dinrail_plugin::abi::*;

use super::calls::{CallError, MethodAnswer};
use super::link::{Control, MethodRequest};
use super::lock;
use super::testing::*;
use super::worker::Ending;
use crate::queue::ingest::{Outgoing, OutgoingBody};

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
    let timer =
        Control::TimerStart { id: live.link.add_timer().unwrap(), first: Instant::now(), period: Duration::ZERO };
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
    let id = live.link.add_timer().unwrap();
    live.link.tell(Control::TimerStart { id, first: Instant::now(), period });
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

fn request(house: &House, timeout: Duration) -> (MethodRequest, Receiver<Result<MethodAnswer, CallError>>) {
    let (say, heard) = channel();
    let reply = house.services.calls.begin(timeout, Box::new(move |end| say.send(end).unwrap()));
    let (name, payload, caller) = ("ping".to_owned(), String::new(), String::new());
    (MethodRequest { name, payload, caller, timeout, reply }, heard)
}

const LONG: Duration = Duration::from_secs(3600);

/// An instance whose event handler does not return until it is let go.
fn stuck(house: &House, mut script: Script) -> (Live, Sender<()>) {
    let (begin, begun) = channel();
    let (go, gone) = channel();
    let gone = Mutex::new(gone);
    script.event = Some(Box::new(move |_, _| {
        begin.send(()).unwrap();
        let _ = lock(&gone).recv();
        DR_OK
    }));
    let live = house.start(script);
    live.link.tell(Control::Event(0));
    begun.recv().unwrap();
    (live, go)
}

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

    assert!(matches!(heard.recv().unwrap(), Err(CallError::Timeout(_))));
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

    assert!(matches!(heard.recv().unwrap(), Err(CallError::NotFound(_))));
}

#[test]
fn calls_that_wait_for_an_instance_that_is_given_up_are_answered() {
    let house = House::new();
    let (live, go) = stuck(&house, Script::default());
    let (waiting, heard) = request(&house, LONG);
    live.link.tell(Control::Method(waiting));
    live.link.tell(Control::Stop);
    live.link.tell(Control::Fail("too late".to_owned()));

    live.link.fence();

    assert!(matches!(heard.recv().unwrap(), Err(CallError::NotFound(_))));
    drop(go);
    assert_eq!(live.ended(), Ending::Stopped, "its stop still reaches it");
}

#[test]
fn what_waits_for_an_instance_that_never_returns_is_bounded() {
    let house = House::new();
    let (live, go) = stuck(&house, Script::default());
    let (twins, identity) = (&house.services.twins, live.link.identity.clone());
    for n in 0..300 {
        twins.patch_desired(&identity, &serde_json::json!({ "n": n }), "test", None, |_| {}).unwrap();
        live.link.tell(Control::Fail("again".to_owned()));
    }
    house.database.flush().unwrap();
    // SAFETY: the table is the runtime's.
    let post = || unsafe { (super::host::table().post)(live.link.ticket.0, 1) };
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
        twins.patch_desired(&identity, &serde_json::json!({ "n": n }), "test", None, |_| {}).unwrap();
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
fn a_delivery_that_is_ended_in_the_stop_handler_is_not_delivered_again() {
    let house = House::new();
    let open = Arc::new(Mutex::new(Vec::new()));
    let (opened, closing) = (open.clone(), open.clone());
    let ends = Arc::new(Mutex::new(Vec::new()));
    let ended = ends.clone();
    let live = house.start(Script {
        message: Some(Box::new(move |_, delivery, _| {
            lock(&opened).push(delivery);
            verdict(DR_DEFER)
        })),
        stop: Some(Box::new(move |me| {
            for delivery in lock(&closing)[..2].iter() {
                for _ in 0..2 {
                    // SAFETY: the table is the runtime's.
                    let end = unsafe { (me.host.complete)(me.ticket, *delivery, ACCEPT, DrText::ABSENT) };
                    lock(&ended).push(end);
                }
            }
        })),
        ..Script::default()
    });
    for n in 1..=3u64 {
        house.send(&live.name, &n.to_le_bytes()).unwrap();
    }
    wait_until("all are deferred", || lock(&open).len() == 3);
    assert_eq!(live.stop(), Ending::Stopped);
    assert_eq!(*lock(&ends), [DR_OK, DR_GONE, DR_OK, DR_GONE], "each delivery ends once");

    let (say, heard) = channel();
    let next = house.start_as(
        &live.name,
        Script {
            message: Some(Box::new(move |_, _, message| {
                say.send((body(message), message.attempt)).unwrap();
                ACCEPT
            })),
            ..Script::default()
        },
    );
    assert_eq!(heard.recv(), Ok((3, 2)));
    assert_eq!(next.stop(), Ending::Stopped);
    assert_eq!(heard.try_iter().count(), 0);
}

#[test]
fn a_timer_that_was_stopped_does_not_fire_and_cannot_be_stopped_twice() {
    let house = House::new();
    let fired = Arc::new(AtomicBool::new(false));
    let fire = fired.clone();
    let (say, heard) = channel();
    let live = house.start(Script {
        event: Some(Box::new(move |me, value| {
            // SAFETY: the table is the runtime's.
            unsafe {
                if value == 0 {
                    let mut timer = 0;
                    assert_eq!((me.host.timer_start)(me.ticket, 0, 1, &mut timer), DR_OK);
                    // More is told before the stop than is heard in one go.
                    (0..200).for_each(|_| assert_eq!((me.host.post)(me.ticket, 1), DR_OK));
                    let stop = || (me.host.timer_stop)(me.ticket, timer);
                    say.send([stop(), stop()]).unwrap();
                }
                let mut all = Vec::new();
                let mut timer = 0;
                while value == 2 && (me.host.timer_start)(me.ticket, 3_600_000, 0, &mut timer) == DR_OK {
                    all.push(timer);
                }
                if value == 2 {
                    say.send([all.len() as u32, 0]).unwrap();
                }
            }
            DR_OK
        })),
        timer: Some(Box::new(move |_, _| {
            fire.store(true, Ordering::SeqCst);
            DR_OK
        })),
        ..Script::default()
    });
    live.link.tell(Control::Event(0));
    assert_eq!(heard.recv(), Ok([DR_OK, DR_GONE]));
    live.link.tell(Control::Event(2));
    assert_eq!(heard.recv(), Ok([1024, 0]), "timers are bounded");
    assert_eq!(live.stop(), Ending::Stopped);
    assert!(!fired.load(Ordering::SeqCst));
}

#[test]
fn what_a_handler_stages_is_bounded_and_ends_with_its_delivery() {
    let house = House::new();
    house.route(|_| vec![upstream()]);
    let (say, heard) = channel();
    let live = house.start(Script {
        message: Some(Box::new(move |me, delivery, message| {
            let send = || me.send(delivery, "out", &[0; 1 << 16], std::ptr::null());
            if body(message) == 0 {
                let staged = (0..1000).take_while(|_| send() == DR_OK).count();
                say.send((staged as u64, send())).unwrap();
                // SAFETY: the table is the runtime's.
                let end = unsafe { (me.host.complete)(me.ticket, delivery, ACCEPT, DrText::ABSENT) };
                assert_eq!(end, DR_OK);
                say.send((0, send())).unwrap();
                return verdict(DR_PARK);
            }
            say.send((delivery, me.send(delivery - 1, "out", b"x", std::ptr::null()))).unwrap();
            ACCEPT
        })),
        ..Script::default()
    });
    for n in 0..2u64 {
        house.send(&live.name, &n.to_le_bytes()).unwrap();
    }
    let (staged, refusal) = heard.recv().unwrap();
    assert!((100..500).contains(&staged), "{staged} messages of 64 KiB");
    assert_eq!(refusal, DR_FULL);
    assert_eq!(heard.recv(), Ok((0, DR_GONE)), "its end was given");
    assert_eq!(heard.recv(), Ok((2, DR_GONE)), "its handler has returned");
    assert_eq!(live.stop(), Ending::Stopped);
    assert_eq!(house.rows().len(), 0);
}

#[test]
fn a_message_that_was_retried_often_is_not_parked_at_its_first_fault() {
    let house = House::new();
    let (say, heard) = channel();
    let live = house.start(Script {
        message: Some(Box::new(move |_, _, message| {
            say.send(message.attempt).unwrap();
            match message.attempt {
                1..=6 => verdict(DR_RETRY),
                7 => verdict(DR_FAULT),
                // No verdict of this version: a fault.
                8 => verdict(77),
                _ => ACCEPT,
            }
        })),
        ..Script::default()
    });
    house.send(&live.name, &[0; 8]).unwrap();
    for attempt in 1..=9 {
        assert_eq!(heard.recv(), Ok(attempt));
    }
    assert_eq!(live.stop(), Ending::Stopped);
    house.database.flush().unwrap();
    assert_eq!(house.services.disk.stored(), (0, 0, 0));
}

#[test]
fn a_message_that_faults_again_and_again_is_parked_and_counted_whether_deferred_or_not() {
    let house = House::new();
    let count = Arc::new(AtomicU64::new(0));
    let counted = count.clone();
    let live = house.start(Script {
        message: Some(Box::new(move |me, delivery, message| {
            counted.fetch_add(1, Ordering::SeqCst);
            if body(message) == 1 {
                return verdict(DR_FAULT);
            }
            // SAFETY: the table is the runtime's.
            unsafe { (me.host.complete)(me.ticket, delivery, verdict(DR_FAULT), DrText::new("no")) };
            verdict(DR_DEFER)
        })),
        ..Script::default()
    });
    for n in 1..=2u64 {
        house.send(&live.name, &n.to_le_bytes()).unwrap();
    }
    wait_until("both are parked", || house.services.disk.stored().1 == 2);
    assert_eq!(count.load(Ordering::SeqCst), 10, "five times each");
    let losses = house.services.ingest.losses().take();
    let parked: Vec<_> = losses.iter().map(|loss| (loss.reason, loss.first, loss.last, loss.count)).collect();
    assert_eq!(parked, [("parked", 1, 2, 2)]);
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
        twins.patch_desired(&identity, &serde_json::json!({ "n": n }), "test", None, |_| {}).unwrap();
    }
    let changes: Vec<_> = (0..3).map(|_| heard.recv().unwrap()).collect();
    assert_eq!(changes, [(2, false), (3, true), (4, false)]);
    assert_eq!(live.stop(), Ending::Stopped);
}

/// Panics where it is asked to log something: a defect of ours at the worst place.
struct Faulty;

impl tracing::Subscriber for Faulty {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {
        panic!("the log is broken");
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn a_defect_in_the_worker_loses_no_message() {
    let house = House::new();
    let seen = Arc::new(AtomicU64::new(0));
    let see = seen.clone();
    let name = house.name();
    // The second message is kept: what was deferred is put back, and faults when it comes again.
    let faulty = |message: Box<dyn Fn(u64) -> DrVerdictKind + Send + Sync>| Script {
        message: Some(Box::new(move |_, _, m| {
            let kind = message(body(m));
            if kind == DR_FAULT {
                std::mem::forget(tracing::subscriber::set_default(Faulty));
            }
            verdict(kind)
        })),
        ..Script::default()
    };
    for n in 1..=3u64 {
        house.send(&name, &n.to_le_bytes()).unwrap();
    }
    let first = house.start_as(&name, faulty(Box::new(|n| if n == 2 { DR_DEFER } else { DR_ACCEPT })));
    wait_until("all are handled", || house.services.ingest.waiting(&name).0 == 0);
    assert_eq!(first.stop(), Ending::Stopped);
    house.send(&name, &4u64.to_le_bytes()).unwrap();
    for _ in 0..2 {
        let broken = house.start_as(&name, faulty(Box::new(|n| if n == 2 { DR_FAULT } else { DR_ACCEPT })));
        assert!(matches!(broken.ended(), Ending::Failed(reason) if reason.contains("internal error")));
    }
    let broken = house.start_as(&name, faulty(Box::new(|n| if n == 4 { DR_FAULT } else { DR_ACCEPT })));
    assert!(matches!(broken.ended(), Ending::Failed(_)));

    let last = house.start_as(
        &name,
        faulty(Box::new(move |n| {
            see.fetch_add(n, Ordering::SeqCst);
            DR_ACCEPT
        })),
    );
    wait_until("what is left is handled", || seen.load(Ordering::SeqCst) == 4);
    assert_eq!(last.stop(), Ending::Stopped);
}

fn losses(house: &House) -> Vec<(&'static str, String, u64)> {
    let taken = house.services.ingest.losses().take();
    taken.into_iter().map(|loss| (loss.reason, loss.endpoint.to_string(), loss.count)).collect()
}

#[test]
fn durable_messages_that_are_refused_or_that_nobody_hears_the_end_of_are_counted() {
    let house = House::with_store_bytes(1000);
    house.route(|_| vec![upstream()]);
    let (say, heard) = channel();
    let live = house.start(Script {
        event: Some(Box::new(move |me, _| {
            say.send(me.send(DR_NO_DELIVERY, "out", &[0; 2000], std::ptr::null())).unwrap();
            say.send(me.send(DR_NO_DELIVERY, "out", &[0; 20], std::ptr::null())).unwrap();
            DR_OK
        })),
        ..Script::default()
    });
    house.fail_writes();
    live.link.tell(Control::Event(0));
    assert_eq!((heard.recv(), heard.recv()), (Ok(DR_FULL), Ok(DR_PENDING)));
    house.database.flush().unwrap();
    let mut found = losses(&house);
    found.sort();
    let upstream = || "$upstream".to_owned();
    assert_eq!(found, [("notStored", upstream(), 1), ("storeFull", upstream(), 1)]);
    assert_eq!(live.stop(), Ending::Stopped);
}

/// An instance that sends each message on to the disk, staged.
fn forwarder(house: &House) -> (Live, Arc<AtomicU64>) {
    house.route(|source| if source.output.is_empty() { Vec::new() } else { vec![upstream()] });
    let count = Arc::new(AtomicU64::new(0));
    let counted = count.clone();
    let live = house.start(Script {
        message: Some(Box::new(move |me, delivery, message| {
            let status = me.send(delivery, "out", &body(message).to_le_bytes(), std::ptr::null());
            assert_eq!(status, DR_OK);
            counted.fetch_add(1, Ordering::SeqCst);
            ACCEPT
        })),
        ..Script::default()
    });
    (live, count)
}

#[test]
fn what_handlers_staged_is_stored_in_order_once_a_failing_disk_is_back() {
    let house = House::new();
    let (live, count) = forwarder(&house);
    let send = |range: std::ops::Range<u64>| range.for_each(|n| house.send(&live.name, &n.to_le_bytes()).unwrap());
    send(0..10);
    wait_until("ten are handled", || count.load(Ordering::SeqCst) == 10);
    house.database.flush().unwrap();
    house.fail_writes();
    send(10..200);
    wait_until("no more are handled than may be uncommitted", || {
        house.services.disk.retry();
        house.database.flush().unwrap();
        count.load(Ordering::SeqCst) == 74
    });
    assert_eq!(house.services.ingest.waiting(&live.name).0, 126);

    house.mend_writes();
    wait_until("all are handled", || {
        house.services.disk.retry();
        count.load(Ordering::SeqCst) == 200
    });
    assert_eq!(live.stop(), Ending::Stopped);
    wait_until("all are stored", || house.rows().len() == 200);
    let bodies: Vec<u64> =
        house.rows().iter().map(|row| u64::from_le_bytes(row.message.body[..].try_into().unwrap())).collect();
    assert!(bodies.is_sorted(), "{bodies:?}");
    assert!(house.services.disk.take_unstored().is_empty());
    assert_eq!(house.services.disk.stored().0, 200);
}

#[test]
fn a_busy_forwarder_is_not_stopped_by_its_uncommitted_messages() {
    let house = House::new();
    let (live, count) = forwarder(&house);
    for n in 0..2000u64 {
        while house.send(&live.name, &n.to_le_bytes()).is_err() {}
    }
    wait_until("all are handled", || count.load(Ordering::SeqCst) == 2000);
    assert_eq!(live.stop(), Ending::Stopped);
    assert_eq!(house.rows().len(), 2000);
}

#[test]
fn what_waits_in_memory_when_the_runtime_ends_is_counted() {
    let house = House::new();
    let handled = Arc::new(AtomicU64::new(0));
    let handle = handled.clone();
    let live = house.start(Script {
        message: Some(Box::new(move |_, _, _| {
            handle.fetch_add(1, Ordering::SeqCst);
            verdict(DR_DEFER)
        })),
        ..Script::default()
    });
    house.send(&live.name, &[0; 8]).unwrap();
    wait_until("it is deferred", || handled.load(Ordering::SeqCst) == 1);
    assert_eq!(live.stop(), Ending::Stopped);
    assert_eq!(house.services.ingest.waiting(&live.name), (1, 8), "what was put back waits");
    let (stuck, _go) = stuck(&house, Script::default());
    for _ in 0..3 {
        house.send(&live.name, &[0; 8]).unwrap();
        house.send(&stuck.name, &[0; 8]).unwrap();
    }

    house.services.ingest.count_waiting_as_lost("stopped");

    let mut found = losses(&house);
    found.sort();
    let endpoint = |name: &str| format!("/devices/d/modules/{name}/inputs/in");
    let mut expected = [("stopped", endpoint(&live.name), 4), ("stopped", endpoint(&stuck.name), 3)];
    expected.sort();
    assert_eq!(found, expected);
}

/// Numbers that look random, the same for the same seed (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Three senders, a receiver that is stopped and panics again and again and decides at random: gives what it accepted, per
/// sender and in order.
fn tumble(defers: bool, seed: u64) -> Vec<Vec<u64>> {
    const SENDERS: u64 = 3;
    const COUNT: u64 = 1000;
    let house = House::new();
    let name = house.name();
    let target = name.clone();
    house.route(move |_| vec![input(&target)]);
    let accepted = Arc::new(Mutex::new(vec![Vec::new(); SENDERS as usize]));
    let (later, deferred) = channel::<(Me, u64, u64)>();
    let accept = accepted.clone();
    let completer = std::thread::spawn(move || {
        let mut dice = Dice(seed + 1);
        for (me, delivery, n) in deferred {
            let kind = if dice.roll(3) == 0 { DR_RETRY } else { DR_ACCEPT };
            let mut accepted = lock(&accept);
            // SAFETY: the table is the runtime's.
            let end = unsafe { (me.host.complete)(me.ticket, delivery, verdict(kind), DrText::ABSENT) };
            if kind == DR_ACCEPT && end == DR_OK {
                accepted[(n % SENDERS) as usize].push(n / SENDERS);
            }
        }
    });
    let script = || {
        let (accepted, later) = (accepted.clone(), later.clone());
        let dice = Mutex::new(Dice(seed + 2));
        let handle = move |me: Me, delivery: u64, message: &DrMessage| {
            let (n, roll) = (body(message), lock(&dice).roll(100));
            match roll {
                0 if message.attempt == 1 => verdict(DR_PANIC),
                1..=5 => verdict(DR_RETRY),
                6..=40 if defers => {
                    later.send((me, delivery, n)).unwrap();
                    verdict(DR_DEFER)
                }
                _ => {
                    lock(&accepted)[(n % SENDERS) as usize].push(n / SENDERS);
                    ACCEPT
                }
            }
        };
        Script { message: Some(Box::new(handle)), ..Script::default() }
    };
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let ingest = house.services.ingest.clone();
            let identity = house.identities.ensure(Some(&format!("{name}-{sender}"))).unwrap().identity;
            std::thread::spawn(move || {
                let output = ingest.output(&identity, "out");
                for n in 0..COUNT {
                    let number = (n * SENDERS + sender).to_le_bytes();
                    let message = Outgoing { meta_len: 0, fill: &|_| {}, body: OutgoingBody::Bytes(&number) };
                    while ingest.send(&output, &message, &mut |_| Ok(())).is_err() {}
                }
            })
        })
        .collect();
    let mut dice = Dice(seed + 3);
    let is_done = || lock(&accepted).iter().map(Vec::len).sum::<usize>() as u64 >= SENDERS * COUNT;
    let end = Instant::now() + Duration::from_secs(60);
    while !is_done() {
        let have = || lock(&accepted).iter().map(Vec::len).collect::<Vec<_>>();
        assert!(Instant::now() < end, "stuck with {:?}, {:?} wait", have(), house.services.ingest.waiting(&name));
        let live = house.start_as(&name, script());
        let since = Instant::now();
        let time = Duration::from_millis(dice.roll(40));
        while since.elapsed() < time && !is_done() {
            std::thread::yield_now();
        }
        live.stop();
    }
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    assert_eq!(house.services.ingest.waiting(&name), (0, 0));
    forget(&name);
    drop(later);
    completer.join().unwrap();
    let all = std::mem::take(&mut *lock(&accepted));
    let whole: Vec<u64> = (0..COUNT).collect();
    for got in &all {
        let mut sorted = got.clone();
        sorted.sort_unstable();
        assert!(sorted == whole, "something is missing or was accepted twice");
    }
    all
}

#[test]
fn whatever_a_receiver_does_everything_is_accepted_once_and_in_order() {
    for seed in 1..=2 {
        let all = tumble(false, seed * 0x9E37_79B9);
        assert!(all.iter().all(|accepted| accepted.is_sorted()));
    }
}

#[test]
fn whatever_a_receiver_defers_everything_is_accepted_once() {
    for seed in 1..=2 {
        tumble(true, seed * 0x9E37_79B9);
    }
}
