//! What is wrong with a document: each problem with its path, its place in the text where there is one, and what to write.

use std::fmt;

/// One problem of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// JSON path, as in `modulesContent.$edgeAgent.properties.desired.modules.filter.restartPolicy`; empty for the whole text.
    pub path: String,
    /// Where it stands.
    pub place: Option<Place>,
    /// What is wrong: what was found and what is expected.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
    /// The line in question with a caret, where the problem lies inside a text such as a route.
    pub excerpt: Option<String>,
}

/// A place in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
}

impl Place {
    /// The place of a byte offset.
    pub fn of(text: &str, offset: usize) -> Place {
        let mut offset = offset.min(text.len());
        while !text.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = &text[..offset];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let count = |index: usize| u32::try_from(index).unwrap_or(u32::MAX - 1) + 1;
        Place {
            line: count(before.bytes().filter(|b| *b == b'\n').count()),
            column: count(before[line_start..].chars().count()),
        }
    }
}

impl Problem {
    /// A problem at a path whose place is not known, or not yet.
    pub fn at(path: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) -> Problem {
        let hint: String = hint.into();
        let hint = Some(hint).filter(|hint| !hint.is_empty());
        Problem { path: path.into(), place: None, message: message.into(), hint, excerpt: None }
    }

    /// `FILE:12:9: path: message (hint)`, and the excerpt on lines of its own: editors and terminals find such places.
    pub fn in_file(&self, file: &str) -> String {
        let rest = Problem { place: None, ..self.clone() };
        match self.place {
            Some(Place { line, column }) => format!("{file}:{line}:{column}: {rest}"),
            None => format!("{file}: {rest}"),
        }
    }
}

impl fmt::Display for Problem {
    /// `line 12, column 9: path: message (hint)`, and the excerpt on lines of its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = self.place {
            write!(f, "line {}, column {}: ", place.line, place.column)?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, " ({hint})")?;
        }
        match &self.excerpt {
            Some(excerpt) => write!(f, "\n    {}", excerpt.replace('\n', "\n    ")),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Problem {}
