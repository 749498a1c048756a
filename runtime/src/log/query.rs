//! What a reader asks for.

use jiff::{SignedDuration, Span, Timestamp, Zoned};
use regex::{Regex, RegexBuilder};

use super::line::{Level, Stored};
use super::speaker::Speaker;
use crate::clock;

/// Lines shown unless told otherwise.
pub const DEFAULT_TAIL: usize = 200;
/// Bytes of memory that a pattern may take.
const PATTERN_BYTES: usize = 1 << 20;

/// Whose lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// Everybody's, merged; without the audit.
    All,
    /// The runtime's own.
    Runtime,
    /// Who did what.
    Audit,
    /// An instance's.
    Module(String),
}

impl Which {
    /// Whether lines of this speaker are meant.
    pub(super) fn is(&self, speaker: &Speaker) -> bool {
        match self {
            Which::All => !speaker.is_audit(),
            Which::Runtime => speaker.name().is_none() && !speaker.is_audit(),
            Which::Audit => speaker.is_audit(),
            Which::Module(name) => speaker.name() == Some(name),
        }
    }
}

/// See the module's documentation.
#[derive(Debug, Clone)]
pub struct Query {
    /// Whose lines.
    pub which: Which,
    /// The newest so many; all where there is none.
    pub tail: Option<usize>,
    /// From this time on, in microseconds.
    pub since_us: Option<i64>,
    /// Before this time, in microseconds.
    pub until_us: Option<i64>,
    /// Of this level or graver.
    pub level: Option<Level>,
    /// Whose text, or text with fields, matches.
    pub grep: Option<Regex>,
}

/// A parameter of a query that cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BadQuery {
    /// What is wrong, and where.
    pub message: String,
    /// What to write instead.
    pub hint: String,
    /// The pattern with the place of its error, where that is what is wrong.
    pub details: Vec<String>,
}

impl BadQuery {
    fn new(message: String, hint: &str) -> BadQuery {
        BadQuery { message, hint: hint.to_owned(), details: Vec::new() }
    }
}

impl Query {
    /// The last lines of `which`.
    pub fn new(which: Which) -> Query {
        Query { which, tail: Some(DEFAULT_TAIL), since_us: None, until_us: None, level: None, grep: None }
    }

    /// A query in words: `tail` as a number, times as [`parse_time`] takes them. With `since` all lines are meant, unless
    /// `tail` says otherwise.
    pub fn parse<'a>(which: Which, word: impl Fn(&str) -> Option<&'a str>) -> Result<Query, BadQuery> {
        let now = clock::wall_us();
        let time = |name| word(name).map(|text| parse_time(text, now)).transpose();
        let tail = match word("tail") {
            Some("all") => None,
            Some(text) => Some(text.parse().map_err(|_| {
                BadQuery::new(format!("tail={text} is not a number of lines"), "such as tail=100, or tail=all")
            })?),
            None if word("since").is_some() => None,
            None => Some(DEFAULT_TAIL),
        };
        let level = word("level").map(parse_level).transpose()?;
        let grep = word("grep").map(parse_pattern).transpose()?;
        Ok(Query { which, tail, since_us: time("since")?, until_us: time("until")?, level, grep })
    }

    /// Whether a line, as it is kept, is asked for, its speaker and number aside.
    pub(super) fn wants(&self, line: &[u8]) -> bool {
        let Some(stored) = Stored::parse(line) else { return false };
        self.level.is_none_or(|level| stored.level <= level) && self.is_in_time(&stored.time) && self.matches(&stored)
    }

    fn matches(&self, stored: &Stored<'_>) -> bool {
        let Some(grep) = &self.grep else { return true };
        grep.is_match(&stored.text)
            || (!stored.fields.is_empty() && grep.is_match(&format!("{}{}", stored.text, stored.fields_text())))
    }

    /// Whether a line of this time is asked for.
    pub(super) fn is_in_time(&self, time: &str) -> bool {
        if self.since_us.is_none() && self.until_us.is_none() {
            return true;
        }
        // To the millisecond, as lines have it.
        let is_from = |us: i64| *time >= *clock::rfc3339(us);
        self.since_us.is_none_or(is_from) && !self.until_us.is_some_and(is_from)
    }
}

fn parse_level(word: &str) -> Result<Level, BadQuery> {
    Level::parse(word).ok_or_else(|| {
        BadQuery::new(format!("'{word}' is not a level"), "it is one of error, warn, info, debug, trace")
    })
}

/// A regular expression that lines are searched for.
pub fn parse_pattern(pattern: &str) -> Result<Regex, BadQuery> {
    RegexBuilder::new(pattern).size_limit(PATTERN_BYTES).dfa_size_limit(PATTERN_BYTES).build().map_err(|error| {
        let mut details: Vec<String> = error.to_string().lines().map(str::to_owned).collect();
        let last = details.pop().unwrap_or_default();
        let message = format!("the pattern is not a regular expression: {}", last.trim_start_matches("error: "));
        details.retain(|line| line != "regex parse error:");
        BadQuery { message, hint: "put a \\ before what is meant literally".to_owned(), details }
    })
}

/// A time in microseconds: RFC 3339, or a span before `now_us`, such as `90s`, `15m`, `1 day`.
pub fn parse_time(text: &str, now_us: i64) -> Result<i64, BadQuery> {
    let text = text.trim();
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time.as_microsecond());
    }
    let wrong = || {
        BadQuery::new(
            format!("'{text}' is not a time"),
            "write a span back from now, such as 90s, 15m or '1 day', or a time, such as 2026-11-21T14:05:09Z",
        )
    };
    let span: Span = text.parse().map_err(|_| wrong())?;
    let back = match span.abs().to_duration(jiff::SpanRelativeTo::days_are_24_hours()) {
        Ok(span) => span,
        // Months and years need a calendar.
        Err(_) => calendar(span.abs(), now_us).ok_or_else(wrong)?,
    };
    i64::try_from(back.as_micros()).map(|back| now_us.saturating_sub(back)).map_err(|_| wrong())
}

fn calendar(span: Span, now_us: i64) -> Option<SignedDuration> {
    let now: Zoned = Timestamp::from_microsecond(now_us).ok()?.to_zoned(jiff::tz::TimeZone::UTC);
    Some(now.duration_since(&now.checked_sub(span).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_269_909_123_456;

    #[test]
    fn times_are_rfc_3339_or_a_span_back_from_now() {
        let second = 1_000_000;
        let table = [
            ("90s", NOW - 90 * second),
            ("15m", NOW - 900 * second),
            ("15 minutes", NOW - 900 * second),
            ("15m ago", NOW - 900 * second),
            ("1 day", NOW - 86_400 * second),
            ("1d", NOW - 86_400 * second),
            ("1h 30m", NOW - 5400 * second),
            ("2 weeks", NOW - 14 * 86_400 * second),
            ("1 month", NOW - 31 * 86_400 * second),
            ("2026-11-21T14:05:09.123456Z", NOW),
            ("2026-11-21T15:05:09.123456+01:00", NOW),
        ];
        for (text, expected) in table {
            assert_eq!(parse_time(text, NOW), Ok(expected), "{text}");
        }
        for text in ["", "yesterday", "90", "2026-11-21", "99999999999 years"] {
            assert!(parse_time(text, NOW).is_err(), "{text}");
        }
    }

    #[test]
    fn a_bad_pattern_is_refused_with_its_place() {
        let refused = Query::parse(Which::All, |name| (name == "grep").then_some("a(b[")).unwrap_err();
        assert_eq!(refused.message, "the pattern is not a regular expression: unclosed character class");
        assert_eq!(refused.details, ["    a(b[", "       ^"]);
        assert!(Query::parse(Which::All, |name| (name == "grep").then_some(r"\d+ °C|(?i)ÖL")).is_ok());
    }

    #[test]
    fn lines_are_chosen_by_level_time_and_text() {
        let line = br#"{"n":1,"time":"2026-11-21T14:05:09.123Z","level":"warn","source":"s","text":"too hot","fields":{"value":81}}"#;
        let table: [(&[(&str, &str)], bool); 9] = [
            (&[], true),
            (&[("level", "warn")], true),
            (&[("level", "error")], false),
            (&[("since", "2026-11-21T14:05:09.123Z")], true),
            (&[("since", "2026-11-21T14:05:09.124Z")], false),
            (&[("until", "2026-11-21T14:05:09.123Z")], false),
            (&[("until", "2026-11-21T14:05:09.124Z")], true),
            (&[("grep", "^too hot$")], true),
            (&[("grep", "value=8.")], true),
        ];
        for (words, expected) in table {
            let find = |name: &str| words.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
            let query = Query::parse(Which::All, find).unwrap();
            assert_eq!(query.wants(line), expected, "{words:?}");
        }
        assert!(!Query::new(Which::All).wants(&line[..60]), "a torn line");
    }

    #[test]
    fn the_last_lines_are_meant_unless_a_beginning_is_given() {
        let tail = |words: &[(&str, &str)]| {
            let find = |name: &str| words.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
            Query::parse(Which::Runtime, find).map(|query| query.tail)
        };
        assert_eq!(tail(&[]), Ok(Some(200)));
        assert_eq!(tail(&[("since", "1h")]), Ok(None));
        assert_eq!(tail(&[("since", "1h"), ("tail", "5")]), Ok(Some(5)));
        assert_eq!(tail(&[("tail", "all")]), Ok(None));
        assert!(tail(&[("tail", "-1")]).is_err());
    }
}
