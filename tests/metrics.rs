//! `/metrics` is OpenMetrics text, the README says what stands in it, and what happens is counted.

use std::fmt::Write;

use serde_json::json;

use crate::harness::{LISTEN, Manifest, Runtime, SOON, fixture, say, wait_until, workspace};
use crate::open_metrics::{Family, read};

const QUICK: &str = "[restart]\nfirst_delay_secs = 0.01\nmax_delay_secs = 0.02\njitter_percent = 0\n";

#[track_caller]
fn scrape(runtime: &Runtime) -> Vec<Family> {
    let (status, head, text) = runtime.api().text("/metrics").unwrap();
    assert_eq!(status, 200, "{text}");
    let content_type = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert!(head.contains(content_type), "{head}");
    read(&text).unwrap_or_else(|wrong| panic!("{wrong}\n{text}"))
}

#[track_caller]
fn value(families: &[Family], name: &str, labels: &[(&str, &str)]) -> f64 {
    let family = families.iter().find(|family| family.name == format!("dinrail_{name}"));
    let family = family.unwrap_or_else(|| panic!("there is no {name}"));
    family.value(labels).unwrap_or_else(|| panic!("{name} has no {labels:?}: {:?}", family.samples))
}

#[test]
fn readme_says_of_every_metric_what_it_is() {
    let runtime = Runtime::new().supply(&[fixture("wayward")]).config(QUICK).start();
    runtime.deploy(&Manifest::new().module("w", "wayward"));
    let readme = std::fs::read_to_string(workspace().join("README.md")).unwrap();
    let mut expected = String::new();
    for family in scrape(&runtime) {
        let name = match family.kind.as_str() {
            "counter" => format!("{}_total", family.name),
            "info" => format!("{}_info", family.name),
            _ => family.name.clone(),
        };
        let row = format!("| `{name}` | {} | ", family.kind);
        let said = readme.lines().find(|line| line.starts_with(&row));
        let labels = said.and_then(|line| line[row.len()..].split(" | ").next()).unwrap_or_default();
        for (_, found, _) in &family.samples {
            let found: Vec<&String> = found.keys().filter(|label| *label != "le").collect();
            let mut told: Vec<&str> = labels.split(", ").filter(|label| !label.is_empty()).collect();
            told.sort_unstable();
            assert_eq!(found, told, "labels of {name} in the README");
        }
        let _ = writeln!(expected, "{row}{labels} | {} |", family.help);
    }
    let table: String =
        readme.lines().filter(|line| line.starts_with("| `dinrail_")).map(|line| format!("{line}\n")).collect();
    assert_eq!(table, expected, "the table of metrics in the README");
}

#[test]
fn life_of_a_module_is_counted() {
    let runtime = Runtime::new().supply(&[fixture("wayward")]).config(QUICK).start();
    runtime.deploy(&Manifest::new().module("w", "wayward"));
    let w = [("module", "w")];
    let up = scrape(&runtime);
    assert_eq!(value(&up, "modules", &[("status", "running")]), 1.0);
    assert_eq!(value(&up, "module_status", &[("module", "w"), ("status", "running")]), 1.0);
    assert_eq!(value(&up, "module_starts", &w), 1.0);
    assert!(value(&up, "module_running_correctly_seconds", &w) > 0.0);

    runtime.cli(&["restart", "w"]).ok();
    wait_until(SOON, "it has restarted", || value(&scrape(&runtime), "module_starts", &w) == 2.0);
    runtime.cli(&["stop", "w"]).ok();
    runtime.wait_for("w", "stopped");
    let down = scrape(&runtime);

    assert_eq!(value(&down, "module_exits", &[("module", "w"), ("outcome", "clean")]), 2.0);
    assert_eq!(value(&down, "module_exits", &[("module", "w"), ("outcome", "failed")]), 0.0);
    assert_eq!(value(&down, "modules", &[("status", "stopped")]), 1.0);
    let (running, expected) =
        (value(&down, "module_running_correctly_seconds", &w), value(&down, "module_expected_running_seconds", &w));
    assert!(running > 0.0 && running <= expected, "{running} of {expected}");
    // What a person stopped is not expected to run.
    assert_eq!(value(&scrape(&runtime), "module_expected_running_seconds", &w), expected);
}

#[test]
fn twins_messages_and_requests_are_counted() {
    let runtime = Runtime::new().supply(&[fixture("wayward")]).config(QUICK).start();
    runtime.deploy(&Manifest::new().module("w", "wayward"));
    for own in ["$edgeAgent", "$edgeHub"] {
        let desired = || runtime.json(&["twin", "get", own])["properties"]["desired"].clone();
        wait_until(SOON, "the runtime's own twin says what is deployed", || desired()["schemaVersion"].is_string());
    }
    let before = scrape(&runtime);
    let twin = "/twins/Hannover01/modules/w";
    let mut api = runtime.api();
    for (patch, status) in [(json!({"properties": {"desired": {"a": 1}}}), 200), (json!({"tags": {"a.b": 1}}), 400)] {
        assert_eq!(api.ask("PATCH", twin, Some(&patch)).unwrap().0, status);
    }
    assert_eq!(api.ask("GET", "/nonsense", None).unwrap().0, 404);
    runtime.cli(&["stop", "w"]).ok();
    runtime.wait_for("w", "stopped");
    (0..3).for_each(|number| drop(runtime.cli(&["send", "w", "in", &format!("m{number}")]).ok()));
    let after = scrape(&runtime);

    let grown = |name: &str, labels: &[(&str, &str)]| value(&after, name, labels) - value(&before, name, labels);
    assert_eq!(grown("twin_changes", &[("section", "desired")]), 1.0);
    assert_eq!(grown("twin_changes_refused", &[("reason", "invalid")]), 1.0);
    let patches = [("route", "/twins/{device}/modules/{module}"), ("method", "PATCH")];
    for status in ["2xx", "4xx"] {
        assert_eq!(value(&after, "api_requests", &[&patches[..], &[("status", status)]].concat()), 1.0, "{status}");
    }
    assert_eq!(value(&after, "api_requests", &[("route", "unknown"), ("status", "4xx")]), 1.0);
    let endpoint = [("endpoint", "/devices/Hannover01/modules/w/inputs/in")];
    assert_eq!(value(&after, "queue_messages", &endpoint), 3.0);
    assert!(value(&after, "queue_bytes", &endpoint) > 0.0);
    assert!(value(&after, "api_connections", &[]) >= 2.0, "this one and the one that scrapes");
    assert!(grown("audit_lines", &[]) >= 5.0, "patches, stop, sends");
    assert!(grown("database_commits", &[]) >= 1.0);
    assert!(value(&after, "disk_free_bytes", &[]) > 0.0);

    runtime.cli(&["start", "w"]).ok();
    wait_until(SOON, "they are taken", || value(&scrape(&runtime), "queue_messages", &endpoint) == 0.0);
    assert_eq!(value(&scrape(&runtime), "messages_taken", &endpoint), 3.0);
}

#[test]
fn methods_are_counted_by_how_they_ended_and_by_how_long_they_took() {
    let runtime = Runtime::new().supply(&[fixture("wayward")]).config(QUICK).start();
    runtime.deploy(&Manifest::new().module("w", "wayward"));
    let before = scrape(&runtime);
    let mut api = runtime.api();
    let echo = json!({"methodName": "echo"});
    for (target, status) in
        [("/modules/w", 200), ("/modules/w", 200), ("/modules/n", 404), ("", 404), ("/modules/%24edgeHub", 404)]
    {
        let path = format!("/twins/Hannover01{target}/methods");
        assert_eq!(api.ask("POST", &path, Some(&echo)).unwrap().0, status, "{path}");
    }
    let after = scrape(&runtime);

    let grown = |name: &str, labels: &[(&str, &str)]| value(&after, name, labels) - value(&before, name, labels);
    for (outcome, count) in [("answered", 2.0), ("not_found", 1.0), ("not_connected", 2.0), ("timeout", 0.0)] {
        assert_eq!(grown("methods", &[("outcome", outcome)]), count, "{outcome}");
    }
    let durations = |families: &[Family]| {
        let family = families.iter().find(|family| family.name == "dinrail_methods_duration_seconds").unwrap();
        let of = |end: &str| family.samples.iter().find(|(name, ..)| name.ends_with(end)).unwrap().2;
        (of("_count"), of("_sum"))
    };
    assert_eq!(durations(&after).0 - durations(&before).0, 2.0);
    assert!(durations(&after).1 > durations(&before).1);
}

#[test]
fn secrets_given_and_refused_and_tokens_that_are_not_taken_are_counted() {
    let runtime = Runtime::new().args(LISTEN).supply(&[fixture("wayward")]).config(QUICK).start();
    runtime.deploy(&Manifest::new().module("w", "wayward"));
    let refers = json!({"properties": {"desired": {"pw": {"$secret": "plc-pw"}}}});
    let mut api = runtime.api();
    let twin = "/twins/Hannover01/modules/w";
    assert_eq!(api.ask("PATCH", twin, Some(&refers)).unwrap().0, 400);
    let refused = scrape(&runtime);
    assert!(value(&refused, "secrets_refused", &[("reason", "not_set")]) >= 1.0);
    assert_eq!((value(&refused, "secrets", &[]), value(&refused, "secrets_given", &[])), (0.0, 0.0));
    runtime.cli_with_input(&["secret", "set", "plc-pw", "--for", "w"], b"hunter22").ok();
    assert_eq!(api.ask("PATCH", twin, Some(&refers)).unwrap().0, 200);
    wait_until(SOON, "it is given", || value(&scrape(&runtime), "secrets_given", &[]) >= 1.0);
    let given = scrape(&runtime);
    assert_eq!((value(&given, "secrets", &[]), value(&given, "secret_changes", &[])), (1.0, 1.0));

    let mut stream = runtime.tls();
    for token in [None, Some("nonsense".to_owned()), Some(runtime.token("reader", 1_000_000_000))] {
        let header = token.map(|token| format!("authorization: {token}\r\n")).unwrap_or_default();
        let request = format!("GET /health HTTP/1.1\r\nhost: localhost\r\n{header}\r\n");
        assert!(say(&mut stream, request.as_bytes()).starts_with("HTTP/1.1 401 "));
    }
    let after = scrape(&runtime);
    for (reason, count) in [("missing", 1.0), ("malformed", 1.0), ("expired", 1.0), ("key", 0.0)] {
        assert_eq!(value(&after, "api_tokens_refused", &[("reason", reason)]), count, "{reason}");
    }
    assert_eq!(value(&after, "api_requests_refused", &[("reason", "token")]), 3.0);
}
