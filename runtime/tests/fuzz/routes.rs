//! The route language: every text is a route or is told where it is not; what a condition means does not depend on how it is put,
//! nor on whether parts are skipped.

use dinrail::message::Message;
use dinrail::routing::{MessageView, RouteError, Selection, Trial, Truth};

use super::engine::{Chance, Target, fuzz};
use super::languages;

const OPERANDS: [&str; 34] = [
    "level",
    "missing",
    "a-b",
    "$contentType",
    "{$dt-subject}",
    "$sequenceNumber",
    "$body.value",
    "{$body.a.b[0].c}",
    "$body.list[1]",
    "$body.text",
    "$body.none",
    "$body.ok",
    "'x'",
    "\"ü\"",
    "'\\ud83d\\ude00'",
    "3",
    "-1.5",
    "0x10",
    "1e3",
    "true",
    "false",
    "null",
    "undefined",
    "as_number(level)",
    "length($body.text)",
    "upper(level)",
    "substring($body.text, 1, 2)",
    "index_of(level, 'i')",
    "is_defined(missing)",
    "power($body.value, 2)",
    "concat(level, 'x')",
    "contains($body.text, 'é')",
    "sqrt(-1)",
    "1 / 0",
];
const OPERATORS: [&str; 18] =
    ["=", "!=", "<>", "<", "<=", ">", ">=", "+", "-", "*", "/", "%", "||", "??", "AND", "OR", "and", "or"];

#[test]
fn every_text_is_a_route_or_is_told_where_it_is_not() {
    let mut words: Vec<&str> = vec![
        "FROM ",
        "SELECT * ",
        " INTO $upstream",
        " WHERE ",
        "/*",
        "*/",
        "/messages/*",
        "/messages/modules/a/outputs/b",
        "/twinChangeNotifications",
        "BrokeredEndpoint('/modules/a/inputs/b')",
        "NOT ",
        "(",
        ")",
        "((",
        "{",
        "}",
        "[0]",
        ",",
        "twin_change_includes(properties.reported.a)",
        "'",
        "\"",
        "\\u0041",
        "\\",
        "$",
        "$body.",
        ".",
        " - ",
        "\u{0}",
        "\n",
        "😀",
    ];
    words.extend(OPERANDS);
    words.extend(OPERATORS);
    fuzz(&Target { name: "routes", generate: &|chance| route(chance).into_bytes(), words: &words, run: &run });
}

fn route(chance: &mut Chance) -> String {
    let source = *chance.pick(&["/*", "/messages/*", "/messages/modules/a/outputs/b", "/twinChangeNotifications"]);
    if chance.one_in(8) {
        return format!("FROM {source} INTO $upstream");
    }
    let depth = if chance.one_in(20) { 90 } else { 5 };
    format!("FROM {source} WHERE {} INTO $upstream", condition(chance, depth))
}

fn condition(chance: &mut Chance, depth: usize) -> String {
    let below = depth.saturating_sub(1);
    match if depth == 0 { 0 } else { chance.below(6) } {
        1 | 2 => {
            let left = condition(chance, below / 2);
            format!("{left} {} {}", chance.pick(&["AND", "OR", "??", "="]), condition(chance, below / 2))
        }
        3 => format!("NOT ({})", condition(chance, below)),
        4 => format!("({})", condition(chance, below)),
        5 => format!("is_defined({})", condition(chance, below)),
        _ => format!("{} {} {}", chance.pick(&OPERANDS), chance.pick(&OPERATORS), chance.pick(&OPERANDS)),
    }
}

fn messages() -> [Message; 3] {
    let mut full =
        Message::new(r#"{"value": 3, "a": {"b": [{"c": "x"}]}, "list": [1, null], "text": "é x", "ok": true}"#);
    full.properties = vec![("level".into(), "high".into()), ("a-b".into(), "7".into())];
    full.system.content_type = Some("application/json".into());
    full.system.content_encoding = Some("utf-8".into());
    full.system.other = vec![("dt-subject".into(), "x".into())];
    full.stamp.sequence = 9;
    let mut broken = Message::new(r#"{"value": "3", "a": {"b": "#);
    broken.properties = vec![("level".into(), "".into()), ("level".into(), "x".into())];
    broken.system = full.system.clone();
    [full, broken, Message::new(*b"")]
}

/// What it says of each message: by steps that skip, and by all of its parts.
fn truths(text: &str, selection: &Selection) -> Vec<Truth> {
    let truth = |message: &Message| {
        let meta = message.encode_meta();
        let view = MessageView::of(message, &meta);
        let truth = selection.condition.as_ref().map_or(Truth::True, |condition| condition.evaluate(&view));
        let trial = Trial::of(text, &view).expect("it was read before");
        let explained = trial.condition.map_or(Truth::True, |condition| condition.truth);
        assert_eq!(explained, truth, "the explanation of '{text}' says otherwise");
        truth
    };
    messages().iter().map(truth).collect()
}

fn run(input: &[u8]) -> String {
    languages::read(input, |text| {
        // The whole may be a route; what stands before INTO is what `tail` takes.
        let whole = dinrail::routing::Route::parse(text);
        let selection =
            text.rfind("INTO").and_then(|into| Some((&text[..into], Selection::parse(&text[..into]).ok()?)));
        match (&whole, &selection) {
            (Err(errors), _) => told(text, errors),
            (Ok(_), Some((text, selection))) => {
                let found = truths(text, selection);
                check_rewritten(text, selection, &found);
                format!("+ {found:?}")
            }
            (Ok(_), None) => "+".to_owned(),
        }
    })
}

fn told(text: &str, errors: &[RouteError]) -> String {
    let kinds: Vec<String> = errors
        .iter()
        .map(|error| {
            error.render(text);
            let place = (error.line as usize, error.column as usize);
            languages::mistake(text, place, &error.message, error.hint.as_deref().unwrap_or_default())
        })
        .collect();
    kinds.into_iter().next().expect("what is wrong")
}

/// The same condition in parentheses, and joined with what changes nothing, says the same.
fn check_rewritten(text: &str, selection: &Selection, found: &[Truth]) {
    let Some(condition) = &selection.condition else { return };
    let condition = condition.to_string();
    let Some(at) = text.rfind(&condition) else { return };
    let head = &text[..at];
    for rewritten in
        [format!("{head} ({condition})"), format!("{head} {condition}\n "), format!("{head}/**/{condition} /**/")]
    {
        // Deeper or longer than it may be.
        let Ok(again) = Selection::parse(&rewritten) else { continue };
        assert_eq!(truths(&rewritten, &again), found, "'{text}' and '{rewritten}'");
    }
}
