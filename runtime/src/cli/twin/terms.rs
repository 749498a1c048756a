//! What every change of a twin may be told, and how it is carried out: asked for, shown, and waited for.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::change::{self, Change};
use crate::admin::client::{Client, path, query};
use crate::admin::waiting::Acknowledgement;
use crate::cli::out::{Out, Paint, printable};
use crate::cli::{Failure, durations, wait};
use crate::name::Identity;
use crate::view::{HealthView, ModuleView};

#[derive(Debug, Args)]
pub struct Terms {
    /// Change the tags, not the desired properties
    #[arg(long)]
    pub tags: bool,
    /// Only if the twin still has this etag, as `dinrail twin get` shows it
    #[arg(long, value_name = "ETAG")]
    pub if_match: Option<String>,
    /// Insist, though the module's image says that it does not take such properties
    #[arg(long)]
    pub force: bool,
    /// Wait until the module has accepted or refused it
    #[arg(long, conflicts_with = "tags")]
    pub wait: bool,
    /// Longest wait
    #[arg(long, value_name = "SPAN", default_value = "30s", value_parser = durations::parse)]
    pub timeout: Duration,
}

/// A change as it is asked for.
pub(super) enum Asked {
    /// PATCH with this body.
    Patch(Value),
    /// PUT with this body.
    Put(Value),
    /// POST to `undo` with this body.
    Undo(Value),
}

impl Terms {
    /// The section that is changed, of a root document.
    pub(super) fn section<'v>(&self, twin: &'v Value) -> &'v Value {
        if self.tags { &twin["tags"] } else { super::desired(twin) }
    }

    /// Asks for the change that `make` makes of the twin as it is, and shows what became of it.
    pub(super) fn carry_out(
        &self,
        id: &str,
        client: &Client,
        out: &mut Out,
        make: impl FnOnce(&Value) -> Asked,
    ) -> Result<(), Failure> {
        let id = super::identity(client, id)?;
        let waits_for = waits_for(&id, self.wait)?;
        let twin_path = super::twin_path(&id);
        let before: Value = client.get(&twin_path)?;
        if let Some(module) = waits_for {
            check_served(client, &id, module)?;
        }
        let etag = self.if_match.as_deref().map(|tag| tag.trim_matches('"'));
        let forced = |path: &str| if self.force { query(path, &[("force", "true")]) } else { path.to_owned() };
        let after: Value = match make(&before) {
            Asked::Patch(body) => client.patch(&forced(&twin_path), &body, etag)?,
            // It is made from what was read, and what somebody else has written since must not be lost.
            Asked::Put(body) => client.put(&forced(&twin_path), &body, etag.or(before["etag"].as_str()))?,
            Asked::Undo(body) => client.post_matching(&forced(&format!("{twin_path}/undo")), &body, etag)?,
        };
        let changes = change::between(self.section(&before), self.section(&after));
        let version = super::version(&after).filter(|_| !self.tags);
        if !out.is_json() {
            self.tell(&changes, version, out)?;
            out.flush()?;
        }
        let answer = match (waits_for, version) {
            (Some(module), Some(version)) => Some(acknowledgement(client, module, version, self.timeout)),
            _ => None,
        };
        if out.is_json() {
            // Written in any case: the change is made, whatever the module says to it.
            let acknowledged = answer.as_ref().and_then(|answer| answer.as_ref().ok());
            out.document(&json!({
                "version": version, "etag": after["etag"], "changes": changes, "acknowledged": acknowledged,
            }))?;
        }
        match (answer, waits_for) {
            (Some(answer), Some(module)) => verdict(&answer?, module, out),
            _ => Ok(()),
        }
    }

    fn tell(&self, changes: &[Change], version: Option<u64>, out: &mut Out) -> Result<(), Failure> {
        for change in changes {
            out.line(change)?;
        }
        let remark = if changes.is_empty() { " (nothing changed)" } else { "" };
        match version {
            Some(version) => out.line(format_args!("desired version {version}{remark}")),
            None if changes.is_empty() => out.line("the tags are as they were"),
            None => Ok(()),
        }
    }
}

/// The module that is to answer.
fn waits_for(id: &Identity, wait: bool) -> Result<Option<&str>, Failure> {
    match id.module_id() {
        _ if !wait => Ok(None),
        Some(module) => Ok(Some(module)),
        None => Err(Failure::usage(format!("{id} is a device: nobody acknowledges its twin")).hint("leave out --wait")),
    }
}

/// Refuses to wait for an identity that no instance on this device acts as.
fn check_served(client: &Client, id: &Identity, module: &str) -> Result<(), Failure> {
    let health: HealthView = client.get("/health")?;
    let modules: Vec<ModuleView> = client.get("/modules")?;
    match health.device_id == id.device_id() && modules.iter().any(|instance| instance.name == module) {
        true => Ok(()),
        false => Err(Failure::new(format!("{id} has no instance here: nobody acknowledges its twin"))
            .hint("leave out --wait; nothing was changed")),
    }
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
    fn nobody_waits_for_a_device() {
        let device = Identity::device("D").unwrap();
        assert!(waits_for(&device, true).is_err());
        assert!(matches!(waits_for(&device, false), Ok(None)));
    }
}
