//! A secret is given to the modules that name it and are allowed it, and to nobody else.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Manifest, Output, Runtime, SOON, fixture, wait_until};

const VALUE: &str = "Grüße, \"plc\" \\ hunter2";
const OTHER: &str = "correct horse battery staple";

/// As the fixture `confidant` has it.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn runtime() -> Runtime {
    Runtime::new().supply(&[fixture("confidant")]).start()
}

fn set(runtime: &Runtime, name: &str, value: &str, more: &[&str]) -> Output {
    runtime.cli_with_input(&[&["secret", "set", name], more].concat(), format!("{value}\n").as_bytes())
}

/// Refers to the secret in its desired properties and in its env.
fn manifest() -> Manifest {
    Manifest::new()
        .module("m", "confidant")
        .with("m", "env", json!({"PW": {"value": {"$secret": "plc-pw"}}, "TZ": {"value": "UTC"}}))
        .desired("m", json!({"plc": {"user": "op", "pw": {"$secret": "plc-pw"}}}))
}

fn last(runtime: &Runtime, begin: &str) -> String {
    runtime.events("m").iter().rfind(|line| line.starts_with(begin)).cloned().unwrap_or_default()
}

fn created(value: &str) -> String {
    format!("create {} env {}", hash(value), hash(value))
}

/// Every form in which a value may lie about: as it is, escaped, in base64 wherever it begins, in hexadecimal digits.
fn forms(value: &str) -> Vec<Vec<u8>> {
    let json = Value::from(value).to_string();
    let mut forms = vec![value.to_owned(), json[1..json.len() - 1].to_owned(), value.escape_default().to_string()];
    let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
    forms.extend([hex.to_uppercase(), hex]);
    for skipped in 0..3 {
        forms.push(base64(&value.as_bytes()[skipped..skipped + (value.len() - skipped) / 3 * 3]));
    }
    forms.into_iter().map(String::into_bytes).collect()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |bits: u32| char::from(DIGITS[bits as usize & 63]);
    let three = |part: &[u8]| {
        let bits = u32::from(part[0]) << 16 | u32::from(part[1]) << 8 | u32::from(part[2]);
        [18, 12, 6, 0].map(|shift| digit(bits >> shift))
    };
    bytes.chunks_exact(3).flat_map(three).collect()
}

/// Where any of these values lies: in the state directory, the log, a support bundle, or what is seen of the process.
fn found(runtime: &Runtime, values: &[&str]) -> Vec<String> {
    let bundle = runtime.folder().join("bundle.zip");
    let _ = std::fs::remove_file(&bundle);
    runtime.cli(&["support-bundle", "-o", &bundle.to_string_lossy(), "--with-values"]).ok();
    let mut places = vec![("the log".to_owned(), runtime.log().into_bytes())];
    let mut zip = zip::ZipArchive::new(std::fs::File::open(&bundle).unwrap()).unwrap();
    for index in 0..zip.len() {
        let mut bytes = Vec::new();
        let mut entry = zip.by_index(index).unwrap();
        std::io::copy(&mut entry, &mut bytes).unwrap();
        places.push((format!("the bundle's {index}"), bytes));
    }
    collect(runtime.state(), &mut places);
    for process in std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path()) {
        places.extend(std::fs::read(process.join("cmdline")).ok().map(|line| (process.display().to_string(), line)));
    }
    places.push(("environment".to_owned(), std::fs::read(format!("/proc/{}/environ", runtime.pid())).unwrap()));
    assert!(places.iter().any(|(place, _)| place.ends_with("dinrail.db")), "the search sees nothing");
    let forms: Vec<Vec<u8>> = values.iter().flat_map(|value| forms(value)).collect();
    let has = |bytes: &[u8]| forms.iter().any(|form| bytes.windows(form.len()).any(|part| part == form));
    places.into_iter().filter(|(_, bytes)| has(bytes)).map(|(place, _)| place).collect()
}

fn collect(folder: &Path, places: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let is_image = path.ends_with("images") || path.ends_with("uploads");
        match entry.file_type().unwrap() {
            kind if kind.is_dir() && !is_image => collect(&path, places),
            kind if kind.is_file() => {
                places.extend(std::fs::read(&path).ok().map(|it| (path.display().to_string(), it)))
            }
            _ => {}
        }
    }
}

#[test]
fn a_secret_reaches_its_module_and_is_seen_nowhere_else() {
    let mut runtime = runtime();
    let said = set(&runtime, "plc-pw", VALUE, &["--for", "m"]).ok().stdout;
    assert!(said.contains("plc-pw is set (version 1); may be had by m"), "{said}");
    runtime.deploy(&manifest());
    assert_eq!(runtime.events("m"), [created(VALUE)]);

    // However indiscreet the module is about it, the value is taken out of what it says.
    let reference = json!({"$secret": "plc-pw"});
    let tell = |how: &str| runtime.cli(&["twin", "patch", "m", &json!({"tell": [how]}).to_string(), "--wait"]);
    tell("log").ok();
    tell("health").ok();
    tell("report").ok();
    tell("refuse").refused(1, &["m refused version", "***", "too simple"]);
    let wrong = json!({"tell": [], "number": reference}).to_string();
    runtime.cli(&["twin", "patch", "m", &wrong, "--force", "--wait"]).refused(1, &["number: invalid type", "***"]);
    runtime.cli(&["twin", "patch", "m", "number=null", "--wait"]).ok();
    wait_until(SOON, "it has reported", || {
        runtime.json(&["twin", "get", "m"])["properties"]["reported"]["login"].is_object()
    });
    let logs = runtime.cli(&["logs", "m"]).ok().stdout;
    assert!(logs.contains("logging in as op with ***"), "{logs}");
    assert_eq!(runtime.json(&["twin", "get", "m"])["properties"]["reported"]["login"]["with"], "pw ***");
    assert!(runtime.json(&["list"])[0]["statusDescription"].as_str().unwrap().contains("cannot log in with ***"));
    assert_eq!(runtime.cli(&["method", "m", "tell"]).ok().stdout.matches("***").count(), 1);
    runtime.cli(&["method", "m", "twin"]).ok();
    assert_eq!(last(&runtime, "twin"), format!("twin {}", hash(VALUE)));

    // What everybody sees is the reference.
    assert_eq!(runtime.json(&["twin", "get", "m"])["properties"]["desired"]["plc"]["pw"], reference);
    let export = runtime.json(&["deployment", "--export"]).to_string();
    assert!(export.contains(r#""value":{"$secret":"plc-pw"}"#), "{export}");
    let file = runtime.write("manifest.json", manifest().text());
    let verbs: [&[&str]; 6] = [
        &["plan", &file.to_string_lossy()],
        &["show", "m"],
        &["secret", "list"],
        &["deployment"],
        &["check"],
        &["logs"],
    ];
    let answers: String = verbs.iter().map(|verb| format!("{:?}", runtime.cli(verb))).collect();
    assert!(!answers.contains("hunter2"), "{answers}");
    let listed = &runtime.json(&["secret", "list"])[0];
    assert_eq!((&listed["name"], &listed["version"], &listed["allowed"]), (&json!("plc-pw"), &json!(1), &json!(["m"])));
    let places: Vec<&Value> = listed["usedBy"].as_array().unwrap().iter().map(|user| &user["place"]).collect();
    assert_eq!(places, ["env PW", "desired.plc.pw"]);
    let (status, answer) = runtime.api().ask("GET", "/secrets/plc-pw", None).unwrap();
    assert_eq!((status, answer.get("value")), (200, None));

    tell("panic");
    wait_until(SOON, "it has panicked", || runtime.log().contains("cannot live with ***"));
    runtime.cli(&["twin", "patch", "m", "tell=null"]).ok();
    assert_eq!(found(&runtime, &[VALUE]), Vec::<String>::new());

    runtime.kill9_and_launch();
    runtime.wait_for("m", "running");
    assert_eq!(last(&runtime, "create"), created(VALUE));
    runtime.stop();
    runtime.launch();
    assert_eq!(found(&runtime, &[VALUE]), Vec::<String>::new());
}

#[test]
fn a_new_value_comes_as_a_change_in_the_order_of_versions() {
    let mut runtime = runtime();
    set(&runtime, "plc-pw", VALUE, &["--for", "m"]).ok();
    runtime.deploy(&manifest());
    let version = |runtime: &Runtime| runtime.module("m")["desiredVersion"].as_u64().unwrap();
    let before = version(&runtime);

    let said = set(&runtime, "plc-pw", OTHER, &[]).ok();
    assert!(said.stderr.contains("m has the value before in env PW: dinrail restart m"), "{}", said.stderr);
    assert_eq!(version(&runtime), before + 1);
    wait_until(SOON, "it has the new value", || last(&runtime, "desired") == format!("desired {}", hash(OTHER)));
    let acknowledged = || runtime.json(&["twin", "get", "m"])["properties"]["reported"]["acknowledged"].clone();
    wait_until(SOON, "it is acknowledged", || acknowledged() == json!({"version": before + 1, "ok": true}));
    let shown = runtime.cli(&["show", "m"]).ok().stdout;
    assert!(shown.contains("plc-pw") && shown.contains("dinrail restart m"), "{shown}");
    assert!(runtime.cli(&["secret", "list"]).ok().stderr.contains("an older value of plc-pw in env PW"));
    runtime.cli(&["method", "m", "twin"]).ok();
    assert_eq!(last(&runtime, "twin"), format!("twin {}", hash(OTHER)));

    runtime.cli(&["restart", "m"]).ok();
    runtime.wait_for("m", "running");
    assert_eq!(last(&runtime, "create"), created(OTHER));
    assert!(!runtime.cli(&["show", "m"]).ok().stdout.contains("dinrail restart m"));
    assert_eq!(found(&runtime, &[VALUE, OTHER]), Vec::<String>::new());

    for number in 0..20 {
        set(&runtime, "plc-pw", &format!("value number {number}"), &[]).ok();
    }
    runtime.kill9_and_launch();
    runtime.wait_for("m", "running");
    assert_eq!(last(&runtime, "create"), created("value number 19"));
    assert_eq!(version(&runtime), before + 21);
}

#[test]
fn what_is_not_set_or_not_allowed_is_refused_with_the_command_to_run() {
    let runtime = runtime();
    runtime.deploy(&Manifest::new().module("m", "confidant"));
    let patch = r#"{"plc": {"pw": {"$secret": "plc-pw"}}}"#;
    let refused = runtime.cli(&["twin", "patch", "m", patch]);
    refused.refused(1, &["properties.desired.plc.pw", "secret plc-pw is not set: dinrail secret set plc-pw --for m"]);
    let file = runtime.write("manifest.json", manifest().text());
    let deploy = ["deploy", &*file.to_string_lossy()];
    runtime
        .cli(&deploy)
        .refused(1, &["properties.desired.plc.pw", "env.PW.value", "dinrail secret set plc-pw --for m"]);
    assert!(runtime.cli(&["plan", &file.to_string_lossy()]).stdout.contains("secret plc-pw is not set"));
    let add = ["add", "n", "confidant", "--env", r#"PW={"$secret":"plc-pw"}"#];
    runtime.cli(&add).refused(1, &["env PW: secret plc-pw is not set: dinrail secret set plc-pw --for n"]);

    set(&runtime, "plc-pw", VALUE, &["--for", "somebody"]).ok();
    runtime.cli(&["twin", "patch", "m", patch]).refused(1, &["dinrail secret allow plc-pw m"]);
    runtime.cli(&add).refused(1, &["secret plc-pw is not allowed to n: dinrail secret allow plc-pw n"]);
    let events = runtime.events("m");
    assert_eq!(events, [format!("create {} env none", hash(""))], "it is told nothing");
    runtime.cli(&["secret", "allow", "plc-pw", "m", "n"]).ok();
    runtime.cli(&["twin", "patch", "m", patch, "--wait"]).ok();
    assert_eq!(last(&runtime, "desired"), format!("desired {}", hash(VALUE)));
    runtime.cli(&add).ok();
    runtime.wait_for("n", "running");
    assert_eq!(runtime.events("n"), [format!("create {} env {}", hash(""), hash(VALUE))]);

    // Shapes that are none.
    for (patch, why) in [
        (r#"{"a": {"$secret": "plc-pw", "b": 1}}"#, "nothing beside it"),
        (r#"{"a": {"$secret": 1}}"#, "nothing beside it"),
        (r#"{"a": {"$secret": "no/name"}}"#, "the name of a secret"),
    ] {
        runtime.cli(&["twin", "patch", "m", patch]).refused(1, &["properties.desired.a", why]);
    }
    let tags = json!({"tags": {"a": {"$secret": "plc-pw"}}});
    let (status, answer) = runtime.api().ask("PATCH", "/twins/Hannover01/modules/m", Some(&tags)).unwrap();
    assert!(status == 400 && answer.to_string().contains("desired properties only"), "{answer}");
}

#[test]
fn a_module_whose_secret_was_removed_waits_for_it() {
    let mut runtime = runtime();
    set(&runtime, "plc-pw", VALUE, &["--for", "m"]).ok();
    runtime.deploy(&manifest());
    runtime
        .cli(&["secret", "remove", "plc-pw"])
        .refused(1, &["is in use", "m: env PW", "m: desired.plc.pw", "--force"]);
    runtime.cli(&["secret", "remove", "plc-pw", "--force"]).ok();
    assert_eq!(runtime.module("m")["status"], "running", "it keeps what it has");

    // A change while it cannot be given: it is told nothing, and what it cannot have is said.
    runtime.cli(&["twin", "patch", "m", "note=1", "--wait"]).refused(1, &["secret plc-pw is not set"]);
    assert_eq!(last(&runtime, "desired"), "");
    runtime.cli(&["restart", "m"]).ok();
    runtime.wait_for("m", "waiting");
    let shown = runtime.json(&["show", "m"]);
    assert_eq!(shown["reason"], "secret plc-pw is not set: dinrail secret set plc-pw --for m");
    assert_eq!((&shown["nextStep"], &shown["restartCount"]), (&json!("dinrail secret set plc-pw --for m"), &json!(0)));
    runtime.kill9_and_launch();
    runtime.wait_for("m", "waiting");

    set(&runtime, "plc-pw", OTHER, &["--for", "m"]).ok();
    runtime.wait_for("m", "running");
    assert_eq!(last(&runtime, "create"), created(OTHER));
    runtime.cli(&["secret", "remove", "plc-pv"]).refused(1, &["there is no secret plc-pv", "did you mean plc-pw?"]);
}

#[test]
fn a_manifest_at_first_boot_waits_for_its_secrets() {
    let runtime = Runtime::new().supply(&[fixture("confidant")]);
    let file = runtime.write("manifest.json", manifest().text());
    let runtime = runtime.args([file]).start();
    let list = || runtime.cli(&["list"]).ok().stdout;
    wait_until(SOON, "it waits for its secret", || list().contains("secret plc-pw is not set"));
    assert_eq!(runtime.module("m")["status"], "waiting");

    set(&runtime, "plc-pw", VALUE, &[]).ok();
    wait_until(SOON, "what it lacks now is said", || list().contains("dinrail secret allow plc-pw m"));
    runtime.cli(&["secret", "allow", "plc-pw", "m"]).ok();
    runtime.wait_for("m", "running");
    assert_eq!(last(&runtime, "create"), created(VALUE));
}

#[test]
fn under_another_device_key_secrets_are_to_be_set_again_and_the_rest_goes_on() {
    let mut runtime = runtime();
    set(&runtime, "plc-pw", VALUE, &["--for", "m"]).ok();
    runtime.deploy(&manifest().module("other", "confidant"));
    runtime.stop();
    let supply = runtime.folder().join("supply");
    runtime.launch_with(&["--new-device-key".as_ref(), "--watch".as_ref(), supply.as_os_str()]);

    runtime.wait_for("other", "running");
    runtime.wait_for("m", "waiting");
    assert!(runtime.json(&["show", "m"])["reason"].as_str().unwrap().contains("dinrail secret set plc-pw"));
    assert_eq!(runtime.json(&["secret", "list"])[0]["readable"], false);
    set(&runtime, "plc-pw", OTHER, &[]).ok();
    runtime.wait_for("m", "running");
    assert_eq!(last(&runtime, "create"), created(OTHER));
}

#[test]
fn a_value_is_no_argument() {
    let runtime = runtime();
    let refused = runtime.cli(&["secret", "set", "plc-pw", "hunter2"]);
    assert!(!refused.stderr.contains("hunter2"), "{}", refused.stderr);
    refused.refused(2, &["is no argument", "standard input", "@FILE"]);
    set(&runtime, "plc-pw", "", &[]).refused(1, &["is empty"]);
    set(&runtime, "plc-pw", &"x".repeat(4097), &[]).refused(1, &["4097 bytes", "4096"]);
    set(&runtime, "plc pw", "x", &[]).refused(1, &["is not the name of a secret"]);
    assert_eq!(runtime.json(&["secret", "list"]), json!([]));

    let file = runtime.write("value", "from a file\r\n");
    runtime.cli(&["secret", "set", "plc-pw", &format!("@{}", file.display()), "--for", "m"]).ok();
    runtime.deploy(&manifest());
    assert_eq!(last(&runtime, "create"), created("from a file"), "the line break at its end is left off");
}
