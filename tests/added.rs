//! Instances without a manifest: added by a person, and ended for good by one.

use serde_json::json;

use crate::harness::{Manifest, Runtime, SOON, c_module, fixture, misbehaving, wait_until};

fn wayward() -> Runtime {
    Runtime::new().supply(&[fixture("wayward")]).start()
}

#[test]
fn added_instance_finds_its_desired_properties_and_comes_back_after_reboots_and_deployments() {
    let mut runtime = wayward();
    let added = ["add", "pump", "wayward", "--set", "note.a=1", "--set", "note.b=x", "--env", "TZ=UTC"];

    let said = runtime.cli(&[&added[..], &["--startup-order", "7", "--restart-policy", "never"]].concat()).ok();
    assert!(said.stdout.starts_with("pump is "), "{}", said.stdout);
    runtime.wait_for("pump", "running");

    assert_eq!(runtime.events("pump")[0], r#"create {"a":1,"b":"x"}"#);
    let show = runtime.json(&["show", "pump"]);
    assert_eq!(
        (&show["origin"], &show["startupOrder"], &show["restartPolicy"]),
        (&json!("cli"), &json!(7), &json!("never"))
    );
    runtime.kill9_and_launch();
    runtime.wait_for("pump", "running");
    runtime.deploy(&Manifest::new().module("other", "wayward"));
    assert_eq!(runtime.module("pump")["status"], "running");
}

#[test]
fn file_is_uploaded_and_stays_the_one_in_use() {
    let runtime = Runtime::new().start();
    let (first, second) = (c_module("witness", "1.0.0", &[]), c_module("witness", "1.1.0", &[]));

    runtime.cli(&["add", "w", &first.to_string_lossy()]).ok();
    runtime.wait_for("w", "running");
    runtime.add_image(&second);

    let row = runtime.module("w");
    assert_eq!(row["version"], "1.0.0");
    assert!(row["image"].as_str().unwrap().starts_with("witness@sha256:"), "{row}");
    let missing = runtime.cli(&["add", "x", "./nothing.so"]);
    missing.refused(1, &["nothing.so"]);
    let text = runtime.write("text.so", "not a library");
    runtime.cli(&["add", "x", &text.to_string_lossy()]).refused(1, &["text file"]);
    assert!(runtime.module("x").is_null());
}

#[test]
fn what_cannot_be_added_is_refused_with_whose_it_is_and_leaves_nothing() {
    let runtime = wayward();
    runtime.deploy(&Manifest::new().module("deployed", "wayward"));
    runtime.cli(&["add", "pump", "wayward"]).ok();

    runtime.cli(&["add", "pump", "wayward"]).refused(1, &["'pump' already", "added before", "dinrail remove pump"]);
    runtime.cli(&["add", "deployed", "wayward"]).refused(1, &["the deployment in force names it", "manifest"]);
    let all = runtime.cli(&["add", "a/b", "wayward:v1", "--set", "key=9007199254740993"]);
    all.refused(1, &["3 problems", "a/b", "write '1'", "properties.desired.key", "nothing was changed"]);
    runtime.cli(&["add", "c", "wayward", "--env", "novalue"]).refused(2, &["NAME=VALUE"]);
    assert_eq!(runtime.json(&["list"]).as_array().unwrap().len(), 2);
}

#[test]
fn added_instance_waits_for_its_image_and_says_so() {
    let runtime = Runtime::new().start();

    let said = runtime.cli(&["add", "pump", "wayward"]).ok();
    assert!(said.stdout.contains("pump is waiting: no image 'wayward' here"), "{}", said.stdout);
    runtime.add_image(&fixture("wayward"));

    runtime.wait_for("pump", "running");
}

#[test]
fn added_as_stopped_it_does_not_start_before_a_person_says_so() {
    let mut runtime = wayward();

    runtime.cli(&["add", "pump", "wayward", "--stopped"]).ok();
    runtime.kill9_and_launch();
    assert_eq!(runtime.module("pump")["status"], "stopped");
    assert!(runtime.events("pump").is_empty());

    runtime.cli(&["start", "pump"]).ok();
    runtime.wait_for("pump", "running");
    runtime.kill9_and_launch();
    runtime.wait_for("pump", "running");
}

#[test]
fn removed_instance_keeps_twin_messages_and_data_until_they_are_purged() {
    let mut runtime = wayward();
    runtime.cli(&["add", "pump", "wayward", "--set", "note=1"]).ok();
    runtime.wait_for("pump", "running");
    runtime.cli(&["stop", "pump"]).ok();
    runtime.wait_for("pump", "stopped");
    (0..3).for_each(|_| drop(runtime.cli(&["send", "pump", "in", "hello"]).ok()));

    let said = runtime.cli(&["remove", "pump"]).ok();
    for words in ["pump is removed; kept:", "/devices/Hannover01/modules/pump", "3 messages", "data folder"] {
        assert!(said.stdout.contains(words), "{}", said.stdout);
    }
    assert!(said.stderr.contains("dinrail remove pump --purge"), "{}", said.stderr);
    assert!(runtime.module("pump").is_null());
    runtime.cli(&["remove", "pump"]).refused(1, &["no module 'pump' any more", "3 messages", "--purge"]);

    // Added again it finds what it had, the messages too.
    runtime.cli(&["add", "pump", "wayward"]).ok();
    wait_until(SOON, "the messages come", || {
        runtime.events("pump").iter().filter(|e| e.starts_with("message")).count() == 3
    });
    assert_eq!(runtime.events("pump").iter().filter(|event| *event == "create 1").count(), 2);

    let said = runtime.cli(&["remove", "pump", "--purge"]).ok();
    assert!(
        said.stdout.contains("pump is removed, and with it its identity and twin, its data folder"),
        "{}",
        said.stdout
    );
    assert!(!runtime.state().join("data/pump").exists());
    runtime.cli(&["twin", "get", "pump"]).refused(1, &["pump"]);
    runtime.cli(&["remove", "pump", "--purge"]).refused(1, &["there is no module 'pump'"]);
    runtime.kill9_and_launch();
    assert!(runtime.module("pump").is_null());
    runtime.cli(&["twin", "get", "pump"]).refused(1, &["pump"]);
}

#[test]
fn what_an_earlier_removal_left_can_be_purged_later_and_its_messages_are_counted() {
    let runtime = wayward();
    runtime.cli(&["add", "pump", "wayward", "--stopped"]).ok();
    (0..2).for_each(|_| drop(runtime.cli(&["send", "pump", "in", "hello"]).ok()));
    runtime.cli(&["remove", "pump"]).ok();

    let purged = runtime.json(&["remove", "pump", "--purge"]);

    assert_eq!((&purged["removed"], &purged["purged"]), (&json!(false), &json!(true)));
    assert!(purged["discarded"][0].as_str().unwrap().starts_with("2 messages"), "{purged}");
    assert!(runtime.log().contains("purged"), "{}", runtime.log());
}

#[test]
fn purge_takes_all_that_waits_on_disk_however_much_of_it_was_never_in_memory() {
    const COUNT: u64 = 1_500;
    let mut runtime = wayward();
    runtime.cli(&["add", "pump", "wayward", "--stopped"]).ok();
    runtime.cli(&["add", "sender", "wayward"]).ok();
    let into = "FROM /messages/modules/sender/outputs/out INTO BrokeredEndpoint('/modules/pump/inputs/in')";
    runtime.cli(&["route", "add", "r", into, "--durability", "disk"]).ok();
    runtime.wait_for("sender", "running");
    runtime.cli(&["send", "sender", "send", &json!({"count": COUNT}).to_string()]).ok();
    let inbox = || runtime.module("pump")["inbox"]["messages"].clone();
    wait_until(SOON, "all of them wait", || inbox() == COUNT);
    let removed = runtime.cli(&["remove", "pump"]).ok();
    assert!(removed.stdout.contains(&format!("{COUNT} messages")), "{}", removed.stdout);

    let purged = runtime.json(&["remove", "pump", "--purge"]);

    assert!(purged["discarded"][0].as_str().unwrap().starts_with(&format!("{COUNT} messages")), "{purged}");
    assert_eq!(purged["problems"], json!([]), "{purged}");
    let losses = runtime.json(&["losses", "pump"]);
    assert_eq!(losses["lost"], COUNT, "{losses}");
    runtime.cli(&["remove", "pump", "--purge"]).refused(1, &["there is no module 'pump'"]);
    runtime.cli(&["add", "pump", "wayward", "--stopped"]).ok();
    assert_eq!(runtime.module("pump")["inbox"]["messages"], 0);

    // What comes now is found, and nothing else; after a kill too.
    runtime.cli(&["send", "sender", "send", r#"{"count": 2}"#]).ok();
    wait_until(SOON, "they wait", || runtime.module("pump")["inbox"]["messages"] == 2);
    runtime.kill9_and_launch();
    runtime.cli(&["start", "pump"]).ok();
    let received = || runtime.events("pump").iter().filter(|event| event.starts_with("message in")).count();
    wait_until(SOON, "they come", || received() == 2);
    wait_until(SOON, "nothing waits", || runtime.module("pump")["inbox"]["messages"] == 0);
    assert_eq!(received(), 2);
}

#[test]
fn module_of_the_deployment_is_not_removed_behind_its_back() {
    let runtime = wayward();
    runtime.deploy(&Manifest::new().module("deployed", "wayward"));

    let refused = runtime.cli(&["remove", "deployed", "--purge"]);

    refused
        .refused(1, &["belongs to the deployment in force", "deploy a manifest without it", "dinrail stop deployed"]);
    assert_eq!(runtime.module("deployed")["status"], "running");
    runtime.cli(&["remove", "deployd"]).refused(1, &["no module 'deployd'", "did you mean 'deployed'?"]);
}

#[test]
fn removed_instance_is_not_brought_back_by_its_file_but_by_other_bytes_or_a_start() {
    let mut runtime = Runtime::new().start();
    let drop_in = |runtime: &Runtime, version: &str, name: &str| {
        std::fs::copy(c_module("witness", version, &[]), runtime.state().join("drop").join(name)).unwrap();
    };
    drop_in(&runtime, "1.0.0", "witness.so");
    runtime.wait_for("witness", "running");

    runtime.cli(&["remove", "witness"]).ok();
    let is_away = |runtime: &Runtime, why: &str| {
        let images = runtime.json(&["image", "list"]);
        let said = images[0]["reason"].as_str().unwrap().to_owned();
        assert!(said.contains("removed by ") && said.contains("dinrail start witness"), "{why}: {said}");
        assert!(runtime.module("witness").is_null(), "{why}");
    };
    is_away(&runtime, "removed");
    std::fs::rename(runtime.state().join("drop/witness.so"), runtime.state().join("drop/other.so")).unwrap();
    wait_until(SOON, "the renamed file is seen", || {
        runtime.json(&["image", "list"])[0]["source"].as_str().unwrap().ends_with("other.so")
    });
    is_away(&runtime, "renamed");
    runtime.stop();
    runtime.launch();
    is_away(&runtime, "after a reboot");
    runtime.kill9_and_launch();
    is_away(&runtime, "after a power cut");

    runtime.cli(&["start", "witness"]).ok();
    runtime.wait_for("witness", "running");
    assert_eq!(runtime.json(&["show", "witness"])["origin"], "drop");
    runtime.cli(&["remove", "witness"]).ok();
    drop_in(&runtime, "1.1.0", "other.so");
    runtime.wait_for("witness", "running");
    assert_eq!(runtime.module("witness")["version"], "1.1.0");
}

#[test]
fn removing_one_that_never_returns_gives_it_up_and_says_so() {
    let runtime = Runtime::new().config("[restart]\nfirst_delay_secs = 1\n").start();
    runtime.add_image(&misbehaving());
    let manifest = Manifest::new().module("it", "misbehaving").option("it", "stopGraceSecs", json!(0.2));
    runtime.apply(&manifest.desired("it", json!({"misbehave": "hangInStop"})));
    runtime.wait_for("it", "running");
    // Its place in the local layer: the deployment goes, the instance is added by hand.
    runtime.apply(&Manifest::new());
    wait_until(SOON, "it is gone", || runtime.module("it").is_null());

    runtime.cli(&["add", "it", "misbehaving"]).refused(1, &["never returned", "restart the runtime"]);
    let refused = runtime.cli(&["remove", "it", "--purge"]);

    refused.refused(1, &["not everything of it could be discarded", "never returned"]);
    assert!(!runtime.state().join("data/it").exists());
}

#[test]
fn removing_one_that_was_given_up_keeps_its_name_taken_until_the_runtime_restarts() {
    let mut runtime = Runtime::new().config("[restart]\nfirst_delay_secs = 1\n").start();
    runtime.add_image(&misbehaving());
    runtime.cli(&["add", "it", "misbehaving", "--set", "misbehave=hangInStop"]).ok();
    runtime.wait_for("it", "running");
    runtime.cli(&["stop", "it"]).ok();
    runtime.wait_for("it", "failed");

    let removed = runtime.cli(&["remove", "it"]);
    assert!([&*removed.stdout, &removed.stderr].concat().contains("never returned"), "{removed:?}");

    runtime.cli(&["add", "it", "misbehaving"]).refused(1, &["never returned", "restart the runtime"]);
    let manifest = runtime.write("manifest.json", Manifest::new().module("it", "misbehaving").text());
    let place = "modulesContent.$edgeAgent.properties.desired.modules.it";
    runtime.cli(&["deploy", &manifest.to_string_lossy()]).refused(1, &[place, "never returned", "restart the runtime"]);
    assert!(runtime.module("it").is_null());
    runtime.cli(&["remove", "it", "--purge"]).refused(1, &["never returned"]);
    runtime.kill9_and_launch();
    runtime.cli(&["add", "it", "misbehaving"]).ok();
    runtime.wait_for("it", "running");
}
