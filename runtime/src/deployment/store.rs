//! `storeAndForwardConfiguration`: how long messages wait, and how many bytes of them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::hub::note_time_to_live;
use super::reader::{Object, Reader};
use crate::routing::{Route, Sink};
use crate::spelling::nearest;

pub(super) const STORE: &[&str] = &["timeToLiveSecs", "maxBytes", "endpoints", "storeLimits"];
pub(super) const ENDPOINT: &[&str] = &["maxBytes", "order"];

/// With less, messages of the largest size never fit.
const LARGEST_MESSAGE: u64 = 256 * 1024;

/// What is delivered first where older messages wait on disk and newer ones in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// The oldest.
    #[default]
    OldestFirst,
    /// What is sent now; what waits on disk goes when nothing newer is there.
    LiveFirst,
}

impl Order {
    /// Every value with its word.
    pub const WORDS: &'static [(&'static str, Order)] =
        &[("oldestFirst", Order::OldestFirst), ("liveFirst", Order::LiveFirst)];
}

/// What holds for one endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EndpointConfiguration {
    /// Bytes that may wait for it on disk; `None`: it shares the whole.
    pub max_bytes: Option<u64>,
    /// What goes first.
    pub order: Order,
}

/// What a manifest says of the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreConfiguration {
    /// How long messages wait unless their route says otherwise; `None`: until the byte budget is spent.
    pub time_to_live: Option<Duration>,
    /// Bytes that may wait on disk altogether; `None`: what the runtime is configured with.
    pub max_bytes: Option<u64>,
    /// By endpoint: `$upstream`, or `/modules/MODULE/inputs/INPUT` of this device.
    pub endpoints: BTreeMap<String, EndpointConfiguration>,
}

pub(super) fn read_store(reader: &mut Reader<'_>, store: &Object<'_>) -> StoreConfiguration {
    let mut section = StoreConfiguration::default();
    reader.known_keys(store, STORE);
    let ttl = reader.integer(store, "timeToLiveSecs", i64::from(i32::MIN)..=i64::from(i32::MAX));
    if ttl == Some(0) {
        let hint =
            "give the seconds that messages may wait, -1 for ever, or leave it out: until the byte budget is spent";
        reader.problem(
            &store.path_of("timeToLiveSecs"),
            "is 0: every message would expire as soon as it is sent",
            hint,
        );
    }
    // Negative: for ever. Source: IoT Edge.
    section.time_to_live =
        ttl.and_then(|secs| u64::try_from(secs).ok()).filter(|secs| *secs > 0).map(Duration::from_secs);
    if let Some(ttl) = section.time_to_live {
        note_time_to_live(reader, "$edgeHub", ttl);
    }
    section.max_bytes = bytes(reader, store, "maxBytes");
    if let Some(limits) = reader.member_object(store, "storeLimits") {
        reader.known_keys(&limits, &["maxSizeBytes"]);
        let hub_word =
            reader.integer(&limits, "maxSizeBytes", 1..=i64::MAX).and_then(|bytes| u64::try_from(bytes).ok());
        if hub_word.is_some() && section.max_bytes.is_some() {
            let hint = "leave one of them out";
            reader.problem(&limits.path_of("maxSizeBytes"), "says the same as maxBytes beside storeLimits", hint);
        }
        section.max_bytes = section.max_bytes.or(hub_word);
    }
    if let Some(endpoints) = reader.member_object(store, "endpoints") {
        for name in endpoints.members.keys() {
            let Some(endpoint) = endpoint(reader, &endpoints, name) else { continue };
            if let Some(object) = reader.member_object(&endpoints, name) {
                reader.known_keys(&object, ENDPOINT);
                let max_bytes = bytes(reader, &object, "maxBytes");
                let order = reader.word(&object, "order", Order::WORDS).unwrap_or_default();
                section.endpoints.insert(endpoint, EndpointConfiguration { max_bytes, order });
            }
        }
        note_larger_than_the_whole(reader, &section);
    }
    section
}

fn bytes(reader: &mut Reader<'_>, object: &Object<'_>, key: &str) -> Option<u64> {
    let bytes = reader.integer(object, key, 1..=i64::MAX).and_then(|bytes| u64::try_from(bytes).ok())?;
    if bytes < LARGEST_MESSAGE {
        reader.note(format!(
            "{}: a message of the largest size ({LARGEST_MESSAGE} bytes) does not fit",
            object.path_of(key)
        ));
    }
    Some(bytes)
}

/// The endpoint that a key names, written in the one way.
fn endpoint(reader: &mut Reader<'_>, endpoints: &Object<'_>, name: &str) -> Option<String> {
    if name == "$upstream" {
        return Some(name.to_owned());
    }
    match Route::parse(&format!("FROM /* INTO BrokeredEndpoint(\"{name}\")")).map(|route| route.sink) {
        Ok(Sink::Input { module, input }) => Some(format!("/modules/{module}/inputs/{input}")),
        _ => {
            let hint = match nearest(name, ["$upstream"]) {
                Some(near) => format!("did you mean {near}?"),
                None => "write $upstream, or /modules/MODULE/inputs/INPUT".to_owned(),
            };
            reader.problem(&endpoints.path_of(name), "is no endpoint", hint);
            None
        }
    }
}

fn note_larger_than_the_whole(reader: &mut Reader<'_>, section: &StoreConfiguration) {
    let Some(whole) = section.max_bytes else { return };
    for (endpoint, configuration) in &section.endpoints {
        if let Some(bytes) = configuration.max_bytes.filter(|bytes| *bytes > whole) {
            reader.note(format!(
                "{endpoint}: its maxBytes of {bytes} have no effect: maxBytes of the whole store are {whole}"
            ));
        }
    }
}
