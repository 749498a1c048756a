//! YAML: the events of `granit-parser`, made into a value of JSON.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use granit_parser::{ErrorKind, Event, Options, Parser, ScalarStyle, ScanError, StrInput};
use serde_json::{Map, Value};

use super::problem::{Place, Problem};
use super::yaml_scalar::{Unfit, check_collection, resolve};
use super::{Document, Format, Spot, Spots, given_twice, kept_element, kept_path};

/// Deepest nesting; that of `serde_json`.
const MAX_DEPTH: usize = 127;
/// How much aliases may repeat in all, in bytes; a value counts [`VALUE_BYTES`] besides its texts.
const MAX_REPEATED_BYTES: usize = 8 << 20;
const VALUE_BYTES: usize = 64;

/// Reads one document of YAML.
pub(super) fn parse(text: &str) -> Result<Document<'_>, Problem> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    let mut reader = Reader {
        text,
        events: Parser::new_from_str_with_options(text, options),
        spots: Spots::default(),
        problems: Vec::new(),
        spoiled: HashSet::new(),
        anchors: HashMap::new(),
        repeated: 0,
    };
    let value = reader.document()?;
    let Reader { spots, problems, spoiled, .. } = reader;
    Ok(Document { value, format: Format::Yaml, problems, spoiled, text, spots })
}

struct Reader<'t> {
    text: &'t str,
    events: Parser<'t, StrInput<'t>>,
    spots: Spots,
    problems: Vec<Problem>,
    spoiled: HashSet<String>,
    anchors: HashMap<usize, Anchored>,
    repeated: usize,
}

/// What an anchor names, once it is complete.
struct Anchored {
    value: Value,
    bytes: usize,
    depth: usize,
}

type At = Range<usize>;

impl<'t> Reader<'t> {
    fn document(&mut self) -> Result<Value, Problem> {
        let (event, at) = self.after_start()?;
        if matches!(event, Event::StreamEnd) {
            return Err(self.problem_at("", at.start, "the file is empty", "write a document"));
        }
        let (event, at) = self.next()?;
        let value = self.node(event, &at, "", at.start, 0)?;
        let _end = self.next()?;
        let (event, at) = self.next()?;
        if !matches!(event, Event::StreamEnd) {
            let hint = "put each document into a file of its own";
            let problem = self.problem_at("", at.start, "a second document begins here", hint);
            self.problems.push(problem);
        }
        Ok(value)
    }

    fn after_start(&mut self) -> Result<(Event<'t>, At), Problem> {
        let _start = self.next()?;
        self.next()
    }

    fn next(&mut self) -> Result<(Event<'t>, At), Problem> {
        match self.events.next() {
            Some(Ok((event, span))) => Ok((event, span.byte_range().unwrap_or(0..0))),
            Some(Err(error)) => Err(syntax_problem(self.text, &error)),
            None => Ok((Event::StreamEnd, self.text.len()..self.text.len())),
        }
    }

    /// Reads the node that begins with `event`. `key`: where its key, or itself as an element, stands.
    fn node(&mut self, event: Event<'t>, at: &At, path: &str, key: usize, depth: usize) -> Result<Value, Problem> {
        if depth > MAX_DEPTH {
            return Err(self.too_deep(path, at.start));
        }
        self.spots.put(path, Spot { key, value: at.start, end: 0 });
        let (value, anchor, end) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value = resolve(&text, style == ScalarStyle::Plain, tag.as_deref());
                (self.taken(value, path, at.start), anchor, at.end)
            }
            Event::SequenceStart(_, anchor, tag) => {
                let fits = check_collection(tag.as_deref(), "seq");
                let (items, end) = self.sequence(path, depth)?;
                (self.taken(fits.map(|()| items.into()), path, at.start), anchor, end)
            }
            Event::MappingStart(_, anchor, tag) => {
                let fits = check_collection(tag.as_deref(), "map");
                let (members, end) = self.mapping(path, depth)?;
                (self.taken(fits.map(|()| members.into()), path, at.start), anchor, end)
            }
            Event::Alias(anchor) => (self.alias(anchor, path, at.start, depth)?, 0, at.end),
            _ => (Value::Null, 0, at.end),
        };
        self.spots.ends(path, end);
        if anchor != 0 {
            let (bytes, depth) = weigh(&value);
            self.anchors.insert(anchor, Anchored { value: value.clone(), bytes, depth });
        }
        Ok(value)
    }

    fn sequence(&mut self, path: &str, depth: usize) -> Result<(Vec<Value>, usize), Problem> {
        let mut items = Vec::new();
        loop {
            let (event, at) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok((items, at.end));
            }
            let element = kept_element(path, items.len());
            items.push(self.node(event, &at, &element, at.start, depth + 1)?);
        }
    }

    fn mapping(&mut self, path: &str, depth: usize) -> Result<(Map<String, Value>, usize), Problem> {
        let mut members = Map::new();
        let mut seen: HashMap<String, usize> = HashMap::new();
        loop {
            let (event, key_at) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                return Ok((members, key_at.end));
            }
            let key = self.key(event, &key_at, path, depth)?;
            let child = key.as_ref().map_or_else(|| path.to_owned(), |key| kept_path(path, key));
            let (event, at) = self.next()?;
            let value = self.node(event, &at, &child, key_at.start, depth + 1)?;
            let Some(key) = key else { continue };
            if let Some(first) = seen.insert(key.clone(), key_at.start) {
                self.problems.push(given_twice(self.text, &child, first, key_at.start));
            }
            members.insert(key, value);
        }
    }

    /// Reads a key. `None` for one that cannot be a key of JSON, which is a problem.
    fn key(&mut self, event: Event<'t>, at: &At, path: &str, depth: usize) -> Result<Option<String>, Problem> {
        let (value, written) = match event {
            Event::Scalar(text, ScalarStyle::Plain, 0, None) if text == "<<" => {
                let hint = "repeat the keys, or use an alias (*name) for a whole value";
                let problem = self.problem_at(path, at.start, "merge keys (<<) are not part of YAML 1.2", hint);
                self.problems.push(problem);
                return Ok(None);
            }
            Event::Scalar(ref text, style, _, ref tag) => {
                let value = resolve(text, style == ScalarStyle::Plain, tag.as_deref());
                let text = text.to_string();
                // What is wrong with it as a value does not matter: it is not a text.
                self.remember(&event, value.as_ref().ok());
                (value.unwrap_or_default(), Some(text))
            }
            event => {
                let before = self.spots.by_path.len();
                let value = self.node(event, at, &format!("{path}\0key"), at.start, depth + 1)?;
                debug_assert!(self.spots.by_path.len() >= before);
                (value, None)
            }
        };
        let hint = match (value, &written) {
            (Value::String(text), _) => return Ok(Some(text)),
            (_, Some(text)) if !text.is_empty() => format!("put it in quotes: \"{}\"", shortened(text)),
            _ => "write a text before the colon".to_owned(),
        };
        let problem = self.problem_at(path, at.start, "a key is a text, and this is none", &hint);
        self.problems.push(problem);
        Ok(written.filter(|text| !text.is_empty()))
    }

    /// Keeps what the anchor of a key names.
    fn remember(&mut self, event: &Event<'t>, value: Option<&Value>) {
        if let (Event::Scalar(_, _, anchor, _), Some(value)) = (event, value)
            && *anchor != 0
        {
            let (bytes, depth) = weigh(value);
            self.anchors.insert(*anchor, Anchored { value: value.clone(), bytes, depth });
        }
    }

    fn alias(&mut self, anchor: usize, path: &str, at: usize, depth: usize) -> Result<Value, Problem> {
        let Some(anchored) = self.anchors.get(&anchor) else {
            let hint = "a value cannot contain itself";
            return Err(self.problem_at(path, at, "this alias stands within what it names", hint));
        };
        if depth + anchored.depth > MAX_DEPTH {
            return Err(self.too_deep(path, at));
        }
        self.repeated = self.repeated.saturating_add(anchored.bytes);
        if self.repeated > MAX_REPEATED_BYTES {
            let message = format!("aliases repeat more than {MAX_REPEATED_BYTES} bytes");
            return Err(self.problem_at(path, at, &message, "write less, or leave the aliases out"));
        }
        Ok(anchored.value.clone())
    }

    fn taken(&mut self, value: Result<Value, Unfit>, path: &str, at: usize) -> Value {
        value.unwrap_or_else(|Unfit { message, hint }| {
            let problem = self.problem_at(path, at, &message, &hint);
            self.problems.push(problem);
            self.spoiled.insert(path.to_owned());
            Value::Null
        })
    }

    fn too_deep(&self, path: &str, at: usize) -> Problem {
        self.problem_at(path, at, &format!("nested deeper than {MAX_DEPTH} times"), "make it flatter")
    }

    fn problem_at(&self, path: &str, offset: usize, message: &str, hint: &str) -> Problem {
        Problem {
            path: path.to_owned(),
            place: Some(Place::of(self.text, offset)),
            message: message.to_owned(),
            hint: Some(hint.to_owned()),
            excerpt: None,
        }
    }
}

/// Bytes and depth of a value.
fn weigh(value: &Value) -> (usize, usize) {
    let inner = |value: &Value, own: usize, (bytes, depth): (usize, usize)| {
        let (more, deep) = weigh(value);
        (bytes + own + more, depth.max(deep + 1))
    };
    match value {
        Value::String(text) => (VALUE_BYTES + text.len(), 0),
        Value::Array(items) => items.iter().fold((VALUE_BYTES, 0), |sum, item| inner(item, 0, sum)),
        Value::Object(members) => {
            members.iter().fold((VALUE_BYTES, 0), |sum, (key, member)| inner(member, key.len() + VALUE_BYTES, sum))
        }
        _ => (VALUE_BYTES, 0),
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}

fn syntax_problem(text: &str, error: &ScanError) -> Problem {
    let offset = error.marker().byte_offset().unwrap_or(0).min(text.len());
    let said = match error.kind() {
        ErrorKind::RecursionLimitExceeded => "nested too deeply".to_owned(),
        ErrorKind::UnknownAnchor => "this alias has no anchor before it".to_owned(),
        _ => error.info(),
    };
    let line = text[..floor(text, offset)].rsplit('\n').next().unwrap_or("");
    let rest = text[floor(text, offset)..].lines().next().unwrap_or("");
    let indent = |c: char| c == ' ' || c == '\t';
    let is_tab = format!("{line}{rest}").chars().take_while(|c| indent(*c)).any(|c| c == '\t');
    let hint = match error.kind() {
        _ if is_tab => "indent with spaces: YAML takes no tabs there",
        ErrorKind::UnclosedQuotedScalar | ErrorKind::InvalidQuotedScalarIndent => "a quote is not closed",
        ErrorKind::UnclosedFlowCollection { .. } => "a bracket is not closed",
        ErrorKind::UnknownAnchor => "put a text that begins with * into quotes; an anchor is written &name",
        ErrorKind::MappingValueNotAllowed | ErrorKind::InvalidColonPlacement => {
            "put a text with a colon into quotes; or a line is indented wrongly"
        }
        ErrorKind::RecursionLimitExceeded => "make it flatter",
        _ => "indentation, a colon or a quote is wrong at this place or just before it",
    };
    Problem {
        path: String::new(),
        place: Some(Place::of(text, offset)),
        message: format!("not YAML: {said}"),
        hint: Some(hint.to_owned()),
        excerpt: None,
    }
}

fn floor(text: &str, mut offset: usize) -> usize {
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}
