//! Sleeping and waking.

use std::time::{Duration, Instant};

use super::*;
use crate::queue::lane::{Body, Source};
use crate::queue::{LaneLimits, Queue, WhenFull};

fn source() -> Arc<Source> {
    Arc::new(Source { identity: "/devices/d/modules/m".into(), output: "out".into(), epoch: 1 })
}

fn queue(inbox: &Arc<Inbox>) -> Arc<Queue> {
    let limits = LaneLimits { messages: 10, bytes: 1000 };
    Arc::new(Queue::new("/devices/d/modules/n/inputs/in", "in", inbox.clone(), limits, WhenFull::Wait))
}

fn push(lane: &Arc<QueueLane>, n: u64) {
    // SAFETY: each test pushes from one thread.
    assert!(unsafe { lane.lane.push(n, 0, 0, &|_| {}, Body::Inline(b"x")) }.is_ok());
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
