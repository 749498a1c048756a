//! Whatever the receiver does, messages of every kind of route come out once each, in the order of their output and priority.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dinrail_plugin::abi::*;

use super::super::testing::*;
use super::*;
use crate::database::tables::dead_letter::Filter;
use crate::queue::ingest::{DiskMessage, Outgoing, OutgoingBody, Sink, TargetSpec};
use crate::queue::settling::{Parking, Tries};

/// A sequence of numbers without a pattern (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

const OUTPUTS: u64 = 5;
const COUNT: u64 = 1500;

/// Output 0 is urgent, 1 and 2 are of one priority, the one in memory and the other durable; 3 has none; 4 changes between memory
/// and disk.
fn target(module: &str, output: u64, is_odd: bool) -> TargetSpec {
    let (module, input) = (module.into(), "in".into());
    let is_durable = output == 2 || (output == 4 && is_odd);
    let sink = if is_durable { Sink::Stored { module, input } } else { Sink::Input { module, input } };
    let priority = [0, 5, 5, 2_000_000_000, 7][output as usize];
    TargetSpec { priority, ..TargetSpec::new(sink) }
}

fn tumble(seed: u64) {
    let house = House::with_lane_messages(4);
    let name = house.name();
    let routes = |house: &House, is_odd: bool| {
        let name = name.clone();
        house.route(move |source| {
            let output = source.output.strip_prefix('o').and_then(|n| n.parse().ok());
            output.map(|output| target(&name, output, is_odd)).into_iter().collect()
        });
    };
    routes(&house, false);
    let accepted = Arc::new(Mutex::new(vec![Vec::new(); OUTPUTS as usize]));
    let script = |mut dice: Dice| {
        let accepted = accepted.clone();
        let state = Mutex::new(());
        let rolls = AtomicU64::new(dice.roll(1 << 30));
        let handle = move |_: Me, _: u64, message: &DrMessage| {
            let _turn = lock(&state);
            let n = body(message);
            let mut dice = Dice(rolls.fetch_add(7, Ordering::Relaxed) | 1);
            match dice.roll(40) {
                0 => return verdict(DR_RETRY),
                1 => {
                    let since = Instant::now();
                    while since.elapsed() < Duration::from_micros(500) {
                        std::thread::yield_now();
                    }
                }
                _ => {}
            }
            lock(&accepted)[(n % OUTPUTS) as usize].push(n / OUTPUTS);
            ACCEPT
        };
        Script { message: Some(Box::new(handle)), ..Script::default() }
    };
    let senders: Vec<_> = (0..OUTPUTS)
        .map(|output| {
            let (ingest, disk) = (house.services.ingest.clone(), house.services.disk.clone());
            let identity = house.identities.ensure(Some(&format!("{name}-s"))).unwrap().identity.clone();
            std::thread::spawn(move || {
                let out = ingest.output(&identity, &format!("o{output}"));
                for n in 0..COUNT {
                    let number = (n * OUTPUTS + output).to_le_bytes();
                    let message = Outgoing { meta_len: 0, fill: &|_| {}, body: OutgoingBody::Bytes(&number) };
                    let mut store = |rows, line, _: Option<&_>| disk.enqueue(rows, move |_| drop(line));
                    ingest.send(&out, &message, &mut store).unwrap();
                }
            })
        })
        .collect();
    let mut dice = Dice(seed);
    let is_done = || lock(&accepted).iter().map(Vec::len).sum::<usize>() as u64 >= OUTPUTS * COUNT;
    let end = Instant::now() + Duration::from_secs(60);
    let (mut spilled, mut is_odd) = (0, false);
    while !is_done() {
        let have = || lock(&accepted).iter().map(Vec::len).collect::<Vec<_>>();
        assert!(Instant::now() < end, "stuck with {:?}, {:?} wait", have(), house.services.ingest.waiting(&name));
        // A while without a receiver, so that lanes are full for longer than a sender waits.
        let pause = Instant::now() + Duration::from_millis(dice.roll(2) * 70);
        while Instant::now() < pause {
            std::thread::yield_now();
        }
        spilled = spilled.max(house.services.ingest.on_disk(&name));
        is_odd = !is_odd;
        routes(&house, is_odd);
        let live = house.start_as(&name, script(Dice(dice.roll(1 << 40) | 1)));
        let since = Instant::now();
        let time = Duration::from_millis(dice.roll(60));
        while since.elapsed() < time && !is_done() {
            std::thread::yield_now();
        }
        live.stop();
    }
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    assert!(spilled > 0, "nothing was ever on disk: the test proves nothing");
    assert_eq!(house.services.ingest.waiting(&name).0, 0);
    forget(&name);
    let whole: Vec<u64> = (0..COUNT).collect();
    for (output, got) in lock(&accepted).iter().enumerate() {
        let at = got.iter().zip(&whole).position(|(got, wanted)| got != wanted);
        assert!(got == &whole, "output {output}, seed {seed}: {} of {COUNT}, differs at {at:?}: {:?}", got.len(), {
            let at = at.unwrap_or(0);
            &got[at.saturating_sub(3)..(at + 5).min(got.len())]
        });
    }
    house.database.flush().unwrap();
    assert_eq!(house.services.disk.stored().0, 0, "rows are left on disk");
}

#[test]
fn order_holds_and_nothing_is_lost_or_twice_however_the_receiver_comes_and_goes() {
    tumble(0x5eed_0001);
    tumble(0x5eed_0002);
}

#[test]
fn what_waits_in_memory_at_the_end_is_kept_before_what_is_on_disk() {
    let house = House::with_lane_messages(4);
    let name = house.name();
    let to = name.clone();
    house.route(move |_| vec![target(&to, 3, false)]);
    let identity = house.identities.ensure(Some(&format!("{name}-s"))).unwrap().identity.clone();
    let output = house.services.ingest.output(&identity, "out");
    for n in 0..20u64 {
        let number = n.to_le_bytes();
        let message = Outgoing { meta_len: 0, fill: &|_| {}, body: OutgoingBody::Bytes(&number) };
        house.services.ingest.send(&output, &message, &mut |_, _, _| Ok(())).unwrap();
    }
    house.database.flush().unwrap();
    assert_eq!((house.services.ingest.waiting(&name).0, house.services.ingest.on_disk(&name)), (20, 16));

    house.services.ingest.keep_waiting(crate::clock::now() + Duration::from_secs(10));

    assert!(house.services.ingest.losses().take().is_empty());
    let endpoint = format!("/devices/d/modules/{name}/inputs/in").into();
    let limits = crate::queue::disk::ReadLimits { messages: 100, bytes: 1 << 20 };
    let rows = house.services.disk.read_after(&endpoint, 2_000_000_000, i64::MIN, limits).unwrap();
    let numbers: Vec<u64> =
        rows.iter().map(|row| u64::from_le_bytes(row.message.body[..].try_into().unwrap())).collect();
    assert_eq!(numbers, (0..20).collect::<Vec<u64>>());
}

/// Sends numbered messages of memory routes, as `out` of a sender of the house.
fn send_numbers(house: &House, numbers: std::ops::Range<u64>) {
    let identity = house.identities.ensure(Some("numbers")).unwrap().identity.clone();
    let output = house.services.ingest.output(&identity, "out");
    for n in numbers {
        let number = n.to_le_bytes();
        let message = Outgoing { meta_len: 0, fill: &|_| {}, body: OutgoingBody::Bytes(&number) };
        house.services.ingest.send(&output, &message, &mut |_, _, _| Ok(())).unwrap();
    }
    house.database.flush().unwrap();
}

fn numbers_on_disk(house: &House, name: &str) -> Vec<u64> {
    let endpoint = format!("/devices/d/modules/{name}/inputs/in").into();
    let limits = crate::queue::disk::ReadLimits { messages: 100, bytes: 1 << 20 };
    let rows = house.services.disk.read_after(&endpoint, 2_000_000_000, i64::MIN, limits).unwrap();
    rows.iter().map(|row| u64::from_le_bytes(row.message.body[..].try_into().unwrap())).collect()
}

#[test]
fn what_is_sent_between_two_looks_at_the_end_is_kept_behind_what_was_there() {
    let house = House::new();
    let name = house.name();
    let to = name.clone();
    house.route(move |_| vec![target(&to, 3, false)]);
    let keep = || house.services.ingest.keep_waiting(crate::clock::now() + Duration::from_secs(10));
    for of in [0..3, 3..5, 5..9] {
        send_numbers(&house, of);
        keep();
    }
    assert_eq!(numbers_on_disk(&house, &name), (0..9).collect::<Vec<u64>>());
}

#[test]
fn what_is_sent_at_the_end_goes_behind_rows_that_were_in_memory_already() {
    let house = House::new();
    let name = house.name();
    let to = name.clone();
    house.route(move |_| vec![target(&to, 3, false)]);
    let keep = || house.services.ingest.keep_waiting(crate::clock::now() + Duration::from_secs(10));
    let durable = DiskMessage { priority: 2_000_000_000, ..row(&name, 0) };
    house.services.disk.enqueue(vec![durable], |_| {}).unwrap();
    house.database.flush().unwrap();
    keep();
    send_numbers(&house, 1..4);
    keep();
    assert_eq!(numbers_on_disk(&house, &name), [0, 1, 2, 3]);
}

#[test]
fn a_parked_message_of_a_memory_route_keeps_its_priority_and_its_time_to_live() {
    let house = House::new();
    let live = house.start(Script { message: Some(Box::new(|_, _, _| verdict(DR_PARK))), ..Script::default() });
    let to = live.name.clone();
    house.route(move |_| vec![TargetSpec { ttl_secs: Some(1000), ..target(&to, 3, false) }]);
    send_numbers(&house, 0..1);
    wait_until("it is parked", || house.services.disk.stored().1 == 1);
    let (_, found) = house.services.disk.dead_letters(&Filter::default(), 0, 1).unwrap();
    assert_eq!(found[0].message.priority, 2_000_000_000);
    assert!(found[0].message.ttl_secs.is_some_and(|secs| secs > 900), "{:?}", found[0].message.ttl_secs);
    live.stop();
}

fn row(name: &str, sequence: u64) -> DiskMessage {
    DiskMessage {
        endpoint: format!("/devices/d/modules/{name}/inputs/in").into(),
        priority: 0,
        ttl_secs: None,
        sender: "/devices/d/modules/s".into(),
        output: "out".into(),
        epoch: 1,
        sequence,
        created_us: 0,
        meta: Vec::new(),
        body: sequence.to_le_bytes().to_vec(),
    }
}

#[test]
fn what_is_stored_for_an_input_that_nobody_has_used_in_this_run_does_not_hold_up_the_disk() {
    let house = House::new();
    let name = house.name();
    let (say, heard) = std::sync::mpsc::channel();
    house.services.disk.enqueue(vec![row(&name, 1)], move |stored| drop(say.send(stored))).unwrap();
    if heard.recv_timeout(Duration::from_secs(20)).is_err() {
        // Its end would wait for the writer.
        std::mem::forget(house);
        panic!("the writer waits for itself");
    }
    assert_eq!(house.services.ingest.waiting(&name).0, 1);
}

#[test]
fn what_an_orderly_end_kept_and_was_set_aside_then_is_listed_and_can_be_discarded() {
    let house = House::new();
    let (name, disk) = (house.name(), &house.services.disk);
    disk.keep(&[row(&name, 1), row(&name, 2)], &[]).unwrap();
    let limits = crate::queue::disk::ReadLimits { messages: 100, bytes: 1 << 20 };
    for kept in disk.read_after(&row(&name, 1).endpoint, 0, i64::MIN, limits).unwrap() {
        let parking = Parking { reason: "broken".to_owned(), at_us: 1, tries: Tries::default() };
        let park = move |tx: &rusqlite::Connection| crate::database::tables::queue::park(tx, kept.id, &parking);
        assert!(house.database.call(crate::database::File::Queue, park).unwrap());
    }
    let page = |after| {
        let (count, found) = disk.dead_letters(&Filter::default(), after, 1).unwrap();
        (count, found[0].message.sequence, found[0].id)
    };

    let (count, sequence, first) = page(0);
    assert_eq!((count, sequence), (2, 1));
    assert_eq!(page(first).1, 2);
    assert_eq!(disk.purge_dead_letters(&Filter::default(), "purged", 1).unwrap(), 2);
}
