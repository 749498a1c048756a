//! A receiver that takes nothing holds its senders for 50 ms at a time, nobody else, and what it missed is counted.

use crate::harness::{Manifest, Runtime, SOON, fixture, wait_until};

/// Messages that fit into the queue of the receiver.
const ROOM: usize = 4;

#[test]
fn full_queue_is_an_error_in_time_for_its_sender_and_nothing_to_the_others() {
    let manifest = Manifest::new()
        .module("sender", "wayward")
        .module("stuck", "wayward")
        .option("stuck", "stopGraceSecs", serde_json::json!(1))
        .module("good", "wayward")
        .connect("sender", "stuck")
        .connect("sender", "good");
    let config = format!("[queue]\nlane_messages = {ROOM}\n");
    let mut runtime = Runtime::new().supply(&[fixture("wayward")]).config(&config).start();
    runtime.deploy(&manifest);
    runtime.cli(&["send", "stuck", "in", "hang"]).ok();
    wait_until(SOON, "it hangs", || runtime.events("stuck").iter().any(|event| event.ends_with("hang")));

    runtime.cli(&["send", "sender", "send", r#"{"count": 30}"#]).ok();
    let sent =
        || -> Vec<String> { runtime.events("sender").into_iter().filter(|event| event.starts_with("sent")).collect() };
    wait_until(SOON, "all are sent", || sent().len() == 30);

    let sent = sent();
    let (first, rest) = sent.split_at(ROOM);
    assert!(first.iter().all(|event| event.contains(" ok ")), "{sent:?}");
    assert!(rest.iter().all(|event| event.contains(" Full ")), "{sent:?}");
    for event in rest {
        let held_ms: u64 = event.rsplit(' ').next().unwrap().parse().unwrap();
        assert!((45..=150).contains(&held_ms), "{event}");
    }
    let received = || runtime.events("good").iter().filter(|event| event.starts_with("message in")).count();
    wait_until(SOON, "the other receiver has all of them", || received() == 30);
    assert_eq!(runtime.module("stuck")["inbox"]["messages"], ROOM + 1);

    // Every loss is counted, and the count is on disk.
    runtime.stop();
    let database = rusqlite::Connection::open(runtime.state().join("queue.db")).unwrap();
    let query = "SELECT count, reason, endpoint, first_seq, last_seq FROM losses WHERE sender LIKE '%/sender'";
    let row = database.query_row(query, [], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?, row.get::<_, i64>(4)?))
    });
    let (count, reason, endpoint, last) = row.unwrap();
    assert_eq!((count, &*reason, last), (30 - ROOM as i64, "full", 30));
    assert_eq!(endpoint, "/devices/Hannover01/modules/stuck/inputs/in");
}
