//! Deliveries: what is staged, deferred, retried and parked.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use dinrail_plugin::abi::*;

use super::super::lock;
use super::super::testing::*;
use super::super::worker::Ending;
use super::*;

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
    let losses = house.services.disk.losses().unwrap();
    let parked: Vec<_> =
        losses.iter().map(|line| (&*line.row.reason, line.row.first.1, line.row.last.1, line.row.count)).collect();
    assert_eq!(parked, [("parked", 1, 2, 2)]);
    assert_eq!(live.stop(), Ending::Stopped);
}

#[test]
fn a_message_that_is_retried_for_ever_is_set_aside_in_the_end() {
    let house = House::new();
    let count = Arc::new(AtomicU64::new(0));
    let counted = count.clone();
    let live = house.start(Script {
        message: Some(Box::new(move |me, delivery, message| {
            if body(message) == 2 {
                return ACCEPT;
            }
            counted.fetch_add(1, Ordering::SeqCst);
            me.send(delivery, "out", b"x", std::ptr::null());
            verdict(DR_RETRY)
        })),
        ..Script::default()
    });
    house.route(|source| if source.output.is_empty() { Vec::new() } else { vec![upstream()] });
    for n in 1..=2u64 {
        house.send(&live.name, &n.to_le_bytes()).unwrap();
    }
    wait_until("it is parked", || house.services.disk.stored().1 == 1);
    assert_eq!(count.load(Ordering::SeqCst), u64::from(house.services.max_attempts));
    wait_until("the next one is handled", || house.services.ingest.waiting(&live.name).0 == 0);
    assert_eq!(live.stop(), Ending::Stopped);
    assert!(house.rows().is_empty(), "a retry leaves nothing of what it staged");
    let reason = house.database.read(crate::database::File::Queue, |conn| {
        conn.query_row("SELECT reason, attempts FROM message WHERE state = 1", [], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
        })
    });
    let said = "delivered 20 times and retried each time; the last time: the module gave no reason";
    assert_eq!(reason.unwrap(), (said.to_owned(), 20));
}

#[test]
fn a_message_that_was_in_hand_whenever_its_instance_was_stopped_is_not_set_aside_for_that() {
    let house = House::new();
    let name = house.name();
    house.send(&name, &[0; 8]).unwrap();
    let stops = house.services.max_attempts + 2;
    for _ in 0..stops {
        let (say, heard) = channel();
        let message = move |_: Me, _: u64, message: &DrMessage| {
            say.send(message.attempt).unwrap();
            verdict(DR_DEFER)
        };
        let live = house.start_as(&name, Script { message: Some(Box::new(message)), ..Script::default() });
        heard.recv().unwrap();
        assert_eq!(live.stop(), Ending::Stopped);
    }

    let (say, heard) = channel();
    let message = move |_: Me, _: u64, message: &DrMessage| {
        say.send(message.attempt).unwrap();
        verdict(if message.attempt <= stops + 1 { DR_RETRY } else { DR_ACCEPT })
    };
    let live = house.start_as(&name, Script { message: Some(Box::new(message)), ..Script::default() });

    let hear = || heard.recv_timeout(std::time::Duration::from_secs(20));
    assert_eq!((hear(), hear()), (Ok(stops + 1), Ok(stops + 2)), "it is told how often it was delivered");
    assert_eq!(live.stop(), Ending::Stopped);
    house.database.flush().unwrap();
    assert_eq!(house.services.disk.stored(), (0, 0, 0));
}
