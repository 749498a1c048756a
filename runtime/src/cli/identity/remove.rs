//! `dinrail identity remove ID`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde_json::{Value, json};

use crate::admin::client::Client;
use crate::cli::Failure;
use crate::cli::out::Out;

#[derive(Debug, Args)]
#[command(after_help = "\
Its twin goes with it, and with a device all its modules. Made again under the same name it is another one: with another \
generation, and other keys.

Examples:
  dinrail identity remove /devices/press-1
  dinrail identity remove /devices/press-1/modules/scanner")]
pub struct RemoveArgs {
    /// Module, or identity of a module or device
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    id: String,
}

pub(super) fn run(args: RemoveArgs, client: &Client, out: &mut Out) -> Result<(), Failure> {
    let id = super::identity(client, &args.id)?;
    let _: Value = client.delete(&super::document_path(&id))?;
    if out.is_json() {
        return out.document(&json!({"identity": id.to_string(), "removed": true}));
    }
    let modules = if id.module_id().is_none() { ", and those of its modules" } else { "" };
    out.line(format_args!("{id} is removed, and its twin{modules}"))
}
