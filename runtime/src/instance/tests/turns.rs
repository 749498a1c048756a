//! What a worker looks at, and in which order: nothing keeps the rest waiting.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dinrail_plugin::abi::*;

use super::super::link::Control;
use super::super::lock;
use super::super::testing::*;
use super::super::worker::Ending;
use super::*;

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
    let turned = || super::super::usage::cpu_seconds(live.link.thread.load(Ordering::Relaxed));
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
