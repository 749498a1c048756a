//! Takes `tracing` events of the runtime's own code. One with a field `module` is about that instance and goes to its log.
//!
//! There are no spans in the runtime, so this is the whole subscriber.

use std::fmt::{self, Write};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Metadata, Subscriber, span};

use super::Logs;
use super::line::{Level, Line, Place};
use super::speaker::Offer;

/// See the module's documentation.
pub struct LogSubscriber {
    logs: Logs,
    level: Level,
}

impl LogSubscriber {
    /// Events of this level and graver ones go to `logs`.
    pub fn new(logs: Logs, level: Level) -> LogSubscriber {
        LogSubscriber { logs, level }
    }
}

fn level_of(level: &tracing::Level) -> Level {
    match *level {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warn,
        tracing::Level::INFO => Level::Info,
        tracing::Level::DEBUG => Level::Debug,
        tracing::Level::TRACE => Level::Trace,
    }
}

impl Subscriber for LogSubscriber {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && level_of(metadata.level()) <= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match self.level {
            Level::Error => LevelFilter::ERROR,
            Level::Warn => LevelFilter::WARN,
            Level::Info => LevelFilter::INFO,
            Level::Debug => LevelFilter::DEBUG,
            Level::Trace => LevelFilter::TRACE,
        })
    }

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let mut said = Said::default();
        event.record(&mut said);
        let Said { text, module, fields } = said;
        let speaker = match module.as_deref() {
            Some(name) if !name.is_empty() => self.logs.module(name),
            _ => self.logs.runtime().clone(),
        };
        self.logs.say(&speaker, Offer::of_runtime(text.len()), |speaker| {
            let mut line = Line::of_runtime(speaker.clone(), level_of(metadata.level()), &text, fields);
            line.place = metadata
                .file()
                .map(|file| Place { file: file.replace('\\', "/").into(), line: metadata.line().unwrap_or_default() });
            line
        });
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Said {
    text: String,
    module: Option<String>,
    fields: Map<String, Value>,
}

impl Said {
    fn put(&mut self, field: &Field, value: Value) {
        self.fields.insert(field.name().to_owned(), value);
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing into a string does not fail; a `Debug` that does is left out.
        if field.name() == "message" {
            let _ = write!(self.text, "{value:?}");
        } else {
            let mut text = String::new();
            let _ = write!(text, "{value:?}");
            self.record_str(field, &text);
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.text.push_str(value),
            "module" => self.module = Some(value.to_owned()),
            _ => self.put(field, super::line::clean(value.as_bytes(), super::line::MAX_TEXT_BYTES).into()),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.record_str(field, &value.to_string());
    }
}
