use serde_json::json;

use super::*;
use crate::deployment::{EndpointConfiguration, EndpointOrder};
use crate::routing::OnFull;

/// A manifest whose `$edgeAgent` modules, `$edgeHub` routes and further sections are given.
fn manifest(modules: Value, routes: Value, sections: Value) -> String {
    let mut content = json!({
        "$edgeAgent": {"properties.desired": {"schemaVersion": "1.1", "modules": modules}},
        "$edgeHub": {"properties.desired": {"schemaVersion": "1.1", "routes": routes}},
    });
    if let (Value::Object(content), Value::Object(sections)) = (&mut content, sections) {
        content.extend(sections);
    }
    serde_json::to_string_pretty(&json!({ "modulesContent": content })).unwrap()
}

fn module(extra: Value) -> Value {
    let mut module = json!({"type": "library", "settings": {"image": "filter"}});
    if let (Value::Object(module), Value::Object(extra)) = (&mut module, extra) {
        module.extend(extra);
    }
    module
}

fn taken(text: &str) -> Parsed {
    Manifest::parse(text).unwrap_or_else(|problems| panic!("{}", listed(&problems)))
}

fn refused(text: &str) -> Vec<Problem> {
    match Manifest::parse(text) {
        Err(problems) => problems,
        Ok(_) => panic!("was taken: {text}"),
    }
}

fn listed(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

/// The one problem of a manifest.
fn problem(text: &str) -> Problem {
    let mut problems = refused(text);
    assert_eq!(problems.len(), 1, "{}", listed(&problems));
    problems.remove(0)
}

#[test]
fn a_full_manifest_is_understood() {
    let text = manifest(
        json!({"filter": {
            "version": "1.0", "type": "library", "status": "stopped", "restartPolicy": "always", "imagePullPolicy": "never",
            "startupOrder": 4, "configuration": {"id": "base"}, "env": {"TZ": {"value": "UTC"}},
            "settings": {"image": "filter:1.2", "createOptions": {
                "isolation": "thread", "limits": {"memoryBytes": 1048576, "cpuPercent": 150, "openFiles": 10},
                "stopGraceSecs": 2.5, "watchdogSecs": 30, "stackBytes": 262144}}}}),
        json!({
            "plain": "FROM /messages/modules/filter/outputs/alarms INTO $upstream",
            "full": {"route": "FROM /messages/modules/filter/* INTO BrokeredEndpoint(\"/modules/filter/inputs/again\")",
                     "priority": 3, "timeToLiveSecs": 604800, "durability": "memory", "onFull": "spill",
                     "maxMessageBytes": 1048576}}),
        json!({"filter": {"properties.desired": {"threshold": 80}}}),
    );
    let Manifest { modules, desired, routes, .. } = taken(&text).manifest;

    let filter = &modules["filter"];
    assert_eq!((filter.image.as_str(), filter.startup_order, &filter.env["TZ"]), ("filter:1.2", 4, &"UTC".into()));
    assert_eq!(filter.options.stop_grace, Duration::from_millis(2500));
    assert_eq!((filter.options.limits.cpu_percent, filter.options.stack_bytes), (Some(150), Some(262_144)));
    assert_eq!(routes[0], RouteSpec::new("plain", &routes[0].text).unwrap());
    assert_eq!(
        (routes[1].priority, routes[1].ttl_secs, routes[1].max_message_bytes),
        (3, Some(604_800), Some(1_048_576))
    );
    assert_eq!(desired["filter"], DesiredSection::Replace(json!({"threshold": 80}).as_object().unwrap().clone()));
}

#[test]
fn all_problems_of_a_manifest_are_found_at_once() {
    let text = r#"{
  "modulesContent": {
    "$edgeAgent": {
      "properties.desired": {
        "schemaVersion": "2.0",
        "modules": {
          "filter": {
            "type": "docker",
            "restartpolicy": "always",
            "restartPolicy": "on-failed",
            "startupOrder": "1",
            "settings": {"image": 5, "createOptions": "{\"HostConfig\": {\"Binds\": []}, \"isolated\": 1}"},
            "env": {"TZ": "UTC"}
          },
          "$own": {"type": "library", "settings": {}}
        }
      }
    },
    "$edgeHub": {
      "properties.desired": {
        "routes": {"a.b": "FROM /messages/* INTO $upsteam", "c": {"route": "FORM x", "priority": 10}}
      }
    },
    "filter": {"properties.desired": {"$version": 3}}
  }
}"#;
    let agent = "modulesContent.$edgeAgent.properties.desired";
    let filter = format!("{agent}.modules.filter");
    let hub = "modulesContent.$edgeHub.properties.desired";
    let expected = [
        (5, format!("{agent}.schemaVersion"), "is \"2.0\", expected 1.0 to 1.1"),
        (8, format!("{filter}.type"), "is \"docker\", expected \"library\""),
        (9, format!("{filter}.restartpolicy"), "unknown key"),
        (10, format!("{filter}.restartPolicy"), "is \"on-failed\", expected never, on-failure, on-unhealthy or always"),
        (11, format!("{filter}.startupOrder"), "is the text \"1\", expected a whole number"),
        (12, format!("{filter}.settings.image"), "is the number 5, expected a text"),
        (12, format!("{filter}.settings.createOptions.HostConfig.Binds"), "this is Docker's"),
        (12, format!("{filter}.settings.createOptions.isolated"), "unknown key"),
        (13, format!("{filter}.env.TZ"), "expected an object"),
        (15, format!("{agent}.modules.$own"), "names that begin with $"),
        (15, format!("{agent}.modules.$own.settings"), "image is missing"),
        (20, hub.to_owned(), "schemaVersion is missing"),
        (21, format!("{hub}.routes.a.b"), "the name of a route must not contain '.'"),
        (21, format!("{hub}.routes.a.b"), "'$upsteam' is not a sink"),
        (21, format!("{hub}.routes.c.priority"), "is 10, expected a whole number from 0 to 9"),
        (21, format!("{hub}.routes.c.route"), "expected FROM, found 'FORM'"),
        (24, "modulesContent.filter.properties.desired.$version".to_owned(), "is kept by the twin"),
    ];
    let problems = refused(text);
    for (line, path, message) in &expected {
        let found = problems.iter().any(|problem| {
            problem.place.map(|place| place.line) == Some(*line)
                && problem.path == *path
                && problem.message.starts_with(message)
        });
        assert!(found, "line {line}: {path}: {message} is not among\n{}", listed(&problems));
    }
    assert_eq!(problems.len(), expected.len(), "{}", listed(&problems));
}

#[test]
fn a_bad_route_is_shown_with_a_caret_and_its_place_in_the_file() {
    let route = "FROM /messages/* INTO BrokeredEndpoint(\"/modules/filter/input/a\")";
    let text = manifest(json!({}), json!({ "r": route }), json!({}));
    let problem = problem(&text);

    let place = problem.place.unwrap();
    let line: Vec<char> = text.lines().nth(place.line as usize - 1).unwrap().chars().collect();
    assert_eq!(line[place.column as usize - 1..][..5], ['i', 'n', 'p', 'u', 't']);
    let excerpt = problem.excerpt.unwrap();
    let (shown, caret) = excerpt.split_once('\n').unwrap();
    assert_eq!((shown, caret.len() - 1), (route, route.find("input").unwrap()));
}

#[test]
fn both_wrappings_are_taken_and_what_an_export_adds_is_noted() {
    let bare: Value = serde_json::from_str(&manifest(json!({"a": module(json!({}))}), json!({}), json!({}))).unwrap();
    let exported = json!({"id": "base", "priority": 10, "content": {
        "deviceContent": null, "modulesContent": bare["modulesContent"]}});

    let parsed = taken(&exported.to_string());

    assert_eq!(parsed.manifest.modules, taken(&bare.to_string()).manifest.modules);
    assert_eq!(parsed.notes, ["ignored, since they are for a hub: id, priority"]);
}

#[test]
fn what_is_missing_is_named() {
    for (text, path, message) in [
        ("{}", "", "modulesContent is missing"),
        ("[]", "", "is an array, expected an object"),
        (r#"{"content": {}}"#, "content", "modulesContent is missing"),
        (r#"{"modulesContent": {}}"#, "modulesContent", "$edgeAgent is missing"),
        (r#"{"modulesContent": {}}"#, "modulesContent", "$edgeHub is missing"),
        (r#"{"modulesContent": {"$edgeAgent": {}}}"#, "modulesContent.$edgeAgent", "properties.desired is missing"),
        (r#"{"modulesContent": {"$edgeagent": {}}}"#, "modulesContent.$edgeagent", "there is no such section"),
        (r#"{"modulecontent": {}}"#, "modulecontent", "unknown key"),
    ] {
        let problems = refused(text);
        let found = problems.iter().any(|problem| problem.path == path && problem.message == message);
        assert!(found, "{text}:\n{}", listed(&problems));
    }
}

#[test]
fn unknown_keys_name_the_nearest_known_one() {
    let text = manifest(json!({"a": module(json!({"startOrder": 1}))}), json!({}), json!({}));
    assert_eq!(problem(&text).hint.as_deref(), Some("did you mean startupOrder?"));
}

#[test]
fn a_key_given_twice_is_refused() {
    let text = manifest(json!({"a": module(json!({}))}), json!({}), json!({}))
        .replace(r#""type": "library""#, r#""type": "library", "type": "library""#);
    assert!(problem(&text).message.starts_with("this key is given twice"));
}

#[test]
fn create_options_are_taken_as_object_text_and_chunks() {
    for settings in [
        json!({"image": "a", "createOptions": {"isolation": "thread"}}),
        json!({"image": "a", "createOptions": "{\"isolation\": \"thread\"}"}),
        json!({"image": "a", "createOptions": "{\"isola", "createOptions01": "tion\": \"thr", "createOptions02": "ead\"}"}),
    ] {
        let text = manifest(json!({"a": module(json!({"settings": settings}))}), json!({}), json!({}));
        assert_eq!(taken(&text).manifest.modules["a"].options.isolation, crate::instance::spec::Isolation::Thread);
    }
}

#[test]
fn problems_within_a_text_of_create_options_say_where() {
    for (settings, message) in [
        (
            json!({"image": "a", "createOptions": "{\"isolation\": }"}),
            "not JSON: expected value (line 1, column 15 of it)",
        ),
        (
            json!({"image": "a", "createOptions": "{\"isolation\": \"vm\"}"}),
            "is \"vm\", expected auto, thread or process",
        ),
        (json!({"image": "a", "createOptions": "{", "createOptions02": "}"}), "the chunk createOptions01 is missing"),
        (json!({"image": "a", "createOptions": {"stackBytes": 10}}), "is 10, expected a whole number from 65536"),
    ] {
        let text = manifest(json!({"a": module(json!({"settings": settings}))}), json!({}), json!({}));
        let problem = problem(&text);
        assert!(problem.message.contains(message) && problem.path.contains("settings.createOptions"), "{problem}");
    }
}

#[test]
fn every_key_of_docker_is_refused_with_what_takes_its_place() {
    let options = json!({"ExposedPorts": {}, "Env": ["A=B"],
        "HostConfig": {"Memory": 1, "RestartPolicy": {}, "SomethingNew": 1}});
    let settings = json!({"image": "a", "createOptions": options});
    let text = manifest(json!({"a": module(json!({"settings": settings}))}), json!({}), json!({}));

    let hints: Vec<String> = refused(&text).into_iter().filter_map(|problem| problem.hint).collect();

    for hint in [
        "a library opens its ports",
        "use env of",
        "use limits.memoryBytes",
        "use restartPolicy",
        "use limits, and leave",
    ] {
        assert!(hints.iter().any(|found| found.contains(hint)), "{hint} is not among {hints:?}");
    }
    assert_eq!(hints.len(), 5);
}

#[test]
fn flattened_keys_are_merged_before_reading() {
    let text = json!({"modulesContent": {
        "$edgeAgent": {
            "properties.desired": {"schemaVersion": "1.1"},
            "properties.desired.modules.a": module(json!({"restartPolicy": "sometimes"}))},
        "$edgeHub": {
            "properties.desired.schemaVersion": "1.1",
            "properties.desired.routes.r": "FROM /messages/* INTO $upstream"},
        "a": {"properties.desired.limits.high": 5, "properties.desired.limits.low": 1},
    }});
    let at = problem(&text.to_string());
    assert_eq!(at.path, "modulesContent.$edgeAgent.properties.desired.modules.a.restartPolicy");

    let manifest = taken(&text.to_string().replace("sometimes", "never")).manifest;
    assert_eq!((manifest.modules.len(), manifest.routes.len()), (1, 1));
    let limits = json!({"limits": {"high": 5, "low": 1}});
    assert_eq!(manifest.desired["a"], DesiredSection::Merge(limits.as_object().unwrap().clone()));
}

#[test]
fn a_flattened_key_that_contradicts_is_refused() {
    let sections = json!({"a": {"properties.desired": {"x": {"y": 1}}, "properties.desired.x.y": 2}});
    let text = manifest(json!({"a": module(json!({}))}), json!({}), sections);
    assert_eq!(problem(&text).message, "x.y is given a second time");
}

#[test]
fn what_means_nothing_here_is_noted() {
    let mut text: Value = serde_json::from_str(&manifest(
        json!({"a": module(json!({
            "env": {"A": {"value": "1"}},
            "settings": {"image": "x", "createOptions": {"isolation": "process", "limits": {"openFiles": 5}}}}))}),
        json!({"gone": null, "blank": " ", "far": "FROM /messages/modules/b/* INTO BrokeredEndpoint('/modules/c/inputs/i')"}),
        json!({"ghost": {"properties.desired": {}}}),
    ))
    .unwrap();
    text["modulesContent"]["$edgeAgent"]["properties.desired"]["systemModules"] = json!({"edgeHub": {"anything": 1}});
    text["modulesContent"]["$edgeHub"]["properties.desired"]["storeAndForwardConfiguration"] =
        json!({"timeToLiveSecs": 7200});

    let notes = taken(&text.to_string()).notes;

    for expected in [
        "systemModules is ignored",
        "a: isolation process is not available yet",
        "a: limits are kept but not enforced",
        "a: env reaches the module through client.env()",
        "route gone: null is no route",
        "route blank: an empty text",
        "route far: takes from b",
        "route far: leads to c",
        "ghost: has desired properties but",
        "messages may wait 2 h 0 min at most",
    ] {
        assert!(notes.iter().any(|note| note.contains(expected)), "{expected} is not among {notes:#?}");
    }
    assert_eq!(notes.len(), 10, "{notes:#?}");
}

#[test]
fn what_becomes_of_a_message_without_room_is_read_and_said() {
    let sink = "FROM /* INTO BrokeredEndpoint('/modules/a/inputs/b')";
    let with = |route: Value| manifest(json!({}), json!({"r": route}), json!({}));
    let read = taken(&with(json!({"route": sink, "onFull": "block", "blockMs": 250})));
    assert_eq!((read.manifest.routes[0].on_full, read.manifest.routes[0].block_ms), (OnFull::Block, Some(250)));
    assert!(read.notes.iter().any(|note| note.contains("holds its senders for up to 250 ms")), "{:?}", read.notes);

    let durable = taken(&with(json!({"route": "FROM /* INTO $upstream", "onFull": "dropOldest"})));
    assert!(durable.notes.iter().any(|note| note.contains("onFull has no effect")), "{:?}", durable.notes);

    let found = problem(&with(json!({"route": sink, "blockMs": 250}))).to_string();
    assert!(found.contains("is for routes with onFull block only"), "{found}");
}

#[test]
fn a_time_to_live_below_zero_is_for_ever() {
    for (secs, ttl) in [(json!(-1), None), (json!(259_200), Some(WEEKEND))] {
        let mut text: Value = serde_json::from_str(&manifest(json!({}), json!({}), json!({}))).unwrap();
        text["modulesContent"]["$edgeHub"]["properties.desired"]["storeAndForwardConfiguration"] =
            json!({"timeToLiveSecs": secs, "storeLimits": {"maxSizeBytes": 5_000_000_000_u64}});
        let manifest = taken(&text.to_string()).manifest;
        assert_eq!((manifest.store.time_to_live, manifest.store.max_bytes), (ttl, Some(5_000_000_000)));
    }
}

#[test]
fn times_to_live_shorter_than_a_weekend_are_warned_of_globally_and_of_each_route() {
    let weekend = 72 * 3600;
    for (secs, whole, of_route) in
        [(weekend - 1, weekend, ""), (weekend, weekend - 1, ""), (weekend, weekend, "0"), (-1, -1, "0")]
    {
        let ttl = if of_route.is_empty() { whole } else { 0 };
        let mut text: Value = serde_json::from_str(&with_store(json!({"timeToLiveSecs": secs}))).unwrap();
        text["modulesContent"]["$edgeHub"]["properties.desired"]["routes"] =
            json!({"r": {"route": "FROM /* INTO $upstream", "timeToLiveSecs": ttl}});
        let notes = taken(&text.to_string()).notes;
        let has = |whose: &str| notes.iter().any(|note| note.starts_with(whose) && note.contains("after a weekend"));
        assert_eq!(
            (has("$edgeHub"), has("route r")),
            ((0..weekend).contains(&secs), (1..weekend).contains(&ttl)),
            "{notes:?}"
        );
    }
}

fn with_store(store: Value) -> String {
    let mut text: Value = serde_json::from_str(&manifest(json!({}), json!({}), json!({}))).unwrap();
    text["modulesContent"]["$edgeHub"]["properties.desired"]["storeAndForwardConfiguration"] = store;
    text.to_string()
}

#[test]
fn the_store_has_a_budget_altogether_and_for_single_endpoints() {
    let read = taken(&with_store(json!({"maxBytes": 1_000_000, "endpoints": {
        "$upstream": {"maxBytes": 2_000_000},
        "/modules/b/inputs/in": {"order": "liveFirst"},
    }})));

    let store = &read.manifest.store;
    assert_eq!(store.max_bytes, Some(1_000_000));
    let upstream = EndpointConfiguration { max_bytes: Some(2_000_000), order: EndpointOrder::OldestFirst };
    let input = EndpointConfiguration { max_bytes: None, order: EndpointOrder::LiveFirst };
    let expected = [("$upstream".to_owned(), upstream), ("/modules/b/inputs/in".to_owned(), input)];
    assert_eq!(store.endpoints, expected.into());
    assert!(read.notes.iter().any(|note| note.contains("maxBytes of 2000000 have no effect")), "{:?}", read.notes);
}

#[test]
fn times_and_budgets_that_mean_nothing_are_refused_with_their_place() {
    for (store, message) in [
        (json!({"timeToLiveSecs": 0}), "timeToLiveSecs: is 0: every message would expire as soon as it is sent"),
        (json!({"maxBytes": 0}), "expected a whole number from 1 "),
        (json!({"maxBytes": 300_000, "storeLimits": {"maxSizeBytes": 300_000}}), "says the same as maxBytes"),
        (json!({"endpoints": {"upstream": {}}}), "is no endpoint"),
        (json!({"endpoints": {"$upstream": {"max": 1}}}), "unknown key"),
        (json!({"endpoints": {"$upstream": {"order": "newest"}}}), "expected oldestFirst or liveFirst"),
    ] {
        let found = problem(&with_store(store.clone())).to_string();
        assert!(found.contains(message) && found.contains("storeAndForwardConfiguration"), "{store}: {found}");
    }
}

const WEEKEND: Duration = Duration::from_secs(72 * 3600);

#[test]
fn the_size_of_a_message_is_bounded_for_memory_routes_only() {
    let route = json!({"r": {"route": "FROM /* INTO $upstream", "maxMessageBytes": 5}});
    assert!(problem(&manifest(json!({}), route, json!({}))).message.starts_with("is for memory routes only"));
}

#[test]
fn image_references_are_asked_about() {
    let text = manifest(json!({"a": module(json!({}))}), json!({}), json!({}));
    let problems = Manifest::parse_with(&text, None, &|image| Err(format!("{image} is no reference"))).unwrap_err();
    assert_eq!(problems[0].message, "filter is no reference");
    assert!(problems[0].path.ends_with("modules.a.settings.image"));
}

#[test]
fn the_manifests_that_come_with_dinrail_are_taken() {
    for (name, text, modules) in [
        ("host-monitor", include_str!("../../../deployments/host-monitor.json"), 4),
        ("line-monitor", include_str!("../../../deployments/line-monitor.json"), 2),
        ("two-names", include_str!("../../../deployments/two-names.json"), 3),
    ] {
        let parsed = taken(text);
        assert_eq!((parsed.manifest.modules.len(), parsed.notes.len()), (modules, 0), "{name}: {:?}", parsed.notes);
        assert_eq!(parsed.manifest.desired.len(), modules, "{name}");
    }
}

proptest::proptest! {
    #[test]
    fn a_damaged_manifest_is_refused_or_taken_but_never_a_panic(
        at: proptest::sample::Index,
        cut in 0usize..20,
        put in r#"[\[\]{}",:\\ä0$. a]{0,4}|null|"[a-z]{0,9}":"#,
    ) {
        let text = include_str!("../../../deployments/two-names.json");
        let start = at.index(text.len());
        let end = (start + cut).min(text.len());
        let damaged = format!("{}{put}{}", &text[..start], &text[end..]);
        if let Err(problems) = Manifest::parse(&damaged) {
            proptest::prop_assert!(!problems.is_empty());
            proptest::prop_assert!(problems.iter().all(|problem| problem.place.is_some()), "{}", listed(&problems));
        }
    }
}
