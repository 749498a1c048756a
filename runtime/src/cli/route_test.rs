//! `dinrail route test ROUTE --message …`: what a route makes of one message, and why. Needs no runtime.

use std::fmt::Write;

use clap::Args;
use serde_json::{Value, json};

use super::out::{Out, Paint, printable};
use super::{Context, Failure, json_input};
use crate::message::Message;
use crate::name::{EDGE_HUB, Identity};
use crate::routing::{Explanation, MessageView, RouteError, SourcePath, Trial, Truth};

#[derive(Debug, Args)]
#[command(after_help = "\
ROUTE is a route, or one without INTO. The message is {\"body\", \"properties\", \"systemProperties\"}, as `dinrail tail --json` \
prints it. Where it names its sender (connectionModuleId, outputName), FROM is judged as well. Of each part of the condition its \
value is shown; an arrow points at those that decided. Exit code 1: ROUTE is not a route.

Examples:
  dinrail tail filter -n 1 --json > message.json
  dinrail route test \"FROM /messages/* WHERE level = 'high'\" --message @message.json
  dinrail route test @up.route --message '{\"properties\": {\"level\": \"high\"}}'
  dinrail route test 'FROM /* WHERE $body.value > 80 INTO $upstream' --message - --json < message.json")]
pub(super) struct TestArgs {
    /// The route, with or without INTO; or @FILE
    #[arg(value_name = "ROUTE")]
    text: String,
    /// The message: JSON, @FILE, or - for standard input
    #[arg(long, value_name = "MESSAGE", allow_hyphen_values = true)]
    message: String,
}

/// What a route makes of a message.
struct Outcome {
    trial: Trial,
    /// Whether the source takes it; `None` where the message does not say where it comes from.
    is_taken: Option<bool>,
    from: Option<SourcePath>,
}

impl Outcome {
    fn truth(&self) -> Truth {
        self.trial.condition.as_ref().map_or(Truth::True, |condition| condition.truth)
    }

    fn matches(&self) -> bool {
        self.is_taken != Some(false) && self.truth() == Truth::True
    }
}

pub(super) fn run(args: &TestArgs, context: &mut Context) -> Result<(), Failure> {
    if args.text == "-" && args.message == "-" {
        return Err(
            Failure::usage("route and message cannot both be standard input").hint("put one into a file: @FILE")
        );
    }
    let text = json_input::text_of("the route", json_input::read_body(&args.text)?)?;
    let text = text.trim_end();
    let document = json_input::read(std::slice::from_ref(&args.message))?;
    let message = Message::from_json(&document).map_err(|problems| {
        Failure::new("this is no message")
            .details(problems)
            .hint("a message is {\"body\": …, \"properties\": {…}, \"systemProperties\": {…}}, as `dinrail tail --json` prints it")
    })?;
    let meta = message.encode_meta();
    let out = &mut context.out;
    let outcome = match Trial::of(text, &MessageView::of(&message, &meta)) {
        Ok(trial) => judged(trial, &message),
        Err(errors) => {
            if out.is_json() {
                out.document(&refused_json(&errors))?;
                out.flush()?;
            }
            return Err(refused(text, &errors));
        }
    };
    if out.is_json() {
        return out.document(&outcome_json(&outcome));
    }
    let shown = shown(&outcome, out);
    out.text(&shown)?;
    let remarks = outcome.trial.condition.iter().flat_map(|condition| &condition.remarks);
    for note in remarks.chain(&outcome.trial.notes) {
        out.note(format_args!("note: {}", printable(note)));
    }
    Ok(())
}

fn judged(trial: Trial, message: &Message) -> Outcome {
    let sender = message.stamp.sender.parse::<Identity>().ok();
    let module = match (&sender, message.stamp.sender.split_once("/modules/")) {
        (Some(sender), _) => sender.module_id().map(str::to_owned),
        // A message may name its module and not its device.
        (None, Some((_, module))) => Some(module.to_owned()),
        (None, None) => None,
    };
    let output = Some(&*message.stamp.output).filter(|output| !output.is_empty());
    let from = match module {
        // What the runtime says itself bears the place that it comes from as its output.
        Some(module) if module == EDGE_HUB => output.map(SourcePath::own),
        Some(module) => Some(SourcePath::module(&module, output)),
        None => sender.map(|_| SourcePath::device()),
    };
    Outcome { is_taken: from.as_ref().map(|from| trial.source.matches(from)), trial, from }
}

fn outcome_json(outcome: &Outcome) -> Value {
    let mut document = json!({"matches": outcome.matches(), "value": outcome.truth().as_str(), "error": null});
    document["sourceMatches"] = json!(outcome.is_taken);
    if let Some(Explanation { parts, remarks, .. }) = &outcome.trial.condition {
        let part = |part: &crate::routing::ExplainedPart| json!({"text": part.text, "value": part.value, "depth": part.depth, "decides": part.is_deciding});
        document["parts"] = parts.iter().map(part).collect();
        document["notes"] = remarks.iter().chain(&outcome.trial.notes).map(String::as_str).collect();
    }
    document
}

fn refused_json(errors: &[RouteError]) -> Value {
    let error = |error: &RouteError| json!({"message": error.message, "line": error.line, "column": error.column, "hint": error.hint});
    json!({
        "matches": false, "value": "undefined", "error": errors.first().map(error),
        "errors": errors.iter().map(error).collect::<Vec<_>>()
    })
}

fn refused(text: &str, errors: &[RouteError]) -> Failure {
    let told = |error: &RouteError| {
        let hint = error.hint.as_deref().map(|hint| format!("\n  hint: {hint}")).unwrap_or_default();
        let excerpt = error.render(text).replace('\n', "\n  ");
        printable_lines(&format!("{error}\n  {excerpt}{hint}"))
    };
    let message = match errors.len() {
        1 => "this is not a route".to_owned(),
        count => format!("this is not a route: {count} problems"),
    };
    Failure::new(message).details(errors.iter().map(told).collect())
}

fn printable_lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

fn shown(outcome: &Outcome, out: &Out) -> String {
    let mut text = String::new();
    let verdict = match (outcome.matches(), outcome.is_taken, outcome.truth()) {
        (true, ..) => out.paint(Paint::Green, "matches"),
        (_, Some(false), Truth::True) => out.paint(Paint::Yellow, "does not match: it comes from elsewhere"),
        (_, _, truth) => out.paint(Paint::Yellow, &format!("does not match: the condition is {}", truth.as_str())),
    };
    let _ = writeln!(text, "{verdict}");
    let source = &outcome.trial.source;
    let judged = match (&outcome.from, outcome.is_taken) {
        (Some(from), Some(true)) => format!("takes {from}"),
        (Some(from), _) => format!("does not take {from}"),
        (None, _) => "not judged: the message does not say where it comes from".to_owned(),
    };
    let _ = writeln!(text, "FROM   {}  {}", printable(&source.to_string()), printable(&judged));
    let Some(condition) = &outcome.trial.condition else { return text };
    const WIDEST: usize = 24;
    let value = |value: &str| super::out::cut(&printable(value), WIDEST);
    let width = condition.parts.iter().map(|part| value(&part.value).chars().count()).max().unwrap_or(0);
    let _ = writeln!(text, "WHERE  {}", condition.truth.as_str());
    for part in &condition.parts {
        let mark = if part.is_deciding { "→" } else { " " };
        let shown = value(&part.value);
        let pad = " ".repeat(width - shown.chars().count());
        let _ = writeln!(text, "  {mark} {shown}{pad}  {}{}", "  ".repeat(part.depth.min(20)), printable(&part.text));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(route: &str, message: Value) -> Outcome {
        let message = Message::from_json(&message).unwrap();
        let meta = message.encode_meta();
        judged(Trial::of(route, &MessageView::of(&message, &meta)).unwrap(), &message)
    }

    fn text(route: &str, message: Value) -> String {
        shown(&outcome(route, message), &Out::stdout(true))
    }

    #[test]
    fn the_deciding_parts_have_an_arrow() {
        let message = json!({
            "properties": {"level": "low", "n": "3"},
            "systemProperties": {"connectionDeviceId": "D", "connectionModuleId": "filter", "outputName": "alarms"}
        });
        assert_eq!(
            text("FROM /messages/* WHERE as_number(n) > 2 AND level = 'high' INTO $upstream", message),
            "does not match: the condition is false\n\
             FROM   /messages/*  takes /messages/modules/filter/outputs/alarms\n\
             WHERE  false\n\
             \u{20} → false  as_number(n) > 2 AND level = 'high'\n\
             \u{20}   true     as_number(n) > 2\n\
             \u{20}   3          as_number(n)\n\
             \u{20}   \"3\"          n\n\
             \u{20} → false    level = 'high'\n\
             \u{20} → \"low\"      level\n"
        );
    }

    #[test]
    fn a_message_from_elsewhere_does_not_match_and_one_from_nowhere_is_not_judged() {
        let route = "FROM /messages/modules/filter/* WHERE a = 'x'";
        let from = |module: Option<&str>| json!({"properties": {"a": "x"}, "systemProperties": {"connectionModuleId": module}});
        assert!(outcome(route, from(Some("filter"))).matches());
        assert!(outcome(route, from(None)).matches());
        assert!(text(route, from(None)).contains("not judged"));
        let other = outcome(route, from(Some("pump")));
        assert!(!other.matches() && other.truth() == Truth::True);
        assert!(text(route, from(Some("pump"))).starts_with("does not match: it comes from elsewhere"));
        assert!(outcome("FROM /messages", json!({})).matches());
    }

    #[test]
    fn what_the_runtime_says_itself_is_judged_as_tail_prints_it() {
        let said = |output: &str| {
            json!({
                "body": {"temperature": 21, "$version": 3},
                "systemProperties": {"connectionDeviceId": "D", "connectionModuleId": "$edgeHub", "outputName": output}
            })
        };
        let changes = "FROM /twinChangeNotifications WHERE twin_change_includes(properties.reported.temperature)";
        let taken = outcome(changes, said("twinChangeNotifications"));
        assert_eq!((taken.is_taken, taken.matches()), (Some(true), true));
        assert_eq!(outcome(changes, said("losses")).is_taken, Some(false));
        assert_eq!(outcome("FROM /messages/*", said("twinChangeNotifications")).is_taken, Some(false));
        assert_eq!(outcome("FROM /*", said("losses")).is_taken, Some(true));
        assert_eq!(
            outcome("FROM /losses/modules/filter/*", said("losses/modules/filter/outputs/a")).is_taken,
            Some(true)
        );
        assert_eq!(outcome("FROM /twinChangeNotifications", json!({})).is_taken, None);
    }

    #[test]
    fn the_document_is_that_of_the_contract() {
        let document = outcome_json(&outcome("FROM /* WHERE a = 'x' AND $body.b", json!({"properties": {"a": "x"}})));
        assert_eq!((&document["matches"], &document["value"]), (&json!(false), &json!("undefined")));
        assert_eq!((&document["error"], &document["sourceMatches"]), (&json!(null), &json!(null)));
        assert!(document["notes"][0].as_str().unwrap().contains("contentType"), "{document}");
        let errors = Trial::of("FROM /* WHERE a > 3", &MessageView::of(&Message::new(*b""), &[])).unwrap_err();
        let document = refused_json(&errors);
        assert_eq!(
            document["error"],
            json!({
                "message": "a is a property, and that is always a text; it cannot be compared with a number", "line": 1,
                "column": 15, "hint": "a property is always a string: write as_number(a) > 3"
            })
        );
    }
}
