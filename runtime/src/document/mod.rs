//! Documents: JSON or YAML that a person wrote, as a value that remembers where each of its parts stands.
//!
//! Guarantees: no text makes a reader panic or take much more memory than the text itself; a key that stands twice is a problem,
//! never a choice; what YAML has and JSON has not (tags, keys that are no text, infinity, several documents) is a problem with its
//! place. YAML is 1.2, so that `no` and `on` are texts.

mod json;
pub mod problem;
mod within;
mod yaml;
mod yaml_scalar;
mod yaml_text;

use std::collections::{HashMap, HashSet};

use serde_json::Value;

pub use problem::{Place, Problem};
pub use yaml_text::to_yaml;

/// Longest path of which the place is kept; what lies deeper has the place of what is around it.
const MAX_PATH_BYTES: usize = 2048;
/// Bytes of all paths of which the places are kept.
const MAX_PATHS_BYTES: usize = 32 << 20;

/// How a document is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JSON.
    Json,
    /// YAML 1.2.
    Yaml,
}

impl Format {
    /// What the name of a file says; `None` if it says nothing.
    pub fn of_name(name: &str) -> Option<Format> {
        let (_, extension) = name.rsplit_once('.')?;
        match extension.to_ascii_lowercase().as_str() {
            "json" => Some(Format::Json),
            "yaml" | "yml" => Some(Format::Yaml),
            _ => None,
        }
    }
}

/// A document that was read.
pub struct Document<'t> {
    /// Its content.
    pub value: Value,
    /// How it is written.
    pub format: Format,
    /// What is wrong with it although it could be read: keys that stand twice, what JSON has no value for.
    pub problems: Vec<Problem>,
    /// Paths of values that could not be taken over; `null` stands for them.
    spoiled: HashSet<String>,
    text: &'t str,
    spots: Spots,
}

/// Offsets of a key (or an array's element), of its value, and of the end of the value.
#[derive(Debug, Clone, Copy)]
struct Spot {
    key: usize,
    value: usize,
    end: usize,
}

/// Where things stand, by path.
#[derive(Default)]
struct Spots {
    by_path: HashMap<String, Spot>,
    bytes: usize,
}

impl Spots {
    fn put(&mut self, path: &str, spot: Spot) {
        if self.bytes <= MAX_PATHS_BYTES && !self.by_path.contains_key(path) {
            self.bytes += path.len();
            self.by_path.insert(path.to_owned(), spot);
        }
    }

    fn ends(&mut self, path: &str, end: usize) {
        if let Some(spot) = self.by_path.get_mut(path).filter(|spot| spot.end == 0) {
            spot.end = end;
        }
    }
}

impl<'t> Document<'t> {
    /// Reads a document. A byte order mark in front is passed over.
    ///
    /// Where `format` is not known, the text decides: what begins with a bracket is JSON, or else YAML that does.
    ///
    /// # Errors
    /// The text cannot be read: one problem, with its place.
    pub fn read(text: &'t str, format: Option<Format>) -> Result<Document<'t>, Problem> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        match format {
            Some(Format::Json) => json::parse(text),
            Some(Format::Yaml) => yaml::parse(text),
            None if text.trim_start().starts_with(['{', '[']) => json::parse(text).or_else(|problem| {
                let yaml = yaml::parse(text).ok().filter(|document| document.problems.is_empty());
                yaml.ok_or(problem)
            }),
            None => yaml::parse(text),
        }
    }

    /// Where `path` stands; of what does not stand there itself, the nearest object around it.
    pub fn place(&self, path: &str) -> Option<Place> {
        let mut path = path;
        loop {
            if let Some(spot) = self.spots.by_path.get(path) {
                return Some(Place::of(self.text, spot.key));
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }

    /// The place of byte `offset` within the text at `path`.
    pub fn place_within(&self, path: &str, offset: usize) -> Option<Place> {
        let spot = self.spots.by_path.get(path)?;
        let written = self.text.get(spot.value..spot.end)?;
        Some(Place::of(self.text, spot.value + within::written_offset(written, self.text_at(path)?, offset)?))
    }

    /// Whether the value at `path` could not be taken over, which is a problem of its own already.
    pub fn is_spoiled(&self, path: &str) -> bool {
        self.spoiled.contains(path)
    }

    /// The document as it was given, without a byte order mark.
    pub fn text(&self) -> &'t str {
        self.text
    }

    /// The bytes of the value at `path`, as they are written; `None` where it does not stand there itself.
    pub fn written(&self, path: &str) -> Option<std::ops::Range<usize>> {
        self.spots.by_path.get(path).map(|spot| spot.value..spot.end)
    }

    /// The text at `path`. Keys may have dots themselves, so every way to cut the path is tried.
    fn text_at(&self, path: &str) -> Option<&str> {
        fn find<'v>(value: &'v Value, path: &str) -> Option<&'v str> {
            match value {
                Value::String(text) => path.is_empty().then_some(text.as_str()),
                Value::Object(members) => members.iter().find_map(|(key, member)| {
                    let rest = path.strip_prefix(key.as_str())?;
                    match rest.strip_prefix('.') {
                        Some(rest) => find(member, rest),
                        None if rest.is_empty() || rest.starts_with('[') => find(member, rest),
                        None => None,
                    }
                }),
                Value::Array(items) => {
                    let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
                    find(items.get(index.parse::<usize>().ok()?)?, rest.strip_prefix('.').unwrap_or(rest))
                }
                _ => None,
            }
        }
        find(&self.value, path)
    }
}

/// The path of `key` in the object at `path`.
pub fn child_path(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// [`child_path`] of which the place is kept; what is too long shares the path of what is around it.
fn kept_path(path: &str, key: &str) -> String {
    if path.len() + key.len() > MAX_PATH_BYTES { path.to_owned() } else { child_path(path, key) }
}

/// [`kept_path`] of an element.
fn kept_element(path: &str, index: usize) -> String {
    if path.len() > MAX_PATH_BYTES { path.to_owned() } else { format!("{path}[{index}]") }
}

/// For a key that stands twice in one object.
fn given_twice(text: &str, path: &str, first: usize, second: usize) -> Problem {
    Problem {
        path: path.to_owned(),
        place: Some(Place::of(text, second)),
        message: format!("this key is given twice, first in line {}", Place::of(text, first).line),
        hint: Some("keep one of them".to_owned()),
        excerpt: None,
    }
}

#[cfg(test)]
mod tests;
