//! The desired properties.

use dinrail_plugin::prelude::*;

use crate::row::Column;

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A JSON document per line: all of the message.
    #[default]
    Jsonl,
    /// RFC 4180 with a header line: what `columns` names.
    Csv,
}

impl Format {
    /// What file names end in.
    pub fn extension(self) -> &'static str {
        match self {
            Format::Jsonl => "jsonl",
            Format::Csv => "csv",
        }
    }
}

/// Desired properties of `recorder`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// How lines are written. A change begins a new file.
    pub format: Format,
    /// Columns of CSV after `received, sender, output, epoch, n`: members of the body (dots between names), or
    /// `$property.KEY`, `$input`, `$messageId`, `$body`.
    pub columns: Vec<String>,
    /// A file is as large as this at most, unless one message alone is larger.
    #[schemars(range(min = 4096, max = 1_073_741_824))]
    pub max_file_bytes: u64,
    /// After this time a new file is begun.
    pub max_file_age: Span,
    /// All files together; above it, the oldest are deleted.
    pub max_total_bytes: u64,
    /// At least so often lines are brought to the disk itself: what a power cut may take. 0: before each message is accepted.
    pub sync: Span,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            format: Format::Jsonl,
            columns: ["sourceTime", "name", "value", "unit", "quality"].map(str::to_owned).to_vec(),
            max_file_bytes: 16 << 20,
            max_file_age: Span::from_secs(3600),
            max_total_bytes: 256 << 20,
            sync: Span::from_secs(1),
        }
    }
}

impl Settings {
    /// Refuses what the types cannot, all of it at once.
    pub fn checked(self) -> Result<Settings, Error> {
        let mut problems = Vec::new();
        let files = 4096..=1 << 30;
        if !files.contains(&self.max_file_bytes) {
            problems.push(format!("maxFileBytes: {} is not within 4096 to 1073741824", self.max_file_bytes));
        }
        if self.max_total_bytes < self.max_file_bytes.saturating_mul(2) {
            let text = "is less than two files; give at least twice maxFileBytes";
            problems.push(format!("maxTotalBytes: {} {text}", self.max_total_bytes));
        }
        let ages = Span::from_secs(1)..=Span::from_secs(366 * 86_400);
        if !ages.contains(&self.max_file_age) {
            problems.push(format!("maxFileAge: {} is not within 1s to 366d", self.max_file_age));
        }
        if self.sync > Span::from_secs(3600) {
            problems.push(format!("sync: {} is more than 1h", self.sync));
        }
        for (at, column) in self.columns.iter().enumerate() {
            if Column::parse(column).is_none() {
                let forms = "members of the body with dots between them, $property.KEY, $input, $messageId, $body";
                problems.push(format!("columns[{at}]: '{column}' is no column; there are {forms}"));
            } else if self.columns[..at].contains(column) {
                problems.push(format!("columns[{at}]: '{column}' is there twice"));
            }
        }
        if self.columns.is_empty() {
            problems.push("columns: is empty; give for instance [\"$body\"]".to_owned());
        }
        if problems.is_empty() { Ok(self) } else { Err(Error::refused(problems.join("; "))) }
    }
}
