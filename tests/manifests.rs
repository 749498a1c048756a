//! A manifest is JSON or YAML, and every problem of one is told at once with its place, whoever finds it.

use serde_json::{Value, json};

use crate::harness::{Manifest, Runtime, fixture};

const YAML: &str = "\u{feff}# The line of hall 3.\r
modulesContent:\r
  $edgeAgent:\r
    properties.desired:\r
      schemaVersion: '1.1'\r
      modules:\r
        w: {type: library, settings: &from {image: wayward}}\r
        v:\r
          type: library\r
          settings: *from\r
          env: {MODE: {value: no}}\r
  $edgeHub:\r
    properties.desired:\r
      schemaVersion: \"1.1\"\r
      routes:\r
        forth: >-\r
          FROM /messages/modules/w/outputs/out\r
          INTO BrokeredEndpoint(\"/modules/v/inputs/in\")\r
  w:\r
    properties.desired: {mode: on, limit: 1.50}\r
";

fn bad(image: &str) -> String {
    format!(
        "modulesContent:
  $edgeAgent:
    properties.desired:
      schemaVersion: 1.1
      modules:
        a: {{type: library, startupOrder: 007, settings: {{image: a:b:c}}}}
        b: {{type: library, settings: {{image: {image}}}}}
        b: {{type: library, settings: {{image: {image}}}}}
  $edgeHub:
    properties.desired:
      schemaVersion: \"1.1\"
      routes:
        r: >-
          FROM /messages/modules/a/*
          INTO nowhere
"
    )
}

fn runtime() -> Runtime {
    Runtime::new().supply(&[fixture("wayward")]).start()
}

#[test]
fn yaml_is_taken_wherever_a_manifest_is_and_is_in_force_after_a_reboot() {
    let mut runtime = runtime();
    let file = runtime.write("line.yaml", YAML);
    let file = file.to_string_lossy();

    let plan = runtime.json(&["plan", &file]);
    assert_eq!(plan["steps"].as_array().unwrap().len(), 4, "{plan}");
    runtime.cli(&["deploy", &file, "--wait"]).ok();
    let desired = |runtime: &Runtime| runtime.json(&["twin", "get", "w"])["properties"]["desired"].clone();
    assert_eq!((&desired(&runtime)["mode"], &desired(&runtime)["limit"]), (&json!("on"), &json!(1.5)));
    runtime.kill9_and_launch();
    runtime.wait_for("v", "running");
    let deployment = runtime.json(&["deployment"]);
    assert_eq!((&deployment["modules"].as_array().unwrap().len(), &deployment["routes"][0][0]), (&2, &json!("forth")));

    let same = runtime.cli_with_input(&["plan", "-", "--json"], YAML.as_bytes()).ok();
    let plan: Value = serde_json::from_str(&same.stdout).unwrap();
    assert!(plan["steps"].as_array().unwrap().iter().all(|step| step["action"] == "keep"), "{plan}");
    runtime.cli(&["twin", "patch", "w", &format!("@{}", runtime.write("patch.yml", "mode: off\n").display())]).ok();
    assert_eq!(desired(&runtime)["mode"], "off");
}

#[test]
fn every_problem_of_yaml_is_told_with_its_place() {
    let runtime = runtime();
    let file = runtime.write("bad.yaml", bad("./b.so"));
    let lines = [
        "bad.yaml:4:7: modulesContent.$edgeAgent.properties.desired.schemaVersion: is the number 1.1, expected a text (put it in quotes: \"1.1\")",
        "bad.yaml:6:42: modulesContent.$edgeAgent.properties.desired.modules.a.startupOrder: is 007, a number with leading zeros",
        "bad.yaml:6:58: modulesContent.$edgeAgent.properties.desired.modules.a.settings.image: ",
        "bad.yaml:8:9: modulesContent.$edgeAgent.properties.desired.modules.b: this key is given twice, first in line 7",
        "bad.yaml:15:16: modulesContent.$edgeHub.properties.desired.routes.r: 'nowhere' is not a sink",
        "INTO nowhere",
        "is refused: 5 problems",
    ];
    for verb in ["plan", "deploy"] {
        runtime.cli(&[verb, &file.to_string_lossy()]).refused(1, &lines);
    }
    assert!(runtime.json(&["list"]).as_array().unwrap().is_empty());
}

#[test]
fn what_only_the_runtime_finds_has_its_place_too_and_run_tells_the_same() {
    let mut runtime = runtime();
    let manifest = json!({"content": {"modulesContent": {
        "$edgeAgent": {
            "properties.desired": {"schemaVersion": "1.1", "modules": {"a": {"type": "library", "settings": {"image": "./gone.so"}}}},
            "properties.desired.modules.b": {"type": "library", "settings": {"image": "lib/gone-too.so"}}},
        "$edgeHub": {"properties.desired": {"schemaVersion": "1.1", "routes": {}}},
        "a": {"properties.desired": {"deep": [{"number": 9_007_199_254_740_993_i64}]}}
    }}});
    let file = runtime.write("line.json", serde_json::to_string_pretty(&manifest).unwrap());
    let agent = "content.modulesContent.$edgeAgent.properties.desired.modules";
    let expected = [
        &*format!("line.json:11:17: {agent}.a.settings.image: there is no file "),
        &*format!("line.json:19:13: {agent}.b.settings.image: there is no file "),
        "line.json:33:15: content.modulesContent.a.properties.desired.deep[0].number: ",
        "is refused: 3 problems",
    ];

    for verb in ["plan", "deploy"] {
        let told = runtime.cli(&[verb, &file.to_string_lossy()]).refused(1, &expected);
        assert_eq!(told.stderr.matches("gone.so").count(), 1, "{}", told.stderr);
    }
    runtime.stop();
    let status = runtime.run_command().arg(&file).status().unwrap();
    let told = runtime.log();
    assert_eq!(status.code(), Some(1), "{told}");
    for words in expected {
        assert!(told.contains(words), "{words} is not in\n{told}");
    }
}

#[test]
fn a_body_and_json_may_come_from_a_file_or_standard_input() {
    let runtime = runtime();
    runtime.deploy(&Manifest::new().module("w", "wayward"));
    runtime.cli_with_input(&["twin", "patch", "w", "-"], b"note: no\n").ok();
    assert_eq!(runtime.json(&["twin", "get", "w"])["properties"]["desired"]["note"], "no");
    runtime
        .cli_with_input(&["twin", "patch", "w", "-"], b"note: .inf\n")
        .refused(2, &["standard input: line 1, column 7"]);
    runtime.cli_with_input(&["twin", "replace", "w", "-"], b"- 1\n").refused(2, &["object"]);
    runtime.cli_with_input(&["twin", "patch", "w", "-"], b"\xff").refused(2, &["UTF-8"]);
}

#[test]
fn what_is_exported_gives_the_same_elsewhere() {
    let here = Runtime::new().start();
    let library = std::fs::read(fixture("wayward")).unwrap();
    here.write("w.so", library);
    let yaml = "# By path.\n".to_owned()
        + YAML.trim_start_matches('\u{feff}').replace("image: wayward", "image: ./w.so").as_str();
    here.cli(&["deployment", "--export"]).refused(1, &["no deployment is in force"]);
    here.cli(&["deploy", &here.write("line.yaml", &yaml).to_string_lossy(), "--wait"]).ok();
    here.cli(&["route", "add", "mine", "FROM /messages/modules/v/* INTO $upstream"]).ok();
    here.cli(&["twin", "patch", "w", "limit=2"]).ok();

    let exported = here.cli(&["deployment", "--export"]).ok();

    let digest = here.module("w")["digest"].as_str().unwrap().to_owned();
    let expected = yaml.replace("./w.so", &format!("\"wayward@{digest}\""));
    assert_eq!(exported.stdout, expected);
    for note in ["needs that image", "in twins since, of w", "added by hand: mine"] {
        assert!(exported.stderr.contains(note), "{note} is not in {}", exported.stderr);
    }
    let there = Runtime::new().supply(&[fixture("wayward")]).start();
    there.cli(&["deploy", &there.write("as-given", &exported.stdout).to_string_lossy(), "--wait"]).ok();
    assert_eq!(there.module("v")["digest"], digest.as_str());
    assert_eq!(there.cli(&["deployment", "--export"]).ok().stdout, exported.stdout);
    let as_json = there.cli(&["deployment", "--export", "--json"]).ok().stdout;
    let as_yaml = there.cli(&["deployment", "--export", "--yaml"]).ok().stdout;
    assert_eq!(as_yaml, exported.stdout);
    for (name, text) in [("same.json", as_json), ("same.yml", as_yaml)] {
        let plan = there.json(&["plan", &there.write(name, text).to_string_lossy()]);
        assert!(plan["steps"].as_array().unwrap().iter().all(|step| step["action"] == "keep"), "{name}: {plan}");
    }
}

#[test]
fn the_schema_is_printed_without_a_runtime() {
    let runtime = Runtime::new();
    let schema = runtime.json(&["deploy", "--schema"]);
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["$defs"]["module"]["properties"]["restartPolicy"]["default"], "on-unhealthy");
    runtime.cli(&["deploy"]).refused(2, &["FILE"]);
}
