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
    assert_eq!((&added["origin"], &added["inForce"], &added["notes"]), (&json!("cli"), &json!(true), &json!([])));
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
    runtime.cli(&["route", "add", "one", A_TO_B]).ok();
    runtime.cli(&["route", "add", "one", A_TO_C]).refused(1, &["there is a route one already", "--replace"]);
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
    let table: [(&[&str], &[&str]); 6] = [
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
        (&["x", A_TO_B, "--durability", "disk"], &["durability: 'disk' is not available"]),
        (&["x", ""], &["route: is empty"]),
    ];
    for (arguments, words) in table {
        runtime.cli(&[&["route", "add"], arguments].concat()).refused(1, words);
    }
    assert_eq!(routes(&runtime), [] as [Value; 0]);
    let answer = runtime.api().ask("PUT", "/routes/x", Some(&json!({"route": A_TO_B, "prioritty": 1}))).unwrap();
    assert_eq!(answer.0, 400);
    assert!(answer.1.to_string().contains("did you mean priority?"), "{}", answer.1);
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
