//! `dinrail logs [NAME]`: what was said.

use std::ops::ControlFlow;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::value::RawValue;

use super::out::{Out, Paint};
use super::{Context, Failure};
use crate::admin::client::{LinesEnd, path, query};
use crate::clock;
use crate::log::{Level, RUNTIME, Stored, parse_pattern, parse_time};

#[derive(Debug, Args)]
#[command(after_help = "\
T is a span back from now (90s, 15m, '1 day'), a local time (2026-11-21T14:05 or '2026-11-21 14:05:09'), or one with its zone \
(2026-11-21T14:05:09Z). Without --tail the last 200 lines are shown, with --since all from then on; 8 MiB of lines at most. The \
log of a module stays when the module is removed, unless it is removed with --purge.

Examples:
  dinrail logs filter
  dinrail logs filter -f --level warn
  dinrail logs --since 15m --grep 'timeout|refused'
  dinrail logs --runtime --tail 20
  dinrail logs --audit --since '1 day' --grep who=\"meier\"
  dinrail logs filter --since 2026-11-21T06:00 --until 2026-11-21T14:00 --json")]
pub struct LogsArgs {
    /// Module, also one that was removed; without it those of all modules and of the runtime, merged
    #[arg(conflicts_with = "runtime", value_parser = NonEmptyStringValueParser::new())]
    name: Option<String>,
    /// Go on with the lines that come
    #[arg(short, long)]
    follow: bool,
    /// The newest so many lines
    #[arg(long, value_name = "N")]
    tail: Option<u64>,
    /// Lines from this time on
    #[arg(long, value_name = "T")]
    since: Option<String>,
    /// Lines before this time
    #[arg(long, value_name = "T", conflicts_with = "follow")]
    until: Option<String>,
    /// Lines as grave as this, or graver
    #[arg(long, value_name = "L", value_parser = ["error", "warn", "info", "debug", "trace"])]
    level: Option<String>,
    /// Lines whose text matches a regular expression
    #[arg(long, value_name = "RE")]
    grep: Option<String>,
    /// The runtime's own lines
    #[arg(long)]
    runtime: bool,
    /// Who changed what, and who was refused
    #[arg(long, conflicts_with_all = ["name", "runtime"])]
    audit: bool,
}

pub(super) fn run(args: LogsArgs, context: &mut Context) -> Result<(), Failure> {
    let route = route(&args, clock::wall_us())?;
    let client = context.client().map_err(|failure| match failure.is_no_runtime() && context.host.is_none() {
        true => {
            failure.detail("lines of the past are in logs/ of the state directory: runtime.jsonl, modules/NAME.jsonl")
        }
        false => failure,
    })?;
    if !args.follow {
        let lines: Vec<Box<RawValue>> = client.get(&route)?;
        if context.out.is_json() {
            return context.out.document_of_lines(&lines);
        }
        for line in &lines {
            show(line.get().as_bytes(), args.name.is_none(), &mut context.out)?;
        }
        return Ok(());
    }
    let mut failed = None;
    let end = client.lines(&route, None, |line| match followed(line, args.name.is_none(), &mut context.out) {
        Ok(()) => ControlFlow::Continue(()),
        Err(failure) => {
            failed = Some(failure);
            ControlFlow::Break(())
        }
    });
    match (failed, end) {
        (Some(failure), _) => Err(failure),
        (None, Ok(LinesEnd::RuntimeEnded)) => Err(Failure::new("the runtime has ended, and with it its log")),
        (None, Ok(LinesEnd::Enough | LinesEnd::TimeUp | LinesEnd::Interrupted)) => Ok(()),
        (None, Err(error)) => Err(error.into()),
    }
}

/// What is asked of the management API.
fn route(args: &LogsArgs, now_us: i64) -> Result<String, Failure> {
    let base = match &args.name {
        Some(name) => path(&["modules", name, "logs"]),
        None => "/logs".to_owned(),
    };
    let time = |text: &Option<String>| text.as_deref().map(|text| time(text, now_us, &TimeZone::system())).transpose();
    let tail = args.tail.map(|tail| tail.to_string());
    let (since, until) = (time(&args.since)?, time(&args.until)?);
    if let Some(Err(bad)) = args.grep.as_deref().map(parse_pattern) {
        return Err(Failure::usage(bad.message).hint(bad.hint).details(bad.details));
    }
    let words = [
        ("tail", tail.as_deref()),
        ("since", since.as_deref()),
        ("until", until.as_deref()),
        ("level", args.level.as_deref()),
        ("grep", args.grep.as_deref()),
        ("follow", args.follow.then_some("true")),
        ("runtime", args.runtime.then_some("true")),
        ("audit", args.audit.then_some("true")),
    ];
    let words: Vec<(&str, &str)> = words.into_iter().filter_map(|(name, word)| Some((name, word?))).collect();
    Ok(if words.is_empty() { base } else { query(&base, &words) })
}

/// A time as a person gives it, in UTC.
fn time(text: &str, now_us: i64, zone: &TimeZone) -> Result<String, Failure> {
    let us = match parse_time(text, now_us) {
        Ok(us) => us,
        Err(bad) => {
            let local = text.trim().parse::<DateTime>().ok().and_then(|time| time.to_zoned(zone.clone()).ok());
            let local = local.ok_or_else(|| {
                Failure::usage(bad.message).hint(
                    "write a span back from now, such as 90s, 15m or '1 day', or a time, such as 2026-11-21T14:05",
                )
            })?;
            local.timestamp().as_microsecond()
        }
    };
    Ok(clock::rfc3339(us))
}

fn followed(line: &[u8], with_name: bool, out: &mut Out) -> Result<(), Failure> {
    if let Some(count) = skipped(line) {
        if out.is_json() {
            out.text(&format!("{{\"skipped\":{count}}}\n"))?;
        } else {
            out.line(
                out.paint(Paint::Yellow, &format!("… {count} lines skipped: they come faster than they are read")),
            )?;
        }
    } else if out.is_json() {
        out.line(String::from_utf8_lossy(line))?;
    } else {
        show(line, with_name, out)?;
    }
    out.flush()
}

fn skipped(line: &[u8]) -> Option<u64> {
    #[derive(serde::Deserialize)]
    struct Skipped {
        skipped: u64,
    }
    serde_json::from_slice::<Skipped>(line).ok().map(|said| said.skipped)
}

fn show(line: &[u8], with_name: bool, out: &mut Out) -> Result<(), Failure> {
    let stored = Stored::parse(line).ok_or_else(|| Failure::new("the runtime sent what is not a line of a log"))?;
    let text = render(&stored, with_name, |level, word| match level {
        Some(Level::Error) => out.paint(Paint::Red, word),
        Some(Level::Warn) => out.paint(Paint::Yellow, word),
        Some(Level::Info) => out.paint(Paint::Green, word),
        Some(Level::Debug | Level::Trace) | None => out.paint(Paint::Dim, word),
    });
    out.text(&text)
}

/// `2026-11-21T14:05:09.123Z WARN  filter: text key=value`; further lines of a text are set in.
fn render(line: &Stored<'_>, with_name: bool, paint: impl Fn(Option<Level>, &str) -> String) -> String {
    let level = paint(Some(line.level), &format!("{:<5}", line.level.as_str().to_uppercase()));
    let name = match (&line.module, with_name) {
        (Some(name), true) => format!("{name}: "),
        _ => String::new(),
    };
    let (first, rest) = line.text.split_once('\n').unwrap_or((&line.text, ""));
    let place = match &line.place {
        // Of the module's own words: where in the runtime's code it says something helps nobody here.
        Some(place) if line.level == Level::Error && line.source != RUNTIME => paint(None, &format!("  ({place})")),
        _ => String::new(),
    };
    let mut text = format!("{} {level} {name}{first}{}{place}\n", paint(None, &line.time), line.fields_text());
    for more in rest.lines() {
        text += &format!("    {more}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(name: Option<&str>) -> LogsArgs {
        LogsArgs {
            name: name.map(str::to_owned),
            follow: false,
            tail: None,
            since: None,
            until: None,
            level: None,
            grep: None,
            runtime: false,
            audit: false,
        }
    }

    #[test]
    fn what_is_asked_for_becomes_parameters() {
        assert_eq!(route(&args(None), 0).unwrap(), "/logs");
        let many = LogsArgs {
            tail: Some(5),
            since: Some("90s".into()),
            grep: Some("a|b".into()),
            level: Some("warn".into()),
            follow: true,
            ..args(Some("a#b"))
        };
        assert_eq!(
            route(&many, 1_795_269_909_123_456).unwrap(),
            "/modules/a%23b/logs?tail=5&since=2026-11-21T14%3A03%3A39.123Z&level=warn&grep=a%7Cb&follow=true"
        );
        assert!(route(&LogsArgs { until: Some("soon".into()), ..args(None) }, 0).is_err());
    }

    #[test]
    fn local_times_are_those_of_the_place() {
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        for text in ["2026-11-21T15:05:09", "2026-11-21 15:05:09"] {
            assert_eq!(time(text, 0, &zone).unwrap(), "2026-11-21T14:05:09.000Z");
        }
        assert_eq!(time("2026-11-21T15:05", 0, &zone).unwrap(), "2026-11-21T14:05:00.000Z");
        assert_eq!(time("2026-11-21", 0, &zone).unwrap(), "2026-11-20T23:00:00.000Z");
        assert_eq!(time("2026-11-21T15:05:09Z", 0, &zone).unwrap(), "2026-11-21T15:05:09.000Z");
    }

    #[test]
    fn a_line_names_its_module_where_they_are_merged() {
        let line = br#"{"n":1,"time":"2026-11-21T14:05:09.123Z","level":"error","module":"filter","source":"panic","text":"panicked: hot\n0: a","place":"src/lib.rs:12","fields":{"n":1}}"#;
        let stored = Stored::parse(line).unwrap();
        let plain = |_: Option<Level>, word: &str| word.to_owned();
        assert_eq!(
            render(&stored, true, plain),
            "2026-11-21T14:05:09.123Z ERROR filter: panicked: hot n=1  (src/lib.rs:12)\n    0: a\n"
        );
        assert!(render(&stored, false, plain).starts_with("2026-11-21T14:05:09.123Z ERROR panicked: hot"));
    }
}
