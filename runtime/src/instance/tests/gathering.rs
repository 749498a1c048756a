//! What a busy worker looks at before it waits for the next message of a lane.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::super::delivering::gather;
use super::super::testing::*;
use crate::queue::ingest::{Outgoing, OutgoingBody, TargetSpec, WhenFull};

/// Sends from an output of a sender of the house.
fn send(house: &House, output: &str) {
    let sender = house.identities.ensure(Some("sender")).unwrap().identity.clone();
    let message = Outgoing { meta_len: 0, fill: &|_| (), body: OutgoingBody::Bytes(b"x") };
    house
        .services
        .ingest
        .send(&house.services.ingest.output(&sender, output), &message, &mut |_, _, _| Ok(()))
        .unwrap();
}

#[test]
fn lane_that_became_ready_meanwhile_goes_first_whatever_has_come_into_this_one() {
    let (house, name) = (House::new(), "receiver");
    house.route(move |source| vec![TargetSpec { priority: u32::from(&*source.output != "urgent"), ..input(name) }]);
    let mut consumer = house.services.ingest.inbox(name).consume().unwrap();
    send(&house, "other");
    let lane = consumer.next_lane().unwrap();
    assert!(gather(&lane, &mut consumer), "there is a message");
    send(&house, "urgent");
    assert!(!gather(&lane, &mut consumer), "there is one that goes before it");
    let urgent = consumer.next_lane().unwrap();
    assert!((urgent.class() < lane.class()) && gather(&lane, &mut consumer));
}

#[test]
fn message_that_may_still_be_dropped_is_seen_behind_its_lane() {
    let (house, name) = (House::new(), "receiver");
    house.route(move |_| vec![TargetSpec { when_full: WhenFull::DropOldest, ..input(name) }]);
    let mut consumer = house.services.ingest.inbox(name).consume().unwrap();
    send(&house, "out");
    let lane = consumer.next_lane().unwrap();
    // SAFETY: this thread is the inbox's one consumer.
    assert!(unsafe { lane.lane.peek() }.is_none(), "it is not in the lane yet");
    assert!(gather(&lane, &mut consumer));
    // SAFETY: as above.
    assert!(!unsafe { lane.unschedule() }, "and stays to be taken");
}

/// How often this thread has given up its processor to wait for something.
fn waits() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
    count.trim().parse().unwrap()
}

/// This thread, and those it starts, run on no other processor than the first that it may use.
fn stay_on_one_processor() {
    let may = sched_getaffinity(None).unwrap();
    let mut first = CpuSet::new();
    first.set((0..CpuSet::MAX_CPU).find(|at| may.is_set(*at)).unwrap());
    sched_setaffinity(None, &first).unwrap();
}

#[test]
fn worker_whose_processor_others_use_sleeps_while_messages_gather() {
    let (house, name) = (House::new(), "receiver");
    house.route(move |_| vec![input(name)]);
    let mut consumer = house.services.ingest.inbox(name).consume().unwrap();
    send(&house, "out");
    let lane = consumer.next_lane().unwrap();
    // SAFETY: this thread is the inbox's one consumer.
    unsafe {
        assert!(lane.lane.peek().is_some());
        lane.lane.advance();
    }

    let is_over = AtomicBool::new(false);
    let has_slept = std::thread::scope(|scope| {
        // A thread of its own, which is gone after: it stays where it was put.
        let worker = scope.spawn(|| {
            stay_on_one_processor();
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
            let deadline = Instant::now() + Duration::from_secs(20);
            let (mut has_slept, mut has_message) = (false, false);
            while !has_slept && !has_message && Instant::now() < deadline {
                let before = waits();
                has_message = gather(&lane, &mut consumer);
                has_slept = waits() > before;
            }
            is_over.store(true, Ordering::Relaxed);
            has_slept && !has_message
        });
        worker.join().unwrap()
    });
    assert!(has_slept, "it only ever looks again");
}
