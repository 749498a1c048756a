//! `dinrail identity token ID`.

use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde_json::json;

use crate::admin::client::Client;
use crate::cli::out::Out;
use crate::cli::{Failure, durations};
use crate::view::TokenView;

#[derive(Debug, Args)]
#[command(after_help = "\
The token is a shared access signature, signed with the primary key. It holds until its time is up, the key is rotated, or \
the identity is disabled.

Examples:
  dinrail identity token insight
  dinrail identity token /devices/press-1 --ttl 15m")]
pub struct TokenArgs {
    /// Module, or identity of a module or device
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    id: String,
    /// How long it holds, 365 days at most
    #[arg(long, value_name = "SPAN", default_value = "1h", value_parser = durations::parse)]
    ttl: Duration,
}

pub(super) fn run(args: TokenArgs, client: &Client, out: &mut Out) -> Result<(), Failure> {
    let id = super::identity(client, &args.id)?;
    let body = json!({"ttlSeconds": args.ttl.as_secs()});
    let view: TokenView = client.post(&super::own_path(&id, "token"), Some(&body))?;
    if out.is_json() {
        return out.document(&view);
    }
    out.line(&view.token)?;
    out.note(format_args!("it proves to be {id} until {}", view.expires_at_utc));
    Ok(())
}
