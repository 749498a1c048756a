//! Desired properties as the author's type: the defaults, overlaid with what the twin says.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::Error;
use crate::problems::Problems;

/// Reads `section` as a `T`: what it leaves out, at any depth, comes from `T::default()`.
///
/// A map of the default is merged key by key. Where that makes nonsense (a default `{"fixed": 1}` under a given
/// `{"range": [1, 2]}` of one enum), only the outermost level is merged.
///
/// # Errors
/// Names every problem with its path: `limits.high: invalid type: string "x", expected f64; treshold: unknown field …`.
pub(crate) fn typed<T: Serialize + DeserializeOwned + Default>(section: &Value) -> Result<T, Error> {
    if !section.is_object() {
        return Err(Error::refused("the desired properties must be a JSON object"));
    }
    let defaults = serde_json::to_value(T::default())
        .map_err(|e| Error::new(e).context("the module's own defaults cannot be written as JSON"))?;
    let whole = |depth| overlaid(defaults.clone(), section.clone(), depth);
    let read = |depth| serde_path_to_error::deserialize(whole(depth));
    read(usize::MAX)
        .or_else(|_: serde_path_to_error::Error<_>| read(1))
        .map_err(|_| Error::refused(Problems::of::<T>(whole(usize::MAX)).join("; ")))
}

/// As [`typed`], from JSON text; empty text is an empty section.
pub(crate) fn typed_from_text<T: Serialize + DeserializeOwned + Default>(section: &str) -> Result<T, Error> {
    let section = match section {
        "" => Value::Object(Map::new()),
        text => {
            serde_json::from_str(text).map_err(|e| Error::refused(e).context("the desired properties are not JSON"))?
        }
    };
    typed(&section)
}

fn overlaid(under: Value, over: Value, depth: usize) -> Value {
    match (under, over) {
        (Value::Object(mut under), Value::Object(over)) if depth > 0 => {
            for (key, value) in over {
                let below = under.remove(&key).unwrap_or(Value::Null);
                under.insert(key, overlaid(below, value, depth - 1));
            }
            Value::Object(under)
        }
        (_, over) => over,
    }
}

/// Writes the JSON Schema of `T`.
pub(crate) fn schema<T: schemars::JsonSchema>() -> String {
    schemars::SchemaGenerator::default().into_root_schema_for::<T>().to_value().to_string()
}

/// Writes the defaults of `T`.
pub(crate) fn defaults<T: Serialize + Default>() -> Result<String, Error> {
    Ok(serde_json::to_string(&T::default())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Limits {
        low: f64,
        high: f64,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Mode {
        Fixed(u32),
        Range(u32, u32),
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Desired {
        threshold: f64,
        limits: Limits,
        mode: Mode,
        note: Option<String>,
    }

    impl Default for Desired {
        fn default() -> Desired {
            Desired { threshold: 80.0, limits: Limits { low: 1.0, high: 2.0 }, mode: Mode::Fixed(3), note: None }
        }
    }

    #[test]
    fn what_a_section_leaves_out_comes_from_the_defaults_at_any_depth() {
        let desired: Desired = typed(&json!({"limits": {"high": 9.0}, "note": "x"})).unwrap();
        let expected = Desired { limits: Limits { low: 1.0, high: 9.0 }, note: Some("x".into()), ..Desired::default() };
        assert_eq!(desired, expected);
        assert_eq!(typed_from_text::<Desired>("").unwrap(), Desired::default());
    }

    #[test]
    fn another_variant_of_an_enum_takes_the_place_of_the_default_one() {
        let desired: Desired = typed(&json!({"mode": {"range": [1, 2]}})).unwrap();
        assert_eq!(desired, Desired { mode: Mode::Range(1, 2), ..Desired::default() });
    }

    #[test]
    fn a_refusal_names_the_path() {
        for (section, said) in [
            (json!({"threshold": "x"}), r#"threshold: invalid type: string "x", expected f64"#),
            (json!({"limits": {"high": true}}), "limits.high: invalid type: boolean `true`, expected f64"),
            (json!([1]), "the desired properties must be a JSON object"),
        ] {
            let refused = typed::<Desired>(&section).unwrap_err();
            assert!(refused.to_string().contains(said), "{refused}");
            assert_eq!(refused.kind(), crate::ErrorKind::Refused);
        }
    }

    #[test]
    fn a_refusal_names_all_that_is_wrong() {
        let refused = typed::<Desired>(&json!({"threshold": "x", "limits": {"low": [], "high": true}})).unwrap_err();
        let said = "threshold: invalid type: string \"x\", expected f64; limits.low: invalid type: sequence, expected f64; \
                    limits.high: invalid type: boolean `true`, expected f64";
        assert_eq!(refused.to_string(), said);
    }
}
