//! The query language over twins: `SELECT * | COUNT() | fields FROM devices | devices.modules [WHERE condition]`.
//!
//! The words and the meaning are those of IoT Hub, and there is no more of the language than this page says. A query is read
//! once ([`Query::parse`]) and then asked of one document after the other ([`Query::matches`]); it knows nothing of where the
//! documents come from.
//!
//! ```text
//! query      SELECT selection FROM collection [WHERE or]
//! selection  * | COUNT() [AS name] | path [AS name] {, path [AS name]}
//! collection devices | devices.modules
//! or         and {OR and}            and   not {AND not}            not  NOT not | comparison
//! comparison primary [(= != <> < <= > >=) primary | (IN | NIN) [literal {, literal}]]
//! primary    ( or ) | literal | path | IS_DEFINED(path)
//! path       name {. name | . [[any text]]}
//! literal    'text' | "text" | number | 0xhex | true | false | null
//! ```
//!
//! Logic has three values. A path that leads nowhere is *undefined*, and so is a comparison with it, one between different
//! types, and one of objects or arrays; `null` alone can be compared by `=` and `!=` with everything that is defined.
//! `undefined OR true` is true, `undefined AND false` is false, all else with undefined is undefined. A document matches where
//! the condition is `true`.
//!
//! Guarantee: no text makes it panic, recurse deeper than [`MAX_DEPTH`], or work longer than its length and the document's size
//! ask for. Source: IoT Hub's query language for device and module twins.

mod error;
mod evaluate;
mod lexer;
mod parser;

use serde_json::Value;

pub use error::QueryError;
use evaluate::Expression;

/// Longest query, in bytes.
pub const MAX_BYTES: usize = 8 * 1024;
/// Parentheses and `NOT` within each other.
pub const MAX_DEPTH: usize = 32;
/// Name of a count that was given none, as at IoT Hub.
const UNNAMED_COUNT: &str = "$1";

/// A query, understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// What is wanted of each match.
    pub selection: Selection,
    /// Among which twins.
    pub collection: Collection,
    condition: Option<Expression>,
}

/// What is wanted of each match.
#[derive(Debug, Clone, PartialEq)]
pub enum Selection {
    /// The whole document.
    Whole,
    /// How many there are, under this name.
    Count(String),
    /// Some of it, each under its name.
    Fields(Vec<(String, Path)>),
}

/// Which twins are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collection {
    /// `devices`.
    Devices,
    /// `devices.modules`.
    Modules,
}

/// Way to a member of a document, such as `properties.reported.a`; the first name is one that twins have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path(Vec<String>);

impl Path {
    /// Its names, at least one.
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// What it leads to in `document`, from its name number `from` on.
    pub fn within<'d>(&self, document: &'d Value, from: usize) -> Option<&'d Value> {
        self.0.iter().skip(from).try_fold(document, |value, name| value.as_object()?.get(name))
    }
}

impl Query {
    /// Reads a query.
    pub fn parse(text: &str) -> Result<Query, QueryError> {
        parser::parse(text)
    }

    /// True if the document in which `field` looks up paths is one of those wanted.
    pub fn matches<'d>(&self, field: &dyn Fn(&Path) -> Option<&'d Value>) -> bool {
        self.condition.as_ref().is_none_or(|condition| condition.is_true(field))
    }
}

#[cfg(test)]
mod tests;
