//! Sleeping and waking.

use std::time::{Duration, Instant};

use super::*;
use crate::queue::lane::{Body, Entry, NEVER, Source};
use crate::queue::{LaneLimits, Queue};

fn source() -> Arc<Source> {
    Arc::new(Source { identity: "/devices/d/modules/m".into(), output: "out".into(), epoch: 1 })
}

fn queue(inbox: &Arc<Inbox>) -> Arc<Queue> {
    let limits = LaneLimits { messages: 10, bytes: 1000 };
    Arc::new(Queue::new("/devices/d/modules/n/inputs/in", "in", inbox.clone(), limits))
}

fn push(lane: &Arc<QueueLane>, n: u64) {
    let entry = Entry { sequence: n, created_us: 0, expires_ms: NEVER, row: None, meta_len: 0, fill: &|_| {} };
    // SAFETY: each test pushes from one thread.
    assert!(unsafe { lane.lane.push(&entry, Body::Inline(b"x")) }.is_ok());
    lane.announce();
}

#[test]
fn a_consumer_that_leaves_messages_alone_sleeps_though_some_wait() {
    let inbox = Arc::<Inbox>::default();
    let mut consumer = inbox.consume().unwrap();
    push(&queue(&inbox).lane(&source(), 0), 1);
    let since = Instant::now();

    consumer.sleep_until_nudged(Some(since + Duration::from_millis(20)));

    assert!(since.elapsed() >= Duration::from_millis(19));
    inbox.nudge();
    consumer.sleep_until_nudged(None);
}

#[test]
fn a_message_cannot_be_taken_from_the_place_of_another_inbox() {
    let (own, other) = (Arc::<Inbox>::default(), Arc::<Inbox>::default());
    let (mut consumer, mut stranger) = (own.consume().unwrap(), other.consume().unwrap());
    let lane = queue(&own).lane(&source(), 0);
    push(&lane, 1);

    assert_eq!(crate::queue::take_message(&lane, &mut stranger, |_, record| record.sequence), None);
    assert_eq!(crate::queue::take_message(&lane, &mut consumer, |_, record| record.sequence), Some(1));
    assert!(own.consume().is_none(), "the place is taken");
}

/// Sequences in the order in which a consumer gets them, looking for better ones after each.
fn drain(consumer: &mut Consumer) -> Vec<u64> {
    let mut taken = Vec::new();
    while let Some(lane) = consumer.next_lane() {
        while let Some(n) = crate::queue::take_message(&lane, consumer, |_, record| record.sequence) {
            taken.push(n);
            if consumer.has_better(lane.class()) {
                consumer.give_back(lane);
                break;
            }
        }
    }
    taken
}

#[test]
fn the_best_priority_is_served_first_and_one_without_comes_last() {
    let inbox = Arc::<Inbox>::default();
    let queue = queue(&inbox);
    for (n, priority) in [(1, 2_000_000_000), (2, 9), (3, 0), (4, 5), (5, 0), (6, 9)] {
        push(&queue.lane(&source(), priority), n);
    }
    assert_eq!(drain(&mut inbox.consume().unwrap()), [3, 5, 4, 2, 6, 1]);
}

#[test]
fn a_better_message_that_comes_meanwhile_is_the_next() {
    let inbox = Arc::<Inbox>::default();
    let queue = queue(&inbox);
    let (low, high) = (queue.lane(&source(), 7), queue.lane(&source(), 1));
    (1..=3).for_each(|n| push(&low, n));
    let mut consumer = inbox.consume().unwrap();
    let lane = consumer.next_lane().unwrap();
    assert_eq!(crate::queue::take_message(&lane, &mut consumer, |_, record| record.sequence), Some(1));
    assert!(!consumer.has_better(lane.class()), "its own class is no better one");
    push(&high, 4);
    assert!(consumer.has_better(lane.class()));
    consumer.give_back(lane);

    assert_eq!(drain(&mut consumer), [4, 2, 3]);
}

#[test]
fn a_nudge_is_taken_once_and_ready_lanes_stay() {
    let inbox = Arc::<Inbox>::default();
    let mut consumer = inbox.consume().unwrap();
    push(&queue(&inbox).lane(&source(), 3), 1);
    inbox.nudge();

    assert!(consumer.has_better(0), "a nudge is better than any lane");
    assert!(consumer.take_nudge() && !consumer.take_nudge());
    assert_eq!(drain(&mut consumer), [1]);
}
