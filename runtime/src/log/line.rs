//! A line: what was said, by whom, when, how grave. In the files it is one JSON object:
//! `{"n":…,"time":"2026-11-21T14:05:09.123Z","level":"warn","module":"filter","source":"filter::alarm","text":"…",
//! "place":"src/lib.rs:12","fields":{…}}`. `n` and `time` stand first and have a fixed form, for readers in a hurry.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::speaker::Speaker;
use crate::clock;

/// Longest text; the rest is cut off, and said so.
pub const MAX_TEXT_BYTES: usize = 16 << 10;
/// Longest name of a source or a file.
const MAX_NAME_BYTES: usize = 256;

/// How grave a line is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Something is lost, or a person is needed.
    Error = 1,
    /// Nothing is lost.
    Warn = 2,
    /// What happens.
    #[default]
    Info = 3,
    /// How it happens.
    Debug = 4,
    /// Everything.
    Trace = 5,
}

impl Level {
    /// All, from the gravest on.
    pub const ALL: [Level; 5] = [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        }
    }

    /// The level of this word.
    pub fn parse(word: &str) -> Option<Level> {
        Level::ALL.into_iter().find(|level| level.as_str() == word)
    }

    /// The level of this number in the ABI; what it does not know is of the least interest.
    pub fn of_number(number: u32) -> Level {
        Level::ALL.into_iter().find(|level| *level as u32 == number).unwrap_or(Level::Trace)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where in its source code something was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// File.
    pub file: Box<str>,
    /// From 1.
    pub line: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// A line on its way.
pub struct Line {
    /// Microseconds since 1970.
    pub us: i64,
    /// How grave.
    pub level: Level,
    /// Whose log it belongs to.
    pub speaker: Arc<Speaker>,
    /// The part of the module's code, or `dinrail` for what the runtime says about it.
    pub source: Box<str>,
    /// What was said; may have several lines.
    pub text: Box<str>,
    /// Where.
    pub place: Option<Place>,
    /// Values beside the text.
    pub fields: Map<String, Value>,
}

impl Line {
    /// A line in a module's own words.
    pub fn of_module(
        speaker: Arc<Speaker>,
        level: Level,
        source: &[u8],
        text: &[u8],
        (file, line): (&[u8], u32),
    ) -> Line {
        let place = (!file.is_empty()).then(|| Place { file: clean(file, MAX_NAME_BYTES).into(), line });
        Line {
            us: clock::wall_us(),
            level,
            speaker,
            source: clean(source, MAX_NAME_BYTES).into(),
            text: clean(text, MAX_TEXT_BYTES).into(),
            place,
            fields: Map::new(),
        }
    }

    /// A line in the runtime's words.
    pub fn of_runtime(speaker: Arc<Speaker>, level: Level, text: &str, fields: Map<String, Value>) -> Line {
        Line {
            us: clock::wall_us(),
            level,
            speaker,
            source: super::line::RUNTIME.into(),
            text: clean(text.as_bytes(), MAX_TEXT_BYTES).into(),
            place: None,
            fields,
        }
    }

    /// Appends its JSON and a line end.
    pub(super) fn encode(&self, number: u64, out: &mut Vec<u8>) {
        let stored = Stored {
            n: number,
            time: clock::rfc3339(self.us).into(),
            level: self.level,
            module: self.speaker.name().map(Cow::Borrowed),
            source: Cow::Borrowed(&self.source),
            text: Cow::Borrowed(&self.text),
            place: self.place.as_ref().map(|place| place.to_string().into()),
            fields: Cow::Borrowed(&self.fields),
        };
        // Writing into memory does not fail, and nothing here is without a form in JSON.
        let _ = serde_json::to_writer(&mut *out, &stored);
        out.push(b'\n');
    }
}

/// What the runtime calls itself as a source.
pub const RUNTIME: &str = "dinrail";

/// A line as it is kept, and as clients are shown it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stored<'a> {
    /// Its number; those of all speakers go up together.
    pub n: u64,
    /// RFC 3339, UTC, milliseconds.
    #[serde(borrow)]
    pub time: Cow<'a, str>,
    /// How grave.
    pub level: Level,
    /// The instance; absent for the runtime.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub module: Option<Cow<'a, str>>,
    /// See [`Line::source`].
    #[serde(borrow)]
    pub source: Cow<'a, str>,
    /// What was said.
    #[serde(borrow)]
    pub text: Cow<'a, str>,
    /// `file:line`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Cow<'a, str>>,
    /// Values beside the text.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub fields: Cow<'a, Map<String, Value>>,
}

// Skipping takes a reference to the member as it is.
#[allow(clippy::ptr_arg)]
fn is_empty(fields: &Cow<'_, Map<String, Value>>) -> bool {
    fields.is_empty()
}

impl Stored<'_> {
    /// Reads a line of a file; `None` for one that is torn.
    pub fn parse(bytes: &[u8]) -> Option<Stored<'_>> {
        serde_json::from_slice(bytes).ok()
    }

    /// ` key=value` for each of its fields.
    pub fn fields_text(&self) -> String {
        fields_text(&self.fields)
    }
}

/// ` key=value` for each field; words in quotes.
pub(super) fn fields_text(fields: &Map<String, Value>) -> String {
    fields.iter().fold(String::new(), |mut text, (key, value)| {
        let _ = write!(text, " {key}={value}");
        text
    })
}

/// Text that is harmless to show and to keep: UTF-8, at most `max` bytes, with nothing that steers a terminal or turns the
/// direction of what is read. Line ends and tabs stay.
pub(super) fn clean(bytes: &[u8], max: usize) -> String {
    let kept = &bytes[..bytes.len().min(max)];
    let mut text = String::with_capacity(kept.len());
    for chunk in kept.utf8_chunks() {
        text.extend(chunk.valid().chars().filter(|c| *c != '\r').map(harmless));
        // The last character may only be cut in two.
        if !chunk.invalid().is_empty() && (bytes.len() == kept.len() || !std::ptr::eq(end(chunk.invalid()), end(kept)))
        {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    if kept.len() < bytes.len() {
        let _ = write!(text, "… (cut: it has {} bytes)", bytes.len());
    }
    text.truncate(text.trim_end().len());
    text
}

fn end(bytes: &[u8]) -> *const u8 {
    bytes.as_ptr_range().end
}

fn harmless(c: char) -> char {
    match c {
        '\n' | '\t' => c,
        // The pictures of the control characters.
        '\0'..='\u{1f}' => char::from_u32(0x2400 + c as u32).unwrap_or(char::REPLACEMENT_CHARACTER),
        '\u{7f}' => '\u{2421}',
        '\u{80}'..='\u{9f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_could_steer_a_terminal_is_made_visible() {
        let table: [(&[u8], &str); 7] = [
            (b"plain \xc3\xa4", "plain ä"),
            (b"\x1b[2Jgone\x07", "␛[2Jgone␇"),
            (b"a\r\nb\tc\n", "a\nb\tc"),
            (b"not \xff\xfe utf-8", "not \u{fffd}\u{fffd} utf-8"),
            ("\u{202e}txt.exe\u{9b}31m".as_bytes(), "\u{fffd}txt.exe\u{fffd}31m"),
            (b"nul\0", "nul␀"),
            (b"half \xc3", "half \u{fffd}"),
        ];
        for (bytes, expected) in table {
            assert_eq!(clean(bytes, 100), expected);
        }
    }

    #[test]
    fn long_text_is_cut_between_characters_and_says_so() {
        assert_eq!(clean("ääää".as_bytes(), 5), "ää… (cut: it has 8 bytes)");
        assert_eq!(clean(b"12345", 5), "12345");
    }

    #[test]
    fn a_line_is_read_back_as_it_was_said() {
        let speaker = Arc::new(Speaker::module("filter".into()));
        let mut line = Line::of_module(speaker, Level::Warn, b"filter::a", b"too \"hot\"\nby far", (b"src/lib.rs", 12));
        line.us = 1_795_269_909_123_456;
        line.fields.insert("value".into(), json!(81.5));
        let mut bytes = Vec::new();
        line.encode(7, &mut bytes);

        assert_eq!(
            String::from_utf8_lossy(&bytes),
            "{\"n\":7,\"time\":\"2026-11-21T14:05:09.123Z\",\"level\":\"warn\",\"module\":\"filter\",\"source\":\"filter::a\",\
             \"text\":\"too \\\"hot\\\"\\nby far\",\"place\":\"src/lib.rs:12\",\"fields\":{\"value\":81.5}}\n"
        );
        let stored = Stored::parse(&bytes).unwrap();
        assert_eq!((stored.n, &*stored.text, stored.level), (7, "too \"hot\"\nby far", Level::Warn));
        assert_eq!(stored.fields_text(), " value=81.5");
        assert_eq!(Stored::parse(&bytes[..bytes.len() - 9]), None);
    }
}
