//! `dinrail losses [NAME]`.

use clap::Args;

use super::table::Table;
use super::{Context, Failure};
use crate::admin::client::query;
use crate::view::{LossEntry, LossPlace, LossesView};

#[derive(Debug, Args)]
#[command(after_help = "\
FIRST and LAST are epoch.sequence: the sequence counts what a sender has sent to an output, over restarts too; the epoch changes \
only when the book of sequences was lost. ≤ marks what nobody was left to count, ~ a range of which not every message was lost. \
Messages that are parked are set aside as poisonous and not lost yet; notAcknowledged and withdrawn are numbers that no acknowledged message has.

Examples:
  dinrail losses
  dinrail losses filter
  dinrail losses --json")]
pub struct LossesArgs {
    /// Only what this module sent or was to get
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
    let (entries, unused): (Vec<LossEntry>, Vec<LossEntry>) =
        losses.entries.iter().cloned().partition(|entry| entry.count > 0);
    if entries.is_empty() {
        return out.text(match &args.name {
            Some(_) => "nothing of it or for it was lost or set aside\n",
            None => "nothing was lost or set aside\n",
        });
    }
    out.text(&table(&entries).render(out.width(), out.has_colour()))?;
    out.note(sum(&losses));
    if !unused.is_empty() {
        out.note(match unused.len() {
            1 => "1 range of numbers that no message has is not shown; --json has it".to_owned(),
            count => format!("{count} ranges of numbers that no message has are not shown; --json has them"),
        });
    }
    if losses.dead_letters > 0 {
        out.note(format!("{} still set aside: dinrail dead-letter list", losses.dead_letters));
    }
    Ok(())
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
    fn places_that_nobody_knows_are_not_made_up() {
        assert_eq!(place(LossPlace { epoch: 3, sequence: 41 }), "3.41");
        assert_eq!(place(LossPlace { epoch: 3, sequence: 0 }), "-");
    }
}
