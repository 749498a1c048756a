//! A place in the text of a route, moving forward: spaces, comments and texts in quotes.

use super::error::{RouteError, short};
use crate::written::{self, Unreadable};

/// Where the reading of a text stands.
#[derive(Clone)]
pub(super) struct Cursor<'t> {
    pub(super) text: &'t str,
    pub(super) at: usize,
}

impl<'t> Cursor<'t> {
    pub(super) fn new(text: &'t str) -> Cursor<'t> {
        Cursor { text, at: 0 }
    }

    pub(super) fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// The word that starts here; empty where none does.
    pub(super) fn word(&self) -> &'t str {
        let end = |c: char| c.is_whitespace() || "()\"'/,;".contains(c);
        self.rest().split(end).next().unwrap_or("")
    }

    /// What starts here, for a message.
    pub(super) fn found(&self) -> String {
        match (self.word(), self.peek()) {
            (_, None) => "the end".to_owned(),
            ("", Some(c)) => format!("'{c}'"),
            (word, _) => format!("'{}'", short(word)),
        }
    }

    /// Goes past spaces and comments.
    pub(super) fn skip(&mut self) -> Result<(), RouteError> {
        self.skip_space();
        while self.rest().starts_with("/*") {
            self.comment()?;
            self.skip_space();
        }
        Ok(())
    }

    pub(super) fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    /// Goes past the comment that starts here.
    pub(super) fn comment(&mut self) -> Result<(), RouteError> {
        match self.rest().find("*/") {
            Some(end) => {
                self.at += end + "*/".len();
                Ok(())
            }
            None => Err(self.error(self.at, "the comment does not end", "close it with */")),
        }
    }

    pub(super) fn take(&mut self, sign: &str) -> bool {
        let is_there = self.rest().starts_with(sign);
        self.at += if is_there { sign.len() } else { 0 };
        is_there
    }

    /// The text in quotes that starts here; the cursor is behind it then. Escapes are `\" \' \\` and `\uXXXX`.
    pub(super) fn quoted(&mut self, quote: char) -> Result<String, RouteError> {
        let start = self.at;
        match written::quoted(self.rest(), &[]) {
            Ok((value, length)) => {
                self.at += length;
                Ok(value)
            }
            Err(Unreadable::Escape(offset)) => {
                let hint = "possible are \\\" \\' \\\\ and \\uXXXX; a backslash itself is written \\\\";
                Err(self.error(start + offset, "this escape is not known", hint))
            }
            Err(Unreadable::Unended) => {
                Err(self.error(start, "the text in quotes does not end", format!("close it with {quote}")))
            }
        }
    }

    pub(super) fn error(&self, at: usize, message: impl Into<String>, hint: impl Into<String>) -> RouteError {
        RouteError::new(self.text, at, message, hint)
    }
}

/// What to do about [a quote](is_curly_quote) that a word processor or a chat has made.
pub(super) const STRAIGHT_QUOTES: &str = "write straight quotes: 'text' or \"text\"";

/// Whether people see a quote where the language has none.
pub(super) fn is_curly_quote(c: char) -> bool {
    matches!(c, '‘' | '’' | '‚' | '‛' | '“' | '”' | '„' | '‟' | '«' | '»' | '‹' | '›' | '′' | '″' | '´' | '`')
}
