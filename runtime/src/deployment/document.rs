//! A JSON text that remembers where each of its keys stands, and which were given twice.

use std::collections::HashMap;

use serde_json::Value;

use super::problem::{Place, Problem};

/// A parsed JSON text.
pub struct Document<'t> {
    /// Its content.
    pub value: Value,
    /// Keys that stand twice in one object.
    pub twice: Vec<Problem>,
    text: &'t str,
    spots: HashMap<String, Spot>,
}

/// Offsets of a key (or an array's element) and of its value.
#[derive(Clone, Copy)]
struct Spot {
    key: usize,
    value: usize,
}

impl<'t> Document<'t> {
    /// Reads JSON. A byte order mark in front is passed over.
    ///
    /// # Errors
    /// The text is not JSON: one problem, with its place.
    pub fn parse(text: &'t str) -> Result<Document<'t>, Problem> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let value = serde_json::from_str(text).map_err(|error| syntax_problem(text, &error))?;
        let mut scanner = Scanner { text, at: 0, spots: HashMap::new(), twice: Vec::new() };
        scanner.value("", 0);
        Ok(Document { value, text, spots: scanner.spots, twice: scanner.twice })
    }

    /// Where `path` stands; of what does not stand there itself, the nearest object around it.
    pub fn place(&self, path: &str) -> Option<Place> {
        let mut path = path;
        loop {
            if let Some(spot) = self.spots.get(path) {
                return Some(Place::of(self.text, spot.key));
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }

    /// The place of byte `offset` within the string at `path`.
    pub fn place_within(&self, path: &str, offset: usize) -> Option<Place> {
        let start = self.spots.get(path)?.value;
        let raw = self.text.get(start..)?.strip_prefix('"')?;
        Some(Place::of(self.text, start + 1 + raw_offset(raw, offset)))
    }
}

/// Offset in the text of a JSON string of the byte that is at `decoded` once its escapes are resolved.
fn raw_offset(raw: &str, decoded: usize) -> usize {
    let (mut at, mut passed) = (0, 0);
    while passed < decoded {
        let Some(c) = raw[at..].chars().next().filter(|c| *c != '"') else { break };
        let (length, means) = match (c, raw.as_bytes().get(at + 1)) {
            ('\\', Some(b'u')) => match raw.get(at + 2..at + 6).and_then(|hex| u32::from_str_radix(hex, 16).ok()) {
                Some(0xD800..=0xDBFF) => (12, 4),
                Some(code) => (6, char::from_u32(code).map_or(3, char::len_utf8)),
                None => (2, 1),
            },
            ('\\', _) => (2, 1),
            _ => (c.len_utf8(), c.len_utf8()),
        };
        at = (at + length).min(raw.len());
        passed += means;
    }
    at
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
    spots: HashMap<String, Spot>,
    twice: Vec<Problem>,
}

impl Scanner<'_> {
    fn value(&mut self, path: &str, key: usize) {
        self.space();
        self.spots.entry(path.to_owned()).or_insert(Spot { key, value: self.at });
        match self.peek() {
            Some(b'{') => self.object(path),
            Some(b'[') => self.array(path),
            Some(b'"') => drop(self.string()),
            _ => self.at += self.text[self.at..].bytes().take_while(|b| !b",]} \t\r\n".contains(b)).count(),
        }
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
            let child = child_path(path, &key);
            if let Some(first) = seen.insert(key, key_at) {
                self.twice.push(Problem {
                    path: child.clone(),
                    place: Some(Place::of(self.text, key_at)),
                    message: format!("this key is given twice, first in line {}", Place::of(self.text, first).line),
                    hint: Some("keep one of them".to_owned()),
                    excerpt: None,
                });
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
                    self.value(&format!("{path}[{index}]"), before);
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

/// The path of `key` in the object at `path`.
pub fn child_path(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: u32, column: u32) -> Option<Place> {
        Some(Place { line, column })
    }

    #[test]
    fn keys_and_elements_are_found_again() {
        let text = "{\n  \"ä\": 1, \"b\": {\"c.d\": [true,\n null]},\n  \"e\": \"}\\\"\"\n}";
        let document = Document::parse(text).unwrap_or_else(|problem| panic!("{problem}"));

        assert_eq!(document.place("b"), at(2, 11));
        assert_eq!(document.place("b.c.d"), at(2, 17));
        assert_eq!(document.place("b.c.d[1]"), at(3, 2));
        assert_eq!(document.place("e"), at(4, 3));
        assert_eq!(document.place("b.nothing.here"), at(2, 11));
        assert!(document.twice.is_empty());
    }

    #[test]
    fn a_place_within_a_string_counts_its_escapes() {
        let text = r#"{"r": "a\"\u00e4😀\ud83d\ude00 b"}"#;
        let document = Document::parse(text).unwrap_or_else(|problem| panic!("{problem}"));
        let decoded = document.value["r"].as_str().unwrap();

        let place = document.place_within("r", decoded.find('b').unwrap());

        assert_eq!(place.map(|place| text.chars().nth(place.column as usize - 1)), Some(Some('b')));
    }

    #[test]
    fn keys_given_twice_are_all_reported() {
        let document =
            Document::parse("{\"a\": {\"x\": 1,\n\"x\": 2}, \"a\": {\"x\": 1}}").unwrap_or_else(|p| panic!("{p}"));

        let twice: Vec<String> = document.twice.iter().map(ToString::to_string).collect();

        assert_eq!(
            twice,
            [
                "line 2, column 1: a.x: this key is given twice, first in line 1 (keep one of them)",
                "line 2, column 10: a: this key is given twice, first in line 1 (keep one of them)"
            ]
        );
    }

    #[test]
    fn what_is_not_json_is_refused_at_its_place_with_a_hint() {
        for (text, place, hint) in [
            ("", at(1, 1), "the file is empty"),
            ("{\n  \"a\": 1,\n}", at(3, 1), "remove the comma"),
            ("{\n  // note\n  \"a\": 1}", at(2, 3), "JSON has no comments"),
            ("{'a': 1}", at(1, 2), "JSON takes double quotes only"),
            ("{\"a\": [1, 2", at(1, 11), "the file ends too early"),
            ("{\"ä\": 1 \"b\": 2}", at(1, 9), "a comma, quote or bracket"),
        ] {
            let problem = Document::parse(text).err().unwrap_or_else(|| panic!("{text} was taken"));
            assert_eq!(problem.place, place, "{text}: {problem}");
            assert!(problem.hint.as_deref().unwrap().starts_with(hint), "{text}: {problem}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_json_text_can_be_walked(text in "[\\[\\]{}\",:0a\\\\u \\n]{0,40}") {
            if let Ok(document) = Document::parse(&text) {
                document.place("a.b[0]");
                document.place_within("", 3);
            }
        }
    }
}
