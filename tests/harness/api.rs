//! The management API without the command line: for what has to be fast, or has to begin at a known moment.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;

use super::SOON;

/// A connection to a runtime.
pub struct Api {
    stream: BufReader<UnixStream>,
}

/// An answer with all its parts.
#[derive(Debug)]
pub struct Exchange {
    pub status: u16,
    pub phrase: String,
    headers: Vec<String>,
    /// JSON; null where there is none.
    pub body: Value,
}

impl Exchange {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let value = |line: &'_ String| -> Option<usize> {
            let (found, _) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(found.len() + 1)
        };
        self.headers.iter().find_map(|line| value(line).map(|at| line[at..].trim()))
    }

    /// IoT Hub's error: `(errorCode, iothub-errorcode)`. Asserts that all three forms of it are there and agree.
    #[track_caller]
    pub fn hub_error(&self) -> (u64, &str) {
        let message: Value =
            serde_json::from_str(self.body["Message"].as_str().expect("Message")).expect("JSON within");
        assert_eq!(message["message"], self.body["error"]["message"], "{}", self.body);
        assert!(message["trackingId"].is_string() && message["timestampUtc"].is_string(), "{message}");
        assert_eq!(self.body["ExceptionMessage"], "", "{}", self.body);
        assert!(self.body["error"]["hint"].is_string(), "{}", self.body);
        let name = self.header("iothub-errorcode").expect("iothub-errorcode");
        assert!(self.phrase.starts_with(name), "{}", self.phrase);
        (message["errorCode"].as_u64().unwrap(), name)
    }
}

/// An answer: status and JSON body.
pub type Answer = (u16, Value);

impl Api {
    /// To the runtime of a state directory.
    pub fn connect(state: &Path) -> std::io::Result<Api> {
        let stream = UnixStream::connect(state.join("dinrail.sock"))?;
        stream.set_read_timeout(Some(SOON))?;
        Ok(Api { stream: BufReader::new(stream) })
    }

    /// Asks; an error means that the runtime has gone before it answered.
    pub fn ask(&mut self, method: &str, path: &str, body: Option<&Value>) -> std::io::Result<Answer> {
        self.send(method, path, body)?;
        let (status, length) = self.head()?;
        let mut body = vec![0; length.unwrap_or(0)];
        self.stream.read_exact(&mut body)?;
        Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
    }

    /// Asks with headers, and gives all that was answered.
    #[track_caller]
    pub fn exchange(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Exchange {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = body.len();
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: dinrail\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
        self.stream.get_mut().write_all(request.as_bytes()).unwrap();
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            assert!(self.stream.read_line(&mut line).unwrap() > 0, "the connection ended within the head: {lines:?}");
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let (status, phrase) = lines[0]["HTTP/1.1 ".len()..].split_once(' ').expect("a status line");
        let mut exchange = Exchange {
            status: status.parse().unwrap(),
            phrase: phrase.to_owned(),
            headers: lines[1..].to_vec(),
            body: Value::Null,
        };
        let length = exchange.header("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        if !body.is_empty() {
            exchange.body = serde_json::from_slice(&body).unwrap();
        }
        exchange
    }

    /// Asks for something that is no JSON: status, headers in lower case, and text.
    pub fn text(&mut self, path: &str) -> std::io::Result<(u16, String, String)> {
        self.send("GET", path, None)?;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.stream.read_line(&mut head)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        let head = head.to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        self.stream.read_exact(&mut body)?;
        let status = head.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
        Ok((status, head, String::from_utf8(body).expect("UTF-8")))
    }

    /// Follows the messages that pass `route`; what passes after this returned is seen.
    #[track_caller]
    pub fn listen(self, route: &str) -> Listener {
        self.listen_for(route, "")
    }

    /// [`Api::listen`] with further parameters, such as `&sample=2`.
    #[track_caller]
    pub fn listen_for(mut self, route: &str, more: &str) -> Listener {
        let route: String = route.bytes().map(|byte| format!("%{byte:02X}")).collect();
        self.send("GET", &format!("/messages?route={route}{more}"), None).unwrap();
        assert_eq!(self.head().unwrap(), (200, None));
        Listener { stream: self.stream, lines: Vec::new() }
    }

    fn send(&mut self, method: &str, path: &str, body: Option<&Value>) -> std::io::Result<()> {
        let body = body.map(ToString::to_string).unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: dinrail\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes())
    }

    /// Status, and length of the body where it is known.
    fn head(&mut self) -> std::io::Result<(u16, Option<usize>)> {
        let (mut status, mut length) = (None, None);
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            match line.trim_end().split_once([' ', ':']) {
                Some(("HTTP/1.1", rest)) => status = rest[..3].parse().ok(),
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse().ok()
                }
                Some(_) => {}
                None => return Ok((status.expect("a status"), length)),
            }
        }
    }
}

/// Messages as they pass. Chunks of the answer hold whole lines.
pub struct Listener {
    stream: BufReader<UnixStream>,
    lines: Vec<Value>,
}

impl Listener {
    /// The next message.
    #[track_caller]
    pub fn next(&mut self) -> Value {
        while self.lines.is_empty() {
            let mut size = String::new();
            self.stream.read_line(&mut size).expect("another message");
            let size = usize::from_str_radix(size.trim(), 16).expect("the runtime goes on");
            let mut chunk = vec![0; size + 2];
            self.stream.read_exact(&mut chunk).unwrap();
            let text = String::from_utf8(chunk).unwrap();
            self.lines =
                text.lines().rev().filter(|line| !line.is_empty()).map(|l| serde_json::from_str(l).unwrap()).collect();
        }
        self.lines.pop().unwrap()
    }
}
