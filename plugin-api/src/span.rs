//! A length of time as people write it into a twin: `"10s"`, `"1m30s"`, `"500ms"`, or a number of seconds.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::Error;

/// A length of time for desired properties and payloads: in JSON text such as `"10s"` or `"1h30m"` (units `ms`, `s`, `m`, `h`,
/// `d`, whole numbers, the larger first), or a number of seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(pub Duration);

/// Units and their milliseconds, the longer name of those that begin alike first.
const UNITS: [(&str, u64); 5] = [("ms", 1), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];

impl Span {
    /// So many seconds.
    pub const fn from_secs(secs: u64) -> Span {
        Span(Duration::from_secs(secs))
    }

    /// Microseconds, as source times have them.
    pub fn as_us(self) -> i64 {
        i64::try_from(self.0.as_micros()).unwrap_or(i64::MAX)
    }
}

impl FromStr for Span {
    type Err = Error;

    fn from_str(text: &str) -> Result<Span, Error> {
        let none = || Error::new(format!("'{text}' is not a length of time; write it like 10s, 1m30s or 500ms"));
        let (mut rest, mut total, mut last) = (text.trim(), 0_u64, u64::MAX);
        if rest.is_empty() {
            return Err(none());
        }
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let number: u64 = rest[..digits].parse().map_err(|_| none())?;
            rest = &rest[digits..];
            let (unit, ms) = UNITS.into_iter().find(|(unit, _)| rest.starts_with(unit)).ok_or_else(none)?;
            rest = &rest[unit.len()..];
            if ms >= last {
                return Err(none());
            }
            last = ms;
            total = number.checked_mul(ms).and_then(|ms| total.checked_add(ms)).ok_or_else(none)?;
        }
        Ok(Span(Duration::from_millis(total)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if left == 0 {
            return f.write_str("0s");
        }
        for (unit, ms) in [UNITS[1], UNITS[2], UNITS[3], UNITS[4], UNITS[0]] {
            if left >= ms {
                write!(f, "{}{unit}", left / ms)?;
                left %= ms;
            }
        }
        Ok(())
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        struct Written;
        impl Visitor<'_> for Written {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a length of time such as \"10s\", or a number of seconds")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Span, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_u64<E: serde::de::Error>(self, secs: u64) -> Result<Span, E> {
                Ok(Span::from_secs(secs))
            }
            fn visit_i64<E: serde::de::Error>(self, secs: i64) -> Result<Span, E> {
                u64::try_from(secs).map(Span::from_secs).map_err(|_| E::custom(format!("{secs} s is negative")))
            }
            fn visit_f64<E: serde::de::Error>(self, secs: f64) -> Result<Span, E> {
                Duration::try_from_secs_f64(secs).map(Span).map_err(|e| E::custom(format!("{secs} s: {e}")))
            }
        }
        deserializer.deserialize_any(Written).map_err(D::Error::custom)
    }
}

impl JsonSchema for Span {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A length of time such as \"10s\", \"1m30s\" or \"500ms\", or a number of seconds.",
            "type": ["string", "number"],
            "pattern": "^([0-9]+(ms|d|h|m|s))+$",
            "minimum": 0
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_length_of_time_is_read_and_written_as_people_do() {
        for (written, ms, back) in [
            (json!("10s"), 10_000, "10s"),
            (json!("90s"), 90_000, "1m30s"),
            (json!("1h30m"), 5_400_000, "1h30m"),
            (json!(" 500ms "), 500, "500ms"),
            (json!("1d1ms"), 86_400_001, "1d1ms"),
            (json!(5), 5000, "5s"),
            (json!(0.25), 250, "250ms"),
            (json!(0), 0, "0s"),
        ] {
            let span: Span = serde_json::from_value(written.clone()).unwrap();
            assert_eq!((span.0, span.to_string()), (Duration::from_millis(ms), back.to_owned()), "{written}");
            assert_eq!(serde_json::to_value(span).unwrap(), json!(back));
        }
    }

    #[test]
    fn what_is_no_length_of_time_is_refused() {
        let bad =
            ["", "10", "s", "10 s", "1s1m", "1s1s", "-1s", "1.5s", "99999999999999999999s", "1w"].map(Value::from);
        for written in bad.into_iter().chain([json!(-1), json!(-0.5), json!(1e300), json!(true), json!(null)]) {
            assert!(serde_json::from_value::<Span>(written.clone()).is_err(), "{written}");
        }
    }
}
