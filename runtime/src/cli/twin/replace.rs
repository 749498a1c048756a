//! `dinrail twin replace ID JSON`.

use clap::Args;
use serde_json::{Value, json};

use super::{change, patch};
use crate::admin::client::Client;
use crate::cli::out::Out;
use crate::cli::{Failure, json_input};

#[derive(Debug, Args)]
#[command(after_help = "\
What is not named is removed. Tags are kept. Refused if somebody else changes the twin at the same time.

Examples:
  dinrail twin replace filter @settings.json
  dinrail twin replace filter threshold=1 unit=°C
  dinrail twin replace filter '{}'")]
pub struct ReplaceArgs {
    /// Module, or identity of a module or device
    id: String,
    /// The desired properties: JSON, @FILE, - for standard input, or key=value pairs
    #[arg(required = true, value_name = "JSON")]
    document: Vec<String>,
}

pub(super) fn run(args: ReplaceArgs, client: &Client, out: &mut Out) -> Result<(), Failure> {
    let desired = json_input::read_object("desired properties", &args.document)?;
    let twin_path = super::twin_path(&super::identity(client, &args.id)?);
    let before: Value = client.get(&twin_path)?;
    let root = json!({"tags": before.get("tags").unwrap_or(&json!({})), "properties": {"desired": desired}});
    let after: Value = client.put(&twin_path, &root, before["etag"].as_str())?;
    let changes = change::between(super::desired(&before), super::desired(&after));
    let version = super::version(&after);
    if out.is_json() {
        return out.document(&json!({"version": version, "changes": changes}));
    }
    patch::tell(&changes, version, out)
}
