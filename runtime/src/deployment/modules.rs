//! `$edgeAgent`: the modules of a manifest.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::manifest::ImageCheck;
use super::options;
use super::reader::{Object, Reader};
use crate::instance::spec::{
    DesiredStatus, DeviceTwin, EnvValue, InstanceSpec, Isolation, LAST_STARTUP_ORDER, Limits, PullPolicy, RestartPolicy,
};

pub(super) const AGENT: &[&str] = &["schemaVersion", "runtime", "systemModules", "modules", "healthSecs"];

/// How long what a deployment changed must stay up, unless it says otherwise.
pub const DEFAULT_HEALTH: Duration = Duration::from_secs(5);

/// Largest `healthSecs`.
pub(super) const MAX_HEALTH_SECS: i64 = 3600;
pub(super) const MODULE: &[&str] = &[
    "version",
    "type",
    "status",
    "restartPolicy",
    "imagePullPolicy",
    "startupOrder",
    "env",
    "settings",
    "configuration",
];

/// Reads the desired properties of `$edgeAgent`.
pub fn read_agent(
    reader: &mut Reader<'_>,
    agent: &Object<'_>,
    check: ImageCheck<'_>,
) -> BTreeMap<String, InstanceSpec> {
    reader.known_keys(agent, AGENT);
    let minor = schema_version(reader, agent, 1);
    for ignored in ["runtime", "systemModules"].iter().filter(|key| agent.members.contains_key(**key)) {
        reader.note(format!("$edgeAgent: {ignored} is ignored: there is nothing of the kind to set up here"));
    }
    let mut modules = BTreeMap::new();
    let Some(entries) = reader.member_object(agent, "modules") else { return modules };
    for (name, entry) in entries.members {
        if let Some(spec) = read_module(reader, &entries.path_of(name), name, entry, check) {
            modules.insert(name.clone(), spec);
        }
    }
    if minor == Some(0) && modules.values().any(|spec| spec.startup_order != LAST_STARTUP_ORDER) {
        reader.note(
            "$edgeAgent: startupOrder is honoured although schemaVersion 1.0 does not have it; IoT Edge wants 1.1"
                .into(),
        );
    }
    note_what_is_not_enforced(reader, &modules);
    modules
}

/// Reads `healthSecs` of `$edgeAgent`: whole seconds, an hour at most.
pub fn read_health(reader: &mut Reader<'_>, agent: &Object<'_>) -> Duration {
    let secs = reader.integer(agent, "healthSecs", 0..=MAX_HEALTH_SECS).and_then(|secs| u64::try_from(secs).ok());
    secs.map_or(DEFAULT_HEALTH, Duration::from_secs)
}

/// Reads `schemaVersion`: 1 and a minor up to `newest`.
pub fn schema_version(reader: &mut Reader<'_>, section: &Object<'_>, newest: u32) -> Option<u32> {
    let hint = format!("write \"schemaVersion\": \"1.{newest}\"");
    let text = reader.required_string(section, "schemaVersion", &hint)?;
    let minor = match text.split('.').collect::<Vec<_>>()[..] {
        ["1"] | ["1", "0", "0"] => Some(0),
        ["1", minor] | ["1", minor, "0"] => minor.parse().ok().filter(|minor| *minor <= newest),
        _ => None,
    };
    if minor.is_none() {
        reader.problem(&section.path_of("schemaVersion"), format!("is {text:?}, expected 1.0 to 1.{newest}"), hint);
    }
    minor
}

fn read_module(
    reader: &mut Reader<'_>,
    path: &str,
    name: &str,
    entry: &Value,
    check: ImageCheck<'_>,
) -> Option<InstanceSpec> {
    if let Err(error) = crate::name::check_id(name) {
        reader.problem(path, error.to_string(), "choose another name for the module");
    } else if name.starts_with('$') {
        reader.problem(path, "names that begin with $ belong to the runtime", "choose another name for the module");
    }
    let module = reader.object(path, entry)?;
    reader.known_keys(&module, MODULE);
    if let Some(kind) = reader.required_string(&module, "type", "write \"type\": \"library\"")
        && kind != "library"
    {
        let hint = match kind.to_lowercase().as_str() {
            "docker" => "write \"library\" and name a library in settings.image: there are no containers here",
            _ => "write \"library\"",
        };
        reader.problem(&module.path_of("type"), format!("is {kind:?}, expected \"library\""), hint);
    }
    let mut spec = InstanceSpec::new(name, "");
    spec.status = reader.word(&module, "status", DesiredStatus::WORDS).unwrap_or_default();
    spec.restart_policy = reader.word(&module, "restartPolicy", RestartPolicy::WORDS).unwrap_or_default();
    spec.image_pull_policy = reader.word(&module, "imagePullPolicy", PullPolicy::WORDS).unwrap_or_default();
    spec.version = reader.string(&module, "version").map(str::to_owned);
    if let Some(order) = reader.integer(&module, "startupOrder", 0..=i64::from(u32::MAX)) {
        spec.startup_order = u32::try_from(order).unwrap_or(LAST_STARTUP_ORDER);
    }
    if let Some(configuration) = reader.member_object(&module, "configuration") {
        reader.known_keys(&configuration, &["id"]);
        reader.string(&configuration, "id");
    }
    if let Some(env) = reader.member_object(&module, "env") {
        spec.env = read_env(reader, &env);
    }
    let image_hint = "write \"settings\": {\"image\": \"NAME\"}, where NAME is a library's name, NAME:1.2 or ./FILE.so";
    if !module.members.contains_key("settings") {
        reader.problem(path, "settings is missing", image_hint);
        return Some(spec);
    }
    let settings = reader.member_object(&module, "settings")?;
    for key in settings.members.keys().filter(|key| !["image", "createOptions"].contains(&key.as_str())) {
        if !options::is_chunk(key) {
            reader.unknown_key(&settings, key, &["image", "createOptions"]);
        }
    }
    if let Some(image) = reader.required_string(&settings, "image", image_hint) {
        spec.image = image.to_owned();
        if let Err(message) = check(image) {
            reader.problem(&settings.path_of("image"), message, "");
        }
    }
    spec.options = options::read(reader, &settings);
    Some(spec)
}

fn read_env(reader: &mut Reader<'_>, env: &Object<'_>) -> BTreeMap<String, EnvValue> {
    let mut variables = BTreeMap::new();
    for (name, entry) in env.members {
        let path = env.path_of(name);
        if name.is_empty() || name.contains(['=', '\0']) {
            reader.problem(&path, "is not the name of a variable", "leave out '='");
        }
        if !entry.is_object() {
            let value = if entry.is_string() { entry.to_string() } else { format!("\"{entry}\"") };
            let hint = format!("write {{\"value\": {}}}", value.chars().take(60).collect::<String>());
            reader.problem(&path, "expected an object with the member value", hint);
            continue;
        }
        let Some(variable) = reader.object(&path, entry) else { continue };
        reader.known_keys(&variable, &["value"]);
        if !variable.members.contains_key("value") {
            reader.problem(&path, "value is missing", "write {\"value\": \"…\"}");
        } else if let Some(value) = read_env_value(reader, &variable) {
            variables.insert(name.clone(), value);
        }
    }
    variables
}

/// A text, or `{"$secret": NAME}`.
fn read_env_value(reader: &mut Reader<'_>, variable: &Object<'_>) -> Option<EnvValue> {
    let Some(Value::Object(_)) = variable.members.get("value") else {
        return reader.string(variable, "value").map(EnvValue::from);
    };
    let reference = reader.member_object(variable, "value")?;
    reader.known_keys(&reference, &["$secret"]);
    let name = reader.required_string(&reference, "$secret", "write {\"$secret\": \"NAME\"}, or a text")?;
    if let Err(error) = crate::name::check_id(name) {
        reader.problem(&reference.path_of("$secret"), error.to_string(), "write the name of a secret");
        return None;
    }
    Some(EnvValue::secret(name))
}

fn note_what_is_not_enforced(reader: &mut Reader<'_>, modules: &BTreeMap<String, InstanceSpec>) {
    let named = |which: &dyn Fn(&InstanceSpec) -> bool| -> Option<String> {
        let names: Vec<&str> = modules.values().filter(|spec| which(spec)).map(|spec| spec.name.as_str()).collect();
        if names.is_empty() { None } else { Some(names.join(", ")) }
    };
    if let Some(names) = named(&|spec| spec.options.isolation == Isolation::Process) {
        reader.note(format!("{names}: isolation process is not available yet: runs as a thread of the runtime"));
    }
    if let Some(names) = named(&|spec| spec.options.limits != Limits::default()) {
        reader.note(format!("{names}: limits are kept but not enforced: a thread has none of its own"));
    }
    for (may, what) in [
        (DeviceTwin::Read, "reads the device's own twin"),
        (DeviceTwin::Report, "reads the device's own twin and reports into it"),
    ] {
        if let Some(names) = named(&|spec| spec.options.device_twin == may) {
            reader.note(format!("{names}: deviceTwin {may}: {what}"));
        }
    }
    if let Some(names) = named(&|spec| !spec.env.is_empty()) {
        reader.note(format!(
            "{names}: env reaches the module through client.env() only: a thread has no variables of its own"
        ));
    }
}
