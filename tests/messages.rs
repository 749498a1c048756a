//! Messages wait for their module, are kept over its stops, and one that poisons it is set aside.

use serde_json::{Value, json};

use crate::harness::{Manifest, Runtime, SOON, fixture, wait_until};

const QUICK: &str = "[restart]\nfirst_delay_secs = 0.01\nmax_delay_secs = 0.02\njitter_percent = 0\n";

fn started(manifest: &Manifest) -> Runtime {
    let runtime = Runtime::new().supply(&[fixture("wayward")]).config(QUICK).start();
    runtime.deploy(manifest);
    runtime
}

/// Attempts and bodies of the messages that the module got.
fn messages(runtime: &Runtime, name: &str) -> Vec<String> {
    runtime.events(name).iter().filter_map(|event| event.strip_prefix("message in ").map(str::to_owned)).collect()
}

#[test]
fn messages_to_a_module_whose_image_is_not_here_wait_and_are_delivered() {
    let runtime = Runtime::new().config(QUICK).start();
    let manifest = Manifest::new().module("w", "wayward");
    let file = runtime.write("manifest.json", manifest.text());
    runtime.cli(&["deploy", &file.to_string_lossy()]).ok();
    runtime.wait_for("w", "waiting");

    for number in 0..3 {
        let sent = runtime.cli(&["send", "w", "in", &format!("m{number}")]).ok();
        assert!(sent.stdout.contains("wait"), "{}", sent.stdout);
    }
    assert_eq!(runtime.module("w")["inbox"]["messages"], 3);
    runtime.cli(&["image", "add", &fixture("wayward").to_string_lossy()]).ok();

    wait_until(SOON, "they are delivered", || messages(&runtime, "w") == ["1 m0", "1 m1", "1 m2"]);
    assert_eq!(runtime.module("w")["inbox"]["messages"], 0);
}

#[test]
fn queue_is_kept_over_stop_and_start() {
    let runtime = started(&Manifest::new().module("w", "wayward"));
    runtime.cli(&["stop", "w"]).ok();
    runtime.wait_for("w", "stopped");

    (0..5).for_each(|number| drop(runtime.cli(&["send", "w", "in", &format!("m{number}")]).ok()));
    assert_eq!(runtime.module("w")["inbox"]["messages"], 5);
    runtime.cli(&["start", "w"]).ok();

    wait_until(SOON, "they are delivered", || messages(&runtime, "w").len() == 5);
    assert_eq!(messages(&runtime, "w"), ["1 m0", "1 m1", "1 m2", "1 m3", "1 m4"]);
}

#[test]
fn message_that_panics_is_delivered_again_then_parked_and_the_others_go_on() {
    let runtime = started(&Manifest::new().module("w", "wayward"));

    for body in ["before", "panic", "after"] {
        runtime.cli(&["send", "w", "in", body]).ok();
    }
    wait_until(SOON, "the one behind it is delivered", || messages(&runtime, "w").contains(&"1 after".to_owned()));

    let expected = ["1 before", "1 panic", "2 panic", "3 panic", "4 panic", "5 panic", "1 after"];
    assert_eq!(messages(&runtime, "w"), expected);
    assert!(runtime.log().contains("message parked"), "{}", runtime.log());
    let notes = || runtime.api().ask("GET", "/health", None).unwrap().1["notes"].to_string();
    wait_until(SOON, "health says so", || notes().contains("1 message is parked"));
}

#[test]
fn message_that_fails_is_delivered_again_then_parked_without_a_restart() {
    let runtime = started(&Manifest::new().module("w", "wayward"));

    for body in ["error", "after"] {
        runtime.cli(&["send", "w", "in", body]).ok();
    }
    wait_until(SOON, "the one behind it is delivered", || messages(&runtime, "w").contains(&"1 after".to_owned()));

    assert_eq!(messages(&runtime, "w"), ["1 error", "2 error", "3 error", "4 error", "5 error", "1 after"]);
    assert_eq!(runtime.module("w")["restartCount"], 0);
}

#[test]
fn message_that_the_module_parks_is_not_delivered_again() {
    let runtime = started(&Manifest::new().module("w", "wayward"));

    for body in ["park", "after"] {
        runtime.cli(&["send", "w", "in", body]).ok();
    }
    wait_until(SOON, "the one behind it is delivered", || messages(&runtime, "w").contains(&"1 after".to_owned()));

    assert_eq!(messages(&runtime, "w"), ["1 park", "1 after"]);
    let parked = runtime.log();
    assert!(parked.contains("asked to park"), "{parked}");
}

#[test]
fn routes_carry_from_module_to_module_in_order() {
    let manifest = Manifest::new().module("a", "wayward").module("b", "wayward").connect("a", "b");
    let runtime = started(&manifest);

    runtime.cli(&["send", "a", "send", r#"{"count": 1000}"#]).ok();
    wait_until(SOON, "all have arrived", || messages(&runtime, "b").len() == 1000);

    let numbers: Vec<String> =
        messages(&runtime, "b").iter().map(|message| message.split(' ').nth(1).unwrap().to_owned()).collect();
    assert_eq!(numbers, (0..1000).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[test]
fn sender_is_stamped_by_the_runtime() {
    let manifest = Manifest::new().module("a", "wayward").module("b", "wayward").connect("a", "b");
    let runtime = started(&manifest);
    let mut passing = runtime.listen("FROM /messages/modules/a/*");

    runtime.cli(&["send", "a", "in", "hello", "-p", "connectionModuleId=b"]).ok();

    let message = passing.next();
    assert_eq!(message["systemProperties"]["connectionModuleId"], "a");
    assert_eq!(message["systemProperties"]["connectionDeviceId"], "Hannover01");
}

#[test]
fn message_for_an_input_that_the_image_does_not_have_is_refused_with_those_it_has() {
    let runtime = Runtime::new().supply(&[crate::harness::c_module("hello", "1.0.0", &[])]).start();
    runtime.deploy(&Manifest::new().module("hello", "hello"));

    runtime.cli(&["send", "hello", "nope", "x"]).refused(1, &["hello has no input 'nope'", "it has in"]);
    runtime.cli(&["send", "hello", "in", "x"]).ok();
}

#[test]
fn lines_of_files_are_sent_as_messages_in_order_as_often_as_told() {
    let runtime = started(&Manifest::new().module("w", "wayward"));
    let first = runtime.write("first.jsonl", "{\"n\": 1}\n\n{\"n\": 2}\r\n");
    let second = runtime.write("second.txt", "three");
    let (first, second) = (format!("@{}", first.display()), format!("@{}", second.display()));
    let send = ["send", "w", "in", &first, &second, "--lines", "--count", "2", "--rate", "1000/s", "-p", "a=b"];

    let sent = runtime.cli(&send).ok();

    assert_eq!(sent.stdout, "sent 6 of 6 messages to w/in\n");
    let expected = ["1 {\"n\": 1}", "1 {\"n\": 2}", "1 three"].repeat(2);
    wait_until(SOON, "they are delivered", || messages(&runtime, "w").len() == 6);
    assert_eq!(messages(&runtime, "w"), expected);
    let told = runtime.json(&["send", "w", "in", "x", "--count", "3"]);
    assert_eq!((&told["sent"], &told["refused"], &told["input"]), (&3.into(), &0.into(), &"in".into()));
}

#[test]
fn send_tells_programs_the_same_of_one_message_as_of_many() {
    let runtime = started(&Manifest::new().module("w", "wayward"));
    let expected = |sent: u64| {
        json!({
            "to": "/devices/Hannover01/modules/w", "input": "in", "receiver": "running", "sent": sent, "refused": 0,
            "reasons": []
        })
    };
    assert_eq!(runtime.json(&["send", "w", "in", "x"]), expected(1));
    assert_eq!(runtime.json(&["send", "w", "in", "x", "y"]), expected(2));

    for bodies in [&["x"][..], &["x", "y"]] {
        let refused = runtime.cli(&[&["send", "w", "nosuch"], bodies, &["--json"]].concat());
        let told: Value = serde_json::from_str(&refused.stdout).unwrap();
        let members: Vec<&String> = told.as_object().unwrap().keys().collect();
        assert_eq!(members, ["to", "input", "receiver", "sent", "refused", "reasons"]);
        assert_eq!((&told["sent"], &told["refused"], &told["to"]), (&json!(0), &json!(1), &json!(null)));
        assert_eq!(told["reasons"][0]["message"], "w has no input 'nosuch'");
        refused.refused(1, &["w has no input 'nosuch'", "it has in"]);
    }
}

#[test]
fn system_properties_that_no_message_carries_are_refused_with_those_that_it_does() {
    let runtime = started(&Manifest::new().module("w", "wayward"));
    let known = "known here: messageId, correlationId, contentType, contentEncoding";
    let table = [
        ("connectionDeviceId=other", "stamped by the runtime"),
        ("dt-subject=/line/3", known),
        ("to=x", known),
        ("contentTyp=x", "did you mean contentType?"),
    ];
    for (given, told) in table {
        runtime.cli(&["send", "w", "in", "x", "--system", given]).refused(2, &[told]);
    }
    for (name, told) in [("userId", "known here"), ("messageID", "did you mean messageId?")] {
        let document = json!({"body": "x", "systemProperties": {name: "y", "sequenceNumber": 3}});
        let (status, answer) = runtime.api().ask("POST", "/modules/w/inputs/in", Some(&document)).unwrap();
        assert_eq!(status, 400, "{answer}");
        assert!(answer.to_string().contains(name) && answer.to_string().contains(told), "{answer}");
    }

    runtime.cli(&["send", "w", "in", "x", "--system", "messageId=m", "--system", "contentType=text/plain"]).ok();
    wait_until(SOON, "it alone is delivered", || messages(&runtime, "w") == ["1 x"]);
}

#[test]
fn a_message_as_tail_prints_it_can_be_sent_again() {
    let runtime = started(&Manifest::new().module("w", "wayward"));
    let sent =
        json!({"body": "as it is", "properties": {"a": "b"}, "systemProperties": {"epoch": 1, "outputName": "x"}});
    let (status, _) = runtime.api().ask("POST", "/modules/w/inputs/in", Some(&sent)).unwrap();
    assert_eq!(status, 200);
    wait_until(SOON, "it is delivered", || messages(&runtime, "w") == ["1 as it is"]);
    let mistyped = json!({"bodyText": "x", "propertis": {"a": "b"}});
    let (status, told) = runtime.api().ask("POST", "/modules/w/inputs/in", Some(&mistyped)).unwrap();
    assert_eq!(status, 400);
    assert!(told.to_string().contains("propertis"), "{told}");
}

#[test]
fn what_waits_on_disk_alone_is_counted_with_its_bytes() {
    let mut runtime = started(&Manifest::new().module("w", "wayward"));
    runtime.cli(&["stop", "w"]).ok();
    runtime.wait_for("w", "stopped");
    (0..5).for_each(|_| drop(runtime.cli(&["send", "w", "in", "four"]).ok()));
    runtime.stop();
    runtime.launch();

    assert_eq!(runtime.module("w")["inbox"], json!({"messages": 5, "bytes": 20, "spilled": 5}));
    let (_, _, metrics) = runtime.api().text("/metrics").unwrap();
    let in_memory = "dinrail_queue_messages{endpoint=\"/devices/Hannover01/modules/w/inputs/in\"}";
    let line = metrics.lines().find(|line| line.starts_with(in_memory)).unwrap();
    assert!(line.ends_with(" 0"), "{line}");
}

#[test]
fn many_messages_to_nobody_are_given_up_with_what_was_not_tried() {
    let runtime = started(&Manifest::new().module("w", "wayward"));
    let refused = runtime.cli(&["send", "nobody", "in", "x", "--count", "5"]);
    refused.refused(1, &["there is no module 'nobody'", "0 messages were sent before, 4 were not tried"]);
    runtime.cli(&["send", "w", "in", "x", "--rate", "fast"]).refused(2, &["100/s"]);
}
