//! `dinrail send NAME INPUT BODY`.

use std::fmt::Write;

use clap::Args;
use serde_json::{Map, Value, json};

use super::{Context, Failure, json_input};
use crate::admin::client::path;
use crate::message;
use crate::view::{SendView, Status};

#[derive(Debug, Args)]
#[command(after_help = "\
A body that is JSON is marked as such (contentType application/json, contentEncoding utf-8), so that routes can look into it.

Examples:
  dinrail send filter readings '{\"value\": 81.5}'
  dinrail send filter readings @reading.json -p level=high -p line=3
  cat picture.jpg | dinrail send viewer pictures - --content-type image/jpeg")]
pub struct SendArgs {
    /// Name of the module
    name: String,
    /// Its input
    input: String,
    /// The body: text, @FILE, or - for standard input
    #[arg(allow_hyphen_values = true)]
    body: String,
    /// Property of the message; may be repeated
    #[arg(short, long = "property", value_name = "KEY=VALUE", value_parser = pair)]
    properties: Vec<(String, String)>,
    /// Content type of the body [default: application/json for JSON]
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
}

pub(super) fn run(args: SendArgs, context: &mut Context) -> Result<(), Failure> {
    let body = json_input::read_body(&args.body)?;
    // As a request it would be larger still, and be refused as one.
    if let Some(text) = message::too_large(body.len()) {
        return Err(Failure::new(text).hint(message::TOO_LARGE_HINT));
    }
    let document = document(&body, &args.properties, args.content_type.as_deref());
    let sent: SendView =
        context.client()?.post(&path(&["modules", &args.name, "inputs", &args.input]), Some(&document))?;
    if context.out.is_json() {
        return context.out.document(&sent);
    }
    context.out.line(sentence(&args.name, &sent))
}

pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a property reads KEY=VALUE".into()),
    }
}

/// The request: text as text, anything else as octets.
fn document(body: &[u8], properties: &[(String, String)], content_type: Option<&str>) -> Value {
    let mut document = Map::new();
    match std::str::from_utf8(body) {
        Ok(text) => document.insert("bodyText".into(), text.into()),
        Err(_) => document.insert("bodyHex".into(), hex(body).into()),
    };
    document.insert("properties".into(), properties.iter().map(|(k, v)| (k.clone(), json!(v))).collect());
    let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok();
    let system = match content_type {
        Some(given) if is_json => json!({"contentType": given, "contentEncoding": "utf-8"}),
        Some(given) => json!({"contentType": given}),
        None if is_json => json!({"contentType": "application/json", "contentEncoding": "utf-8"}),
        None => json!({}),
    };
    document.insert("systemProperties".into(), system);
    document.into()
}

fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}

fn sentence(name: &str, sent: &SendView) -> String {
    let waits = match sent.receiver {
        Status::Running | Status::Unhealthy => String::new(),
        other => format!("; {name} is {}, so the message waits", other.as_str()),
    };
    format!("sent to {name}/{}{waits}", sent.input)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_marked_as_json_and_octets_travel_as_hex() {
        let text = document(br#"{"a": 1}"#, &[("k".into(), "v".into())], None);
        assert_eq!(
            text,
            json!({
                "bodyText": "{\"a\": 1}", "properties": {"k": "v"},
                "systemProperties": {"contentType": "application/json", "contentEncoding": "utf-8"}
            })
        );
        let octets = document(&[0xff, 0x00], &[], Some("image/jpeg"));
        assert_eq!(octets["bodyHex"], "ff00");
        assert_eq!(octets["systemProperties"], json!({"contentType": "image/jpeg"}));
        assert_eq!(document(b"hello", &[], None)["systemProperties"], json!({}));
    }

    #[test]
    fn message_for_a_stopped_module_is_said_to_wait() {
        let sent = |receiver| SendView { to: "/devices/D/modules/f".into(), input: "in".into(), receiver };
        assert_eq!(sentence("f", &sent(Status::Running)), "sent to f/in");
        assert_eq!(sentence("f", &sent(Status::Stopped)), "sent to f/in; f is stopped, so the message waits");
    }

    #[test]
    fn properties_are_pairs() {
        assert_eq!(pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(pair("a").is_err());
        assert!(pair("=b").is_err());
    }
}
