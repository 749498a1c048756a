//! `dinrail remove NAME`.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::out::printable;
use super::progress::Progress;
use super::{Context, Failure};
use crate::admin::client::{Client, ClientError, path, query};
use crate::view::{ModuleDetail, RemovedView};

/// The runtime gives a worker up long before; this is for one that has stopped answering.
const PATIENCE: Duration = Duration::from_secs(3600);

#[derive(Debug, Args)]
#[command(after_help = "\
It does not come back: not by its file that still lies in a watched folder, nor after a reboot; only by other bytes of its \
image, `dinrail start` or `dinrail add`. Its identity with the twin, its data and what waits for it stay, unless --purge \
discards them. A module of the deployment in force is not removed but left out of the next deployment.

Examples:
  dinrail remove hello
  dinrail remove hello --purge")]
pub struct RemoveArgs {
    /// Name of the module
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    name: String,
    /// With its identity, twin, data folder and what waits for it; also what an earlier removal left
    #[arg(long)]
    purge: bool,
    /// Do not ask on a terminal before something is discarded
    #[arg(short, long, requires = "purge")]
    yes: bool,
}

pub(super) fn run(args: RemoveArgs, context: &mut Context) -> Result<(), Failure> {
    let client = context.client()?;
    if args.purge && !args.yes && std::io::stdin().is_terminal() && std::io::stderr().is_terminal() {
        ask(&client, &args.name)?;
    }
    let progress = Progress::while_waiting(format!("waiting for {} to stop", printable(&args.name)));
    let purge: &[(&str, &str)] = if args.purge { &[("purge", "true")] } else { &[] };
    let view: RemovedView = client.delete_waiting(&query(&path(&["modules", &args.name]), purge), PATIENCE)?;
    drop(progress);
    let out = &mut context.out;
    if out.is_json() {
        out.document(&view)?;
    } else {
        out.line(printable(&sentence(&view)))?;
        if !view.kept.is_empty() {
            out.note(format_args!("hint: dinrail remove {} --purge discards that too", printable(&view.name)));
        }
    }
    match &view.problems[..] {
        [] => Ok(()),
        _ if !view.purged && !out.is_json() => {
            view.problems.iter().for_each(|problem| out.note(format_args!("warning: {}", printable(problem))));
            Ok(())
        }
        _ if !view.purged => Ok(()),
        problems => Err(Failure::new(format!("not everything of {} could be discarded", view.name))
            .details(problems.iter().map(|problem| printable(problem)).collect())),
    }
}

/// Says what there is to lose and asks. One that is gone already has left what the answer lists.
fn ask(client: &Client, name: &str) -> Result<(), Failure> {
    let there = match client.get::<ModuleDetail>(&path(&["modules", name])) {
        Ok(detail) => at_stake(detail.module.inbox.messages, detail.parked),
        Err(ClientError::Refused { .. }) => "what it left".to_owned(),
        Err(error) => return Err(error.into()),
    };
    let name = printable(name);
    let _ = write!(
        std::io::stderr(),
        "discard {name} for good, with its identity, twin and data, and with {there}? [y/N] "
    );
    let mut answer = String::new();
    let _ = std::io::stdin().read_line(&mut answer);
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::new("nothing was discarded and nothing removed")),
    }
}

fn at_stake(waiting: u64, parked: u64) -> String {
    let waiting =
        if waiting == 1 { "1 message that waits".to_owned() } else { format!("{waiting} messages that wait") };
    let are = if parked == 1 { "is" } else { "are" };
    format!("{waiting} and {parked} that {are} set aside")
}

/// `hello is removed; kept: its data folder /…`.
fn sentence(view: &RemovedView) -> String {
    let what = match (view.removed, &view.discarded[..]) {
        (true, []) => format!("{} is removed", view.name),
        (true, discarded) => format!("{} is removed, and with it {}", view.name, discarded.join(", ")),
        (false, []) => format!("nothing of {} was there to discard", view.name),
        (false, discarded) => format!("of {} is discarded: {}", view.name, discarded.join(", ")),
    };
    if view.kept.is_empty() { what } else { format!("{what}; kept: {}", view.kept.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message_waits_and_several_wait() {
        assert_eq!(at_stake(1, 2), "1 message that waits and 2 that are set aside");
        assert_eq!(at_stake(0, 1), "0 messages that wait and 1 that is set aside");
    }

    #[test]
    fn what_stays_and_what_goes_is_said() {
        let view = RemovedView { name: "a".into(), removed: true, kept: vec!["its twin".into()], ..Default::default() };
        assert_eq!(sentence(&view), "a is removed; kept: its twin");
        let view = RemovedView { name: "a".into(), purged: true, discarded: vec!["its twin".into()], ..view };
        let view = RemovedView { removed: false, kept: Vec::new(), ..view };
        assert_eq!(sentence(&view), "of a is discarded: its twin");
    }
}
