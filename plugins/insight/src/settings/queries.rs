//! Queries as a person gives them: by name, or in a list.

use std::borrow::Cow;
use std::fmt;

use dinrail_plugin::schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Query;

/// Queries, each with its name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Queries {
    queries: Vec<Query>,
    is_list: bool,
}

impl Queries {
    pub fn len(&self) -> usize {
        self.queries.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Query> {
        self.queries.iter()
    }

    /// Each with its path in the desired properties.
    pub fn places(&self) -> impl Iterator<Item = (String, &Query)> {
        self.queries.iter().enumerate().map(|(at, query)| {
            let path = if self.is_list { format!("queries[{at}]") } else { format!("queries.{}", query.name) };
            (path, query)
        })
    }
}

impl Serialize for Queries {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_list {
            return serializer.collect_seq(&self.queries);
        }
        let mut map = serializer.serialize_map(Some(self.queries.len()))?;
        for query in &self.queries {
            map.serialize_entry(&query.name, &Query { name: String::new(), ..query.clone() })?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Queries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Queries, D::Error> {
        struct Written;
        impl<'de> Visitor<'de> for Written {
            type Value = Queries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("queries by name, or a list of queries")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Queries, A::Error> {
                let mut queries = Vec::new();
                while let Some((name, query)) = map.next_entry::<String, Query>()? {
                    queries.push(Query { name, ..query });
                }
                Ok(Queries { queries, is_list: false })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Queries, A::Error> {
                let mut queries = Vec::new();
                while let Some(query) = list.next_element()? {
                    queries.push(query);
                }
                Ok(Queries { queries, is_list: true })
            }
        }
        deserializer.deserialize_any(Written)
    }
}

impl JsonSchema for Queries {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Queries".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let query = generator.subschema_for::<Query>();
        json_schema!({
            "description": "Queries by name, or a list of queries that have their name inside.",
            "anyOf": [
                {"type": "object", "additionalProperties": query},
                {"type": "array", "items": query}
            ]
        })
    }
}
