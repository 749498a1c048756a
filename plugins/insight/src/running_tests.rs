use std::collections::BTreeMap;

use super::*;
use proptest::prelude::*;
use serde_json::json;

const S: i64 = 1_000_000;

fn query(patch: Value) -> Query {
    let mut query = json!({"name": "q", "window": {"size": "10s"}, "lateness": "2s", "aggregates": ["mean", "sum"]});
    query.as_object_mut().unwrap().extend(patch.as_object().unwrap().clone());
    serde_json::from_value(query).unwrap()
}

/// A query, its clock standing still unless moved, and what it told.
struct Table {
    running: Running,
    now: i64,
    told: Vec<Outcome>,
}

impl Table {
    fn of(patch: Value) -> Table {
        Table { running: Running::begin(&query(patch), 0), now: 0, told: Vec::new() }
    }

    fn body(&mut self, body: Value) -> &mut Table {
        let (input, output, sender, properties) = ("readings", "out", "/devices/d/modules/m", Vec::new());
        let message = Incoming { body, input, output, sender, properties, arrival: 0 };
        self.running.observe(&message, self.now, &mut self.told);
        self
    }

    fn give(&mut self, name: &str, value: f64, secs: f64) -> &mut Table {
        let time = (secs * 1e6) as i64;
        self.body(json!({"name": name, "value": value, "sourceTime": time}))
    }

    fn pass(&mut self, secs: i64) -> &mut Table {
        self.now += secs * S;
        self.running.tell_due(self.now, &mut self.told);
        self
    }

    /// `group start..end count sum` of each result since the last call; `!` where it is incomplete.
    fn told(&mut self) -> Vec<String> {
        let line = |outcome: Outcome| {
            let body: Value = serde_json::from_str(&outcome.body).unwrap();
            let secs = |key: &str| dinrail_plugin::reading::parse_time(body[key].as_str().unwrap()).unwrap() / S;
            let mark = if body["incomplete"] == true { "!" } else { "" };
            let (name, count, sum) = (&outcome.name, &body["count"], &body["sum"]);
            format!("{name} {}..{} {count} {sum}{mark}", secs("windowStart"), secs("windowEnd"))
        };
        std::mem::take(&mut self.told).into_iter().map(line).collect()
    }
}

#[test]
fn a_window_is_told_when_the_watermark_has_passed_its_end() {
    let mut table = Table::of(json!({}));
    table.give("a", 1.0, 0.0).give("b", 5.0, 3.0).give("a", 2.0, 9.9).give("a", 4.0, 11.9);
    assert_eq!(table.told(), [""; 0], "readings of up to 2 s ago are waited for");
    table.give("a", 3.0, 9.0).give("a", 8.0, 12.0);
    assert_eq!(table.told(), ["q:a 0..10 3 6.0", "q:b 0..10 1 5.0"]);
}

#[test]
fn a_window_ends_when_nothing_comes_any_more() {
    let mut table = Table::of(json!({}));
    table.give("a", 1.0, 0.0).pass(11);
    assert_eq!(table.told(), [""; 0]);
    assert_eq!(table.pass(1).told(), ["q:a 0..10 1 1.0"]);
    assert_eq!(table.pass(1000).told(), [""; 0], "told once");
}

#[test]
fn hopping_windows_overlap() {
    let mut table = Table::of(json!({"window": {"kind": "hopping", "size": "10s", "hop": "5s"}, "lateness": 0}));
    table.give("a", 1.0, 0.0).give("a", 2.0, 7.0).give("a", 4.0, 12.0).pass(60);
    assert_eq!(table.told(), ["q:a -5..5 1 1.0!", "q:a 0..10 2 3.0", "q:a 5..15 2 6.0", "q:a 10..20 1 4.0"]);
}

#[test]
fn a_late_reading_is_left_out_and_counted() {
    let mut table = Table::of(json!({}));
    table.give("a", 1.0, 0.0).give("a", 2.0, 13.0).give("a", 9.0, 9.9).give("a", 9.0, -100.0).pass(60);
    assert_eq!(table.told(), ["q:a 0..10 1 1.0", "q:a 10..20 1 2.0"]);
    assert_eq!(table.running.held().counts.late, 2);
}

#[test]
fn quality_decides_what_counts_and_the_rest_is_counted_apart() {
    for (least, count) in [("good", 1), ("uncertain", 2), ("bad", 3)] {
        let mut table = Table::of(json!({"quality": least}));
        for (value, quality) in [(json!(1), "good"), (json!(2), "uncertain"), (json!(3), "bad"), (json!(null), "bad")] {
            table.body(json!({"name": "a", "value": value, "quality": quality, "sourceTime": 0}));
        }
        table.pass(60);
        let body: Value = serde_json::from_str(&table.told[0].body).unwrap();
        assert_eq!(body["count"], count);
        assert_eq!(body["qualities"], json!({"good": 1, "uncertain": 1, "bad": 2}));
    }
}

#[test]
fn a_result_is_a_reading() {
    let mut table = Table::of(json!({"aggregates": ["p50", "mean"]}));
    for (value, secs) in [(1.0, 0), (2.0, 1), (9.0, 2)] {
        table.body(json!({"name": "a", "value": value, "unit": "°C", "sourceTime": secs * S}));
    }
    table.pass(60);
    let told = &table.told[0];
    let reading = dinrail_plugin::Reading::parse(told.body.as_bytes()).unwrap();
    assert_eq!((&*reading.name, reading.number(), &*reading.unit), ("q:a", Some(2.0), "°C"));
    assert_eq!((reading.source_time_us, reading.quality), (10 * S, dinrail_plugin::Quality::Good));
    let body: Value = serde_json::from_str(&told.body).unwrap();
    assert_eq!(
        body,
        json!({
            "name": "q:a", "value": 2.0, "unit": "°C", "quality": "good", "sourceTime": "1970-01-01T00:00:10.000000Z",
            "query": "q", "group": {"name": "a"},
            "windowStart": "1970-01-01T00:00:00.000000Z", "windowEnd": "1970-01-01T00:00:10.000000Z",
            "count": 3, "p50": 2.0, "mean": 4.0, "qualities": {"good": 3, "uncertain": 0, "bad": 0},
            "incomplete": false, "because": []
        })
    );
}

#[test]
fn the_window_that_a_query_began_in_is_incomplete() {
    let mut table = Table::of(json!({}));
    table.give("a", 1.0, 5.0).give("a", 2.0, 12.0).pass(60);
    assert_eq!(table.told(), ["q:a 0..10 1 1.0!", "q:a 10..20 1 2.0"]);
    // It looked for 6 s before the first reading came: nothing is missing.
    let mut table = Table::of(json!({}));
    table.pass(6).give("a", 1.0, 5.0).pass(60);
    assert_eq!(table.told(), ["q:a 0..10 1 1.0"]);
}

#[test]
fn a_silent_group_is_told_of_if_that_is_asked_for() {
    let mut table = Table::of(json!({"emitEmpty": true}));
    table.give("a", 1.0, 0.0).give("b", 1.0, 1.0).give("b", 1.0, 35.0).pass(7);
    assert_eq!(
        table.told(),
        [
            "q:a 0..10 1 1.0",
            "q:b 0..10 1 1.0",
            "q:a 10..20 0 null",
            "q:b 10..20 0 null",
            "q:a 20..30 0 null",
            "q:b 20..30 0 null",
            "q:b 30..40 1 1.0",
            "q:a 30..40 0 null"
        ]
    );
    assert_eq!(table.pass(10).told().len(), 2);
    assert_eq!(table.pass(1_000_000).told().len(), 2 * MAX_EMPTY as usize, "a long pause is not told whole");
}

#[test]
fn groups_are_bounded_and_what_is_left_out_is_counted() {
    let mut table = Table::of(json!({"maxGroups": 2}));
    table.give("a", 1.0, 0.0).give("b", 1.0, 0.0).give("c", 1.0, 0.0).give("a", 1.0, 0.0).pass(60);
    assert_eq!(table.told(), ["q:a 0..10 2 2.0!", "q:b 0..10 1 1.0!"]);
    assert_eq!(table.running.held().counts.overflow, 1);
}

#[test]
fn a_clock_that_is_set_ends_the_windows_and_says_so() {
    let mut table = Table::of(json!({}));
    table.give("a", 1.0, 0.0);
    for n in 0..12 {
        table.give("a", 1.0, 1e6 + f64::from(n) / 2.0);
    }
    assert_eq!(table.told(), ["q:a 0..10 1 1.0!"]);
    assert_eq!(table.running.held().counts.ahead, 9);
    assert_eq!(table.pass(60).told(), ["q:a 1000000..1000010 3 3.0!"]);
}

#[test]
fn windows_go_on_after_a_restart_and_say_that_there_was_one() {
    for (because, said) in [(Because::Restarted, "restarted"), (Because::Killed, "killed")] {
        let mut table = Table::of(json!({"aggregates": ["mean", "sum", "p95"]}));
        table.give("a", 1.0, 0.0).give("a", 2.0, 11.0);
        let text = serde_json::to_string(table.running.held()).unwrap();
        let mut table = Table {
            running: Running::resume(serde_json::from_str(&text).unwrap(), 0, because),
            ..Table::of(json!({}))
        };
        table.give("a", 4.0, 15.0).give("a", 8.0, 18.0).give("a", 16.0, 22.0);
        assert!(table.told[1].body.contains(said), "{:?}", table.told);
        assert_eq!(table.told(), ["q:a 0..10 1 1.0!"; 1].into_iter().chain(["q:a 10..20 3 14.0!"]).collect::<Vec<_>>());
        assert_eq!(table.pass(60).told(), ["q:a 20..30 1 16.0"]);
    }
}

#[test]
fn the_same_window_has_the_same_id_each_time_and_another_one_has_another() {
    let ids = |from: f64| -> Vec<String> {
        let mut table = Table::of(json!({}));
        table.give("a", 1.0, from).give("b", 1.0, from).pass(60);
        table.told.iter().map(|outcome| outcome.id.clone()).collect()
    };
    let (one, again, other) = (ids(0.0), ids(5.0), ids(10.0));
    assert_eq!(one, again);
    assert!(one[0] != one[1] && !one.contains(&other[0]) && one.iter().all(|id| id.len() <= 128 && id.is_ascii()));
}

proptest! {
    #[test]
    fn windows_agree_with_a_naive_model(
        hop in 1_i64..8,
        more in 0_i64..12,
        lateness in 0_i64..6,
        readings in prop::collection::vec((0_u8..3, 0_i64..40, -100_i64..100), 1..120),
    ) {
        let size = hop + more;
        let window = if more == 0 {
            json!({"size": size})
        } else {
            json!({"kind": "hopping", "size": size, "hop": hop})
        };
        let mut table = Table::of(json!({"window": window, "lateness": lateness}));
        // Windows by group and start: count and sum. The newest reading before each decides what is told already.
        let mut model: BTreeMap<(i64, String), (u64, i64)> = BTreeMap::new();
        let (mut newest, mut late) = (i64::MIN / 2, 0);
        for (group, time, value) in &readings {
            let name = format!("g{group}");
            table.give(&name, *value as f64, *time as f64);
            let mut is_late = false;
            for start in (time - size - hop..=*time).filter(|s| s.rem_euclid(hop) == 0 && *time < s + size) {
                if start + size <= newest - lateness {
                    is_late = true;
                } else {
                    let entry = model.entry((start, name.clone())).or_default();
                    *entry = (entry.0 + 1, entry.1 + value);
                }
            }
            late += u64::from(is_late);
            newest = newest.max(*time);
        }
        table.pass(1000);
        prop_assert_eq!(table.running.held().counts.late, late);
        let told: BTreeMap<(i64, String), (u64, i64)> = table.told.iter().map(|outcome| {
            let body: Value = serde_json::from_str(&outcome.body).unwrap();
            let start = dinrail_plugin::reading::parse_time(body["windowStart"].as_str().unwrap()).unwrap() / S;
            let group = body["group"]["name"].as_str().unwrap().to_owned();
            ((start, group), (body["count"].as_u64().unwrap(), body["sum"].as_f64().unwrap().round() as i64))
        }).collect();
        prop_assert_eq!(table.told.len(), told.len(), "a window is told twice");
        prop_assert_eq!(told, model);
    }
}
