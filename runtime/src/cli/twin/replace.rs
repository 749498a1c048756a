//! `dinrail twin replace ID JSON`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde_json::{Map, Value, json};

use super::terms::{Asked, Terms};
use crate::admin::client::Client;
use crate::cli::out::Out;
use crate::cli::{Failure, json_input};

#[derive(Debug, Args)]
#[command(after_help = "\
What is not named is removed; tags are kept, or with --tags the desired properties. Refused if somebody else changes the twin \
at the same time, and where the module's image says that it does not take such properties.

Examples:
  dinrail twin replace filter @settings.json --wait
  dinrail twin replace filter threshold=1 unit=°C
  dinrail twin replace filter --tags hall=3
  dinrail twin replace filter '{}'")]
pub struct ReplaceArgs {
    /// Module, or identity of a module or device
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    id: String,
    /// The desired properties: JSON, @FILE, - for standard input, or key=value pairs
    #[arg(required = true, value_name = "JSON")]
    document: Vec<String>,
    #[command(flatten)]
    terms: Terms,
}

pub(super) fn run(mut args: ReplaceArgs, client: &Client, out: &mut Out) -> Result<(), Failure> {
    let what = if args.terms.tags { "tags" } else { "desired properties" };
    let document = json_input::read_object(what, &args.document)?;
    if !args.terms.tags {
        return args.terms.carry_out(&args.id, client, out, |before| {
            let tags = before.get("tags").cloned().unwrap_or_else(|| json!({}));
            Asked::Put(json!({"tags": tags, "properties": {"desired": document}}))
        });
    }
    // As a patch, since a PUT would be a change of the desired properties too.
    let before: Value = client.get(&super::twin_path(&super::identity(client, &args.id)?))?;
    args.terms.if_match.get_or_insert_with(|| before["etag"].as_str().unwrap_or("*").to_owned());
    let old = before["tags"].as_object().cloned().unwrap_or_default();
    args.terms.carry_out(&args.id, client, out, |_| Asked::Patch(json!({"tags": leading_to(&old, &document)})))
}

/// The patch that makes `new` of `old`.
fn leading_to(old: &Map<String, Value>, new: &Map<String, Value>) -> Map<String, Value> {
    let mut patch: Map<String, Value> =
        old.keys().filter(|key| !new.contains_key(*key)).map(|key| (key.clone(), Value::Null)).collect();
    for (key, value) in new {
        let value = match (old.get(key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => Value::Object(leading_to(old, new)),
            _ => value.clone(),
        };
        patch.insert(key.clone(), value);
    }
    patch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_is_removed_at_every_level() {
        let (old, new) = (json!({"a": 1, "b": {"c": 2, "d": 3}}), json!({"b": {"c": 2}, "e": 5}));
        let patch = leading_to(old.as_object().unwrap(), new.as_object().unwrap());
        assert_eq!(Value::Object(patch), json!({"a": null, "b": {"d": null, "c": 2}, "e": 5}));
    }
}
