use super::*;

fn problems(settings: Value) -> Vec<String> {
    serde_json::from_value::<Settings>(settings).unwrap().problems()
}

fn one(query: Value) -> Vec<String> {
    problems(json!({"checkpoint": "5s", "queries": {"q": query}}))
}

#[test]
fn a_query_needs_no_more_than_a_window() {
    let settings: Settings =
        serde_json::from_value(json!({"checkpoint": 5, "queries": {"load": {"window": {"size": "10s"}}}})).unwrap();
    assert_eq!(settings.problems(), [""; 0]);
    let query = settings.queries.iter().next().unwrap();
    let aggregates: Vec<String> = query.aggregates.iter().map(ToString::to_string).collect();
    assert_eq!(aggregates, ["mean", "min", "max", "stddev", "p50", "p90", "p95", "p99"]);
    assert_eq!((&*query.name, &*query.field, &*query.group_by), ("load", "value", &["name".to_owned()][..]));
    assert_eq!((query.window.hop(), query.lateness, query.max_groups), (Span::from_secs(10), Span::from_secs(2), 200));
}

#[test]
fn queries_are_given_by_name_or_in_a_list_and_written_back_alike() {
    let window = json!({"kind": "hopping", "size": "1m", "hop": "30s"});
    for queries in [json!({"a": {"window": window}}), json!([{"name": "a", "window": window}])] {
        let settings: Settings = serde_json::from_value(json!({"checkpoint": 5, "queries": queries})).unwrap();
        assert_eq!(settings.problems(), [""; 0]);
        let back: Settings = serde_json::from_value(serde_json::to_value(&settings).unwrap()).unwrap();
        assert_eq!(back, settings);
        assert_eq!(back.queries.iter().next().unwrap().name, "a");
    }
}

#[test]
fn everything_that_makes_no_sense_is_named_with_its_path() {
    for (query, said) in [
        (json!({"window": {"size": "50ms"}}), "queries.q.window.size: 50ms is not within 100ms to 31d"),
        (json!({"window": {"size": "32d"}}), "queries.q.window.size: 32d is not within"),
        (json!({"window": {"size": "10s", "hop": "5s"}}), "queries.q.window.hop: a tumbling window has none"),
        (json!({"window": {"kind": "hopping", "size": "10s"}}), "queries.q.window.hop: a hopping window needs one"),
        (json!({"window": {"kind": "hopping", "size": "10s", "hop": "11s"}}), "queries.q.window.hop: 11s is more than"),
        (json!({"window": {"kind": "hopping", "size": "10s", "hop": 0}}), "queries.q.window.hop: 0s is not within"),
        (json!({"window": {"kind": "hopping", "size": "1h", "hop": "1s"}}), "queries.q.window: 3602 windows would be"),
        (json!({"window": {"size": "1s"}, "lateness": "1h"}), "queries.q.window: 3601 windows would be"),
        (json!({"window": {"size": "1s"}, "field": "a..b"}), "queries.q.field: 'a..b' is not a path"),
        (json!({"window": {"size": "1s"}, "groupBy": ["name", "$line"]}), "queries.q.groupBy[1]: '$line' cannot be"),
        (json!({"window": {"size": "1s"}, "where": [{"field": "name"}]}), "queries.q.where[0]: asks nothing"),
        (json!({"window": {"size": "1s"}, "where": [{"field": "", "equals": 1}]}), "queries.q.where[0].field: ''"),
        (json!({"window": {"size": "1s"}, "aggregates": []}), "queries.q.aggregates: is empty"),
        (
            json!({"window": {"size": "1s"}, "aggregates": ["p50", "p50"]}),
            "queries.q.aggregates[1]: p50 is there twice",
        ),
        (json!({"window": {"size": "1s"}, "maxGroups": 0}), "queries.q.maxGroups: 0 is not within 1..=10000"),
    ] {
        let found = one(query.clone());
        assert!(found.len() == 1 && found[0].starts_with(said), "{query}: {found:?}");
    }
}

#[test]
fn names_are_plain_and_unique() {
    let window = json!({"size": "1s"});
    let list = json!([{"name": "a", "window": window}, {"name": "a", "window": window}, {"window": window}]);
    assert_eq!(
        problems(json!({"checkpoint": "1ms", "queries": list})),
        [
            "checkpoint: 1ms is not within 1s to 10m",
            "queries[1].name: there is another query 'a'",
            "queries[2].name: '' is not a name; use 1 to 64 letters, digits, '-' or '_'",
        ]
    );
    assert_eq!(problems(json!({"checkpoint": 5, "queries": {"a.b": {"window": window}}})).len(), 1);
}

#[test]
fn windows_go_on_where_they_hold_the_same() {
    let query = |patch: Value| -> Query {
        let mut query = json!({"window": {"size": "10s"}, "aggregates": ["mean"]});
        query.as_object_mut().unwrap().extend(patch.as_object().unwrap().clone());
        serde_json::from_value(query).unwrap()
    };
    let before = query(json!({}));
    for (patch, goes_on) in [
        (json!({}), true),
        (json!({"lateness": "5s", "emitEmpty": true, "maxGroups": 7, "aggregates": ["max"]}), true),
        (json!({"aggregates": ["mean", "p95"]}), false),
        (json!({"window": {"size": "20s"}}), false),
        (json!({"field": "other"}), false),
        (json!({"groupBy": []}), false),
        (json!({"where": [{"field": "name", "equals": "a"}]}), false),
        (json!({"quality": "bad"}), false),
        (json!({"time": "arrival"}), false),
    ] {
        assert_eq!(before.has_same_windows(&query(patch.clone())), goes_on, "{patch}");
    }
}
