//! JSON of others that becomes part of a twin: what JSON leaves open is refused, so that everybody reads the same in it.
//!
//! A member that is there twice, a number that no number of ours holds, and levels without end.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// A compact document; it is expected to have so many bytes.
pub(super) fn of(members: &Map<String, Value>, expected: usize) -> Arc<str> {
    // Room for the commas and digits that a change usually adds, so that the text is not moved while it is written.
    let mut out = Vec::with_capacity(expected + 64);
    // Keys are texts and the bytes are memory: nothing in it can fail.
    let _ = serde_json::to_writer(&mut out, members);
    String::from_utf8_lossy(&out).into()
}

/// Reads one JSON document, or says what is wrong with it and where.
pub fn read(text: &[u8]) -> Result<Value, String> {
    let has_large = Cell::new(false);
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = Strict(&has_large).deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    let value = value.map_err(|error| match error.to_string() {
        text if text.starts_with("recursion limit exceeded") => {
            text.replace("recursion limit exceeded", "it nests too deep, twins nest 10 deep")
        }
        text => text,
    })?;
    match large_integer(text).filter(|_| has_large.get()) {
        Some(literal) => Err(format!("the integer {literal} is out of range")),
        None => Ok(value),
    }
}

/// A value and all within it.
#[derive(Clone, Copy)]
struct Strict<'c>(&'c Cell<bool>);

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        // Beyond 64 bits an integer arrives as a float, which would not be the number that was written.
        if value.abs() >= 9.0e18 {
            self.0.set(true);
        }
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            all.push(item);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            let value = members.next_value_seed(self)?;
            if all.contains_key(&key) {
                let shown: String = key.chars().take(40).collect();
                return Err(A::Error::custom(format!("the member '{shown}' is there twice")));
            }
            all.insert(key, value);
        }
        Ok(Value::Object(all))
    }
}

/// The first integer of more digits than 64 bits hold. `text` is JSON.
fn large_integer(text: &[u8]) -> Option<String> {
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                at += 1;
                while *text.get(at)? != b'"' {
                    at += if text[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'-' | b'0'..=b'9' => {
                let is_of_number = |byte: &&u8| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
                let length = text[at..].iter().take_while(is_of_number).count();
                let literal = std::str::from_utf8(&text[at..at + length]).ok()?;
                if !literal.contains(['.', 'e', 'E'])
                    && literal.parse::<i64>().is_err()
                    && literal.parse::<u64>().is_err()
                {
                    return Some(literal.chars().take(40).collect());
                }
                at += length;
            }
            _ => at += 1,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_json_leaves_open_is_refused_with_its_place() {
        for (text, says) in [
            (r#"{"a": 1, "b": {"c": 2, "c": 3}}"#, "the member 'c' is there twice at line 1 column 30"),
            (r#"[{"a": 1, "\u0061": 2}]"#, "the member 'a' is there twice"),
            ("1e999", "number out of range"),
            (r#"{"1234567890123456789012": -1234567890123456789012}"#, "the integer -1234567890123456789012 is out of"),
            ("{} {}", "trailing characters"),
            ("{\"a\": NaN}", "expected"),
            ("", "EOF"),
        ] {
            let refused = read(text.as_bytes()).unwrap_err();
            assert!(refused.contains(says), "{text}: {refused}");
        }
        for levels in [200, 10_000, 1_000_000] {
            let refused = read("[".repeat(levels).as_bytes()).unwrap_err();
            assert!(refused.starts_with("it nests too deep"), "{refused}");
        }
    }

    #[test]
    fn everything_else_is_read_as_it_is() {
        for text in [
            r#"{"a":[1,-2,3.5,1e20,18446744073709551615,true,null,"x\\\"1234567890123456789012"],"b":{}}"#,
            "null",
            "\"ü\"",
            "1e300",
        ] {
            let plain: Value = serde_json::from_str(text).unwrap();
            assert_eq!(read(text.as_bytes()), Ok(plain), "{text}");
        }
    }
}
