//! `dinrail identity enable|disable ID`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde_json::{Value, json};

use super::show::forget_keys;
use crate::admin::client::Client;
use crate::cli::Failure;
use crate::cli::out::Out;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dinrail identity enable /devices/press-1")]
pub struct EnableArgs {
    /// Module, or identity of a module or device
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    id: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Its tokens are refused from now on, and with a device those of its modules. Keys and twin stay.

Examples:
  dinrail identity disable /devices/press-1 --reason \"stolen\"")]
pub struct DisableArgs {
    /// Module, or identity of a module or device
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    id: String,
    /// Why, for whoever looks at it later
    #[arg(long, default_value = "")]
    reason: String,
}

pub(super) fn enable(args: EnableArgs, client: &Client, out: &mut Out) -> Result<(), Failure> {
    put(&args.id, &json!({"status": "enabled", "statusReason": ""}), client, out)
}

pub(super) fn disable(args: DisableArgs, client: &Client, out: &mut Out) -> Result<(), Failure> {
    put(&args.id, &json!({"status": "disabled", "statusReason": args.reason}), client, out)
}

fn put(id: &str, body: &Value, client: &Client, out: &mut Out) -> Result<(), Failure> {
    let id = super::identity(client, id)?;
    let mut document: Value = client.put(&super::document_path(&id), body, Some("*"))?;
    forget_keys(&mut document);
    if out.is_json() {
        return out.document(&document);
    }
    out.line(format_args!("{id} is {}", body["status"].as_str().unwrap_or_default()))
}
