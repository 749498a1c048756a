//! IoT Hub's service API, request by request: what its clients send, and all that they read of an answer.

use serde_json::{Value, json};

use crate::harness::{Api, Exchange, Manifest, Runtime, fixture};

#[track_caller]
fn ask(api: &mut Api, method: &str, path: &str, body: &Value) -> Exchange {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    api.exchange(method, path, &[("Content-Type", "application/json; charset=utf-8")], &body)
}

#[track_caller]
fn query(api: &mut Api, text: &str, headers: &[(&str, &str)]) -> Exchange {
    let answer =
        api.exchange("POST", "/devices/query?api-version=2021-04-12", headers, &json!({"query": text}).to_string());
    assert_eq!(answer.status, 200, "{text}: {}", answer.body);
    answer
}

fn with_modules() -> Runtime {
    let runtime = Runtime::new().supply(&[fixture("wayward")]).start();
    runtime.deploy(&Manifest::new().module("a", "wayward").module("b", "wayward").module("c-1", "wayward"));
    let mut api = runtime.api();
    for (module, hall) in [("a", 1), ("b", 2), ("c-1", 2)] {
        let path = format!("/twins/Hannover01/modules/{module}");
        let tags = json!({"tags": {"hall": hall, "my-tag": module}});
        assert_eq!(ask(&mut api, "PATCH", &path, &tags).status, 200);
    }
    runtime
}

#[test]
fn errors_on_iot_hubs_paths_say_to_its_clients_what_they_say_to_people() {
    let runtime = Runtime::new().start();
    let mut api = runtime.api();
    let nothing = Value::Null;
    for (method, path, body, status, code) in [
        ("GET", "/twins/nowhere", &nothing, 404, (404_001, "DeviceNotFound")),
        ("GET", "/twins/Hannover01/modules/%24none", &nothing, 404, (404_010, "ModuleNotFound")),
        ("GET", "/twins/Hannover01/modules/a%2Fb", &nothing, 400, (400_004, "ArgumentInvalid")),
        ("GET", "/twins/%FF", &nothing, 400, (400_004, "ArgumentInvalid")),
        ("PATCH", "/twins/Hannover01", &json!({"tags": 7}), 400, (400_004, "ArgumentInvalid")),
        ("PATCH", "/twins/Hannover01", &json!("{"), 400, (400_004, "ArgumentInvalid")),
        ("POST", "/twins/Hannover01", &nothing, 405, (400_003, "InvalidOperation")),
        ("GET", "/twins/a/b/c/d/e", &nothing, 404, (404_001, "DeviceNotFound")),
        ("POST", "/devices/query", &json!({"query": 1}), 400, (400_004, "ArgumentInvalid")),
    ] {
        let answer = ask(&mut api, method, path, body);
        assert_eq!((answer.status, answer.hub_error()), (status, code), "{method} {path}: {}", answer.body);
    }
    let stale =
        api.exchange("PATCH", "/twins/Hannover01", &[("If-Match", "\"AAAAAAAAAEE=\"")], r#"{"tags": {"a": 1}}"#);
    assert_eq!((stale.status, stale.hub_error()), (412, (412_001, "PreconditionFailed")));
    assert!(stale.phrase.contains("has changed"), "the phrase alone tells what is wrong: {}", stale.phrase);
    let any =
        api.exchange("PATCH", "/twins/Hannover01?api-version=x", &[("If-Match", "\"*\"")], r#"{"tags": {"a": 1}}"#);
    assert_eq!((any.status, &any.body["tags"]["a"]), (200, &json!(1)));

    let elsewhere = ask(&mut api, "GET", "/modules/nowhere", &nothing);
    assert_eq!((elsewhere.status, &elsewhere.body["Message"]), (404, &Value::Null));
    assert_eq!(elsewhere.header("iothub-errorcode"), None);
}

#[test]
fn queries_select_among_twins() {
    let runtime = with_modules();
    let mut api = runtime.api();

    let whole = query(&mut api, "SELECT * FROM devices", &[]);
    assert_eq!(whole.header("x-ms-item-type"), Some("twin"));
    let mut twin = ask(&mut api, "GET", "/twins/Hannover01", &Value::Null).body;
    // It is connected, and active between the two requests.
    let mut found = whole.body[0].clone();
    for document in [&mut twin, &mut found] {
        document.as_object_mut().unwrap().remove("lastActivityTime");
    }
    assert_eq!((found, whole.body.as_array().unwrap().len()), (twin, 1));

    for (text, expected) in [
        ("SELECT moduleId FROM devices.modules WHERE tags.hall = 2", json!([{"moduleId": "b"}, {"moduleId": "c-1"}])),
        ("SELECT COUNT() FROM devices.modules WHERE tags.hall >= 1", json!([{"$1": 3}])),
        ("SELECT COUNT() AS n FROM devices.modules WHERE tags.hall = 9", json!([{"n": 0}])),
        ("SELECT * FROM devices.modules WHERE tags.hall = 9", json!([])),
        ("select tags.hall, tags.missing as x from devices.modules where moduleId in ['a']", json!([{"hall": 1}])),
        ("SELECT tags.[[my-tag]] AS tag FROM devices.modules WHERE NOT tags.hall != 1", json!([{"tag": "a"}])),
        (
            "SELECT deviceId, connectionState, status FROM devices WHERE IS_DEFINED(properties.desired.$version)",
            json!([{"deviceId": "Hannover01", "connectionState": "Connected", "status": "enabled"}]),
        ),
        (
            "SELECT moduleId FROM devices.modules WHERE connectionState = 'Connected' AND (tags.hall = 1 OR moduleId = 'b')",
            json!([{"moduleId": "a"}, {"moduleId": "b"}]),
        ),
    ] {
        assert_eq!(query(&mut api, text, &[]).body, expected, "{text}");
    }
    let projected = query(&mut api, "SELECT deviceId FROM devices", &[]);
    assert_eq!(projected.header("x-ms-item-type"), Some("raw"));
}

#[test]
fn a_query_that_is_none_is_refused_with_its_place_and_what_is_possible() {
    let runtime = Runtime::new().start();
    let mut api = runtime.api();
    let refused =
        ask(&mut api, "POST", "/devices/query", &json!({"query": "SELECT * FROM devices WHERE tag.hall = 3"}));

    assert_eq!((refused.status, refused.hub_error()), (400, (400_004, "ArgumentInvalid")));
    let error = &refused.body["error"];
    assert_eq!(error["message"], "the query cannot be read: line 1, column 29: a twin has no 'tag'");
    assert!(error["hint"].as_str().unwrap().starts_with("did you mean tags?"), "{error}");
    assert_eq!(error["details"][0], format!("SELECT * FROM devices WHERE tag.hall = 3\n{}^", " ".repeat(28)));
    for (headers, words) in [
        (("x-ms-max-item-count", "0"), "1 to 1000"),
        (("x-ms-max-item-count", "1001"), "1 to 1000"),
        (("x-ms-continuation", "bm90IG9uZQ"), "none of this device's"),
    ] {
        let text = json!({"query": "SELECT * FROM devices"}).to_string();
        let refused = api.exchange("POST", "/devices/query", &[headers], &text);
        assert_eq!(refused.status, 400, "{headers:?}");
        assert!(refused.body["error"]["message"].as_str().unwrap().contains(words), "{}", refused.body);
    }
}
