//! `dinrail check`: what the runtime finds when it looks at itself and its device; without one, what can be seen without it.

use clap::Args;

use super::out::{Out, Paint, printable};
use super::places::Surroundings;
use super::progress::Progress;
use super::{Context, Failure};
use crate::admin::client::{Client, ClientError};
use crate::check::{self, state};
use crate::clock;
use crate::view::{CheckView, Finding, HealthView, Severity};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dinrail check
  dinrail check --warnings-as-errors --json

Exits 1 if anything is an error. Without a running runtime it looks at the state directory alone, and says so.")]
pub struct CheckArgs {
    /// Exit 1 for warnings too
    #[arg(long)]
    warnings_as_errors: bool,
}

pub(super) fn run(args: CheckArgs, context: &mut Context) -> Result<(), Failure> {
    let mut progress = Progress::start();
    progress.say("looking");
    let found = look(context)?;
    drop(progress);
    if context.out.is_json() {
        context.out.document(&found)?;
    } else {
        show(&found, &mut context.out)?;
    }
    let errors = found.findings.iter().filter(|finding| is_bad(finding.status, args.warnings_as_errors)).count();
    match errors {
        0 => Ok(()),
        1 => Err(Failure::new("1 check failed")),
        errors => Err(Failure::new(format!("{errors} checks failed"))),
    }
}

fn is_bad(status: Severity, warnings_too: bool) -> bool {
    status == Severity::Error || (warnings_too && status == Severity::Warning)
}

/// What can be found out from here, with or without a runtime.
pub(super) fn look(context: &Context) -> Result<CheckView, Failure> {
    if context.host.is_some() {
        return ask(&context.client()?);
    }
    match context.find() {
        Ok(client) => ask(&client),
        Err(ClientError::NoRuntime(tried)) => {
            let details = tried.iter().map(|tried| format!("tried {}: {}", tried.state_dir.display(), tried.why));
            let mut findings = vec![Finding {
                id: "runtime".to_owned(),
                status: Severity::Error,
                summary: "no runtime answers; what follows was looked at without it".to_owned(),
                details: details.collect(),
                hint: Some("start it: systemctl start dinrail, or dinrail run; --state DIR names another".to_owned()),
            }];
            findings.extend(without_runtime(context)?);
            Ok(CheckView::of(findings))
        }
        Err(error) => Err(error.into()),
    }
}

fn ask(client: &Client) -> Result<CheckView, Failure> {
    let health: HealthView = client.get("/health")?;
    let mut findings = vec![runtime(&health, env!("CARGO_PKG_VERSION"))];
    findings.extend(client.get::<CheckView>("/check")?.findings);
    Ok(CheckView::of(findings))
}

fn runtime(health: &HealthView, own_version: &str) -> Finding {
    let HealthView { version, pid, uptime_secs, state, .. } = health;
    let up = clock::spoken(std::time::Duration::from_secs(*uptime_secs));
    let summary = format!("dinrail {version} answers from {state} (process {pid}, up {up})");
    let is_same = version == own_version;
    Finding {
        id: "runtime".to_owned(),
        status: if is_same { Severity::Ok } else { Severity::Warning },
        summary,
        details: Vec::new(),
        hint: (!is_same).then(|| format!("this command is {own_version}: restart the runtime to run that too")),
    }
}

fn without_runtime(context: &Context) -> Result<Vec<Finding>, Failure> {
    let state = match &context.state {
        Some(state) => state.clone(),
        None => {
            let places = Surroundings::read().client_states();
            let there = places.iter().find(|place| place.is_dir()).or(places.first());
            there
                .cloned()
                .ok_or_else(|| Failure::usage("there is no state directory to look at").hint("give --state DIR"))?
        }
    };
    let mut findings = state::state_directory(&state);
    findings.push(check::clock(clock::wall_us(), state::last_written_us(&state)));
    findings.push(check::system());
    Ok(findings)
}

fn show(found: &CheckView, out: &mut Out) -> Result<(), Failure> {
    let width = found.findings.iter().map(|finding| finding.id.len()).max().unwrap_or(0);
    for finding in &found.findings {
        let (word, paint) = word(finding.status);
        let word = out.paint(paint, &format!("{word:<7}"));
        out.line(format!("{word}  {:<width$}  {}", finding.id, printable(&finding.summary)).trim_end())?;
        for detail in &finding.details {
            out.line(format!("{:>width$}  - {}", "", printable(detail), width = 7 + 2 + width))?;
        }
        if let Some(hint) = &finding.hint {
            out.line(format!("{:>width$}  what to do: {}", "", printable(hint), width = 7 + 2 + width))?;
        }
    }
    let count = |status| found.findings.iter().filter(|finding| finding.status == status).count();
    out.line(format!(
        "{} ok, {} warnings, {} errors, {} skipped",
        count(Severity::Ok),
        count(Severity::Warning),
        count(Severity::Error),
        count(Severity::Skipped)
    ))
}

fn word(status: Severity) -> (&'static str, Paint) {
    match status {
        Severity::Ok => ("ok", Paint::Green),
        Severity::Warning => ("warning", Paint::Yellow),
        Severity::Error => ("error", Paint::Red),
        Severity::Skipped => ("skipped", Paint::Dim),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_that_answers_is_a_warning() {
        let health = HealthView {
            status: "ok".into(),
            version: "0.1.0".into(),
            device_id: "d".into(),
            pid: 7,
            state: "/s".into(),
            uptime_secs: 3,
            notes: Vec::new(),
            api: None,
        };
        assert_eq!(runtime(&health, "0.1.0").status, Severity::Ok);
        let other = runtime(&health, "0.2.0");
        assert_eq!(other.status, Severity::Warning);
        assert!(other.hint.unwrap().contains("0.2.0"));
    }
}
