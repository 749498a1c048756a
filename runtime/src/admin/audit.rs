//! The record of who did what: a line for every request that changes something, for every one that was answered with a key or a
//! token, and for every one that was refused for who asked. It names paths, never bodies, queries or tokens.

use axum::http::{Method, StatusCode};
use axum::response::Response;
use axum::{Extension, Json};
use serde_json::{Map, Value};

use super::access;
use super::caller::Caller;
use crate::identity::Role;

/// What a request was about beyond its path. An extension of the answer, set by routes whose body names it.
#[derive(Debug, Clone)]
pub(super) struct Named(pub(super) String);

/// An answer that gives out a key or a token. An extension of the answer: who took it is recorded, whatever was asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct GivesKeys;

/// An answer whose record names something.
pub(super) type Naming<T> = (Extension<Named>, Json<T>);

/// An answer, and what its record names.
pub(super) fn naming<T>(name: impl Into<String>, answer: T) -> Naming<T> {
    (Extension(Named(name.into())), Json(answer))
}

/// What is known of a request before it is answered.
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) who: Who,
}

/// Who asks, as it is recorded.
pub(super) enum Who {
    /// Known.
    Known(Caller),
    /// With a token that was not taken; from this address.
    Unknown(String),
}

/// A line of the record: the text and its fields; and whether somebody was refused.
pub(super) struct Entry {
    pub(super) text: String,
    pub(super) fields: Map<String, Value>,
    pub(super) is_refusal: bool,
}

/// Longest path that is written down.
const MAX_PATH_BYTES: usize = 512;

/// The line for a request and its answer; `None` where it changed nothing, gave out no key and nobody was
/// refused.
pub(super) fn entry(asked: &Asked, answer: &Response) -> Option<Entry> {
    let status = answer.status();
    let is_refusal = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status);
    let gives_keys = answer.extensions().get::<GivesKeys>().is_some();
    if !is_refusal && !gives_keys && !access::changes(&asked.method, &asked.path) {
        return None;
    }
    let (who, role, from) = match &asked.who {
        Who::Known(caller) => (caller.name(), caller.role().map_or("none", Role::name), caller.place()),
        Who::Unknown(from) => ("unknown".to_owned(), "none", from.clone()),
    };
    let mut path: String = asked.path.chars().take(MAX_PATH_BYTES).collect();
    if path.len() < asked.path.len() {
        path.push('…');
    }
    let mut fields = Map::new();
    fields.insert("who".into(), who.into());
    fields.insert("role".into(), role.into());
    fields.insert("from".into(), from.into());
    fields.insert("status".into(), status.as_u16().into());
    if let Some(Named(name)) = answer.extensions().get() {
        fields.insert("named".into(), name.clone().into());
    }
    if gives_keys {
        fields.insert("keys".into(), true.into());
    }
    Some(Entry { text: format!("{} {path}", asked.method), fields, is_refusal })
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;

    use super::*;

    fn asked(method: Method, path: &str) -> Asked {
        Asked { method, path: path.into(), who: Who::Known(Caller::user(4_000_000, 1, Role::Operator)) }
    }

    #[test]
    fn changes_and_refusals_are_recorded_and_questions_are_not() {
        let ok = StatusCode::OK.into_response();
        let refused = StatusCode::FORBIDDEN.into_response();
        assert!(entry(&asked(Method::GET, "/modules"), &ok).is_none());
        assert!(entry(&asked(Method::GET, "/modules"), &refused).unwrap().is_refusal);

        let mut with_key = StatusCode::OK.into_response();
        with_key.extensions_mut().insert(GivesKeys);
        let taken = entry(&asked(Method::GET, "/devices/D"), &with_key).unwrap();
        assert_eq!((taken.fields["keys"].as_bool(), taken.is_refusal), (Some(true), false));

        let mut named = StatusCode::CONFLICT.into_response();
        named.extensions_mut().insert(Named("pump".into()));
        let entry = entry(&asked(Method::POST, "/modules"), &named).unwrap();

        assert_eq!(entry.text, "POST /modules");
        let fields = Value::Object(entry.fields).to_string();
        assert_eq!(
            fields,
            r#"{"who":"user 4000000","role":"operator","from":"this system","status":409,"named":"pump"}"#
        );
        assert!(!entry.is_refusal);
    }
}
