//! `settings.createOptions`: what is ours, and what Docker's keys are called here.

use serde_json::{Map, Value};

use super::reader::{Object, Reader};
use crate::document::{Document, Format};
use crate::instance::spec::{CreateOptions, DeviceTwin, Isolation, Limits};

pub(super) const KEYS: &[&str] = &["isolation", "limits", "stopGraceSecs", "watchdogSecs", "stackBytes", "deviceTwin"];
pub(super) const LIMITS: &[&str] = &["memoryBytes", "cpuPercent", "openFiles"];

/// Docker's keys, of `createOptions` and of its `HostConfig`, each with what takes its place.
const DOCKER: &[(&str, &str)] = &[
    ("Env", "use env of the module: \"env\": {\"NAME\": {\"value\": \"…\"}}"),
    ("Cmd", "a library has no command line: use the module's desired properties"),
    ("Entrypoint", "a library has no command line: its entry is found by itself"),
    ("Image", "use settings.image"),
    ("ExposedPorts", "leave it out: a library opens its ports itself, on the device"),
    ("PortBindings", "leave it out: a library opens its ports itself, on the device"),
    ("PublishAllPorts", "leave it out: a library opens its ports itself, on the device"),
    ("NetworkMode", "leave it out: modules use the device's network"),
    ("NetworkingConfig", "leave it out: modules use the device's network"),
    ("Dns", "leave it out: modules use the device's network"),
    ("ExtraHosts", "leave it out: modules use the device's network"),
    ("Hostname", "leave it out: modules see the device's host name"),
    ("Domainname", "leave it out: modules see the device's host name"),
    ("Binds", "use the module's own data folder, data/NAME in the state directory"),
    ("Mounts", "use the module's own data folder, data/NAME in the state directory"),
    ("Volumes", "use the module's own data folder, data/NAME in the state directory"),
    ("Tmpfs", "use the module's own data folder, data/NAME in the state directory"),
    ("WorkingDir", "use the module's own data folder, data/NAME in the state directory"),
    ("Devices", "leave it out: a module opens the device's files with the rights of the runtime's user"),
    ("DeviceRequests", "leave it out: a module opens the device's files with the rights of the runtime's user"),
    ("Privileged", "leave it out: modules have the rights of the runtime's user"),
    ("CapAdd", "leave it out: modules have the rights of the runtime's user"),
    ("CapDrop", "leave it out: modules have the rights of the runtime's user"),
    ("SecurityOpt", "leave it out: modules have the rights of the runtime's user"),
    ("GroupAdd", "leave it out: modules have the rights of the runtime's user"),
    ("User", "leave it out: modules have the rights of the runtime's user"),
    ("Memory", "use limits.memoryBytes"),
    ("MemoryReservation", "use limits.memoryBytes"),
    ("MemorySwap", "use limits.memoryBytes"),
    ("NanoCpus", "use limits.cpuPercent"),
    ("CpuShares", "use limits.cpuPercent"),
    ("CpuQuota", "use limits.cpuPercent"),
    ("CpuPeriod", "use limits.cpuPercent"),
    ("CpusetCpus", "use limits.cpuPercent"),
    ("Ulimits", "use limits.openFiles"),
    ("PidsLimit", "leave it out: there is no limit of threads"),
    ("RestartPolicy", "use restartPolicy of the module"),
    ("AutoRemove", "leave it out: an instance goes when the deployment no longer names it"),
    ("StopTimeout", "use stopGraceSecs"),
    ("StopSignal", "leave it out: a module's stop handler is called"),
    ("Healthcheck", "use watchdogSecs; a module says how it is by client.health"),
    ("LogConfig", "leave it out: logs are bounded for each instance by the runtime"),
    ("Labels", "use the tags of the module's twin"),
    ("PidMode", "use isolation"),
    ("IpcMode", "use isolation"),
    ("UTSMode", "use isolation"),
    ("UsernsMode", "use isolation"),
    ("Init", "leave it out: there is no process to look after"),
    ("Tty", "leave it out: a library has no terminal"),
    ("OpenStdin", "leave it out: a library has no terminal"),
    ("AttachStdin", "leave it out: a library has no terminal"),
    ("AttachStdout", "leave it out: output is logged"),
    ("AttachStderr", "leave it out: output is logged"),
];

/// Reads `createOptions` of `settings`, whole or in chunks (`createOptions01` …), as an object or as a text holding JSON.
pub fn read(reader: &mut Reader<'_>, settings: &Object<'_>) -> CreateOptions {
    let path = settings.path_of("createOptions");
    let chunks: Vec<&String> = settings.members.keys().filter(|key| is_chunk(key)).collect();
    let whole = settings.members.get("createOptions");
    if chunks.is_empty() {
        return match whole {
            None => CreateOptions::default(),
            Some(Value::String(text)) => read_text(reader, &path, text),
            Some(value) => read_value(reader, &path, value),
        };
    }
    let mut names = vec!["createOptions".to_owned()];
    names.extend((1..=chunks.len()).map(|number| format!("createOptions{number:02}")));
    let mut text = String::new();
    let before = reader.problems.len();
    for name in &names {
        match settings.members.get(name) {
            Some(Value::String(chunk)) => text.push_str(chunk),
            Some(other) => reader.wrong_type(&settings.path_of(name), other, "a text: it is one of several chunks"),
            None => reader.problem(&path, format!("the chunk {name} is missing"), "put createOptions into one object"),
        }
    }
    if reader.problems.len() > before { CreateOptions::default() } else { read_text(reader, &path, &text) }
}

/// Whether `key` is `createOptions01` to `createOptions99`.
pub fn is_chunk(key: &str) -> bool {
    let digits = key.strip_prefix("createOptions").unwrap_or("");
    digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit()) && digits != "00"
}

fn read_text(reader: &mut Reader<'_>, path: &str, text: &str) -> CreateOptions {
    if text.trim().is_empty() {
        return CreateOptions::default();
    }
    match Document::read(text, Some(Format::Json)) {
        Ok(inner) => {
            for mut problem in inner.problems {
                problem.path = format!("{path}.{}", problem.path);
                reader.problem(&problem.path, problem.message, problem.hint.unwrap_or_default());
            }
            read_value(reader, path, &inner.value)
        }
        Err(problem) => {
            let within =
                problem.place.map_or(String::new(), |at| format!(" (line {}, column {} of it)", at.line, at.column));
            reader.problem(
                path,
                format!("the text in it is {}{within}", problem.message),
                problem.hint.unwrap_or_default(),
            );
            CreateOptions::default()
        }
    }
}

fn read_value(reader: &mut Reader<'_>, path: &str, value: &Value) -> CreateOptions {
    let mut options = CreateOptions::default();
    let Some(object) = reader.object(path, value) else { return options };
    for (key, value) in object.members {
        if KEYS.contains(&key.as_str()) {
            continue;
        }
        match (docker(key), value) {
            (_, Value::Object(host)) if key.eq_ignore_ascii_case("HostConfig") => {
                refuse_host(reader, &object.path_of(key), host)
            }
            (_, _) if key.eq_ignore_ascii_case("HostConfig") => refuse_docker(reader, &object.path_of(key), HOST),
            (Some(instead), _) => refuse_docker(reader, &object.path_of(key), instead),
            (None, _) => reader.unknown_key(&object, key, KEYS),
        }
    }
    options.isolation = reader.word(&object, "isolation", Isolation::WORDS).unwrap_or_default();
    if let Some(grace) = reader.seconds(&object, "stopGraceSecs", 0.0..=3600.0) {
        options.stop_grace = grace;
    }
    options.watchdog = reader.seconds(&object, "watchdogSecs", 0.0..=86400.0);
    options.stack_bytes =
        reader.integer(&object, "stackBytes", 65_536..=1_073_741_824).and_then(|bytes| usize::try_from(bytes).ok());
    options.device_twin = reader.word(&object, "deviceTwin", DeviceTwin::WORDS).unwrap_or_default();
    if let Some(limits) = reader.member_object(&object, "limits") {
        options.limits = read_limits(reader, &limits);
    }
    options
}

fn read_limits(reader: &mut Reader<'_>, limits: &Object<'_>) -> Limits {
    reader.known_keys(limits, LIMITS);
    let narrow = |number: i64| u32::try_from(number).ok();
    Limits {
        memory_bytes: reader.integer(limits, "memoryBytes", 1..=i64::MAX).and_then(|bytes| u64::try_from(bytes).ok()),
        cpu_percent: reader.integer(limits, "cpuPercent", 1..=100_000).and_then(narrow),
        open_files: reader.integer(limits, "openFiles", 1..=1_048_576).and_then(narrow),
    }
}

const HOST: &str = "use limits, and leave out the rest: there is no container";

fn refuse_host(reader: &mut Reader<'_>, path: &str, host: &Map<String, Value>) {
    if host.is_empty() {
        return refuse_docker(reader, path, HOST);
    }
    for key in host.keys() {
        refuse_docker(reader, &format!("{path}.{key}"), docker(key).unwrap_or(HOST));
    }
}

fn refuse_docker(reader: &mut Reader<'_>, path: &str, instead: &str) {
    reader.problem(path, "this is Docker's; modules are libraries here", instead);
}

fn docker(key: &str) -> Option<&'static str> {
    DOCKER.iter().find(|(word, _)| word.eq_ignore_ascii_case(key)).map(|(_, instead)| *instead)
}
