//! Words, literals and signs of a query, with their places.

use serde_json::{Number, Value};

use super::QueryError;
use crate::written::{self, Unreadable};

/// A piece of a query.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A keyword or a name; which, its place decides.
    Word(String),
    /// A name in `[[…]]`.
    Quoted(String),
    /// A text or number.
    Literal(Value),
    /// `= != < <= > >= ( ) [ ] , . *`
    Sign(&'static str),
    /// Nothing more.
    End,
}

/// A piece and where it begins and ends, in bytes.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    pub token: Token,
    pub at: usize,
    pub end: usize,
}

/// Beside those that every language here has.
const ESCAPES: [(char, char); 4] = [('/', '/'), ('n', '\n'), ('r', '\r'), ('t', '\t')];

/// Longest first where one begins like another.
const SIGNS: [&str; 15] = ["!=", "<>", "<=", ">=", "=", "<", ">", "(", ")", "[", "]", ",", ".", "*", "\u{0}"];

/// The pieces of `text`; the last one is [`Token::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<Placed>, QueryError> {
    let mut lexer = Lexer { text, at: 0 };
    let mut found = Vec::new();
    loop {
        lexer.skip_space();
        let at = lexer.at;
        let token = lexer.next()?;
        let is_end = token == Token::End;
        found.push(Placed { token, at, end: lexer.at });
        if is_end {
            return Ok(found);
        }
    }
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

fn is_in_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$')
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn error(&self, at: usize, message: impl Into<String>, hint: impl Into<String>) -> QueryError {
        QueryError::new(self.text, at, message, hint)
    }

    /// Takes what `is_part` says from here on.
    fn take(&mut self, is_part: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let taken = &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())];
        self.at += taken.len();
        taken
    }

    fn next(&mut self) -> Result<Token, QueryError> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return Ok(Token::End) };
        if rest.starts_with("[[") {
            return self.quoted();
        }
        if matches!(first, '\'' | '"') {
            return self.string(first);
        }
        let after = rest[first.len_utf8()..].chars().next();
        if first.is_ascii_digit() || (matches!(first, '-' | '.') && after.is_some_and(|c| c.is_ascii_digit())) {
            return self.number();
        }
        if is_in_word(first) {
            return Ok(Token::Word(self.take(is_in_word).to_owned()));
        }
        match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            Some(&"\u{0}") | None => Err(self.stranger(first)),
            Some(sign) => {
                self.at += sign.len();
                Ok(Token::Sign(if *sign == "<>" { "!=" } else { sign }))
            }
        }
    }

    fn stranger(&self, c: char) -> QueryError {
        let hint = match c {
            '-' => "a name with a hyphen is written in brackets: tags.[[my-tag]]; there is no arithmetic",
            '+' | '/' | '%' => "there is no arithmetic",
            '!' => "write != or NOT",
            '&' => "write AND",
            '|' => "write OR",
            ';' => "leave it out: there is one query at a time",
            _ => "texts stand in quotes, and names with other signs in brackets: tags.[[a b]]",
        };
        self.error(self.at, format!("{c:?} has no meaning here"), hint)
    }

    fn quoted(&mut self) -> Result<Token, QueryError> {
        let start = self.at;
        let inner = &self.rest()[2..];
        let Some(length) = inner.find("]]").filter(|length| *length > 0) else {
            let message =
                if inner.starts_with("]]") { "there is no name in the brackets" } else { "the brackets do not end" };
            return Err(self.error(start, message, "write a name between [[ and ]], as in tags.[[my-tag]]"));
        };
        self.at += length + 4;
        Ok(Token::Quoted(inner[..length].to_owned()))
    }

    fn string(&mut self, quote: char) -> Result<Token, QueryError> {
        let start = self.at;
        match written::quoted(self.rest(), &ESCAPES) {
            Ok((value, length)) => {
                self.at += length;
                Ok(Token::Literal(Value::String(value)))
            }
            Err(Unreadable::Escape(offset)) => {
                let hint = "possible are \\' \\\" \\\\ \\/ \\n \\r \\t and \\uXXXX";
                Err(self.error(start + offset, "this escape is not known", hint))
            }
            Err(Unreadable::Unended) => {
                Err(self.error(start, "the text in quotes does not end", format!("close it with {quote}")))
            }
        }
    }

    fn number(&mut self) -> Result<Token, QueryError> {
        let start = self.at;
        let digits = self.rest().strip_prefix('-').unwrap_or(self.rest());
        if digits.starts_with("0x") || digits.starts_with("0X") {
            let text = self.take(|c| c.is_ascii_alphanumeric() || c == '-');
            let hex = text.strip_prefix('-').unwrap_or(text).get(2..).unwrap_or_default();
            // A sign stands before the 0x; one behind it is none.
            let value = i64::from_str_radix(hex, 16).ok().filter(|_| !hex.starts_with('-'));
            return match value.map(|value| if text.starts_with('-') { -value } else { value }) {
                Some(value) => Ok(Token::Literal(value.into())),
                None => Err(self.error(start, format!("{text} is not a number"), "as in 0x1F")),
            };
        }
        let mut previous = ' ';
        let rest = self.rest();
        let length = rest.find(|c: char| {
            // A sign belongs to it at its start and after the exponent's letter.
            let is_sign = matches!(c, '-' | '+') && matches!(previous, ' ' | 'e' | 'E');
            previous = c;
            !(is_sign || c == '.' || is_in_word(c))
        });
        let text = &rest[..length.unwrap_or(rest.len())];
        self.at += text.len();
        let number = match text.parse::<i64>() {
            Ok(integer) => Some(Number::from(integer)),
            Err(_) => text.parse::<f64>().ok().and_then(Number::from_f64),
        };
        match number {
            Some(number) if text.ends_with(|c: char| c.is_ascii_digit() || c == '.') => {
                Ok(Token::Literal(Value::Number(number)))
            }
            _ => {
                Err(self.error(start, format!("{text} is not a number"), "as in 3, -3.5 or 1e6; texts stand in quotes"))
            }
        }
    }
}
