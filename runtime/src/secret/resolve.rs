//! From `{"$secret": NAME}` to the value, for one module, on its way into the module's code.

use serde_json::Value;
use zeroize::Zeroizing;

use super::error::Unresolved;
use super::registry::Secrets;
use crate::name::check_id;
use crate::twin::secret::{self, MEMBER};

/// A document with values in it. Wiped when it is dropped.
pub struct Resolved {
    /// The document: compact JSON.
    pub text: Zeroizing<String>,
    /// What it holds.
    pub used: Vec<Used>,
    /// What it holds the reference of, since there is no value for this module.
    pub missing: Vec<Unresolved>,
}

/// A secret that a module was given.
#[derive(Clone)]
pub struct Used {
    /// Its name.
    pub name: String,
    /// Of the value.
    pub version: u64,
    /// When the value was set.
    pub set_us: i64,
    /// The value.
    pub value: Zeroizing<String>,
}

impl std::fmt::Debug for Used {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} version {}", self.name, self.version)
    }
}

impl std::fmt::Debug for Resolved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Resolved({:?}, without {:?})", self.used, self.missing)
    }
}

impl Secrets {
    /// A compact document with the values that `module` may have in place of their references. `None`: it has no reference, and
    /// can be shared as it is.
    pub fn resolve(&self, document: &str, module: &str) -> Option<Resolved> {
        if !secret::is_in(document) {
            return None;
        }
        let mut resolved = Resolved { text: Zeroizing::default(), used: Vec::new(), missing: Vec::new() };
        let mut parts: Vec<Part<'_>> = Vec::new();
        let mut rest = document;
        while let Some((before, name, after)) = next_reference(rest) {
            parts.push(Part::Text(before));
            match self.used(name, module, &mut resolved) {
                Some(at) => parts.push(Part::Value(at)),
                None => parts.push(Part::Text(&rest[before.len()..rest.len() - after.len()])),
            }
            rest = after;
        }
        parts.push(Part::Text(rest));
        let quoted: Vec<Zeroizing<String>> = resolved.used.iter().map(|used| quote(&used.value)).collect();
        let parts = || {
            parts.iter().map(|part| match part {
                Part::Text(text) => text,
                Part::Value(at) => quoted[*at].as_str(),
            })
        };
        // In one piece: a text that grows leaves copies behind.
        let mut text = String::with_capacity(parts().map(str::len).sum());
        parts().for_each(|part| text.push_str(part));
        resolved.text = Zeroizing::new(text);
        Some(resolved)
    }

    /// Why `module` cannot be given what a document refers to; empty where it can.
    pub fn missing(&self, document: &str, module: &str) -> Vec<Unresolved> {
        secret::names_in(document).iter().filter_map(|name| self.value_for(name, module).err()).collect()
    }

    /// Why `module` cannot be given this secret. What is no name is refused by the rules of twins, in their words.
    pub fn refusal(&self, name: &str, module: &str) -> Option<Unresolved> {
        check_id(name).ok()?;
        self.value_for(name, module).err()
    }

    /// Of what an instance was given, the secrets that have another value by now.
    pub fn outdated<'u>(&self, used: &'u [(String, u64, i64)]) -> Vec<&'u str> {
        let is_old = |(name, version, set_us): &&(String, u64, i64)| self.stamp(name) != Some((*version, *set_us));
        used.iter().filter(is_old).map(|(name, ..)| name.as_str()).collect()
    }

    fn used(&self, name: &str, module: &str, resolved: &mut Resolved) -> Option<usize> {
        if let Some(at) = resolved.used.iter().position(|used| used.name == name) {
            return Some(at);
        }
        match self.value_for(name, module) {
            Ok((value, version, set_us)) => {
                resolved.used.push(Used { name: name.to_owned(), version, set_us, value });
                Some(resolved.used.len() - 1)
            }
            Err(why) => {
                if !resolved.missing.contains(&why) {
                    resolved.missing.push(why);
                }
                None
            }
        }
    }
}

enum Part<'d> {
    Text(&'d str),
    Value(usize),
}

/// What is before the next reference of a compact document, its name, and what is after it. Names need no escapes.
fn next_reference(document: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = document.split_once(&format!("{{\"{MEMBER}\":\""))?;
    let (name, after) = rest.split_once("\"}")?;
    Some((before, name, after))
}

/// A text as it stands in JSON.
fn quote(value: &str) -> Zeroizing<String> {
    let mut json = Value::from(value);
    let quoted = Zeroizing::new(json.to_string());
    if let Value::String(text) = &mut json {
        zeroize::Zeroize::zeroize(text);
    }
    quoted
}
