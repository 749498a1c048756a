//! `dinrail wait NAME`.

use std::time::Duration;

use clap::Args;
use clap::builder::{NonEmptyStringValueParser, PossibleValuesParser};

use super::progress::Progress;
use super::{Context, Failure, durations};
use crate::admin::client::{Client, ClientError, path, query};
use crate::clock;
use crate::view::ModuleDetail;

const STATUSES: [&str; 9] =
    ["waiting", "starting", "running", "unhealthy", "backoff", "stopping", "stopped", "failed", "quarantined"];
/// With somebody watching, progress is told so often.
const WATCHED_SLICE: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
#[command(after_help = "\
Returns as soon as it is so. When time is up: exit code 1 and the reason. A module that does not exist yet may still come.

Examples:
  dinrail wait filter
  dinrail wait filter --for stopped --timeout 2m")]
pub struct WaitArgs {
    /// Name of the module
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    name: String,
    /// Status to wait for
    #[arg(long = "for", value_name = "STATUS", default_value = "running", value_parser = PossibleValuesParser::new(STATUSES))]
    status: String,
    /// Longest wait
    #[arg(long, value_name = "SPAN", default_value = "30s", value_parser = durations::parse)]
    timeout: Duration,
}

pub(super) fn run(args: WaitArgs, context: &mut Context) -> Result<(), Failure> {
    let detail = until_status(&context.client()?, &args.name, &args.status, args.timeout)?;
    if context.out.is_json() {
        return context.out.document(&detail);
    }
    context.out.line(format_args!("{} is {}", args.name, args.status))
}

/// Waits until the module has the status. Errors: why it has not, when time is up.
pub(super) fn until_status(
    client: &Client,
    name: &str,
    status: &str,
    limit: Duration,
) -> Result<ModuleDetail, Failure> {
    let route = query(&path(&["modules", name, "wait"]), &[("for", status)]);
    repeat(limit, |slice| client.get_waiting(&route, slice))
}

/// Asks again and again for slices of `limit`, telling on a terminal what the server says meanwhile.
pub(super) fn repeat<T>(
    limit: Duration,
    mut ask: impl FnMut(Duration) -> Result<T, ClientError>,
) -> Result<T, Failure> {
    let mut progress = Progress::start();
    let started = clock::now();
    loop {
        let left = limit.saturating_sub(started.elapsed());
        // The server grants an hour at most.
        let slice = left.min(if progress.is_visible() { WATCHED_SLICE } else { Duration::from_secs(3600) });
        let error = match ask(slice) {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let ClientError::Refused { status, error: said } = &error else { return Err(error.into()) };
        // A missing module may still come; anything else that is not "not yet" is an answer.
        if !matches!(status, 404 | 504) {
            return Err(error.into());
        }
        if started.elapsed() >= limit {
            let message = format!("after {limit:?}: {}", said.message);
            return Err(Failure::new(message).maybe_hint(said.hint.clone()));
        }
        progress.say(&said.message);
    }
}
