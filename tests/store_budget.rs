//! How much may wait on disk: for one endpoint and altogether, as the deployment says, at once and over restarts.

use serde_json::{Value, json};

use crate::harness::{Manifest, Runtime, SOON, fixture, wait_until};

fn manifest(store: Value) -> Manifest {
    let manifest = Manifest::new().module("w", "wayward").store(store);
    manifest.route("up", "FROM /messages/modules/w/outputs/out INTO $upstream")
}

/// How many of `count` further messages of 100 kB were taken.
#[track_caller]
fn send(runtime: &Runtime, count: usize) -> usize {
    let sent =
        || -> Vec<String> { runtime.events("w").into_iter().filter(|event| event.starts_with("sent")).collect() };
    let before = sent().len();
    runtime.cli(&["send", "w", "send", &json!({"count": count, "bytes": 100_000}).to_string()]).ok();
    wait_until(SOON, "all were tried", || sent().len() == before + count);
    sent()[before..].iter().filter(|event| event.contains(" ok ")).count()
}

#[test]
fn budget_of_an_endpoint_holds_over_restarts_and_another_one_holds_at_once() {
    let mut runtime = Runtime::new().supply(&[fixture("wayward")]).start();
    let upstream = |bytes: u64| json!({"maxBytes": 2_000_000, "endpoints": {"$upstream": {"maxBytes": bytes}}});
    runtime.deploy(&manifest(upstream(350_000)));
    let started = runtime.module("w")["lastStartTimeUtc"].clone();
    assert_eq!(send(&runtime, 5), 3);
    let lost = runtime.json(&["losses", "w"]);
    assert_eq!(
        (&lost["entries"][0]["reason"], &lost["entries"][0]["count"]),
        (&json!("storeFull"), &json!(2)),
        "{lost}"
    );

    runtime.deploy(&manifest(upstream(550_000)));
    assert_eq!(send(&runtime, 5), 2);
    assert_eq!(runtime.module("w")["lastStartTimeUtc"], started, "it was not restarted for that");

    runtime.kill9_and_launch();
    runtime.wait_for("w", "running");
    assert_eq!(send(&runtime, 2), 0, "what waits is counted after a restart as well");

    // The whole store bounds what an endpoint's own limit would allow.
    runtime.deploy(&manifest(upstream(9_000_000)));
    assert_eq!(send(&runtime, 20), 14);
    let output = runtime.cli(&["check", "--json"]);
    let check: Value = serde_json::from_str(&output.stdout).unwrap();
    let store = check["findings"].as_array().unwrap().iter().find(|finding| finding["id"] == "store").unwrap();
    assert_eq!(store["status"], "warning", "{store:#}");
    let details = store["details"].to_string();
    for words in ["1.8 MiB of 1.9 MiB wait on disk", "$upstream: 1.8 MiB", "99 of 100 within", "for each"] {
        assert!(details.contains(words), "{words}: {store:#}");
    }
}

#[test]
fn budget_that_means_nothing_is_refused_with_its_place() {
    let runtime = Runtime::new().supply(&[fixture("wayward")]).start();
    let file = runtime.write("m.json", manifest(json!({"maxBytes": "1 MB", "endpoints": {"upstream": {}}})).text());

    let refused = runtime.cli(&["deploy", file.to_str().unwrap()]);

    refused.refused(1, &["storeAndForwardConfiguration.maxBytes", "is no endpoint", "$upstream"]);
}

#[test]
fn endpoint_that_is_full_costs_the_others_of_the_message_nothing_and_the_sender_is_told() {
    let runtime = Runtime::new().supply(&[fixture("wayward")]).start();
    let store = json!({"endpoints": {"$upstream": {"maxBytes": 350_000}}});
    let late = json!({
        "route": "FROM /messages/modules/w/outputs/out INTO BrokeredEndpoint(\"/modules/late/inputs/in\")",
        "durability": "disk",
    });
    runtime.deploy(&manifest(store).any_route("late", late));

    assert_eq!(send(&runtime, 5), 3, "the others are told that the store is full");

    let queue = rusqlite::Connection::open(runtime.state().join("queue.db")).unwrap();
    let waiting = |endpoint: &str| -> i64 {
        let sql = "SELECT count(*) FROM message JOIN endpoint e ON e.id = endpoint WHERE e.name LIKE ?1";
        queue.query_row(sql, [endpoint], |row| row.get(0)).unwrap()
    };
    assert_eq!((waiting("%upstream"), waiting("%/late/inputs/in")), (3, 5));
    wait_until(SOON, "what was refused is in the ledger", || {
        runtime.json(&["losses", "w"])["entries"].as_array().is_some_and(|entries| !entries.is_empty())
    });
    let losses = runtime.json(&["losses", "w"]);
    let found: Vec<_> = losses["entries"].as_array().unwrap().iter().map(|e| (&e["endpoint"], &e["count"])).collect();
    assert_eq!(found, [(&json!("$upstream"), &json!(2))], "{losses:#}");
}
