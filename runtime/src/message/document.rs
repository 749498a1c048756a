//! A message as people and programs write it: the form in which `tail --json` shows it.

use serde_json::{Map, Value};

use super::{Message, SystemProperties, is_other_system_property};
use crate::clock;

impl Message {
    /// Reads `{"body" | "bodyText" | "bodyHex", "properties", "systemProperties"}`; the inverse of [`Message::to_json`]. A `body`
    /// that is a text stands for these characters, any other for its JSON.
    ///
    /// # Errors
    /// What is wrong, each with its place.
    pub fn from_json(document: &Value) -> Result<Message, Vec<String>> {
        let Value::Object(document) = document else {
            return Err(vec!["a message is an object with body, properties and systemProperties".to_owned()]);
        };
        let mut problems = Vec::new();
        // What `tail` says of the clock is no part of the message.
        let known = ["body", "bodyText", "bodyHex", "properties", "systemProperties", "clock"];
        for key in document.keys().filter(|key| !known.contains(&key.as_str())) {
            problems.push(format!("{key}: a message has {}", known[..5].join(", ")));
        }
        let mut message = Message::new(body(document, &mut problems));
        message.properties = texts(document, "properties", &mut problems);
        let (mut device, mut module) = (String::new(), None);
        for (key, value) in texts(document, "systemProperties", &mut problems) {
            let mut wrong = |what: &str| problems.push(format!("systemProperties.{key}: {value:?} is {what}"));
            let SystemProperties { message_id, correlation_id, content_type, content_encoding, other } =
                &mut message.system;
            match key.to_ascii_lowercase().as_str() {
                "messageid" => *message_id = Some(value),
                "correlationid" => *correlation_id = Some(value),
                "contenttype" => *content_type = Some(value),
                "contentencoding" => *content_encoding = Some(value),
                "connectiondeviceid" => device = value,
                "connectionmoduleid" => module = Some(value),
                "outputname" => message.stamp.output = value.into(),
                "enqueuedtime" => match clock::from_rfc3339(&value) {
                    Some(us) => message.stamp.created_us = us,
                    None => wrong("no time such as 2026-11-21T14:05:09Z"),
                },
                "epoch" => match value.parse() {
                    Ok(epoch) => message.stamp.epoch = epoch,
                    Err(_) => wrong("no whole number"),
                },
                "sequencenumber" => match value.parse() {
                    Ok(sequence) => message.stamp.sequence = sequence,
                    Err(_) => wrong("no whole number"),
                },
                _ if is_other_system_property(&key) => other.push((key, value)),
                _ => wrong("given under no name"),
            }
        }
        message.stamp.sender = match module {
            Some(module) => format!("/devices/{device}/modules/{module}").into(),
            None if device.is_empty() => "".into(),
            None => format!("/devices/{device}").into(),
        };
        if problems.is_empty() { Ok(message) } else { Err(problems) }
    }
}

fn body(document: &Map<String, Value>, problems: &mut Vec<String>) -> Vec<u8> {
    match (document.get("body"), document.get("bodyText"), document.get("bodyHex")) {
        (None, None, None) => Vec::new(),
        (Some(Value::String(text)), None, None) | (None, Some(Value::String(text)), None) => text.clone().into_bytes(),
        (Some(json), None, None) => json.to_string().into_bytes(),
        (None, None, Some(Value::String(hex))) => octets(hex).unwrap_or_else(|| {
            problems.push("bodyHex: is not an even number of hexadecimal digits".to_owned());
            Vec::new()
        }),
        (None, _, None) => {
            problems.push("bodyText: is not a text".to_owned());
            Vec::new()
        }
        (None, None, _) => {
            problems.push("bodyHex: is not a text".to_owned());
            Vec::new()
        }
        _ => {
            problems.push("body: only one of body, bodyText and bodyHex can be given".to_owned());
            Vec::new()
        }
    }
}

fn octets(hex: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        hex.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect::<Option<_>>()?;
    digits.len().is_multiple_of(2).then(|| digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// The members of an object whose values are texts; a number or truth is taken as its text, a system property that is null as none.
fn texts(document: &Map<String, Value>, part: &str, problems: &mut Vec<String>) -> Vec<(String, String)> {
    let members = match document.get(part) {
        None | Some(Value::Null) => return Vec::new(),
        Some(Value::Object(members)) => members,
        Some(_) => {
            problems.push(format!("{part}: is not an object"));
            return Vec::new();
        }
    };
    let mut texts = Vec::with_capacity(members.len());
    for (key, value) in members {
        match value {
            Value::Null if part == "systemProperties" => {}
            Value::Null => problems.push(format!("{part}.{key}: is null; give a text, or leave it out")),
            Value::String(text) => texts.push((key.clone(), text.clone())),
            Value::Number(_) | Value::Bool(_) => texts.push((key.clone(), value.to_string())),
            _ => problems.push(format!("{part}.{key}: is not a text")),
        }
    }
    texts
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_tail_shows_reads_back() {
        let document = json!({
            "body": {"value": 81.5}, "properties": {"level": "high", "b": ""},
            "systemProperties": {
                "messageId": "m", "contentType": "application/json", "dt-subject": "/line/3",
                "connectionDeviceId": "D", "connectionModuleId": "filter", "outputName": "alarms",
                "enqueuedTime": "2026-11-21T14:05:09.123Z", "epoch": 7, "sequenceNumber": 8
            }
        });
        assert_eq!(Message::from_json(&document).unwrap().to_json(), document);
        for document in [json!({"body": "hello", "properties": {}}), json!({"bodyHex": "00ff"})] {
            let message = Message::from_json(&document).unwrap();
            let again = Message::from_json(&message.to_json()).unwrap();
            assert_eq!((again.body, again.properties), (message.body, message.properties));
        }
    }

    #[test]
    fn a_body_is_shown_so_that_the_same_one_is_read_back() {
        for body in ["plain", "\"plain\"", " \"a\\n\" ", "\"", "null", "1.5", "[\"a\"]", ""] {
            let shown = Message::new(body).to_json();
            assert_eq!(Message::from_json(&shown).unwrap().body, body.as_bytes(), "{shown}");
        }
        assert_eq!(Message::new("\"plain\"").to_json()["body"], json!("\"plain\""));
    }

    #[test]
    fn every_mistake_is_told_with_its_place() {
        let document = json!({
            "boddy": 1, "bodyHex": "0", "properties": {"a": [1], "b": 3, "c": null},
            "systemProperties": {"enqueuedTime": "noon", "sequenceNumber": "x"}
        });
        let problems = Message::from_json(&document).unwrap_err();
        let places: Vec<&str> = problems.iter().map(|problem| problem.split(':').next().unwrap()).collect();
        assert_eq!(
            places,
            [
                "boddy",
                "bodyHex",
                "properties.a",
                "properties.c",
                "systemProperties.enqueuedTime",
                "systemProperties.sequenceNumber"
            ]
        );
        assert!(Message::from_json(&json!([])).is_err());
        assert!(Message::from_json(&json!({"body": 1, "bodyText": "x"})).is_err());
    }
}
