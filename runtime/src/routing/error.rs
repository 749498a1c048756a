//! Why a text is not a route: the place, and what to write there.

use crate::written;

/// Why a text is not a route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct RouteError {
    /// What is wrong.
    pub message: String,
    /// Offset in the text, in bytes.
    pub at: usize,
    /// Line in the text, from 1.
    pub line: u32,
    /// Column in that line, in characters, from 1.
    pub column: u32,
    /// What to write instead.
    pub hint: Option<String>,
}

impl RouteError {
    /// At the byte `at` of `text`.
    pub(super) fn new(text: &str, at: usize, message: impl Into<String>, hint: impl Into<String>) -> RouteError {
        let at = text.floor_char_boundary(at.min(text.len()));
        let before = &text[..at];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        RouteError {
            message: message.into(),
            at,
            line: count(before.matches('\n').count()),
            column: count(before[line_start..].chars().count()),
            hint: Some(hint.into()),
        }
    }

    /// The line of `text` in question with a caret under the place; a long line is cut to what stands around it.
    pub fn render(&self, text: &str) -> String {
        let line = text.split('\n').nth(self.line as usize - 1).unwrap_or("");
        written::excerpt(line, self.column as usize - 1)
    }
}

/// From an index to a position as people count.
fn count(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX - 1) + 1
}

/// A text as a message shows it: no longer than a person reads.
pub(super) fn short(text: &str) -> String {
    const LONGEST: usize = 40;
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
