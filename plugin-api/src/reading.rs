//! A measured value: the one shape in which modules hand readings to each other.
//!
//! ```json
//! {"name": "cpu.load", "value": 12.5, "unit": "%", "quality": "good", "sourceTime": "2026-11-21T14:05:09.123456Z"}
//! ```
//! `value` is a number, text, a boolean or null (no value could be had). `name` and `unit` may be left out; so may `quality`,
//! which is then `good`. `sourceTime` is when the value was true at its source, in UTC with microseconds; a reader also takes
//! other offsets, and a number of microseconds since 1970-01-01 UTC.

use std::borrow::Cow;
use std::fmt;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Context, Error};

/// How far a reading may be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Quality {
    /// As measured.
    #[default]
    Good,
    /// Old, substituted or out of the sensor's range.
    Uncertain,
    /// Not to be used.
    Bad,
}

impl Quality {
    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Quality::Good => "good",
            Quality::Uncertain => "uncertain",
            Quality::Bad => "bad",
        }
    }
}

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
pub enum ReadingValue<'a> {
    /// A number. Not finite is written as null.
    Number(f64),
    /// Text.
    Text(Cow<'a, str>),
    /// On or off.
    Bool(bool),
    /// Nothing could be had.
    Null,
}

/// A measured value with unit, quality and source time. See the [shape](self).
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Reading<'a> {
    /// What it is a reading of; empty = not said.
    #[serde(default, borrow)]
    pub name: Cow<'a, str>,
    /// The value.
    #[serde(borrow)]
    pub value: ReadingValue<'a>,
    /// Unit, such as `%`, `°C`, `B`; empty = none.
    #[serde(default, borrow)]
    pub unit: Cow<'a, str>,
    /// How far it may be believed.
    #[serde(default)]
    pub quality: Quality,
    /// When it was true at its source: microseconds since 1970-01-01 UTC.
    #[serde(rename = "sourceTime", deserialize_with = "time")]
    pub source_time_us: i64,
}

impl<'a> Reading<'a> {
    /// A good reading of `name` taken now.
    pub fn now(name: &'a str, value: impl Into<ReadingValue<'a>>, unit: &'a str) -> Reading<'a> {
        let (name, value, unit) = (name.into(), value.into(), unit.into());
        Reading { name, value, unit, quality: Quality::Good, source_time_us: now_us() }
    }

    /// The same with another quality.
    #[must_use]
    pub fn quality(self, quality: Quality) -> Reading<'a> {
        Reading { quality, ..self }
    }

    /// The same with another source time, in microseconds since 1970-01-01 UTC.
    #[must_use]
    pub fn at(self, source_time_us: i64) -> Reading<'a> {
        Reading { source_time_us, ..self }
    }

    /// The value, if it is a number.
    pub fn number(&self) -> Option<f64> {
        match self.value {
            ReadingValue::Number(number) => Some(number),
            _ => None,
        }
    }

    /// Reads one from JSON; borrows text that has no escapes.
    ///
    /// # Errors
    /// Names the member that does not fit.
    pub fn parse(json: &'a [u8]) -> Result<Reading<'a>, Error> {
        serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_slice(json)).context("reading a Reading")
    }

    /// Appends the JSON to `out`, which is worth keeping for the next one: a warm buffer is not allocated again.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        if !self.name.is_empty() {
            out.extend_from_slice(b"\"name\":");
            text(out, &self.name);
            out.push(b',');
        }
        out.extend_from_slice(b"\"value\":");
        match &self.value {
            ReadingValue::Number(number) => write_number(out, *number),
            ReadingValue::Text(value) => text(out, value),
            ReadingValue::Bool(true) => out.extend_from_slice(b"true"),
            ReadingValue::Bool(false) => out.extend_from_slice(b"false"),
            ReadingValue::Null => out.extend_from_slice(b"null"),
        }
        if !self.unit.is_empty() {
            out.extend_from_slice(b",\"unit\":");
            text(out, &self.unit);
        }
        out.extend_from_slice(b",\"quality\":\"");
        out.extend_from_slice(self.quality.as_str().as_bytes());
        out.extend_from_slice(b"\",\"sourceTime\":\"");
        write_time(out, self.source_time_us);
        out.extend_from_slice(b"\"}");
    }

    /// The JSON in a buffer of its own.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        self.write_to(&mut out);
        out
    }
}

impl From<f64> for ReadingValue<'_> {
    fn from(number: f64) -> Self {
        ReadingValue::Number(number)
    }
}

impl From<i32> for ReadingValue<'_> {
    fn from(number: i32) -> Self {
        ReadingValue::Number(number.into())
    }
}

impl From<u32> for ReadingValue<'_> {
    fn from(number: u32) -> Self {
        ReadingValue::Number(number.into())
    }
}

impl From<bool> for ReadingValue<'_> {
    fn from(on: bool) -> Self {
        ReadingValue::Bool(on)
    }
}

impl<'a> From<&'a str> for ReadingValue<'a> {
    fn from(text: &'a str) -> Self {
        ReadingValue::Text(text.into())
    }
}

impl From<String> for ReadingValue<'_> {
    fn from(text: String) -> Self {
        ReadingValue::Text(text.into())
    }
}

impl<'a, T: Into<ReadingValue<'a>>> From<Option<T>> for ReadingValue<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(ReadingValue::Null, Into::into)
    }
}

impl Serialize for Reading<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // By way of the writer, so that there is one definition of the shape.
        let value: serde_json::Value = serde_json::from_slice(&self.to_json()).map_err(serde::ser::Error::custom)?;
        value.serialize(serializer)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for ReadingValue<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = ReadingValue<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, text, a boolean or null")
            }
            fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
                Ok(ReadingValue::Number(number))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
                Ok(ReadingValue::Number(number as f64))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(ReadingValue::Number(number as f64))
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(text.into())
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(text.to_owned().into())
            }
            fn visit_bool<E>(self, on: bool) -> Result<Self::Value, E> {
                Ok(ReadingValue::Bool(on))
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(ReadingValue::Null)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

fn now_us() -> i64 {
    let us = |span: std::time::Duration| i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => us(since),
        Err(before) => -us(before.duration()),
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    // Writing text into a vector does not fail.
    let _ = serde_json::to_writer(out, text);
}

fn write_number(out: &mut Vec<u8>, number: f64) {
    // Whole numbers are written without ".0", as long as a f64 tells them apart.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let _ = if number.fract() == 0.0 && number.abs() < EXACT {
        write!(out, "{}", number as i64)
    } else {
        serde_json::to_writer(out, &number).map_err(Into::into)
    };
}

const DAY_SECS: i64 = 86_400;

/// A time in microseconds since 1970-01-01 UTC as a source time is written: RFC 3339 in UTC with microseconds.
pub fn format_time(us: i64) -> String {
    let mut out = Vec::with_capacity(27);
    write_time(&mut out, us);
    String::from_utf8_lossy(&out).into_owned()
}

/// Appends an RFC 3339 time in UTC with microseconds.
fn write_time(out: &mut Vec<u8>, us: i64) {
    let (secs, us) = (us.div_euclid(1_000_000), us.rem_euclid(1_000_000));
    let (days, second) = (secs.div_euclid(DAY_SECS), secs.rem_euclid(DAY_SECS));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let _ = write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{us:06}Z");
}

/// Year, month and day of the day `days` after 1970-01-01. Source: H. Hinnant, "chrono-compatible low-level date algorithms".
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let (era, doe) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    (yoe + era * 400 + i64::from(month <= 2), month, day)
}

/// The inverse of [`civil`].
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, yoe) = (year.div_euclid(400), year.rem_euclid(400));
    let doy = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

/// Reads an RFC 3339 time, in any offset, as microseconds since 1970-01-01 UTC. `None` where it is none.
pub fn parse_time(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = bytes.get(from..to)?;
        digits.iter().try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))
    };
    let is = |at: usize, any: &[u8]| bytes.get(at).is_some_and(|b| any.contains(b));
    if !(is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":")) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (mut at, mut us) = (19, 0);
    if is(at, b".") {
        let digits = bytes[20..].iter().take_while(|b| b.is_ascii_digit()).count();
        let kept = digits.min(6);
        us = number(20, 20 + kept).filter(|_| digits > 0)? * 10_i64.pow(6 - kept as u32);
        at = 20 + digits;
    }
    let offset = match bytes.get(at)? {
        b'Z' | b'z' if bytes.len() == at + 1 => 0,
        sign @ (b'+' | b'-') if bytes.len() == at + 6 && is(at + 3, b":") => {
            let minutes = number(at + 1, at + 3)? * 60 + number(at + 4, at + 6)?;
            if *sign == b'-' { -minutes } else { minutes }
        }
        _ => return None,
    };
    let secs = days(year, month, day) * DAY_SECS + hour * 3600 + minute * 60 + second - offset * 60;
    Some(secs * 1_000_000 + us)
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Time<'a> {
        Micros(i64),
        Text(#[serde(borrow)] Cow<'a, str>),
    }
    match Time::deserialize(deserializer)? {
        Time::Micros(us) => Ok(us),
        Time::Text(text) => {
            parse_time(&text).ok_or_else(|| D::Error::custom(format!("'{text}' is not an RFC 3339 time")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(reading: &Reading<'_>) -> String {
        String::from_utf8(reading.to_json()).unwrap()
    }

    const AT: i64 = 1_795_269_909_123_456;

    #[test]
    fn a_reading_has_one_shape() {
        let reading = Reading::now("cpu.load", 12.5, "%").at(AT);
        let said = r#"{"name":"cpu.load","value":12.5,"unit":"%","quality":"good","sourceTime":"2026-11-21T14:05:09.123456Z"}"#;
        assert_eq!(json(&reading), said);
        assert_eq!(serde_json::to_value(&reading).unwrap(), serde_json::from_str::<serde_json::Value>(said).unwrap());

        let bare = Reading::now("", f64::NAN, "").quality(Quality::Bad).at(-1);
        assert_eq!(json(&bare), r#"{"value":null,"quality":"bad","sourceTime":"1969-12-31T23:59:59.999999Z"}"#);
        assert!(json(&Reading::now("m", 16_000_000_000.0, "B")).contains(r#""value":16000000000,"#));
    }

    #[test]
    fn what_is_written_is_read_back() {
        for value in [
            ReadingValue::Number(-0.125),
            ReadingValue::Number(3.0),
            "a \"quoted\" text".into(),
            true.into(),
            ReadingValue::Null,
        ] {
            let reading = Reading::now("äö \n", value, "°C").quality(Quality::Uncertain).at(AT);
            let bytes = reading.to_json();
            assert_eq!(Reading::parse(&bytes).unwrap(), reading);
        }
    }

    #[test]
    fn source_times_are_read_in_every_offset_and_as_microseconds() {
        for time in [
            r#""2026-11-21T14:05:09.123456Z""#,
            r#""2026-11-21T15:05:09.123456+01:00""#,
            r#""2026-11-21T04:35:09.123456789-09:30""#,
            "1795269909123456",
        ] {
            let text = format!(r#"{{"value": 1, "sourceTime": {time}}}"#);
            assert_eq!(Reading::parse(text.as_bytes()).unwrap().source_time_us, AT, "{time}");
        }
        assert_eq!(parse_time("2000-02-29T00:00:00Z"), Some(951_782_400_000_000));
        for bad in [
            "",
            "2026-11-21",
            "2026-13-21T00:00:00Z",
            "2026-11-21T14:05:09",
            "2026-11-21T14:05:09.Z",
            "2026-11-21T14:05:09Zx",
        ] {
            assert_eq!(parse_time(bad), None, "{bad}");
        }
    }

    #[test]
    fn times_agree_with_the_calendar_for_four_centuries() {
        for day in -73_000..73_000 {
            let (year, month, dom) = civil(day);
            assert_eq!(days(year, month, dom), day);
        }
    }

    #[test]
    fn what_is_not_a_reading_is_named() {
        for (text, said) in [
            (r#"{"value": {}, "sourceTime": 1}"#, "value: invalid type: map"),
            (r#"{"value": 1}"#, "missing field `sourceTime`"),
            (r#"{"value": 1, "sourceTime": "x"}"#, "sourceTime: 'x' is not an RFC 3339 time"),
            (r#"{"value": 1, "quality": "great", "sourceTime": 1}"#, "quality: unknown variant `great`"),
        ] {
            let error = Reading::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
