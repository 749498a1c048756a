//! What was seen, in the order in which it happened: a line each, for a person and for a program.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Something that was seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Event {
    /// The library was looked at and taken in.
    Image {
        /// Name of the image.
        name: String,
        /// Its version.
        version: String,
        /// `sha256:…`
        digest: String,
    },
    /// The library is not taken in, or cannot be loaded.
    Refused {
        /// Why, and what to do.
        reason: String,
    },
    /// The library is loaded: its constructors run.
    Loading,
    /// A call into the module begins.
    Call {
        /// Function of the table, such as `on_message`.
        callback: String,
        /// The message, method or change that it is about, for a person.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        about: String,
        /// Number of the message, from 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<usize>,
        /// 1 at the first delivery of the message.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        attempt: Option<u32>,
    },
    /// The call has returned.
    Return {
        /// Function of the table.
        callback: String,
        /// `done`, `accept`, or what went otherwise.
        outcome: String,
        /// What the module said about it.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        text: String,
        /// Number of the message, where it is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<usize>,
    },
    /// A log line of the module.
    Log {
        /// `error`, `warn`, `info`, `debug` or `trace`.
        level: String,
        /// Part of the module that it comes from.
        target: String,
        /// The line.
        text: String,
        /// Place in the source, where it is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        place: Option<String>,
    },
    /// The module sends a message.
    Send {
        /// Its output; empty: to the hub.
        output: String,
        /// The body: text where it is text, else hexadecimal digits.
        body: String,
        /// True if the body is not text.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_hex: bool,
        /// Application properties.
        properties: Map<String, Value>,
        /// What the runtime answered.
        outcome: String,
    },
    /// The module reports properties: a merge patch.
    Reports {
        /// The patch.
        patch: Value,
        /// What the runtime answered.
        outcome: String,
    },
    /// The module says how it is.
    Health {
        /// `error`, `warn` or `info`.
        level: String,
        /// The sentence; empty: nothing to say any more.
        sentence: String,
    },
    /// A deferred message has ended.
    Complete {
        /// Number of the message.
        message: Option<usize>,
        /// The verdict.
        outcome: String,
        /// Why.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        text: String,
    },
    /// The module calls a method of somebody.
    Invokes {
        /// Identity.
        target: String,
        /// Method.
        name: String,
        /// JSON.
        payload: String,
    },
    /// The module says that it cannot go on.
    Fails {
        /// Why.
        reason: String,
    },
    /// The answer to a method call of the plan.
    Answer {
        /// Method.
        method: String,
        /// Status.
        status: i32,
        /// JSON.
        payload: String,
    },
    /// The module, or a library of its own, wrote to stdout or stderr.
    Printed {
        /// The line.
        text: String,
    },
    /// Not a failure, but hardly meant so.
    Warning {
        /// What, and what to do.
        text: String,
    },
    /// A failure.
    Problem {
        /// What, and what to do.
        text: String,
    },
    /// The instance has ended.
    End {
        /// Its reported properties, without metadata.
        reported: Value,
    },
}

/// Text of a module on one line.
fn flat(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Event::Image { name, version, digest } => {
                format!("{name} {version} ({})", digest.get(..19).unwrap_or(digest))
            }
            Event::Refused { reason } => format!("not loaded: {reason}"),
            Event::Loading => "load".to_owned(),
            Event::Call { callback, about, attempt, .. } => {
                let again = attempt.filter(|n| *n > 1).map(|n| format!(" (attempt {n})")).unwrap_or_default();
                let colon = if about.is_empty() { "" } else { ": " };
                format!("{callback}{again}{colon}{about}")
            }
            Event::Return { outcome, text, .. } if text.is_empty() => format!("  = {outcome}"),
            Event::Return { outcome, text, .. } => format!("  = {outcome}: {text}"),
            Event::Log { level, target, text, place } => {
                let place = place.as_ref().map(|place| format!(" ({place})")).unwrap_or_default();
                format!("  log {level} {target}: {text}{place}")
            }
            Event::Send { output, body, properties, outcome, .. } => {
                let to = if output.is_empty() { "the hub" } else { output };
                let properties: Vec<String> = properties
                    .iter()
                    .map(|(k, v)| format!("{k}={}", v.as_str().map_or_else(|| v.to_string(), str::to_owned)))
                    .collect();
                let list = if properties.is_empty() { String::new() } else { format!(" [{}]", properties.join(", ")) };
                format!("  sends {to}{list}: {body}{}", unless_done(outcome))
            }
            Event::Reports { patch, outcome } => format!("  reports {patch}{}", unless_done(outcome)),
            Event::Health { sentence, .. } if sentence.is_empty() => "  health cleared".to_owned(),
            Event::Health { level, sentence } => format!("  health {level}: {sentence}"),
            Event::Complete { message, outcome, text } => {
                let number = message.map(|n| format!(" {n}")).unwrap_or_default();
                let colon = if text.is_empty() { "" } else { ": " };
                format!("  completes message{number}: {outcome}{colon}{text}")
            }
            Event::Invokes { target, name, payload } => format!("  invokes {name} of {target}: {payload}"),
            Event::Fails { reason } => format!("  says that it cannot go on: {reason}"),
            Event::Answer { method, status, payload } => format!("  {method} answers {status}: {payload}"),
            Event::Printed { text } => format!("  prints {text}"),
            Event::Warning { text } => format!("warning: {text}"),
            Event::Problem { text } => format!("problem: {text}"),
            Event::End { reported } => format!("reported in the end: {reported}"),
        };
        f.write_str(&flat(&text))
    }
}

fn unless_done(outcome: &str) -> String {
    if matches!(outcome, "done" | "pending") { String::new() } else { format!(" → {outcome}") }
}
