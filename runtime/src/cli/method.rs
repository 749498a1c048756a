//! `dinrail method ID NAME [JSON]`.

use std::ops::RangeInclusive;
use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde_json::json;

use super::progress::Progress;
use super::{Context, Failure, durations, json_input, twin};
use crate::admin::client::path;
use crate::admin::methods::{CONNECT_SECS, MethodView, RESPONSE_SECS};

#[derive(Debug, Args)]
#[command(after_help = "\
Prints the status and the payload that the module answered with. Exit code 0 only for a status of 200 to 299.

Examples:
  dinrail method recorder files
  dinrail method recorder export format=csv from=2026-11-21T06:00:00Z
  dinrail method recorder export '{\"format\": \"csv\"}' --timeout 2m
  dinrail method /devices/Hannover01/modules/insight windows --json
  dinrail method filter reset --connect-timeout 1m
  dinrail method '$edgeAgent' GetModuleLogs '{\"items\": {\"id\": \"filter\", \"filter\": {\"tail\": 20}}}'")]
pub struct MethodArgs {
    /// Module, or its identity
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    id: String,
    /// Name of the method
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    name: String,
    /// The payload: JSON, @FILE, - for standard input, or key=value pairs
    #[arg(value_name = "JSON", allow_negative_numbers = true)]
    payload: Vec<String>,
    /// Longest wait for the answer, in whole seconds from 5 s to 5 min
    #[arg(long, value_name = "SPAN", default_value = "30s", value_parser = durations::parse)]
    timeout: Duration,
    /// Longest wait for a module that does not run yet, up to 5 min
    #[arg(long, value_name = "SPAN", default_value = "0s", value_parser = durations::parse)]
    connect_timeout: Duration,
}

pub(super) fn run(args: MethodArgs, context: &mut Context) -> Result<(), Failure> {
    let (response, note) = whole_secs("--timeout", args.timeout, RESPONSE_SECS);
    let (connect, other_note) = whole_secs("--connect-timeout", args.connect_timeout, CONNECT_SECS);
    for note in note.iter().chain(&other_note) {
        context.out.note(format_args!("note: {note}"));
    }
    let mut call = json!({
        "methodName": args.name,
        "responseTimeoutInSeconds": response,
        "connectTimeoutInSeconds": connect,
    });
    if !args.payload.is_empty() {
        call["payload"] = json_input::read(&args.payload)?;
    }
    let client = context.client()?;
    let id = twin::identity(&client, &args.id)?;
    let route = match id.module_id() {
        Some(module) => path(&["twins", id.device_id(), "modules", module, "methods"]),
        None => path(&["twins", id.device_id(), "methods"]),
    };
    let progress = Progress::while_waiting(format!("waiting for the answer of {}", args.id));
    let answer: MethodView = client.post_waiting(&route, &call, Duration::from_secs(response + connect))?;
    drop(progress);
    if context.out.is_json() {
        context.out.document(&answer)?;
    } else {
        let payload = serde_json::to_string_pretty(&answer.payload).unwrap_or_default();
        context.out.line(format_args!("status {}\n{payload}", answer.status))?;
    }
    if (200..300).contains(&answer.status) {
        return Ok(());
    }
    Err(Failure::new(format!("{} answered {} with status {}", args.id, args.name, answer.status)))
}

/// Whole seconds within the limits, none cut off; with what is to be said where that is another span.
fn whole_secs(option: &str, span: Duration, within: RangeInclusive<u64>) -> (u64, Option<String>) {
    let whole = span.as_secs() + u64::from(span.subsec_nanos() > 0);
    let secs = whole.clamp(*within.start(), *within.end());
    let note = (Duration::from_secs(secs) != span).then(|| {
        format!("{option}: {span:?} becomes {secs} s: whole seconds from {} to {}", within.start(), within.end())
    });
    (secs, note)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_become_whole_seconds_within_the_limits_and_that_is_said() {
        for (ms, within, secs, is_said) in [
            (30_000, RESPONSE_SECS, 30, false),
            (1_000, RESPONSE_SECS, 5, true),
            (7_001, RESPONSE_SECS, 8, true),
            (600_000, RESPONSE_SECS, 300, true),
            (300_000, RESPONSE_SECS, 300, false),
            (0, CONNECT_SECS, 0, false),
            (1, CONNECT_SECS, 1, true),
            (300_001, CONNECT_SECS, 300, true),
        ] {
            let (found, note) = whole_secs("--timeout", Duration::from_millis(ms), within);
            assert_eq!((found, note.is_some()), (secs, is_said), "{ms} ms: {note:?}");
        }
    }
}
