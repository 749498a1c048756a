//! Direct methods as the operator calls them: by the verb, and in IoT Hub's shape.

use serde_json::{Value, json};

use crate::harness::{Manifest, Runtime, fixture};

const METHODS: &str = "/twins/Hannover01/modules/m/methods";

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
    runtime.cli(&["method", "m", "echo", "--timeout", "1s"]).refused(1, &["responseTimeoutInSeconds: 1 is not within"]);

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
