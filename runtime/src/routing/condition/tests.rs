use super::*;
use crate::message::Message;
use crate::routing::{MAX_ROUTE_BYTES, Route, Selection, Trial};

fn problems(condition: &str) -> Vec<(u32, String, String)> {
    let text = format!("FROM /* WHERE {condition} INTO $upstream");
    let errors = Route::parse(&text).err().unwrap_or_else(|| panic!("{condition} was taken"));
    errors.into_iter().map(|error| (error.column - 14, error.message, error.hint.unwrap())).collect()
}

#[test]
fn mistakes_are_told_at_their_place_with_what_to_write() {
    for (condition, column, hint) in [
        ("level > 3", 1, "a property is always a string: write as_number(level) > 3"),
        ("3 <= level", 6, "a property is always a string: write 3 <= as_number(level)"),
        ("on = true", 1, "a property is always a string: write on = 'true'"),
        ("level = null", 1, "whether it is there is asked by is_defined(level)"),
        ("a = 'x' AND starts_wth(b, 'x')", 13, "did you mean starts_with?"),
        ("a = 'x' AND NOT b = 'y'", 17, "NOT binds tighter than a comparison: write NOT (a = b)"),
        ("a == 'x'", 3, "write ="),
        ("a = 'x' && b = 'y'", 9, "write AND"),
        ("a = 'x' an b = 'y'", 9, "did you mean AND?"),
        ("concat(a, 3) = 'x'", 11, "texts stand in quotes: '3'"),
        ("substring(a) = 'x'", 1, "as in substring(text, start[, length])"),
        ("(a ?? 'x' = 'y')", 2, "?? binds weaker than all else: it may need parentheses, as in (a ?? 'b') = 'c'"),
        ("a IN ('x')", 3, "there is no IN; compare with each value: a = 'x' OR a = 'y'"),
        ("(a = 'x'", 1, "close it with )"),
        ("a = ‘x’", 5, "write straight quotes: 'text' or \"text\""),
        ("(a) > (3 + 4)", 2, "a property is always a string: write as_number((a)) > (3 + 4)"),
        ("a = 0x10000000000000000", 5, "as in 0x1F; a text stands in quotes"),
    ] {
        let found = problems(condition);
        assert_eq!((found[0].0, found[0].2.as_str()), (column, hint), "{condition}: {found:?}");
    }
}

#[test]
fn all_mistakes_of_a_condition_are_told_at_once_with_that_of_source_and_sink() {
    let found = problems("level > 3 AND lenght(name) = 1 OR abs('x', 2) = 1 AND NOT 3");
    let columns: Vec<u32> = found.iter().map(|(column, ..)| *column).collect();
    assert_eq!(columns, [1, 15, 35, 59], "{found:?}");

    let text = "FROM /message/* WHERE level > 3 INTO $upsteam";
    let columns: Vec<u32> = Route::parse(text).unwrap_err().iter().map(|error| error.column).collect();
    assert_eq!(columns, [7, 23, 38]);
}

#[test]
fn the_caret_stands_under_the_place_in_a_condition_of_several_lines() {
    let text = "FROM /messages/*\nWHERE level = 'high'\n  AND größe > 3\nINTO $upstream";
    let error = &Route::parse(text).unwrap_err()[0];
    assert_eq!((error.line, error.column), (3, 7));
    assert_eq!(error.render(text), "  AND größe > 3\n      ^");
}

#[test]
fn what_is_hardly_meant_is_said() {
    for (condition, note) in [
        ("level", "the condition is never true: it is a text, and a property is always a text"),
        ("3", "the condition is never true: it is a number"),
        ("a = high", "high is taken for a property of this name; a text stands in quotes: 'high'"),
        ("$body.a >= b", "b is taken for a property of this name; a text stands in quotes: 'b'"),
        ("True", "True is taken for a property of this name: write true"),
        ("a+b = 'x'", "'a+b' is one name; put spaces around operators if it is not meant so"),
        ("$contentTyp = 'x'", "$contentTyp is none of the known system properties; did you mean $contentType?"),
        (
            "$twin.tags.a = 'x'",
            "$twin.tags.a is undefined, unless a property is called so: routes on a device know no twins",
        ),
        (
            "$body = 'x'",
            "$body alone is undefined, unless a property is called so: name a part of it, as in $body.level",
        ),
        ("{$body} = 'x'", "$body alone is never defined: name a part of it, as in $body.level"),
        ("$body.a+1 = 3", "'$body.a+1' is one name; put spaces around operators if it is not meant so"),
        (
            "EnqueuedTime > '2026'",
            "EnqueuedTime is taken for a property of this name; the system property is $enqueuedTime",
        ),
    ] {
        let route = Route::parse(&format!("FROM /* WHERE {condition} INTO $upstream")).unwrap();
        assert_eq!(route.notes[0], note, "{condition}");
    }
    for plain in ["$contentType = 'x' AND $dt-subject = 'y'", "'high' = level", "$body.a-1 = 3"] {
        assert_eq!(Selection::parse(&format!("FROM /* WHERE {plain}")).unwrap().notes, [""; 0], "{plain}");
    }
}

#[test]
fn hints_say_what_was_meant() {
    for (condition, hint) in [
        ("$twin.tags.floor = 1", "routes on a device know no twins"),
        ("body.temperature > 20", "a part of the body is written $body.temperature"),
        ("20 < body.temperature", "a part of the body is written $body.temperature"),
        ("abs($body) > 2", "name a part of the body"),
        ("$body/temperature > 20", "name a part of the body"),
        ("temp*2 > 5", "it is one name: put spaces around operators"),
        ("level > 5", "a property is always a string: write as_number(level) > 5"),
        ("is_object($body.x)", "IoT Hub has it; routes on a device have is_defined"),
        ("a = 'it''s'", "a quote within a text is written \\'"),
        ("a = 'x' -- why", "a comment is written /* … */"),
        ("a = 'x';", "leave it out"),
        ("!flag", "write NOT"),
    ] {
        let error = Route::parse(&format!("FROM /* WHERE {condition} INTO $upstream")).unwrap_err().remove(0);
        assert!(error.hint.as_deref().unwrap().starts_with(hint), "{condition}: {error:?}");
    }
    for (source, hint) in [
        ("/messages/events", "what devices send is at /messages/*"),
        ("/messages/\\*", "write * alone for all"),
        ("/messages/*INTO", "put a space before INTO"),
    ] {
        let error = Route::parse(&format!("FROM {source} $upstream")).unwrap_err().remove(0);
        assert!(error.hint.as_deref().unwrap().starts_with(hint), "{source}: {error:?}");
    }
}

#[test]
fn all_mistakes_are_told_at_once_whatever_they_are() {
    let messages = |text: &str| -> Vec<String> {
        Route::parse(text)
            .unwrap_err()
            .into_iter()
            .map(|error| format!("{}: {}", error.column, error.message))
            .collect()
    };
    assert_eq!(
        messages("FROM /bad/* WHERE a == 'x' && b > 3 INTO $upstrem"),
        [
            "7: there is no source /bad",
            "21: '==' is no operator",
            "28: '&&' is no operator",
            "31: b is a property, and that is always a text; it cannot be compared with a number",
            "42: '$upstrem' is not a sink",
        ]
    );
    // What stands behind a mistake that nobody can read past is not known, but for the sink.
    assert_eq!(
        messages("FROM /* WHERE a ~ 'x' AND b > 3 INTO BrokeredEndpoint('/x')"),
        ["17: expected an operator, found '~'", "56: BrokeredEndpoint needs the path of an input, not \"/x\""]
    );
    assert_eq!(messages("FROM /* WHERE a = 'x INTO $upstream"), ["19: the text in quotes does not end"]);
    let many = messages(&format!("FROM /* WHERE {}a = 3 INTO $upstream", "a = 3 AND ".repeat(29)));
    assert_eq!((many.len(), many[20].as_str()), (21, "205: behind this, 10 more mistakes"));
}

#[test]
fn depth_and_length_are_bounded() {
    let deep = |depth: usize| format!("{}true{}", "(".repeat(depth), ")".repeat(depth));
    let read = |condition: &str| Selection::parse(&format!("FROM /* WHERE {condition}"));
    assert!(read(&deep(MAX_DEPTH)).is_ok());
    assert!(read(&deep(MAX_DEPTH + 1)).unwrap_err()[0].message.contains("64 deep"));
    for more in ["NOT ", "- ", "-(", "abs(", "lower(", "NOT(", "a AND ("] {
        assert!(read(&more.repeat(MAX_DEPTH + 1)).unwrap_err()[0].message.contains("64 deep"), "{more}");
    }
    // Chains are no depth.
    let (message, empty) = (Message::new(*b""), Vec::new());
    let view = MessageView::of(&message, &empty);
    for (chain, truth) in [
        (format!("true{}", " AND true".repeat(3_000)), Truth::True),
        (format!("a = 'x'{}", " OR a = 'x'".repeat(2_000)), Truth::Undefined),
        (format!("0{} = 6000", " + 1".repeat(6_000)), Truth::True),
        (format!("concat('x'{}) = 'y'", ", 'x'".repeat(5_000)), Truth::False),
        (format!("true{}", " = true".repeat(4_000)), Truth::True),
        (format!("{}true", "a = 'x' ?? ".repeat(2_000)), Truth::True),
    ] {
        assert_eq!(read(&chain).unwrap().condition.unwrap().evaluate(&view), truth, "{}", &chain[..40]);
        let text = format!("FROM /* WHERE {chain}");
        assert_eq!(Trial::of(&text, &view).unwrap().condition.unwrap().truth, truth);
    }
    let long = format!("'{}' = a", "x".repeat(1 << 20));
    assert!(read(&long).unwrap_err()[0].message.contains("at most 32768"));
    assert!(Route::parse(&"(".repeat(1 << 20)).is_err());
    assert!(read(&" ".repeat(MAX_ROUTE_BYTES - 20)).is_err());
    let many: Vec<String> = (0..=MAX_PATHS).map(|n| format!("$body.p{n}")).collect();
    assert!(read(&many.join(" OR ")).unwrap_err()[0].message.contains("more than 64 parts"));
}

#[test]
fn a_text_that_would_fill_the_memory_is_undefined() {
    let mut message = Message::new(*b"");
    message.properties = vec![("a".into(), "x".repeat(100_000))];
    let meta = message.encode_meta();
    let view = MessageView::of(&message, &meta);
    let test = |condition: &str| {
        Selection::parse(&format!("FROM /* WHERE {condition}")).unwrap().condition.unwrap().evaluate(&view)
    };
    assert_eq!(test("length(a || a) = 200000"), Truth::True);
    assert_eq!(test("is_defined(concat(a, a, a))"), Truth::False);
}

#[test]
fn conditions_of_one_message_share_what_was_read_of_its_body() {
    let read = |text: &str| Selection::parse(&format!("FROM /* WHERE {text}")).unwrap().condition.unwrap();
    let mut paths = BodyPaths::default();
    let tests = ["$body.a = 1", "$body.b.c = 'x'", "$body.b.c = 'y' OR $body.a = 1", "$body.z = 1"]
        .map(|text| read(text).among(&mut paths));
    let mut message = Message::new(*br#"{"a": 1, "b": {"c": "x"}}"#);
    message.system.content_type = Some("application/json".into());
    message.system.content_encoding = Some("utf-8".into());
    let meta = message.encode_meta();

    let asked = Asked::new(MessageView::of(&message, &meta), &paths);

    let found = tests.map(|test| test.evaluate(&asked));
    assert_eq!(found, [Truth::True, Truth::True, Truth::True, Truth::Undefined]);
}

#[test]
fn the_part_that_decided_is_marked() {
    let mut message = Message::new(*b"");
    message.properties = vec![("level".into(), "high".into()), ("n".into(), "3".into())];
    let meta = message.encode_meta();
    let view = MessageView::of(&message, &meta);
    let deciding = |condition: &str| -> Vec<String> {
        let trial = Trial::of(&format!("FROM /* WHERE {condition}"), &view).unwrap();
        let parts = trial.condition.unwrap().parts;
        parts.into_iter().filter(|p| p.is_deciding).map(|p| format!("{}: {}", p.text, p.value)).skip(1).collect()
    };
    assert_eq!(deciding("level = 'low' AND n = '3'"), ["level = 'low': false", "level: \"high\""]);
    assert_eq!(deciding("level = 'low' OR n = '3'"), ["n = '3': true", "n: \"3\""]);
    assert_eq!(
        deciding("(level = 'low' OR (n) = ('3')) AND NOT (n = '4')"),
        [
            "level = 'low' OR (n) = ('3'): true",
            "(n) = ('3'): true",
            "n: \"3\"",
            "NOT (n = '4'): true",
            "n = '4': false",
            "n: \"3\""
        ],
        "parentheses are shown in pairs"
    );
    assert_eq!(deciding("level = 'high' AND missing = 'x'"), ["missing = 'x': undefined", "missing: undefined"]);
    assert_eq!(
        deciding("level = 'high' AND as_number(n) > 2"),
        ["level = 'high': true", "level: \"high\"", "as_number(n) > 2: true", "as_number(n): 3", "n: \"3\""]
    );
}

#[test]
fn an_unread_body_has_its_reason() {
    let remarks = |content_type: Option<&str>, body: &str| {
        let mut message = Message::new(body);
        message.system.content_type = content_type.map(str::to_owned);
        message.system.content_encoding = Some("utf-8".into());
        let meta = message.encode_meta();
        Trial::of("FROM /* WHERE $body.a = 1", &MessageView::of(&message, &meta)).unwrap().condition.unwrap().remarks
    };
    assert_eq!(remarks(None, "{}"), ["the message has no contentType; for $body it has to be application/json"]);
    assert_eq!(remarks(Some("text/plain"), "{}"), ["the message's contentType is not application/json"]);
    assert_eq!(
        remarks(Some("application/json"), "{"),
        ["the message's body is not the JSON that its contentType says"]
    );
    assert_eq!(remarks(Some("application/json"), "{}"), [""; 0]);
}

proptest::proptest! {
    /// Values that are made one after the other, none left out, and the steps that skip say the same.
    #[test]
    fn skipping_changes_nothing(condition in condition()) {
        let mut message = Message::new(*br#"{"a": 1, "b": true, "c": null, "d": "x", "e": {}}"#);
        message.properties = vec![("a".into(), "x".into()), ("n".into(), "3".into())];
        message.system.content_type = Some("application/json".into());
        message.system.content_encoding = Some("utf-8".into());
        let meta = message.encode_meta();
        let view = MessageView::of(&message, &meta);
        let text = format!("FROM /* WHERE {condition}");
        if let Ok(selection) = Selection::parse(&text) {
            let truth = selection.condition.unwrap().evaluate(&view);
            proptest::prop_assert_eq!(Trial::of(&text, &view).unwrap().condition.unwrap().truth, truth);
        }
    }
}

/// Conditions, most of them well typed.
fn condition() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::prelude::*;
    let leaf = prop::sample::select(vec![
        "true",
        "false",
        "null",
        "undefined",
        "a = 'x'",
        "a = 'y'",
        "z = 'x'",
        "$body.a = 1",
        "$body.b",
        "$body.c",
        "$body.e",
        "$body.z",
        "as_number(n) > 2",
        "$body.a + 1 > 2",
        "is_defined(z)",
        "contains(a, 'x')",
        "1 < $body.d",
    ]);
    leaf.prop_map(str::to_owned).prop_recursive(6, 40, 3, |inner| {
        let operators = prop::sample::select(vec!["AND", "OR", "??", "=", "!=", "<"]);
        prop_oneof![
            (inner.clone(), operators, inner.clone()).prop_map(|(a, operator, b)| format!("{a} {operator} {b}")),
            inner.clone().prop_map(|inner| format!("({inner})")),
            inner.prop_map(|inner| format!("NOT ({inner})")),
        ]
    })
}
