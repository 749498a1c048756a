//! `dinrail identity connection-string ID`, and that of a shared access policy.

use clap::Args;
use clap::builder::{NonEmptyStringValueParser, PossibleValuesParser};

use super::rotate::{KEYS, POLICIES};
use crate::admin::client::{Client, path, query};
use crate::cli::Failure;
use crate::cli::out::Out;
use crate::view::ConnectionStringView;

#[derive(Debug, Args)]
#[command(after_help = "\
It holds a key: give it to the program that is meant, and to nobody else. A policy's is for programs that manage this device: \
reader sees, operator runs it, owner does everything.

Examples:
  dinrail identity connection-string /devices/press-1
  dinrail identity connection-string insight --key secondary
  dinrail identity connection-string --policy owner")]
pub struct ConnectionStringArgs {
    /// Module, or identity of a module or device
    #[arg(required_unless_present = "policy", conflicts_with = "policy", value_parser = NonEmptyStringValueParser::new())]
    id: Option<String>,
    /// Of a shared access policy instead
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(POLICIES))]
    policy: Option<String>,
    /// Which of the two keys
    #[arg(long, value_name = "KEY", default_value = "primary", value_parser = PossibleValuesParser::new(KEYS))]
    key: String,
}

pub(super) fn run(args: ConnectionStringArgs, client: &Client, out: &mut Out) -> Result<(), Failure> {
    let place = match (&args.policy, &args.id) {
        (Some(policy), _) => path(&["policies", policy, "connection-string"]),
        (None, id) => {
            super::own_path(&super::identity(client, id.as_deref().unwrap_or_default())?, "connection-string")
        }
    };
    let view: ConnectionStringView = client.get(&query(&place, &[("key", &args.key)]))?;
    if out.is_json() {
        return out.document(&view);
    }
    out.line(&view.connection_string)
}
