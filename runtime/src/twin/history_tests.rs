use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::tests::House;
use super::*;
use crate::database::{File, StoreError};

fn change(house: &House, change: &Change<'_>) -> Arc<TwinSnapshot> {
    Twins::wait(&house.filter, |done| house.twins.change(&house.filter, change, done)).unwrap()
}

fn patch(house: &House, desired: Value) -> Arc<TwinSnapshot> {
    change(house, &Change::patch_desired(&desired, "operator"))
}

fn told(past: &PastChange) -> (Part, u64, u64, String, Vec<String>) {
    let shown = |value: &Option<Value>| value.as_ref().map_or("-".to_owned(), Value::to_string);
    let changes = past.changes.iter().map(|c| format!("{} {} {}", c.path, shown(&c.old), shown(&c.new)));
    (past.part, past.from_version, past.to_version, format!("{}: {}", past.by, past.action), changes.collect())
}

#[test]
fn every_change_of_desired_properties_and_tags_is_kept_and_no_report() {
    let house = House::new();
    patch(&house, json!({"limit": 70, "unit": {"name": "C", "long": "Celsius"}}));
    change(&house, &Change::patch_tags(&json!({"hall": 3}), "deployment"));
    Twins::wait(&house.filter, |done| house.twins.patch_reported(&house.filter, &json!({"ok": true}), done)).unwrap();
    change(&house, &Change::replace_desired(&json!({"unit": {"name": "K"}}), "anna").forced(true));

    let house = house.reopened();
    let past = house.twins.history(&house.filter).unwrap();

    assert_eq!(
        past.iter().map(told).collect::<Vec<_>>(),
        [
            (
                Part::Desired,
                2,
                3,
                "anna: replace".to_owned(),
                vec!["limit 70 -".to_owned(), "unit.long \"Celsius\" -".to_owned(), "unit.name \"C\" \"K\"".to_owned()]
            ),
            (Part::Tags, 1, 2, "deployment: patch".to_owned(), vec!["hall - 3".to_owned()]),
            (
                Part::Desired,
                1,
                2,
                "operator: patch".to_owned(),
                vec!["limit - 70".to_owned(), "unit - {\"name\":\"C\",\"long\":\"Celsius\"}".to_owned()]
            ),
        ]
    );
    assert_eq!(past.iter().map(|change| change.is_forced).collect::<Vec<_>>(), [true, false, false]);
    assert!(past.iter().all(|change| change.at_us > 1_600_000_000_000_000));
}

#[test]
fn every_version_can_be_read_and_gone_back_to() {
    let house = House::new();
    let documents =
        [json!({}), json!({"a": 1}), json!({"a": 1, "b": {"c": [1, 2]}}), json!({"b": {"d": null}}), json!({"x": "y"})];
    for document in &documents[1..] {
        change(&house, &Change::replace_desired(document, "operator"));
    }
    let expected = |version: usize| match version {
        4 => json!({"b": {}}),
        version => documents[version - 1].clone(),
    };
    for version in 1..=5 {
        let past = house.twins.past(&house.filter, Part::Desired, version as u64).unwrap();
        assert_eq!((Value::Object(past.desired), past.desired_version), (expected(version), version as u64));
        assert_eq!(past.until_us.is_none(), version == 5);
    }
    for (asked, why) in [(6, NoVersion::NotYet { newest: 5 }), (0, NoVersion::Gone { oldest: 1 })] {
        let refused = house.twins.past(&house.filter, Part::Desired, asked).unwrap_err();
        assert!(matches!(&refused, TwinError::NoVersion { why: found, .. } if *found == why), "{refused}");
    }

    let past = Value::Object(house.twins.past(&house.filter, Part::Desired, 3).unwrap().desired);
    let twin = change(&house, &Change::replace_desired(&past, "operator").undoing_to(3));
    assert_eq!((Value::Object(twin.desired.parse()), twin.desired.version), (expected(3), 6), "versions only go up");
    assert_eq!(house.twins.history(&house.filter).unwrap()[0].action, "undo to 3");
}

#[test]
fn the_past_is_bounded_by_count_bytes_and_age() {
    let house = House::new();
    let limited = |changes, bytes, age| {
        Twins::open_with(
            &house.database,
            &house.identities,
            HistoryLimits { changes, bytes, age: Duration::from_secs(age) },
        )
        .unwrap()
    };
    let put = |twins: &Twins, note: Value| {
        let patch = json!({"note": note});
        Twins::wait(&house.filter, |done| twins.change(&house.filter, &Change::patch_desired(&patch, "x"), done))
            .unwrap();
        twins.history(&house.filter).unwrap()
    };
    let by_count = limited(20, 1 << 20, 1_000_000);
    let longest = (0..50).map(|i| put(&by_count, json!(i)).len()).max();
    assert_eq!(longest, Some(20));
    let oldest = by_count.history(&house.filter).unwrap().pop().unwrap();
    assert_eq!(oldest.to_version, 32);
    let gone = by_count.past(&house.filter, Part::Desired, 30).unwrap_err();
    assert!(
        gone.to_string().contains("version 30 of the desired properties") && gone.to_string().contains("oldest is 31")
    );

    let by_bytes = limited(1000, 20_000, 1_000_000);
    for i in 0..30 {
        put(&by_bytes, json!(format!("{i}{}", "x".repeat(1000))));
    }
    let stored =
        |sql: &str| house.database.read(File::Main, |c| c.query_row(sql, [], |row| row.get::<_, i64>(0))).unwrap();
    assert!((15_000..=20_000).contains(&stored("SELECT sum(bytes) FROM twin_history")));

    house.database.call(File::Main, |tx| tx.execute("UPDATE twin_history SET at_us = 1", []).map(|_| ())).unwrap();
    let by_age = limited(1000, 1 << 20, 3600);
    assert_eq!(put(&by_age, json!(1)).len(), 10, "ten are kept whatever their age");
    let twins = limited(0, 1 << 20, 3600);
    assert_eq!(put(&twins, json!(2)), []);
}

#[test]
fn what_was_not_stored_is_not_in_the_history() {
    let house = House::new();
    patch(&house, json!({"kept": 1}));
    let sql = "CREATE TRIGGER t BEFORE INSERT ON twin_history WHEN new.changed_by = 'poison'
               BEGIN SELECT raise(ABORT, 'poison'); END";
    house.database.call(File::Main, |tx| tx.execute_batch(sql)).unwrap();
    let poison = json!({"lost": 1});
    let refused = Twins::wait(&house.filter, |done| {
        house.twins.change(&house.filter, &Change::patch_desired(&poison, "poison"), done)
    });

    assert!(matches!(refused, Err(TwinError::Store { cause: StoreError::Refused { .. }, .. })), "{refused:?}");
    assert_eq!(house.twins.get(&house.filter).unwrap().desired.version, 2, "the change and its history are one");
    assert_eq!(house.twins.history(&house.filter).unwrap().len(), 1);
    patch(&house, json!({"kept": 2}));
    assert_eq!(house.twins.history(&house.filter).unwrap().len(), 2);
}

#[test]
fn the_history_goes_with_its_identity() {
    let house = House::new();
    patch(&house, json!({"a": 1}));
    house.identities.remove(&house.filter, None).unwrap();
    house.twins.forget(&house.filter);
    house.identities.ensure(Some("filter")).unwrap();

    assert_eq!(house.twins.history(&house.filter).unwrap(), []);
    let refused = house.twins.past(&house.filter, Part::Desired, 2).unwrap_err();
    assert!(matches!(refused, TwinError::NoVersion { why: NoVersion::NotYet { newest: 1 }, .. }), "{refused}");
}

#[test]
fn a_preview_holds_for_the_state_that_it_was_made_from() {
    let house = House::new();
    patch(&house, json!({"a": 1}));
    let wish = json!({"b": 2});
    let preview = house.twins.preview(&house.filter, &Change::patch_desired(&wish, "x")).unwrap();
    assert_eq!(preview.desired().map(Value::Object), Some(json!({"a": 1, "b": 2})));
    let checked = Change::patch_desired(&wish, "x").on(&preview);
    Twins::wait(&house.filter, |done| house.twins.patch_reported(&house.filter, &json!({"busy": 1}), done)).unwrap();
    assert_eq!(change(&house, &checked).desired.version, 3, "reports do not disturb it");

    let refused = house.twins.change(&house.filter, &checked, |_| panic!("not called")).unwrap_err();
    assert!(matches!(refused, TwinError::Moved { .. }), "{refused}");
    let tags = json!({"tags": {"hall": 1}});
    let preview = house.twins.preview(&house.filter, &Change::patch(&tags, "x")).unwrap();
    assert_eq!(preview.desired(), None);
}

#[test]
fn a_replacement_empties_what_it_lacks_and_takes_no_nulls() {
    let house = House::new();
    change(&house, &Change::patch(&json!({"tags": {"hall": 3}, "properties": {"desired": {"a": 1}}}), "x"));
    let twin = change(&house, &Change::replace(&json!({"tags": {"hall": 4}}), "x"));
    assert_eq!((&*twin.tags.document, &*twin.desired.document), (r#"{"hall":4}"#, "{}"));
    let twin = change(&house, &Change::replace(&json!({"tags": null, "properties": {"desired": {"b": 1}}}), "x"));
    assert_eq!((&*twin.tags.document, &*twin.desired.document), ("{}", r#"{"b":1}"#));

    let nulls = json!({"tags": {"x": null}, "properties": {"desired": {"a": {"b": null}}}});
    let refused = house.twins.change(&house.filter, &Change::replace(&nulls, "x"), |_| panic!("not called"));
    let Err(TwinError::Invalid { violations, .. }) = refused else { panic!("{refused:?}") };
    let paths: Vec<_> = violations.iter().map(|v| v.path.as_str()).collect();
    assert_eq!(paths, ["tags.x", "properties.desired.a.b"]);
}
