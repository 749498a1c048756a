//! The registry as the operator looks after it: who may act, and what they prove it with.

use serde_json::Value;

use crate::harness::{LISTEN, Manifest, Runtime, fixture};

const KEY: &str = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3I=";

#[test]
fn identities_are_added_listed_shown_disabled_and_removed_by_name() {
    let runtime = Runtime::new().supply(&[fixture("wayward")]).start();
    runtime.deploy(&Manifest::new().module("a", "wayward"));

    let added = runtime.cli(&["identity", "add", "/devices/press-1"]).ok();
    assert_eq!(added.stdout, "/devices/press-1 is added\n");
    assert!(added.stderr.contains("dinrail identity connection-string /devices/press-1"), "{}", added.stderr);
    runtime.cli(&["identity", "add", "scanner", "--disabled"]).ok();
    let list = runtime.json(&["identity", "list"]);
    let row = |of: &str, member: &str| {
        let rows = list.as_array().unwrap().iter();
        rows.clone().find(|row| row["identity"] == of).unwrap_or_else(|| panic!("no {of} in {list}"))[member].clone()
    };
    assert_eq!(list.as_array().unwrap().len(), 6);
    assert_eq!(row("/devices/Hannover01/modules/a", "managedBy"), "dinrail");
    assert_eq!(row("/devices/Hannover01/modules/scanner", "status"), "disabled");
    let table = runtime.cli(&["identity", "list"]).ok().stdout;
    assert!(table.starts_with("IDENTITY"), "{table}");
    assert!(table.contains("/devices/press-1 "), "{table}");

    runtime.cli(&["identity", "disable", "/devices/press-1", "--reason", "stolen"]).ok();
    let shown = runtime.cli(&["identity", "show", "/devices/press-1"]).ok().stdout;
    assert!(shown.contains("status           disabled\nreason           stolen\n"), "{shown}");
    runtime.cli(&["identity", "enable", "/devices/press-1"]).ok();
    assert_eq!(runtime.json(&["identity", "show", "/devices/press-1"])["status"], "enabled");

    runtime.cli(&["identity", "remove", "/devices/press-1"]).ok();
    runtime
        .cli(&["identity", "show", "/devices/press-1"])
        .refused(1, &["there is no identity /devices/press-1", "hint:"]);
    runtime.cli(&["identity", "remove", "/devices/press-1"]).refused(1, &["there is no identity"]);
    runtime.cli(&["identity", "remove", "$edgeAgent"]).refused(1, &["is the runtime itself"]);
    runtime.cli(&["identity", "remove", "a"]).refused(1, &["there is an instance a", "deploy a manifest without a"]);
    runtime.cli(&["identity", "add", "a"]).refused(1, &["there is an identity", "already"]);
    runtime
        .cli(&["identity", "add", "/devices/b/modules/c"])
        .refused(1, &["there is no device 'b'", "identity add /devices/b"]);
}

#[test]
fn who_is_connected_is_so_wherever_it_is_asked() {
    let runtime = Runtime::new().supply(&[fixture("wayward")]).start();
    runtime.deploy(&Manifest::new().module("a", "wayward"));
    runtime.wait_for("a", "running");
    let mut api = runtime.api();
    let mut seen = |module: &str| {
        let escaped = module.replace('$', "%24");
        let query = format!("SELECT connectionState FROM devices.modules WHERE moduleId = '{module}'");
        let list = runtime.json(&["identity", "list"]);
        let row = list.as_array().unwrap().iter().find(|row| row["moduleId"] == module).cloned();
        let mut ask = |verb: &str, path: &str, body: &str| api.exchange(verb, path, &[], body).body;
        [
            ask("GET", &format!("/devices/Hannover01/modules/{escaped}"), ""),
            ask("GET", &format!("/twins/Hannover01/modules/{escaped}"), ""),
            ask("POST", "/devices/query", &serde_json::json!({"query": query}).to_string())[0].take(),
            row.unwrap(),
        ]
        .map(|document| document["connectionState"].as_str().unwrap().to_owned())
    };

    for module in ["a", "$edgeAgent", "$edgeHub"] {
        assert_eq!(seen(module), ["Connected"; 4], "{module}");
    }
    runtime.cli(&["stop", "a"]).ok();
    runtime.wait_for("a", "stopped");
    assert_eq!(seen("a"), ["Disconnected"; 4]);
}

#[test]
fn keys_are_given_by_file_or_stdin_and_printed_by_the_connection_string_alone() {
    let runtime = Runtime::new().start();
    let file = runtime.write("key", format!("{KEY}\n"));
    let from_file = format!("@{}", file.display());

    runtime.cli(&["identity", "add", "/devices/p", "--primary-key", KEY]).refused(2, &["takes no key itself", "@FILE"]);
    runtime
        .cli(&["identity", "add", "/devices/p", "--primary-key", "-", "--secondary-key", "-"])
        .refused(2, &["one key only"]);
    let added = runtime.cli(&["identity", "add", "/devices/p", "--primary-key", &from_file, "--json"]).ok();
    runtime.cli_with_input(&["identity", "add", "/devices/q", "--secondary-key", "-"], KEY.as_bytes()).ok();
    runtime
        .cli_with_input(&["identity", "add", "/devices/r", "--primary-key", "-"], b"short")
        .refused(1, &["symmetricKey.primaryKey"]);

    let string = |arguments: &[&str]| {
        let printed = runtime.cli(&[&["identity", "connection-string"], arguments].concat()).ok().stdout;
        let parts: Vec<(String, String)> = printed
            .trim()
            .split(';')
            .map(|part| part.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())).unwrap())
            .collect();
        parts
    };
    let of_p = string(&["/devices/p"]);
    assert_eq!(
        of_p.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["HostName", "DeviceId", "SharedAccessKey"]
    );
    assert_eq!(of_p[2].1, KEY);
    assert_eq!(string(&["/devices/q", "--key", "secondary"])[2].1, KEY);
    runtime.cli(&["identity", "add", "scanner"]).ok();
    assert_eq!(string(&["scanner"])[2], ("ModuleId".to_owned(), "scanner".to_owned()));

    let rotated = runtime.cli(&["identity", "rotate", "/devices/p"]).ok().stdout;
    assert!(rotated.starts_with("the primary key of /devices/p is another one now"), "{rotated}");
    let others = (string(&["/devices/p"]), string(&["/devices/p", "--key", "secondary"]));
    assert_ne!(others.0[2].1, KEY);
    runtime.cli(&["identity", "rotate", "/devices/p", "--json"]).ok();
    assert_ne!(string(&["/devices/p"]), others.0);
    assert_eq!(string(&["/devices/p", "--key", "secondary"]), others.1, "the other key holds");

    let shown = runtime.cli(&["identity", "show", "/devices/q"]).ok().stdout;
    let list = runtime.cli(&["identity", "list", "--json"]).ok().stdout;
    for (text, what) in [(&added.stdout, "add"), (&shown, "show"), (&list, "list"), (&runtime.log(), "the log")] {
        assert!(!text.contains(KEY) && !text.contains(&others.1[2].1), "{what} tells a key: {text}");
    }
}

#[test]
fn a_token_is_for_one_identity_and_for_a_while() {
    let runtime = Runtime::new().start();
    runtime.cli(&["identity", "add", "scanner"]).ok();

    let printed = runtime.cli(&["identity", "token", "scanner", "--ttl", "15m"]).ok();
    let token = printed.stdout.trim();
    assert!(token.starts_with("SharedAccessSignature sr="), "{token}");
    assert!(token.contains("%2Fdevices%2FHannover01%2Fmodules%2Fscanner"), "{token}");
    assert!(!token.contains("skn="), "{token}");
    assert!(printed.stderr.contains("until 20"), "{}", printed.stderr);
    let document = runtime.json(&["identity", "token", "scanner"]);
    assert!(document["token"].is_string() && document["expiresAtUtc"].is_string(), "{document}");
    runtime.cli(&["identity", "token", "scanner", "--ttl", "400d"]).refused(1, &["cannot hold for", "365 days"]);
    runtime.cli(&["identity", "token", "nobody"]).refused(1, &["there is no identity"]);
    assert!(!runtime.log().contains(token));
}

#[test]
fn the_connection_string_of_a_policy_needs_a_way_in_for_other_machines() {
    let runtime = Runtime::new().start();
    runtime
        .cli(&["identity", "connection-string", "--policy", "owner"])
        .refused(1, &["not reached from other machines", "--listen", "api.listen"]);
    let reached = Runtime::new().args(LISTEN).start();
    for policy in ["reader", "operator", "owner"] {
        let printed = reached.cli(&["identity", "connection-string", "--policy", policy]).ok().stdout;
        let (host, rest) = printed.trim().split_once(';').unwrap();
        assert!(host.ends_with(&format!(":{}", reached.port())), "{host}");
        assert_eq!(rest, format!("SharedAccessKeyName={policy};SharedAccessKey={}", reached.policy_key(policy)));
    }
    let device = reached.cli(&["identity", "connection-string", "/devices/Hannover01"]).ok().stdout;
    assert!(device.contains(&format!(":{};DeviceId=Hannover01;", reached.port())), "{}", device.len());
    runtime.cli(&["identity", "connection-string", "--policy", "king"]).refused(2, &["reader, operator, owner"]);
    runtime.cli(&["identity", "connection-string"]).refused(2, &["<ID>"]);
    let rotated: Value = runtime.json(&["identity", "rotate", "--policy", "reader", "--key", "secondary"]);
    assert_eq!((&rotated["policy"], &rotated["key"]), (&"reader".into(), &"secondary".into()));
}
