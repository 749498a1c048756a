use super::*;
use dinrail_plugin::testing::{Bench, Verdict};

fn bench(desired: Value) -> Bench {
    let mut bench = Bench::new::<Filter>(desired).create().unwrap();
    bench.start().unwrap();
    bench
}

fn give(bench: &mut Bench, name: &str, value: f64) {
    let body =
        json!({"name": name, "value": value, "unit": "%", "quality": "good", "sourceTime": "2026-11-21T14:05:09Z"});
    assert_eq!(bench.message("readings", body.to_string()).deliver(), Verdict::Accepted);
}

/// `name state` of each alarm that was sent since the last call.
fn edges(bench: &Bench) -> Vec<String> {
    let of = |body: Value| format!("{} {}", body["name"].as_str().unwrap(), body["state"].as_str().unwrap());
    let edges = bench.sent("alarms").iter().map(|sent| of(sent.json())).collect();
    bench.clear_sent();
    edges
}

#[test]
fn an_alarm_is_sent_once_per_edge_and_clears_below_the_hysteresis() {
    let mut bench = bench(json!({"threshold": 80, "hysteresis": 5}));
    for (value, expected) in [
        (80.0, vec![]),
        (80.1, vec!["cpu.usage raised"]),
        (95.0, vec![]),
        (75.0, vec![]),
        (74.9, vec!["cpu.usage cleared"]),
        (79.0, vec![]),
        (81.0, vec!["cpu.usage raised"]),
    ] {
        give(&mut bench, "cpu.usage", value);
        assert_eq!(edges(&bench), expected, "at {value}");
    }
}

#[test]
fn an_alarm_says_what_was_seen_and_is_reported() {
    let mut bench = bench(json!({}));
    give(&mut bench, "cpu.usage", 91.5);

    let alarm = json!({
        "name": "cpu.usage", "state": "raised", "value": 91.5, "unit": "%", "threshold": 80.0, "time": "2026-11-21T14:05:09Z"
    });
    let sent = &bench.sent("alarms")[0];
    assert_eq!(sent.json::<Value>(), alarm);
    assert_eq!((sent.property("state"), sent.content_type.as_deref()), (Some("raised"), Some("application/json")));
    assert_eq!(bench.reported()["alarms"], json!([alarm]));
    assert_eq!(bench.health(), Some((Level::Info, "1 raised of 1 alarms".into())));
}

#[test]
fn names_have_alarms_of_their_own_and_only_the_wanted_one_is_looked_at() {
    let mut bench = bench(json!({"threshold": 1}));
    give(&mut bench, "a", 2.0);
    give(&mut bench, "b", 2.0);
    give(&mut bench, "a", 3.0);
    assert_eq!(edges(&bench), ["a raised", "b raised"]);

    bench.desired(json!({"name": "b"})).unwrap();
    give(&mut bench, "c", 2.0);
    give(&mut bench, "b", 2.0);
    assert_eq!(edges(&bench), [""; 0]);
    // Nobody would ever clear it otherwise.
    give(&mut bench, "a", 3.0);
    assert_eq!(edges(&bench), ["a cleared"]);
}

#[test]
fn a_change_of_the_threshold_takes_effect_with_the_next_reading() {
    let mut bench = bench(json!({"name": "cpu.usage"}));
    give(&mut bench, "cpu.usage", 7.0);
    assert_eq!(edges(&bench), [""; 0]);

    bench.desired(json!({"threshold": 1, "hysteresis": 0})).unwrap();
    give(&mut bench, "cpu.usage", 7.0);
    assert_eq!(edges(&bench), ["cpu.usage raised"]);

    bench.desired(json!({"threshold": 50})).unwrap();
    give(&mut bench, "cpu.usage", 7.0);
    assert_eq!(edges(&bench), ["cpu.usage cleared"]);
}

#[test]
fn any_number_in_any_json_can_be_looked_at() {
    let mut bench = bench(json!({"field": "oven.temperature", "threshold": 200}));
    assert_eq!(bench.message("readings", r#"{"oven": {"temperature": 230}}"#).deliver(), Verdict::Accepted);
    assert_eq!(edges(&bench), ["oven.temperature raised"]);
}

#[test]
fn a_message_without_a_number_is_accepted_and_counted() {
    let mut bench = bench(json!({}));
    let long = format!(r#"{{"name": "{}", "value": 99}}"#, "n".repeat(129));
    let bodies =
        ["not JSON", r#"{"value": "99"}"#, r#"{"other": 99}"#, r#"{"value": 99, "quality": "bad"}"#, "", "[99]", "99"];
    for body in bodies.iter().copied().chain([long.as_str()]) {
        assert_eq!(bench.message("readings", body).deliver(), Verdict::Accepted, "{body}");
    }
    assert_eq!(edges(&bench), [""; 0]);
    assert_eq!(bench.reported()["skipped"], 8);
    let (_, sentence) = bench.health().unwrap();
    assert_eq!(sentence, "0 raised of 0 alarms, 8 messages without a number at 'value'");
}

#[test]
fn an_edge_that_could_not_be_sent_comes_again_with_its_message() {
    let mut bench = bench(json!({"threshold": 1}));
    bench.set_full(true);
    let body = r#"{"name": "a", "value": 2}"#;
    assert!(matches!(bench.message("readings", body).deliver(), Verdict::Failed(_)));
    assert_eq!(bench.reported().get("alarms"), None);

    bench.set_full(false);
    assert_eq!(bench.message("readings", body).attempt(2).deliver(), Verdict::Accepted);
    assert_eq!(edges(&bench), ["a raised"]);
}

#[test]
fn alarms_are_kept_for_a_bounded_number_of_names_and_what_is_left_out_is_said() {
    let mut bench = bench(json!({"threshold": 1}));
    for n in 0..=MAX_ALARMS {
        give(&mut bench, &format!("n{n}"), 2.0);
    }
    assert_eq!(edges(&bench).len(), MAX_ALARMS);
    assert_eq!(bench.reported()["untold"], 1);
    assert!(matches!(bench.health(), Some((Level::Warn, sentence)) if sentence.contains("1 edges not told")));

    give(&mut bench, "n5", -10.0);
    give(&mut bench, "n64", 2.0);
    assert_eq!(edges(&bench), ["n5 cleared", "n64 raised"], "a cleared alarm gives way");
    assert_eq!(bench.reported()["alarms"].as_array().unwrap().len(), MAX_ALARMS);
}

#[test]
fn what_was_reported_is_read_back_with_the_alarms_that_are_raised() {
    let mut bench = bench(json!({"threshold": 1}));
    give(&mut bench, "a", 2.0);
    let reported: Reported = serde_json::from_value(bench.reported()).unwrap();
    assert!(reported.is_raised("a") && !reported.is_raised("b"));
}

#[test]
fn desired_properties_that_make_no_sense_are_refused_with_their_path() {
    let mut bench = bench(json!({}));
    for (patch, said) in [
        (json!({"hysteresis": -1}), "hysteresis: -1 is negative"),
        (json!({"hysteresis": null, "field": "a..b"}), "field: 'a..b' is not a path"),
        (json!({"field": null, "threshold": "high"}), "threshold: invalid type: string"),
        (json!({"threshold": null, "treshold": 5}), "treshold: unknown field `treshold`"),
    ] {
        let refused = bench.desired(patch).unwrap_err().to_string();
        assert!(refused.contains(said), "{refused}");
    }
    give(&mut bench, "cpu.usage", 81.0);
    assert_eq!(edges(&bench), ["cpu.usage raised"], "the old ones stay in force");
}
