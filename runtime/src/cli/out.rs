//! What verbs write to: stdout, as text for a person or as JSON for a program.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::Failure;

/// Colour of a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// All is well.
    Green,
    /// Worth a look.
    Yellow,
    /// A person is needed.
    Red,
    /// Of less interest.
    Dim,
}

/// The output of a verb. Every write says if the reader has gone ([`Failure::ClosedPipe`]).
pub struct Out {
    sink: Box<dyn Write>,
    json: bool,
    colour: bool,
    width: Option<usize>,
}

impl Out {
    /// Stdout: coloured and as wide as the terminal where it is one, else plain and whole.
    pub fn stdout(json: bool) -> Out {
        let terminal = io::stdout().is_terminal();
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let width = terminal.then(|| terminal_width().unwrap_or(80));
        Out { sink: Box::new(io::stdout()), json, colour, width }
    }

    /// True if a program reads: [`Out::document`] or [`Out::json_line`] and nothing else is to be written.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Columns of the terminal; `None` where it is none.
    pub fn width(&self) -> Option<usize> {
        self.width
    }

    /// Writes one line.
    pub fn line(&mut self, text: impl Display) -> Result<(), Failure> {
        Ok(writeln!(self.sink, "{text}")?)
    }

    /// Writes text that has its line ends.
    pub fn text(&mut self, text: &str) -> Result<(), Failure> {
        Ok(self.sink.write_all(text.as_bytes())?)
    }

    /// Writes the one JSON document of a verb.
    pub fn document(&mut self, document: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(document).map_err(io::Error::other)?;
        self.line(text)
    }

    /// Writes the one JSON document of a verb: an array with a line for each of these.
    pub fn document_of_lines(&mut self, lines: &[Box<serde_json::value::RawValue>]) -> Result<(), Failure> {
        for (at, line) in lines.iter().enumerate() {
            self.text(if at == 0 { "[\n" } else { ",\n" })?;
            self.text(line.get())?;
        }
        self.line(if lines.is_empty() { "[]" } else { "\n]" })
    }

    /// Writes one of many JSON documents, a line each, at once.
    pub fn json_line(&mut self, document: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(document).map_err(io::Error::other)?;
        self.line(text)?;
        self.flush()
    }

    /// Hands over what was written so far.
    pub fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.sink.flush()?)
    }

    /// Says something that is not the output, on stderr.
    pub fn note(&self, text: impl Display) {
        // With stderr gone there is nobody to tell.
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// The text in a colour, where there are colours.
    pub fn paint(&self, paint: Paint, text: &str) -> String {
        if self.colour { paint.around(text) } else { text.to_owned() }
    }

    /// True if colours are wanted.
    pub fn has_colour(&self) -> bool {
        self.colour
    }
}

impl Paint {
    /// The text between the terminal's codes.
    pub fn around(self, text: &str) -> String {
        let code = match self {
            Paint::Green => 32,
            Paint::Yellow => 33,
            Paint::Red => 31,
            Paint::Dim => 2,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// `text` without what a terminal would obey: names and sentences come from modules and files.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The first `width` characters of `text`, the last of them `…` where it was longer.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(std::iter::once('…')).collect()
}

#[cfg(unix)]
fn terminal_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

#[cfg(not(unix))]
fn terminal_width() -> Option<usize> {
    std::env::var("COLUMNS").ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut_with_an_ellipsis_and_short_text_is_not() {
        assert_eq!(cut("Förderband", 10), "Förderband");
        assert_eq!(cut("Förderbänder", 10), "Förderbän…");
    }

    #[test]
    fn what_a_module_says_cannot_steer_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\nc"), "a [2Jb c");
    }
}
