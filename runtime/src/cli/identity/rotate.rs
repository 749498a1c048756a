//! `dinrail identity rotate ID`, and that of a shared access policy.

use clap::Args;
use clap::builder::{NonEmptyStringValueParser, PossibleValuesParser};
use serde_json::{Value, json};

use super::show::forget_keys;
use crate::admin::client::{Client, path};
use crate::cli::Failure;
use crate::cli::out::Out;

/// The two keys.
pub(super) const KEYS: [&str; 2] = ["primary", "secondary"];
/// Shared access policies, as the roles are called.
pub(super) const POLICIES: [&str; 3] = ["reader", "operator", "owner"];

#[derive(Debug, Args)]
#[command(after_help = "\
Without an outage: let its programs use the one key, rotate the other, and let them use that one; then rotate the first.

Examples:
  dinrail identity rotate /devices/press-1 --key secondary
  dinrail identity rotate --policy reader")]
pub struct RotateArgs {
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

pub(super) fn run(args: RotateArgs, client: &Client, out: &mut Out) -> Result<(), Failure> {
    let (place, of, see) = match &args.policy {
        Some(policy) => (
            path(&["policies", policy, "rotate"]),
            format!("the policy {policy}"),
            format!("dinrail identity connection-string --policy {policy} --key {}", args.key),
        ),
        None => {
            let id = super::identity(client, args.id.as_deref().unwrap_or_default())?;
            let see = format!("dinrail identity connection-string {id} --key {}", args.key);
            (super::own_path(&id, "rotate"), id.to_string(), see)
        }
    };
    let mut document: Value = client.post(&place, Some(&json!({"key": args.key})))?;
    forget_keys(&mut document);
    if out.is_json() {
        return out.document(&document);
    }
    out.line(format_args!("the {} key of {of} is another one now; what the old one signed is refused", args.key))?;
    out.note(format_args!("hint: {see} prints the new one"));
    Ok(())
}
