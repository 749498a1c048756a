//! What can be told of a window, by the words of the twin: `mean`, `p95`, `p99.9`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use dinrail_plugin::schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A percentage within 0..=100.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Percent(pub f64);

/// A statistic.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Aggregate {
    Count,
    Min,
    Max,
    Mean,
    Sum,
    /// Of a sample: divided by one less than the count.
    StdDev,
    First,
    Last,
    Percentile(Percent),
}

const NAMED: [(&str, Aggregate); 8] = [
    ("count", Aggregate::Count),
    ("min", Aggregate::Min),
    ("max", Aggregate::Max),
    ("mean", Aggregate::Mean),
    ("sum", Aggregate::Sum),
    ("stddev", Aggregate::StdDev),
    ("first", Aggregate::First),
    ("last", Aggregate::Last),
];

impl Aggregate {
    /// What is told where nothing else is asked for.
    pub fn usual() -> Vec<Aggregate> {
        let percentiles = [50.0, 90.0, 95.0, 99.0].map(|percent| Aggregate::Percentile(Percent(percent)));
        let named = [Aggregate::Mean, Aggregate::Min, Aggregate::Max, Aggregate::StdDev];
        named.into_iter().chain(percentiles).collect()
    }
}

impl fmt::Display for Aggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, NAMED.iter().find(|(_, named)| named == self)) {
            (Aggregate::Percentile(percent), _) => write!(f, "p{}", percent.0),
            (_, Some((name, _))) => f.write_str(name),
            (_, None) => Ok(()),
        }
    }
}

impl FromStr for Aggregate {
    type Err = String;

    fn from_str(text: &str) -> Result<Aggregate, String> {
        if let Some((_, named)) = NAMED.iter().find(|(name, _)| *name == text) {
            return Ok(*named);
        }
        let digits = text.strip_prefix('p').filter(|rest| rest.chars().all(|c| c.is_ascii_digit() || c == '.'));
        match digits.and_then(|digits| digits.parse().ok()) {
            Some(percent) if (0.0..=100.0).contains(&percent) => Ok(Aggregate::Percentile(Percent(percent))),
            Some(percent) => Err(format!("p{percent} is not within p0 to p100")),
            None => {
                let known: Vec<&str> = NAMED.iter().map(|(name, _)| *name).collect();
                Err(format!("'{text}' is not known; there are {} and percentiles such as p95", known.join(", ")))
            }
        }
    }
}

impl Serialize for Aggregate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Aggregate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Aggregate, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for Aggregate {
    fn schema_name() -> Cow<'static, str> {
        "Aggregate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^(count|min|max|mean|sum|stddev|first|last|p[0-9]+(\.[0-9]+)?)$"
        })
    }
}
