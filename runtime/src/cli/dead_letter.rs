//! `dinrail dead-letter list|show|resend|purge`.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use serde_json::json;

use super::durations;
use super::out::{Out, cut, printable};
use super::table::Table;
use super::{Context, Failure};
use crate::admin::client::{Client, path, query};
use crate::view::{DeadLetterChoice, DeadLetterView, DeadLettersMoved, DeadLettersView};

/// Letters of one request.
const PAGE: u64 = 500;
/// Longest reason in the table.
const MAX_REASON: usize = 60;

#[derive(Debug, Args)]
#[command(after_help = "\
A message that a module parks, or whose handling fails again and again, is set aside: it is kept over restarts, and the others go on. \
When what was wrong with it, or with the module, is mended, it can be sent again.

Examples:
  dinrail dead-letter list
  dinrail dead-letter show 17
  dinrail dead-letter resend 17
  dinrail dead-letter purge --of filter --older-than 30d")]
pub struct DeadLetterArgs {
    #[command(subcommand)]
    verb: DeadLetterVerb,
}

#[derive(Debug, Subcommand)]
enum DeadLetterVerb {
    /// List the messages that were set aside, the oldest first
    List(ListArgs),
    /// Show one message, with its properties, its body and the reason
    Show(ShowArgs),
    /// Put messages back into their queues, as if they had never been delivered
    Resend(ResendArgs),
    /// Discard messages; the ledger of losses then has them as purged
    Purge(PurgeArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dinrail dead-letter list
  dinrail dead-letter list filter --older-than 1h
  dinrail dead-letter list --limit 1000 --json")]
struct ListArgs {
    /// Only those for this module, MODULE/INPUT or endpoint
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    name: Option<String>,
    /// Only those that were set aside at least so long ago
    #[arg(long, value_name = "AGE", value_parser = durations::parse)]
    older_than: Option<Duration>,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// Only those behind this id
    #[arg(long, value_name = "ID", default_value_t = 0, hide_default_value = true, allow_negative_numbers = true)]
    after: i64,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dinrail dead-letter show 17
  dinrail dead-letter show 17 --json")]
struct ShowArgs {
    /// Its id
    #[arg(allow_negative_numbers = true)]
    id: i64,
}

#[derive(Debug, Args)]
struct ChoiceArgs {
    /// Ids of the messages
    #[arg(value_name = "ID", allow_negative_numbers = true)]
    ids: Vec<i64>,
    /// All of this module, MODULE/INPUT or endpoint
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    of: Option<String>,
    /// All that were set aside at least so long ago
    #[arg(long, value_name = "AGE", value_parser = durations::parse)]
    older_than: Option<Duration>,
    /// Every one
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dinrail dead-letter resend 17 18
  dinrail dead-letter resend --of filter
  dinrail dead-letter resend --all")]
struct ResendArgs {
    #[command(flatten)]
    choice: ChoiceArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
On a terminal it asks; elsewhere --yes has to say so.

Examples:
  dinrail dead-letter purge 17
  dinrail dead-letter purge --of filter --older-than 30d --yes")]
struct PurgeArgs {
    #[command(flatten)]
    choice: ChoiceArgs,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub(super) fn run(args: DeadLetterArgs, context: &mut Context) -> Result<(), Failure> {
    match args.verb {
        DeadLetterVerb::List(args) => list(&args, context),
        DeadLetterVerb::Show(args) => show(args.id, context),
        DeadLetterVerb::Resend(args) => {
            let choice = choice(&args.choice)?;
            let moved: DeadLettersMoved = context.client()?.post("/deadLetters/resend", Some(&json!(choice)))?;
            tell(&moved, "put back into the queue", context)
        }
        DeadLetterVerb::Purge(args) => purge(&args, context),
    }
}

fn list(args: &ListArgs, context: &mut Context) -> Result<(), Failure> {
    let client = context.client()?;
    let mut view = DeadLettersView { next: Some(args.after), ..DeadLettersView::default() };
    while let Some(after) = view.next.filter(|_| (view.dead_letters.len() as u64) < args.limit) {
        let limit = (args.limit - view.dead_letters.len() as u64).min(PAGE);
        let page = page(&client, args.name.as_deref(), args.older_than, after, limit)?;
        view.total = page.total;
        view.next = page.next;
        view.dead_letters.extend(page.dead_letters);
    }
    let out = &mut context.out;
    if out.is_json() {
        return out.document(&view);
    }
    if view.dead_letters.is_empty() {
        return out.text("nothing is set aside\n");
    }
    let mut table = Table::new(&["ID", "SET ASIDE", "TRIES", "BYTES", "ENDPOINT", "SENDER", "REASON"]);
    for letter in &view.dead_letters {
        let set_aside = letter.parked_time_utc.clone().unwrap_or_else(|| "-".to_owned());
        table.row([
            letter.id.to_string().into(),
            set_aside.into(),
            letter.attempts.to_string().into(),
            letter.bytes.to_string().into(),
            printable(&letter.endpoint).into(),
            printable(&sender(letter)).into(),
            cut(&printable(&letter.reason), MAX_REASON).into(),
        ]);
    }
    let (width, colour) = (out.width(), out.has_colour());
    out.text(&table.render(width, colour))?;
    if let Some(next) = view.next {
        let shown = view.dead_letters.len();
        out.note(format!("{shown} of {}; the next: dinrail dead-letter list --after {next}", view.total));
    }
    Ok(())
}

fn page(
    client: &Client,
    name: Option<&str>,
    older_than: Option<Duration>,
    after: i64,
    limit: u64,
) -> Result<DeadLettersView, Failure> {
    let (after, limit) = (after.to_string(), limit.to_string());
    let age = older_than.map(|age| age.as_secs().to_string());
    let mut words = vec![("after", after.as_str()), ("limit", limit.as_str())];
    words.extend(name.map(|name| ("name", name)));
    words.extend(age.as_deref().map(|age| ("olderThanSecs", age)));
    Ok(client.get(&query("/deadLetters", &words))?)
}

/// Octets of a body that are shown to a person.
const MOST_OCTETS: usize = 256;

fn show(id: i64, context: &mut Context) -> Result<(), Failure> {
    let letter: DeadLetterView = context.client()?.get(&path(&["deadLetters", &id.to_string()]))?;
    let out = &mut context.out;
    if out.is_json() {
        return out.document(&letter);
    }
    out.text(&render(&letter))
}

fn render(letter: &DeadLetterView) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: &str| text.push_str(&format!("{key:<12} {}\n", printable(value)));
    line("id", &letter.id.to_string());
    line("endpoint", &letter.endpoint);
    line("sender", &sender(letter));
    line("sequence", &format!("{}.{}", letter.epoch, letter.sequence));
    line("sent", &letter.created_time_utc);
    if let Some(time) = &letter.true_time_utc {
        line("really sent", &format!("{time} (the clock was wrong)"));
    }
    line("set aside", letter.parked_time_utc.as_deref().unwrap_or("-"));
    line("deliveries", &letter.attempts.to_string());
    line("reason", &letter.reason);
    let part = |name: &str| letter.message.as_ref().and_then(|message| message.get(name));
    for (key, name) in [("properties", "properties"), ("system", "systemProperties")] {
        for (property, value) in part(name).and_then(|part| part.as_object()).into_iter().flatten() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            line(key, &format!("{property} = {value}"));
        }
    }
    match (part("body"), part("bodyHex").and_then(|hex| hex.as_str())) {
        (Some(body), _) => line("body", &body.as_str().map_or_else(|| body.to_string(), str::to_owned)),
        (None, Some(hex)) if hex.len() > 2 * MOST_OCTETS => {
            let all = hex.len() / 2;
            line("body", &format!("{}… ({MOST_OCTETS} of {all} octets; --json has all)", &hex[..2 * MOST_OCTETS]));
        }
        (None, Some(hex)) => line("body", &format!("{hex} (octets)")),
        (None, None) => {}
    }
    line("next step", &format!("dinrail dead-letter resend {0}, or dinrail dead-letter purge {0}", letter.id));
    text
}

/// `/devices/d/modules/m`, and the output where there is one.
fn sender(letter: &DeadLetterView) -> String {
    if letter.output.is_empty() { letter.sender.clone() } else { format!("{}, {}", letter.sender, letter.output) }
}

fn choice(args: &ChoiceArgs) -> Result<DeadLetterChoice, Failure> {
    let is_narrowed = args.of.is_some() || args.older_than.is_some();
    if args.ids.is_empty() && !is_narrowed && !args.all {
        return Err(
            Failure::usage("it is not said which messages").hint("give ids, --of NAME, --older-than AGE, or --all")
        );
    }
    if !args.ids.is_empty() && (is_narrowed || args.all) {
        return Err(Failure::usage("ids and --of, --older-than or --all do not go together"));
    }
    let mut ids = args.ids.clone();
    ids.sort_unstable();
    ids.dedup();
    Ok(DeadLetterChoice {
        ids: (!ids.is_empty()).then_some(ids),
        all: args.all,
        name: args.of.clone(),
        older_than_secs: args.older_than.map(|age| age.as_secs()),
    })
}

fn purge(args: &PurgeArgs, context: &mut Context) -> Result<(), Failure> {
    let choice = choice(&args.choice)?;
    let client = context.client()?;
    if !args.yes {
        if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
            return Err(Failure::usage("messages are discarded for good, which has to be said here").hint("add --yes"));
        }
        let count = match &choice.ids {
            Some(ids) => ids.len() as u64,
            None => page(&client, choice.name.as_deref(), args.choice.older_than, 0, 1)?.total,
        };
        let _ = write!(std::io::stderr(), "discard {} for good? [y/N] ", counted(count));
        let mut answer = String::new();
        let _ = std::io::stdin().read_line(&mut answer);
        if !["y", "yes"].contains(&answer.trim().to_lowercase().as_str()) {
            return Err(Failure::new("nothing was discarded"));
        }
    }
    let moved: DeadLettersMoved = client.post("/deadLetters/purge", Some(&json!(choice)))?;
    tell(&moved, "discarded (see `dinrail losses`)", context)
}

fn tell(moved: &DeadLettersMoved, what: &str, context: &mut Context) -> Result<(), Failure> {
    let out = &mut context.out;
    told(moved, what, out)?;
    match &moved.missing[..] {
        [] => Ok(()),
        missing => {
            let ids: Vec<String> = missing.iter().map(i64::to_string).collect();
            Err(Failure::new(format!("there is no dead letter {}", ids.join(", ")))
                .hint("`dinrail dead-letter list` has those that there are"))
        }
    }
}

fn told(moved: &DeadLettersMoved, what: &str, out: &mut Out) -> Result<(), Failure> {
    if out.is_json() {
        return out.document(moved);
    }
    let left = if moved.left == 0 { String::new() } else { format!("; {} still set aside", counted(moved.left)) };
    out.line(format!("{} {what}{left}", counted(moved.count)))
}

fn counted(count: u64) -> String {
    if count == 1 { "1 message".to_owned() } else { format!("{count} messages") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message_is_shown_with_all_that_helps_to_understand_it() {
        let letter = DeadLetterView {
            id: 17,
            endpoint: "/devices/d/modules/f/inputs/in".into(),
            sender: "/devices/d/modules/m".into(),
            output: "out".into(),
            epoch: 2,
            sequence: 9,
            created_time_utc: "2026-11-21T08:00:00.000Z".into(),
            true_time_utc: Some("2026-11-22T09:00:00.000Z".into()),
            parked_time_utc: None,
            reason: "asked to\npark".into(),
            attempts: 5,
            bytes: 3,
            message: Some(json!({"body": {"a": 1}, "properties": {"k": "v"}, "systemProperties": {"messageId": "x"}})),
        };
        let text = render(&letter);
        for line in [
            "sequence     2.9",
            "deliveries   5",
            "really sent  2026-11-22T09:00:00.000Z (the clock was wrong)",
            "reason       asked to park",
            "properties   k = v",
            "system       messageId = x",
            "body         {\"a\":1}",
            "next step    dinrail dead-letter resend 17, or dinrail dead-letter purge 17",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
        }
    }

    #[test]
    fn what_is_meant_has_to_be_said() {
        let none = ChoiceArgs { ids: Vec::new(), of: None, older_than: None, all: false };
        assert!(choice(&none).is_err());
        assert_eq!(choice(&ChoiceArgs { ids: vec![2, 1, 2], of: None, ..none }).unwrap().ids, Some(vec![1, 2]));
        assert!(choice(&ChoiceArgs { ids: vec![1], of: None, older_than: None, all: true }).is_err());
    }
}
