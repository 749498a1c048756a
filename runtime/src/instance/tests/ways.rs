//! Order of an output over changes of the way by which its messages go, and where it goes several ways at once.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dinrail_plugin::abi::*;

use super::super::testing::*;
use super::super::worker::Ending;
use super::*;
use crate::queue::ingest::{Gate, Outgoing, OutgoingBody, Sink, TargetSpec, WhenFull};
use crate::queue::lane::MetaWriter;

/// All ways in which the messages of a route can go, with the one that an oldest-keeping route with a time to live takes.
const WAYS: usize = 6;

fn way(module: &str, way: usize) -> TargetSpec {
    let (module, input) = (module.into(), "in".into());
    let sink = if way == 0 { Sink::Stored { module, input } } else { Sink::Input { module, input } };
    let when_full = match way {
        2 => WhenFull::DropOldest,
        3 | 4 => WhenFull::DropNewest,
        5 => WhenFull::Block(Duration::from_millis(1)),
        _ => WhenFull::Spill,
    };
    let ttl_secs = (way == 4).then_some(10_000);
    TargetSpec { priority: 3, max_bytes: 1 << 20, when_full, ttl_secs, ..TargetSpec::new(sink) }
}

/// Sends a number from `out` of a sender of the house; `meta`: encoded properties.
fn send(house: &House, sender: &str, number: u64, meta: &[u8]) {
    let identity = house.identities.ensure(Some(sender)).unwrap().identity.clone();
    let output = house.services.ingest.output(&identity, "out");
    let number = number.to_le_bytes();
    let fill = |out: &mut MetaWriter<'_>| out.put(meta);
    let message = Outgoing { meta_len: meta.len(), fill: &fill, body: OutgoingBody::Bytes(&number) };
    let disk = house.services.disk.clone();
    let mut store = |rows, line, _: Option<&_>| disk.enqueue(rows, move |_| drop(line));
    house.services.ingest.send(&output, &message, &mut store).unwrap();
}

/// Takes so many numbers at `name`.
fn take(house: &House, name: &str, count: u64) -> Vec<u64> {
    let (say, heard) = channel();
    let say = Mutex::new(say);
    let message = move |_: Me, _: u64, message: &DrMessage| {
        let _ = lock(&say).send(body(message));
        ACCEPT
    };
    let live = house.start_as(name, Script { message: Some(Box::new(message)), ..Script::default() });
    let taken = (0..count).map_while(|_| heard.recv_timeout(Duration::from_secs(20)).ok()).collect();
    assert_eq!(live.stop(), Ending::Stopped);
    taken
}

#[test]
fn order_holds_over_every_change_of_what_becomes_of_messages_without_room() {
    let house = House::new();
    for (from, to) in (0..WAYS).flat_map(|from| (0..WAYS).map(move |to| (from, to))) {
        let name = house.name();
        let sender = format!("{name}-s");
        for (at, now) in [from, to, from, to].into_iter().enumerate() {
            let target = name.clone();
            house.route(move |_| vec![way(&target, now)]);
            (0..3).for_each(|n| send(&house, &sender, at as u64 * 3 + n, &[]));
            // Rows of the first are there already, those of the others may still be on their way.
            if at == 0 {
                house.database.flush().unwrap();
            }
        }
        let taken = take(&house, &name, 12);
        assert_eq!(taken, (0..12).collect::<Vec<u64>>(), "from {from} to {to}");
        assert_eq!(house.services.ingest.waiting(&name).0, 0);
        forget(&name);
    }
}

#[test]
fn order_holds_over_changes_while_messages_are_taken() {
    const COUNT: u64 = 3000;
    let house = House::new();
    let name = house.name();
    let sender = format!("{name}-s");
    let taken = Arc::new(Mutex::new(Vec::new()));
    let taking = taken.clone();
    let message = move |_: Me, _: u64, message: &DrMessage| {
        lock(&taking).push(body(message));
        ACCEPT
    };
    let live = house.start_as(&name, Script { message: Some(Box::new(message)), ..Script::default() });
    for n in 0..COUNT {
        if n % 7 == 0 {
            let (target, now) = (name.clone(), (n as usize * 5 / 7) % WAYS);
            house.route(move |_| vec![way(&target, now)]);
        }
        send(&house, &sender, n, &[]);
    }
    wait_until("all are taken", || lock(&taken).len() as u64 >= COUNT);
    assert_eq!(live.stop(), Ending::Stopped);
    let taken = std::mem::take(&mut *lock(&taken));
    let at = taken.iter().zip(0..).position(|(taken, n)| *taken != n);
    assert!(taken.len() as u64 == COUNT && at.is_none(), "differs at {at:?} of {}", taken.len());
    assert_eq!(house.services.ingest.waiting(&name).0, 0);
    forget(&name);
}

#[test]
fn what_stands_behind_rows_is_kept_behind_them_at_the_end() {
    for now in 1..WAYS {
        let house = House::new();
        let name = house.name();
        let sender = format!("{name}-s");
        for (at, way_now) in [now, 0, now].into_iter().enumerate() {
            let target = name.clone();
            house.route(move |_| vec![way(&target, way_now)]);
            (0..3).for_each(|n| send(&house, &sender, at as u64 * 3 + n, &[]));
            house.database.flush().unwrap();
        }

        house.services.ingest.keep_waiting(crate::clock::now() + Duration::from_secs(10));

        let endpoint = format!("/devices/d/modules/{name}/inputs/in").into();
        let limits = crate::queue::disk::ReadLimits { messages: 100, bytes: 1 << 20 };
        let rows = house.services.disk.read_after(&endpoint, 3, i64::MIN, limits).unwrap();
        let number = |row: &crate::database::tables::queue::ReadMessage| {
            u64::from_le_bytes(row.message.body[..].try_into().unwrap())
        };
        assert_eq!(rows.iter().map(number).collect::<Vec<_>>(), (0..9).collect::<Vec<u64>>(), "way {now}");
    }
}

/// Encoded properties: `level`.
fn level(level: &str) -> Vec<u8> {
    let mut message = crate::message::Message::new(Vec::new());
    message.properties.push(("level".to_owned(), level.to_owned()));
    message.encode_meta()
}

fn conditional(module: &str, now: usize, level: &str) -> TargetSpec {
    let text = format!("FROM /* WHERE level = '{level}'");
    TargetSpec { condition: crate::routing::Selection::parse(&text).unwrap().condition, ..way(module, now) }
}

#[test]
fn order_holds_where_an_output_goes_two_ways_at_once() {
    let house = House::new();
    let levels = [level("a"), level("b")];
    for (first, second) in (0..WAYS).flat_map(|first| (0..first).map(move |second| (first, second))) {
        let name = house.name();
        let target = name.clone();
        house.route(move |_| vec![conditional(&target, first, "a"), conditional(&target, second, "b")]);
        for n in 0..12 {
            send(&house, &format!("{name}-s"), n, &levels[(n / 2 % 2) as usize]);
        }
        let taken = take(&house, &name, 12);
        assert_eq!(taken, (0..12).collect::<Vec<u64>>(), "{first} and {second}");
        forget(&name);
    }
}

#[test]
fn what_a_handler_sends_by_a_memory_route_does_not_overtake_what_it_has_staged() {
    let house = House::new();
    let (name, receiver) = (house.name(), house.name());
    let target = receiver.clone();
    // Every other message is durable.
    house.route(move |source| match &*source.output {
        "out" => {
            let durable = TargetSpec { gate: Gate::new(2, None).map(Arc::new), ..way(&target, 0) };
            vec![durable, TargetSpec { is_alternative: true, ..way(&target, 1) }]
        }
        _ => Vec::new(),
    });
    let (hold, held) = channel::<()>();
    let held = Mutex::new(held);
    let message = move |me: Me, delivery: u64, message: &DrMessage| {
        let n = body(message);
        // The first one stays in the handler until there is somebody who could take what it has sent.
        assert_eq!(me.send(delivery, "out", b"durable", std::ptr::null()), DR_OK);
        assert_eq!(me.send(delivery, "out", b"in memory", std::ptr::null()), DR_OK);
        if n == 0 {
            let _ = lock(&held).recv();
        }
        ACCEPT
    };
    let live = house.start_as(&name, Script { message: Some(Box::new(message)), ..Script::default() });
    let (say, heard) = channel();
    let say = Mutex::new(say);
    let message = move |_: Me, _: u64, message: &DrMessage| {
        let _ = lock(&say).send(message.sequence);
        ACCEPT
    };
    let taker = house.start_as(&receiver, Script { message: Some(Box::new(message)), ..Script::default() });
    (0..5u64).for_each(|n| house.send(&name, &n.to_le_bytes()).unwrap());
    let too_early = heard.recv_timeout(Duration::from_millis(50));
    drop(hold);
    let all: Vec<_> = (0..10).map_while(|_| heard.recv_timeout(Duration::from_secs(20)).ok()).collect();
    assert!(too_early.is_err(), "{too_early:?}");
    assert_eq!(all, (1..=10).collect::<Vec<u64>>());
    assert_eq!((live.stop(), taker.stop()), (Ending::Stopped, Ending::Stopped));
    forget(&name);
    forget(&receiver);
}
