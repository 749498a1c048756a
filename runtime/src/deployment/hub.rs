//! `$edgeHub`: routes, and how long messages wait.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::modules::schema_version;
use super::reader::{Object, Reader};
use super::store::{StoreConfiguration, read_store};
use crate::clock::spoken;
use crate::document::{Document, Format, Problem};
use crate::instance::spec::InstanceSpec;
use crate::routing::{DEFAULT_BLOCK, Durability, LOWEST_PRIORITY, OnFull, Route, RouteSpec, Sink, route_name_problem};
use crate::spelling::nearest;

pub(super) const HUB: &[&str] = &["schemaVersion", "routes", "storeAndForwardConfiguration", "integrity"];
pub(super) const ROUTE: &[&str] =
    &["route", "priority", "timeToLiveSecs", "durability", "onFull", "blockMs", "maxMessageBytes"];

/// A weekend: what waits for a shorter time may be gone on Monday.
const WEEKEND: Duration = Duration::from_secs(72 * 3600);

/// Largest `blockMs`: a sender is held no longer than its own watchdog may look on.
pub(super) const MAX_BLOCK_MS: i64 = 10_000;

/// Largest `maxMessageBytes`.
pub(super) const MAX_MAX_MESSAGE_BYTES: i64 = 256 * 1024 * 1024;

/// What `$edgeHub` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HubSection {
    /// The routes, in the order of the manifest.
    pub routes: Vec<RouteSpec>,
    /// How long messages wait, and how many bytes of them.
    pub store: StoreConfiguration,
}

/// Reads the desired properties of `$edgeHub`.
pub fn read_hub(reader: &mut Reader<'_>, hub: &Object<'_>, modules: &BTreeMap<String, InstanceSpec>) -> HubSection {
    for key in hub.members.keys().filter(|key| !HUB.contains(&key.as_str())) {
        match key.as_str() {
            "mqttBroker" => {
                reader.problem(&hub.path_of(key), "there is no MQTT broker here", "use routes, and remove it")
            }
            _ => reader.unknown_key(hub, key, &HUB[..3]),
        }
    }
    let minor = schema_version(reader, hub, 3);
    if hub.members.contains_key("integrity") {
        reader.note("$edgeHub: integrity is ignored: the signature of the manifest is not checked".into());
    }
    let mut section = HubSection::default();
    if let Some(routes) = reader.member_object(hub, "routes") {
        for (name, entry) in routes.members {
            let path = routes.path_of(name);
            if let Some(problem) = route_name_problem(name) {
                reader.problem(&path, problem, "choose another name for the route");
            }
            if entry.is_object() && minor == Some(0) {
                reader.note(format!("route {name}: taken as an object although schemaVersion 1.0 has texts only"));
            }
            if let Some((spec, route)) = read_route(reader, &path, name, entry) {
                note_absent_modules(reader, name, &route, modules);
                section.routes.push(spec);
            }
        }
    }
    if let Some(store) = reader.member_object(hub, "storeAndForwardConfiguration") {
        section.store = read_store(reader, &store);
    }
    section
}

/// Reads a route outside a manifest: a text, or an object with its settings. Gives with it what whoever wrote it should know.
///
/// # Errors
/// Every problem of it; paths are those of the entry.
pub fn read_single(name: &str, entry: &Value) -> Result<(RouteSpec, Vec<String>), Vec<Problem>> {
    let text = entry.to_string();
    let document = Document::read(&text, Some(Format::Json)).map_err(|problem| vec![problem])?;
    let mut reader = Reader::new(&document);
    let spec = match entry {
        // A manifest leaves these out; here somebody meant something.
        Value::Null => {
            reader.wrong_type("", entry, "a route as a text, or an object with the member route");
            None
        }
        Value::String(text) if text.trim().is_empty() => {
            reader.problem("", "the route is empty", "write FROM /messages/* INTO $upstream");
            None
        }
        Value::Object(members) if members.get("route").and_then(Value::as_str).is_some_and(|t| t.trim().is_empty()) => {
            reader.problem("route", "is empty", "write FROM /messages/* INTO $upstream");
            None
        }
        entry => read_route(&mut reader, "", name, entry).map(|(spec, _)| spec),
    };
    // The text was made here: its lines tell nobody anything.
    let problems = reader.problems.into_iter().map(|problem| Problem { place: None, ..problem });
    let problems: Vec<Problem> = problems.collect();
    let prefix = format!("route {name}: ");
    let notes = reader.notes.iter().map(|note| note.strip_prefix(&prefix).unwrap_or(note).to_owned()).collect();
    spec.filter(|_| problems.is_empty()).map(|spec| (spec, notes)).ok_or(problems)
}

fn read_route(reader: &mut Reader<'_>, path: &str, name: &str, entry: &Value) -> Option<(RouteSpec, Route)> {
    let object = match entry {
        Value::Null => {
            reader.note(format!("route {name}: null is no route: left out"));
            return None;
        }
        Value::String(text) => return read_text(reader, path, name, text),
        Value::Object(_) => reader.object(path, entry)?,
        other => {
            reader.wrong_type(path, other, "a route as a text, or an object with the member route");
            return None;
        }
    };
    reader.known_keys(&object, ROUTE);
    let priority = reader.integer(&object, "priority", 0..=9);
    let ttl = reader.integer(&object, "timeToLiveSecs", 0..=i64::from(u32::MAX));
    let durability = reader.word(&object, "durability", Durability::WORDS);
    let on_full = reader.word(&object, "onFull", OnFull::WORDS);
    let block_ms = reader.integer(&object, "blockMs", 1..=MAX_BLOCK_MS);
    let max_message_bytes = reader.integer(&object, "maxMessageBytes", 1..=MAX_MAX_MESSAGE_BYTES);
    let text = reader.required_string(&object, "route", "write \"route\": \"FROM … INTO …\"")?;
    let (mut spec, route) = read_text(reader, &object.path_of("route"), name, text)?;

    spec.priority = priority.and_then(|priority| u32::try_from(priority).ok()).unwrap_or(LOWEST_PRIORITY);
    spec.ttl_secs = ttl.and_then(|secs| u64::try_from(secs).ok()).filter(|secs| *secs > 0);
    spec.durability = durability.unwrap_or(spec.durability);
    spec.on_full = on_full.unwrap_or_default();
    spec.block_ms = block_ms.and_then(|ms| u32::try_from(ms).ok());
    if spec.block_ms.is_some() && spec.on_full != OnFull::Block {
        let hint = "write \"onFull\": \"block\", or leave it out";
        reader.problem(&object.path_of("blockMs"), "is for routes with onFull block only", hint);
    }
    spec.max_message_bytes = max_message_bytes.and_then(|bytes| u32::try_from(bytes).ok());
    if spec.max_message_bytes.is_some() && spec.durability == Durability::Disk {
        let hint = "write \"durability\": \"memory\", or leave it out";
        reader.problem(&object.path_of("maxMessageBytes"), "is for memory routes only, and this one is on disk", hint);
    }
    if let Some(secs) = spec.ttl_secs {
        note_time_to_live(reader, &format!("route {name}"), Duration::from_secs(secs));
    }
    if on_full.is_some_and(|on_full| on_full != OnFull::Spill) && spec.durability == Durability::Disk {
        reader.note(format!(
            "route {name}: onFull has no effect: a sender hears it when the store has no room for a durable route"
        ));
    }
    if spec.on_full == OnFull::Block && spec.durability == Durability::Memory {
        let limit = spec.block_ms.map_or(DEFAULT_BLOCK, |ms| Duration::from_millis(ms.into()));
        let ms = limit.as_millis();
        reader
            .note(format!("route {name}: onFull block: a full receiver holds its senders for up to {ms} ms at a time"));
    }
    Some((spec, route))
}

fn read_text(reader: &mut Reader<'_>, path: &str, name: &str, text: &str) -> Option<(RouteSpec, Route)> {
    if text.trim().is_empty() {
        reader.note(format!("route {name}: an empty text is no route: left out"));
        return None;
    }
    match (RouteSpec::new(name, text), Route::parse(text)) {
        (Ok(spec), Ok(route)) => {
            route.notes.iter().for_each(|note| reader.note(format!("route {name}: {note}")));
            Some((spec, route))
        }
        (Err(errors), _) | (_, Err(errors)) => {
            for error in errors {
                let excerpt = error.render(text);
                reader.problem_within(path, error.at, error.message, error.hint, excerpt);
            }
            None
        }
    }
}

pub(super) fn note_time_to_live(reader: &mut Reader<'_>, whose: &str, ttl: Duration) {
    if ttl < WEEKEND {
        let span = spoken(ttl);
        reader.note(format!(
            "{whose}: messages may wait {span} at most; after a weekend without connection (72 h) they are gone"
        ));
    }
}

fn note_absent_modules(reader: &mut Reader<'_>, name: &str, route: &Route, modules: &BTreeMap<String, InstanceSpec>) {
    let close = |module: &str| match nearest(module, modules.keys().map(String::as_str)) {
        Some(nearest) => format!("; did you mean {nearest}?"),
        None => "; it can be added without one".to_owned(),
    };
    if let Some(module) = route.source.module()
        && !modules.keys().any(|known| known.eq_ignore_ascii_case(module))
    {
        reader.note(format!("route {name}: takes from {module}, which is not in this manifest{}", close(module)));
    }
    if let Sink::Input { module, .. } = &route.sink
        && !modules.contains_key(module)
    {
        reader.note(format!("route {name}: leads to {module}, which is not in this manifest{}", close(module)));
    }
}
