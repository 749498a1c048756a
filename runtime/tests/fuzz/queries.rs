//! The query language: every text is a query or is told where it is not; what it means does not depend on how it is put.

use dinrail::query::Query;
use serde_json::{Value, json};

use super::engine::{Chance, Target, fuzz};
use super::languages;

#[test]
fn every_text_is_a_query_or_is_told_where_it_is_not() {
    fuzz(&Target {
        name: "queries",
        generate: &|chance| query(chance).into_bytes(),
        words: &[
            "SELECT ",
            "* ",
            "COUNT() ",
            "AS ",
            "FROM ",
            "devices",
            "devices.modules",
            " WHERE ",
            " AND ",
            " OR ",
            " NOT ",
            "(",
            ")",
            "[",
            "]",
            "[[",
            "]]",
            ",",
            "=",
            "!=",
            "<>",
            "<=",
            ">",
            " IN ",
            " NIN ",
            "IS_DEFINED(",
            "true",
            "null",
            "'",
            "\"",
            "\\u0041",
            "0x1F",
            "1e999",
            "-0",
            ".5",
            "properties.reported.a",
            "tags.a.b",
            "deviceId",
            "ü",
            "\u{0}",
            "\n",
        ],
        run: &run,
    });
}

fn query(chance: &mut Chance) -> String {
    let selection = *chance.pick(&[
        "*",
        "COUNT()",
        "COUNT() AS n",
        "deviceId",
        "deviceId AS d, tags.a",
        "properties.reported.a AS x",
    ]);
    let collection = *chance.pick(&["devices", "devices.modules"]);
    if chance.one_in(5) {
        return format!("SELECT {selection} FROM {collection}");
    }
    let depth = if chance.one_in(20) { 40 } else { 4 };
    format!("SELECT {selection} FROM {collection} WHERE {}", condition(chance, depth))
}

fn condition(chance: &mut Chance, depth: usize) -> String {
    let below = depth.saturating_sub(1);
    match if depth == 0 { 0 } else { chance.below(7) } {
        1 => format!("{} AND {}", condition(chance, below / 2), condition(chance, below / 2)),
        2 => format!("{} OR {}", condition(chance, below / 2), condition(chance, below / 2)),
        3 => format!("NOT {}", condition(chance, below)),
        4 | 5 => format!("({})", condition(chance, below)),
        6 => {
            let items: Vec<String> = (0..chance.below(4)).map(|_| operand(chance)).collect();
            format!("{} {} [{}]", operand(chance), chance.pick(&["IN", "NIN"]), items.join(", "))
        }
        _ => {
            format!("{} {} {}", operand(chance), chance.pick(&["=", "!=", "<>", "<", "<=", ">", ">="]), operand(chance))
        }
    }
}

fn operand(chance: &mut Chance) -> String {
    let fixed = [
        "deviceId",
        "tags.a",
        "tags.b.c",
        "properties.reported.a",
        "properties.desired.$version",
        "tags.[[a b]]",
        "'x'",
        "\"ü\"",
        "3",
        "-1.5",
        "0x10",
        "1e3",
        "true",
        "false",
        "null",
        "IS_DEFINED(tags.a)",
        "tags.list",
        "connectionState",
    ];
    (*chance.pick(&fixed)).to_owned()
}

fn documents() -> [Value; 3] {
    [
        json!({"deviceId": "x", "tags": {"a": 3, "b": {"c": true}, "a b": "x", "list": [1, 2]}, "connectionState": "Connected",
               "properties": {"desired": {"$version": 1}, "reported": {"a": -1.5}}}),
        json!({"deviceId": "ü", "tags": {"a": null, "b": "c"}, "properties": {"desired": {}, "reported": {"a": {"a": 1}}}}),
        json!({"deviceId": "y", "tags": {"a": "x", "b": {"c": 16}}, "properties": {"desired": {"a": 1}, "reported": {"a": true}}}),
    ]
}

fn matches(query: &Query) -> Vec<bool> {
    documents().iter().map(|document| query.matches(&|path| path.within(document, 0))).collect()
}

fn run(input: &[u8]) -> String {
    languages::read(input, |text| match Query::parse(text) {
        Ok(query) => {
            let found = matches(&query);
            check_rewritten(text, &query, &found);
            format!("+ {found:?} {:?}", query.collection)
        }
        Err(error) => languages::mistake(text, (error.line, error.column), &error.message, &error.hint),
    })
}

/// The same condition in parentheses, and denied twice, finds the same.
fn check_rewritten(text: &str, query: &Query, found: &[bool]) {
    let Some(at) = text.find("WHERE ") else { return };
    let (head, condition) = text.split_at(at + "WHERE ".len());
    // Only where this is the keyword.
    if !Query::parse(&format!("{head}true"))
        .is_ok_and(|plain| plain.selection == query.selection && matches(&plain) == [true; 3])
    {
        return;
    }
    for rewritten in
        [format!("{head}({condition})"), format!("{head}NOT (NOT ({condition}))"), format!("{head} {condition}\n ")]
    {
        // Deeper or longer than it may be.
        let Ok(again) = Query::parse(&rewritten) else { continue };
        assert_eq!(matches(&again), found, "'{text}' and '{rewritten}'");
    }
}
