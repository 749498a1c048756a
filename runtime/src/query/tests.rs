use proptest::prelude::*;
use serde_json::json;

use super::*;

fn twin() -> Value {
    json!({
        "deviceId": "press-1", "moduleId": "filter", "status": "enabled", "connectionState": "Connected", "version": 7,
        "tags": {"hall": 3, "name": "Süd", "my-tag": "x", "note": null, "in": 1, "active": true, "place": {"row": 1}},
        "properties": {
            "desired": {"limit": 70.5, "$version": 4},
            "reported": {"limit": 70.5, "list": [1], "a": {"b": {"c": -2}}, "big": 4503599627370495_i64, "$version": 9}
        }
    })
}

fn matches(condition: &str) -> bool {
    let query = Query::parse(&format!("SELECT * FROM devices WHERE {condition}"));
    let query = query.unwrap_or_else(|error| panic!("{condition}: {error}\n{}", error.shown));
    let twin = twin();
    query.matches(&|path| path.within(&twin, 0))
}

#[test]
fn conditions_select_as_at_iot_hub() {
    for (condition, expected) in [
        ("tags.hall = 3", true),
        ("tags.hall = 3.0", true),
        ("tags.hall != 3", false),
        ("tags.hall <> 4", true),
        ("tags.hall>=3 and tags.hall<=3", true),
        ("tags.hall > 3", false),
        ("3 < tags.hall OR tags.name = \"Süd\"", true),
        ("tags.name = 'S\\u00fcd'", true),
        ("tags.name > 'A'", true),
        ("deviceId = 'press-1' AND moduleId IN ['insight', 'filter']", true),
        ("DeviceID = 'press-1'", true),
        ("deviceId = 'PRESS-1'", false),
        ("moduleId NIN ['insight', 'filter']", false),
        ("moduleId NIN ['insight']", true),
        ("tags.hall IN ['3', null, true]", false),
        ("tags.[[my-tag]] = 'x'", true),
        ("tags[[my-tag]] = 'x'", true),
        ("tags.in = 1", true),
        ("tags.active", true),
        ("NOT tags.active", false),
        ("tags.active = true", true),
        ("tags.active < true", false),
        ("tags.place.row = 1", true),
        ("properties.reported.a.b.c = -2", true),
        ("properties.desired.limit = properties.reported.limit", true),
        ("properties.desired.$version = 4", true),
        ("properties.reported.big = 4503599627370495", true),
        ("properties.reported.big = 4503599627370494", false),
        ("tags.hall = 0x3", true),
        ("tags.hall > -0x7fffffffffffffff", true),
        ("version >= 1e0", true),
        ("connectionState = 'Connected' AND status = 'enabled'", true),
        ("IS_DEFINED(tags.hall)", true),
        ("is_defined(tags.nothing)", false),
        ("NOT IS_DEFINED(tags.nothing)", true),
        ("IS_DEFINED(tags.note)", true),
        ("(tags.hall = 1 OR tags.hall = 3) AND NOT (tags.name = 'Nord')", true),
        ("tags.hall = 1 AND tags.hall = 3 OR true", true),
        ("NOT tags.hall = 1", true),
        ("true", true),
        ("'true'", false),
        ("1", false),
        ("null", false),
    ] {
        assert_eq!(matches(condition), expected, "{condition}");
    }
}

#[test]
fn logic_has_three_values() {
    for (condition, expected) in [
        // Undefined is not true, and neither is its opposite.
        ("tags.nothing = 1", false),
        ("NOT tags.nothing = 1", false),
        ("tags.nothing != 1", false),
        ("tags.nothing NIN [1]", false),
        ("tags.nothing = null", false),
        ("tags.nothing = 1 OR true", true),
        ("NOT (tags.nothing = 1 AND false)", true),
        ("NOT (tags.nothing = 1 OR false)", false),
        // Null is a value.
        ("tags.note = null", true),
        ("tags.note != null", false),
        ("tags.hall != null", true),
        ("tags.note < 1", false),
        // Of different types, and of objects and lists, nothing is said.
        ("tags.hall = '3'", false),
        ("NOT tags.hall = '3'", false),
        ("tags.hall != '3'", false),
        ("properties.reported.list = properties.reported.list", false),
        ("tags.place = tags.place", false),
        ("NOT tags.name", false),
    ] {
        assert_eq!(matches(condition), expected, "{condition}");
    }
}

#[test]
fn selections_have_their_names() {
    let selection = |text: &str| Query::parse(text).unwrap().selection;
    assert_eq!(selection("SELECT * FROM devices"), Selection::Whole);
    assert_eq!(selection("select count() from devices"), Selection::Count("$1".into()));
    assert_eq!(selection("SELECT COUNT() AS total FROM devices.modules"), Selection::Count("total".into()));
    let Selection::Fields(fields) = selection("SELECT deviceId, tags.[[my-tag]], tags.hall AS h FROM devices") else {
        panic!("no fields");
    };
    assert_eq!(fields.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["deviceId", "my-tag", "h"]);
    assert_eq!(Query::parse("SELECT * FROM devices.modules").unwrap().collection, Collection::Modules);
}

#[test]
fn a_refusal_names_the_place_and_what_is_possible() {
    for (text, column, message, hint) in [
        ("", 1, "expected SELECT, found the end", "as in SELECT"),
        ("SELCT * FROM devices", 1, "expected SELECT, found SELCT", "did you mean SELECT?"),
        ("SELECT FROM devices", 8, "expected what is to be selected, found FROM", "COUNT()"),
        ("SELECT TOP 3 * FROM devices", 8, "TOP is no part", "x-ms-max-item-count"),
        ("SELECT COUNT(*) FROM devices", 14, "expected ')', found *", "COUNT() takes nothing"),
        ("SELECT COUNT(), deviceId FROM devices", 15, "stands alone", "GROUP BY"),
        ("SELECT AVG(tags.a) FROM devices", 8, "only function here", "compute"),
        ("SELECT deviceId, deviceId FROM devices", 18, "two fields are called 'deviceId'", "AS"),
        ("SELECT * FROM jobs", 15, "no collection 'jobs'", "devices.modules"),
        ("SELECT * FROM devices.jobs", 23, "no collection 'devices.jobs'", "devices.modules"),
        ("SELECT * FROM devices x", 23, "expected WHERE or the end", "as in"),
        ("SELECT * FROM devices WHERE", 28, "expected a value, found the end", "tags.hall"),
        ("SELECT * FROM devices WHERE tag.hall = 3", 29, "a twin has no 'tag'", "did you mean tags?"),
        ("SELECT * FROM devices WHERE reported.x = 3", 29, "a twin has no 'reported'", "write properties.reported"),
        ("SELECT * FROM devices WHERE properties.report.x = 3", 40, "no 'report'", "properties.desired"),
        ("SELECT * FROM devices WHERE tags.my-tag = 3", 36, "'-' has no meaning", "[[my-tag]]"),
        ("SELECT * FROM devices WHERE tags.a = 'x", 38, "does not end", "close it with '"),
        ("SELECT * FROM devices WHERE tags.a = 'x\\q'", 40, "escape", "\\uXXXX"),
        ("SELECT * FROM devices WHERE tags.a = 3x", 38, "3x is not a number", "as in 3"),
        ("SELECT * FROM devices WHERE tags.a == 3", 37, "expected a value, found =", "a path such as"),
        ("SELECT * FROM devices WHERE tags.a NOT IN [3]", 36, "NOT does not stand here", "NIN"),
        ("SELECT * FROM devices WHERE tags.a IN (3)", 39, "expected '[', found (", "brackets"),
        ("SELECT * FROM devices WHERE tags.a IN []", 40, "found ]", "brackets"),
        ("SELECT * FROM devices WHERE tags.a LIKE 'x'", 36, "LIKE is no part", "possible are"),
        ("SELECT * FROM devices WHERE STARTSWITH(tags.a, 'x')", 29, "no function STARTSWITH", "IS_DEFINED(path)"),
        ("SELECT * FROM devices WHERE (tags.a = 3", 40, "expected ')', found the end", "possible are"),
        ("SELECT * FROM devices WHERE tags.a[0] = 3", 35, "no way into lists", "two"),
        ("SELECT * FROM devices WHERE tags.[[]] = 3", 34, "no name in the brackets", "[["),
        ("SELECT * FROM devices WHERE true GROUP BY tags.a", 34, "GROUP is no part", "ends with its condition"),
        ("SELECT * FROM devices WHERE tags.a = 3;", 39, "';' has no meaning", "leave it out"),
    ] {
        let error = Query::parse(text).unwrap_err();
        assert_eq!((error.line, error.column), (1, column), "{text}: {error}");
        assert!(error.message.contains(message), "{text}: {}", error.message);
        assert!(error.hint.contains(hint), "{text}: {}", error.hint);
        assert_eq!(error.shown.lines().last().unwrap().chars().count(), column, "{}", error.shown);
    }
    let error = Query::parse("SELECT *\n  FROM devices\n  WHERE tags.a ! 3").unwrap_err();
    assert_eq!((error.line, error.column), (3, 16));
    assert_eq!(error.shown, "  WHERE tags.a ! 3\n               ^");
}

#[test]
fn length_and_depth_are_bounded() {
    let long = format!("SELECT * FROM devices WHERE tags.a = '{}'", "x".repeat(MAX_BYTES));
    assert!(Query::parse(&long).unwrap_err().message.contains("more than 8192"));
    let nested = |n: usize| format!("SELECT * FROM devices WHERE {}true{}", "(".repeat(n), ")".repeat(n));
    assert!(Query::parse(&nested(MAX_DEPTH)).is_ok());
    assert!(Query::parse(&nested(MAX_DEPTH + 1)).unwrap_err().message.contains("32 deep"));
    let not = format!("SELECT * FROM devices WHERE {} true", "NOT ".repeat(2000));
    assert!(Query::parse(&not).unwrap_err().message.contains("32 deep"));
    let flat = format!("SELECT * FROM devices WHERE {} true", "tags.a = 1 OR ".repeat(500));
    assert!(Query::parse(&flat).is_ok());
}

/// Text that is nearly a query.
fn nearly() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "SELECT",
        "FROM",
        "WHERE",
        "AND",
        "OR",
        "NOT",
        "IN",
        "NIN",
        "AS",
        "COUNT",
        "()",
        "(",
        ")",
        "[",
        "]",
        "[[",
        "]]",
        ",",
        ".",
        "*",
        "devices",
        "devices.modules",
        "tags",
        "tags.a",
        "properties",
        "reported",
        "IS_DEFINED",
        "=",
        "!=",
        "<>",
        "<",
        ">=",
        "'a'",
        "\"",
        "'",
        "\\",
        "1",
        "-1",
        "0x",
        "0x-5",
        "-0x-8000000000000000",
        "--0x1",
        "1e",
        "-",
        "null",
        "true",
        "é",
        "\n",
        "\u{0}",
        " ",
    ]);
    prop::collection::vec((word, any::<bool>()), 0..40).prop_map(|words| {
        words.into_iter().map(|(word, space)| format!("{word}{}", if space { " " } else { "" })).collect()
    })
}

#[test]
fn a_sign_behind_0x_is_none() {
    for text in ["0x-5", "-0x-8000000000000000", "-0x-7fffffffffffffff", "0x8000000000000000"] {
        let refused = Query::parse(&format!("SELECT * FROM devices WHERE version = {text}")).unwrap_err();
        assert!(refused.to_string().contains("is not a number"), "{text}: {refused}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in prop_oneof![any::<String>(), nearly(), nearly().prop_map(|t| format!("SELECT * FROM devices WHERE {t}"))]) {
        let twin = twin();
        match Query::parse(&text) {
            Ok(query) => { query.matches(&|path| path.within(&twin, 0)); }
            Err(error) => {
                prop_assert!(!error.hint.is_empty() && !error.message.is_empty());
                prop_assert!(error.shown.ends_with('^'));
            }
        }
    }

    #[test]
    fn every_value_is_found_again(text in "[^\\\\'\"\\p{C}]{0,20}", number in any::<i32>()) {
        let twin = json!({"tags": {"t": text, "n": number}});
        let query = Query::parse(&format!("SELECT * FROM devices WHERE tags.t = '{text}' AND tags.n = {number}")).unwrap();
        prop_assert!(query.matches(&|path| path.within(&twin, 0)));
    }
}
