//! The runtime as IoT Edge's agent: its own identities, their methods and their twins.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Manifest, Runtime, SOON, fixture, wait_until};

const AGENT: &str = "$edgeAgent";
const METHODS: &str = "/twins/Hannover01/modules/%24edgeAgent/methods";

fn started() -> Runtime {
    let runtime = Runtime::new().supply(&[fixture("wayward"), fixture("exchange")]).start();
    runtime.deploy(&manifest());
    runtime
}

fn manifest() -> Manifest {
    Manifest::new().module("pump", "wayward").module("caller", "exchange").with(
        "pump",
        "env",
        json!({"TZ": {"value": "UTC"}}),
    )
}

/// What the agent answers: status and payload.
fn answer(runtime: &Runtime, method: &str, payload: &Value) -> (i64, Value) {
    let body = json!({"methodName": method, "payload": payload});
    let (status, answer) = runtime.api().ask("POST", METHODS, Some(&body)).unwrap();
    assert_eq!(status, 200, "{answer}");
    (answer["status"].as_i64().unwrap(), answer["payload"].clone())
}

fn twin(runtime: &Runtime, id: &str) -> Value {
    runtime.json(&["twin", "get", id])
}

fn reported(runtime: &Runtime, id: &str) -> Value {
    twin(runtime, id)["properties"]["reported"].clone()
}

/// Waits until the reported properties of the agent are so.
#[track_caller]
fn wait_for_report(runtime: &Runtime, what: &str, is_so: impl Fn(&Value) -> bool) {
    wait_until(SOON, what, || is_so(&reported(runtime, AGENT)));
}

fn status_of(report: &Value, module: &str) -> String {
    report["modules"][module]["runtimeStatus"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn agent_answers_ping_and_says_which_methods_there_are() {
    let runtime = started();
    assert_eq!(runtime.cli(&["method", AGENT, "ping"]).ok().stdout, "status 200\nnull\n");
    assert_eq!(answer(&runtime, "PING", &json!({"any": 1})), (200, json!(null)));
    let (status, payload) = answer(&runtime, "reboot", &json!(null));
    assert_eq!(status, 400);
    for name in ["ping", "RestartModule", "GetModuleLogs", "GetTaskStatus"] {
        assert!(payload["message"].as_str().unwrap().contains(name), "{payload}");
    }
    let refused = runtime.cli(&["method", AGENT, "UploadModuleLogs", "{}"]).refused(1, &["status 400"]);
    assert!(
        refused.stdout.contains("not supported here") && refused.stdout.contains("dinrail logs"),
        "{}",
        refused.stdout
    );
    let (status, payload) = answer(&runtime, "GetTaskStatus", &json!({"schemaVersion": "1.0", "correlationId": "7"}));
    assert_eq!((status, &payload["status"]), (200, &json!("Unknown")));
}

#[test]
fn agent_restarts_modules_for_people_and_for_modules() {
    let runtime = started();
    let restart = json!({"schemaVersion": "1.0", "id": "pump"});
    let starts = || runtime.events("pump").iter().filter(|event| *event == "start").count();
    assert_eq!(starts(), 1);
    assert_eq!(answer(&runtime, "restartmodule", &restart), (200, json!(null)));
    wait_until(SOON, "it has started again", || starts() == 2);
    runtime.wait_for("pump", "running");
    let call = json!({
        "target": "/devices/Hannover01/modules/$edgeAgent", "name": "RestartModule", "payload": restart, "timeoutMs": 20_000
    });
    let asked = runtime.json(&["method", "caller", "call", &call.to_string()]);
    assert_eq!(asked["payload"], json!({"status": 200, "payload": null}));
    wait_until(SOON, "it has started again", || starts() == 3);

    let (status, payload) = answer(&runtime, "RestartModule", &json!({"id": "pumm"}));
    assert!(status == 500 && payload["message"].as_str().unwrap().contains("did you mean 'pump'"), "{payload}");
    let (status, payload) = answer(&runtime, "RestartModule", &json!({"id": "edgeAgent"}));
    assert!(status == 400 && payload["message"].as_str().unwrap().contains("systemctl"), "{payload}");
    assert_eq!(answer(&runtime, "RestartModule", &json!("")).0, 400);
}

#[test]
fn agent_answers_with_lines_of_logs() {
    let runtime = started();
    runtime.cli(&["restart", "pump"]).ok();
    runtime.wait_for("pump", "running");
    let (status, logs) = answer(&runtime, "GetModuleLogs", &json!({"schemaVersion": "1.0", "items": {"id": "^pump$"}}));
    assert_eq!((status, logs.as_array().unwrap().len(), &logs[0]["id"]), (200, 1, &json!("pump")));
    let text = logs[0]["payload"].as_str().unwrap();
    assert!(text.lines().all(|line| line.starts_with("<6> 20")) && text.contains(" +00:00 [INF] - running"), "{text}");

    let filter = json!({"tail": 1, "since": "1 day", "loglevel": 6, "regex": "dinrail .* runs"});
    let items = json!([{"id": "edgeagent", "filter": filter}]);
    let (_, logs) =
        answer(&runtime, "GetModuleLogs", &json!({"items": items, "contentType": "json", "encoding": "gzip"}));
    assert_eq!(logs[0]["id"], "edgeAgent");
    assert!(logs[0]["payloadBytes"].is_string() && logs[0].get("payload").is_none(), "{logs}");
    let (status, refused) = answer(&runtime, "GetModuleLogs", &json!({"items": {"id": "("}}));
    assert!(status == 400 && refused["message"].as_str().unwrap().contains("not a regular expression"), "{refused}");
    assert_eq!(answer(&runtime, "GetModuleLogs", &json!({"items": {"id": "nobody"}})), (200, json!([])));
}

#[test]
fn device_and_hub_answer_no_methods_and_say_so() {
    let runtime = started();
    for id in ["/devices/Hannover01", "$edgeHub"] {
        runtime.cli(&["method", id, "ping"]).refused(1, &["method", "hint:"]);
    }
    let body = json!({"methodName": "ping"});
    let (status, error) = runtime.api().ask("POST", "/twins/Hannover01/methods", Some(&body)).unwrap();
    assert_eq!((status, &error["error"]["code"]), (404, &json!("notConnected")), "{error}");
}

#[test]
fn agent_and_hub_report_in_iot_edge_s_shape_and_follow_what_happens() {
    let runtime = started();
    wait_for_report(&runtime, "both run", |report| {
        status_of(report, "pump") == "running"
            && status_of(report, "caller") == "running"
            && report["lastDesiredStatus"]["code"] == 200
            && report["lastDesiredVersion"] == 2
    });
    let agent = twin(&runtime, AGENT);
    let report = &agent["properties"]["reported"];
    assert_eq!(report["lastDesiredVersion"], agent["properties"]["desired"]["$version"]);
    assert_eq!(
        agent["properties"]["desired"]["modules"]["pump"],
        manifest().json()["modulesContent"]["$edgeAgent"]["properties.desired"]["modules"]["pump"]
    );
    let pump = &report["modules"]["pump"];
    assert_eq!((&pump["type"], &pump["restartCount"], &pump["exitCode"]), (&json!("library"), &json!(0), &json!(0)));
    assert_eq!(pump["env"], json!({"TZ": {"value": "UTC"}}));
    assert!(pump["settings"]["imageHash"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(report["runtime"]["platform"]["os"], "linux");
    let client = reported(&runtime, "$edgeHub")["clients"]["Hannover01/pump"].clone();
    assert_eq!((&client["status"], client["lastConnectedTimeUtc"].is_string()), (&json!("connected"), true));

    runtime.cli(&["stop", "pump"]).ok();
    wait_for_report(&runtime, "it is stopped", |report| status_of(report, "pump") == "stopped");
    runtime.deploy(&Manifest::new().module("caller", "exchange"));
    wait_for_report(&runtime, "it is gone", |report| report["modules"].get("pump").is_none());
    assert!(twin(&runtime, AGENT)["properties"]["desired"]["modules"].get("pump").is_none());
}

#[test]
fn nothing_is_written_while_nothing_changes() {
    let runtime = started();
    wait_for_report(&runtime, "all is told", |report| {
        status_of(report, "pump") == "running"
            && status_of(report, "caller") == "running"
            && report["lastDesiredStatus"]["code"] == 200
    });
    // Two paces after the last change, whatever was to be written is.
    let version = || [AGENT, "$edgeHub"].map(|id| reported(&runtime, id)["$version"].as_u64().unwrap());
    let mut last = (version(), Instant::now());
    wait_until(SOON, "it is quiet", || {
        let now = version();
        if now != last.0 {
            last = (now, Instant::now());
        }
        last.1.elapsed() > Duration::from_secs(2)
    });
    assert!(last.0.iter().all(|version| *version < 20), "{:?}", last.0);
}

#[test]
fn at_the_end_nothing_is_known_and_after_a_start_it_is_again() {
    let mut runtime = started();
    wait_for_report(&runtime, "it runs", |report| status_of(report, "pump") == "running");
    runtime.stop();
    let database = rusqlite_text(&runtime);
    assert!(database.contains("\"code\":406") && database.contains("\"runtimeStatus\":\"unknown\""), "{database}");
    runtime.launch();
    wait_for_report(&runtime, "it runs again", |report| {
        status_of(report, "pump") == "running" && report["lastDesiredStatus"]["code"] == 200
    });
}

/// Whether the databases hold it somewhere: they are closed.
fn rusqlite_text(runtime: &Runtime) -> String {
    String::from_utf8_lossy(&std::fs::read(runtime.state().join("dinrail.db")).unwrap()).into_owned()
}

#[test]
fn desired_properties_of_the_agent_are_the_deployment_s_and_tags_anybody_s() {
    let runtime = started();
    for id in [AGENT, "$edgeHub"] {
        wait_until(SOON, "it is the deployment's", || {
            twin(&runtime, id)["properties"]["desired"]["schemaVersion"].is_string()
        });
        runtime
            .cli(&["twin", "patch", id, "modules={}"])
            .refused(1, &["deployment in force", "hint: change the manifest, then dinrail deploy FILE"]);
        runtime.cli(&["twin", "replace", id, "{}"]).refused(1, &["deployment in force"]);
    }
    let path = "/twins/Hannover01/modules/%24edgeAgent";
    let (status, twin) = runtime.api().ask("PATCH", path, Some(&json!({"tags": {"hall": 3}}))).unwrap();
    assert_eq!((status, &twin["tags"]), (200, &json!({"hall": 3})));
}

#[test]
fn agent_is_an_identity_but_no_module() {
    let runtime = started();
    let names: Vec<Value> = runtime.json(&["list"]).as_array().unwrap().iter().map(|row| row["name"].clone()).collect();
    assert_eq!(names, ["caller", "pump"]);
    assert_eq!(twin(&runtime, AGENT)["moduleId"], AGENT);
    assert_eq!(twin(&runtime, AGENT)["connectionState"], "Connected");
    runtime.cli(&["add", AGENT, "wayward"]).refused(1, &["that begin with $"]);
}
