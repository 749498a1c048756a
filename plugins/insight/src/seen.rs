//! What a query sees of a message: a number, its group, its quality and its place in time.

use dinrail_plugin::reading::parse_time;
use dinrail_plugin::{Message, Quality};
use serde_json::Value;

use crate::settings::{Condition, Query, TimeBy};

/// Longest text that makes a group, in bytes.
const MAX_KEY: usize = 128;

/// A message, its body read once for all queries.
pub struct Incoming<'a> {
    pub body: Value,
    pub input: &'a str,
    pub output: &'a str,
    pub sender: &'a str,
    pub properties: Vec<(&'a str, &'a str)>,
    /// When the runtime took it in: microseconds since 1970-01-01 UTC.
    pub arrival: i64,
}

impl<'a> Incoming<'a> {
    /// `None` where the body is no JSON.
    pub fn read(message: &Message<'a>) -> Option<Incoming<'a>> {
        Some(Incoming {
            body: serde_json::from_slice(message.body()).ok()?,
            input: message.input(),
            output: message.output(),
            sender: message.sender(),
            properties: message.properties().collect(),
            arrival: message.created_us(),
        })
    }
}

/// What a group or a condition looks at.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// A member of the body, by names from the outside in.
    Body(Vec<String>),
    Property(String),
    Sender,
    Output,
    Input,
}

impl Source {
    /// `None` where it is none of these.
    pub fn parse(text: &str) -> Option<Source> {
        match text.strip_prefix('$') {
            Some("sender") => Some(Source::Sender),
            Some("output") => Some(Source::Output),
            Some("input") => Some(Source::Input),
            Some(rest) => {
                rest.strip_prefix("property.").filter(|key| !key.is_empty()).map(|key| Source::Property(key.to_owned()))
            }
            None if text.split('.').any(str::is_empty) => None,
            None => Some(Source::Body(text.split('.').map(str::to_owned).collect())),
        }
    }

    fn of(&self, message: &Incoming<'_>) -> Option<Value> {
        let text = match self {
            Source::Body(path) => {
                return path.iter().try_fold(&message.body, |within, name| within.get(name)).cloned();
            }
            Source::Property(key) => message.properties.iter().find(|(name, _)| name == key)?.1,
            Source::Sender => message.sender,
            Source::Output => message.output,
            Source::Input => message.input,
        };
        Some(text.into())
    }
}

/// A number that a query counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// What the group is made of, in the order of `groupBy`; none where the message did not say.
    pub group: Vec<Option<String>>,
    /// Finite, where the reading has one.
    pub value: Option<f64>,
    pub unit: String,
    pub quality: Quality,
    /// Microseconds since 1970-01-01 UTC.
    pub time: i64,
}

/// The looks of a query, with its paths parsed.
pub struct Looks {
    query: Query,
    field: Source,
    group_by: Vec<Source>,
    conditions: Vec<Source>,
}

impl Looks {
    /// Of a query that was checked.
    pub fn of(query: &Query) -> Looks {
        let source = |text: &str| Source::parse(text).unwrap_or(Source::Body(vec![text.to_owned()]));
        Looks {
            field: source(&query.field),
            group_by: query.group_by.iter().map(|text| source(text)).collect(),
            conditions: query.conditions.iter().map(|condition| source(&condition.field)).collect(),
            query: query.clone(),
        }
    }

    /// True if the query asks for this message.
    pub fn wants(&self, message: &Incoming<'_>) -> bool {
        let is_input = self.query.input.as_deref().is_none_or(|input| input == message.input);
        let mut conditions = self.conditions.iter().zip(&self.query.conditions);
        is_input && conditions.all(|(source, condition)| holds(condition, source.of(message)))
    }

    /// Reads the message; `None` where there is nothing in it that could be counted.
    pub fn sample(&self, message: &Incoming<'_>) -> Option<Sample> {
        let member = |name: &str| message.body.get(name);
        let quality = match member("quality").and_then(Value::as_str) {
            Some("bad") => Quality::Bad,
            Some("uncertain") => Quality::Uncertain,
            _ => Quality::Good,
        };
        let value = self.field.of(message).and_then(|value| value.as_f64()).filter(|value| value.is_finite());
        // A reading may say that no value could be had; anything else without a number is no reading.
        if value.is_none() && quality == Quality::Good {
            return None;
        }
        let time = match (self.query.time, member("sourceTime")) {
            (TimeBy::Source, Some(Value::String(text))) => parse_time(text)?,
            (TimeBy::Source, Some(Value::Number(us))) => us.as_i64()?,
            _ => message.arrival,
        };
        let text = |value: Value| match value {
            Value::String(text) => Some(text),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
            other => Some(other.to_string()),
        };
        let group: Vec<Option<String>> = self.group_by.iter().map(|source| source.of(message).and_then(text)).collect();
        if group.iter().flatten().any(|key| key.len() > MAX_KEY) {
            return None;
        }
        let unit = member("unit").and_then(Value::as_str).unwrap_or_default().to_owned();
        Some(Sample { group, value, unit, quality, time })
    }
}

fn holds(condition: &Condition, value: Option<Value>) -> bool {
    let Some(value) = value else { return false };
    let same = |wanted: &Value| match (wanted.as_f64(), value.as_f64()) {
        (Some(wanted), Some(value)) => wanted == value,
        _ => *wanted == value,
    };
    let Condition { equals, one_of, starts_with, at_least, at_most, .. } = condition;
    let text = |start: &String| value.as_str().is_some_and(|text| text.starts_with(start.as_str()));
    let number = |is_so: &dyn Fn(f64) -> bool| value.as_f64().is_some_and(is_so);
    equals.as_ref().is_none_or(same)
        && one_of.as_ref().is_none_or(|wanted| wanted.iter().any(same))
        && starts_with.as_ref().is_none_or(text)
        && at_least.is_none_or(|least| number(&|value| value >= least))
        && at_most.is_none_or(|most| number(&|value| value <= most))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn incoming(body: Value) -> Incoming<'static> {
        let properties = vec![("line", "3")];
        Incoming { body, input: "readings", output: "out", sender: "/devices/d/modules/plc", properties, arrival: 7 }
    }

    fn query(query: Value) -> Looks {
        let mut whole = json!({"window": {"size": "10s"}});
        whole.as_object_mut().unwrap().extend(query.as_object().unwrap().clone());
        Looks::of(&serde_json::from_value(whole).unwrap())
    }

    #[test]
    fn conditions_choose_messages() {
        let message = incoming(json!({"name": "oven.temperature", "value": 80, "on": true, "at": {"zone": "a"}}));
        for (condition, is_so) in [
            (json!({"field": "name", "equals": "oven.temperature"}), true),
            (json!({"field": "name", "equals": "oven"}), false),
            (json!({"field": "name", "startsWith": "oven."}), true),
            (json!({"field": "value", "equals": 80.0}), true),
            (json!({"field": "value", "atLeast": 80, "atMost": 80}), true),
            (json!({"field": "value", "atLeast": 81}), false),
            (json!({"field": "name", "atMost": 81}), false),
            (json!({"field": "on", "equals": true}), true),
            (json!({"field": "at.zone", "oneOf": ["b", "a"]}), true),
            (json!({"field": "at.zone", "oneOf": []}), false),
            (json!({"field": "missing", "equals": null}), false),
            (json!({"field": "$property.line", "equals": "3"}), true),
            (json!({"field": "$sender", "startsWith": "/devices/d/"}), true),
            (json!({"field": "$input", "equals": "readings"}), true),
            (json!({"field": "$output", "equals": "in"}), false),
        ] {
            assert_eq!(query(json!({"where": [condition]})).wants(&message), is_so, "{condition}");
        }
        assert!(query(json!({"input": "readings"})).wants(&message) && !query(json!({"input": "x"})).wants(&message));
    }

    #[test]
    fn a_sample_has_value_group_quality_and_time() {
        let reading = json!({"name": "t", "value": 5, "unit": "°C", "quality": "uncertain", "sourceTime": 42});
        let sample = query(json!({"groupBy": ["name", "$property.line", "zone"]})).sample(&incoming(reading)).unwrap();
        let group = vec![Some("t".to_owned()), Some("3".to_owned()), None];
        assert_eq!(
            sample,
            Sample { group, value: Some(5.0), unit: "°C".into(), quality: Quality::Uncertain, time: 42 }
        );
    }

    #[test]
    fn time_is_that_of_the_source_or_of_the_arrival() {
        let at = |body: Value, asked: Value| query(asked).sample(&incoming(body)).map(|sample| sample.time);
        let source = json!({"value": 1, "sourceTime": "1970-01-01T00:00:01Z"});
        assert_eq!(at(source.clone(), json!({})), Some(1_000_000));
        assert_eq!(at(source, json!({"time": "arrival"})), Some(7));
        assert_eq!(at(json!({"value": 1}), json!({})), Some(7));
        assert_eq!(at(json!({"value": 1, "sourceTime": "soon"}), json!({})), None);
    }

    #[test]
    fn what_has_no_number_is_no_sample_unless_it_says_that_it_is_bad() {
        let sample = |body: Value| query(json!({})).sample(&incoming(body));
        for body in [json!({}), json!([]), json!({"value": "5"}), json!({"value": null}), json!(5)] {
            assert_eq!(sample(body.clone()), None, "{body}");
        }
        let bad = sample(json!({"name": "t", "value": null, "quality": "bad"})).unwrap();
        assert_eq!((bad.value, bad.quality), (None, Quality::Bad));
        assert_eq!(sample(json!({"name": "n".repeat(129), "value": 1})), None);
    }
}
