//! Keys stay where they belong: with who asked for exactly them, and in `keys/device.key`.

use std::path::Path;

use serde_json::json;

use crate::harness::{Manifest, Runtime, fixture};

const GIVEN: &str = "dGhlIGtleSB0aGF0IHdhcyBnaXZlbiBieSBoYW5kIQ==";
const GIVEN_RAW: &[u8] = b"the key that was given by hand!";

/// The key in what `connection-string` prints.
fn key(runtime: &Runtime, arguments: &[&str]) -> String {
    let printed = runtime.cli(&[&["identity", "connection-string"], arguments].concat()).ok().stdout;
    let (_, key) = printed.trim().split_once("SharedAccessKey=").expect("a key");
    key.to_owned()
}

/// The files below a folder in which one of `secrets` stands.
fn leaks(folder: &Path, secrets: &[Vec<u8>], found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            leaks(&path, secrets, found);
        } else if let Ok(bytes) = std::fs::read(&path)
            && path.is_file()
            && secrets.iter().any(|secret| holds(&bytes, secret))
        {
            found.push(path.display().to_string());
        }
    }
}

fn holds(bytes: &[u8], secret: &[u8]) -> bool {
    bytes.windows(secret.len()).any(|window| window == secret)
}

#[test]
fn keys_and_tokens_stand_in_no_log_bundle_database_error_or_command_line() {
    let mut runtime = Runtime::new().supply(&[fixture("wayward")]).config("[api]\nlisten = \"127.0.0.1:0\"\n").start();
    runtime.deploy(&Manifest::new().module("m", "wayward"));
    let given = runtime.write("given", GIVEN);
    let at_given = format!("@{}", given.display());
    runtime.cli(&["identity", "add", "/devices/press-1", "--primary-key", &at_given]).ok();

    let mut secrets = vec![key(&runtime, &["/devices/press-1"])];
    assert_eq!(secrets, [GIVEN]);
    for whose in [["m", "--key", "primary"], ["m", "--key", "secondary"], ["--policy", "owner", "--key=primary"]] {
        secrets.push(key(&runtime, &whose));
    }
    runtime.cli(&["identity", "rotate", "m"]).ok();
    runtime.cli(&["identity", "rotate", "--policy", "owner"]).ok();
    secrets.extend([key(&runtime, &["m"]), key(&runtime, &["--policy", "owner"])]);
    let token = runtime.cli(&["identity", "token", "m"]).ok().stdout;
    let of_module = runtime.json(&["method", "m", "token"])["payload"].as_str().unwrap().to_owned();
    runtime.cli(&["method", "m", "sign", "\"text\""]).ok();
    for token in [&token, &of_module] {
        let (_, signature) = token.split_once("sig=").unwrap();
        secrets.push(signature.split('&').next().unwrap().to_owned());
    }

    // What is refused does not repeat what it was given.
    let damaged = runtime.write("damaged", format!("{GIVEN}!"));
    let both = ["--primary-key", &at_given, "--secondary-key", &at_given];
    let refused = [
        runtime.cli(&["identity", "add", "/devices/a", "--primary-key", &format!("@{}", damaged.display())]),
        runtime.cli(&["identity", "add", "/devices/press-1", "--primary-key", &at_given]),
        runtime.cli(&[&["identity", "add", "/devices/b"][..], &both].concat()),
        runtime.cli(&["identity", "rotate", "/devices/nobody"]),
    ];
    let shown = [
        runtime.cli(&["identity", "list", "--json"]).ok(),
        runtime.cli(&["identity", "show", "/devices/press-1", "--json"]).ok(),
        runtime.cli(&["check"]),
        runtime.cli(&["show", "m", "--json"]).ok(),
    ];
    refused.iter().for_each(|output| assert_eq!(output.code, 1, "{output:?}"));
    let mut texts: Vec<Vec<u8>> = refused.iter().chain(&shown).map(|output| format!("{output:?}").into()).collect();
    // A key or a value in the wrong place of a body.
    let mut api = runtime.api();
    for (verb, path, body) in [
        ("PUT", "/devices/c", json!({"authentication": {"symmetricKey": GIVEN}})),
        ("POST", "/devices", json!([{"id": "c", "authentication": GIVEN}])),
        ("PUT", "/secrets/pw", json!(GIVEN)),
    ] {
        let refused = api.exchange(verb, path, &[], &body.to_string());
        assert_eq!(refused.status, 400, "{verb} {path}");
        assert!(refused.body["error"]["message"].as_str().unwrap().contains("line 1 column"), "{}", refused.body);
        texts.push(refused.body.to_string().into());
    }
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        texts.extend(std::fs::read(entry.path().join("cmdline")).ok());
    }
    let bundle = runtime.folder().join("bundle.zip");
    runtime.cli(&["support-bundle", "-o", &bundle.to_string_lossy()]).ok();
    let mut zip = zip::ZipArchive::new(std::fs::File::open(&bundle).unwrap()).unwrap();
    for index in 0..zip.len() {
        let mut text = Vec::new();
        std::io::copy(&mut zip.by_index(index).unwrap(), &mut text).unwrap();
        texts.push(text);
    }
    runtime.stop();
    texts.push(runtime.log().into());

    let device_key = runtime.state().join("keys/device.key");
    let master = std::fs::read_to_string(&device_key).unwrap().split(' ').nth(1).unwrap().to_owned();
    secrets.push(master);
    let mut secrets: Vec<Vec<u8>> = secrets.into_iter().map(String::into_bytes).collect();
    secrets.push(GIVEN_RAW.to_vec());
    for text in &texts {
        let leaked = secrets.iter().position(|secret| holds(text, secret));
        assert_eq!(leaked, None, "a secret stands in: {}", String::from_utf8_lossy(text));
    }
    let mut found = Vec::new();
    leaks(runtime.state(), &secrets, &mut found);
    assert_eq!(found, [device_key.display().to_string()], "that one, and no other file of the state directory");
}

#[test]
fn a_disabled_identity_stops_its_module_until_it_is_enabled() {
    let mut runtime = Runtime::new().supply(&[fixture("wayward")]).start();
    runtime.deploy(&Manifest::new().module("m", "wayward"));

    runtime.cli(&["identity", "disable", "m", "--reason", "stolen"]).ok();
    runtime.wait_for("m", "stopped");
    let shown = runtime.json(&["show", "m"]).to_string();
    assert!(shown.contains("its identity is disabled (stolen)") && shown.contains("identity enable m"), "{shown}");
    runtime.cli(&["start", "m"]).refused(1, &["its identity is disabled (stolen)", "dinrail identity enable m"]);
    runtime.cli(&["send", "m", "in", "{}"]).refused(1, &["its identity is disabled"]);
    runtime.cli(&["method", "m", "echo"]).refused(1, &["its identity is disabled"]);

    runtime.kill9_and_launch();
    runtime.wait_for("m", "stopped");
    runtime.cli(&["identity", "enable", "m"]).ok();
    runtime.wait_for("m", "running");
    assert_eq!(runtime.json(&["method", "m", "echo", "1"])["payload"], json!(1));
}

#[test]
fn a_module_that_a_deployment_drops_keeps_its_identity_and_twin_and_the_plan_says_so() {
    let runtime = Runtime::new().supply(&[fixture("wayward")]).start();
    runtime.deploy(&Manifest::new().module("m", "wayward").desired("m", json!({"limit": 7})));
    let before = key(&runtime, &["m"]);
    let without = runtime.write("without.json", Manifest::new().module("n", "wayward").text());

    runtime
        .cli(&["plan", &without.to_string_lossy()])
        .ok()
        .stdout
        .contains("identity and twin of m stay")
        .then_some(())
        .unwrap();
    runtime.cli(&["deploy", &without.to_string_lossy(), "--wait"]).ok();

    assert_eq!(runtime.module("m"), json!(null), "its instance has gone");
    assert_eq!(key(&runtime, &["m"]), before);
    assert_eq!(runtime.json(&["twin", "get", "m"])["properties"]["desired"]["limit"], 7);
    runtime.cli(&["remove", "m", "--purge"]).ok();
    runtime.cli(&["identity", "show", "m"]).refused(1, &["there is no identity"]);
}
