//! What `$edgeAgent` answers itself: `ping`, `RestartModule`, `GetModuleLogs`, `GetTaskStatus`, as IoT Edge's agent does.
//!
//! Here calls are only read, and answers written; who does them is the control loop's. Names are taken in any case. What is wrong
//! with a call is answered with status 400, what fails with 500, both with `{"message": …}`. Source: IoT Edge, "Communicate with
//! edgeAgent using built-in direct methods".

mod logs;
mod reader;

use serde_json::{Value, json};

pub use self::logs::{LogsRequest, MAX_LOGS_BYTES};
use self::reader::Reader;
use super::request::MethodAnswer;

/// The methods that there are.
const SUPPORTED: [&str; 4] = ["ping", "RestartModule", "GetModuleLogs", "GetTaskStatus"];
/// Methods of IoT Edge's agent that there are not, and what to do instead.
const UNSUPPORTED: [(&str, &str); 3] = [
    ("UploadModuleLogs", "GetModuleLogs answers with the lines themselves, or: dinrail logs NAME"),
    ("UploadLogs", "GetModuleLogs answers with the lines themselves, or: dinrail logs NAME"),
    ("UploadSupportBundle", "dinrail support-bundle writes one, or: GET /support-bundle"),
];

/// A call that can be done.
#[derive(Debug)]
pub enum Builtin {
    /// Says that it is there.
    Ping,
    /// Stops a module and starts it again.
    RestartModule {
        /// The module.
        id: String,
    },
    /// Lines of logs.
    GetModuleLogs(Box<LogsRequest>),
    /// How far a task is.
    GetTaskStatus {
        /// Which.
        correlation_id: String,
    },
}

/// Reads a call.
///
/// # Errors
/// The answer that refuses it.
pub fn read(name: &str, payload: &str, now_us: i64) -> Result<Builtin, MethodAnswer> {
    let is = |known: &str| known.eq_ignore_ascii_case(name);
    let Some(method) = SUPPORTED.into_iter().find(|known| is(known)) else {
        let instead = UNSUPPORTED.into_iter().find(|(known, _)| is(known));
        return Err(refuse(
            400,
            match instead {
                Some((known, instead)) => format!(
                    "{known} is not supported here: nothing is uploaded from this device. {instead}. Supported: {}",
                    SUPPORTED.join(", ")
                ),
                None => format!("there is no method '{name}'; supported: {}", SUPPORTED.join(", ")),
            },
        ));
    };
    if method == "ping" {
        return Ok(Builtin::Ping);
    }
    let document = match payload {
        // What the service SDKs send for nothing.
        "" | "\"\"" => Value::Null,
        text => serde_json::from_str(text).map_err(|error| refuse(400, format!("the payload is not JSON: {error}")))?,
    };
    let mut reader = Reader::new(&document);
    reader.schema_version();
    let builtin = match method {
        "RestartModule" => {
            reader.known(&["schemaVersion", "id"]);
            Builtin::RestartModule { id: reader.text("id") }
        }
        "GetTaskStatus" => {
            reader.known(&["schemaVersion", "correlationId"]);
            Builtin::GetTaskStatus { correlation_id: reader.text("correlationId") }
        }
        _ => Builtin::GetModuleLogs(Box::new(logs::read(&mut reader, now_us))),
    };
    match reader.problems.is_empty() {
        true => Ok(builtin),
        false => Err(refuse(400, format!("{method}: {}", reader.problems.join("; ")))),
    }
}

/// Status 200 with nothing to say.
pub fn done() -> MethodAnswer {
    MethodAnswer { status: 200, payload: "null".to_owned() }
}

/// An answer that says why not: 400 where the caller can do it better, else 500.
pub fn refuse(status: i32, message: impl Into<String>) -> MethodAnswer {
    MethodAnswer { status, payload: json!({"message": message.into()}).to_string() }
}

/// How far a task is: nothing here outlives its call, so that there is none to be known.
pub fn task_status(correlation_id: &str) -> MethodAnswer {
    let message = "no task of this id: what is asked of this device is done when it is answered";
    let status = json!({"status": "Unknown", "message": message, "correlationId": correlation_id});
    MethodAnswer { status: 200, payload: status.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(name: &str, payload: &str) -> String {
        let answer = read(name, payload, 0).unwrap_err();
        assert_eq!(answer.status, 400, "{}", answer.payload);
        let payload: Value = serde_json::from_str(&answer.payload).unwrap();
        payload["message"].as_str().unwrap().to_owned()
    }

    #[test]
    fn names_are_taken_in_any_case() {
        for name in ["ping", "Ping", "PING"] {
            assert!(matches!(read(name, "[1, {}]", 0), Ok(Builtin::Ping)));
        }
        let restart = read("restartmodule", r#"{"schemaVersion": "1.0", "id": "filter"}"#, 0);
        assert!(matches!(restart, Ok(Builtin::RestartModule { id }) if id == "filter"));
        let status = read("GETTASKSTATUS", r#"{"correlationId": "7"}"#, 0);
        assert!(matches!(status, Ok(Builtin::GetTaskStatus { correlation_id }) if correlation_id == "7"));
    }

    #[test]
    fn unknown_methods_are_refused_with_those_that_there_are() {
        let said = refused("Reboot", "");
        assert_eq!(said, "there is no method 'Reboot'; supported: ping, RestartModule, GetModuleLogs, GetTaskStatus");
        for name in ["UploadModuleLogs", "uploadlogs", "UploadSupportBundle"] {
            let said = refused(name, "{}");
            assert!(said.contains("is not supported here") && said.contains("dinrail "), "{said}");
            assert!(said.ends_with("Supported: ping, RestartModule, GetModuleLogs, GetTaskStatus"), "{said}");
        }
    }

    #[test]
    fn all_that_is_wrong_with_a_call_is_told_at_once() {
        for (payload, said) in [
            ("", "RestartModule: id: is missing"),
            ("\"\"", "RestartModule: id: is missing"),
            ("null", "RestartModule: id: is missing"),
            ("[]", "RestartModule: the payload is not an object"),
            ("{\"id\": 7}", "RestartModule: id: 7 is not a text"),
            ("{\"id\": \"\"}", "RestartModule: id: is empty"),
            ("{\"id\": \"m\", \"schemaVersion\": \"2.0\"}", "RestartModule: schemaVersion: \"2.0\" is not 1.0"),
            (
                "{\"ID\": \"m\", \"schemaVersion\": 1}",
                "RestartModule: schemaVersion: 1 is not 1.0; ID: is not known, there are schemaVersion, id; id: is missing",
            ),
        ] {
            assert_eq!(refused("RestartModule", payload), said, "{payload}");
        }
        assert!(refused("RestartModule", "{").contains("not JSON"));
    }

    #[test]
    fn no_task_is_known() {
        let answer = task_status("7");
        let payload: Value = serde_json::from_str(&answer.payload).unwrap();
        assert_eq!(
            (answer.status, &payload["status"], &payload["correlationId"]),
            (200, &json!("Unknown"), &json!("7"))
        );
    }
}
