//! `dinrail tail [ROUTE]`: messages as they pass.

use std::ops::ControlFlow;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::out::{Out, Paint, cut, printable};
use super::{Context, Failure, durations};
use crate::admin::client::{Client, ClientError, LinesEnd, query};
use crate::routing::Selection;

#[derive(Debug, Args)]
#[command(after_help = "\
ROUTE is a route without INTO, the name of a module, MODULE/OUTPUT, or the path of a source, each with WHERE if you like; without \
one, or with WHERE alone, it is everything that passes: what modules send, changes of twins, losses. What `dinrail send` puts straight into an input passes no output and is \
not shown. A module is never held up by this: what is too fast to show is left out and counted.

Examples:
  dinrail tail
  dinrail tail filter -n 3
  dinrail tail filter/alarms
  dinrail tail 'FROM /messages/modules/host-metrics/outputs/readings' --timeout 10s
  dinrail tail filter \"WHERE level = 'high'\"
  dinrail tail 'WHERE $body.value > 80'
  dinrail tail 'FROM /messages/* WHERE $body.value > 80' --rate 5
  dinrail tail host-metrics --sample 100
  dinrail tail /messages/modules/filter/outputs/alarms --json")]
pub struct TailArgs {
    /// Which messages: FROM … [WHERE …], a module, the path of a source, or WHERE …
    #[arg(num_args = 0..)]
    route: Vec<String>,
    /// End after so many messages
    #[arg(short = 'n', long = "count", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after so long
    #[arg(long, value_name = "SPAN", value_parser = durations::parse)]
    timeout: Option<Duration>,
    /// Show each Nth message only
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    sample: Option<u32>,
    /// Show no more than N messages in any second; the others are counted
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
}

pub(super) fn run(args: TailArgs, context: &mut Context) -> Result<(), Failure> {
    let client = context.client()?;
    let Asked { route, names_a_module } = asked(&args.route.join(" "));
    let selection = route.as_deref().map(Selection::parse).and_then(Result::ok);
    for note in selection.iter().flat_map(|selection| &selection.notes) {
        context.out.note(format_args!("note: {}", printable(note)));
    }
    match follow(&client, &args, route.as_deref(), true, context) {
        Ok(followed) => followed,
        Err(ClientError::Refused { status: 404, error }) if names_a_module => {
            let source = selection.map_or_else(String::new, |selection| selection.source.to_string());
            let wait = format!("to wait for what is not here yet: dinrail tail {source}");
            Err(Failure::from(ClientError::Refused { status: 404, error }).detail(wait))
        }
        // Written out in full it may be meant for what is still to come.
        Err(ClientError::Refused { status: 404, error }) => {
            let hint = error.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
            let warning = format!("warning: {} yet, so nothing passes until then{hint}", error.message);
            context.out.note(printable(&warning));
            follow(&client, &args, route.as_deref(), false, context)?
        }
        Err(error) => Err(error.into()),
    }
}

/// Shows what passes. `known`: it is refused (404) where nobody sends what is asked for.
fn follow(
    client: &Client,
    args: &TailArgs,
    route: Option<&str>,
    known: bool,
    context: &mut Context,
) -> Result<Result<(), Failure>, ClientError> {
    let numbers = [("sample", args.sample), ("rate", args.rate)];
    let numbers = numbers.map(|(name, number)| (name, number.map(|number| number.to_string())));
    let mut given: Vec<(&str, &str)> = route.map(|route| ("route", route)).into_iter().collect();
    given.extend(known.then_some(("known", "true")));
    given.extend(numbers.iter().filter_map(|(name, number)| Some((*name, number.as_deref()?))));
    let mut shown = 0;
    let mut failed = None;
    let end = client.lines(&query("/messages", &given), args.timeout, |line| match show(line, &mut context.out) {
        Ok(was_message) => {
            shown += u64::from(was_message);
            if args.count == Some(shown) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
        Err(failure) => {
            failed = Some(failure);
            ControlFlow::Break(())
        }
    })?;
    Ok(match (failed, end) {
        (Some(failure), _) => Err(failure),
        (None, LinesEnd::RuntimeEnded) => Err(Failure::new("the runtime has ended, and with it the messages")),
        (None, LinesEnd::Enough | LinesEnd::TimeUp | LinesEnd::Interrupted) => Ok(()),
    })
}

/// What a person asks for.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    /// As a route; `None` for everything.
    route: Option<String>,
    /// A bare name, which can only mean one that is there.
    names_a_module: bool,
}

fn asked(text: &str) -> Asked {
    let text = text.trim();
    let Some(first) = text.split_whitespace().next() else { return Asked { route: None, names_a_module: false } };
    let in_full = |route: String| Asked { route: Some(route), names_a_module: false };
    match first {
        from if from.eq_ignore_ascii_case("from") => in_full(text.to_owned()),
        path if path.starts_with('/') => in_full(format!("FROM {text}")),
        condition if condition.eq_ignore_ascii_case("where") => in_full(format!("FROM /* {text}")),
        name => {
            // As messages are shown: module/output.
            let source = match name.split_once('/') {
                Some((module, output)) => format!("{module}/outputs/{output}"),
                None => format!("{name}/*"),
            };
            let route = format!("FROM /messages/modules/{source}{}", &text[name.len()..]);
            Asked { route: Some(route), names_a_module: true }
        }
    }
}

/// Prints a line of the server; true if it was a message.
fn show(line: &[u8], out: &mut Out) -> Result<bool, Failure> {
    let document: Value = serde_json::from_slice(line)
        .map_err(|error| Failure::caused("the runtime sent what is not a message", &error))?;
    let counted = |key: &str| document[key].as_u64();
    let is_clock_right = document.get("systemProperties").is_none() && document["clock"]["isTrusted"] == true;
    let left_out = match (counted("skipped"), counted("overRate")) {
        _ if is_clock_right => Some("… the device's clock is right now; the times above were not".to_owned()),
        (Some(count), _) => Some(format!("… {count} messages skipped: they pass faster than they are read")),
        (None, Some(count)) => Some(format!("… {count} messages left out: they are more than --rate asks for")),
        (None, None) => None,
    };
    if out.is_json() {
        out.json_line(&document)?;
        return Ok(left_out.is_none());
    }
    let is_message = left_out.is_none();
    let text = match left_out {
        Some(told) => out.paint(Paint::Yellow, &told),
        None => message(&document, out.width()),
    };
    out.line(text)?;
    out.flush()?;
    Ok(is_message)
}

/// Time, sender and output, properties, body; cut to a terminal's width.
fn message(document: &Value, width: Option<usize>) -> String {
    let system = |key: &str| document["systemProperties"][key].as_str();
    let time = system("enqueuedTime").unwrap_or("-");
    let time = match (width, time.split_once('T')) {
        (Some(_), Some((_, of_day))) => of_day,
        _ => time,
    };
    // The clock may be wrong.
    let doubt = if document["clock"]["isTrusted"] == false { "?" } else { "" };
    let sender = system("connectionModuleId").or(system("connectionDeviceId")).unwrap_or("-");
    let output = system("outputName").map(|output| format!("/{output}")).unwrap_or_default();
    let mut text = format!("{time}{doubt}  {sender}{output}");
    if let Some(Value::Object(properties)) =
        document.get("properties").filter(|p| p.as_object().is_some_and(|p| !p.is_empty()))
    {
        let pairs = properties.iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
        text += &format!("  [{}]", pairs.collect::<Vec<_>>().join(" "));
    }
    let body = match (document.get("body"), document["bodyHex"].as_str()) {
        (Some(Value::String(body)), _) => body.clone(),
        (Some(body), _) => body.to_string(),
        (None, Some(hex)) => format!("0x{hex}"),
        (None, None) => String::new(),
    };
    let text = printable(&format!("{text}  {body}"));
    width.map_or(text.clone(), |width| cut(&text, width))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn modules_and_paths_stand_for_their_routes() {
        let table = [
            ("", None),
            ("filter/alarms WHERE a = 'x'", Some("FROM /messages/modules/filter/outputs/alarms WHERE a = 'x'")),
            ("FROM /messages/* WHERE level = 'high'", Some("FROM /messages/* WHERE level = 'high'")),
            ("from /*", Some("from /*")),
            ("filter", Some("FROM /messages/modules/filter/*")),
            ("WHERE level = 'high'", Some("FROM /* WHERE level = 'high'")),
            ("filter WHERE a = 1", Some("FROM /messages/modules/filter/* WHERE a = 1")),
            ("/messages/modules/filter/outputs/alarms", Some("FROM /messages/modules/filter/outputs/alarms")),
        ];
        for (text, expected) in table {
            let asked = asked(text);
            assert_eq!(asked.route.as_deref(), expected, "{text}");
            assert_eq!(asked.names_a_module, text.starts_with("filter"), "{text}");
        }
    }

    fn example() -> Value {
        json!({
            "body": {"value": 81.5}, "properties": {"level": "high"},
            "systemProperties": {
                "connectionDeviceId": "D", "connectionModuleId": "filter", "outputName": "alarms",
                "enqueuedTime": "2026-11-21T14:05:09.123Z"
            }
        })
    }

    #[test]
    fn message_is_one_line() {
        assert_eq!(
            message(&example(), None),
            "2026-11-21T14:05:09.123Z  filter/alarms  [level=high]  {\"value\":81.5}"
        );
        assert_eq!(message(&example(), Some(40)), "14:05:09.123Z  filter/alarms  [level=hi…");
    }

    #[test]
    fn octets_are_shown_in_hex_and_text_cannot_steer_the_terminal() {
        assert_eq!(message(&json!({"bodyHex": "00ff"}), None), "-  -  0x00ff");
        assert_eq!(message(&json!({"body": "a\u{1b}[2Jb\n"}), None), "-  -  a [2Jb ");
    }
}
