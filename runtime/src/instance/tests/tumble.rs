//! Senders and a receiver at random, against what they were promised.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dinrail_plugin::abi::*;

use super::super::lock;
use super::super::testing::*;
use super::*;
use crate::queue::ingest::{Outgoing, OutgoingBody};

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
            let identity = house.identities.ensure(Some(&format!("{name}-{sender}"))).unwrap().identity.clone();
            std::thread::spawn(move || {
                let output = ingest.output(&identity, "out");
                for n in 0..COUNT {
                    let number = (n * SENDERS + sender).to_le_bytes();
                    let message = Outgoing { meta_len: 0, fill: &|_| {}, body: OutgoingBody::Bytes(&number) };
                    while ingest.send(&output, &message, &mut |_, _, _| Ok(())).is_err() {}
                }
            })
        })
        .collect();
    let mut dice = Dice(seed + 3);
    let is_done = || lock(&accepted).iter().map(Vec::len).sum::<usize>() as u64 >= SENDERS * COUNT;
    let end = Instant::now() + Duration::from_secs(60);
    while !is_done() {
        let have = || lock(&accepted).iter().map(Vec::len).collect::<Vec<_>>();
        let (waiting, lost) = (|| house.services.ingest.waiting(&name), || house.services.ingest.losses().take());
        assert!(Instant::now() < end, "stuck with {:?}, {:?} wait, lost: {:?}", have(), waiting(), lost());
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
