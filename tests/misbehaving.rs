//! A module that panics, fails or never returns harms nobody else: its own restart policy deals with it, and `show` and the log
//! say why.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::drop_folder::stays;
use crate::harness::{Manifest, Runtime, SOON, misbehaving, wait_until};

/// A runtime with bystanders and an instance of each of these misbehaviours, named after it in kebab case.
fn with(runtime: Runtime, kinds: &[&str]) -> Runtime {
    let runtime = runtime.start();
    runtime.add_bystanders();
    let manifest = kinds.iter().fold(Manifest::new().with_bystanders(), |manifest, kind| {
        let name = name(kind);
        let desired = json!({ "misbehave": kind });
        manifest.module(&name, "misbehaving").option(&name, "stopGraceSecs", json!(1)).desired(&name, desired)
    });
    runtime.apply(&manifest);
    runtime
}

/// `panicInStart`: `panic-in-start`.
fn name(kind: &str) -> String {
    kind.chars().fold(String::new(), |name, c| match c.is_uppercase() {
        true => format!("{name}-{}", c.to_lowercase()),
        false => format!("{name}{c}"),
    })
}

#[track_caller]
fn send(runtime: &Runtime, module: &str, body: &str) {
    runtime.cli(&["send", module, "in", body]).ok();
}

fn reason(runtime: &Runtime, module: &str) -> String {
    runtime.json(&["show", module])["reason"].as_str().unwrap().to_owned()
}

/// Asserts that a line of the log is about the module and has all these words.
#[track_caller]
fn logged(runtime: &Runtime, module: &str, words: &[&str]) {
    let of = format!("module=\"{module}\"");
    let is_it = |line: &&str| line.contains(&of) && words.iter().all(|words| line.contains(words));
    wait_until(SOON, &format!("a log line of {module} with {words:?}"), || {
        runtime.log().lines().any(|line| is_it(&line))
    });
}

const FAST: &str = "[restart]\nfirst_delay_secs = 0.01\nmax_delay_secs = 0.05\njitter_percent = 0\n";

#[test]
fn panic_in_any_handler_is_caught_named_with_its_place_and_left_to_the_restart_policy() {
    let kinds = [
        ("panicInCreate", "panicked in create, as told"),
        ("panicInStart", "panicked in start, as told"),
        ("panicInMessage", "panicked in on_message, as told"),
        ("panicInDesired", "panicked in on_desired, as told"),
        ("panicInMethod", "panicked in on_method, as told"),
        ("panicInTimer", "panicked in on_timer, as told"),
        ("panicInEvent", "panicked in a posted closure, as told"),
        ("panicInThread", "panicked in a thread, as told"),
    ];
    let runtime = with(Runtime::new(), &kinds.map(|(kind, _)| kind));
    let caller = json!({ "misbehave": "callMethod", "target": "/devices/Hannover01/modules/panic-in-method" });
    let more = kinds.iter().fold(Manifest::new().with_bystanders(), |manifest, (kind, _)| {
        manifest.module(&name(kind), "misbehaving").desired(&name(kind), json!({ "misbehave": kind }))
    });
    runtime.apply(&more.module("caller", "misbehaving").desired("caller", caller));

    runtime.undisturbed(|| {
        // Whoever is called has to be there: a call from module to module does not wait for that.
        runtime.wait_for("panic-in-method", "running");
        for (module, body) in [("panic-in-message", "bad"), ("panic-in-event", "bad"), ("caller", "call")] {
            send(&runtime, module, body);
        }
        runtime.wait_for("panic-in-desired", "running");
        runtime.cli(&["twin", "patch", "panic-in-desired", "periodMs=3"]).ok();
        for (kind, text) in kinds {
            let module = name(kind);
            runtime.wait_for(&module, "backoff");
            let shown = reason(&runtime, &module);
            for words in [text, "misbehaving/src/lib.rs:", "starts again in"] {
                assert!(shown.contains(words), "{kind}: '{words}' is not in: {shown}");
            }
            logged(&runtime, &module, &[text, "misbehaving/src/lib.rs:"]);
            let row = runtime.module(&module);
            assert_eq!((&row["restartCount"], &row["exitCode"]), (&json!(1), &json!(1)), "{kind}");
        }
        let answers = runtime.wait_for_notes("caller", "answers", 1);
        assert!(answers[0].contains("panicked in on_method, as told"), "{answers:?}");
    });
}

#[test]
fn message_whose_handler_always_panics_is_parked_and_those_behind_it_are_handled() {
    let runtime = with(Runtime::new().config(FAST), &["panicInMessage", "failMessage", "parkMessage", "reportTooMuch"]);
    let modules = [
        ("panic-in-message", "panicked in on_message, as told"),
        ("fail-message", "handling: valve stuck"),
        ("park-message", "not a message for me"),
        ("report-too-much", "patch_reported"),
    ];

    runtime.undisturbed(|| {
        for (module, _) in modules {
            ["good 1", "bad", "good 2"].iter().for_each(|body| send(&runtime, module, body));
        }
        for (module, text) in modules {
            assert_eq!(runtime.wait_for_notes(module, "seen", 2), ["good 1", "good 2"], "{module}");
            logged(&runtime, module, &["message parked", text]);
            runtime.wait_for(module, "running");
        }
    });
    assert_eq!(runtime.module("panic-in-message")["restartCount"], 5);
    assert_eq!(runtime.module("fail-message")["restartCount"], 0);
}

#[test]
fn message_that_is_retried_holds_those_behind_it_until_it_is_handled() {
    let runtime = with(Runtime::new(), &["retryMessage"]);

    runtime.undisturbed(|| {
        ["bad 1", "good 1", "bad 2", "good 2"].iter().for_each(|body| send(&runtime, "retry-message", body));
        stays(Duration::from_millis(300), "nothing overtakes it", || runtime.notes("retry-message", "seen").is_empty());
        assert_eq!(runtime.module("retry-message")["inbox"]["messages"], 4);
        runtime.cli(&["twin", "patch", "retry-message", "misbehave=never"]).ok();
        runtime.cli(&["restart", "retry-message"]).ok();
        let seen = runtime.wait_for_notes("retry-message", "seen", 4);
        assert_eq!(seen, ["bad 1", "good 1", "bad 2", "good 2"]);
    });
}

#[test]
fn restart_policy_and_budget_decide_what_follows_a_failure() {
    let runtime = Runtime::new().config(&format!("{FAST}max_starts = 3\n")).start();
    runtime.add_image(&misbehaving());
    let fails = json!({ "misbehave": "failStart" });
    let manifest = ["never", "on-failure", "always"].iter().fold(Manifest::new(), |manifest, policy| {
        manifest
            .module(policy, "misbehaving")
            .with(policy, "restartPolicy", json!(policy))
            .desired(policy, fails.clone())
    });
    runtime.apply(&manifest);

    for (module, restarts, words) in [
        ("never", 0, "its restart policy is never"),
        ("on-failure", 3, "given up after 3 restarts"),
        ("always", 3, "given up after 3 restarts"),
    ] {
        runtime.wait_for(module, "failed");
        assert_eq!(runtime.module(module)["restartCount"], restarts, "{module}");
        let shown = runtime.json(&["show", module]);
        let said = shown["reason"].as_str().unwrap();
        assert!(said.contains("listening on port 502: address in use") && said.contains(words), "{said}");
        assert!(shown["nextStep"].as_str().unwrap().contains(&format!("dinrail start {module}")), "{shown}");
    }

    // The cure, and the next step that was named.
    runtime.cli(&["twin", "patch", "always", "misbehave=never"]).ok();
    runtime.cli(&["start", "always"]).ok();
    runtime.wait_for("always", "running");
}

#[test]
fn error_of_a_handler_is_said_and_goes_no_further() {
    let kinds = ["failCreate", "failStart", "failTimer", "failStop", "panicInStop", "failAtMessage", "refuseCreate"];
    // What failed stays where it is seen.
    let config = "[restart]\nfirst_delay_secs = 3600\nmax_delay_secs = 7200\n";
    let runtime = with(Runtime::new().config(config), &kinds);

    runtime.undisturbed(|| {
        send(&runtime, "fail-at-message", "bad");
        for (module, text) in [
            ("fail-create", "opening /dev/ttyS9: no such file"),
            ("fail-start", "listening on port 502: address in use"),
            ("fail-at-message", "the sensor is gone"),
        ] {
            runtime.wait_for(module, "backoff");
            assert!(reason(&runtime, module).contains(text), "{}", reason(&runtime, module));
            logged(&runtime, module, &[text]);
        }
        logged(&runtime, "fail-timer", &["a timer", "too late"]);
        assert_eq!(runtime.module("fail-timer")["status"], "running");
        for (module, text) in [("fail-stop", "the port does not close"), ("panic-in-stop", "panicked in stop, as told")]
        {
            runtime.wait_for(module, "running");
            runtime.cli(&["stop", module]).ok();
            runtime.wait_for(module, "stopped");
            logged(&runtime, module, &["its stop handler failed", text]);
        }
        // Refused properties: it runs with its defaults, and the twin says so.
        runtime.wait_for("refuse-create", "running");
        wait_until(SOON, "the twin says so", || {
            runtime.json(&["twin", "get", "refuse-create"]).to_string().contains("misbehave: not acceptable")
        });
    });
}

#[test]
fn module_that_never_returns_holds_up_nothing_and_is_named_at_the_end() {
    let kinds = ["hangInCreate", "hangInStart", "hangInMessage", "hangInStop"];
    let mut runtime = with(Runtime::new(), &kinds);
    runtime.wait_for("hang-in-message", "running");
    runtime.wait_for("hang-in-stop", "running");

    runtime.undisturbed(|| {
        send(&runtime, "hang-in-message", "bad");
        wait_until(SOON, "the message is in its hands", || runtime.module("hang-in-message")["cpuSeconds"].is_number());
        let asked = Instant::now();
        runtime.cli(&["list"]).ok();
        runtime.cli(&["twin", "get", "witness"]).ok();
        runtime.cli(&["twin", "patch", "hang-in-message", "periodMs=5"]).ok();
        runtime.cli(&["show", "hang-in-create"]).ok();
        runtime.cli(&["stop", "hang-in-message"]).ok();
        runtime.cli(&["stop", "hang-in-create"]).ok();
        runtime.cli(&["image", "list"]).ok();
        assert!(asked.elapsed() < Duration::from_secs(5), "somebody waits for a module: {:?}", asked.elapsed());

        for module in ["hang-in-message", "hang-in-create"] {
            runtime.wait_for(module, "failed");
            let shown = runtime.json(&["show", module]);
            assert!(shown["reason"].as_str().unwrap().contains("never returned within 1 s"), "{shown}");
            assert!(shown["nextStep"].as_str().unwrap().contains("restart the runtime"), "{shown}");
            runtime.cli(&["start", module]).refused(1, &["never returned", "restart the runtime"]);
        }
    });

    let asked = Instant::now();
    runtime.stop();
    assert!(asked.elapsed() < Duration::from_secs(5), "it took {:?}", asked.elapsed());
    let log = runtime.log();
    let named = log.lines().find(|line| line.contains("did not return")).expect("they are named at the end");
    kinds.iter().for_each(|kind| assert!(named.contains(&name(kind)), "{kind} is not in: {named}"));
}

#[test]
fn flood_fills_its_place_in_memory_and_its_budget_on_disk_and_nothing_else() {
    let runtime = Runtime::new().config("[queue]\nlane_messages = 500\nstore_bytes = 1048576\n").start();
    runtime.add_bystanders();
    let flood = json!({ "misbehave": "flood" });
    let manifest = Manifest::new().with_bystanders().module("flooder", "misbehaving").desired("flooder", flood);
    runtime.apply(&manifest.module("deaf", "not-here-yet").connect("flooder", "deaf"));

    runtime.undisturbed(|| {
        wait_until(SOON, "the budget is spent", || {
            let losses = runtime.json(&["losses", "flooder"]).to_string();
            losses.contains("storeFull")
        });
    });
    let inbox = runtime.module("deaf")["inbox"].clone();
    let (messages, spilled) = (inbox["messages"].as_u64().unwrap(), inbox["spilled"].as_u64().unwrap());
    assert!(spilled > 0 && messages - spilled <= 500, "{inbox}");
    assert!(inbox["bytes"].as_u64().unwrap() < 2 << 20, "{inbox}");
    assert_eq!(runtime.module("flooder")["status"], "running");
}

#[test]
fn one_image_under_two_names_is_two_instances() {
    let runtime = Runtime::new().start();
    runtime.add_image(&misbehaving());
    runtime.apply(&Manifest::new().module("one", "misbehaving").module("two", "misbehaving"));
    for (module, bodies) in [("one", &["a", "b"][..]), ("two", &["c"])] {
        runtime.wait_for(module, "running");
        bodies.iter().for_each(|body| send(&runtime, module, body));
        assert_eq!(runtime.wait_for_notes(module, "seen", bodies.len()), bodies);
        let twin =
            |handled: usize| runtime.json(&["twin", "get", module])["properties"]["reported"]["handled"] == handled;
        wait_until(SOON, "its own twin says so", || twin(bodies.len()));
    }
    let rows: Vec<Value> = ["one", "two"].map(|name| runtime.module(name)).to_vec();
    assert_eq!(rows[0]["digest"], rows[1]["digest"]);

    runtime.cli(&["stop", "one"]).ok();
    runtime.wait_for("one", "stopped");
    send(&runtime, "one", "waits");
    send(&runtime, "two", "d");
    assert_eq!(runtime.wait_for_notes("two", "seen", 2), ["c", "d"]);
    assert_eq!(runtime.module("two")["lastStartTimeUtc"], rows[1]["lastStartTimeUtc"]);
    assert_eq!(runtime.notes("one", "seen"), ["a", "b"]);
    assert_eq!(runtime.module("one")["inbox"]["messages"], 1);

    runtime.cli(&["start", "one"]).ok();
    assert_eq!(runtime.wait_for_notes("one", "seen", 3), ["a", "b", "waits"]);
}
