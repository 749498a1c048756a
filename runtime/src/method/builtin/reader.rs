//! Reads the members of a payload, and notes all that is wrong with them.

use serde_json::{Map, Value};

/// Reads an object. Problems carry the path of what they are about.
pub(super) struct Reader<'v> {
    /// `None`: there is nothing, or no object.
    members: Option<&'v Map<String, Value>>,
    path: String,
    pub(super) problems: Vec<String>,
}

impl<'v> Reader<'v> {
    /// `null` reads as an object without members.
    pub(super) fn new(document: &'v Value) -> Reader<'v> {
        let mut reader = Reader { members: None, path: String::new(), problems: Vec::new() };
        match document {
            Value::Null => {}
            Value::Object(members) => reader.members = Some(members),
            _ => reader.problems.push("the payload is not an object".to_owned()),
        }
        reader
    }

    /// Reads an object within this one.
    pub(super) fn within<T>(
        &mut self,
        path: String,
        value: &'v Value,
        read: impl FnOnce(&mut Reader<'v>) -> T,
    ) -> Option<T> {
        let Value::Object(members) = value else {
            self.problems.push(format!("{path}: {value} is not an object"));
            return None;
        };
        let mut inner = Reader { members: Some(members), path: format!("{path}."), problems: Vec::new() };
        let found = read(&mut inner);
        self.problems.append(&mut inner.problems);
        Some(found)
    }

    /// A member that is there, and not null.
    pub(super) fn member(&self, name: &str) -> Option<&'v Value> {
        self.members?.get(name).filter(|value| !value.is_null())
    }

    /// Where a member is.
    pub(super) fn path_of(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }

    pub(super) fn problem(&mut self, name: &str, what: impl std::fmt::Display) {
        self.problems.push(format!("{}{name}: {what}", self.path));
    }

    /// Any other members are problems.
    pub(super) fn known(&mut self, names: &[&str]) {
        for name in
            self.members.iter().flat_map(|members| members.keys()).filter(|name| !names.contains(&name.as_str()))
        {
            self.problems.push(format!("{}{name}: is not known, there are {}", self.path, names.join(", ")));
        }
    }

    /// A text that has to be there.
    pub(super) fn text(&mut self, name: &str) -> String {
        match self.member(name) {
            Some(Value::String(text)) if !text.is_empty() => return text.clone(),
            // The payload as a whole is no object, which says it all.
            None if !self.problems.is_empty() && self.members.is_none() => {}
            None => self.problem(name, "is missing"),
            Some(Value::String(_)) => self.problem(name, "is empty"),
            Some(other) => self.problem(name, format_args!("{other} is not a text")),
        }
        String::new()
    }

    /// One of these words, in any case; the first where there is none.
    pub(super) fn word(&mut self, name: &str, words: &[&'static str]) -> &'static str {
        let found = self.member(name);
        let word = found
            .map(|found| words.iter().find(|word| found.as_str().is_some_and(|text| text.eq_ignore_ascii_case(word))));
        match (word, found) {
            (Some(Some(word)), _) => word,
            (Some(None), Some(found)) => {
                self.problem(name, format_args!("{found} is not one of {}", words.join(", ")));
                words[0]
            }
            _ => words[0],
        }
    }

    /// A missing one is taken as 1.0.
    pub(super) fn schema_version(&mut self) {
        let Some(version) = self.member("schemaVersion") else { return };
        let major = version.as_str().and_then(|text| text.split('.').next());
        if major != Some("1") {
            self.problem("schemaVersion", format_args!("{version} is not 1.0"));
        }
    }
}
