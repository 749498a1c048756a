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

#[test]
fn devices_and_modules_are_made_changed_and_removed_as_at_iot_hub() {
    let runtime = Runtime::new().start();
    let mut api = runtime.api();
    let nothing = Value::Null;
    let sent = json!({
        "deviceId": "press-1", "status": "enabled", "authentication": {"type": "sas", "symmetricKey": {}},
        "capabilities": {"iotEdge": false}
    });
    let made = ask(&mut api, "PUT", "/devices/press-1?api-version=2021-04-12", &sent);
    assert_eq!(made.status, 200, "the SDK takes 200 and nothing else: {}", made.body);
    let etag = format!("\"{}\"", made.body["etag"].as_str().unwrap());
    assert_eq!(made.header("etag"), Some(etag.as_str()));
    for (member, value) in [
        ("deviceId", json!("press-1")),
        ("status", json!("enabled")),
        ("statusReason", nothing.clone()),
        ("connectionState", json!("Disconnected")),
        ("lastActivityTime", json!("0001-01-01T00:00:00Z")),
        ("cloudToDeviceMessageCount", json!(0)),
        ("capabilities", json!({"iotEdge": false})),
    ] {
        assert_eq!(made.body[member], value, "{member}");
    }
    let keys = &made.body["authentication"]["symmetricKey"];
    assert_eq!((keys["primaryKey"].as_str().unwrap().len(), &made.body["authentication"]["type"]), (44, &json!("sas")));
    assert_ne!(keys["primaryKey"], keys["secondaryKey"]);
    let twin = ask(&mut api, "GET", "/twins/press-1", &nothing);
    assert_eq!((twin.status, &twin.body["connectionState"]), (200, &json!("Disconnected")));

    let again = ask(&mut api, "PUT", "/devices/press-1", &sent);
    assert_eq!((again.status, again.hub_error()), (409, (409_001, "DeviceAlreadyExists")));
    let mut put =
        |path: &str, tag: &str, body: Value| api.exchange("PUT", path, &[("If-Match", tag)], &body.to_string());
    let disabled = put("/devices/press-1", &etag, json!({"status": "disabled", "statusReason": "stolen"}));
    assert_eq!((disabled.status, &disabled.body["statusReason"]), (200, &json!("stolen")), "{}", disabled.body);
    assert_eq!(&disabled.body["authentication"]["symmetricKey"], keys, "what is not named stays");
    let stale = put("/devices/press-1", &etag, json!({"status": "enabled"}));
    assert_eq!((stale.status, stale.hub_error()), (412, (412_001, "PreconditionFailed")));
    let any = put("/devices/press-1", "\"*\"", disabled.body.clone());
    assert_eq!(
        (any.status, &any.body["status"]),
        (200, &json!("disabled")),
        "a document that was read can be sent back"
    );
    let missing = put("/devices/press-9", "\"*\"", json!({}));
    assert_eq!((missing.status, missing.hub_error()), (404, (404_001, "DeviceNotFound")));

    let path = "/devices/press-1/modules/%24scanner";
    let module = ask(&mut api, "PUT", path, &json!({"deviceId": "press-1", "moduleId": "$scanner", "managedBy": "me"}));
    assert_eq!((module.status, &module.body["moduleId"]), (201, &json!("$scanner")), "{}", module.body);
    let again = ask(&mut api, "PUT", path, &json!({}));
    assert_eq!((again.status, again.hub_error()), (409, (409_301, "ModuleAlreadyExistsOnDevice")));
    let orphan = ask(&mut api, "PUT", "/devices/press-9/modules/a", &json!({}));
    assert_eq!((orphan.status, orphan.hub_error()), (404, (404_001, "DeviceNotFound")));
    assert_eq!(ask(&mut api, "GET", path, &nothing).body["managedBy"], "me");
    let modules = ask(&mut api, "GET", "/devices/press-1/modules", &nothing);
    assert_eq!((modules.body.as_array().unwrap().len(), &modules.body[0]), (1, &module.body));

    let stale = api.exchange("DELETE", "/devices/press-1", &[("If-Match", &etag)], "");
    assert_eq!(stale.status, 412);
    let gone = api.exchange("DELETE", "/devices/press-1", &[("If-Match", "\"*\"")], "");
    assert_eq!((gone.status, &gone.body), (204, &nothing));
    for path in ["/devices/press-1", path, "/twins/press-1", "/devices/press-1/modules"] {
        assert_eq!(ask(&mut api, "GET", path, &nothing).status, 404, "{path}");
    }
    let another = ask(&mut api, "PUT", "/devices/press-1", &json!({}));
    assert_ne!(another.body["generationId"], made.body["generationId"]);
    assert_ne!(&another.body["authentication"]["symmetricKey"], keys);
}

#[test]
fn what_cannot_be_an_identity_is_refused_with_every_reason() {
    let runtime = Runtime::new().supply(&[fixture("wayward")]).start();
    runtime.deploy(&Manifest::new().module("a", "wayward"));
    let mut api = runtime.api();
    let key = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3I=";
    for (path, body, words) in [
        ("/devices/p%20q", json!({}), "contains ' '"),
        ("/devices/x", json!({"deviceId": "y"}), "deviceId is 'y', but the path names 'x'"),
        ("/devices/x", json!({"moduleId": "y"}), "the path names none"),
        ("/devices/x", json!({"status": "on"}), "neither enabled nor disabled"),
        ("/devices/x", json!({"status": "on", "statusReason": "r".repeat(129)}), "and 1 more"),
        ("/devices/x", json!({"authentication": {"type": "selfSigned"}}), "sas is"),
        ("/devices/x", json!({"authentication": {"symmetricKey": {"primaryKey": "%%%"}}}), "not base64"),
        (
            "/devices/x",
            json!({"authentication": {"symmetricKey": {"primaryKey": key, "secondaryKey": key}}}),
            "the same",
        ),
        ("/devices/x", json!({"capabilities": {"iotEdge": true}}), "only this one itself runs modules"),
        ("/devices/x", json!([1]), "cannot be read"),
    ] {
        let refused = ask(&mut api, "PUT", path, &body);
        assert_eq!(refused.status, 400, "{path} {body}: {}", refused.body);
        let error = &refused.body["error"];
        assert!(error["message"].as_str().unwrap().contains(words), "{words}: {error}");
        assert!(error["hint"].is_string() && !refused.body.to_string().contains(key), "{}", refused.body);
    }
    let own = ask(&mut api, "DELETE", "/devices/Hannover01", &Value::Null);
    assert_eq!((own.status, own.hub_error().0), (400, 400_004), "{}", own.body);
    let used = ask(&mut api, "DELETE", "/devices/Hannover01/modules/a", &Value::Null);
    assert_eq!((used.status, used.hub_error()), (409, (400_003, "InvalidOperation")));
    assert_eq!(used.body["error"]["hint"], "deploy a manifest without a, then dinrail identity remove a");
    assert!(!runtime.log().contains(key));
}

#[test]
fn many_are_changed_in_one_request_and_each_failure_is_told() {
    let runtime = Runtime::new().start();
    let mut api = runtime.api();
    let first = ask(
        &mut api,
        "POST",
        "/devices",
        &json!([
            {"id": "a", "importMode": "create", "status": "enabled", "tags": {"hall": 1}, "properties": {"desired": {"limit": 7}}},
            {"id": "b", "importMode": "create", "status": "disabled", "authentication": null},
            {"id": "a", "moduleId": "m", "importMode": "create"},
            {"id": "c"}
        ]),
    );
    assert_eq!(first.status, 200, "{}", first.body);
    assert_eq!(first.body, json!({"isSuccessful": true, "errors": [], "warnings": []}));
    let twin = ask(&mut api, "GET", "/twins/a", &Value::Null).body;
    assert_eq!((&twin["tags"]["hall"], &twin["properties"]["desired"]["limit"]), (&json!(1), &json!(7)));
    let b = ask(&mut api, "GET", "/devices/b", &Value::Null).body;
    assert_eq!(b["status"], "disabled");

    let second = ask(
        &mut api,
        "POST",
        "/devices",
        &json!([
            {"id": "a", "importMode": "create"},
            {"id": "b", "importMode": "updateIfMatchETag", "eTag": b["etag"], "status": "enabled"},
            {"id": "c", "importMode": "deleteIfMatchETag", "eTag": "AAAA"},
            {"id": "d", "importMode": "create"},
            {"id": "e", "importMode": "delete"},
            {"id": "f", "importMode": "bake"},
            {"id": "a", "moduleId": "m", "importMode": "updateTwin", "tags": {"row": 2}}
        ]),
    );
    assert_eq!((second.status, &second.body["isSuccessful"]), (400, &json!(false)));
    assert_eq!(second.body["error"]["message"], "4 of 7 changes were not made");
    let mut errors: Vec<(String, u64)> = second.body["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| (error["deviceId"].as_str().unwrap().to_owned(), error["errorCode"].as_u64().unwrap()))
        .collect();
    errors.sort();
    let expected = [("a", 409_001), ("c", 412_001), ("e", 404_001), ("f", 400_004)];
    assert_eq!(errors, expected.map(|(id, code)| (id.to_owned(), code)));
    for (path, member, value) in
        [("/devices/b", "status", "enabled"), ("/devices/d", "status", "enabled"), ("/devices/c", "status", "enabled")]
    {
        assert_eq!(ask(&mut api, "GET", path, &Value::Null).body[member], value, "{path}");
    }
    assert_eq!(ask(&mut api, "GET", "/twins/a/modules/m", &Value::Null).body["tags"]["row"], 2);

    let twice = ask(&mut api, "POST", "/devices", &json!([{"id": "x"}, {"id": "x"}]));
    assert_eq!((twice.status, twice.hub_error()), (400, (400_011, "DeviceDefinedMultipleTimes")));
    let many: Vec<Value> = (0..101).map(|n| json!({"id": format!("n{n}")})).collect();
    let many = ask(&mut api, "POST", "/devices", &Value::Array(many));
    assert_eq!((many.status, many.hub_error()), (413, (413_002, "TooManyDevices")));
    assert_eq!(ask(&mut api, "GET", "/devices/n0", &Value::Null).status, 404);
}

fn with_devices(count: usize) -> Runtime {
    let runtime = Runtime::new().start();
    let mut api = runtime.api();
    let devices: Vec<Value> =
        (0..count).map(|n| json!({"id": format!("press-{n:03}"), "importMode": "create", "tags": {"n": n}})).collect();
    for some in devices.chunks(100) {
        assert_eq!(ask(&mut api, "POST", "/devices", &json!(some)).status, 200);
    }
    runtime
}

#[test]
fn pages_of_a_query_stay_right_while_twins_and_devices_change() {
    let runtime = with_devices(250);
    let mut api = runtime.api();
    let text = "SELECT deviceId FROM devices WHERE tags.n >= 0";
    let (mut found, mut continuation, mut pages) = (Vec::new(), None::<String>, 0);
    loop {
        let mut headers = vec![("x-ms-max-item-count", "100")];
        headers.extend(continuation.as_deref().map(|token| ("x-ms-continuation", token)));
        let page = query(&mut api, text, &headers);
        let rows = page.body.as_array().unwrap();
        assert!(rows.len() <= 100);
        found.extend(rows.iter().map(|row| row["deviceId"].as_str().unwrap().to_owned()));
        pages += 1;
        // One that was given changes and one goes; one comes that stands before the next page.
        assert_eq!(ask(&mut api, "PATCH", "/twins/press-000", &json!({"tags": {"n": 1000 + pages}})).status, 200);
        assert_eq!(ask(&mut api, "DELETE", &format!("/devices/press-00{pages}"), &Value::Null).status, 204);
        ask(&mut api, "PUT", "/devices/aaa", &json!({}));
        continuation = page.header("x-ms-continuation").map(str::to_owned);
        if continuation.is_none() {
            break;
        }
        assert_eq!(
            query(&mut api, "SELECT COUNT() AS n FROM devices WHERE tags.n < 1000", &[]).body[0]["n"],
            249 - pages
        );
    }
    let expected: Vec<String> = (0..250).map(|n| format!("press-{n:03}")).collect();
    assert_eq!((found, pages), (expected, 3), "each of them once, in order");

    let token = query(&mut api, text, &[("x-ms-max-item-count", "1")]).header("x-ms-continuation").unwrap().to_owned();
    let other = json!({"query": "SELECT * FROM devices"}).to_string();
    let refused = api.exchange("POST", "/devices/query", &[("x-ms-continuation", &token)], &other);
    assert_eq!(refused.status, 400);
    assert!(refused.body["error"]["message"].as_str().unwrap().contains("another query"), "{}", refused.body);
    assert_eq!(
        query(&mut api, "SELECT * FROM devices", &[]).body.as_array().unwrap().len(),
        100,
        "a page has 100 unless told"
    );
}

#[test]
fn lists_and_statistics_count_devices() {
    let runtime = with_devices(5);
    let mut api = runtime.api();
    ask(&mut api, "PUT", "/devices/press-000/modules/m", &json!({}));
    api.exchange("PUT", "/devices/press-001", &[("If-Match", "\"*\"")], r#"{"status": "disabled"}"#);
    let mut get = |path: &str| ask(&mut api, "GET", path, &Value::Null);

    let ids = |answer: &Exchange| -> Vec<String> {
        answer.body.as_array().unwrap().iter().map(|device| device["deviceId"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&get("/devices?top=2")), ["Hannover01", "press-000"]);
    assert_eq!(ids(&get("/devices")).len(), 6);
    for bad in ["/devices?top=0", "/devices?top=1001"] {
        assert_eq!(get(bad).hub_error(), (400_002, "DeviceInvalidResultCount"));
    }
    assert_eq!(
        get("/statistics/devices").body,
        json!({"totalDeviceCount": 6, "enabledDeviceCount": 5, "disabledDeviceCount": 1})
    );
    assert_eq!(get("/identities").body.as_array().unwrap().len(), 9);
}

#[test]
fn configuration_content_becomes_the_deployment_of_this_device() {
    let runtime = Runtime::new().supply(&[fixture("wayward")]).start();
    let mut api = runtime.api();
    let manifest: Value = serde_json::from_str(&Manifest::new().module("a", "wayward").text()).unwrap();
    let content = json!({"modulesContent": manifest["modulesContent"], "deviceContent": {}, "moduleContent": null});
    let path = "/devices/Hannover01/applyConfigurationContent";

    let applied = ask(&mut api, "POST", path, &content);
    assert_eq!((applied.status, &applied.body), (204, &Value::Null), "{}", applied.body);
    runtime.wait_for("a", "running");
    let refused = ask(&mut api, "POST", path, &json!({"modulesContent": {"a": {"properties.desird": {}}}}));
    assert_eq!((refused.status, refused.hub_error()), (400, (400_004, "ArgumentInvalid")));
    assert!(!refused.body["error"]["details"].as_array().unwrap().is_empty(), "{}", refused.body);
    ask(&mut api, "PUT", "/devices/press-1", &json!({}));
    assert_eq!(ask(&mut api, "POST", "/devices/press-1/applyConfigurationContent", &content).status, 400);
    assert_eq!(ask(&mut api, "POST", "/devices/press-9/applyConfigurationContent", &content).hub_error().0, 404_001);
}

#[test]
fn what_is_no_object_or_no_escape_makes_no_device() {
    let runtime = Runtime::new().start();
    let mut api = runtime.api();
    for (method, path, body) in [
        ("PUT", "/devices/x1", "[]"),
        ("PUT", "/devices/x1", "null"),
        ("PUT", "/devices/x1", r#"["AA1"]"#),
        ("PUT", "/devices/x1", "7"),
        ("PUT", "/devices/x1", r#"{"authentication": ["sas"]}"#),
        ("PUT", "/devices/x1", r#"{"parentScopes": ["ms-azure-iot-edge://other-1"]}"#),
        ("PUT", "/devices/x1", r#"{"deviceScope": "ms-azure-iot-edge://other-1"}"#),
        ("PUT", "/devices/%zz", "{}"),
        ("PUT", "/devices/x%2", "{}"),
        ("POST", "/devices/query", r#"["SELECT * FROM devices"]"#),
    ] {
        let answer = api.exchange(method, path, &[], body);
        assert_eq!((answer.status, answer.hub_error().0), (400, 400_004), "{path} {body}: {}", answer.body);
        let text = answer.body.to_string();
        assert!(!text.contains("struct") && !text.contains("IdentityBody"), "{text}");
    }
    assert_eq!(ask(&mut api, "GET", "/devices", &Value::Null).body.as_array().map(Vec::len), Some(1));
}

#[test]
fn a_module_of_a_device_that_is_not_there_lacks_its_device() {
    let runtime = Runtime::new().start();
    let mut api = runtime.api();
    for (method, path) in [
        ("GET", "/devices/nope/modules"),
        ("GET", "/devices/nope/modules/x"),
        ("DELETE", "/devices/nope/modules/x"),
        ("GET", "/twins/nope/modules/x"),
        ("PATCH", "/twins/nope/modules/x"),
    ] {
        let body = if method == "PATCH" { json!({"tags": {"a": 1}}) } else { Value::Null };
        let answer = ask(&mut api, method, path, &body);
        assert_eq!((answer.status, answer.hub_error()), (404, (404_001, "DeviceNotFound")), "{method} {path}");
    }
    let own = ask(&mut api, "GET", "/devices/Hannover01/modules/x", &Value::Null);
    assert_eq!(own.hub_error(), (404_010, "ModuleNotFound"));
}

#[test]
fn what_the_runtime_manages_stays_its_own_and_a_twin_that_was_read_can_be_sent_back() {
    let runtime = with_modules();
    let mut api = runtime.api();
    let module = "/devices/Hannover01/modules/a";
    let put = |api: &mut crate::harness::Api, path: &str, body: Value| {
        api.exchange("PUT", path, &[("If-Match", "\"*\"")], &body.to_string())
    };
    let refused = put(&mut api, module, json!({"managedBy": "me"}));
    assert_eq!(refused.status, 400, "{}", refused.body);
    for managed_by in ["", "dinrail"] {
        let kept = put(&mut api, module, json!({"managedBy": managed_by}));
        assert_eq!((kept.status, &kept.body["managedBy"]), (200, &json!("dinrail")), "{}", kept.body);
    }

    runtime.cli(&["identity", "disable", "$edgeAgent"]).refused(1, &["is the runtime itself and cannot be disabled"]);
    runtime.cli(&["identity", "remove", "a"]).refused(1, &["in use", "deploy a manifest without a"]);

    let agent = "/twins/Hannover01/modules/%24edgeAgent";
    crate::harness::wait_until(crate::harness::SOON, "the deployment is shown", || {
        !ask(&mut runtime.api(), "GET", agent, &Value::Null).body["properties"]["desired"]["modules"].is_null()
    });
    for method in ["PATCH", "PUT"] {
        let mut twin = ask(&mut api, "GET", agent, &Value::Null).body;
        let version = twin["properties"]["desired"]["$version"].clone();
        twin["tags"]["by"] = method.into();
        let sent = ask(&mut api, method, agent, &twin);
        assert_eq!((sent.status, &sent.body["tags"]["by"]), (200, &json!(method)), "{}", sent.body);
        assert_eq!(sent.body["properties"]["desired"]["$version"], version);
        twin["properties"]["desired"]["modules"]["a"]["status"] = "stopped".into();
        assert_eq!(ask(&mut api, method, agent, &twin).status, 400);
    }
}

#[test]
fn nobody_waits_here_for_a_module_of_another_device() {
    let runtime = with_modules();
    runtime.cli(&["identity", "add", "/devices/q0"]).ok();
    runtime.cli(&["identity", "add", "/devices/q0/modules/a"]).ok();
    let other = "/devices/q0/modules/a";
    runtime.cli(&["twin", "patch", other, "note=1", "--wait"]).refused(1, &["nobody acknowledges", "--wait"]);
    runtime.cli(&["twin", "undo", other, "--to", "1", "--wait"]).refused(1, &["nobody acknowledges"]);
    let twin = runtime.json(&["twin", "get", other]);
    assert_eq!(twin["properties"]["desired"]["note"], Value::Null, "nothing was stored");
    runtime.cli(&["twin", "patch", other, "note=1"]).ok();
}
