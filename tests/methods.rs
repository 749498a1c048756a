//! Direct methods as the operator calls them: by the verb, and in IoT Hub's shape.

use serde_json::{Value, json};

use crate::harness::{Manifest, Runtime, SOON, c_module, fixture, wait_until};

const METHODS: &str = "/twins/Hannover01/modules/m/methods";

/// Two modules that call each other.
fn pair() -> Runtime {
    let runtime = Runtime::new().supply(&[fixture("exchange")]).start();
    runtime.deploy(&Manifest::new().module("a", "exchange").module("b", "exchange"));
    runtime
}

fn identity(module: &str) -> String {
    format!("/devices/Hannover01/modules/{module}")
}

/// What `module` gets for a call that it makes in its own handler.
fn calls(runtime: &Runtime, module: &str, call: &Value) -> Value {
    runtime.json(&["method", module, "call", &call.to_string()])["payload"].clone()
}

/// Waits until the handler of `wait` is under way.
fn wait_until_it_waits(runtime: &Runtime, module: &str) {
    let file = runtime.state().join("data").join(module).join("waits");
    wait_until(SOON, "the handler is under way", || file.exists());
}

fn let_it_go_on(runtime: &Runtime, module: &str) {
    std::fs::write(runtime.state().join("data").join(module).join("go"), "").unwrap();
}

fn wayward(desired: Value) -> Runtime {
    let runtime = Runtime::new().supply(&[fixture("wayward")]).start();
    runtime.deploy(&Manifest::new().module("m", "wayward").desired("m", desired));
    runtime
}

#[test]
fn method_prints_status_and_payload_and_its_exit_code_says_whether_it_worked() {
    let runtime = wayward(json!({}));

    let printed = runtime.cli(&["method", "m", "echo", "a=1", "b.c=two"]).ok().stdout;
    assert_eq!(printed, "status 200\n{\n  \"a\": 1,\n  \"b\": {\n    \"c\": \"two\"\n  }\n}\n");
    let document = runtime.json(&["method", "/devices/Hannover01/modules/m", "echo", "[1, null]"]);
    assert_eq!(document, json!({"status": 200, "payload": [1, null]}));
    let file = runtime.write("payload.json", "\"from a file\"");
    let document = runtime.json(&["method", "m", "echo", &format!("@{}", file.display())]);
    assert_eq!(document["payload"], "from a file");
    let piped = runtime.cli_with_input(&["method", "m", "echo", "-", "--json"], b"{\"piped\": true}").ok();
    assert_eq!(serde_json::from_str::<Value>(&piped.stdout).unwrap()["payload"], json!({"piped": true}));

    let refused = runtime.cli(&["method", "m", "refuse", "why=so"]).refused(1, &["m answered refuse with status 409"]);
    assert!(refused.stdout.starts_with("status 409\n"), "{}", refused.stdout);
    assert_eq!(runtime.json(&["method", "m", "echo"]), json!({"status": 200, "payload": null}));
}

#[test]
fn what_cannot_be_called_is_refused_with_the_next_step() {
    let runtime = wayward(json!({"failIn": ["method"]}));
    runtime.cli(&["method", "m", "echo"]).refused(1, &["asked to fail in method", "hint: dinrail show m"]);
    runtime.cli(&["twin", "patch", "m", "failIn=[]", "--wait"]).ok();
    runtime
        .cli(&["method", "m", "missing"])
        .refused(1, &["has no method 'missing'", "dinrail show m lists its methods"]);
    runtime.cli(&["method", "n", "echo"]).refused(1, &["there is no module 'n'"]);
    runtime.cli(&["method", "/devices/Other/modules/m", "echo"]).refused(1, &["answers no methods here"]);
    runtime.cli(&["method", "m", "echo", "{"]).refused(2, &["not JSON"]);
    let rounded = runtime.cli(&["method", "m", "echo", "--timeout", "1500ms"]).ok();
    assert_eq!(rounded.stderr, "note: --timeout: 1.5s becomes 5 s: whole seconds from 5 to 300\n");

    runtime.cli(&["stop", "m"]).ok();
    runtime.wait_for("m", "stopped");
    runtime.cli(&["method", "m", "echo"]).refused(1, &["m is stopped, so there is nobody to answer"]);
}

#[test]
fn methods_have_the_shape_and_the_statuses_of_iot_hub() {
    let runtime = wayward(json!({}));
    let mut api = runtime.api();
    let mut ask = |path: &str, body: Value| api.ask("POST", path, Some(&body)).unwrap();

    let whole = json!({
        "methodName": "refuse", "payload": {"a": 1}, "responseTimeoutInSeconds": 10, "connectTimeoutInSeconds": 0
    });
    assert_eq!(ask(METHODS, whole), (200, json!({"status": 409, "payload": {"a": 1}})));
    for (path, body, status) in [
        (METHODS, json!({"methodName": "missing"}), 404),
        ("/twins/Hannover01/modules/n/methods", json!({"methodName": "echo"}), 404),
        ("/twins/Hannover01/methods", json!({"methodName": "echo"}), 404),
        (METHODS, json!({"payload": 1}), 400),
        (METHODS, json!({"methodName": ""}), 400),
        (METHODS, json!({"methodName": "echo", "responseTimeoutInSeconds": 301}), 400),
        (METHODS, json!({"methodName": "x".repeat(101)}), 400),
        (METHODS, json!({"methodName": "echo", "payload": "x".repeat(128 * 1024)}), 413),
    ] {
        let (said, error) = ask(path, body.clone());
        assert_eq!(said, status, "{path}: {error}");
        assert!(error["error"]["hint"].is_string(), "{error}");
    }
    let largest = "x".repeat(128 * 1024 - 2);
    assert_eq!(ask(METHODS, json!({"methodName": "echo", "payload": largest})).1["payload"], json!(largest));
}

#[test]
fn a_call_waits_for_a_module_that_is_not_there_yet_if_asked_to() {
    let runtime = wayward(json!({}));
    runtime.cli(&["stop", "m"]).ok();
    runtime.wait_for("m", "stopped");
    let waiting = runtime.follow(&["method", "m", "echo", "a=1", "--connect-timeout", "20s"]);
    runtime.cli(&["start", "m"]).ok();
    assert_eq!(waiting.line(), "status 200");
}

#[test]
fn a_method_that_does_not_answer_in_time_is_given_up() {
    let runtime = wayward(json!({"hangIn": ["method"]}));
    let mut api = runtime.api();
    let call = json!({"methodName": "echo", "responseTimeoutInSeconds": 5});
    let (status, error) = api.ask("POST", METHODS, Some(&call)).unwrap();
    assert_eq!((status, &error["error"]["code"]), (504, &json!("timeout")));
    assert_eq!(error["error"]["message"], "m did not answer echo within 5 s");
}

#[test]
fn all_that_is_wrong_with_a_call_is_told_at_once() {
    let runtime = wayward(json!({}));
    let call = json!({"methodName": "", "responseTimeoutInSeconds": 4, "connectTimeoutInSeconds": -1});
    let (status, error) = runtime.api().ask("POST", METHODS, Some(&call)).unwrap();
    assert_eq!(status, 400, "{error}");
    assert_eq!(error["error"]["details"].as_array().unwrap().len(), 3, "{error}");
}

#[test]
fn caller_is_stamped_payloads_and_statuses_pass_as_they_are() {
    let runtime = pair();
    let by_hand = runtime.json(&["method", "a", "caller"])["payload"].clone();
    assert!(by_hand.as_str().is_some_and(|name| !name.is_empty() && !name.starts_with('/')), "{by_hand}");
    let call = json!({"target": identity("b"), "name": "caller", "timeoutMs": 20_000});
    assert_eq!(calls(&runtime, "a", &call), json!({"status": 200, "payload": identity("a")}));

    let mut api = runtime.api();
    let mut echo = |mut call: Value| {
        call["methodName"] = "echo".into();
        api.ask("POST", "/twins/Hannover01/modules/a/methods", Some(&call)).unwrap().1["payload"].clone()
    };
    assert_eq!(echo(json!({})), "");
    assert_eq!(echo(json!({"payload": null})), "null");
    assert_eq!(echo(json!({"payload": ""})), "\"\"");
    for status in [0, -1, 199, 99_999, i32::MAX, i32::MIN] {
        let argument = status.to_string();
        let answer = runtime.cli(&["method", "a", "status", &argument, "--json"]).refused(1, &[&argument]);
        assert_eq!(serde_json::from_str::<Value>(&answer.stdout).unwrap()["status"], status);
    }
}

#[test]
fn an_answer_that_is_no_json_or_too_long_is_a_clear_error() {
    let runtime =
        Runtime::new().supply(&[c_module("m", "1.0.0", &["-DMETHOD_ANSWER=\"{oops\"", "-DMETHOD_STATUS=200"])]).start();
    runtime.deploy(&Manifest::new().module("m", "m"));
    runtime
        .cli(&["method", "m", "any"])
        .refused(1, &["gave no usable answer", "not JSON", "hint: the module has to be repaired"]);
    runtime.cli(&["method", "m", "long"]).refused(1, &["160000 bytes", "131072 at most"]);
}

#[test]
fn two_modules_that_call_each_other_end_by_their_deadlines_and_both_work_afterwards() {
    let runtime = pair();
    let back = json!({"target": identity("a"), "name": "echo", "timeoutMs": 300});
    let there = json!({"target": identity("b"), "name": "call", "payload": back, "timeoutMs": 10_000});

    let end = calls(&runtime, "a", &there);

    assert_eq!(end["status"], 200, "{end}");
    assert_eq!(end["payload"]["error"], "Timeout", "{end}");
    for module in ["a", "b"] {
        assert_eq!(runtime.json(&["method", module, "echo", "1"])["payload"], "1", "{module}");
        assert_eq!(runtime.module(module)["restartCount"], 0);
    }
}

#[test]
fn a_module_that_calls_itself_from_a_handler_ends_by_its_deadline() {
    let runtime = pair();
    let own = json!({"target": identity("a"), "name": "echo", "timeoutMs": 50});
    assert_eq!(calls(&runtime, "a", &own)["error"], "Timeout");
    assert_eq!(runtime.json(&["method", "a", "echo", "1"])["payload"], "1");
}

#[test]
fn what_a_module_cannot_call_is_refused_with_the_reason() {
    let runtime = pair();
    runtime.cli(&["stop", "b"]).ok();
    runtime.wait_for("b", "stopped");
    let long = "x".repeat(101);
    let large = "x".repeat(131_071);
    for (call, kind, text) in [
        (json!({"target": identity("b"), "name": "echo", "timeoutMs": 5000}), "NotFound", "nobody to answer"),
        (json!({"target": identity("c"), "name": "echo", "timeoutMs": 5000}), "NotFound", "there is no module 'c'"),
        (
            json!({"target": "/devices/Hannover01", "name": "echo", "timeoutMs": 5000}),
            "NotFound",
            "identity of the device",
        ),
        (json!({"target": identity("$edgeHub"), "name": "echo", "timeoutMs": 5000}), "NotFound", "answers no methods"),
        (json!({"target": "no/where", "name": "echo", "timeoutMs": 5000}), "NotFound", "no/where"),
        (json!({"target": identity("b"), "name": long, "timeoutMs": 5000}), "Invalid", "101 characters"),
    ] {
        let end = calls(&runtime, "a", &call);
        assert_eq!(end["error"], kind, "{end}");
        assert!(end["text"].as_str().unwrap().contains(text), "{end}");
    }
    let call = json!({"target": "b", "name": "echo", "payload": large, "timeoutMs": 5000});
    let mut api = runtime.api();
    let body = json!({"methodName": "call", "payload": call});
    let (status, _) = api.ask("POST", "/twins/Hannover01/modules/a/methods", Some(&body)).unwrap();
    assert_eq!(status, 413, "the call of the call is too large itself");
}

#[test]
fn whoever_waits_for_a_module_that_crashes_or_is_stopped_hears_of_it_at_once() {
    let runtime = pair();
    runtime.cli(&["method", "a", "panic", "--timeout", "5m"]).refused(1, &["asked to panic"]);
    runtime.cli(&["start", "a"]).ok();
    runtime.wait_for("a", "running");

    let busy = runtime.follow(&["method", "b", "wait", "--timeout", "5m"]);
    wait_until_it_waits(&runtime, "b");
    let waits = runtime.follow(&["method", "b", "echo", "--timeout", "5m"]);
    wait_until(SOON, "the other one waits", || runtime.json(&["show", "b"])["waitingCalls"] == 1);
    let stop = runtime.follow(&["stop", "b"]);
    wait_until(SOON, "it is to stop", || runtime.module("b")["status"] == "stopping");
    let_it_go_on(&runtime, "b");
    assert_eq!((busy.line(), busy.end().0), ("status 200".to_owned(), 0), "what was begun is finished");
    stop.end();
    let (code, said) = waits.end();
    assert!(code == 1 && said.contains("ended before it took up the call: stopped as asked"), "{code}: {said}");
}

#[test]
fn a_call_whose_handler_never_returns_ends_when_its_module_is_given_up() {
    let runtime = Runtime::new().supply(&[fixture("wayward")]).start();
    let manifest = Manifest::new().module("m", "wayward").option("m", "stopGraceSecs", json!(1));
    runtime.deploy(&manifest.desired("m", json!({"hangIn": ["method"]})));
    let stuck = runtime.follow(&["method", "m", "echo", "--timeout", "5m"]);
    let waits = runtime.follow(&["method", "m", "echo", "--timeout", "5m"]);
    wait_until(SOON, "one is begun and one waits", || runtime.json(&["show", "m"])["waitingCalls"] == 1);
    runtime.cli(&["stop", "m"]);
    let ends = [stuck.end(), waits.end()];
    assert!(ends.iter().any(|(code, said)| *code == 1 && said.contains("did not finish the call")), "{ends:?}");
    assert!(
        ends.iter().any(|(code, said)| *code == 1 && said.contains("ended before it took up the call")),
        "{ends:?}"
    );
}

#[test]
fn late_answers_are_dropped_counted_and_shown() {
    let runtime = pair();
    let call = json!({"target": identity("b"), "name": "wait", "timeoutMs": 20});
    assert_eq!(calls(&runtime, "a", &call)["error"], "Timeout");
    let_it_go_on(&runtime, "b");
    wait_until(SOON, "the late answer is counted", || runtime.json(&["show", "b"])["lateAnswers"] == 1);
    assert!(runtime.cli(&["show", "b"]).ok().stdout.contains("late answers 1"));
    let log = || runtime.cli(&["logs", "b"]).ok().stdout;
    wait_until(SOON, "the log says so", || {
        log().contains("answered the method wait") && log().contains("gave up waiting")
    });
}

#[test]
fn a_thousand_calls_at_once_are_all_answered() {
    let runtime = pair();
    let call = json!({"target": identity("b"), "name": "echo", "timeoutMs": 60_000, "count": 1000});
    let ends = runtime.json(&["method", "a", "flood", &call.to_string(), "--timeout", "2m"]);
    assert_eq!(ends["payload"], json!({"200": 1000}));
}

#[test]
fn more_calls_than_may_wait_are_refused_and_others_are_served() {
    let runtime = pair();
    let busy = runtime.follow(&["method", "b", "wait", "--timeout", "5m"]);
    wait_until_it_waits(&runtime, "b");
    let call = json!({"target": identity("b"), "name": "echo", "timeoutMs": 60_000, "count": 1100});
    let flood = runtime.follow(&["method", "a", "flood", &call.to_string(), "--timeout", "2m", "--json"]);
    let refused = || runtime.json(&["show", "b"])["waitingCalls"].as_u64() == Some(1024);
    wait_until(SOON, "the line is full", refused);
    let_it_go_on(&runtime, "b");
    assert_eq!(runtime.json(&["method", "b", "echo", "1"])["payload"], "1");
    assert_eq!(busy.line(), "status 200");
    let mut text = String::new();
    while !text.trim_end().ends_with("\n}") {
        text += &(flood.line() + "\n");
    }
    let ends: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        ends["payload"]["200"].as_u64().unwrap() + ends["payload"]["\"Full\""].as_u64().unwrap(),
        1100,
        "{ends}"
    );
}

#[test]
fn an_identity_that_nobody_serves_is_not_online_and_only_one_that_is_not_there_is_not_found() {
    let runtime = wayward(json!({}));
    let mut api = runtime.api();
    for (path, body) in [
        ("/devices/press-1", json!({"deviceId": "press-1"})),
        ("/devices/press-1/modules/m", json!({"deviceId": "press-1", "moduleId": "m"})),
        ("/devices/Hannover01/modules/far", json!({"deviceId": "Hannover01", "moduleId": "far"})),
    ] {
        let made = api.ask("PUT", path, Some(&body)).unwrap();
        assert!([200, 201].contains(&made.0), "{path}: {made:?}");
    }
    let mut call = |target: &str, method: &str, connect_secs: u64| {
        let body = json!({"methodName": method, "connectTimeoutInSeconds": connect_secs}).to_string();
        let path = format!("/twins/{target}/methods");
        let answer = api.exchange("POST", &path, &[("Content-Type", "application/json")], &body);
        let (number, name) = answer.hub_error();
        (answer.status, (number, name.to_owned()), answer.body["error"].to_string())
    };
    let offline = (404_103, "DeviceNotOnline");
    for (target, method, connect_secs, code, text) in [
        ("press-1", "echo", 1, offline, "/devices/press-1 is in the registry but not connected"),
        ("press-1", "echo", 0, offline, "dinrail identity show /devices/press-1"),
        ("press-1/modules/m", "echo", 0, offline, "/devices/press-1/modules/m is in the registry but not connected"),
        ("Hannover01/modules/far", "echo", 1, offline, "far has an identity but no instance"),
        ("Hannover01", "echo", 0, offline, "nothing here serves methods for it"),
        ("Hannover01/modules/%24edgeHub", "echo", 0, offline, "answers no methods"),
        ("press-2", "echo", 20, (404_001, "DeviceNotFound"), "press-2"),
        ("press-2/modules/m", "echo", 20, (404_001, "DeviceNotFound"), "press-2"),
        ("press-1/modules/n", "echo", 20, (404_010, "ModuleNotFound"), "press-1/modules/n"),
        ("Hannover01/modules/n", "echo", 20, (404_010, "ModuleNotFound"), "there is no module 'n'"),
        ("Hannover01/modules/m", "missing", 0, (404_000, "GenericNotFound"), "has no method 'missing'"),
    ] {
        let (status, found, error) = call(target, method, connect_secs);
        assert_eq!((status, found.0, &*found.1), (404, code.0, code.1), "{target} {method}: {error}");
        assert!(error.contains(text), "{target} {method}: {error}");
    }
    runtime
        .cli(&["method", "/devices/press-1", "echo"])
        .refused(1, &["is in the registry but not connected", "hint: "]);
}
