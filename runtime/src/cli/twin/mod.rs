//! `dinrail twin get|patch|replace|history|undo ID`.

mod change;
mod history;
mod patch;
mod replace;
mod terms;
mod undo;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::{Context, Failure};
use crate::admin::client::{Client, path, query};
use crate::name::Identity;
use crate::view::HealthView;

#[derive(Debug, Args)]
#[command(after_help = "\
ID is the name of a module (insight), its identity (/devices/Hannover01/modules/insight), or that of the device itself \
(/devices/Hannover01).

Examples:
  dinrail twin get filter
  dinrail twin patch filter threshold=1 --wait
  dinrail twin replace filter @settings.json
  dinrail twin history filter --path threshold
  dinrail twin undo filter --to 3")]
pub struct TwinArgs {
    #[command(subcommand)]
    verb: TwinVerb,
}

#[derive(Debug, Subcommand)]
enum TwinVerb {
    /// Print a twin
    Get(GetArgs),
    /// Merge into the desired properties
    Patch(patch::PatchArgs),
    /// Replace the desired properties
    Replace(replace::ReplaceArgs),
    /// Who changed desired properties and tags, when, from what to what
    History(history::HistoryArgs),
    /// Go back to how the desired properties were at a version
    Undo(undo::UndoArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dinrail twin get filter
  dinrail twin get filter --at 3
  dinrail twin get /devices/Hannover01")]
struct GetArgs {
    /// Module, or identity of a module or device
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    id: String,
    /// Desired properties and tags as they were when the desired properties had this version
    #[arg(long, value_name = "VERSION")]
    at: Option<u64>,
}

pub(super) fn run(args: TwinArgs, context: &mut Context) -> Result<(), Failure> {
    let client = context.client()?;
    match args.verb {
        TwinVerb::Get(args) => {
            let path = twin_path(&identity(&client, &args.id)?);
            let path = args.at.map_or(path.clone(), |at| query(&path, &[("version", &at.to_string())]));
            let twin: Value = client.get(&path)?;
            context.out.document(&twin)
        }
        TwinVerb::Patch(args) => patch::run(args, &client, &mut context.out),
        TwinVerb::Replace(args) => replace::run(args, &client, &mut context.out),
        TwinVerb::History(args) => history::run(args, &client, &mut context.out),
        TwinVerb::Undo(args) => undo::run(args, &client, &mut context.out),
    }
}

/// The identity that a person means, on the device of the runtime that answers.
pub(super) fn identity(client: &Client, text: &str) -> Result<Identity, Failure> {
    let id = if text.starts_with('/') {
        text.parse()
    } else {
        let health: HealthView = client.get("/health")?;
        Identity::parse_on(&health.device_id, text)
    };
    id.map_err(|error| {
        Failure::usage(error.to_string()).hint("name a module, /devices/DEVICE/modules/MODULE or /devices/DEVICE")
    })
}

fn twin_path(id: &Identity) -> String {
    match id.module_id() {
        Some(module) => path(&["twins", id.device_id(), "modules", module]),
        None => path(&["twins", id.device_id()]),
    }
}

/// The desired properties of a root document.
fn desired(twin: &Value) -> &Value {
    &twin["properties"]["desired"]
}

/// `$version` of the desired properties.
fn version(twin: &Value) -> Option<u64> {
    desired(twin)["$version"].as_u64()
}
