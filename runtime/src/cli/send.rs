//! `dinrail send NAME INPUT BODY`: one message, or many from files, again and again, at a rate.

mod rate;

use std::collections::BTreeMap;
use std::fmt::Write;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde_json::{Map, Value, json};

use self::rate::Rate;
use super::out::printable;
use super::progress::Progress;
use super::{Context, Failure, json_input};
use crate::admin::client::{Client, ClientError, path};
use crate::clock;
use crate::message::{self, GIVEN_SYSTEM_PROPERTIES, Message, SystemProperties};
use crate::view::{SendRefusal, SendSummary, SendView, Status};

/// Different reasons that are told apart in a summary.
const MAX_REASONS: usize = 10;

#[derive(Debug, Args)]
#[command(after_help = "\
A body that is JSON is marked as such (contentType application/json, contentEncoding utf-8), so that routes can look into it. \
With several messages, those that are refused are counted with their reasons, and the exit code is 1.

Examples:
  dinrail send filter readings '{\"value\": 81.5}'
  dinrail send filter readings @reading.json -p level=high -p line=3
  dinrail send filter readings @day.jsonl --lines --rate 100/s
  dinrail send filter readings @a.json @b.json --count 50
  cat picture.jpg | dinrail send viewer pictures - --content-type image/jpeg")]
pub struct SendArgs {
    /// Name of the module
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    name: String,
    /// Its input
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    input: String,
    /// The body: text, @FILE, or - for standard input
    #[arg(allow_hyphen_values = true)]
    body: String,
    /// Further bodies, each a message of its own
    #[arg(value_name = "BODY")]
    more: Vec<String>,
    /// Property of the message; may be repeated
    #[arg(short, long = "property", value_name = "KEY=VALUE", value_parser = pair)]
    properties: Vec<(String, String)>,
    /// Content type of the body [default: application/json for JSON]
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Content encoding of the body [default: utf-8 for JSON]
    #[arg(long, value_name = "ENCODING")]
    content_encoding: Option<String>,
    /// Id of the message; of several, -1, -2 and so on is put behind it
    #[arg(long, value_name = "ID")]
    message_id: Option<String>,
    /// Id of what the message belongs to
    #[arg(long, value_name = "ID")]
    correlation_id: Option<String>,
    /// System property by its name: messageId, correlationId, contentType or contentEncoding; may be repeated
    #[arg(long = "system", value_name = "KEY=VALUE", value_parser = pair)]
    system: Vec<(String, String)>,
    /// Each line of a body is a message; empty ones are left out
    #[arg(long)]
    lines: bool,
    /// Send all of it so often
    #[arg(long, value_name = "N", default_value_t = 1, hide_default_value = true, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// At most so many messages in a time, such as 100/s, 30/m or 4/h
    #[arg(long, value_name = "RATE", value_parser = Rate::parse)]
    rate: Option<Rate>,
}

pub(super) fn run(args: SendArgs, context: &mut Context) -> Result<(), Failure> {
    let args = with_system(args)?;
    let twice = |(at, (key, _)): (usize, &(String, String))| {
        args.properties[..at].iter().any(|(other, _)| other.eq_ignore_ascii_case(key)).then(|| key.clone())
    };
    if let Some(key) = args.properties.iter().enumerate().find_map(twice) {
        return Err(
            Failure::usage(format!("the property {key} is given twice")).hint("names differ by more than their case")
        );
    }
    let bodies = bodies(&args)?;
    let total = args.count * bodies.len() as u64;
    send_all(&args, &bodies, total, context)
}

/// Puts what `--system` gives where the options of the same meaning put it.
fn with_system(mut args: SendArgs) -> Result<SendArgs, Failure> {
    let given = std::mem::take(&mut args.system);
    if let Some((name, _)) = given.iter().find(|(name, _)| message::is_stamped(name)) {
        return Err(Failure::usage(format!("{name} is stamped by the runtime, and cannot be given"))
            .hint("leave it out; a property of your own is given by -p KEY=VALUE"));
    }
    if let Some((message, hint)) = message::not_carried(given.iter().map(|(name, _)| name.as_str())) {
        return Err(Failure::usage(message).hint(hint));
    }
    for (name, value) in given {
        let place = match name.as_str() {
            "messageId" => &mut args.message_id,
            "correlationId" => &mut args.correlation_id,
            "contentType" => &mut args.content_type,
            _ => &mut args.content_encoding,
        };
        if place.replace(value).is_some() {
            return Err(Failure::usage(format!("{name} is given twice")).hint("it has an option of its own as well"));
        }
    }
    Ok(args)
}

/// A body and where it came from.
struct Body {
    from: String,
    octets: Vec<u8>,
}

/// All bodies, in order. One that is too large with its properties is refused before anything is sent.
fn bodies(args: &SendArgs) -> Result<Vec<Body>, Failure> {
    let given: Vec<&String> = std::iter::once(&args.body).chain(&args.more).collect();
    if given.iter().filter(|body| *body == &"-").count() > 1 {
        return Err(Failure::usage("standard input can be one of the bodies, not several"));
    }
    let mut bodies = Vec::new();
    for argument in given {
        let octets = json_input::read_body(argument)?;
        let name = argument.strip_prefix('@').unwrap_or(if argument == "-" { "standard input" } else { "the body" });
        if !args.lines {
            bodies.push(Body { from: name.to_owned(), octets });
            continue;
        }
        let lines = octets.split(|octet| *octet == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let whole = lines.enumerate().filter(|(_, line)| !line.is_empty());
        bodies.extend(whole.map(|(at, line)| Body { from: format!("{name}, line {}", at + 1), octets: line.to_vec() }));
    }
    let too_large: Vec<String> = bodies
        .iter()
        .filter_map(|body| {
            let properties = properties(&body.octets, args, None).encode_meta();
            let why = message::too_large(body.octets.len(), properties.len())?;
            Some(format!("{}: {why}", body.from))
        })
        .collect();
    // As a request it would be larger still, and be refused as one.
    match &too_large[..] {
        [] if bodies.is_empty() => Err(Failure::usage("there is no message: every line is empty")),
        [] => Ok(bodies),
        [one] if bodies.len() == 1 => Err(Failure::new(one.clone()).hint(message::TOO_LARGE_HINT)),
        [one] => Err(Failure::new(format!("{one}; nothing was sent")).hint(message::TOO_LARGE_HINT)),
        several => Err(Failure::new(format!("{} messages are too large; nothing was sent", several.len()))
            .details(several.iter().take(MAX_REASONS).cloned().collect())
            .hint(message::TOO_LARGE_HINT)),
    }
}

fn send_all(args: &SendArgs, bodies: &[Body], total: u64, context: &mut Context) -> Result<(), Failure> {
    let client = context.client()?;
    let mut summary = SendSummary { input: args.input.clone(), ..SendSummary::default() };
    let mut reasons: BTreeMap<String, SendRefusal> = BTreeMap::new();
    let mut progress = Progress::start();
    let begun = clock::now();
    let mut end = None;
    for (at, body) in (0..args.count).flat_map(|_| bodies).enumerate() {
        if let Some(rate) = args.rate {
            std::thread::sleep(rate.due(begun, at as u64).saturating_duration_since(clock::now()));
        }
        match send_one(&client, args, body, (total > 1).then_some(at + 1)) {
            Ok(SendView { to, receiver, .. }) => {
                summary.sent += 1;
                (summary.to, summary.receiver) = (Some(to), Some(receiver));
            }
            Err(ClientError::Refused { status, error }) => {
                summary.refused += 1;
                let is_new = reasons.len() < MAX_REASONS;
                if let Some(known) = reasons.get_mut(&error.message) {
                    known.count += 1;
                } else if is_new {
                    let refusal = SendRefusal { message: error.message.clone(), count: 1, first: body.from.clone() };
                    reasons.insert(error.message.clone(), refusal);
                }
                // No other message would fare better.
                if total == 1 || [401, 403, 404].contains(&status) {
                    end = Some(ClientError::Refused { status, error });
                    break;
                }
            }
            Err(error) => {
                end = Some(error);
                break;
            }
        }
        progress.say(&format!("{} of {total} sent to {}/{}", summary.sent, args.name, args.input));
    }
    drop(progress);
    summary.reasons = reasons.into_values().collect();
    tell(args, &summary, total, end, context)
}

fn tell(
    args: &SendArgs,
    summary: &SendSummary,
    total: u64,
    end: Option<ClientError>,
    context: &mut Context,
) -> Result<(), Failure> {
    let out = &mut context.out;
    match (out.is_json(), total, summary.receiver) {
        (true, ..) => out.document(summary)?,
        (false, 1, Some(receiver)) => return out.line(sentence(&args.name, &args.input, receiver)),
        (false, 1, None) => {}
        (false, ..) => {
            out.line(format!("sent {} of {total} messages to {}/{}", summary.sent, args.name, args.input))?;
        }
    }
    let reasons = summary
        .reasons
        .iter()
        .map(|refusal| printable(&format!("{} × {} (the first: {})", refusal.count, refusal.message, refusal.first)));
    match end {
        Some(error) if total == 1 => Err(Failure::from(error)),
        Some(error) => {
            let left = total - summary.sent - summary.refused;
            Err(Failure::from(error)
                .detail(format!("{} messages were sent before, {left} were not tried", summary.sent)))
        }
        None if summary.refused > 0 => {
            let failure = Failure::new(format!("{} of {total} messages were refused", summary.refused));
            Err(failure.details(reasons.collect()).hint(format!("dinrail show {} says how it is", args.name)))
        }
        None => Ok(()),
    }
}

fn send_one(client: &Client, args: &SendArgs, body: &Body, number: Option<usize>) -> Result<SendView, ClientError> {
    client.post(&place(args), Some(&document(&body.octets, args, number)))
}

fn place(args: &SendArgs) -> String {
    path(&["modules", &args.name, "inputs", &args.input])
}

pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a property reads KEY=VALUE".into()),
    }
}

/// What goes with a body: a message without it. `number`: which of several it is.
fn properties(body: &[u8], args: &SendArgs, number: Option<usize>) -> Message {
    let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok();
    let or_json = |given: &Option<String>, json: &str| given.clone().or_else(|| is_json.then(|| json.to_owned()));
    let message_id = args.message_id.as_ref().map(|id| match number {
        Some(number) => format!("{id}-{number}"),
        None => id.clone(),
    });
    let system = SystemProperties {
        message_id,
        correlation_id: args.correlation_id.clone(),
        content_type: or_json(&args.content_type, "application/json"),
        content_encoding: or_json(&args.content_encoding, "utf-8"),
        other: Vec::new(),
    };
    Message { properties: args.properties.clone(), system, ..Message::new([]) }
}

/// The request: text as text, anything else as octets. `number`: which of several it is.
fn document(body: &[u8], args: &SendArgs, number: Option<usize>) -> Value {
    let Message { properties, system, .. } = properties(body, args, number);
    let mut document = Map::new();
    match std::str::from_utf8(body) {
        Ok(text) => document.insert("bodyText".into(), text.into()),
        Err(_) => document.insert("bodyHex".into(), hex(body).into()),
    };
    document.insert("properties".into(), properties.into_iter().map(|(key, value)| (key, json!(value))).collect());
    let given = GIVEN_SYSTEM_PROPERTIES.into_iter().zip([
        system.message_id,
        system.correlation_id,
        system.content_type,
        system.content_encoding,
    ]);
    let given = given.filter_map(|(name, value)| Some((name.to_owned(), json!(value?))));
    document.insert("systemProperties".into(), Value::Object(given.collect()));
    document.into()
}

fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}

fn sentence(name: &str, input: &str, receiver: Status) -> String {
    let waits = match receiver {
        Status::Running | Status::Unhealthy => String::new(),
        other => format!("; {name} is {}, so the message waits", other.as_str()),
    };
    format!("sent to {name}/{input}{waits}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(body: &str) -> SendArgs {
        SendArgs {
            name: "f".into(),
            input: "in".into(),
            body: body.into(),
            more: Vec::new(),
            properties: Vec::new(),
            content_type: None,
            content_encoding: None,
            message_id: None,
            correlation_id: None,
            system: Vec::new(),
            lines: false,
            count: 1,
            rate: None,
        }
    }

    #[test]
    fn json_is_marked_as_json_and_octets_travel_as_hex() {
        let with_property = SendArgs { properties: vec![("k".into(), "v".into())], ..args("") };
        assert_eq!(
            document(br#"{"a": 1}"#, &with_property, None),
            json!({
                "bodyText": "{\"a\": 1}", "properties": {"k": "v"},
                "systemProperties": {"contentType": "application/json", "contentEncoding": "utf-8"}
            })
        );
        let octets = document(&[0xff, 0x00], &SendArgs { content_type: Some("image/jpeg".into()), ..args("") }, None);
        assert_eq!(octets["bodyHex"], "ff00");
        assert_eq!(octets["systemProperties"], json!({"contentType": "image/jpeg"}));
        assert_eq!(document(b"hello", &args(""), None)["systemProperties"], json!({}));
    }

    #[test]
    fn system_properties_go_with_the_message_and_ids_of_several_differ() {
        let given = SendArgs {
            message_id: Some("m".into()),
            correlation_id: Some("c".into()),
            system: vec![("contentEncoding".into(), "gzip".into())],
            ..args("")
        };
        let given = with_system(given).unwrap();
        assert_eq!(
            document(b"x", &given, Some(7))["systemProperties"],
            json!({"messageId": "m-7", "correlationId": "c", "contentEncoding": "gzip"})
        );
        assert_eq!(document(b"x", &given, None)["systemProperties"]["messageId"], "m");
    }

    #[test]
    fn each_line_that_is_not_empty_is_a_message() {
        let read = |body: &str| {
            let bodies = bodies(&SendArgs { lines: true, ..args(body) }).unwrap();
            bodies.into_iter().map(|body| (body.from, String::from_utf8(body.octets).unwrap())).collect::<Vec<_>>()
        };
        let of = |line: usize, text: &str| (format!("the body, line {line}"), text.to_owned());
        assert_eq!(read("a\r\n\n{\"b\": 1}\n"), [of(1, "a"), of(3, "{\"b\": 1}")]);
        assert!(bodies(&SendArgs { lines: true, ..args("\n\n") }).is_err());
    }

    #[test]
    fn message_for_a_stopped_module_is_said_to_wait() {
        assert_eq!(sentence("f", "in", Status::Running), "sent to f/in");
        assert_eq!(sentence("f", "in", Status::Stopped), "sent to f/in; f is stopped, so the message waits");
    }

    #[test]
    fn system_properties_that_no_message_carries_or_that_are_given_twice_are_refused() {
        let with = |name: &str| {
            let system = vec![(name.into(), "x".into())];
            with_system(SendArgs { system, correlation_id: Some("c".into()), ..args("") })
        };
        assert_eq!(with("messageId").unwrap().message_id.as_deref(), Some("x"));
        for (name, told) in [
            ("connectionDeviceId", "stamped by the runtime"),
            ("MessageID", "did you mean messageId?"),
            ("dt-subject", "known here: messageId, correlationId, contentType, contentEncoding"),
            ("correlationId", "given twice"),
        ] {
            let refused = format!("{:?}", with(name).unwrap_err());
            assert!(refused.contains(told), "{refused}");
        }
    }

    #[test]
    fn properties_are_pairs() {
        assert_eq!(pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(pair("a").is_err());
        assert!(pair("=b").is_err());
    }
}
