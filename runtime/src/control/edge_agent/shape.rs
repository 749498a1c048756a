//! The twins of `$edgeAgent` and `$edgeHub` in IoT Edge's shape. Pure.
//!
//! A twin section holds 32 KiB, a device may run more than fits. What does not fit is shortened, step by step, and `shortened`
//! says so: first without `env` and `createOptions`, then each module with its state alone, then modules that are well are left
//! out and counted in `modulesOmitted`. The whole is always at `GET /modules` and `GET /deployment`.

use serde_json::{Map, Value, json};

use crate::twin::rules;

/// The shape that this is.
const SCHEMA_VERSION: &str = "1.0";
/// Clients of `$edgeHub` that are told; further ones are counted. Source: IoT Edge's `MaxConnectedClients`.
const MAX_CLIENTS: usize = 100;
/// Modules of which more than their state may be told: the state alone takes over 128 bytes of the section.
pub const MAX_WHOLE_MODULES: usize = rules::MAX_SECTION_BYTES / 128;
/// What IoT Edge says of what has never been.
const NEVER: &str = "0001-01-01T00:00:00Z";
/// Longest text of a reason.
const MAX_REASON_CHARS: usize = 300;

/// What is told of the device.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Of the runtime.
    pub version: &'static str,
    /// Release of the system's kernel.
    pub os_version: String,
    /// When the runtime started: RFC 3339.
    pub started: String,
    /// `$version` of what is desired of `$edgeAgent`.
    pub agent_version: u64,
    /// `$version` of what is desired of `$edgeHub`.
    pub hub_version: u64,
    /// What became of what is desired: a code of IoT Edge, and a sentence.
    pub desired_status: (u16, String),
    /// The runtime is ending: nothing is known of anything from now on.
    pub is_ending: bool,
    /// In the order of their names.
    pub modules: Vec<ModuleFacts>,
}

/// What is told of a module.
#[derive(Debug, Clone, Default)]
pub struct ModuleFacts {
    /// Its name.
    pub name: String,
    /// Its identity, as `$edgeHub` names clients: `{device}/{module}`.
    pub client: String,
    /// What is wanted of it, as a manifest says it; not looked at with more than [`MAX_WHOLE_MODULES`].
    pub wanted: Map<String, Value>,
    /// Digest of its image.
    pub image_hash: Option<String>,
    /// How its last worker ended.
    pub exit_code: Option<i32>,
    /// Why it is in its state; nothing in it moves by itself.
    pub description: String,
    /// RFC 3339.
    pub last_start: Option<String>,
    /// RFC 3339.
    pub last_exit: Option<String>,
    /// Failures that count.
    pub restart_count: u32,
    /// A word of IoT Edge.
    pub runtime_status: &'static str,
}

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    Whole,
    WithoutOptions,
    State,
    Unwell(usize),
}

/// The reported properties of `$edgeAgent`.
pub fn agent(facts: &Facts) -> Map<String, Value> {
    let unwell = facts.modules.iter().filter(|module| module.runtime_status != "running").count();
    let fewer = (0..10).map(|halvings| Detail::Unwell(unwell >> halvings));
    let details = [Detail::Whole, Detail::WithoutOptions, Detail::State].into_iter().chain(fewer);
    // With the last of them no module is told, and the rest is small.
    first_that_fits(details.filter_map(|detail| agent_in(facts, detail)).chain(agent_in(facts, Detail::Unwell(0))))
}

/// `None`: the modules alone do not fit. No more of them is put together than that, however many there are.
fn agent_in(facts: &Facts, detail: Detail) -> Option<Map<String, Value>> {
    let mut omitted = 0;
    let mut left = if let Detail::Unwell(most) = detail { most } else { usize::MAX };
    let (mut modules, mut bytes) = (Map::new(), 0);
    for module in &facts.modules {
        let is_left_out = matches!(detail, Detail::Unwell(_)) && (module.runtime_status == "running" || left == 0);
        if is_left_out {
            omitted += 1;
            continue;
        }
        left -= 1;
        let told = fitted(Value::Object(module_in(module, facts.is_ending, detail)));
        bytes += module.name.len() + rules::size_of(&told);
        if bytes > rules::MAX_SECTION_BYTES {
            return None;
        }
        modules.insert(module.name.clone(), Value::Object(told));
    }
    let (code, description) = match facts.is_ending {
        true => (406, "the runtime is not running"),
        false => (facts.desired_status.0, facts.desired_status.1.as_str()),
    };
    let own = json!({
        "type": "library",
        "exitCode": 0,
        "statusDescription": if facts.is_ending { "ended" } else { "running" },
        "lastStartTimeUtc": facts.started,
        "lastExitTimeUtc": NEVER,
        "restartCount": 0,
        "lastRestartTimeUtc": NEVER,
        "restartPolicy": "always",
        "status": "running",
        "runtimeStatus": if facts.is_ending { "unknown" } else { "running" },
    });
    let mut document = json!({
        "schemaVersion": SCHEMA_VERSION,
        "version": {"version": facts.version, "build": "", "commit": ""},
        "lastDesiredVersion": facts.agent_version,
        "lastDesiredStatus": {"code": code, "description": cut(description)},
        "runtime": {
            "type": "library",
            "platform": {
                "os": std::env::consts::OS, "architecture": std::env::consts::ARCH, "version": facts.os_version
            },
        },
        "systemModules": {"edgeAgent": own, "edgeHub": own},
        "modules": modules,
    });
    let shortened = match detail {
        Detail::Whole => "",
        Detail::WithoutOptions => "without env and createOptions",
        Detail::State => "each module with its state alone",
        Detail::Unwell(_) => "modules with their state alone, and not all of them",
    };
    if !shortened.is_empty() {
        document["shortened"] =
            format!("to fit into a twin: {shortened}; all of it: GET /modules, GET /deployment").into();
    }
    if omitted > 0 {
        document["modulesOmitted"] = omitted.into();
    }
    Some(fitted(document))
}

fn module_in(module: &ModuleFacts, is_ending: bool, detail: Detail) -> Map<String, Value> {
    let status = if is_ending { "unknown" } else { module.runtime_status };
    let state = json!({
        "exitCode": module.exit_code.unwrap_or_default(),
        "statusDescription": cut(&module.description),
        "lastStartTimeUtc": module.last_start.as_deref().unwrap_or(NEVER),
        "lastExitTimeUtc": module.last_exit.as_deref().unwrap_or(NEVER),
        "restartCount": module.restart_count,
        "lastRestartTimeUtc": module.last_exit.as_ref().and(module.last_start.as_deref()).unwrap_or(NEVER),
        "runtimeStatus": status,
    });
    let Value::Object(mut state) = state else { return Map::new() };
    match detail {
        Detail::Whole | Detail::WithoutOptions => {
            let mut whole = module.wanted.clone();
            if let (Some(hash), Some(Value::Object(settings))) = (&module.image_hash, whole.get_mut("settings")) {
                settings.insert("imageHash".to_owned(), hash.as_str().into());
            }
            if detail == Detail::WithoutOptions {
                without_options(&mut whole);
            }
            whole.append(&mut state);
            whole
        }
        Detail::State | Detail::Unwell(_) => {
            state.retain(|key, value| {
                let is_usual = *value == json!(0) || *value == json!(NEVER) || *value == json!("");
                !is_usual && key != "lastRestartTimeUtc"
            });
            state
        }
    }
}

fn without_options(module: &mut Map<String, Value>) {
    module.remove("env");
    if let Some(Value::Object(settings)) = module.get_mut("settings") {
        settings.retain(|key, _| !key.starts_with("createOptions"));
    }
}

/// The reported properties of `$edgeHub`.
pub fn hub(facts: &Facts) -> Map<String, Value> {
    let clients = |most: usize| {
        let told = facts.modules.iter().filter(|module| module.last_start.is_some());
        let (mut clients, mut omitted) = (Map::new(), 0);
        for module in told {
            if clients.len() >= most {
                omitted += 1;
                continue;
            }
            let is_connected = !facts.is_ending && matches!(module.runtime_status, "running" | "unhealthy");
            let client = json!({
                "status": if is_connected { "connected" } else { "disconnected" },
                "lastConnectedTimeUtc": module.last_start.as_deref().unwrap_or(NEVER),
                "lastDisconnectedTimeUtc": module.last_exit.as_deref().unwrap_or(NEVER),
            });
            clients.insert(module.client.clone(), client);
        }
        let mut document = json!({
            "schemaVersion": SCHEMA_VERSION,
            "version": {"version": facts.version, "build": "", "commit": ""},
            "lastDesiredVersion": facts.hub_version,
            "lastDesiredStatus": {"code": facts.desired_status.0, "description": cut(&facts.desired_status.1)},
            "clients": clients,
        });
        if omitted > 0 {
            document["clientsOmitted"] = omitted.into();
        }
        fitted(document)
    };
    first_that_fits([MAX_CLIENTS, MAX_CLIENTS / 2, 0].into_iter().map(clients))
}

/// What the deployment in force says, as the desired properties of `$edgeAgent` or `$edgeHub`; `deployment` is its number.
pub fn desired(section: &Map<String, Value>, deployment: i64) -> Map<String, Value> {
    let whole = fitted(Value::Object(section.clone()));
    let shortened = |mut section: Map<String, Value>, how: &str| {
        section.insert(
            "shortened".to_owned(),
            format!("to fit into a twin: {how}; all of it: GET /deployment/export").into(),
        );
        section.insert("deployment".to_owned(), deployment.into());
        section
    };
    let entries = |name: &str| whole.get(name).and_then(Value::as_object).map(Map::len).unwrap_or_default();
    let mut plain = whole.clone();
    if let Some(Value::Object(modules)) = plain.get_mut("modules") {
        modules.values_mut().filter_map(Value::as_object_mut).for_each(without_options);
    }
    let mut counted = whole.clone();
    for (name, count) in [("modules", "modulesOmitted"), ("routes", "routesOmitted")] {
        let omitted = entries(name);
        if counted.remove(name).is_some() {
            counted.insert(count.to_owned(), omitted.into());
        }
    }
    first_that_fits([
        whole.clone(),
        shortened(plain, "without env and createOptions"),
        shortened(counted, "modules and routes are only counted"),
        shortened(Map::new(), "nothing of it is here"),
    ])
}

fn first_that_fits(documents: impl IntoIterator<Item = Map<String, Value>>) -> Map<String, Value> {
    let mut documents = documents.into_iter();
    let mut last = Map::new();
    for document in documents.by_ref() {
        if rules::size_of(&document) <= rules::MAX_SECTION_BYTES {
            return document;
        }
        last = document;
    }
    // Not even modules that are unwell fit, however few: the rest alone does.
    last.remove("modules");
    last
}

/// A document with keys and texts that a twin can hold: what it cannot hold in a key stands as `%XX`, long texts are cut. So a
/// reference to a secret is shown as `{"%24secret": NAME}` and is none.
fn fitted(document: Value) -> Map<String, Value> {
    match fit(document) {
        Value::Object(document) => document,
        _ => Map::new(),
    }
}

fn fit(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let members = members.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(members.map(|(key, value)| (fit_key(key), fit(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().filter(|item| !item.is_null()).map(fit).collect()),
        Value::String(text) if text.len() > rules::MAX_STRING_BYTES => {
            let end = text.floor_char_boundary(rules::MAX_STRING_BYTES - '…'.len_utf8());
            Value::String(format!("{}…", &text[..end]))
        }
        Value::Number(number) => match number.as_i64() {
            Some(integer) if (rules::MIN_INTEGER..=rules::MAX_INTEGER).contains(&integer) => Value::Number(number),
            None if number.is_f64() => Value::Number(number),
            _ => Value::String(number.to_string()),
        },
        other => other,
    }
}

fn fit_key(key: String) -> String {
    let is_bad = |c: char| c.is_control() || c.is_whitespace() || ".$#".contains(c);
    if !key.contains(is_bad) {
        return key;
    }
    let mut fit = String::with_capacity(key.len() + 8);
    for c in key.chars() {
        match is_bad(c) {
            true => c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| fit.push_str(&format!("%{byte:02X}"))),
            false => fit.push(c),
        }
    }
    fit
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_REASON_CHARS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
#[path = "shape_tests.rs"]
mod tests;
