//! `dinrail plan FILE`.

use std::path::PathBuf;

use clap::Args;

use super::manifest::ManifestFile;
use super::out::Out;
use super::table::Table;
use super::{Context, Failure};
use crate::view::PlanView;

#[derive(Debug, Args)]
#[command(after_help = "\
Nothing is changed, and no image is sent.

Examples:
  dinrail plan deployments/host-monitor.json
  dinrail plan line3.yaml --json")]
pub struct PlanArgs {
    /// The manifest: JSON or YAML; - for standard input
    file: PathBuf,
}

pub(super) fn run(args: PlanArgs, context: &mut Context) -> Result<(), Failure> {
    let manifest = ManifestFile::read(&args.file)?;
    let client = context.client()?;
    let (digests, missing) = manifest.digests();
    let planned = client.post("/deployment/plan", Some(&manifest.request(&digests, &missing)));
    let plan: PlanView = planned.map_err(|error| manifest.refused(error))?;
    if context.out.is_json() {
        return context.out.document(&plan);
    }
    tell(&plan, &mut context.out)
}

/// Prints the steps and notes of a plan.
pub(super) fn tell(plan: &PlanView, out: &mut Out) -> Result<(), Failure> {
    if plan.steps.is_empty() {
        out.line("nothing to do: it is so already")?;
    } else {
        out.text(&table(plan).render(out.width(), out.has_colour()))?;
    }
    for note in &plan.notes {
        out.line(format_args!("note: {note}"))?;
    }
    Ok(())
}

fn table(plan: &PlanView) -> Table {
    let mut table = Table::new(&["ACTION", "NAME", "REASON"]);
    for step in &plan.steps {
        table.row([step.action.as_str().into(), step.name.as_str().into(), step.reason.as_str().into()]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::PlanStep;

    #[test]
    fn plan_shows_a_step_a_line() {
        let step = |action: &str, name: &str, reason: &str| PlanStep {
            action: action.into(),
            name: name.into(),
            reason: reason.into(),
        };
        let plan =
            PlanView { steps: vec![step("restart", "filter", "image changed"), step("keep", "a", "")], notes: vec![] };

        let expected = "ACTION   NAME    REASON\nrestart  filter  image changed\nkeep     a\n";
        assert_eq!(table(&plan).render(None, false), expected);
    }
}
