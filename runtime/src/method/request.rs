//! A call, its answer, and what both may be.

use std::time::Duration;

use serde::de::IgnoredAny;

use super::calls::Reply;
use super::error::CallError;

/// Longest name of a method. Source: IoT Hub.
pub const MAX_NAME_CHARS: usize = 100;
/// Largest payload of a call and of its answer. Source: IoT Hub.
pub const MAX_PAYLOAD_BYTES: usize = 128 * 1024;
/// Shortest time that a module may give; what comes from outside has limits of its own.
pub const MIN_TIMEOUT: Duration = Duration::from_millis(1);
/// Longest that an answer is waited for; a longer time means this.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// A call that is about to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Who calls: an identity, or the name of a person or of an access policy. Stamped by the runtime.
    pub caller: String,
    /// Identity that is called, as it was given.
    pub target: String,
    /// Method.
    pub name: String,
    /// JSON, or empty.
    pub payload: String,
    /// Time for which the caller waits.
    pub timeout: Duration,
}

impl Call {
    /// All that is wrong with the call in itself; empty where it can begin.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = name_problem(&self.name).into_iter().collect::<Vec<_>>();
        problems.extend(size_problem(self.payload.len()));
        if problems.is_empty()
            && !self.payload.is_empty()
            && let Err(error) = serde_json::from_str::<IgnoredAny>(&self.payload)
        {
            problems.push(format!("payload: not JSON: {error}"));
        }
        if self.timeout < MIN_TIMEOUT {
            problems.push(format!("timeout: less than {} ms", MIN_TIMEOUT.as_millis()));
        }
        problems
    }

    /// What the caller hears of them.
    pub(super) fn refused(&self) -> Option<CallError> {
        let problems = self.problems();
        let is_too_large = self.payload.len() > MAX_PAYLOAD_BYTES && problems.len() == 1;
        match problems.is_empty() {
            true => None,
            false if is_too_large => Some(CallError::TooLarge(problems.join("; "))),
            false => Some(CallError::Invalid(problems.join("; "))),
        }
    }
}

/// Why a text is no name of a method.
pub fn name_problem(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("methodName: is empty".to_owned());
    }
    if let Some(bad) = name.chars().find(|c| c.is_control()) {
        return Some(format!("methodName: holds the control character {bad:?}"));
    }
    let chars = name.chars().count();
    (chars > MAX_NAME_CHARS).then(|| format!("methodName: {chars} characters, {MAX_NAME_CHARS} at most"))
}

/// Why a payload of so many bytes cannot be sent.
pub fn size_problem(bytes: usize) -> Option<String> {
    (bytes > MAX_PAYLOAD_BYTES).then(|| format!("payload: {bytes} bytes, {MAX_PAYLOAD_BYTES} at most"))
}

/// A call on its way to whoever answers it.
pub struct MethodRequest {
    /// Method.
    pub name: String,
    /// JSON, or empty.
    pub payload: String,
    /// See [`Call::caller`].
    pub caller: String,
    /// Time for which the caller waits.
    pub timeout: Duration,
    /// Takes the answer.
    pub reply: Reply,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodAnswer {
    /// 200 to 299 for success; passed on as it is.
    pub status: i32,
    /// JSON, or empty.
    pub payload: String,
}

impl MethodAnswer {
    /// The answer, if it is one.
    pub(super) fn checked(self) -> Result<MethodAnswer, CallError> {
        if self.payload.len() > MAX_PAYLOAD_BYTES {
            let bytes = self.payload.len();
            return Err(CallError::BadAnswer(format!(
                "its answer has {bytes} bytes or more, {MAX_PAYLOAD_BYTES} at most"
            )));
        }
        if !self.payload.is_empty()
            && let Err(error) = serde_json::from_str::<IgnoredAny>(&self.payload)
        {
            return Err(CallError::BadAnswer(format!("its answer is not JSON: {error}")));
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, payload: &str, timeout_ms: u64) -> Call {
        Call {
            caller: "ada".to_owned(),
            target: "/devices/d/modules/m".to_owned(),
            name: name.to_owned(),
            payload: payload.to_owned(),
            timeout: Duration::from_millis(timeout_ms),
        }
    }

    #[test]
    fn limits_hold_exactly() {
        let largest = format!("\"{}\"", "x".repeat(MAX_PAYLOAD_BYTES - 2));
        let hundred = "ü".repeat(MAX_NAME_CHARS);
        for good in [call("m", "", 1), call(&hundred, "null", 1), call("m", &largest, 1), call("a b/c", "\"\"", 5000)] {
            assert_eq!(good.problems(), [""; 0], "{}", good.name);
        }
        for (bad, said) in [
            (call("", "", 1), "methodName: is empty"),
            (call(&(hundred + "x"), "", 1), "methodName: 101 characters, 100 at most"),
            (call("a\nb", "", 1), "methodName: holds the control character '\\n'"),
            (
                call("m", &largest.replace("\"\"", "").replacen('x', "xx", 1), 1),
                "payload: 131073 bytes, 131072 at most",
            ),
            (call("m", "{", 1), "payload: not JSON: EOF while parsing an object at line 1 column 1"),
            (call("m", "", 0), "timeout: less than 1 ms"),
        ] {
            assert_eq!(bad.problems(), [said]);
        }
    }

    #[test]
    fn all_problems_of_a_call_are_told_at_once() {
        let bad = call("", &"x".repeat(MAX_PAYLOAD_BYTES + 1), 0);
        assert_eq!(bad.problems().len(), 3);
        assert!(matches!(bad.refused(), Some(CallError::Invalid(text)) if text.matches(';').count() == 2));
        let large = call("m", &"1".repeat(MAX_PAYLOAD_BYTES + 1), 1);
        assert!(matches!(large.refused(), Some(CallError::TooLarge(_))));
    }

    #[test]
    fn answers_are_json_or_nothing_and_any_status_will_do() {
        let answer = |status, payload: &str| MethodAnswer { status, payload: payload.to_owned() }.checked();
        for (status, payload) in [(200, ""), (i32::MIN, "null"), (i32::MAX, "[1]"), (0, "\"\""), (-1, " {} ")] {
            assert_eq!(answer(status, payload), Ok(MethodAnswer { status, payload: payload.to_owned() }));
        }
        for payload in ["{", "nothing", "1 2", "\u{fffd}"] {
            assert!(matches!(answer(200, payload), Err(CallError::BadAnswer(text)) if text.contains("not JSON")));
        }
        let long = "1".repeat(MAX_PAYLOAD_BYTES + 1);
        assert!(matches!(answer(200, &long), Err(CallError::BadAnswer(text)) if text.contains("131073 bytes")));
    }
}
