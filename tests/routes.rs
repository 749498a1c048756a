//! Routes can be added outside a manifest: in force at once, kept over everything, and never in the way of the manifest's own.

use serde_json::{Value, json};

use crate::harness::{Manifest, Runtime, SOON, fixture, wait_until};

const A_TO_B: &str = "FROM /messages/modules/a/outputs/out INTO BrokeredEndpoint(\"/modules/b/inputs/in\")";
const A_TO_C: &str = "FROM /messages/modules/a/outputs/out INTO BrokeredEndpoint(\"/modules/c/inputs/in\")";

fn manifest() -> Manifest {
    Manifest::new().module("a", "wayward").module("b", "wayward").module("c", "wayward")
}

fn runtime() -> Runtime {
    let runtime = Runtime::new().supply(&[fixture("wayward")]).start();
    runtime.deploy(&manifest());
    runtime
}

fn messages(runtime: &Runtime, name: &str) -> usize {
    runtime.events(name).iter().filter(|event| event.starts_with("message in ")).count()
}

/// Has `a` send a message, and waits until `to` has got it.
fn pass(runtime: &Runtime, to: &str) {
    let before = messages(runtime, to);
    runtime.cli(&["send", "a", "send", "{\"count\": 1}"]).ok();
    wait_until(SOON, "it arrives", || messages(runtime, to) == before + 1);
}

fn routes(runtime: &Runtime) -> Vec<Value> {
    runtime.json(&["route", "list"]).as_array().unwrap().clone()
}

#[test]
fn an_added_route_is_in_force_at_once_and_over_reboots_and_deployments() {
    let mut runtime = runtime();
    let added = runtime.json(&["route", "add", "up", A_TO_B, "--priority", "3", "--ttl", "2h"]);
    assert_eq!((&added["origin"], &added["inForce"]), (&json!("cli"), &json!(true)));
    let notes = added["notes"].as_array().unwrap();
    assert!(notes.len() == 1 && notes[0].to_string().contains("after a weekend without connection"), "{added}");
    pass(&runtime, "b");

    runtime.kill9_and_launch();
    runtime.wait_for("b", "running");
    pass(&runtime, "b");
    runtime.deploy(&manifest().route("other", "FROM /messages/modules/b/* INTO $upstream"));
    pass(&runtime, "b");

    let routes = routes(&runtime);
    let seen: Vec<(&str, &str)> =
        routes.iter().map(|r| (r["name"].as_str().unwrap(), r["origin"].as_str().unwrap())).collect();
    assert_eq!(seen, [("other", "deployment"), ("up", "cli")]);
    assert_eq!((&routes[1]["priority"], &routes[1]["timeToLiveSecs"]), (&json!(3), &json!(7200)));
    assert_eq!((&routes[1]["durability"], &routes[0]["durability"]), (&json!("memory"), &json!("disk")));
    assert!(routes[1]["addedBy"].is_string() && routes[1]["addedUtc"].is_string(), "{}", routes[1]);
}

#[test]
fn removing_it_ends_it_for_good() {
    let mut runtime = runtime();
    runtime.cli(&["route", "add", "one", A_TO_B, "--ttl", "500ms"]).refused(2, &["--ttl", "whole seconds"]);
    assert_eq!(runtime.json(&["route", "add", "zero", A_TO_B, "--ttl", "0s"])["timeToLiveSecs"], Value::Null);
    runtime.cli(&["route", "remove", "zero"]).ok();
    runtime.cli(&["route", "add", "one", A_TO_B]).ok();
    runtime.cli(&["route", "add", "one", A_TO_C]).refused(1, &["there is a route one already", "--replace"]);
    let held = runtime.cli(&["route", "add", "one", A_TO_C, "--replace", "--on-full", "block"]).ok();
    assert!(held.stderr.contains("warning: one: onFull block: a full receiver holds its senders"), "{}", held.stderr);
    runtime.cli(&["route", "add", "one", A_TO_C, "--replace"]).ok();
    pass(&runtime, "c");
    assert_eq!(messages(&runtime, "b"), 0);

    runtime.cli(&["route", "remove", "on"]).refused(1, &["there is no route 'on'", "did you mean 'one'?"]);
    let removed = runtime.cli(&["route", "remove", "one"]).ok();
    assert_eq!(removed.stdout, "route one is removed\n");
    runtime.kill9_and_launch();
    assert_eq!(routes(&runtime), [] as [Value; 0]);
}

#[test]
fn a_route_of_the_manifest_goes_before_an_added_one_of_its_name() {
    let runtime = runtime();
    runtime.cli(&["route", "add", "way", A_TO_B]).ok();
    let with = manifest().route("way", A_TO_C);
    let file = runtime.write("with.json", with.text());
    let plan = runtime.json(&["plan", &file.to_string_lossy()]);
    assert!(plan["notes"].to_string().contains("route way: the one that was added by hand is hidden"), "{plan}");

    runtime.deploy(&with);
    pass(&runtime, "c");
    assert_eq!(messages(&runtime, "b"), 0);
    let shown: Vec<Value> = routes(&runtime).iter().map(|route| json!([route["origin"], route["inForce"]])).collect();
    assert_eq!(shown, [json!(["deployment", true]), json!(["cli", false])]);
    runtime.cli(&["route", "list"]).ok();
    runtime.cli(&["route", "add", "way", A_TO_B, "--replace"]).refused(1, &["belongs to the deployment"]);

    let back = runtime.deploy(&manifest());
    assert!(back["plan"]["notes"].to_string().contains("is in force again"), "{back}");
    pass(&runtime, "b");
    runtime.deploy(&with);
    let removed = runtime.cli(&["route", "remove", "way"]).ok();
    assert!(removed.stdout.contains("that of the deployment stays in force"), "{}", removed.stdout);
    runtime.cli(&["route", "remove", "way"]).refused(1, &["belongs to the deployment in force", "--export"]);
}

#[test]
fn what_is_no_route_is_refused_with_the_place_and_nothing_is_added() {
    let runtime = runtime();
    let table: [(&[&str], &[&str]); 5] = [
        (
            &["x", "FROM /messages/* INTO $upsteam"],
            &[
                "'$upsteam' is not a sink",
                "did you mean $upstream?",
                "\n      FROM /messages/* INTO $upsteam\n                            ^",
            ],
        ),
        (&["x", "FROM /messages/* INTO "], &["single quotes"]),
        (&["a.b", A_TO_B], &["must not contain '.'"]),
        (&["x", A_TO_B, "--priority", "10", "--durability", "disk"], &["priority: is 10", "from 0 to 9"]),
        (&["x", ""], &["route: is empty"]),
    ];
    for (arguments, words) in table {
        let told = runtime.cli(&[&["route", "add"], arguments].concat()).refused(1, words);
        let is_of_text = !arguments.contains(&A_TO_B);
        assert_eq!(told.stderr.contains("single quotes"), is_of_text, "{}", told.stderr);
    }
    assert_eq!(routes(&runtime), [] as [Value; 0]);
    let answer = runtime.api().ask("PUT", "/routes/x", Some(&json!({"route": A_TO_B, "prioritty": 1}))).unwrap();
    assert_eq!(answer.0, 400);
    assert!(answer.1.to_string().contains("did you mean priority?"), "{}", answer.1);
}

/// Has `a` pass a message on, with the property `level` and a JSON body.
fn pass_on(runtime: &Runtime, level: &str, body: &str) {
    runtime.cli(&["send", "a", "in", body, "-p", &format!("level={level}")]).ok();
}

/// Bodies of the messages that the module got.
fn bodies(runtime: &Runtime, name: &str) -> Vec<String> {
    runtime.events(name).iter().filter_map(|event| event.strip_prefix("message in 1 ").map(str::to_owned)).collect()
}

#[test]
fn conditions_on_properties_and_bodies_say_where_messages_of_modules_go() {
    let runtime = Runtime::new().supply(&[fixture("wayward")]).start();
    let from_a = |condition: &str, to: &str| {
        format!("FROM /messages/modules/a/* WHERE {condition} INTO BrokeredEndpoint('/modules/{to}/inputs/in')")
    };
    runtime.deploy(
        &manifest()
            .route("high", &from_a("level = 'high' AND NOT is_defined(missing)", "b"))
            .route("hot", &from_a("$body.value > 80 AND $connectionModuleId = 'a'", "c")),
    );

    for (level, body) in
        [("high", "{\"value\":1}"), ("low", "{\"value\":81}"), ("low", "{\"n\":2}"), ("high", "{\"value\":99}")]
    {
        pass_on(&runtime, level, body);
    }

    wait_until(SOON, "they arrive", || bodies(&runtime, "b").len() >= 2 && bodies(&runtime, "c").len() >= 2);
    assert_eq!(bodies(&runtime, "b"), ["{\"value\":1}", "{\"value\":99}"]);
    assert_eq!(bodies(&runtime, "c"), ["{\"value\":81}", "{\"value\":99}"]);
}

#[test]
fn a_bad_condition_refuses_the_manifest_with_every_other_and_the_routes_in_force_go_on() {
    let runtime = runtime();
    runtime.deploy(&manifest().route("good", A_TO_B));
    let bad = manifest()
        .route("good", A_TO_C)
        .route("one", "FROM /messages/modules/a/* WHERE level > 3 AND lenght(level) = 1 INTO $upstream")
        .route("two", "FROM /messages/modules/a/* WHERE (level = 'x' INTO $upstream");
    let file = runtime.write("bad.json", bad.text());

    let refused = runtime.cli(&["deploy", &file.to_string_lossy()]).refused(1, &["as_number(level) > 3"]);

    for told in ["did you mean length?", "this parenthesis is not closed", "$edgeHub"] {
        assert!(refused.stderr.contains(told), "{told}: {}", refused.stderr);
    }
    pass(&runtime, "b");
    assert_eq!(messages(&runtime, "c"), 0);
    runtime
        .cli(&["route", "add", "x", "FROM /messages/modules/a/* WHERE level > 3 INTO $upstream"])
        .refused(1, &["a property is always a string: write as_number(level) > 3", "^"]);
}

#[test]
fn tail_shows_what_a_condition_selects_each_so_manieth_and_no_more_than_asked_for() {
    let runtime = runtime();
    let mut high = runtime.api().listen("FROM /messages/modules/a/* WHERE level = 'high' AND $body.n >= 2");
    for (level, n) in [("high", 1), ("low", 2), ("high", 3)] {
        pass_on(&runtime, level, &format!("{{\"n\": {n}}}"));
    }
    assert_eq!(high.next()["body"], json!({"n": 3}));

    let mut sampled = runtime.api().listen_for("FROM /messages/modules/a/*", "&sample=2");
    let mut limited = runtime.api().listen_for("FROM /messages/modules/a/*", "&rate=1");
    (0..4).for_each(|n| pass_on(&runtime, "x", &format!("{{\"n\": {n}}}")));
    assert_eq!([sampled.next()["body"]["n"].clone(), sampled.next()["body"]["n"].clone()], [json!(0), json!(2)]);
    let (mut shown, mut left_out) = (0, 0);
    while shown + left_out < 4 {
        match limited.next()["overRate"].as_u64() {
            Some(count) => left_out += count,
            None => shown += 1,
        }
    }
    assert!(shown >= 1 && shown + left_out == 4, "{shown} and {left_out}");
    runtime
        .cli(&["tail", "FROM /* WHERE level > 3 AND a == 'b'"])
        .refused(1, &["2 problems", "as_number(level)", "write ="]);
}

#[test]
fn a_json_string_and_the_text_in_it_are_told_apart_in_what_tail_shows_and_sent_again_as_they_were() {
    let runtime = runtime();
    let mut passing = runtime.listen("FROM /messages/modules/a/*");
    let said = ["plain", "\"plain\""];
    said.iter().for_each(|body| pass_on(&runtime, "x", body));

    for body in said {
        let shown = passing.next();
        assert_eq!(shown["body"], body);
        let (status, answer) = runtime.api().ask("POST", "/modules/b/inputs/in", Some(&shown)).unwrap();
        assert_eq!(status, 200, "{answer}");
    }
    wait_until(SOON, "both arrive", || bodies(&runtime, "b") == said);
}

#[test]
fn route_test_says_what_a_route_makes_of_a_message_without_a_runtime() {
    let runtime = Runtime::new();
    let file = runtime.write(
        "message.json",
        json!({
            "body": {"value": 81.5}, "properties": {"level": "high"},
            "systemProperties": {"contentType": "application/json", "contentEncoding": "utf-8", "dt-subject": "/line/3", "bogus": "x"}
        })
        .to_string(),
    );
    let message = format!("@{}", file.display());
    let test = |route: &str| runtime.json(&["route", "test", route, "--message", &message]);
    let verdict = |route: &str| {
        let found = test(route);
        (found["matches"].as_bool().unwrap(), found["value"].as_str().unwrap().to_owned())
    };
    let said = |matches: bool, value: &str| (matches, value.to_owned());

    assert_eq!(
        verdict("FROM /messages/* WHERE level = 'high' AND $body.value > 80 INTO $upstream"),
        said(true, "true")
    );
    assert_eq!(verdict("FROM /messages/* WHERE {$dt-subject} = '/line/3'"), said(true, "true"));
    assert_eq!(verdict("FROM /messages/* WHERE $bogus = 'x'"), said(true, "true"));
    assert_eq!(verdict("FROM /messages/* WHERE level = 'low'"), said(false, "false"));
    assert_eq!(verdict("FROM /messages/* WHERE $body.missing > 5"), said(false, "undefined"));
    assert_eq!(test("FROM /messages/*")["error"], json!(null));
    let refused = runtime.cli(&["route", "test", "FROM /* WHERE level > 3", "--message", &message, "--json"]);
    let document: Value = serde_json::from_str(&refused.refused(1, &["as_number(level) > 3"]).stdout).unwrap();
    assert_eq!((&document["matches"], &document["error"]["column"]), (&json!(false), &json!(15)));
    let shown =
        runtime.cli(&["route", "test", "FROM /* WHERE level = 'low' AND $body.value > 80", "--message", &message]);
    let shown = shown.ok().stdout;
    assert!(shown.starts_with("does not match: the condition is false"), "{shown}");
    assert!(shown.contains("→ \"high\"") && !shown.contains("→ 81.5"), "{shown}");
    runtime.cli(&["route", "test", "FROM /*", "--message", "{\"boddy\": 1}"]).refused(1, &["boddy"]);
}

#[test]
fn ends_that_are_not_there_are_warned_of() {
    let runtime = runtime();
    let table = [
        ("FROM /messages/modules/aa/* INTO $upstream", "takes from aa: there is no such module yet; did you mean a?"),
        (
            "FROM /messages/modules/a/outputs/ou INTO $upstream",
            "takes from output ou of a: there is no such output; a has out",
        ),
        (
            "FROM /messages/modules/a/* INTO BrokeredEndpoint('/modules/b/inputs/inn')",
            "leads to input inn of b: there is no such input; b has in, send",
        ),
        (
            "FROM /messages/modules/a/* INTO BrokeredEndpoint('/modules/gone/inputs/in')",
            "leads to gone: there is no such module yet",
        ),
    ];
    for (number, (route, warning)) in table.into_iter().enumerate() {
        let name = format!("r{number}");
        let file = runtime.write("route.txt", format!("{route}\n"));
        let told = runtime.cli(&["route", "add", &name, &format!("@{}", file.display())]).ok();
        assert!(told.stderr.contains(&format!("warning: {name}: {warning}")), "{}", told.stderr);
    }
    assert_eq!(runtime.cli(&["route", "list"]).ok().stderr.lines().count(), 4);
}

#[test]
fn an_output_that_a_module_has_opened_is_there_though_its_image_does_not_name_it() {
    let runtime = Runtime::new().supply(&[fixture("numbering_sender")]).start();
    runtime.deploy(&Manifest::new().numbering_sender("s", &["surprise"], json!({})));
    let taken = |name: &str, output: &str| {
        let route = format!("FROM /messages/modules/s/outputs/{output} INTO $upstream");
        runtime.cli(&["route", "add", name, &route, "--ttl", "1h", "--replace"]).ok().stderr
    };
    wait_until(SOON, "it is open", || !taken("opened", "Surprise").contains("there is no such output"));

    assert!(taken("missing", "surprize").contains("takes from output surprize of s: there is no such output"));
    let listed = runtime.cli(&["route", "list"]).ok().stderr;
    assert!(listed.contains("surprize of s") && !listed.contains("Surprise of s"), "{listed}");
    assert_eq!(runtime.cli(&["tail", "s/surprise", "--timeout", "50ms"]).ok().stderr, "");
}

#[test]
fn tail_of_nobody_is_refused_and_one_of_what_is_to_come_says_that_it_waits() {
    let runtime = runtime();
    let wait = "to wait for what is not here yet: dinrail tail /messages/modules/nosuch/*";
    runtime.cli(&["tail", "nosuch"]).refused(1, &["there is no module 'nosuch'", wait, "there is a, b, c"]);
    runtime.cli(&["tail", "aa", "WHERE level = 'high'"]).refused(1, &["there is no module 'aa'", "did you mean 'a'?"]);
    runtime.cli(&["tail", "a/ou"]).refused(1, &["a has no output 'ou'", "did you mean out?"]);
    runtime.cli(&["tail", "$edgeHub"]).refused(1, &["/twinChangeNotifications and /losses"]);

    let briefly = |route: &str| runtime.cli(&["tail", route, "--timeout", "50ms"]).ok().stderr;
    for route in ["/messages/modules/nosuch/*", "FROM /messages/modules/nosuch/*"] {
        let told = briefly(route);
        assert!(told.contains("warning: there is no module 'nosuch' yet, so nothing passes until then"), "{told}");
    }
    assert!(briefly("/messages/modules/a/outputs/ou").contains("warning: a has no output 'ou' yet"));
    for known in ["a", "A", "a/out", "/losses", "/twinChangeNotifications"] {
        assert_eq!(briefly(known), "", "{known}");
    }
    // It may send from elsewhere.
    runtime.cli(&["identity", "add", "/devices/Hannover01/modules/outside"]).ok();
    assert_eq!(briefly("outside"), "");
    assert!(briefly("a WHERE level = high").contains("note: high is taken for a property of this name"));
}
