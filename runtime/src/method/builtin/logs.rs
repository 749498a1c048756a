//! `GetModuleLogs`: which lines are asked for, and how they are written.
//!
//! ```json
//! {"schemaVersion": "1.0", "encoding": "none|gzip", "contentType": "text|json",
//!  "items": [{"id": "REGEX", "filter": {"tail": 10, "since": "15m", "until": "…", "loglevel": 4, "regex": "…"}}]}
//! → [{"id": "filter", "payload": "…"}]     with gzip: "payloadBytes", base64
//! ```
//! `items` may be one object; `id` is matched without regard to case, anywhere in the name, and `all` means all; the runtime's own
//! log is that of `edgeAgent`. `loglevel` is a severity of syslog: 3 error, 4 warning, 6 informational, 7 debug, and keeps what is
//! as grave or graver.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Write as _;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use regex::{Regex, RegexBuilder};
use serde_json::{Value, json};

use super::reader::Reader;
use super::{MethodAnswer, refuse};
use crate::log::{Level, Query, Stored, Which, parse_time};

/// Largest answer. Source: IoT Edge, whose bound leaves room for what is around it.
pub const MAX_LOGS_BYTES: usize = 127_000;
/// The runtime's own log, as IoT Edge calls it.
const AGENT: &str = "edgeAgent";
/// Bytes of memory that a pattern may take.
const PATTERN_BYTES: usize = 1 << 20;
/// Most items of a request.
const MAX_ITEMS: usize = 100;

/// What is asked for.
#[derive(Debug)]
pub struct LogsRequest {
    items: Vec<Item>,
    is_gzip: bool,
    is_json: bool,
}

#[derive(Debug)]
struct Item {
    /// `None`: all.
    id: Option<Regex>,
    /// Without the name of whose log.
    query: Query,
    /// Nothing is as grave as what is asked for.
    is_void: bool,
}

pub(super) fn read(reader: &mut Reader<'_>, now_us: i64) -> LogsRequest {
    reader.known(&["schemaVersion", "items", "encoding", "contentType"]);
    let is_gzip = reader.word("encoding", &["none", "gzip"]) == "gzip";
    let is_json = reader.word("contentType", &["text", "json"]) == "json";
    let mut items = Vec::new();
    match reader.member("items") {
        None => reader.problem("items", "is missing: an object or a list of objects with an id"),
        Some(Value::Array(listed)) if listed.len() > MAX_ITEMS => {
            reader.problem("items", format_args!("{} of them, {MAX_ITEMS} at most", listed.len()));
        }
        Some(Value::Array(listed)) if listed.is_empty() => reader.problem("items", "is empty"),
        Some(Value::Array(listed)) => {
            for (at, item) in listed.iter().enumerate() {
                items.extend(reader.within(format!("items[{at}]"), item, |item| read_item(item, now_us)).flatten());
            }
        }
        Some(item) => items.extend(reader.within("items".to_owned(), item, |item| read_item(item, now_us)).flatten()),
    }
    LogsRequest { items, is_gzip, is_json }
}

fn read_item(reader: &mut Reader<'_>, now_us: i64) -> Option<Item> {
    reader.known(&["id", "filter"]);
    let id = reader.text("id");
    let id = match id.eq_ignore_ascii_case("all") {
        true => None,
        false => pattern(reader, "id", &id, true),
    };
    let mut item = Item { id, query: Query { tail: None, ..Query::new(Which::All) }, is_void: false };
    if let Some(filter) = reader.member("filter") {
        reader.within(reader.path_of("filter"), filter, |filter| read_filter(filter, &mut item, now_us));
    }
    Some(item)
}

fn read_filter(reader: &mut Reader<'_>, item: &mut Item, now_us: i64) {
    reader.known(&["tail", "since", "until", "loglevel", "regex"]);
    if let Some(tail) = reader.member("tail") {
        match tail.as_u64().and_then(|tail| usize::try_from(tail).ok()) {
            Some(tail) => item.query.tail = Some(tail),
            None => reader.problem("tail", format_args!("{tail} is not a number of lines")),
        }
    }
    item.query.since_us = time(reader, "since", now_us);
    item.query.until_us = time(reader, "until", now_us);
    if let Some(level) = reader.member("loglevel") {
        match level.as_u64() {
            Some(0..=2) => item.is_void = true,
            Some(3) => item.query.level = Some(Level::Error),
            Some(4 | 5) => item.query.level = Some(Level::Warn),
            Some(6) => item.query.level = Some(Level::Info),
            Some(7) => item.query.level = Some(Level::Trace),
            _ => reader.problem("loglevel", format_args!("{level} is not a severity of syslog, 0 to 7")),
        }
    }
    match reader.member("regex") {
        None => {}
        Some(Value::String(text)) => item.query.grep = pattern(reader, "regex", text, false),
        Some(other) => reader.problem("regex", format_args!("{other} is not a text")),
    }
}

fn pattern(reader: &mut Reader<'_>, name: &str, text: &str, is_caseless: bool) -> Option<Regex> {
    let mut builder = RegexBuilder::new(text);
    builder.case_insensitive(is_caseless).size_limit(PATTERN_BYTES).dfa_size_limit(PATTERN_BYTES);
    match builder.build() {
        Ok(regex) => Some(regex),
        Err(error) => {
            let error = error.to_string();
            let last = error.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            reader.problem(name, format_args!("'{text}' is not a regular expression: {last}"));
            None
        }
    }
}

/// RFC 3339, seconds since 1970, or a span back from now.
fn time(reader: &mut Reader<'_>, name: &str, now_us: i64) -> Option<i64> {
    let given = reader.member(name)?;
    let text = match given {
        Value::String(text) => Cow::Borrowed(text.trim()),
        Value::Number(number) => Cow::Owned(number.to_string()),
        other => {
            reader.problem(name, format_args!("{other} is not a time"));
            return None;
        }
    };
    if let Ok(secs) = text.parse::<i64>() {
        return Some(secs.saturating_mul(1_000_000));
    }
    match parse_time(&text, now_us) {
        Ok(us) => Some(us),
        Err(error) => {
            reader.problem(name, format_args!("{error}; {}, or seconds since 1970", error.hint));
            None
        }
    }
}

impl LogsRequest {
    /// Answers with the lines that `read` finds. `modules`: the names that there are, sorted.
    pub fn answer(
        &self,
        device: &str,
        modules: &[String],
        read: impl Fn(&Query) -> std::io::Result<Vec<Box<[u8]>>>,
    ) -> MethodAnswer {
        let mut logs = Vec::new();
        let mut bytes = 0;
        for item in &self.items {
            for name in std::iter::once(AGENT).chain(modules.iter().map(String::as_str)) {
                if item.id.as_ref().is_some_and(|id| !id.is_match(name)) {
                    continue;
                }
                let which = if name == AGENT { Which::Runtime } else { Which::Module(name.to_owned()) };
                let lines = match item.is_void || item.query.tail == Some(0) {
                    true => Ok(Vec::new()),
                    false => read(&Query { which, ..item.query.clone() }),
                };
                let text = match lines {
                    Ok(lines) => self.write(device, name, &lines),
                    Err(error) => return refuse(500, format!("the log of {name} cannot be read: {error}")),
                };
                let log = match self.is_gzip {
                    false => json!({"id": name, "payload": text}),
                    true => match gzip(&text) {
                        Ok(packed) => json!({"id": name, "payloadBytes": BASE64_STANDARD.encode(packed)}),
                        Err(error) => return refuse(500, format!("the log of {name} cannot be compressed: {error}")),
                    },
                };
                let log = log.to_string();
                bytes += log.len() + 1;
                if bytes > MAX_LOGS_BYTES {
                    return self.too_large(name);
                }
                logs.push(log);
            }
        }
        MethodAnswer { status: 200, payload: format!("[{}]", logs.join(",")) }
    }

    fn too_large(&self, at: &str) -> MethodAnswer {
        let gzip = if self.is_gzip { "" } else { ", or with encoding gzip" };
        refuse(
            400,
            format!(
                "the lines up to those of {at} are more than the {MAX_LOGS_BYTES} bytes that fit into an answer: ask for fewer, \
                 with tail, since, until, loglevel or regex in filter, for fewer modules with id{gzip}"
            ),
        )
    }

    fn write(&self, device: &str, name: &str, lines: &[Box<[u8]>]) -> String {
        let mut stored = lines.iter().filter_map(|line| Stored::parse(line));
        if self.is_json {
            let lines: Vec<Value> = stored.map(|line| as_json(device, name, &line)).collect();
            return Value::Array(lines).to_string();
        }
        stored.try_fold(String::new(), |text, line| as_text(text, &line)).unwrap_or_default()
    }
}

fn said(line: &Stored<'_>) -> String {
    format!("{}{}", line.text, line.fields_text())
}

/// `<6> 2026-11-21 14:05:09.123 +00:00 [INF] - text`.
fn as_text(mut text: String, line: &Stored<'_>) -> Option<String> {
    let (severity, word) = severity(line.level);
    let time = line.time.trim_end_matches('Z').replacen('T', " ", 1);
    writeln!(text, "<{severity}> {time} +00:00 [{word}] - {}", said(line)).ok()?;
    Some(text)
}

fn as_json(device: &str, name: &str, line: &Stored<'_>) -> Value {
    json!({
        "timestamp": line.time,
        "iothub": "",
        "device": device,
        "id": name,
        "stream": "stdout",
        "loglevel": severity(line.level).0,
        "text": said(line),
    })
}

/// The severity of syslog, and IoT Edge's word.
fn severity(level: Level) -> (u8, &'static str) {
    match level {
        Level::Error => (3, "ERR"),
        Level::Warn => (4, "WRN"),
        Level::Info => (6, "INF"),
        Level::Debug | Level::Trace => (7, "DBG"),
    }
}

fn gzip(text: &str) -> std::io::Result<Vec<u8>> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(text.as_bytes())?;
    packed.finish()
}

#[cfg(test)]
#[path = "logs_tests.rs"]
mod tests;
