//! `dinrail twin patch ID JSON`.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::change::{self, Change};
use crate::admin::client::{Client, path, query};
use crate::admin::waiting::Acknowledgement;
use crate::cli::out::{Out, Paint, printable};
use crate::cli::{Failure, durations, json_input, wait};
use crate::name::Identity;

#[derive(Debug, Args)]
#[command(after_help = "\
The patch is merged into the desired properties: objects are merged, null removes, anything else takes the place of what \
was there. Dots in a key nest; a value is JSON where it parses and text where it does not.

Examples:
  dinrail twin patch filter threshold=1 --wait
  dinrail twin patch filter limits.high=80 unit=°C note=null
  dinrail twin patch filter '{\"limits\": {\"high\": 80}}'
  dinrail twin patch filter @patch.json
  echo '{\"threshold\": 1}' | dinrail twin patch filter -")]
pub struct PatchArgs {
    /// Module, or identity of a module or device
    id: String,
    /// The patch: JSON, @FILE, - for standard input, or key=value pairs
    #[arg(required = true, value_name = "JSON")]
    document: Vec<String>,
    /// Wait until the module has accepted or refused it
    #[arg(long)]
    wait: bool,
    /// Longest wait
    #[arg(long, value_name = "SPAN", default_value = "30s", value_parser = durations::parse)]
    timeout: Duration,
}

pub(super) fn run(args: PatchArgs, client: &Client, out: &mut Out) -> Result<(), Failure> {
    let patch = json_input::read(&args.document)?;
    check(&patch)?;
    let id = super::identity(client, &args.id)?;
    let waits_for = waits_for(&id, args.wait)?;

    let twin_path = super::twin_path(&id);
    let before: Value = client.get(&twin_path)?;
    let after: Value = client.patch(&twin_path, &json!({"properties": {"desired": patch}}))?;
    let changes = change::between(super::desired(&before), super::desired(&after));
    let version = super::version(&after);
    if !out.is_json() {
        tell(&changes, version, out)?;
        out.flush()?;
    }
    let answer = match (waits_for, version) {
        (Some(module), Some(version)) => Some(acknowledgement(client, module, version, args.timeout)),
        _ => None,
    };
    if out.is_json() {
        // Written in any case: the patch is made, whatever the module says to it.
        let acknowledged = answer.as_ref().and_then(|answer| answer.as_ref().ok());
        out.document(&json!({"version": version, "changes": changes, "acknowledged": acknowledged}))?;
    }
    match (answer, waits_for) {
        (Some(answer), Some(module)) => verdict(&answer?, module, out),
        _ => Ok(()),
    }
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

/// The module that is to answer.
fn waits_for(id: &Identity, wait: bool) -> Result<Option<&str>, Failure> {
    match id.module_id() {
        _ if !wait => Ok(None),
        Some(module) => Ok(Some(module)),
        None => Err(Failure::usage(format!("{id} is a device: nobody acknowledges its twin")).hint("leave out --wait")),
    }
}

/// Prints what changed.
pub(super) fn tell(changes: &[Change], version: Option<u64>, out: &mut Out) -> Result<(), Failure> {
    for change in changes {
        out.line(change)?;
    }
    let version = version.map_or("unknown".to_owned(), |version| version.to_string());
    let remark = if changes.is_empty() { " (nothing changed)" } else { "" };
    out.line(format_args!("desired version {version}{remark}"))
}

fn acknowledgement(client: &Client, module: &str, version: u64, limit: Duration) -> Result<Acknowledgement, Failure> {
    let route = query(&path(&["modules", module, "acknowledged"]), &[("version", &version.to_string())]);
    wait::repeat(limit, |slice| client.get_waiting(&route, slice))
}

fn verdict(answer: &Acknowledgement, module: &str, out: &mut Out) -> Result<(), Failure> {
    if answer.ok {
        let accepted = out.paint(Paint::Green, "accepted");
        return if out.is_json() { Ok(()) } else { out.line(accepted) };
    }
    let why = answer.error.as_deref().map_or("it gave no reason".to_owned(), printable);
    Err(Failure::new(format!("{module} refused version {}: {why}", answer.version))
        .hint("it goes on with what it had; patch again with values that it takes"))
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

    #[test]
    fn nobody_waits_for_a_device() {
        let device = Identity::device("D").unwrap();
        assert!(waits_for(&device, true).is_err());
        assert!(matches!(waits_for(&device, false), Ok(None)));
    }
}
