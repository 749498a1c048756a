//! The manifest: IoT Edge's deployment document, understood.
//!
//! A manifest is read as a whole or not at all, and every problem of it is found in one go. What is accepted but means something
//! else here, or nothing, becomes a note.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

use super::hub::read_hub;
use super::modules::{DEFAULT_HEALTH, read_agent, read_health};
use super::reader::{Object, Reader};
use super::store::StoreConfiguration;
use crate::document::{Document, Format, Problem, child_path};
use crate::instance::spec::InstanceSpec;
use crate::routing::RouteSpec;
use crate::spelling::nearest;

/// Says whether a text is an image reference, and if not, why.
pub type ImageCheck<'c> = &'c dyn Fn(&str) -> Result<(), String>;

/// A deployment, as its author wrote it.
///
/// It is stored as its [`text`](Manifest::text) and read again at a start; the sections of `$edgeAgent` and `$edgeHub` are read
/// from there too by whoever needs them as they were written.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// The document itself.
    pub text: String,
    /// What is to run, by name.
    pub modules: BTreeMap<String, InstanceSpec>,
    /// Sections of desired properties, by module, also of modules that are not in [`modules`](Manifest::modules).
    pub desired: BTreeMap<String, DesiredSection>,
    /// The routes, in the order of the document.
    pub routes: Vec<RouteSpec>,
    /// How long what was changed must stay up before the deployment counts as good; zero: nobody looks.
    pub health: Duration,
    /// How long messages wait, and how many bytes of them.
    pub store: StoreConfiguration,
}

/// What a manifest says about the desired properties of one module.
#[derive(Debug, Clone, PartialEq)]
pub enum DesiredSection {
    /// `properties.desired`: these and no others.
    Replace(Map<String, Value>),
    /// Only `properties.desired.…` keys: these are merged into what there is.
    Merge(Map<String, Value>),
}

impl DesiredSection {
    /// The properties themselves.
    pub fn properties(&self) -> &Map<String, Value> {
        match self {
            DesiredSection::Replace(properties) | DesiredSection::Merge(properties) => properties,
        }
    }
}

/// A manifest and what is to be said about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// The manifest.
    pub manifest: Manifest,
    /// What was accepted but means something else here, or nothing.
    pub notes: Vec<String>,
}

const CONTENT: &str = "modulesContent";
const DESIRED: &str = "properties.desired";
const AGENT: &str = "$edgeAgent";
const HUB: &str = "$edgeHub";

/// What a document exported from a hub has around its content.
pub(super) const EXPORT: &[&str] = &[
    "id",
    "schemaVersion",
    "labels",
    "targetCondition",
    "priority",
    "metrics",
    "systemMetrics",
    "createdTimeUtc",
    "lastUpdatedTimeUtc",
    "etag",
    "contentType",
];

impl Manifest {
    /// Reads a manifest; of image references it only asks that they are not empty.
    ///
    /// # Errors
    /// Every problem of the document, in the order of their places.
    pub fn parse(text: &str) -> Result<Parsed, Vec<Problem>> {
        Manifest::parse_with(text, None, &|_| Ok(()))
    }

    /// [`Manifest::parse`] that also asks `check` about each image reference, and is told how the text is written.
    ///
    /// # Errors
    /// Every problem of the document, in the order of their places.
    pub fn parse_with(text: &str, format: Option<Format>, check: ImageCheck<'_>) -> Result<Parsed, Vec<Problem>> {
        let document = Document::read(text, format).map_err(|problem| vec![problem])?;
        let mut reader = Reader::new(&document);
        let manifest = read(&mut reader, text, &document.value, check);
        let Reader { mut problems, notes, .. } = reader;
        match manifest {
            Some(manifest) if problems.is_empty() => Ok(Parsed { manifest, notes }),
            _ => {
                problems.sort_by_key(|problem| problem.place);
                Err(problems)
            }
        }
    }
}

/// The desired properties of `$edgeAgent` or `$edgeHub` as a manifest says them, keys with a path put in their place. `None` where
/// it has none, or cannot be read.
pub fn own_section(text: &str, name: &str) -> Option<Map<String, Value>> {
    let document = Document::read(text, None).ok()?;
    let mut reader = Reader::new(&document);
    let content = find_content(&mut reader, &document.value)?;
    let section = read_section(&mut reader, name, content.members.get(name)?)?;
    Some(section.properties().clone())
}

/// Gives each problem its place, where its path is that of a manifest without wrapping, and sorts them.
pub fn place_all(text: &str, format: Option<Format>, problems: &mut [Problem]) {
    let Ok(document) = Document::read(text, format) else { return };
    let is_wrapped = document.value.get("content").is_some() && document.value.get(CONTENT).is_none();
    for problem in problems.iter_mut() {
        if is_wrapped {
            problem.path = child_path("content", &problem.path);
        }
        problem.place = document.place(&problem.path);
    }
    problems.sort_by_key(|problem| problem.place);
}

fn read(reader: &mut Reader<'_>, text: &str, root: &Value, check: ImageCheck<'_>) -> Option<Manifest> {
    let content = find_content(reader, root)?;
    let mut agent = None;
    let mut hub = None;
    let mut desired = BTreeMap::new();
    for (name, value) in content.members {
        let path = content.path_of(name);
        let section = read_section(reader, &path, value);
        match name.as_str() {
            AGENT => agent = section,
            HUB => hub = section,
            _ if name.starts_with('$') => {
                let hint = match nearest(name, [AGENT, HUB]) {
                    Some(nearest) => format!("did you mean {nearest}?"),
                    None => format!("sections are {AGENT}, {HUB} and the names of modules"),
                };
                reader.problem(&path, "there is no such section", hint);
            }
            _ => {
                if let Err(error) = crate::name::check_id(name) {
                    reader.problem(&path, error.to_string(), "a section is named after a module");
                }
                if let Some(section) = section {
                    check_desired(reader, &child_path(&path, DESIRED), section.properties());
                    desired.insert(name.clone(), section);
                }
            }
        }
    }
    let [agent, hub] = [(AGENT, agent), (HUB, hub)].map(|(name, section)| match section {
        Some(DesiredSection::Replace(properties) | DesiredSection::Merge(properties)) => {
            Some(Value::Object(properties))
        }
        None => {
            if !content.members.contains_key(name) {
                let hint = format!("every manifest has {AGENT} (modules) and {HUB} (routes)");
                reader.problem(&content.path, format!("{name} is missing"), hint);
            }
            None
        }
    });
    let desired_path = |name: &str| child_path(&content.path_of(name), DESIRED);
    let (modules, health) = match agent.as_ref().and_then(|agent| reader.object(&desired_path(AGENT), agent)) {
        Some(agent) => (read_agent(reader, &agent, check), read_health(reader, &agent)),
        None => (BTreeMap::new(), DEFAULT_HEALTH),
    };
    let section = match hub.as_ref().and_then(|hub| reader.object(&desired_path(HUB), hub)) {
        Some(hub) => read_hub(reader, &hub, &modules),
        None => super::hub::HubSection::default(),
    };
    for name in desired.keys().filter(|name| !modules.contains_key(*name)) {
        let hint = match nearest(name, modules.keys().map(String::as_str).chain([AGENT, HUB])) {
            Some(nearest) => format!("; did you mean {nearest}?"),
            None => String::new(),
        };
        reader.note(format!("{name}: has desired properties but is not among the modules{hint}"));
    }
    (agent.is_some() && hub.is_some()).then(|| Manifest {
        text: text.to_owned(),
        modules,
        desired,
        routes: section.routes,
        health,
        store: section.store,
    })
}

/// `modulesContent`, at the top or within `content`.
fn find_content<'v>(reader: &mut Reader<'_>, root: &'v Value) -> Option<Object<'v>> {
    let root = reader.object("", root)?;
    let around = if root.members.contains_key("content") && !root.members.contains_key(CONTENT) {
        let exported: Vec<&str> = root.members.keys().map(String::as_str).filter(|key| EXPORT.contains(key)).collect();
        if !exported.is_empty() {
            reader.note(format!("ignored, since they are for a hub: {}", exported.join(", ")));
        }
        for key in root.members.keys().filter(|key| !["content", "$schema"].contains(&key.as_str())) {
            if !EXPORT.contains(&key.as_str()) {
                reader.unknown_key(&root, key, &["content", CONTENT]);
            }
        }
        reader.member_object(&root, "content")?
    } else {
        root
    };
    for (key, value) in around.members {
        let empty = value.is_null() && ["deviceContent", "moduleContent"].contains(&key.as_str());
        if !empty && ![CONTENT, "$schema"].contains(&key.as_str()) {
            reader.unknown_key(&around, key, &[CONTENT, "content"]);
        }
    }
    if !around.members.contains_key(CONTENT) {
        let hint = format!("a manifest reads {{\"{CONTENT}\": {{\"{AGENT}\": …, \"{HUB}\": …}}}}");
        reader.problem(&around.path, format!("{CONTENT} is missing"), hint);
    }
    reader.member_object(&around, CONTENT)
}

/// Reads `{"properties.desired": {…}, "properties.desired.a.b": …}`.
fn read_section(reader: &mut Reader<'_>, path: &str, value: &Value) -> Option<DesiredSection> {
    let section = reader.object(path, value)?;
    let mut properties = Map::new();
    let whole = section.members.get(DESIRED);
    if let Some(whole) = whole {
        properties = reader.object(&section.path_of(DESIRED), whole)?.members.clone();
    }
    for (key, value) in section.members.iter().filter(|(key, _)| *key != DESIRED) {
        match key.strip_prefix(DESIRED).and_then(|rest| rest.strip_prefix('.')) {
            Some(flat) => {
                if let Err((message, hint)) = put(&mut properties, flat, value) {
                    reader.problem(&section.path_of(key), message, hint);
                }
            }
            None if key == "properties" => {
                let hint = format!("write \"{DESIRED}\" as one key");
                reader.problem(&section.path_of(key), "unknown key", hint);
            }
            None => reader.unknown_key(&section, key, &[DESIRED]),
        }
    }
    if section.members.is_empty() {
        reader.problem(path, format!("{DESIRED} is missing"), "leave the section out to leave the twin alone");
        return None;
    }
    Some(if whole.is_some() { DesiredSection::Replace(properties) } else { DesiredSection::Merge(properties) })
}

/// Puts `value` at the dotted path `flat`.
fn put(properties: &mut Map<String, Value>, flat: &str, value: &Value) -> Result<(), (String, &'static str)> {
    let mut at = properties;
    let mut parts = flat.split('.').peekable();
    while let Some(part) = parts.next() {
        if part.is_empty() {
            return Err(("the path has an empty part".to_owned(), "write properties.desired.NAME"));
        }
        if parts.peek().is_none() {
            if at.contains_key(part) {
                return Err((format!("{flat} is given a second time"), "keep one of them"));
            }
            at.insert(part.to_owned(), value.clone());
            return Ok(());
        }
        let inner = at.entry(part).or_insert_with(|| Value::Object(Map::new()));
        let Value::Object(inner) = inner else {
            return Err((format!("{part} has a value of its own already"), "keep one of them"));
        };
        at = inner;
    }
    Ok(())
}

/// What a twin itself adds cannot be desired; all other rules are the twin's.
fn check_desired(reader: &mut Reader<'_>, path: &str, properties: &Map<String, Value>) {
    for key in ["$version", "$metadata"].iter().filter(|key| properties.contains_key(**key)) {
        reader.problem(&child_path(path, key), "is kept by the twin itself", "leave it out");
    }
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
