//! The JSON Schema of a manifest, for editors. Words come from the tables of the reader; a test compares the keys both ways.
//!
//! It says what the reader says, as far as a schema can: not that names refer to each other, nor the grammar of a route.

use serde_json::{Map, Value, json};

use super::hub;
use super::manifest::EXPORT;
use super::modules::{DEFAULT_HEALTH, MAX_HEALTH_SECS};
#[cfg(test)]
use super::store;
use super::store::Order;
use crate::instance::spec::{
    DEFAULT_STOP_GRACE, DesiredStatus, DeviceTwin, Isolation, LAST_STARTUP_ORDER, PullPolicy, RestartPolicy,
};
use crate::routing::{DEFAULT_BLOCK, Durability, OnFull};

/// Ids of modules; the first character is not `$`.
const ID: &str = r"^[A-Za-z0-9:.+%_#*?!(),=@;'-][A-Za-z0-9:.+%_#*?!(),=@;$'-]{0,127}$";
const SECRET_NAME: &str = r"^[A-Za-z0-9:.+%_#*?!(),=@;$'-]{1,128}$";
const ROUTE_NAME: &str = r"^[^.$# ]+$";

/// The schema, draft 2020-12.
pub fn schema() -> Value {
    let exported: Map<String, Value> = EXPORT
        .iter()
        .map(|key| ((*key).to_owned(), json!({"description": "Of a document exported from a hub; ignored."})))
        .collect();
    let mut root = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "dinrail deployment manifest",
        "description": "IoT Edge's deployment manifest with modules that are libraries. JSON, or YAML 1.2.",
        "type": "object",
        "anyOf": [{"required": ["modulesContent"]}, {"required": ["content"]}],
        "properties": {
            "$schema": {"type": "string", "description": "For editors; ignored."},
            "modulesContent": {"$ref": "#/$defs/modulesContent"},
            "content": {
                "description": "The manifest as a hub exports it.",
                "type": "object",
                "required": ["modulesContent"],
                "properties": {
                    "$schema": {"type": "string"},
                    "modulesContent": {"$ref": "#/$defs/modulesContent"},
                    "deviceContent": {"type": "null"},
                    "moduleContent": {"type": "null"},
                },
                "additionalProperties": false,
            },
            "deviceContent": {"type": "null"},
            "moduleContent": {"type": "null"},
        },
        "additionalProperties": false,
        "$defs": {
            "modulesContent": modules_content(),
            "agent": agent(),
            "modules": {
                "description": "What is to run, by name.",
                "type": "object",
                "patternProperties": {ID: {"$ref": "#/$defs/module"}},
                "additionalProperties": false,
            },
            "module": module(),
            "settings": settings(),
            "createOptions": create_options(),
            "hub": hub_section(),
            "routes": {
                "description": "Where messages go, by the name of the route.",
                "type": "object",
                "patternProperties": {ROUTE_NAME: {"$ref": "#/$defs/route"}},
                "additionalProperties": false,
            },
            "route": route(),
        },
    });
    if let Some(properties) = root["properties"].as_object_mut() {
        properties.extend(exported);
    }
    root
}

fn modules_content() -> Value {
    let whole_or_flat = json!([
        {"required": ["properties.desired"], "properties": {"properties.desired": {"required": ["schemaVersion"]}}},
        {"required": ["properties.desired.schemaVersion"]},
    ]);
    let anything = r"^properties\.desired\.[^.]+(\.[^.]+)*$";
    json!({
        "type": "object",
        "required": ["$edgeAgent", "$edgeHub"],
        "properties": {
            "$edgeAgent": {
                "description": "The modules.",
                "type": "object",
                "anyOf": whole_or_flat,
                "properties": {
                    "properties.desired": {"$ref": "#/$defs/agent"},
                    "properties.desired.modules": {"$ref": "#/$defs/modules"},
                },
                "patternProperties": {
                    r"^properties\.desired\.modules\.[^.]+$": {"$ref": "#/$defs/module"},
                    r"^properties\.desired\.modules\.[^.]+\.settings$": {"$ref": "#/$defs/settings"},
                    anything: true,
                },
                "additionalProperties": false,
            },
            "$edgeHub": {
                "description": "The routes.",
                "type": "object",
                "anyOf": whole_or_flat,
                "properties": {
                    "properties.desired": {"$ref": "#/$defs/hub"},
                    "properties.desired.routes": {"$ref": "#/$defs/routes"},
                },
                "patternProperties": {
                    r"^properties\.desired\.routes\.[^.]+$": {"$ref": "#/$defs/route"},
                    anything: true,
                },
                "additionalProperties": false,
            },
        },
        "patternProperties": {
            ID: {
                "description": "Desired properties of a module. properties.desired replaces all of them, \
                    properties.desired.PATH merges.",
                "type": "object",
                "minProperties": 1,
                "properties": {"properties.desired": {"type": "object", "not": {"anyOf": [
                    {"required": ["$version"]}, {"required": ["$metadata"]},
                ]}}},
                "patternProperties": {anything: true},
                "additionalProperties": false,
            },
        },
        "additionalProperties": false,
    })
}

fn agent() -> Value {
    json!({
        "type": "object",
        "properties": {
            "schemaVersion": schema_version(1),
            "runtime": {"description": "Ignored: there is nothing of the kind to set up here."},
            "systemModules": {"description": "Ignored: there are none here."},
            "modules": {"$ref": "#/$defs/modules"},
            "healthSecs": {
                "description": "How long, in seconds, what a deployment changed must stay up, else it is rolled back. 0: nobody looks.",
                "type": "integer",
                "minimum": 0,
                "maximum": MAX_HEALTH_SECS,
                "default": DEFAULT_HEALTH.as_secs(),
            },
        },
        "additionalProperties": false,
    })
}

/// `1`, `1.0`, `1.0.0` … up to the newest minor.
fn schema_version(newest: u32) -> Value {
    json!({
        "description": format!("Version of this section: 1.0 to 1.{newest}."),
        "type": "string",
        "pattern": format!(r"^1(\.[0-{newest}](\.0)?)?$"),
        "default": format!("1.{newest}"),
    })
}

fn words<T: Copy + PartialEq>(about: &str, words: &[(&str, T)], default: Option<T>) -> Value {
    let of = |value: T| words.iter().find(|(_, known)| *known == value).map(|(word, _)| *word);
    let mut schema = json!({"description": about, "enum": words.iter().map(|(word, _)| *word).collect::<Vec<_>>()});
    if let Some(word) = default.and_then(of) {
        schema["default"] = word.into();
    }
    schema
}

fn module() -> Value {
    json!({
        "type": "object",
        "required": ["type", "settings"],
        "properties": {
            "version": {"description": "For people; not looked at.", "type": "string"},
            "type": {"description": "A module is a library here.", "const": "library"},
            "status": words("Whether it is to run.", DesiredStatus::WORDS, Some(DesiredStatus::default())),
            "restartPolicy":
                words("After what it is started again.", RestartPolicy::WORDS, Some(RestartPolicy::default())),
            "imagePullPolicy": words(
                "Accepted for IoT Edge's sake: images arrive by themselves here.",
                PullPolicy::WORDS,
                Some(PullPolicy::default())
            ),
            "startupOrder": {
                "description": "Lower starts earlier and stops later.",
                "type": "integer",
                "minimum": 0,
                "maximum": u32::MAX,
                "default": LAST_STARTUP_ORDER,
            },
            "env": {
                "description": "What client.env() tells the module.",
                "type": "object",
                "propertyNames": {"pattern": "^[^=]+$"},
                "additionalProperties": {
                    "type": "object",
                    "required": ["value"],
                    "properties": {"value": {
                        "description": "A text, or the secret that it stands for.",
                        "anyOf": [
                            {"type": "string"},
                            {
                                "type": "object",
                                "required": ["$secret"],
                                "properties": {"$secret": {"type": "string", "pattern": SECRET_NAME}},
                                "additionalProperties": false,
                            },
                        ],
                    }},
                    "additionalProperties": false,
                },
            },
            "settings": {"$ref": "#/$defs/settings"},
            "configuration": {
                "description": "Written by a hub: the deployment that named the module.",
                "type": "object",
                "properties": {"id": {"type": "string"}},
                "additionalProperties": false,
            },
        },
        "additionalProperties": false,
    })
}

fn settings() -> Value {
    json!({
        "type": "object",
        "required": ["image"],
        "properties": {
            "image": {
                "description": "The library: NAME (the newest), NAME:1, NAME:1.2, NAME:1.2.3, NAME@sha256:…, or ./FILE.so, \
                    relative to the manifest.",
                "type": "string",
                "pattern": r"\S",
            },
            "createOptions": {
                "description": "How it is run: an object, or a text holding JSON.",
                "anyOf": [{"$ref": "#/$defs/createOptions"}, {"type": "string"}],
            },
        },
        "patternProperties": {
            "^createOptions(0[1-9]|[1-9][0-9])$": {
                "description": "The next piece of a createOptions that is cut into texts.",
                "type": "string",
            },
        },
        "additionalProperties": false,
    })
}

fn create_options() -> Value {
    let limit =
        |about: &str, maximum: i64| json!({"description": about, "type": "integer", "minimum": 1, "maximum": maximum});
    json!({
        "type": "object",
        "properties": {
            "isolation": words(
                "Where its code runs. auto: as a thread, until that proves unwise.",
                Isolation::WORDS,
                Some(Isolation::default())
            ),
            "limits": {
                "description": "Kept, not enforced yet: a thread has none of its own.",
                "type": "object",
                "properties": {
                    "memoryBytes": limit("Largest memory in bytes.", i64::MAX),
                    "cpuPercent": limit("Largest share of processors; 100 is one of them.", 100_000),
                    "openFiles": limit("Most open files.", 1_048_576),
                },
                "additionalProperties": false,
            },
            "stopGraceSecs": {
                "description": "How long it may take to stop.",
                "type": "number",
                "minimum": 0,
                "maximum": 3600,
                "default": DEFAULT_STOP_GRACE.as_secs(),
            },
            "watchdogSecs": {
                "description": "How long a call may take before the module counts as unhealthy; 0: any time.",
                "type": "number",
                "minimum": 0,
                "maximum": 86400,
            },
            "stackBytes": {
                "description": "Stack of its thread.",
                "type": "integer",
                "minimum": 65_536,
                "maximum": 1_073_741_824,
            },
            "deviceTwin": words(
                "What it may do with the device's own twin. report: read it and report into it.",
                DeviceTwin::WORDS,
                Some(DeviceTwin::default())
            ),
        },
        "additionalProperties": false,
    })
}

fn hub_section() -> Value {
    json!({
        "type": "object",
        "properties": {
            "schemaVersion": schema_version(3),
            "routes": {"$ref": "#/$defs/routes"},
            "storeAndForwardConfiguration": {
                "type": "object",
                "properties": {
                    "timeToLiveSecs": {
                        "description": "How long messages wait unless their route says otherwise; negative: for ever.",
                        "type": "integer",
                        "minimum": i32::MIN,
                        "maximum": i32::MAX,
                        "not": {"const": 0},
                    },
                    "maxBytes": store_bytes("Bytes of messages that may wait on disk altogether."),
                    "endpoints": {
                        "description": "What holds for single endpoints: $upstream, or /modules/MODULE/inputs/INPUT.",
                        "type": "object",
                        "additionalProperties": {
                            "type": "object",
                            "properties": {
                                "maxBytes": store_bytes("Bytes of messages that may wait on disk for it."),
                                "order": words(
                                    "What goes first where older messages wait on disk.", Order::WORDS,
                                    Some(Order::default())
                                ),
                            },
                            "additionalProperties": false,
                        },
                    },
                    "storeLimits": {
                        "type": "object",
                        "properties": {"maxSizeBytes": {
                            "description": "As maxBytes.",
                            "type": "integer",
                            "minimum": 1,
                            "maximum": i64::MAX,
                        }},
                        "additionalProperties": false,
                    },
                },
                "additionalProperties": false,
            },
            "integrity": {"description": "Ignored: the signature of the manifest is not checked."},
        },
        "additionalProperties": false,
    })
}

fn store_bytes(description: &str) -> Value {
    json!({"description": description, "type": "integer", "minimum": 1, "maximum": i64::MAX})
}

fn route() -> Value {
    let text = json!({
        "description": "FROM /messages/modules/NAME/outputs/OUTPUT INTO $upstream, or INTO \
            BrokeredEndpoint(\"/modules/NAME/inputs/INPUT\")",
        "type": "string",
    });
    json!({"anyOf": [
        text.clone(),
        {"type": "null"},
        {
            "type": "object",
            "required": ["route"],
            "properties": {
                "route": text,
                "priority": {
                    "description": "Lower is served first; without one it comes after all that have one.",
                    "type": "integer",
                    "minimum": 0,
                    "maximum": 9,
                },
                "timeToLiveSecs": {
                    "description": "How long its messages may wait; 0: as long as storeAndForwardConfiguration says.",
                    "type": "integer",
                    "minimum": 0,
                    "maximum": u32::MAX,
                },
                "durability": words(
                    "Where its messages wait: disk unless told for $upstream, else memory.", Durability::WORDS, None
                ),
                "onFull": words("What becomes of a message without room.", OnFull::WORDS, Some(OnFull::default())),
                "blockMs": {
                    "description": "With onFull block: for how long a full receiver may hold a sender.",
                    "type": "integer",
                    "minimum": 1,
                    "maximum": hub::MAX_BLOCK_MS,
                    "default": DEFAULT_BLOCK.as_millis() as u64,
                },
                "maxMessageBytes": {
                    "description": "Largest message, body and properties together, for memory routes.",
                    "type": "integer",
                    "minimum": 1,
                    "maximum": hub::MAX_MAX_MESSAGE_BYTES,
                },
            },
            "additionalProperties": false,
        },
    ]})
}

/// The keys that the reader knows, by the place of their object in the schema.
#[cfg(test)]
fn known_keys() -> Vec<(&'static str, Vec<&'static str>)> {
    use super::{modules, options};
    vec![
        ("/$defs/agent", modules::AGENT.to_vec()),
        ("/$defs/module", modules::MODULE.to_vec()),
        ("/$defs/settings", vec!["image", "createOptions"]),
        ("/$defs/createOptions", options::KEYS.to_vec()),
        ("/$defs/createOptions/properties/limits", options::LIMITS.to_vec()),
        ("/$defs/hub", hub::HUB.to_vec()),
        ("/$defs/hub/properties/storeAndForwardConfiguration", store::STORE.to_vec()),
        (
            "/$defs/hub/properties/storeAndForwardConfiguration/properties/endpoints/additionalProperties",
            store::ENDPOINT.to_vec(),
        ),
        ("/$defs/route/anyOf/2", hub::ROUTE.to_vec()),
    ]
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
