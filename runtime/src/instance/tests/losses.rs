//! Nothing is lost without being counted: defects of ours, failing disks, the end of the runtime.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;

use dinrail_plugin::abi::*;

use super::super::link::Control;
use super::super::testing::*;
use super::super::worker::Ending;
use super::*;

/// Panics where it is asked to log something: a defect of ours at the worst place.
struct Faulty;

impl tracing::Subscriber for Faulty {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {
        panic!("the log is broken");
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn a_defect_in_the_worker_loses_no_message() {
    let house = House::new();
    let seen = Arc::new(AtomicU64::new(0));
    let see = seen.clone();
    let name = house.name();
    // The second message is kept: what was deferred is put back, and faults when it comes again.
    let faulty = |message: Box<dyn Fn(u64) -> DrVerdictKind + Send + Sync>| Script {
        message: Some(Box::new(move |_, _, m| {
            let kind = message(body(m));
            if kind == DR_FAULT {
                std::mem::forget(tracing::subscriber::set_default(Faulty));
            }
            verdict(kind)
        })),
        ..Script::default()
    };
    for n in 1..=3u64 {
        house.send(&name, &n.to_le_bytes()).unwrap();
    }
    let first = house.start_as(&name, faulty(Box::new(|n| if n == 2 { DR_DEFER } else { DR_ACCEPT })));
    wait_until("all are handled", || house.services.ingest.waiting(&name).0 == 0);
    assert_eq!(first.stop(), Ending::Stopped);
    house.send(&name, &4u64.to_le_bytes()).unwrap();
    for _ in 0..2 {
        let broken = house.start_as(&name, faulty(Box::new(|n| if n == 2 { DR_FAULT } else { DR_ACCEPT })));
        assert!(matches!(broken.ended(), Ending::Failed(reason) if reason.contains("internal error")));
    }
    let broken = house.start_as(&name, faulty(Box::new(|n| if n == 4 { DR_FAULT } else { DR_ACCEPT })));
    assert!(matches!(broken.ended(), Ending::Failed(_)));

    let last = house.start_as(
        &name,
        faulty(Box::new(move |n| {
            see.fetch_add(n, Ordering::SeqCst);
            DR_ACCEPT
        })),
    );
    wait_until("what is left is handled", || seen.load(Ordering::SeqCst) == 4);
    assert_eq!(last.stop(), Ending::Stopped);
}

fn losses(house: &House) -> Vec<(&'static str, String, u64)> {
    let mut sums = std::collections::BTreeMap::new();
    for loss in house.services.ingest.losses().take() {
        *sums.entry((loss.reason, loss.endpoint.to_string())).or_default() += loss.count;
    }
    sums.into_iter().map(|((reason, endpoint), count)| (reason, endpoint, count)).collect()
}

#[test]
fn durable_messages_that_are_refused_or_that_nobody_hears_the_end_of_are_counted() {
    let house = House::with_store_bytes(1000);
    house.route(|_| vec![upstream()]);
    let (say, heard) = channel();
    let live = house.start(Script {
        event: Some(Box::new(move |me, _| {
            say.send(me.send(DR_NO_DELIVERY, "out", &[0; 2000], std::ptr::null())).unwrap();
            say.send(me.send(DR_NO_DELIVERY, "out", &[0; 20], std::ptr::null())).unwrap();
            DR_OK
        })),
        ..Script::default()
    });
    house.fail_writes();
    live.link.tell(Control::Event(0));
    assert_eq!((heard.recv(), heard.recv()), (Ok(DR_FULL), Ok(DR_PENDING)));
    house.database.flush().unwrap();
    let mut found = losses(&house);
    found.sort();
    let upstream = || "$upstream".to_owned();
    assert_eq!(found, [("notStored", upstream(), 1), ("storeFull", upstream(), 1)]);
    assert_eq!(live.stop(), Ending::Stopped);
}

/// An instance that sends each message on to the disk, staged.
fn forwarder(house: &House) -> (Live, Arc<AtomicU64>) {
    house.route(|source| if source.output.is_empty() { Vec::new() } else { vec![upstream()] });
    let count = Arc::new(AtomicU64::new(0));
    let counted = count.clone();
    let live = house.start(Script {
        message: Some(Box::new(move |me, delivery, message| {
            let status = me.send(delivery, "out", &body(message).to_le_bytes(), std::ptr::null());
            assert_eq!(status, DR_OK);
            counted.fetch_add(1, Ordering::SeqCst);
            ACCEPT
        })),
        ..Script::default()
    });
    (live, count)
}

#[test]
fn what_handlers_staged_is_stored_in_order_once_a_failing_disk_is_back() {
    let house = House::new();
    let (live, count) = forwarder(&house);
    let send = |range: std::ops::Range<u64>| range.for_each(|n| house.send(&live.name, &n.to_le_bytes()).unwrap());
    send(0..10);
    wait_until("ten are handled", || count.load(Ordering::SeqCst) == 10);
    house.database.flush().unwrap();
    house.fail_writes();
    send(10..200);
    wait_until("no more are handled than may be uncommitted", || {
        house.services.disk.retry();
        house.database.flush().unwrap();
        count.load(Ordering::SeqCst) == 74
    });
    // The last one may not have come back from its handler yet.
    wait_until("all others wait", || house.services.ingest.waiting(&live.name).0 == 126);

    house.mend_writes();
    wait_until("all are handled", || {
        house.services.disk.retry();
        count.load(Ordering::SeqCst) == 200
    });
    assert_eq!(live.stop(), Ending::Stopped);
    wait_until("all are stored", || house.rows().len() == 200);
    let bodies: Vec<u64> =
        house.rows().iter().map(|row| u64::from_le_bytes(row.message.body[..].try_into().unwrap())).collect();
    assert!(bodies.is_sorted(), "{bodies:?}");
    assert!(house.services.disk.take_unstored().is_empty());
    assert_eq!(house.services.disk.stored().0, 200);
}

#[test]
fn a_busy_forwarder_is_not_stopped_by_its_uncommitted_messages() {
    let house = House::new();
    let (live, count) = forwarder(&house);
    for n in 0..2000u64 {
        while house.send(&live.name, &n.to_le_bytes()).is_err() {}
    }
    wait_until("all are handled", || count.load(Ordering::SeqCst) == 2000);
    assert_eq!(live.stop(), Ending::Stopped);
    assert_eq!(house.rows().len(), 2000);
}

#[test]
fn what_waits_in_memory_when_the_runtime_ends_is_counted() {
    let house = House::new();
    let handled = Arc::new(AtomicU64::new(0));
    let handle = handled.clone();
    let live = house.start(Script {
        message: Some(Box::new(move |_, _, _| {
            handle.fetch_add(1, Ordering::SeqCst);
            verdict(DR_DEFER)
        })),
        ..Script::default()
    });
    house.send(&live.name, &[0; 8]).unwrap();
    wait_until("it is deferred", || handled.load(Ordering::SeqCst) == 1);
    assert_eq!(live.stop(), Ending::Stopped);
    assert_eq!(house.services.ingest.waiting(&live.name), (1, 8), "what was put back waits");
    let (stuck, _go) = stuck(&house, Script::default());
    for _ in 0..3 {
        house.send(&live.name, &[0; 8]).unwrap();
        house.send(&stuck.name, &[0; 8]).unwrap();
    }

    house.services.ingest.keep_waiting(crate::clock::now());

    let mut found = losses(&house);
    found.sort();
    let endpoint = |name: &str| format!("/devices/d/modules/{name}/inputs/in");
    let mut expected = [("stopped", endpoint(&live.name), 4), ("stopped", endpoint(&stuck.name), 3)];
    expected.sort();
    assert_eq!(found, expected);
}
