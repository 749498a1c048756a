//! Reads typed values out of JSON and gathers every problem on the way, each with its path.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::document::{Document, Problem, child_path};
use crate::spelling::suggestion;

/// What was found so far.
pub struct Reader<'d> {
    document: &'d Document<'d>,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// What was accepted but means something else here, or nothing.
    pub notes: Vec<String>,
}

/// An object and where it stands.
pub struct Object<'v> {
    /// Its path.
    pub path: String,
    /// Its members.
    pub members: &'v Map<String, Value>,
}

impl Object<'_> {
    /// The path of a member.
    pub fn path_of(&self, key: &str) -> String {
        child_path(&self.path, key)
    }
}

impl<'d> Reader<'d> {
    /// A reader that places its problems in `document`.
    pub fn new(document: &'d Document<'d>) -> Reader<'d> {
        Reader { document, problems: document.problems.clone(), notes: Vec::new() }
    }

    /// Adds a problem at `path`.
    pub fn problem(&mut self, path: &str, message: impl Into<String>, hint: impl Into<String>) {
        if self.document.is_spoiled(path) {
            return;
        }
        let hint: String = hint.into();
        self.problems.push(Problem {
            path: path.to_owned(),
            place: self.document.place(path),
            message: message.into(),
            hint: Some(hint).filter(|hint| !hint.is_empty()),
            excerpt: None,
        });
    }

    /// Adds a problem at byte `offset` of the string at `path`.
    pub fn problem_within(
        &mut self,
        path: &str,
        offset: usize,
        message: String,
        hint: Option<String>,
        excerpt: String,
    ) {
        let place = self.document.place_within(path, offset).or_else(|| self.document.place(path));
        self.problems.push(Problem { path: path.to_owned(), place, message, hint, excerpt: Some(excerpt) });
    }

    /// Adds a note, once.
    pub fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// `value` as an object.
    pub fn object<'v>(&mut self, path: &str, value: &'v Value) -> Option<Object<'v>> {
        match value {
            Value::Object(members) => Some(Object { path: path.to_owned(), members }),
            other => {
                self.wrong_type(path, other, "an object");
                None
            }
        }
    }

    /// The member `key` as an object; `None` if it is absent or wrong.
    pub fn member_object<'v>(&mut self, object: &Object<'v>, key: &str) -> Option<Object<'v>> {
        self.object(&object.path_of(key), object.members.get(key)?)
    }

    /// Complains about every member that is not `known`.
    pub fn known_keys(&mut self, object: &Object<'_>, known: &[&str]) {
        for key in object.members.keys().filter(|key| !known.contains(&key.as_str())) {
            self.unknown_key(object, key, known);
        }
    }

    /// Complains about a member that nobody knows.
    pub fn unknown_key(&mut self, object: &Object<'_>, key: &str, known: &[&str]) {
        self.problem(&object.path_of(key), "unknown key", suggestion(key, known));
    }

    /// The member `key` as text; `None` if it is absent or wrong.
    pub fn string<'v>(&mut self, object: &Object<'v>, key: &str) -> Option<&'v str> {
        match object.members.get(key)? {
            Value::String(text) => Some(text),
            other => {
                let path = object.path_of(key);
                let hint = match other {
                    Value::Number(_) | Value::Bool(_) => {
                        format!("put it in quotes: \"{}\"", self.written(&path, other))
                    }
                    _ => String::new(),
                };
                self.problem(&path, format!("{}, expected a text", found(other)), hint);
                None
            }
        }
    }

    /// A scalar as its author wrote it: `1.10` is the number 1.1, but was hardly meant so.
    fn written(&self, path: &str, value: &Value) -> String {
        let written = self.document.written(path).and_then(|range| self.document.text().get(range));
        written.map_or_else(|| value.to_string(), str::to_owned)
    }

    /// [`Reader::string`] that must be there and not be blank.
    pub fn required_string<'v>(&mut self, object: &Object<'v>, key: &str, hint: &str) -> Option<&'v str> {
        if !object.members.contains_key(key) {
            self.problem(&object.path, format!("{key} is missing"), hint);
            return None;
        }
        let text = self.string(object, key)?;
        if text.trim().is_empty() {
            self.problem(&object.path_of(key), format!("{key} is empty"), hint);
            return None;
        }
        Some(text)
    }

    /// The member `key` as one of `words`; `None` if it is absent or wrong.
    pub fn word<T: Copy>(&mut self, object: &Object<'_>, key: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.string(object, key)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let message = format!("is {text:?}, expected {}", one_of(&known));
            let hint = match crate::spelling::nearest(text, known.iter().copied()) {
                Some(nearest) => format!("did you mean {nearest}?"),
                None => String::new(),
            };
            self.problem(&object.path_of(key), message, hint);
        }
        found
    }

    /// The member `key` as a whole number of `range`; `None` if it is absent or wrong.
    pub fn integer(&mut self, object: &Object<'_>, key: &str, range: RangeInclusive<i64>) -> Option<i64> {
        let value = object.members.get(key)?;
        let expected = format!("expected a whole number from {} to {}", range.start(), range.end());
        match value {
            Value::Number(number) => match number.as_i64().filter(|number| range.contains(number)) {
                Some(number) => return Some(number),
                None => self.problem(&object.path_of(key), format!("is {number}, {expected}"), ""),
            },
            other => {
                let hint = if other.is_string() { "leave out the quotes" } else { "" };
                self.problem(&object.path_of(key), format!("{}, {expected}", found(other)), hint);
            }
        }
        None
    }

    /// The member `key` as a time span in seconds, fractions allowed; `None` if it is absent or wrong.
    pub fn seconds(&mut self, object: &Object<'_>, key: &str, range: RangeInclusive<f64>) -> Option<Duration> {
        let value = object.members.get(key)?;
        let expected = format!("expected seconds, from {} to {}", range.start(), range.end());
        match value {
            Value::Number(number) => match number.as_f64().filter(|number| range.contains(number)) {
                Some(seconds) => return Duration::try_from_secs_f64(seconds).ok(),
                None => self.problem(&object.path_of(key), format!("is {number}, {expected}"), ""),
            },
            other => self.problem(&object.path_of(key), format!("{}, {expected}", found(other)), ""),
        }
        None
    }

    /// Complains about a value of the wrong type.
    pub fn wrong_type(&mut self, path: &str, value: &Value, expected: &str) {
        self.problem(path, format!("{}, expected {expected}", found(value)), "");
    }
}

/// `is the number 1.1`: what a value is, cut short.
fn found(value: &Value) -> String {
    let short: String = value.to_string().chars().take(60).collect();
    match value {
        Value::Null => "is null".to_owned(),
        Value::Bool(_) => format!("is {short}"),
        Value::Number(_) => format!("is the number {short}"),
        Value::String(_) => format!("is the text {short}"),
        Value::Array(_) => "is an array".to_owned(),
        Value::Object(_) => "is an object".to_owned(),
    }
}

fn one_of(words: &[&str]) -> String {
    match words {
        [one] => (*one).to_owned(),
        [rest @ .., last] => format!("{} or {last}", rest.join(", ")),
        [] => String::new(),
    }
}
