//! `dinrail twin history ID`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::change::Change;
use crate::admin::client::{Client, query};
use crate::cli::Failure;
use crate::cli::out::{Out, Paint};
use crate::cli::table::{Cell, Table};
use crate::view::{TwinChangeView, TwinHistoryView};

#[derive(Debug, Args)]
#[command(after_help = "\
Newest first: who changed desired properties or tags, when, and each path with its value before and after. How much is kept is \
set by [twin] history_changes, history_bytes and history_days of the configuration.

Examples:
  dinrail twin history filter
  dinrail twin history filter --path limits.high
  dinrail twin history /devices/Hannover01 --json")]
pub struct HistoryArgs {
    /// Module, or identity of a module or device
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    id: String,
    /// Only changes at, in or around this path
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// So many at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
}

pub(super) fn run(args: HistoryArgs, client: &Client, out: &mut Out) -> Result<(), Failure> {
    let limit = args.limit.to_string();
    let mut parameters = vec![("limit", limit.as_str())];
    parameters.extend(args.path.as_deref().map(|path| ("path", path)));
    let route = format!("{}/history", super::twin_path(&super::identity(client, &args.id)?));
    let history: TwinHistoryView = client.get(&query(&route, &parameters))?;
    if out.is_json() {
        return out.document(&history);
    }
    if history.changes.is_empty() {
        let at = args.path.map_or_else(String::new, |path| format!(" at {path}"));
        return out.line(format_args!("no change of {}{at} is kept", history.identity));
    }
    let text = table(&history.changes).render(out.width(), out.has_colour());
    out.text(&text)
}

fn table(changes: &[TwinChangeView]) -> Table {
    let mut table = Table::new(&["SECTION", "VERSION", "WHEN", "BY", "ACTION", "CHANGES"]);
    for change in changes {
        let version = format!("{} → {}", change.from_version, change.to_version);
        let action = if change.forced {
            Cell::painted(format!("{}, forced", change.action), Paint::Yellow)
        } else {
            change.action.as_str().into()
        };
        table.row([
            change.section.as_str().into(),
            version.into(),
            change.at_utc.as_str().into(),
            change.by.as_str().into(),
            action,
            told(change).into(),
        ]);
    }
    table
}

fn told(change: &TwinChangeView) -> String {
    if change.changes.is_empty() {
        return "(nothing)".to_owned();
    }
    let each = change.changes.iter().map(|change| Change::from(change.clone()).to_string());
    each.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;
    use crate::view::PathChangeView;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: HistoryArgs,
    }

    #[test]
    fn no_change_at_all_is_not_asked_for() {
        let limit = |text| Line::try_parse_from(["history", "filter", "--limit", text]).map(|line| line.args.limit);
        assert!(limit("0").is_err());
        assert_eq!(limit("1").ok(), Some(1));
    }

    #[test]
    fn a_line_says_who_changed_what_from_what_to_what() {
        let change = TwinChangeView {
            section: "desired".into(),
            from_version: 2,
            to_version: 3,
            at_utc: "2026-11-21T14:05:09.123Z".into(),
            by: "anna".into(),
            action: "patch".into(),
            forced: true,
            changes: vec![
                PathChangeView { path: "threshold".into(), old: Some(json!(80)), new: Some(json!(1)) },
                PathChangeView { path: "note".into(), old: None, new: Some(json!("x")) },
            ],
        };

        let text = table(&[change]).render(None, false);

        assert_eq!(
            text.lines().nth(1),
            Some(
                "desired  2 → 3    2026-11-21T14:05:09.123Z  anna  patch, forced  threshold: 80 → 1; note: (none) → \"x\""
            )
        );
    }
}
