//! `dinrail twin patch ID JSON`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde_json::{Value, json};

use super::terms::{Asked, Terms};
use crate::admin::client::Client;
use crate::cli::out::Out;
use crate::cli::{Failure, json_input};

#[derive(Debug, Args)]
#[command(after_help = "\
The patch is merged into the desired properties: objects are merged, null removes, anything else takes the place of what \
was there. Dots in a key nest; a value is JSON where it parses and text where it does not. What the module's image says \
that it does not take is refused, all of it at once.

Examples:
  dinrail twin patch filter threshold=1 --wait
  dinrail twin patch filter limits.high=80 unit=°C note=null
  dinrail twin patch filter '{\"limits\": {\"high\": 80}}'
  dinrail twin patch filter --tags hall=3
  dinrail twin patch filter @patch.json --if-match AAAAAAAAAAM=
  echo '{\"threshold\": 1}' | dinrail twin patch filter -")]
pub struct PatchArgs {
    /// Module, or identity of a module or device
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    id: String,
    /// The patch: JSON, @FILE, - for standard input, or key=value pairs
    #[arg(required = true, value_name = "JSON")]
    document: Vec<String>,
    #[command(flatten)]
    terms: Terms,
}

pub(super) fn run(args: PatchArgs, client: &Client, out: &mut Out) -> Result<(), Failure> {
    let patch = json_input::read(&args.document)?;
    check(&patch)?;
    let body = if args.terms.tags { json!({"tags": patch}) } else { json!({"properties": {"desired": patch}}) };
    args.terms.carry_out(&args.id, client, out, |_| Asked::Patch(body))
}

/// Refuses what is surely not meant.
fn check(patch: &Value) -> Result<(), Failure> {
    let Value::Object(members) = patch else {
        return Err(Failure::usage("a patch is a JSON object, such as {\"threshold\": 1}"));
    };
    if members.get("properties").is_some_and(|properties| properties.get("desired").is_some()) {
        return Err(Failure::usage("the patch is wrapped in properties.desired")
            .hint("what is patched are the desired properties themselves: leave the wrapping out"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_merged_into_desired_properties_is_a_patch() {
        assert!(check(&json!({"threshold": 1})).is_ok());
        assert!(check(&json!({"properties": 1})).is_ok());
        assert!(check(&json!({"properties": {"desired": {"threshold": 1}}})).is_err());
        assert!(check(&json!([1])).is_err());
    }
}
