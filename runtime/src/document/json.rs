//! JSON: read by `serde_json`, then walked once more for the places.

use std::collections::{HashMap, HashSet};

use super::problem::{Place, Problem};
use super::{Document, Format, Spot, Spots, given_twice, kept_element, kept_path};

/// Reads JSON.
pub(super) fn parse(text: &str) -> Result<Document<'_>, Problem> {
    let value = serde_json::from_str(text).map_err(|error| syntax_problem(text, &error))?;
    let mut scanner = Scanner { text, at: 0, spots: Spots::default(), twice: Vec::new() };
    scanner.value("", 0);
    let Scanner { spots, twice, .. } = scanner;
    Ok(Document { value, format: Format::Json, problems: twice, spoiled: HashSet::new(), text, spots })
}

fn syntax_problem(text: &str, error: &serde_json::Error) -> Problem {
    let line_start: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    let offset = line_start + error.column().saturating_sub(1);
    let said = error.to_string();
    let message = said.split(" at line ").next().unwrap_or(&said);
    let around = text.get(offset..).unwrap_or("");
    let hint = match message {
        _ if text.trim().is_empty() => "the file is empty",
        "trailing comma" => "remove the comma before the closing bracket",
        _ if around.starts_with("//") || around.starts_with("/*") => "JSON has no comments",
        _ if around.starts_with('\'') => "JSON takes double quotes only",
        "recursion limit exceeded" => "objects and lists stand more than 127 deep in each other",
        _ if message.starts_with("EOF") => "the file ends too early: a bracket or quote is not closed",
        _ => "a comma, quote or bracket is missing or too many just before this place",
    };
    Problem {
        path: String::new(),
        place: Some(Place::of(text, offset)),
        message: format!("not JSON: {message}"),
        hint: Some(hint.to_owned()),
        excerpt: None,
    }
}

/// Walks a text that is known to be JSON; on anything else it stops early and never fails.
struct Scanner<'t> {
    text: &'t str,
    at: usize,
    spots: Spots,
    twice: Vec<Problem>,
}

impl Scanner<'_> {
    fn value(&mut self, path: &str, key: usize) {
        self.space();
        self.spots.put(path, Spot { key, value: self.at, end: 0 });
        match self.peek() {
            Some(b'{') => self.object(path),
            Some(b'[') => self.array(path),
            Some(b'"') => drop(self.string()),
            _ => self.at += self.text[self.at..].bytes().take_while(|b| !b",]} \t\r\n".contains(b)).count(),
        }
        self.spots.ends(path, self.at);
    }

    fn object(&mut self, path: &str) {
        let mut seen: HashMap<String, usize> = HashMap::new();
        self.at += 1;
        loop {
            self.space();
            let key_at = self.at;
            match self.peek() {
                Some(b'"') => {}
                Some(b',') => {
                    self.at += 1;
                    continue;
                }
                Some(b'}') => return self.at += 1,
                _ => return,
            }
            let key = self.string();
            let child = kept_path(path, &key);
            if let Some(first) = seen.insert(key, key_at) {
                self.twice.push(given_twice(self.text, &child, first, key_at));
            }
            self.space();
            if self.peek() != Some(b':') {
                return;
            }
            self.at += 1;
            self.value(&child, key_at);
        }
    }

    fn array(&mut self, path: &str) {
        self.at += 1;
        let mut index = 0;
        loop {
            self.space();
            match self.peek() {
                Some(b']') => return self.at += 1,
                Some(b',') => self.at += 1,
                None => return,
                Some(_) => {
                    let before = self.at;
                    self.value(&kept_element(path, index), before);
                    index += 1;
                    if self.at == before {
                        return;
                    }
                }
            }
        }
    }

    fn string(&mut self) -> String {
        let start = self.at;
        let bytes = self.text.as_bytes();
        self.at += 1;
        while let Some(byte) = bytes.get(self.at) {
            match byte {
                b'\\' => self.at += 2,
                b'"' => break,
                _ => self.at += 1,
            }
        }
        self.at = (self.at + 1).min(bytes.len());
        self.text.get(start..self.at).and_then(|quoted| serde_json::from_str(quoted).ok()).unwrap_or_default()
    }

    fn space(&mut self) {
        while self.peek().is_some_and(|b| b.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }
}
