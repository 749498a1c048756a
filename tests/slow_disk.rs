//! On a disk that takes its time for each sync, what is acknowledged is on it, in order, and senders share its syncs.

use std::time::Duration;

use serde_json::json;

use crate::harness::numbering::acknowledged;
use crate::harness::{Manifest, Runtime, SOON, fixture, wait_until};

const UP: &str = "FROM /messages/modules/sender/* INTO $upstream";

/// Output and number of what waits for the hub, in its order.
fn stored(runtime: &Runtime) -> Vec<(String, u64)> {
    let database = rusqlite::Connection::open(runtime.state().join("queue.db")).unwrap();
    let mut query = database.prepare("SELECT body FROM message ORDER BY id").unwrap();
    let bodies = query.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    bodies.map(|body| number(&String::from_utf8(body.unwrap()).unwrap())).collect()
}

/// `ORIGIN OUTPUT NUMBER …`
fn number(body: &str) -> (String, u64) {
    let words: Vec<&str> = body.split(' ').collect();
    (words[1].to_owned(), words[2].parse().unwrap())
}

#[test]
fn durable_senders_keep_their_order_on_a_slow_disk_and_nothing_acknowledged_is_missing() {
    let files = ["queue.db", "queue.db-wal", "dinrail.db", "dinrail.db-wal"];
    let (runtime, _disk) =
        Runtime::new().supply(&[fixture("numbering_sender")]).slow_disk(&files, Duration::from_millis(5));
    let mut runtime = runtime.start();
    let outputs = ["a", "b", "c", "d"];
    let more = json!({"pauseUs": 0, "window": 16, "count": 200});
    runtime.deploy(&Manifest::new().numbering_sender("sender", &outputs, more).route("up", UP));

    let folder = runtime.data("sender");
    let count = || acknowledged(&folder).values().map(Vec::len).sum::<usize>();
    wait_until(SOON, "all are acknowledged", || count() == 800);
    runtime.kill9();

    let stored = stored(&runtime);
    let acknowledged = acknowledged(&folder);
    for output in outputs {
        let of_output: Vec<u64> = stored.iter().filter(|(of, _)| of == output).map(|(_, number)| *number).collect();
        assert!(of_output.is_sorted_by(|a, b| a < b), "output {output} is out of order: {of_output:?}");
        assert!(acknowledged[output].is_sorted_by(|a, b| a < b), "acknowledged out of order: {acknowledged:?}");
        assert_eq!(of_output, acknowledged[output], "output {output}");
    }
}
