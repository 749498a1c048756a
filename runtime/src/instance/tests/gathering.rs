//! What a busy worker looks at before it waits for the next message of a lane.

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
