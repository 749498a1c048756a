//! `dinrail deployment [ID|history]`.

use clap::Args;
use serde_json::json;

use super::out::{Out, Paint};
use super::table::{Cell, Table};
use super::{Context, Failure, export};
use crate::admin::client::{ClientError, path};
use crate::view::{DeploymentSummary, DeploymentView};

#[derive(Debug, Args)]
#[command(after_help = "\
Shows the deployment in force: what became of it, its modules and routes, and each of its steps. With `history`: all that are \
kept, the last 50. With a number: one of these.

Examples:
  dinrail deployment
  dinrail deployment history
  dinrail deployment 3
  dinrail deployment --export > line3.yaml
  dinrail deployment --json")]
pub struct DeploymentArgs {
    /// `history`, or the number of one of it; the one in force unless told
    #[arg(value_name = "history|ID", value_parser = which, conflicts_with = "export")]
    which: Option<Which>,
    #[command(flatten)]
    export: export::ExportArgs,
}

#[derive(Debug, Clone, Copy)]
enum Which {
    History,
    Id(i64),
}

fn which(text: &str) -> Result<Which, String> {
    match text {
        "history" => Ok(Which::History),
        number => number.parse().map(Which::Id).map_err(|_| "neither 'history' nor the number of a deployment".into()),
    }
}

pub(super) fn run(args: DeploymentArgs, context: &mut Context) -> Result<(), Failure> {
    if args.export.export {
        return export::run(&args.export, context);
    }
    let client = context.client()?;
    let out = &mut context.out;
    let deployment: DeploymentView = match args.which {
        Some(Which::History) => {
            let history: Vec<DeploymentSummary> = client.get("/deployment/history")?;
            return tell_history(&history, out);
        }
        Some(Which::Id(id)) => client.get(&path(&["deployment", "history", &id.to_string()]))?,
        None => match client.get("/deployment") {
            Ok(deployment) => deployment,
            // Nothing in force is a state, not a failure.
            Err(ClientError::Refused { status: 404, error }) => return tell_none(&error.message, out),
            Err(error) => return Err(error.into()),
        },
    };
    if out.is_json() {
        return out.document(&deployment);
    }
    let text = render(&deployment, out.width(), out.has_colour());
    out.text(&text)
}

fn tell_none(message: &str, out: &mut Out) -> Result<(), Failure> {
    if out.is_json() {
        return out.document(&json!({
            "id": null, "origin": null, "by": null, "appliedUtc": null, "status": null, "reason": message,
            "isInForce": false, "healthSecs": null, "modules": [], "routes": [], "notes": [], "steps": [],
            "rolledBack": null,
        }));
    }
    out.line(format_args!("{message}; apply one with `dinrail deploy FILE`"))
}

fn tell_history(history: &[DeploymentSummary], out: &mut Out) -> Result<(), Failure> {
    if out.is_json() {
        return out.document(&history);
    }
    if history.is_empty() {
        return out.line("nothing was deployed yet; apply a manifest with `dinrail deploy FILE`");
    }
    let text = history_table(history).render(out.width(), out.has_colour());
    out.text(&text)
}

fn history_table(history: &[DeploymentSummary]) -> Table {
    let mut table = Table::new(&["ID", "APPLIED", "STATUS", "MODULES", "BY", "ORIGIN", "REASON"]);
    for line in history {
        let id = if line.is_in_force { format!("{} *", line.id) } else { line.id.to_string() };
        table.row([
            id.into(),
            line.applied_utc.as_str().into(),
            painted(&line.status),
            line.module_count.to_string().into(),
            line.by.as_str().into(),
            line.origin.as_str().into(),
            line.reason.as_str().into(),
        ]);
    }
    table
}

/// The word for a status, as a person reads it.
pub(super) fn status_word(status: &str) -> &str {
    match status {
        "rolledBack" => "rolled back",
        "applying" => "being applied",
        other => other,
    }
}

fn painted(status: &str) -> Cell {
    let paint = match status {
        "applied" | "done" => Paint::Green,
        "failed" | "rolledBack" => Paint::Red,
        "superseded" => Paint::Dim,
        _ => Paint::Yellow,
    };
    Cell::painted(status_word(status), paint)
}

fn render(deployment: &DeploymentView, width: Option<usize>, colour: bool) -> String {
    let DeploymentView {
        id, origin, by, applied_utc, status, reason, modules, routes, notes, steps, rolled_back, ..
    } = deployment;
    let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let by = if by.is_empty() { String::new() } else { format!(", by {by}") };
    let mut text = format!("deployment {id} is {}{why}\nfrom {origin}, {applied_utc}{by}\n", status_word(status));
    if let Some(failed) = rolled_back {
        text += &format!("deployment {} from {} was rolled back: {}\n", failed.id, failed.origin, failed.reason);
    }
    for module in modules {
        text += &format!("module  {module}\n");
    }
    if !routes.is_empty() {
        let mut table = Table::new(&["ROUTE", "TEXT"]);
        for (name, route) in routes {
            table.row([name.as_str().into(), route.as_str().into()]);
        }
        text += &table.render(width, colour);
    }
    if !steps.is_empty() {
        let mut table = Table::new(&["STEP", "NAME", "STATE", "REASON"]);
        for step in steps {
            let reason = if step.outcome.is_empty() {
                step.reason.clone()
            } else {
                format!("{} ({})", step.outcome, step.reason)
            };
            table.row([step.action.as_str().into(), step.name.as_str().into(), painted(&step.state), reason.into()]);
        }
        text += &table.render(width, colour);
    }
    for note in notes {
        text += &format!("note: {note}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::{DeploymentStep, RolledBackView};

    fn step(action: &str, name: &str, reason: &str, state: &str, outcome: &str) -> DeploymentStep {
        let [action, name, reason, state, outcome] = [action, name, reason, state, outcome].map(str::to_owned);
        DeploymentStep { action, name, reason, state, outcome }
    }

    #[test]
    fn deployment_in_force_is_shown_with_its_modules_routes_and_steps() {
        let deployment = DeploymentView {
            id: 3,
            origin: "rollback to 1".into(),
            by: "runtime".into(),
            applied_utc: "2026-11-21T14:05:09.123Z".into(),
            status: "applying".into(),
            reason: "1 of 2 steps are done".into(),
            is_in_force: true,
            health_secs: 5,
            modules: vec!["filter: filter:1".into()],
            routes: vec![("up".into(), "FROM /* INTO $upstream".into())],
            notes: vec!["systemModules is ignored".into()],
            steps: vec![
                step("remove", "old", "no longer in the manifest", "done", ""),
                step("start", "filter", "new module", "pending", "waits for its image"),
            ],
            rolled_back: Some(RolledBackView {
                id: 2,
                origin: "line3.json".into(),
                status: "rolledBack".into(),
                reason: "filter: panicked".into(),
            }),
        };

        assert_eq!(
            render(&deployment, None, false),
            "\
deployment 3 is being applied: 1 of 2 steps are done
from rollback to 1, 2026-11-21T14:05:09.123Z, by runtime
deployment 2 from line3.json was rolled back: filter: panicked
module  filter: filter:1
ROUTE  TEXT
up     FROM /* INTO $upstream
STEP    NAME    STATE    REASON
remove  old     done     no longer in the manifest
start   filter  pending  waits for its image (new module)
note: systemModules is ignored
"
        );
    }

    #[test]
    fn history_marks_the_one_in_force() {
        let line = |id, status: &str, reason: &str, is_in_force| DeploymentSummary {
            id,
            origin: "a.json".into(),
            by: "ada".into(),
            applied_utc: "2026-11-21T14:05:09.123Z".into(),
            status: status.into(),
            reason: reason.into(),
            module_count: 2,
            is_in_force,
        };
        let history = [line(2, "applied", "", true), line(1, "rolledBack", "x: panicked", false)];

        assert_eq!(
            history_table(&history).render(None, false),
            "\
ID   APPLIED                   STATUS       MODULES  BY   ORIGIN  REASON
2 *  2026-11-21T14:05:09.123Z  applied      2        ada  a.json
1    2026-11-21T14:05:09.123Z  rolled back  2        ada  a.json  x: panicked
"
        );
    }
}
