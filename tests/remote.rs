//! The runtime on another machine: `dinrail -H HOST`, by TLS and tokens only, with roles and a record of who did what.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::harness::{Api, LISTEN, Manifest, Output, Runtime, SOON, body, fixture, say, wait_until};

const FOREVER: u64 = 4_000_000_000;

fn reached() -> Runtime {
    Runtime::new().args(LISTEN).start()
}

/// Does a verb with the key of a policy.
fn as_policy(runtime: &Runtime, policy: &str, arguments: &[&str]) -> Output {
    let mut verb = runtime.command(&[&["-H", &runtime.host()], arguments].concat());
    verb.env("DINRAIL_CONNECTION_STRING", runtime.connection_string(policy)).env("DINRAIL_CA", runtime.ca());
    let output = verb.stdin(std::process::Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Output { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn login(runtime: &Runtime, arguments: &[&str], policy: &str) -> Output {
    let string = runtime.connection_string(policy) + "\n";
    runtime.cli_with_input(&[&["-H", &runtime.host(), "login"], arguments].concat(), string.as_bytes())
}

#[test]
fn nobody_is_let_in_from_outside_unless_that_was_asked_for() {
    let runtime = Runtime::new().start();

    let (_, health) = runtime.api().ask("GET", "/health", None).unwrap();

    assert_eq!(health["api"], Value::Null);
    assert!(!runtime.state().join("tls").exists(), "no key is made that nobody needs");
    assert!(runtime.cli(&["check"]).stdout.contains("not reached from other machines"));
}

#[test]
fn every_verb_works_from_another_machine_with_the_key_that_login_keeps() {
    let runtime = reached();
    let host = runtime.host();
    let wayward = fixture("wayward").to_string_lossy().into_owned();

    let said = login(&runtime, &["--ca", &runtime.ca()], "operator").ok().stdout;
    assert!(said.contains("is the device Hannover01"), "{said}");
    let key = runtime.folder().join("home/.config/dinrail/hosts").join(&host);
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let far = |arguments: &[&str]| runtime.cli(&[&["-H", &host], arguments].concat());

    far(&["image", "add", &wayward]).ok();
    let manifest = Manifest::new().module("m", &wayward);
    let file = runtime.write("manifest.json", manifest.text());
    far(&["deploy", file.to_str().unwrap(), "--wait", "--timeout", "20s"]).ok();
    assert!(far(&["list"]).ok().stdout.contains("m "));
    far(&["show", "m"]).ok();
    far(&["twin", "patch", "m", "color=red"]).ok();
    assert!(far(&["twin", "get", "m"]).ok().stdout.contains("red"));
    assert!(far(&["method", "m", "echo", "a=1"]).ok().stdout.starts_with("status 200"));
    let logs = runtime.follow(&["-H", &host, "logs", "--runtime", "-f"]);
    assert!(!logs.line().is_empty());
    far(&["check"]).ok();
    far(&["support-bundle", "-o", "far.zip"]).ok();
    far(&["stop", "m"]).ok();
    far(&["wait", "m", "--for", "stopped"]).ok();
    assert!(runtime.cli(&["show", "m"]).ok().stdout.contains("policy operator"), "who stopped it is kept");

    // Tokens are made for the name in the connection string, whichever address leads there.
    let mut other = runtime.command(&["-H", &format!("127.0.0.1:{}", runtime.port()), "list"]);
    other.env("DINRAIL_CONNECTION_STRING", runtime.connection_string("reader")).env("DINRAIL_CA", runtime.ca());
    assert!(other.output().unwrap().status.success());
    let mut named = runtime.command(&["list"]);
    assert!(named.env("DINRAIL_HOST", &host).output().unwrap().status.success());

    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    far(&["list"]).refused(1, &["others may read the key", "chmod 0600"]);
}

#[test]
fn a_reader_reads_and_is_refused_stop_with_the_role_that_it_needs() {
    let runtime = Runtime::new().args(LISTEN).supply(&[fixture("wayward")]).start();
    runtime.deploy(&Manifest::new().module("m", "wayward"));

    assert!(as_policy(&runtime, "reader", &["list"]).ok().stdout.contains("running"));
    let refused = ["needs the role operator; this caller has the role reader", "policy operator"];
    as_policy(&runtime, "reader", &["stop", "m"]).refused(1, &refused);
    as_policy(&runtime, "reader", &["twin", "patch", "m", "a=1"]).refused(1, &refused[..1]);
    assert_eq!(runtime.module("m")["status"], "running");
    as_policy(&runtime, "operator", &["stop", "m"]).ok();
}

#[test]
fn what_keeps_a_client_out_is_said_in_words() {
    let runtime = reached();
    let host = runtime.host();
    let far = |string: &str, ca: Option<&str>, host: &str| {
        let mut verb = runtime.command(&["-H", host, "list"]);
        verb.env("DINRAIL_CONNECTION_STRING", string);
        ca.map(|ca| verb.env("DINRAIL_CA", ca));
        let output = verb.output().unwrap();
        let code = output.status.code().unwrap_or(-1);
        Output { code, stdout: String::new(), stderr: String::from_utf8(output.stderr).unwrap() }
    };
    let (string, ca) = (runtime.connection_string("reader"), runtime.ca());
    let wrong = string.replace(&runtime.policy_key("reader"), &runtime.policy_key("owner"));

    far(&wrong, Some(&ca), &host).refused(1, &["not signed with a key of the policy reader"]);
    far(&string.replace("localhost", "elsewhere"), Some(&ca), &host).refused(1, &["the host 'elsewhere'", "localhost"]);
    far("nonsense", Some(&ca), &host).refused(1, &["HostName=…;SharedAccessKeyName=…"]);
    far(&string, None, &host).refused(1, &["signed by nobody that is trusted here", "login --ca"]);
    far(&string, Some(&ca), "localhost:1").refused(3, &["no runtime answers on localhost:1", "--listen"]);
    far(&string, Some(&ca), "a/b").refused(2, &["is not a host"]);
    runtime.cli(&["-H", &host, "list"]).refused(1, &["there is no key for", "login"]);
    runtime.cli(&["-H", &host, "run"]).refused(2, &["leave out -H"]);
    runtime.cli(&["-H", &host, "image", "inspect", "x.so"]).refused(2, &["leave out -H"]);
    login(&runtime, &[], "reader").refused(1, &["it shows ", "--fingerprint"]);
    login(&runtime, &["--fingerprint", "00:11"], "reader").refused(1, &["another certificate than expected"]);
    let (_, health) = runtime.api().ask("GET", "/health", None).unwrap();
    login(&runtime, &["--fingerprint", health["api"]["fingerprint"].as_str().unwrap()], "reader").ok();
    runtime.cli(&["-H", &host, "list"]).ok();
}

#[test]
fn tokens_are_asked_for_with_every_request_and_never_repeated() {
    let runtime = reached();
    let mut stream = runtime.tls();
    let mut get = |path: &str, token: Option<&str>| {
        let token = token.map(|token| format!("authorization: {token}\r\n")).unwrap_or_default();
        say(&mut stream, format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{token}\r\n").as_bytes())
    };

    assert!(get("/health", Some(&runtime.token("reader", FOREVER))).starts_with("HTTP/1.1 200 "));
    let none = get("/twins/Hannover01", None);
    assert!(none.starts_with("HTTP/1.1 401 ") && none.contains("www-authenticate: SharedAccessSignature"), "{none}");
    assert_eq!(body(&none)["error"]["code"], "unauthorized");
    let old = runtime.token("reader", 1_000_000_000);
    let expired = get("/twins/Hannover01", Some(&old));
    assert!(expired.starts_with("HTTP/1.1 401 ") && expired.contains("expired"), "{expired}");
    for token in [
        "Bearer x",
        "SharedAccessSignature",
        "SharedAccessSignature sr=%zz&sig=&se=1",
        "SharedAccessSignature sr=localhost",
    ] {
        let refused = get("/health", Some(token));
        assert!(refused.starts_with("HTTP/1.1 401 "), "{token}: {refused}");
    }
    let signature = old.split("sig=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    runtime.cli(&["check"]).ok();
    for text in [runtime.log(), runtime.cli(&["logs", "--audit"]).ok().stdout, expired] {
        assert!(!text.contains(&signature), "a signature is repeated in: {text}");
    }
    // Without TLS there is no way in at all.
    let mut plain = std::net::TcpStream::connect(("127.0.0.1", runtime.port())).unwrap();
    plain.set_read_timeout(Some(SOON)).unwrap();
    let told = say(&mut plain, b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert!(told.starts_with("HTTP/1.1 400 ") && told.contains("TLS only"), "{told}");
}

#[test]
fn wrong_tokens_again_and_again_are_told_to_wait_and_lock_out_nobody_with_the_right_one() {
    let runtime = reached();
    let mut stream = runtime.tls();
    let mut get = |token: &str| {
        let request = format!("GET /health HTTP/1.1\r\nhost: localhost\r\nauthorization: {token}\r\n\r\n");
        say(&mut stream, request.as_bytes())
    };
    let answers: Vec<String> = (0..60).map(|_| get("SharedAccessSignature nonsense")).collect();
    assert!(answers[0].starts_with("HTTP/1.1 401 "), "{}", answers[0]);
    assert!(answers.iter().any(|answer| answer.starts_with("HTTP/1.1 429 ") && answer.contains("retry-after: 1")));
    assert!(get(&runtime.token("reader", FOREVER)).starts_with("HTTP/1.1 200 "));
    let lines = runtime.json(&["logs", "--audit", "--tail", "1000"]).as_array().unwrap().len();
    assert!(lines < 60, "each of them is written down");
}

#[test]
fn who_did_what_is_recorded_and_survives_a_restart() {
    let mut runtime = Runtime::new().args(LISTEN).supply(&[fixture("wayward")]).start();
    runtime.deploy(&Manifest::new().module("m", "wayward"));
    as_policy(&runtime, "operator", &["twin", "patch", "m", "password=hunter2"]).ok();
    as_policy(&runtime, "reader", &["stop", "m"]).refused(1, &[]);
    let live = runtime.follow(&["logs", "--audit", "-f", "--json"]);
    // From the first line on, it follows.
    while live.json()["text"] != "POST /modules/m/stop" {}
    runtime.cli(&["restart", "m"]).ok();
    let own = live.json();
    assert_eq!(own["text"], "POST /modules/m/restart");
    assert_eq!((&own["fields"]["role"], &own["fields"]["from"]), (&json!("owner"), &json!("this system")));
    drop(live);
    runtime.stop();
    runtime.launch();

    let lines = runtime.json(&["logs", "--audit", "--grep", "policy"]);
    let lines: Vec<(&Value, &Value)> =
        lines.as_array().unwrap().iter().map(|line| (&line["text"], &line["fields"])).collect();
    assert_eq!(
        lines,
        [
            (
                &json!("PATCH /twins/Hannover01/modules/m"),
                &json!({"who": "policy operator", "role": "operator", "from": "127.0.0.1", "status": 200})
            ),
            (
                &json!("POST /modules/m/stop"),
                &json!({"who": "policy reader", "role": "reader", "from": "127.0.0.1", "status": 403})
            ),
        ]
    );
    let audit = std::fs::read_to_string(runtime.state().join("logs/audit.jsonl")).unwrap();
    assert!(!audit.contains("hunter2") && !audit.contains("SharedAccessSignature"), "{audit}");
    assert!(!runtime.cli(&["logs"]).ok().stdout.contains("POST /modules/m/stop"), "it is a record of its own");
}

#[test]
fn the_authority_stays_and_a_given_certificate_takes_its_place() {
    let mut runtime = reached();
    let ca = std::fs::read(runtime.ca()).unwrap();
    runtime.stop();
    runtime.launch();
    assert_eq!(std::fs::read(runtime.ca()).unwrap(), ca, "who trusted it trusts it still");
    assert!(runtime.cli(&["check"]).stdout.contains("clients trust: "));
    runtime.stop();

    std::fs::remove_file(runtime.state().join("tls/ca.key")).unwrap();
    let mut refused = runtime.run_command();
    assert_eq!(refused.status().unwrap().code(), Some(1));
    assert!(runtime.log().contains("does not belong to") && runtime.log().contains("backup"), "{}", runtime.log());
}

#[test]
fn the_socket_gives_users_of_this_system_their_role() {
    let runtime = Runtime::new().start();
    // The tests run as the user that the runtime runs as.
    let (status, _) = Api::connect(runtime.state()).unwrap().ask("DELETE", "/images/none", None).unwrap();
    assert_eq!(status, 404);
    wait_until(SOON, "it is recorded", || runtime.cli(&["logs", "--audit"]).stdout.contains("role=\"owner\""));
}

#[test]
fn whoever_takes_a_key_or_a_token_is_recorded_and_whoever_sees_none_is_not() {
    let runtime = reached();
    let module = "/devices/Hannover01/modules/%24edgeHub";
    let string = "/identities/Hannover01/modules/%24edgeHub/connection-string";
    let token = "/identities/Hannover01/modules/%24edgeHub/token";
    let mut stream = runtime.tls();
    let mut ask = |policy: &str, verb: &str, path: &str| {
        let authorization = runtime.token(policy, FOREVER);
        let request = format!(
            "{verb} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: {authorization}\r\ncontent-length: 0\r\n\r\n"
        );
        let answer = say(&mut stream, request.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 200 "), "{verb} {path}: {answer}");
        answer
    };
    let keys = [
        ("GET", "/devices"),
        ("GET", "/devices/Hannover01"),
        ("GET", "/devices/Hannover01/modules"),
        ("GET", module),
        ("GET", string),
        ("POST", token),
        ("GET", "/policies/reader/connection-string"),
    ];
    for (verb, path) in keys {
        ask("owner", verb, path);
    }
    for (_, path) in &keys[..4] {
        let answer = ask("reader", "GET", path);
        assert!(answer.contains("\"primaryKey\":null"), "{answer}");
    }
    ask("owner", "GET", "/modules");

    let lines = runtime.json(&["logs", "--audit", "--grep", "policy"]);
    let lines: Vec<(&str, &Value)> =
        lines.as_array().unwrap().iter().map(|line| (line["text"].as_str().unwrap(), &line["fields"])).collect();
    let expected: Vec<String> = keys.iter().map(|(verb, path)| format!("{verb} {path}")).collect();
    assert_eq!(lines.iter().map(|(text, _)| *text).collect::<Vec<_>>(), expected);
    for (text, fields) in lines {
        let who = json!({"who": "policy owner", "role": "owner", "from": "127.0.0.1", "status": 200, "keys": true});
        assert_eq!(*fields, who, "{text}");
    }
    let audit = std::fs::read_to_string(runtime.state().join("logs/audit.jsonl")).unwrap();
    assert!(!audit.contains(&runtime.policy_key("reader")), "{audit}");
}

#[test]
fn a_live_view_ends_with_the_token_that_it_was_asked_for_with() {
    let runtime = reached();
    let mut stream = runtime.tls();
    let token = runtime.token("reader", FOREVER);
    let request = format!("GET /logs?follow=true HTTP/1.1\r\nhost: localhost\r\nauthorization: {token}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut begin = [0; 12];
    stream.read_exact(&mut begin).unwrap();
    assert_eq!(&begin, b"HTTP/1.1 200");

    let (status, _) = runtime.api().ask("POST", "/policies/reader/rotate", Some(&json!({"key": "primary"}))).unwrap();
    assert_eq!(status, 200);

    let mut rest = Vec::new();
    // The end comes as the end of the connection, in the middle of the answer.
    let end = stream.read_to_end(&mut rest).map_err(|error| error.kind());
    assert!(!matches!(end, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)), "it went on");
    assert!(!String::from_utf8_lossy(&rest).ends_with("0\r\n\r\n"), "it was told as whole");
}
