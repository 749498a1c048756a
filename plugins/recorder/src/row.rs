//! A message as a line of a file, and a line as what it was.
//!
//! ```json
//! {"received":"2026-11-21T14:05:09.123456Z","sender":"/devices/d/modules/m","output":"readings","epoch":3,"n":42,"input":"records",
//!  "properties":{"name":"cpu.usage"},"body":{"name":"cpu.usage","value":12.5}}
//! ```
//! on one line. A body that is no JSON, or a JSON string, stands as `bodyText`, one that is no text as `bodyHex`: each is sent as it was
//! where it is sent again.
//! `(sender, output, epoch, n)` names a message for ever: what drops repeats and proves that nothing is missing.

use std::fmt::Write;

use dinrail_plugin::reading::format_time;
use dinrail_plugin::{Context, Error, Message};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::settings::Format;

/// Columns that every line of CSV begins with.
pub const FIXED: [&str; 5] = ["received", "sender", "output", "epoch", "n"];

/// What stands in a column of CSV.
#[derive(Debug, Clone, PartialEq)]
pub enum Column {
    Body(Vec<String>),
    Property(String),
    Input,
    MessageId,
    Whole,
}

impl Column {
    /// `None` where it is none.
    pub fn parse(text: &str) -> Option<Column> {
        match text.strip_prefix('$') {
            Some("input") => Some(Column::Input),
            Some("messageId") => Some(Column::MessageId),
            Some("body") => Some(Column::Whole),
            Some(rest) => {
                rest.strip_prefix("property.").filter(|key| !key.is_empty()).map(|k| Column::Property(k.into()))
            }
            None if text.split('.').any(str::is_empty) => None,
            None => Some(Column::Body(text.split('.').map(str::to_owned).collect())),
        }
    }
}

/// What names a message: sender and output, epoch and number.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub source: (String, String),
    pub number: (u64, u64),
}

impl Key {
    pub fn of(message: &Message<'_>) -> Key {
        Key { source: (message.sender().to_owned(), message.output().to_owned()), number: message.sequence() }
    }
}

/// The parts of a line of JSON that are looked at again.
#[derive(Deserialize)]
pub struct Line<'a> {
    #[serde(borrow)]
    pub received: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    sender: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    output: std::borrow::Cow<'a, str>,
    epoch: u64,
    n: u64,
    #[serde(default)]
    input: Option<String>,
    #[serde(default, rename = "messageId")]
    message_id: Option<String>,
    #[serde(default)]
    properties: Value,
    #[serde(default)]
    body: Value,
    #[serde(default, rename = "bodyText")]
    body_text: Option<String>,
    #[serde(default, rename = "bodyHex")]
    body_hex: Option<String>,
}

impl Line<'_> {
    pub fn key(&self) -> Key {
        Key { source: (self.sender.to_string(), self.output.to_string()), number: (self.epoch, self.n) }
    }

    /// The fields of CSV.
    pub fn fields(&self, columns: &[Column]) -> Vec<String> {
        let fixed = [self.received.to_string(), self.sender.to_string(), self.output.to_string()];
        let numbers = [self.epoch.to_string(), self.n.to_string()];
        fixed.into_iter().chain(numbers).chain(columns.iter().map(|column| self.field(column))).collect()
    }

    fn field(&self, column: &Column) -> String {
        let text = |value: &Value| match value {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        match column {
            Column::Body(path) => {
                path.iter().try_fold(&self.body, |within, name| within.get(name)).map(text).unwrap_or_default()
            }
            Column::Property(key) => self.properties.get(key).map(text).unwrap_or_default(),
            Column::Input => self.input.clone().unwrap_or_default(),
            Column::MessageId => self.message_id.clone().unwrap_or_default(),
            Column::Whole => {
                let other = self.body_text.clone().or_else(|| self.body_hex.clone());
                other.unwrap_or_else(|| self.body.to_string())
            }
        }
    }
}

/// The line of a message in JSON, without its end.
pub fn json_line(message: &Message<'_>) -> Vec<u8> {
    let mut line = String::with_capacity(256 + message.body().len());
    let text = |text: &str| Value::from(text).to_string();
    let (epoch, n) = message.sequence();
    let _ = write!(
        line,
        r#"{{"received":"{}","sender":{},"output":{},"epoch":{epoch},"n":{n},"input":{}"#,
        format_time(message.created_us()),
        text(message.sender()),
        text(message.output()),
        text(message.input())
    );
    if let Some(id) = message.message_id() {
        let _ = write!(line, r#","messageId":{}"#, text(id));
    }
    if message.properties().len() > 0 {
        let properties: serde_json::Map<String, Value> =
            message.properties().map(|(key, value)| (key.to_owned(), value.into())).collect();
        let _ = write!(line, r#","properties":{}"#, Value::Object(properties));
    }
    let body = message.body();
    let mut bytes = line.into_bytes();
    // A text in `body` would be sent again without its quotes.
    let is_string = body.trim_ascii_start().starts_with(b"\"");
    if !is_string && serde_json::from_slice::<IgnoredAny>(body).is_ok() {
        bytes.extend_from_slice(br#","body":"#);
        // JSON has line ends only between its tokens.
        bytes.extend(body.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
    } else if let Ok(body) = std::str::from_utf8(body) {
        bytes.extend_from_slice(format!(r#","bodyText":{}"#, text(body)).as_bytes());
    } else {
        let hex = body.iter().fold(String::new(), |mut hex, octet| {
            let _ = write!(hex, "{octet:02x}");
            hex
        });
        bytes.extend_from_slice(format!(r#","bodyHex":"{hex}""#).as_bytes());
    }
    bytes.push(b'}');
    bytes
}

/// Writes lines of one format.
pub struct Writer {
    pub format: Format,
    pub columns: Vec<String>,
    parsed: Vec<Column>,
}

impl Writer {
    pub fn new(format: Format, columns: &[String]) -> Writer {
        let parsed = columns.iter().filter_map(|text| Column::parse(text)).collect();
        Writer { format, columns: columns.to_vec(), parsed }
    }

    /// The line of a message, with its end.
    pub fn line(&self, message: &Message<'_>) -> Result<Vec<u8>, Error> {
        self.convert(&json_line(message))
    }

    /// The line for what a line of JSON says, with its end.
    pub fn convert(&self, json: &[u8]) -> Result<Vec<u8>, Error> {
        match self.format {
            Format::Jsonl => Ok([json, b"\n"].concat()),
            Format::Csv => {
                let line: Line<'_> = serde_json::from_slice(json).context("reading a line back")?;
                record(line.fields(&self.parsed))
            }
        }
    }

    /// What a file begins with.
    pub fn header(&self) -> Result<Vec<u8>, Error> {
        match self.format {
            Format::Jsonl => Ok(Vec::new()),
            Format::Csv => record(FIXED.iter().copied().chain(self.columns.iter().map(String::as_str))),
        }
    }
}

/// A record of CSV with its end.
pub fn record(fields: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Result<Vec<u8>, Error> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    writer.write_record(fields)?;
    writer.into_inner().map_err(|error| Error::new(error.error()))
}
