//! `dinrail start|stop|restart NAME`: three verbs in one file, since they differ in one word.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::out::printable;
use super::{Context, Failure, list};
use crate::admin::client::path;
use crate::view::ModuleDetail;

#[derive(Debug, Args)]
#[command(after_help = "\
Also un-parks a module that has failed or is quarantined, and ends a `stop`.

Examples:
  dinrail start filter
  dinrail start filter && dinrail wait filter")]
pub struct StartArgs {
    /// Name of the module
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    name: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
It stays stopped, over a reboot too, until `dinrail start`; `dinrail list` says who stopped it and when. \
Messages for it wait.

Examples:
  dinrail stop filter
  dinrail stop filter && dinrail wait filter --for stopped")]
pub struct StopArgs {
    /// Name of the module
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    name: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dinrail restart filter")]
pub struct RestartArgs {
    /// Name of the module
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    name: String,
}

pub(super) fn start(args: StartArgs, context: &mut Context) -> Result<(), Failure> {
    act(&args.name, "start", context)
}

pub(super) fn stop(args: StopArgs, context: &mut Context) -> Result<(), Failure> {
    act(&args.name, "stop", context)
}

pub(super) fn restart(args: RestartArgs, context: &mut Context) -> Result<(), Failure> {
    act(&args.name, "restart", context)
}

fn act(name: &str, verb: &str, context: &mut Context) -> Result<(), Failure> {
    let detail: ModuleDetail = context.client()?.post(&path(&["modules", name, verb]), None)?;
    if context.out.is_json() {
        return context.out.document(&detail);
    }
    tell(&detail, context)
}

/// Says where a module stands.
pub(super) fn tell(detail: &ModuleDetail, context: &mut Context) -> Result<(), Failure> {
    let status = detail.module.status;
    let painted = context.out.paint(list::paint(status), status.as_str());
    context.out.line(sentence(&printable(&detail.module.name), &painted, &detail.reason))
}

/// `filter is stopped: by meier`.
fn sentence(name: &str, status: &str, reason: &str) -> String {
    let reason = if reason.is_empty() { String::new() } else { format!(": {}", printable(reason)) };
    format!("{name} is {status}{reason}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_is_told_where_there_is_one() {
        assert_eq!(sentence("filter", "stopped", "by meier"), "filter is stopped: by meier");
        assert_eq!(sentence("filter", "running", ""), "filter is running");
    }
}
