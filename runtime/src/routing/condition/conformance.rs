//! The table of what conditions mean, `routing/conformance.txt`, held against what they do.

use super::*;
use crate::message::Message;
use crate::routing::Route;

const TABLE: &str = include_str!("../conformance.txt");

struct Case<'t> {
    line: usize,
    source: &'t str,
    message: Message,
    expected: &'t str,
    condition: &'t str,
}

fn cases() -> Vec<Case<'static>> {
    let mut cases = Vec::new();
    let (mut source, mut message, mut document) = ("/messages/*", Message::new(*b""), None::<String>);
    for (number, line) in TABLE.lines().enumerate() {
        match (&mut document, line) {
            (Some(text), "") => {
                let json = serde_json::from_str(text).unwrap_or_else(|error| panic!("line {number}: {error}"));
                message = Message::from_json(&json).unwrap_or_else(|problems| panic!("line {number}: {problems:?}"));
                document = None;
            }
            (Some(text), line) => *text += line,
            (None, "message") => document = Some(String::new()),
            (None, "") => {}
            (None, line) if line.starts_with('#') => {}
            (None, line) => match (line.strip_prefix("from "), line.split_once(" |")) {
                (Some(from), _) => source = from,
                (None, Some((expected, condition))) => cases.push(Case {
                    line: number + 1,
                    source,
                    message: message.clone(),
                    expected: expected.trim(),
                    condition: condition.trim(),
                }),
                (None, None) => panic!("line {number}: {line}"),
            },
        }
    }
    cases
}

fn outcome(case: &Case<'_>, condition: &str) -> String {
    let text = format!("FROM {} WHERE {condition} INTO $upstream", case.source);
    let route = match Route::parse(&text) {
        Ok(route) => route,
        Err(errors) => {
            assert!(errors.iter().all(|error| error.hint.as_ref().is_some_and(|hint| !hint.is_empty())), "{errors:?}");
            return format!("error: {}", errors[0].message);
        }
    };
    let meta = case.message.encode_meta();
    let view = MessageView::of(&case.message, &meta);
    let condition = route.condition.unwrap();
    let truth = condition.evaluate(&view);
    assert_eq!(condition.evaluate_by_steps(&view), truth, "line {}: the short way says otherwise", case.line);
    let trial = crate::routing::Trial::of(&text, &view).unwrap();
    let explained = trial.condition.unwrap();
    assert_eq!(explained.truth, truth, "line {}: the explanation says otherwise", case.line);
    assert!(explained.parts[0].is_deciding);
    truth.as_str().to_owned()
}

#[test]
fn conditions_mean_what_the_table_says() {
    let cases = cases();
    assert!(cases.len() >= 300, "there are {}", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let found = outcome(case, case.condition);
        let is_right = match case.expected.starts_with("error") {
            true => found.starts_with(case.expected),
            false => found == case.expected,
        };
        if !is_right {
            wrong.push(format!("line {}: {}\n    {found} instead of {}", case.line, case.condition, case.expected));
        }
    }
    assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn what_a_condition_means_does_not_depend_on_how_it_is_put() {
    for case in cases().iter().filter(|case| !case.expected.starts_with("error") && !case.condition.is_empty()) {
        let condition = case.condition;
        let denied = match case.expected {
            "true" => "false",
            "false" => "true",
            other => other,
        };
        assert_eq!(outcome(case, &format!("({condition})")), case.expected, "({condition})");
        assert_eq!(outcome(case, &format!("/**/{condition}\n/**/ ")), case.expected, "{condition}");
        // Of what is no truth none can be made.
        let of_truth = format!("true AND ({condition})");
        if !outcome(case, &of_truth).starts_with("error") && !condition.starts_with("null") {
            assert_eq!(outcome(case, &of_truth), case.expected, "{of_truth}");
            assert_eq!(outcome(case, &format!("NOT ({condition})")), denied, "NOT ({condition})");
            assert_eq!(outcome(case, &format!("false OR ({condition})")), case.expected, "false OR ({condition})");
        }
    }
}
