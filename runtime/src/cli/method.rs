//! `dinrail method ID NAME [JSON]`.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::progress::Progress;
use super::{Context, Failure, durations, json_input, twin};
use crate::admin::client::path;
use crate::admin::methods::MethodView;

#[derive(Debug, Args)]
#[command(after_help = "\
Prints the status and the payload that the module answered with. Exit code 0 only for a status of 200 to 299.

Examples:
  dinrail method recorder files
  dinrail method recorder export format=csv from=2026-11-21T06:00:00Z
  dinrail method recorder export '{\"format\": \"csv\"}' --timeout 2m
  dinrail method /devices/Hannover01/modules/insight windows --json")]
pub struct MethodArgs {
    /// Module, or its identity
    id: String,
    /// Name of the method
    name: String,
    /// The payload: JSON, @FILE, - for standard input, or key=value pairs
    #[arg(value_name = "JSON", allow_negative_numbers = true)]
    payload: Vec<String>,
    /// Longest wait for the answer, 5 s to 5 min
    #[arg(long, value_name = "SPAN", default_value = "30s", value_parser = durations::parse)]
    timeout: Duration,
    /// Longest wait for a module that does not run yet
    #[arg(long, value_name = "SPAN", default_value = "0s", value_parser = durations::parse)]
    connect_timeout: Duration,
}

pub(super) fn run(args: MethodArgs, context: &mut Context) -> Result<(), Failure> {
    let mut call = json!({
        "methodName": args.name,
        "responseTimeoutInSeconds": whole_secs(args.timeout),
        "connectTimeoutInSeconds": whole_secs(args.connect_timeout),
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
    let answer: MethodView = client.post_waiting(&route, &call, args.timeout + args.connect_timeout)?;
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

/// Whole seconds, none cut off.
fn whole_secs(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}
