//! Why a text is not a query: the place, and what is possible there.

use crate::written;

/// Why a text is not a query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct QueryError {
    /// What is wrong.
    pub message: String,
    /// Line in the text, from 1.
    pub line: usize,
    /// Column in that line, in characters, from 1.
    pub column: usize,
    /// What can be written there.
    pub hint: String,
    /// The line in question with a caret under the place; a long line is cut to what stands around it.
    pub shown: String,
}

impl QueryError {
    /// At the byte `at` of `text`.
    pub(super) fn new(text: &str, at: usize, message: impl Into<String>, hint: impl Into<String>) -> QueryError {
        let before = text.get(..at).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let shown = written::excerpt(text.split('\n').nth(line - 1).unwrap_or_default(), column - 1);
        QueryError { message: message.into(), line, column, hint: hint.into(), shown }
    }
}
