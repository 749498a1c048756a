//! A manifest is applied as planned, as a whole or not at all, and is in force until another one is.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::{Manifest, Runtime, SOON, c_module, fixture, wait_until};

fn runtime() -> Runtime {
    Runtime::new().supply(&[fixture("wayward")]).start()
}

fn modules(runtime: &Runtime) -> Vec<String> {
    let list = runtime.json(&["list"]);
    list.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
}

/// Action of the plan for each name.
fn actions(plan: &Value) -> BTreeMap<(String, String), String> {
    let text = |step: &Value, key: &str| step[key].as_str().unwrap().to_owned();
    let steps = plan["steps"].as_array().unwrap().iter();
    steps
        .map(|step| {
            let kind = match text(step, "action").as_str() {
                "twin" => "twin",
                "route" => "route",
                _ => "module",
            };
            ((kind.to_owned(), text(step, "name")), text(step, "action"))
        })
        .collect()
}

fn of(actions: &BTreeMap<(String, String), String>, kind: &str, name: &str) -> Option<String> {
    actions.get(&(kind.to_owned(), name.to_owned())).cloned()
}

#[test]
fn all_problems_of_a_manifest_are_told_at_once_and_nothing_is_applied() {
    let runtime = runtime();
    runtime.deploy(&Manifest::new().module("w", "wayward"));
    let before = runtime.json(&["deployment"]);
    let bad = json!({"modulesContent": {
        "$edgeAgent": {"properties.desired": {"schemaVersion": "1.1", "modules": {
            "good": {"type": "library", "settings": {"image": "wayward"}},
            "container": {"type": "docker", "settings": {"image": "mcr.example/x:1"}},
            "misspelt": {"type": "library", "restartPolcy": "always", "settings": {"image": "wayward"}},
            "wild": {"type": "library", "startupOrder": "first", "settings": {
                "image": "wayward", "createOptions": {"isolation": "moon", "Binds": []}}}
        }}},
        "$edgeHub": {"properties.desired": {"schemaVersion": "1.1", "routes": {
            "broken": "FROM /messages/modules/good/outputs/out INTO nowhere"
        }}},
        "good": {"properties.desired": {"deep": {"key with $dollar": 1, "number": 9007199254740993_i64}}}
    }});
    let file = runtime.write("bad.json", bad.to_string());
    let file = file.to_string_lossy();

    for verb in ["deploy", "plan"] {
        runtime.cli(&[verb, &file]).refused(
            1,
            &[
                "container.type",
                "library",
                "misspelt.restartPolcy",
                "restartPolicy",
                "wild.startupOrder",
                "isolation",
                "thread",
                "Binds",
                "data folder",
                "broken",
                "hint:",
            ],
        );
    }

    assert_eq!(modules(&runtime), ["w"]);
    assert_eq!(runtime.json(&["deployment"]), before);
    runtime.cli(&["twin", "get", "good"]).refused(1, &["good"]);
}

#[test]
fn text_that_is_no_manifest_is_refused_with_its_place() {
    let runtime = runtime();
    let table = [
        ("{\"modulesContent\": {\n  \"$edgeAgent\": oops}}", "bad.json:2:17:"),
        ("[]", "object"),
        ("{}", "modulesContent"),
        ("", "1"),
    ];
    for (text, says) in table {
        let file = runtime.write("bad.json", text);
        runtime.cli(&["deploy", &file.to_string_lossy()]).refused(1, &[says, "bad.json"]);
    }
    runtime.cli(&["deploy", "missing.json"]).refused(1, &["missing.json", "cannot be read"]);
    let none = runtime.cli(&["deployment"]).ok();
    assert!(
        none.stdout.contains("no deployment is in force") && none.stdout.contains("dinrail deploy"),
        "{}",
        none.stdout
    );
    let none = runtime.json(&["deployment"]);
    assert_eq!((&none["id"], &none["modules"]), (&Value::Null, &json!([])));
}

#[test]
fn deploy_does_what_the_plan_says_and_touches_nothing_else() {
    let runtime = runtime();
    let manifest = Manifest::new()
        .module("same", "wayward")
        .module("gone", "wayward")
        .module("changed", "wayward")
        .module("patched", "wayward")
        .desired("patched", json!({"note": 1}))
        .desired("same", json!({"note": 1}))
        .connect("same", "gone");
    runtime.deploy(&manifest);
    runtime.cli(&["twin", "patch", "same", "note=operator", "--wait"]).ok();
    let before: BTreeMap<&str, Value> = ["same", "changed", "patched"].map(|name| (name, runtime.module(name))).into();
    let next = Manifest::new()
        .module("same", "wayward")
        .desired("same", json!({"note": 1}))
        .module("changed", "wayward")
        .with("changed", "env", json!({"MODE": {"value": "fast"}}))
        .module("patched", "wayward")
        .desired("patched", json!({"note": 2}))
        .module("new", "wayward")
        .connect("same", "new");
    let file = runtime.write("next.json", next.text());

    let plan = runtime.json(&["plan", &file.to_string_lossy()]);
    let deployed = runtime.deploy(&next);

    assert_eq!(deployed["plan"]["steps"], plan["steps"]);
    let actions = actions(&plan);
    let expected =
        [("same", "keep"), ("gone", "remove"), ("changed", "restart"), ("patched", "keep"), ("new", "start")];
    for (name, action) in expected {
        assert_eq!(of(&actions, "module", name).as_deref(), Some(action), "{name} in {plan}");
    }
    assert_eq!(of(&actions, "twin", "patched").as_deref(), Some("twin"));
    assert_eq!(of(&actions, "twin", "same"), None, "its section has not changed");
    for name in ["same-to-gone", "same-to-new"] {
        assert!(of(&actions, "route", name).is_some(), "{name} in {plan}");
    }

    assert_eq!(modules(&runtime), ["changed", "new", "patched", "same"]);
    let start_of = |name: &str| runtime.module(name)["lastStartTimeUtc"].clone();
    assert_eq!(start_of("same"), before["same"]["lastStartTimeUtc"]);
    assert_eq!(start_of("patched"), before["patched"]["lastStartTimeUtc"]);
    assert_ne!(start_of("changed"), before["changed"]["lastStartTimeUtc"]);
    assert_eq!(runtime.events("gone").last().unwrap(), "stop");
    let note = |name: &str| runtime.json(&["twin", "get", name])["properties"]["desired"]["note"].clone();
    assert_eq!(note("same"), "operator", "an operator's change of a section that the manifest leaves as it was");
    assert_eq!(note("patched"), 2);
    wait_until(SOON, "the change was delivered", || runtime.events("patched").last().unwrap().ends_with(" 2"));
}

#[test]
fn plan_changes_nothing() {
    let runtime = runtime();
    runtime.deploy(&Manifest::new().module("w", "wayward"));
    let before = (runtime.json(&["deployment"]), modules(&runtime));
    let file = runtime.write("next.json", Manifest::new().module("x", "wayward").desired("x", json!({"a": 1})).text());

    let plan = runtime.cli(&["plan", &file.to_string_lossy()]).ok();

    assert!(plan.stdout.contains("start") && plan.stdout.contains("remove"), "{}", plan.stdout);
    assert_eq!((runtime.json(&["deployment"]), modules(&runtime)), before);
    runtime.cli(&["twin", "get", "x"]).refused(1, &["x"]);
}

#[test]
fn status_stopped_in_the_manifest_keeps_it_stopped() {
    let runtime = runtime();
    let manifest = Manifest::new().module("w", "wayward");
    runtime.deploy(&manifest.clone().with("w", "status", json!("stopped")));
    assert_eq!(runtime.module("w")["status"], "stopped");

    runtime.deploy(&manifest);
    runtime.wait_for("w", "running");
    runtime.deploy(&manifest.with("w", "status", json!("stopped")));
    runtime.wait_for("w", "stopped");
}

#[test]
fn cold_boot_takes_up_the_deployment_in_force() {
    let mut runtime = runtime();
    let manifest = Manifest::new().module("a", "wayward").module("b", "wayward").connect("a", "b");
    runtime.deploy(&manifest);
    let before = runtime.json(&["deployment"]);

    runtime.stop();
    runtime.launch_with(&[]);
    runtime.wait_for("a", "running");
    runtime.wait_for("b", "running");

    assert_eq!(runtime.json(&["deployment"]), before);
    runtime.cli(&["send", "a", "in", "hello"]).ok();
    wait_until(SOON, "the route is in force", || runtime.events("b").contains(&"message in 1 hello".to_owned()));
}

#[test]
fn manifest_on_the_command_line_is_applied_once_and_again_when_it_changes() {
    let mut runtime = Runtime::new().supply(&[fixture("wayward")]);
    let manifest = Manifest::new().module("w", "wayward").desired("w", json!({"note": 1}));
    let file = runtime.write("line.json", manifest.text());
    runtime = runtime.args([&file]).start();
    runtime.wait_for("w", "running");
    let note = |runtime: &Runtime| runtime.json(&["twin", "get", "w"])["properties"]["desired"]["note"].clone();

    // What was deployed or patched later survives a service unit that names the same file at every boot.
    runtime.deploy(&manifest.clone().module("later", "wayward"));
    runtime.cli(&["twin", "patch", "w", "note=2", "--wait"]).ok();
    let before = runtime.json(&["deployment"]);
    runtime.kill9_and_launch();
    assert_eq!(runtime.json(&["deployment"]), before);
    assert_eq!((note(&runtime), modules(&runtime)), (json!(2), vec!["later".to_owned(), "w".to_owned()]));

    runtime.write("line.json", manifest.desired("w", json!({"note": 3})).text());
    runtime.kill9_and_launch();
    assert_eq!((note(&runtime), modules(&runtime)), (json!(3), vec!["w".to_owned()]));
}

#[test]
fn bad_manifest_on_the_command_line_is_refused_as_a_whole() {
    let runtime = Runtime::new();
    let file =
        runtime.write("bad.json", Manifest::new().module("w", "wayward").with("w", "type", json!("docker")).text());
    let runtime = runtime.args([&file]);

    let output = runtime.run_command().stderr(std::process::Stdio::piped()).output().unwrap();

    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("w.type") && told.contains("hint:"), "{told}");
}

#[test]
fn images_named_by_path_come_with_the_manifest() {
    let mut runtime = Runtime::new().start();
    let folder = runtime.folder().join("release");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(fixture("wayward"), folder.join("module.so")).unwrap();
    let file = runtime.write("release/line.json", Manifest::new().module("w", "./module.so").text());

    runtime.cli(&["deploy", &file.to_string_lossy(), "--wait"]).ok();
    assert_eq!(runtime.module("w")["status"], "running");
    // It runs from the store: the file may go.
    std::fs::remove_dir_all(&folder).unwrap();
    runtime.kill9_and_launch();

    runtime.wait_for("w", "running");
    let missing = runtime.write("line.json", Manifest::new().module("w", "./missing.so").text());
    runtime.cli(&["deploy", &missing.to_string_lossy()]).refused(1, &["missing.so", "settings.image", "hint:"]);
    let text = runtime.write("text.so", "no library");
    let bad = runtime.write("line.json", Manifest::new().module("w", "./text.so").text());
    runtime.cli(&["deploy", &bad.to_string_lossy()]).refused(1, &["text.so", "hint:"]);
    drop(text);
    assert_eq!(runtime.module("w")["status"], "running");
}

#[test]
fn kill_9_around_a_deploy_leaves_the_old_deployment_or_the_new_one() {
    let mut runtime = runtime();
    let with = |names: &[String]| {
        let manifest = names.iter().fold(Manifest::new(), |m, name| m.module(name, "wayward"));
        names.iter().fold(manifest, |m, name| m.desired(name, json!({"note": names.len()})))
    };
    let names = |count: usize| (0..count).map(|number| format!("m{number:02}")).collect::<Vec<_>>();
    runtime.deploy(&with(&names(3)));
    let mut in_force = 3;
    for (round, wanted) in [12, 2, 9, 3, 14, 1, 8, 2].into_iter().enumerate() {
        let file = runtime.write("next.json", with(&names(wanted)).text());
        let mut deploy =
            runtime.command(&["deploy", &file.to_string_lossy()]).stdout(std::process::Stdio::null()).spawn();
        // Each round a little later: before, in the middle of, and after it is applied.
        if let Ok(deploy) = &mut deploy {
            let log_length = runtime.log().len();
            match round % 4 {
                0 => drop(deploy.wait()),
                1 => wait_until(SOON, "it is applied", || {
                    runtime.log()[log_length..].contains("applied") || deploy.try_wait().unwrap().is_some()
                }),
                2 => {
                    let wal = runtime.state().join("dinrail.db-wal");
                    let length = || std::fs::metadata(&wal).map_or(0, |metadata| metadata.len());
                    let before = length();
                    wait_until(SOON, "it is being stored", || {
                        length() != before || deploy.try_wait().unwrap().is_some()
                    });
                }
                _ => {}
            }
        }
        runtime.kill9();
        let _ = deploy.unwrap().wait();
        runtime.launch();

        let count = runtime.json(&["deployment"])["modules"].as_array().unwrap().len();
        assert!(count == in_force || count == wanted, "round {round}: {count}, neither {in_force} nor {wanted}");
        assert!(round % 4 != 0 || count == wanted, "round {round}: acknowledged, yet not in force");
        in_force = count;
        let expected = names(in_force);
        wait_until(SOON, "instances are those of the deployment", || modules(&runtime) == expected);
        for name in &expected {
            runtime.wait_for(name, "running");
            let note = runtime.json(&["twin", "get", name])["properties"]["desired"]["note"].clone();
            assert_eq!(note, in_force, "round {round}: twin of {name}");
        }
    }
}

#[test]
fn module_that_was_removed_does_not_come_back_after_a_kill_9_while_it_stops() {
    let mut runtime = runtime();
    let manifest = Manifest::new().module("w", "wayward");
    runtime.deploy(&manifest.clone().module("slow", "wayward").desired("slow", json!({"hangIn": ["stop"]})));
    let file = runtime.write("next.json", manifest.text());

    runtime.cli(&["deploy", &file.to_string_lossy()]).ok();
    wait_until(SOON, "it stops", || runtime.events("slow").last().unwrap() == "stop");
    runtime.kill9_and_launch();

    runtime.wait_for("w", "running");
    assert_eq!(modules(&runtime), ["w"]);
}

#[test]
fn deployment_that_was_interrupted_is_applied_again() {
    let mut runtime = runtime();
    let manifest = Manifest::new().module("old", "wayward");
    runtime.deploy(&manifest);
    let next = Manifest::new().module("new", "wayward").desired("new", json!({"note": 2}));
    runtime.deploy(&next);
    runtime.stop();
    // As a power cut leaves it between the commit of the document and that of what follows from it.
    let database = rusqlite::Connection::open(runtime.state().join("dinrail.db")).unwrap();
    let sql = "UPDATE deployment SET status = 'applying', steps = replace(steps, 'done', 'pending') WHERE id = 2;
               UPDATE instance SET name = 'old' WHERE name = 'new';
               DELETE FROM twin_desired WHERE identity = (SELECT id FROM identity WHERE module = 'new');";
    database.execute_batch(sql).unwrap();
    drop(database);

    runtime.launch();

    runtime.wait_for("new", "running");
    assert!(runtime.log().contains("was interrupted; it is applied again"), "{}", runtime.log());
    assert_eq!(modules(&runtime), ["new"]);
    assert_eq!(runtime.json(&["twin", "get", "new"])["properties"]["desired"]["note"], 2);
    assert_eq!(runtime.json(&["deployment"])["status"], "applied");
}

#[test]
fn what_was_dropped_outlives_every_deployment_that_does_not_name_it() {
    let runtime = runtime();
    let hello = c_module("hello", "1.0.0", &[]);
    std::fs::copy(&hello, runtime.state().join("drop").join("libhello.so")).unwrap();
    runtime.wait_for("hello", "running");
    let before = runtime.module("hello");

    // The second one is compared with what the first one left.
    for name in ["one", "two", "three"] {
        runtime.deploy(&Manifest::new().module(name, "wayward"));
        assert_eq!(modules(&runtime), ["hello", name]);
    }
    let shown = runtime.json(&["show", "hello"]);
    assert_eq!(shown["origin"], "drop");
    assert_eq!(shown["lastStartTimeUtc"], before["lastStartTimeUtc"]);
}
