//! `dinrail twin undo ID --to VERSION`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde_json::json;

use super::terms::{Asked, Terms};
use crate::admin::client::Client;
use crate::cli::Failure;
use crate::cli::out::Out;

#[derive(Debug, Args)]
#[command(after_help = "\
Puts the desired properties back as they were at a version; with --tags the tags. It is a change like any other: the version \
goes up, the module gets it as one patch, and it can be undone as well. `dinrail twin history ID` lists the versions.

Examples:
  dinrail twin history filter
  dinrail twin undo filter --to 3 --wait
  dinrail twin undo filter --tags --to 2")]
pub struct UndoArgs {
    /// Module, or identity of a module or device
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    id: String,
    /// Version to go back to
    #[arg(long, value_name = "VERSION")]
    to: u64,
    #[command(flatten)]
    terms: Terms,
}

pub(super) fn run(args: UndoArgs, client: &Client, out: &mut Out) -> Result<(), Failure> {
    let section = if args.terms.tags { "tags" } else { "desired" };
    args.terms.carry_out(&args.id, client, out, |_| Asked::Undo(json!({"to": args.to, "section": section})))
}
