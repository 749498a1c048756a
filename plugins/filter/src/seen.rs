//! The number that a message holds, and what is to be said of it.

use dinrail_plugin::prelude::*;

use crate::{Alarm, State};

/// Longest texts that are taken over into an alarm, in bytes: bounds what is reported.
const MAX_NAME: usize = 128;
const MAX_UNIT: usize = 32;
const MAX_TIME: usize = 40;

/// A message in which there is a number. Shaped like a reading, or any other JSON with a number in it.
pub struct Seen {
    name: String,
    value: f64,
    unit: Option<String>,
    time: Value,
}

impl Seen {
    /// Reads the number at `field`; `None` where there is none, or where the reading calls itself bad.
    ///
    /// A body without `name` goes by the name of the field, one without `sourceTime` by the time when the runtime took it in.
    pub fn read(message: &Message<'_>, field: &str) -> Option<Seen> {
        let body: Value = serde_json::from_slice(message.body()).ok()?;
        let value = field.split('.').try_fold(&body, |within, name| within.get(name))?.as_f64()?;
        let text = |name, most| body.get(name).and_then(Value::as_str).filter(|text| text.len() <= most);
        if text("quality", MAX_NAME) == Some("bad") {
            return None;
        }
        Some(Seen {
            name: if body.get("name").is_some() { text("name", MAX_NAME)? } else { field }.to_owned(),
            value,
            unit: text("unit", MAX_UNIT).map(str::to_owned),
            time: text("sourceTime", MAX_TIME).map_or_else(|| message.created_us().into(), Value::from),
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn value(&self) -> f64 {
        self.value
    }

    pub fn alarm(self, state: State, threshold: f64) -> Alarm {
        let Seen { name, value, unit, time } = self;
        Alarm { name, state, value, unit, threshold, time }
    }
}
