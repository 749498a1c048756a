//! `dinrail losses [NAME]`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::out::{Paint, printable};
use super::table::Table;
use super::{Context, Failure};
use crate::admin::client::query;
use crate::view::{LossEntry, LossPlace, LossesView};

/// The reason of an entry that says that sequences begin again.
const BOOK_LOST: &str = "bookLost";

#[derive(Debug, Args)]
#[command(after_help = "\
FIRST and LAST are epoch.sequence: the sequence counts what a sender has sent to an output, over restarts too; the epoch changes \
only when the book of sequences was lost. ≤ marks what nobody was left to count, ~ a range of which not every message was lost. \
Messages that are parked are set aside as poisonous and not lost yet; withdrawn are numbers that no message has; notAcknowledged is a range in which an unclean end skipped some: what was acknowledged among them is not lost.

Examples:
  dinrail losses
  dinrail losses filter
  dinrail losses --json")]
pub struct LossesArgs {
    /// Only what this module, MODULE/INPUT, MODULE/OUTPUT or endpoint sent or was to get
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    name: Option<String>,
}

pub(super) fn run(args: LossesArgs, context: &mut Context) -> Result<(), Failure> {
    let name: Vec<(&str, &str)> = args.name.iter().map(|name| ("name", name.as_str())).collect();
    let losses: LossesView = context.client()?.get(&query("/losses", &name))?;
    let out = &mut context.out;
    if out.is_json() {
        return out.document(&losses);
    }
    // Ranges in which nothing is missing explain numbers to programs; to people they say nothing.
    // That the book was lost has no count, and is the worst of all.
    let (begun, ranges): (Vec<LossEntry>, Vec<LossEntry>) =
        losses.entries.iter().cloned().partition(|entry| entry.reason == BOOK_LOST);
    let (entries, unused): (Vec<LossEntry>, Vec<LossEntry>) = ranges.into_iter().partition(|entry| entry.count > 0);
    for entry in &begun {
        let line = out.paint(Paint::Red, &begins_again(entry));
        out.line(line)?;
    }
    if entries.is_empty() && begun.is_empty() {
        return out.line(nothing(args.name.is_some(), unused.len()));
    }
    if !entries.is_empty() {
        out.text(&table(&entries).render(out.width(), out.has_colour()))?;
        out.note(sum(&losses));
    }
    match unused.len() {
        0 => {}
        1 => out.note("1 range of numbers that no message has is not shown; --json has it"),
        count => out.note(format!("{count} ranges of numbers that no message has are not shown; --json has them")),
    }
    if losses.dead_letters > 0 {
        let name = args.name.iter().map(|name| format!(" {}", printable(name))).collect::<String>();
        out.note(format!("{} still set aside: dinrail dead-letter list{name}", losses.dead_letters));
    }
    Ok(())
}

fn begins_again(entry: &LossEntry) -> String {
    let time = entry.first_time_utc.as_ref().map(|time| format!(" ({time})")).unwrap_or_default();
    format!(
        "bookLost{time}: the book of sequences was lost; sequences begin again at 1, in epoch {}, and what was lost before that \
         is not known",
        entry.last.epoch
    )
}

/// The all-clear. `skipped`: ranges in which numbers were skipped that no acknowledged message has.
fn nothing(of_one: bool, skipped: usize) -> String {
    let nothing =
        if of_one { "nothing of it or for it was lost or set aside" } else { "nothing was lost or set aside" };
    match skipped {
        0 => nothing.to_owned(),
        1 => format!("{nothing}; in 1 range numbers were skipped, which no acknowledged message has (--json has it)"),
        count => format!(
            "{nothing}; in {count} ranges numbers were skipped, which no acknowledged message has (--json has them)"
        ),
    }
}

fn sum(losses: &LossesView) -> String {
    let LossesView { lost, parked, .. } = losses;
    let bound =
        if losses.entries.iter().any(|entry| entry.is_upper_bound && entry.count > 0) { "at most " } else { "" };
    format!("{bound}{lost} lost, {parked} parked")
}

fn table(entries: &[LossEntry]) -> Table {
    let mut table = Table::new(&["REASON", "COUNT", "FIRST", "LAST", "SENDER", "OUTPUT", "ENDPOINT"]);
    for entry in entries {
        table.row(
            [
                entry.reason.clone(),
                if entry.is_upper_bound { format!("≤ {}", entry.count) } else { entry.count.to_string() },
                place(entry.first),
                format!("{}{}", place(entry.last), if entry.is_covering { " ~" } else { "" }),
                entry.sender.clone(),
                entry.output.clone(),
                entry.endpoint.clone(),
            ]
            .map(Into::into),
        );
    }
    table
}

/// Such as `3.41`; `-` where nobody knows.
fn place(place: LossPlace) -> String {
    if place.sequence == 0 { "-".into() } else { format!("{}.{}", place.epoch, place.sequence) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_book_is_told_and_skipped_numbers_are_mentioned() {
        let entry = LossEntry {
            sender: "/devices/D".into(),
            output: String::new(),
            endpoint: String::new(),
            reason: BOOK_LOST.into(),
            count: 0,
            first: LossPlace { epoch: 3, sequence: 0 },
            last: LossPlace { epoch: 4, sequence: 0 },
            is_upper_bound: true,
            is_covering: false,
            first_time_utc: Some("2026-11-22T09:00:00.000Z".into()),
            last_time_utc: None,
        };
        let text = begins_again(&entry);
        assert!(text.starts_with("bookLost (2026-11-22T09:00:00.000Z): ") && text.contains("in epoch 4"), "{text}");
        assert_eq!(nothing(false, 0), "nothing was lost or set aside");
        assert!(nothing(true, 1).contains("in 1 range numbers were skipped"));
        assert!(nothing(false, 2).contains("in 2 ranges numbers were skipped"));
    }

    #[test]
    fn places_that_nobody_knows_are_not_made_up() {
        assert_eq!(place(LossPlace { epoch: 3, sequence: 41 }), "3.41");
        assert_eq!(place(LossPlace { epoch: 3, sequence: 0 }), "-");
    }
}
