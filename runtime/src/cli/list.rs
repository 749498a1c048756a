//! `dinrail list`.

use std::time::Duration;

use clap::Args;

use super::out::Paint;
use super::table::{Cell, Table};
use super::{Context, Failure};
use crate::clock;
use crate::view::{ModuleView, Status};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dinrail list
  dinrail list --json")]
pub struct ListArgs {}

pub(super) fn run(_: ListArgs, context: &mut Context) -> Result<(), Failure> {
    let client = context.client()?;
    let modules: Vec<ModuleView> = client.get("/modules")?;
    let out = &mut context.out;
    if out.is_json() {
        return out.document(&modules);
    }
    out.text(&table(&modules, clock::wall_us()).render(out.width(), out.has_colour()))?;
    if modules.is_empty() {
        let drop = client.state_dir().map(|state| format!("copy a library into {}, or ", state.join("drop").display()));
        out.note(format!("no modules yet: {}`dinrail deploy FILE`", drop.unwrap_or_default()));
    }
    Ok(())
}

fn table(modules: &[ModuleView], now_us: i64) -> Table {
    let mut table = Table::new(&["NAME", "STATUS", "IMAGE", "ISOLATION", "RESTARTS", "UPTIME", "DESCRIPTION"]);
    for module in modules {
        table.row([
            module.name.as_str().into(),
            Cell::painted(module.status.as_str(), paint(module.status)),
            image(module).into(),
            module.isolation.as_str().into(),
            module.restart_count.to_string().into(),
            uptime(module, now_us).map_or("-".into(), clock::spoken).into(),
            description(module),
        ]);
    }
    table
}

/// Why it is in its state, or what it says itself; a warning is told as one.
fn description(module: &ModuleView) -> Cell {
    let text = module.status_description.as_str();
    match module.health.as_ref().filter(|health| health.sentence == text).map(|health| health.level.as_str()) {
        Some("error") => Cell::painted(text, Paint::Red),
        Some("warn") => Cell::painted(text, Paint::Yellow),
        _ => text.into(),
    }
}

/// The colour of a status.
pub(super) fn paint(status: Status) -> Paint {
    match status {
        Status::Running => Paint::Green,
        Status::Waiting | Status::Starting | Status::Stopping | Status::Backoff => Paint::Yellow,
        Status::Unhealthy | Status::Failed | Status::Quarantined => Paint::Red,
        Status::Stopped => Paint::Dim,
    }
}

/// The reference, and the version that it stands for where it does not say so itself.
pub(super) fn image(module: &ModuleView) -> String {
    match &module.version {
        Some(version) if !module.image.ends_with(&format!(":{version}")) => format!("{} ({version})", module.image),
        _ => module.image.clone(),
    }
}

/// How long it has been up; `None` where it is not.
pub(super) fn uptime(module: &ModuleView, now_us: i64) -> Option<Duration> {
    if !matches!(module.status, Status::Running | Status::Unhealthy) {
        return None;
    }
    let started: jiff::Timestamp = module.last_start_time_utc.as_deref()?.parse().ok()?;
    // A clock that was set back makes no negative uptime.
    Some(Duration::from_micros(u64::try_from(now_us - started.as_microsecond()).unwrap_or(0)))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A module as the server describes it.
    pub fn module(name: &str, status: &str) -> ModuleView {
        serde_json::from_value(serde_json::json!({
            "name": name, "identity": format!("/devices/D/modules/{name}"), "status": status, "image": "filter:1",
            "version": "1.2.0", "digest": "sha256:00ff", "isolation": "thread", "restartPolicy": "always",
            "restartCount": 0, "lastStartTimeUtc": "2026-11-21T14:05:09.123Z", "lastExitTimeUtc": null, "exitCode": null,
            "statusDescription": "2 of 3 sensors answer", "desiredVersion": 3, "reportedVersion": 5,
            "inbox": {"messages": 2, "bytes": 512, "spilled": 0}, "cpuSeconds": null, "memoryBytes": null
        }))
        .unwrap()
    }

    #[test]
    fn list_shows_one_line_a_module() {
        let modules = [module("filter", "running"), module("filter-2", "stopped")];
        let two_minutes_on = 1_795_269_909_123_000 + 130_000_000;

        let text = table(&modules, two_minutes_on).render(None, false);

        assert_eq!(
            text,
            "\
NAME      STATUS   IMAGE             ISOLATION  RESTARTS  UPTIME      DESCRIPTION
filter    running  filter:1 (1.2.0)  thread     0         2 min 10 s  2 of 3 sensors answer
filter-2  stopped  filter:1 (1.2.0)  thread     0         -           2 of 3 sensors answer
"
        );
    }

    #[test]
    fn clock_set_back_makes_no_negative_uptime() {
        assert_eq!(uptime(&module("a", "running"), 0), Some(Duration::ZERO));
    }
}
