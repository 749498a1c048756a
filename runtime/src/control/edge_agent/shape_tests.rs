use super::*;

fn module(name: &str, status: &'static str) -> ModuleFacts {
    let wanted = json!({
        "type": "library", "status": "running", "restartPolicy": "always", "imagePullPolicy": "on-create",
        "env": {"TZ": {"value": "UTC"}, "PW": {"value": {"$secret": "plc-pw"}}},
        "settings": {"image": "filter:1", "createOptions": {"isolation": "thread"}}
    });
    ModuleFacts {
        name: name.to_owned(),
        client: format!("Hannover01/{name}"),
        wanted: wanted.as_object().unwrap().clone(),
        image_hash: Some("sha256:00ff".to_owned()),
        description: status.to_owned(),
        last_start: Some("2026-11-21T14:05:09.123Z".to_owned()),
        runtime_status: status,
        ..ModuleFacts::default()
    }
}

fn facts(modules: Vec<ModuleFacts>) -> Facts {
    Facts {
        version: "1.2.3",
        os_version: "6.1".to_owned(),
        started: "2026-11-21T14:00:00.000Z".to_owned(),
        agent_version: 7,
        hub_version: 3,
        desired_status: (200, String::new()),
        modules,
        is_ending: false,
    }
}

fn holds_the_rules(section: &Map<String, Value>) {
    let mut found = Vec::new();
    rules::check_patch("reported", section, &mut found);
    rules::check_size("reported", 0, rules::size_of(section), rules::MAX_SECTION_BYTES, &mut found);
    assert_eq!(found, []);
}

#[test]
fn agent_reports_in_iot_edge_s_shape() {
    let report = Value::Object(agent(&facts(vec![module("filter", "running")])));

    let expected = json!({
        "type": "library", "status": "running", "restartPolicy": "always", "imagePullPolicy": "on-create",
        "env": {"TZ": {"value": "UTC"}, "PW": {"value": {"%24secret": "plc-pw"}}},
        "settings": {"image": "filter:1", "createOptions": {"isolation": "thread"}, "imageHash": "sha256:00ff"},
        "exitCode": 0, "statusDescription": "running", "lastStartTimeUtc": "2026-11-21T14:05:09.123Z",
        "lastExitTimeUtc": NEVER, "restartCount": 0, "lastRestartTimeUtc": NEVER, "runtimeStatus": "running"
    });
    assert_eq!(report["modules"]["filter"], expected);
    assert_eq!(report["lastDesiredStatus"], json!({"code": 200, "description": ""}));
    assert_eq!((&report["schemaVersion"], &report["lastDesiredVersion"]), (&json!("1.0"), &json!(7)));
    assert_eq!(report["version"], json!({"version": "1.2.3", "build": "", "commit": ""}));
    assert_eq!(report["runtime"]["platform"]["version"], "6.1");
    for own in ["edgeAgent", "edgeHub"] {
        assert_eq!(report["systemModules"][own]["runtimeStatus"], "running");
    }
    assert_eq!(report.get("shortened"), None);
}

#[test]
fn in_the_end_nothing_is_known() {
    let facts = Facts { is_ending: true, ..facts(vec![module("filter", "running")]) };
    let report = Value::Object(agent(&facts));
    assert_eq!(report["lastDesiredStatus"]["code"], 406);
    assert_eq!(report["modules"]["filter"]["runtimeStatus"], "unknown");
    assert_eq!(report["systemModules"]["edgeAgent"]["runtimeStatus"], "unknown");
    assert_eq!(hub(&facts)["clients"]["Hannover01/filter"]["status"], "disconnected");
}

#[test]
fn what_does_not_fit_is_shortened_step_by_step_and_said_to_be() {
    let many = |count: usize, status| (0..count).map(|n| module(&format!("module-{n:04}"), status)).collect::<Vec<_>>();
    let fat = |mut module: ModuleFacts| {
        let env: Map<String, Value> = (0..20).map(|n| (format!("K{n}"), json!({"value": "x".repeat(100)}))).collect();
        module.wanted.insert("env".to_owned(), Value::Object(env));
        module
    };
    for (modules, shown, shortened) in [
        (many(40, "running"), 40, ""),
        (many(40, "running").into_iter().map(fat).collect(), 40, "without env"),
        (many(200, "running"), 200, "state alone"),
        ([many(5000, "running"), vec![module("pump", "failed")]].concat(), 1, "not all of them"),
        (many(5000, "failed"), 312, "not all of them"),
    ] {
        let count = modules.len();
        let report = agent(&facts(modules));
        holds_the_rules(&report);
        let told = report["modules"].as_object().unwrap();
        assert_eq!(told.len(), shown, "of {count}");
        assert_eq!(report.get("modulesOmitted").map_or(0, |omitted| omitted.as_u64().unwrap()), (count - shown) as u64);
        let said = report.get("shortened").map_or("", |said| said.as_str().unwrap());
        assert!(said.contains(shortened) && said.is_empty() == shortened.is_empty(), "{said}");
        assert!(told.values().all(|module| module["runtimeStatus"].is_string()));
    }
}

#[test]
fn clients_of_the_hub_are_bounded() {
    let modules = (0..150).map(|n| module(&format!("m{n:03}"), "running")).collect();
    let report = hub(&facts(modules));
    holds_the_rules(&report);
    assert_eq!((report["clients"].as_object().unwrap().len(), &report["clientsOmitted"]), (100, &json!(50)));
    let client = json!({
        "status": "connected", "lastConnectedTimeUtc": "2026-11-21T14:05:09.123Z", "lastDisconnectedTimeUtc": NEVER
    });
    assert_eq!(report["clients"]["Hannover01/m000"], client);
}

#[test]
fn keys_and_values_that_a_twin_cannot_hold_are_made_to_fit() {
    let mut odd = module("a.b#c", "running");
    odd.wanted.insert(
        "settings".to_owned(),
        json!({"image": "ü".repeat(4000), "big": u64::MAX, "list": [null, {"x": null}]}),
    );
    let report = agent(&facts(vec![odd]));
    holds_the_rules(&report);
    assert!(report["modules"].as_object().unwrap().contains_key("a%2Eb%23c"));
}

#[test]
fn desired_is_what_the_deployment_says_as_far_as_it_fits() {
    let section = |modules: usize, env: usize| {
        let modules: Map<String, Value> = (0..modules)
            .map(|n| {
                (
                    format!("m{n}"),
                    json!({"type": "library", "env": {"K": {"value": "x".repeat(env)}}, "settings": {"image": "a"}}),
                )
            })
            .collect();
        json!({"schemaVersion": "1.1", "modules": modules}).as_object().unwrap().clone()
    };
    let whole = section(3, 10);
    assert_eq!(desired(&whole, 4), whole);

    let plain = desired(&section(100, 1000), 4);
    assert_eq!((plain["modules"].as_object().unwrap().len(), &plain["deployment"]), (100, &json!(4)));
    assert!(plain["shortened"].as_str().unwrap().contains("without env"));
    let counted = desired(&section(5000, 1), 4);
    assert_eq!((&counted["modulesOmitted"], &counted["schemaVersion"]), (&json!(5000), &json!("1.1")));
    for section in [plain, counted] {
        holds_the_rules(&section);
    }
}
