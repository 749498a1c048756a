use serde_json::json;

use super::*;

fn at(line: u32, column: u32) -> Option<Place> {
    Some(Place { line, column })
}

fn json(text: &str) -> Document<'_> {
    Document::read(text, Some(Format::Json)).unwrap_or_else(|problem| panic!("{problem}"))
}

fn yaml(text: &str) -> Document<'_> {
    Document::read(text, Some(Format::Yaml)).unwrap_or_else(|problem| panic!("{text}: {problem}"))
}

fn told(document: &Document<'_>) -> Vec<String> {
    document.problems.iter().map(ToString::to_string).collect()
}

#[test]
fn keys_and_elements_are_found_again() {
    let text = "{\n  \"ä\": 1, \"b\": {\"c.d\": [true,\n null]},\n  \"e\": \"}\\\"\"\n}";
    let document = json(text);

    assert_eq!(document.place("b"), at(2, 11));
    assert_eq!(document.place("b.c.d"), at(2, 17));
    assert_eq!(document.place("b.c.d[1]"), at(3, 2));
    assert_eq!(document.place("e"), at(4, 3));
    assert_eq!(document.place("b.nothing.here"), at(2, 11));
    assert_eq!(document.written("e").map(|range| &text[range]), Some("\"}\\\"\""));
    assert!(document.problems.is_empty());
}

#[test]
fn keys_and_elements_of_yaml_are_found_again() {
    let text = "# note\r\nä: 1\r\nb:\r\n  c.d:\r\n  - true\r\n  - {x: 1, \"y\": [~]}\r\ne: 'it''s'\r\n";
    let document = yaml(text);

    assert_eq!(document.value, json!({"ä": 1, "b": {"c.d": [true, {"x": 1, "y": [null]}]}, "e": "it's"}));
    assert_eq!(document.place("b"), at(3, 1));
    assert_eq!(document.place("b.c.d"), at(4, 3));
    assert_eq!(document.place("b.c.d[1].y[0]"), at(6, 18));
    assert_eq!(document.place("b.c.d[1].z"), at(6, 5));
    assert_eq!(document.written("e").map(|range| &text[range]), Some("'it''s'"));
}

#[test]
fn a_place_within_a_text_counts_its_escapes() {
    let text = r#"{"r": "a\"\u00e4😀\ud83d\ude00 b"}"#;
    let document = json(text);
    let decoded = document.value["r"].as_str().unwrap();

    let place = document.place_within("r", decoded.find('b').unwrap());

    assert_eq!(place.map(|place| text.chars().nth(place.column as usize - 1)), Some(Some('b')));
}

#[test]
fn a_place_within_a_text_of_yaml_is_found_however_it_is_written() {
    for (text, place) in [
        ("r: from ä HERE", at(1, 11)),
        ("r: 'from ''ä'' HERE'", at(1, 16)),
        ("r: \"from \\\"\\x41\\u00e4\\U000000e4 HERE\"", at(1, 33)),
        ("r: \"from\\\n  \\ this HERE\"", at(2, 10)),
        ("r: \"from\n\n  this HERE\"", at(3, 8)),
        ("r: from\n  this\n  HERE", at(3, 3)),
        ("r: |\n  from\n\n    this HERE\n", at(4, 10)),
        ("r: >- # note\n  from\n  this\n  HERE\n", at(4, 3)),
        ("r: !!str &a >-\n  HERE\n", at(2, 3)),
    ] {
        let document = yaml(text);
        let offset = document.value["r"].as_str().unwrap().find("HERE").unwrap();
        assert_eq!(document.place_within("r", offset), place, "{text}");
    }
    assert_eq!(yaml("a: &a text\nr: *a").place_within("r", 2), None);
}

#[test]
fn keys_given_twice_are_all_reported() {
    assert_eq!(
        told(&json("{\"a\": {\"x\": 1,\n\"x\": 2}, \"a\": {\"x\": 1}}")),
        [
            "line 2, column 1: a.x: this key is given twice, first in line 1 (keep one of them)",
            "line 2, column 10: a: this key is given twice, first in line 1 (keep one of them)"
        ]
    );
    assert_eq!(
        told(&yaml("a:\n  x: 1\n  \"x\": 2\n")),
        ["line 3, column 3: a.x: this key is given twice, first in line 2 (keep one of them)"]
    );
}

#[test]
fn what_is_not_json_is_refused_at_its_place_with_a_hint() {
    for (text, place, hint) in [
        ("", at(1, 1), "the file is empty"),
        ("{\n  \"a\": 1,\n}", at(3, 1), "remove the comma"),
        ("{\n  // note\n  \"a\": 1}", at(2, 3), "JSON has no comments"),
        ("{'a': 1}", at(1, 2), "JSON takes double quotes only"),
        ("{\"a\": [1, 2", at(1, 11), "the file ends too early"),
        ("{\"ä\": 1 \"b\": 2}", at(1, 9), "a comma, quote or bracket"),
    ] {
        let problem = Document::read(text, Some(Format::Json)).err().unwrap_or_else(|| panic!("{text} was taken"));
        assert_eq!(problem.place, place, "{text}: {problem}");
        assert!(problem.hint.as_deref().unwrap().starts_with(hint), "{text}: {problem}");
    }
}

#[test]
fn what_is_not_yaml_is_refused_at_its_place_with_a_hint() {
    for (text, place, says) in [
        ("", at(1, 1), "the file is empty"),
        ("# only a note\n", at(2, 1), "the file is empty"),
        ("a:\n\tb: 1\n", at(2, 2), "indent with spaces"),
        ("a: b: c\n", at(1, 5), "put a text with a colon into quotes"),
        ("a: \"open\n", at(2, 1), "a quote is not closed"),
        ("a: [1, 2\n", at(1, 4), "a bracket is not closed"),
        ("a: *nowhere\n", at(1, 4), "has no anchor"),
        ("a: &a [*a]\n", at(1, 8), "within what it names"),
    ] {
        let problem = Document::read(text, Some(Format::Yaml)).err().unwrap_or_else(|| panic!("{text} was taken"));
        assert_eq!(problem.place, place, "{text}: {problem}");
        assert!(problem.to_string().contains(says), "{text}: {problem}");
    }
}

#[test]
fn what_json_has_not_is_a_problem_at_its_place() {
    for (text, expected) in [
        ("a: .nan", "line 1, column 4: a: is .nan, and JSON has no such number (put it in quotes, or leave it out)"),
        (
            "a:\n- 007",
            "line 2, column 3: a[0]: is 007, a number with leading zeros (write 7 for the number, \"007\" for the text)",
        ),
        (
            "a: !secret x",
            "line 1, column 12: a: the tag !secret has no meaning here (leave it out; there is !!str, !!int, !!float, !!bool, !!null)",
        ),
        (
            "a: !!set {x}",
            "line 1, column 10: a: the tag !!set has no meaning here (leave it out; there is !!str, !!int, !!float, !!bool, !!null)",
        ),
        ("a: !!int x", "line 1, column 10: a: is not what its tag !!int says (leave the tag out)"),
        ("a: {1: x}", "line 1, column 5: a: a key is a text, and this is none (put it in quotes: \"1\")"),
        ("{a: 1}: x", "line 1, column 1: a key is a text, and this is none (write a text before the colon)"),
        (
            "a: &a {x: 1}\nb:\n  <<: *a",
            "line 3, column 3: b: merge keys (<<) are not part of YAML 1.2 (repeat the keys, or use an alias (*name) for a whole value)",
        ),
        (
            "a: 1\n---\nb: 2",
            "line 2, column 1: a second document begins here (put each document into a file of its own)",
        ),
    ] {
        assert_eq!(told(&yaml(text)), [expected], "{text}");
    }
}

#[test]
fn yaml_1_2_is_read_and_its_tags_and_anchors_are_honoured() {
    let text =
        "%YAML 1.2\n---\na: &x {deep: [1]}\nb: *x\nc: !!str 1\nd: !!float 2\ne: ! 3\nf: no\n&k g: h\n*k : i\n...\n";
    let value = json!({"a": {"deep": [1]}, "b": {"deep": [1]}, "c": "1", "d": 2.0, "e": "3", "f": "no", "g": "i"});
    let document = yaml(text);
    assert_eq!(document.value, value);
    assert_eq!(told(&document), ["line 10, column 1: g: this key is given twice, first in line 9 (keep one of them)"]);
    assert_eq!(yaml("\u{feff}a: 1\r\n").value, json!({"a": 1}));
}

#[test]
fn aliases_cannot_be_made_into_a_bomb() {
    let mut laughs = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    let mut tower = "a0: &a0 [1]\n".to_owned();
    for level in 1..200 {
        let last = format!("*a{}", level - 1);
        laughs += &format!("a{level}: &a{level} [{}]\n", [last.as_str(); 9].join(", "));
        tower += &format!("a{level}: &a{level} [{last}]\n");
    }
    for (text, says) in [(laughs, "aliases repeat more than"), (tower, "nested deeper than")] {
        let problem = Document::read(&text, None).err().unwrap();
        assert!(problem.message.starts_with(says) && problem.place.is_some(), "{problem}");
    }
}

#[test]
fn what_is_nested_too_deeply_is_refused() {
    for text in ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(100_000), "? ".repeat(10_000)] {
        for format in [Format::Json, Format::Yaml] {
            assert!(Document::read(&text, Some(format)).is_err());
        }
    }
    let deep = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    assert!(Document::read(&deep(127), Some(Format::Yaml)).is_ok());
    assert!(Document::read(&deep(129), Some(Format::Yaml)).is_err());
}

#[test]
fn long_paths_are_not_kept_for_every_element() {
    let text = format!("{{\"{}\": [{}1]}}", "k".repeat(100_000), "1,".repeat(100_000));
    let document = json(&text);
    assert!(document.spots.bytes < 10 << 20, "{}", document.spots.bytes);
}

#[test]
fn block_text_at_the_margin_that_begins_like_a_quoted_one_has_places() {
    for (text, offset, column) in [(">\n''ä", 2, 3), (">\n''ä", 4, 4), ("|\n\"\\xä", 3, 4)] {
        let document = Document::read(text, Some(Format::Yaml)).unwrap();
        let place = document.place_within("", offset).unwrap();
        assert_eq!((place.line, place.column), (2, column), "{text:?} {offset}");
    }
    // As far as it can be told: nothing panics.
    for text in ["|\n\"\\xä\"", ">\n''ä'"] {
        let document = Document::read(text, Some(Format::Yaml)).unwrap();
        assert!((0..9).all(|offset| document.place_within("", offset).is_none_or(|place| place.line > 0)));
    }
}

#[test]
fn the_text_decides_where_nothing_else_does() {
    let read = |text| Document::read(text, None).map(|document| (document.format, document.value));
    assert_eq!(read("{\"a\": 1}"), Ok((Format::Json, json!({"a": 1}))));
    assert_eq!(read("a: 1"), Ok((Format::Yaml, json!({"a": 1}))));
    assert_eq!(read("{a: 1}"), Ok((Format::Yaml, json!({"a": 1}))));
    assert!(read("{\"a\": 1, \"b\" 2").unwrap_err().message.starts_with("not JSON"));
    let names = ["a.json", "b.YML", "/x.y/c.yaml", "d", "e.txt"].map(Format::of_name);
    assert_eq!(names, [Some(Format::Json), Some(Format::Yaml), Some(Format::Yaml), None, None]);
}

fn any_value() -> impl proptest::strategy::Strategy<Value = Value> {
    use proptest::prelude::*;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i32>().prop_map(|number| Value::from(f64::from(number) / 64.0)),
        "[ -~äé\\n\\t\u{85}\u{2028}]{0,12}".prop_map(Value::from),
        "(no|null|~|1|0x1|- a|a: b|#|a #b|\\*x|&y|!z|%|@|`|\\||>|---|\\.\\.\\.)".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec(("[ -~ä]{0,6}", inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest::proptest! {
    #[test]
    fn every_json_text_can_be_walked(text in "[\\[\\]{}\",:0a\\\\u \\n]{0,40}") {
        if let Ok(document) = Document::read(&text, Some(Format::Json)) {
            document.place("a.b[0]");
            document.place_within("", 3);
        }
    }

    #[test]
    fn no_text_makes_the_reader_of_yaml_panic(text in "[-\\[\\]{}\"'&*!|>%@?:,#0a\\\\u. \\t\\r\\nä~<]{0,60}") {
        for format in [None, Some(Format::Yaml)] {
            if let Ok(document) = Document::read(&text, format) {
                for path in document.spots.by_path.keys() {
                    document.place(path);
                    for offset in 0..8 {
                        document.place_within(path, offset);
                    }
                }
            }
        }
    }

    #[test]
    fn no_bytes_make_a_reader_panic(text in proptest::prelude::any::<String>()) {
        drop(Document::read(&text, None));
        drop(Document::read(&text, Some(Format::Yaml)));
    }

    #[test]
    fn what_is_written_as_yaml_reads_back_the_same(value in any_value()) {
        let text = to_yaml(&value);
        let document = Document::read(&text, Some(Format::Yaml)).map_err(|problem| format!("{problem}\n{text}"));
        let document = document.map_err(proptest::test_runner::TestCaseError::fail)?;
        proptest::prop_assert_eq!(&document.value, &value, "{}", text);
        proptest::prop_assert!(document.problems.is_empty(), "{}", text);
    }

    #[test]
    fn json_is_yaml(value in any_value()) {
        for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            let as_json = Document::read(&text, Some(Format::Json)).map_err(|p| proptest::test_runner::TestCaseError::fail(p.to_string()))?;
            let as_yaml = Document::read(&text, Some(Format::Yaml)).map_err(|p| proptest::test_runner::TestCaseError::fail(format!("{p}\n{text}")))?;
            proptest::prop_assert_eq!(&as_json.value, &as_yaml.value, "{}", text);
        }
    }
}
