//! `dinrail tail [ROUTE]`: messages as they pass.

use std::ops::ControlFlow;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::out::{Out, Paint, cut, printable};
use super::{Context, Failure, durations};
use crate::admin::client::{LinesEnd, query};

#[derive(Debug, Args)]
#[command(after_help = "\
ROUTE is a route without INTO, the name of a module, or the path of a source, each with WHERE if you like; without one, or with WHERE \
alone, it is everything that passes. A module is never held up by this: what is too fast to show is left out and counted.

Examples:
  dinrail tail
  dinrail tail filter -n 3
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
    /// Show no more than N messages in a second; the others are counted
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
}

pub(super) fn run(args: TailArgs, context: &mut Context) -> Result<(), Failure> {
    let client = context.client()?;
    let numbers = [("sample", args.sample), ("rate", args.rate)];
    let texts = [("route", route(&args.route.join(" ")))]
        .into_iter()
        .chain(numbers.map(|(name, number)| (name, number.map(|number| number.to_string()))));
    let given: Vec<(&str, String)> = texts.filter_map(|(name, text)| Some((name, text?))).collect();
    let given: Vec<(&str, &str)> = given.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let route = query("/messages", &given);
    let mut shown = 0;
    let mut failed = None;
    let end = client.lines(&route, args.timeout, |line| match show(line, &mut context.out) {
        Ok(was_message) => {
            shown += u64::from(was_message);
            if args.count == Some(shown) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
        Err(failure) => {
            failed = Some(failure);
            ControlFlow::Break(())
        }
    })?;
    match (failed, end) {
        (Some(failure), _) => Err(failure),
        (None, LinesEnd::RuntimeEnded) => Err(Failure::new("the runtime has ended, and with it the messages")),
        (None, LinesEnd::Enough | LinesEnd::TimeUp | LinesEnd::Interrupted) => Ok(()),
    }
}

/// The route that a person means; `None` for everything.
fn route(text: &str) -> Option<String> {
    let text = text.trim();
    let first = text.split_whitespace().next()?;
    Some(match first {
        from if from.eq_ignore_ascii_case("from") => text.to_owned(),
        path if path.starts_with('/') => format!("FROM {text}"),
        condition if condition.eq_ignore_ascii_case("where") => format!("FROM /* {text}"),
        module => format!("FROM /messages/modules/{module}/*{}", &text[module.len()..]),
    })
}

/// Prints a line of the server; true if it was a message.
fn show(line: &[u8], out: &mut Out) -> Result<bool, Failure> {
    let document: Value = serde_json::from_slice(line)
        .map_err(|error| Failure::caused("the runtime sent what is not a message", &error))?;
    let counted = |key: &str| document[key].as_u64();
    let left_out = match (counted("skipped"), counted("overRate")) {
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
    let sender = system("connectionModuleId").or(system("connectionDeviceId")).unwrap_or("-");
    let output = system("outputName").map(|output| format!("/{output}")).unwrap_or_default();
    let mut text = format!("{time}  {sender}{output}");
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
            ("FROM /messages/* WHERE level = 'high'", Some("FROM /messages/* WHERE level = 'high'")),
            ("from /*", Some("from /*")),
            ("filter", Some("FROM /messages/modules/filter/*")),
            ("WHERE level = 'high'", Some("FROM /* WHERE level = 'high'")),
            ("filter WHERE a = 1", Some("FROM /messages/modules/filter/* WHERE a = 1")),
            ("/messages/modules/filter/outputs/alarms", Some("FROM /messages/modules/filter/outputs/alarms")),
        ];
        for (text, expected) in table {
            assert_eq!(route(text).as_deref(), expected, "{text}");
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
