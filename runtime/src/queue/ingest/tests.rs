//! What a sender is promised: how long it is held, what it is told, and what is counted.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::*;

const LIMITS: LaneLimits = LaneLimits { messages: 4, bytes: 1 << 20 };

fn ingest() -> Arc<Ingest> {
    let ingest = Arc::new(Ingest::new("d", Book::unkept(1), LIMITS));
    ingest.set_router(Box::new(|_| {
        let sink = Sink::Input { module: "slow".into(), input: "in".into() };
        vec![TargetSpec { max_bytes: 1 << 16, ..TargetSpec::new(sink) }]
    }));
    ingest
}

fn identity() -> Identity {
    Identity::module("d", "m").unwrap()
}

fn bytes(body: &[u8]) -> Outgoing<'_> {
    Outgoing { meta_len: 0, fill: &|_| {}, body: OutgoingBody::Bytes(body) }
}

fn send(ingest: &Arc<Ingest>, output: &Output) -> Result<(), SendError> {
    ingest.send(output, &bytes(b"x"), &mut |_, _, _| Ok(()))
}

#[test]
fn a_thread_is_not_held_longer_because_others_of_its_module_send_to_the_same_full_queue() {
    let ingest = ingest();
    let output = ingest.output(&identity(), "out");
    (0..LIMITS.messages).for_each(|_| send(&ingest, &output).unwrap());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    assert!(send(&ingest, &output).is_err());
                }
            });
        }
        let longest = (0..5).map(|_| {
            let since = Instant::now();
            assert!(send(&ingest, &output).is_err());
            since.elapsed()
        });
        let longest = longest.max().unwrap();
        stop.store(true, Ordering::Relaxed);
        assert!(longest < 2 * MAX_HOLD, "held for {longest:?}");
    });
}

#[test]
fn what_an_operator_sends_to_a_full_queue_is_refused_at_once() {
    let ingest = ingest();
    let device = Identity::device("d").unwrap();
    let send = || ingest.send_to(&device, "slow", "in", &bytes(b"x"));
    (0..LIMITS.messages).for_each(|_| send().unwrap());
    let since = Instant::now();
    assert!(matches!(send(), Err(SendError::Full { .. })));
    assert!(since.elapsed() < MAX_HOLD);
}

#[test]
fn properties_count_for_the_limits_of_a_message_and_of_a_queue() {
    let ingest = ingest();
    let output = ingest.output(&identity(), "out");
    let with_properties = |meta_len| Outgoing { meta_len, fill: &|_| {}, body: OutgoingBody::Bytes(b"x") };
    let send = |meta_len| ingest.send(&output, &with_properties(meta_len), &mut |_, _, _| Ok(()));

    assert!(matches!(send(1 << 16), Err(SendError::TooLarge { .. })));

    send((1 << 16) - 1).unwrap();
    assert_eq!(ingest.waiting("slow"), (1, 1 << 16));
}

#[test]
fn what_expires_while_its_receiver_is_away_is_swept_and_counted_and_makes_room() {
    let ingest = ingest();
    ingest.set_router(Box::new(|_| {
        let sink = Sink::Input { module: "slow".into(), input: "in".into() };
        vec![TargetSpec { ttl_secs: Some(0), ..TargetSpec::new(sink) }]
    }));
    let output = ingest.output(&identity(), "out");
    (0..LIMITS.messages).for_each(|_| send(&ingest, &output).unwrap());
    assert_eq!(ingest.waiting("slow").0, LIMITS.messages);

    let place = ingest.inbox("slow").consume().unwrap();
    ingest.sweep();
    assert_eq!(ingest.waiting("slow").0, LIMITS.messages, "it is there, and takes them itself");
    drop(place);
    ingest.sweep();

    assert_eq!(ingest.waiting("slow").0, 0);
    let losses = ingest.losses().take();
    assert_eq!((losses[0].reason, losses[0].count), ("expired", LIMITS.messages));
    assert_eq!((losses[0].first, losses[0].last), (1, LIMITS.messages));
    let since = Instant::now();
    send(&ingest, &output).unwrap();
    assert!(since.elapsed() < MAX_HOLD);
}

#[test]
fn a_route_that_drops_the_newest_never_holds_its_sender() {
    let ingest = ingest();
    ingest.set_router(Box::new(|_| {
        let sink = Sink::Input { module: "slow".into(), input: "in".into() };
        vec![TargetSpec { when_full: WhenFull::DropNewest, ..TargetSpec::new(sink) }]
    }));
    let output = ingest.output(&identity(), "out");
    let since = Instant::now();
    (0..LIMITS.messages + 10).for_each(|_| send(&ingest, &output).unwrap());

    assert!(since.elapsed() < MAX_HOLD);
    assert_eq!(ingest.waiting("slow").0, LIMITS.messages);
    let losses = ingest.losses().take();
    assert_eq!((losses[0].reason, losses[0].count, losses[0].first), ("dropNewest", 10, LIMITS.messages + 1));
}

#[test]
fn a_route_that_blocks_holds_its_sender_as_long_as_it_says_and_then_tells_it() {
    let ingest = ingest();
    let limit = Duration::from_millis(120);
    ingest.set_router(Box::new(move |_| {
        let sink = Sink::Input { module: "slow".into(), input: "in".into() };
        vec![TargetSpec { when_full: WhenFull::Block(limit), ..TargetSpec::new(sink) }]
    }));
    let output = ingest.output(&identity(), "out");
    (0..LIMITS.messages).for_each(|_| send(&ingest, &output).unwrap());
    let since = Instant::now();
    assert!(matches!(send(&ingest, &output), Err(SendError::Full { .. })));
    assert!(since.elapsed() >= limit);
}

/// Sends a message with the property `level`, and a body.
fn send_level(ingest: &Arc<Ingest>, output: &Output, level: &str) -> Result<(), SendError> {
    let message = crate::message::Message {
        properties: vec![("level".into(), level.into())],
        ..crate::message::Message::new(*b"x")
    };
    let meta = message.encode_meta();
    let fill = |out: &mut MetaWriter<'_>| out.put(&meta);
    let outgoing = Outgoing { meta_len: meta.len(), fill: &fill, body: OutgoingBody::Bytes(&message.body) };
    ingest.send(output, &outgoing, &mut |_, _, _| Ok(()))
}

fn conditional(endpoint: &str, level: Option<&str>) -> TargetSpec {
    let text = level.map(|level| format!("FROM /* WHERE level = '{level}'"));
    let condition = text.and_then(|text| crate::routing::Selection::parse(&text).unwrap().condition);
    let sink = Sink::Input { module: endpoint.into(), input: "in".into() };
    TargetSpec { condition, ..TargetSpec::new(sink) }
}

#[test]
fn a_message_goes_where_conditions_say_and_to_each_endpoint_once() {
    let ingest = Arc::new(Ingest::new("d", Book::unkept(1), LIMITS));
    ingest.set_router(Box::new(|_| {
        vec![
            conditional("a", Some("high")),
            TargetSpec { is_alternative: true, priority: 1, ..conditional("a", None) },
            conditional("b", Some("low")),
            TargetSpec { is_alternative: true, ..conditional("b", Some("none")) },
            conditional("c", None),
        ]
    }));
    let output = ingest.output(&identity(), "out");

    for level in ["high", "low", "other"] {
        send_level(&ingest, &output, level).unwrap();
    }

    let waiting = ["a", "b", "c"].map(|module| ingest.waiting(module).0);
    assert_eq!(waiting, [3, 1, 3]);
    let (_, sent, unrouted) = ingest.counts().remove(0);
    assert_eq!((sent, unrouted), (3, 0));
}

#[test]
fn a_message_that_no_condition_wants_is_counted_as_unrouted() {
    let ingest = Arc::new(Ingest::new("d", Book::unkept(1), LIMITS));
    ingest.set_router(Box::new(|_| vec![TargetSpec { max_bytes: 4, ..conditional("a", Some("high")) }]));
    let output = ingest.output(&identity(), "out");

    send_level(&ingest, &output, "low").unwrap();
    assert!(matches!(send_level(&ingest, &output, "high"), Err(SendError::TooLarge { .. })));
    send_level(&ingest, &output, "low").unwrap();

    let (_, sent, unrouted) = ingest.counts().remove(0);
    assert_eq!((sent, unrouted, ingest.waiting("a").0), (3, 2, 0));
}

#[test]
fn a_message_that_is_too_large_for_a_route_is_counted_there_and_goes_along_the_others() {
    for condition in [None, Some("high")] {
        let ingest = Arc::new(Ingest::new("d", Book::unkept(1), LIMITS));
        ingest.set_router(Box::new(move |_| {
            let to = |module: &str, max_bytes| TargetSpec { max_bytes, ..conditional(module, condition) };
            vec![to("wide", 1000), to("narrow", 4), to("wider", 2000), to("narrower", 3)]
        }));
        let output = ingest.output(&identity(), "out");

        let Err(SendError::TooLarge { limit, endpoint, .. }) = send_level(&ingest, &output, "high") else { panic!() };

        assert_eq!((limit, &*endpoint), (4, "/devices/d/modules/narrow/inputs/in"));
        assert_eq!(["wide", "narrow", "wider", "narrower"].map(|module| ingest.waiting(module).0), [1, 0, 1, 0]);
        let mut losses: Vec<_> = ingest.losses().take();
        losses.sort_by_key(|loss| loss.endpoint.clone());
        let losses: Vec<_> = losses.iter().map(|loss| (&*loss.endpoint, loss.reason, loss.first, loss.count)).collect();
        assert_eq!(
            losses,
            [
                ("/devices/d/modules/narrow/inputs/in", "tooLarge", 1, 1),
                ("/devices/d/modules/narrower/inputs/in", "tooLarge", 1, 1)
            ]
        );
        let (_, sent, unrouted) = ingest.counts().remove(0);
        assert_eq!((sent, unrouted), (1, 0));
    }
}

#[test]
fn a_gate_lets_a_part_of_what_was_wanted_through() {
    let ingest = Arc::new(Ingest::new("d", Book::unkept(1), LIMITS));
    let gate = Arc::new(Gate::new(2, None).unwrap());
    ingest
        .set_router(Box::new(move |_| vec![TargetSpec { gate: Some(gate.clone()), ..conditional("a", Some("high")) }]));
    let output = ingest.output(&identity(), "out");

    for level in ["high", "low", "high", "low", "high"] {
        send_level(&ingest, &output, level).unwrap();
    }

    assert_eq!(ingest.waiting("a").0, 2);
}
