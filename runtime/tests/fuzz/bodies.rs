//! Requests to the management API: whatever comes, an answer that tells people what to do, and a runtime that goes on.
//!
//! An input is `METHOD PATH`, a line feed, and the body.

use serde_json::{Value, json};

use super::documents;
use super::engine::{Chance, Target, fuzz};
use super::stage::Stage;

/// Method and path of everything that takes a body or acts, and of much that only reads.
const ROUTES: [&str; 38] = [
    "POST /modules",
    "DELETE /modules/m",
    "GET /modules/m",
    "POST /modules/m/start",
    "POST /modules/m/stop",
    "POST /modules/m/restart",
    "POST /modules/m/inputs/in",
    "POST /images?file=a.so",
    "DELETE /images/a",
    "PUT /deployment",
    "POST /deployment/plan",
    "POST /deployment/rollback",
    "GET /deployment/history/1",
    "PUT /routes/r?replace=true",
    "DELETE /routes/r",
    "PATCH /twins/fuzz",
    "PUT /twins/fuzz",
    "PATCH /twins/fuzz/modules/m",
    "PUT /twins/fuzz/modules/m",
    "GET /twins/fuzz/history",
    "POST /twins/fuzz/undo",
    "POST /twins/fuzz/methods",
    "POST /twins/fuzz/modules/$edgeAgent/methods",
    "POST /twins/fuzz/modules/m/methods",
    "PUT /devices/child",
    "GET /devices/child",
    "DELETE /devices/child",
    "GET /devices?top=3",
    "PUT /devices/fuzz/modules/m",
    "GET /devices/fuzz/modules",
    "DELETE /devices/fuzz/modules/m",
    "POST /devices",
    "POST /devices/query",
    "PUT /secrets/s",
    "GET /secrets",
    "GET /losses",
    "GET /metrics",
    "GET /statistics/devices",
];

#[test]
fn every_request_gets_an_answer_that_says_what_to_do() {
    let stage = Stage::start();
    fuzz(&Target {
        name: "bodies",
        generate: &generate,
        words: &[
            "\"deviceId\":",
            "\"moduleId\":",
            "\"methodName\":",
            "\"payload\":",
            "\"properties\":",
            "\"desired\":",
            "\"tags\":",
            "\"manifest\":",
            "\"query\":",
            "\"authentication\":",
            "\"symmetricKey\":",
            "\"primaryKey\":",
            "\"status\":",
            "\"route\":",
            "null",
            "{}",
            "[]",
            "-1",
            "1e999",
            "\"\"",
            "/devices/fuzz",
            "%2F",
            "%00",
            "%ff",
            "?",
            "&top=",
            "$edgeAgent",
            "\\u0000",
        ],
        run: &|input| run(&stage, input),
    });
    assert!(run(&stage, b"GET /health\n").starts_with("GET 200"), "the runtime does not go on");
}

fn generate(chance: &mut Chance) -> Vec<u8> {
    let route = *chance.pick(&ROUTES);
    let body = match chance.below(6) {
        0 => documents::object(chance),
        _ => likely(route, chance),
    };
    format!("{route}\n{body}").into_bytes()
}

/// A body as the route wants it, with something in it that it may not want.
fn likely(route: &str, chance: &mut Chance) -> Value {
    let any = documents::object(chance);
    let text =
        |chance: &mut Chance| *chance.pick(&["m", "child", "", "fuzz", "a/b", "enabled", "disabled", "x y", "ü"]);
    if route.contains("/methods") {
        let name = *chance.pick(&["ping", "RestartModule", "GetModuleLogs", "GetTaskStatus", ""]);
        return json!({"methodName": name, "payload": any, "responseTimeoutInSeconds": chance.below(7), "connectTimeoutInSeconds": 0});
    }
    if route.contains("/twins/") {
        return json!({"tags": documents::object(chance), "properties": {"desired": any}});
    }
    if route.contains("/query") {
        return json!({"query": format!("SELECT * FROM {} WHERE tags.a = {}", chance.pick(&["devices", "devices.modules"]), text(chance))});
    }
    if route.contains("/devices") {
        let key = *chance.pick(&["QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU=", "QUJD", "", "not base64"]);
        return json!({
            "deviceId": text(chance), "moduleId": text(chance), "status": text(chance), "managedBy": text(chance), "etag": "*",
            "authentication": {"type": chance.pick(&["sas", "selfSigned", "none"]), "symmetricKey": {"primaryKey": key, "secondaryKey": key}},
            "extra": any
        });
    }
    if route.contains("/deployment") {
        let manifest = json!({"modulesContent": {
            "$edgeAgent": {"properties.desired": {"schemaVersion": "1.1", "modules": {text(chance): {"type": "library",
                "settings": {"image": text(chance), "createOptions": any}, "env": {"A": {"value": text(chance)}}}}}},
            "$edgeHub": {"properties.desired": {"schemaVersion": "1.1", "routes": {"r": "FROM /messages/* INTO $upstream"}}},
            "m": {"properties.desired": documents::object(chance)}
        }});
        return json!({"manifest": manifest.to_string(), "origin": text(chance), "images": {}});
    }
    if route.contains("/routes") {
        return json!({"route": format!("FROM /messages/modules/{}/* INTO $upstream", text(chance)), "priority": chance.below(12)});
    }
    if route.contains("/modules") {
        return json!({"name": text(chance), "image": text(chance), "desired": any, "env": {"A": text(chance)}, "body": text(chance),
                      "properties": {"a": text(chance)}});
    }
    any
}

fn run(stage: &Stage, input: &[u8]) -> String {
    let at = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (line, body) = (&input[..at], input.get(at + 1..).unwrap_or_default());
    let (method, path) = match std::str::from_utf8(line).ok().and_then(|line| line.split_once(' ')) {
        Some((method, path)) => (method, path),
        None => return "no request".to_owned(),
    };
    // These last on purpose, or look at the whole device.
    if ["messages", "wait", "acknowledged", "follow", "support-bundle", "check"].iter().any(|word| path.contains(word))
    {
        return "lasting".to_owned();
    }
    let is_clean = method.len() <= 10
        && method.bytes().all(|byte| byte.is_ascii_uppercase())
        && !["HEAD", "CONNECT", "OPTIONS", ""].contains(&method)
        && path.starts_with('/')
        && path.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}#".contains(&byte));
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: dinrail\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    request.extend_from_slice(body);
    let answer = stage.exchange(&request, !is_clean);
    let status = status(&answer);
    if !is_clean {
        return format!("unclean {status:?}");
    }
    let shown = || String::from_utf8_lossy(&answer).chars().take(600).collect::<String>();
    let status = status.unwrap_or_else(|| panic!("no answer to {method} {path}: {}", shown()));
    assert!(status < 500 || [503, 504].contains(&status), "{status} to {method} {path}: {}", shown());
    let mut code = String::new();
    if status >= 400 {
        let text = answer.windows(4).position(|window| window == b"\r\n\r\n").map_or(&[][..], |at| &answer[at + 4..]);
        let document: Value = serde_json::from_slice(text).unwrap_or_else(|error| panic!("{error} in {}", shown()));
        let error = &document["error"];
        code = error["code"].as_str().unwrap_or_default().to_owned();
        let message = error["message"].as_str().unwrap_or_default();
        assert!(!code.is_empty() && !message.is_empty(), "{method} {path} says not what is wrong: {}", shown());
    }
    format!("{method} {status} {code} {}", path.split(['/', '?']).nth(1).unwrap_or_default())
}

fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\r').next()?;
    std::str::from_utf8(line).ok()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}
