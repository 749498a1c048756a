//! `GET /openapi.json`: the management API as an OpenAPI 3.1 document.
//!
//! Its operations are the annotations of the handlers (see [`super::routes`]); what is the same for all of them, such as the
//! parameters of a path and the answers to what is refused, is added here. It is made when it is asked for and not kept.

use std::sync::OnceLock;

use axum::http::header;
use axum::response::IntoResponse;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, Info, License, OpenApi as Document, Ref, RefOr, Required, ResponseBuilder, Schema};
use utoipa::{OpenApi, ToSchema};

use super::access;
use super::error::{ApiError, ErrorDocument, refusal};
use super::routes::Operations;
use crate::handle::RefusalKind;

/// This document.
#[utoipa::path(
    get, operation_id = "openapi", path = "/openapi.json", tag = "runtime",
    responses((status = 200, body = Object))
)]
pub(super) async fn show() -> Result<axum::response::Response, ApiError> {
    let text = serde_json::to_string_pretty(&document())
        .map_err(|error| refusal(RefusalKind::Failed, format!("the document cannot be written: {error}")))?;
    // Rust's doc links as plain words.
    let text = text.replace("[`", "`").replace("`]", "`");
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

/// What is shown to whoever asks for something that is not there: a line for each path, with its verbs and parameters.
pub(super) fn lines() -> &'static [String] {
    static LINES: OnceLock<Vec<String>> = OnceLock::new();
    LINES.get_or_init(|| {
        let paths = document().paths.paths;
        let mut lines: Vec<String> = paths.iter().map(|(path, item)| line(path, item)).collect();
        lines.push("all: ?api-version=… is accepted and ignored".into());
        lines
    })
}

fn line(path: &str, item: &PathItem) -> String {
    let (mut verbs, mut query) = (Vec::new(), Vec::new());
    for (verb, operation) in operations(item) {
        verbs.push(verb);
        for parameter in operation.parameters.iter().flatten() {
            let RefOr::T(Parameter { name, parameter_in: ParameterIn::Query, .. }) = parameter else { continue };
            if !query.contains(name) {
                query.push(name.clone());
            }
        }
    }
    let query = if query.is_empty() { String::new() } else { format!("?{}=…", query.join("=…&")) };
    format!("{} {path}{query}", verbs.join(", "))
}

/// What the document says of itself.
const ABOUT: &str = "Modules, images, deployments, identities, twins and methods of this device. Paths that Azure IoT Hub's service API \
    has are as it has them; `api-version` is accepted and ignored. Over the socket in the state directory, callers are known by \
    the system; over TLS by a shared access signature. Parameters that a call does not know are ignored.";

/// What is sent over TLS.
const SIGNATURE: &str = "`SharedAccessSignature sr=…&sig=…&se=…[&skn=…]` of a shared access policy, whose role is in `x-dinrail-role`, or of an \
    identity.";

/// The whole document.
pub(super) fn document() -> Document {
    let mut document = Operations::openapi();
    document.info = Info::new("dinrail", env!("CARGO_PKG_VERSION"));
    document.info.description = Some(ABOUT.to_owned());
    document.info.license = Some(License::new("MIT OR Apache-2.0"));
    let components = document.components.get_or_insert_default();
    components.responses.extend(error_answers());
    let header = ApiKeyValue::with_description("Authorization", SIGNATURE);
    components.add_security_scheme("sharedAccessSignature", SecurityScheme::ApiKey(ApiKey::Header(header)));
    // Not on the socket of the state directory, where the system says who asks.
    let none: [&str; 0] = [];
    document.security =
        Some(vec![SecurityRequirement::new("sharedAccessSignature", none), SecurityRequirement::default()]);
    for (path, item) in &mut document.paths.paths {
        for (verb, operation) in operations_mut(item) {
            name(operation);
            permit(verb, path, operation);
            describe_path(path, operation);
            refuse(path, operation);
        }
    }
    document
}

/// `modules_list`: what is generated from the document has names that differ.
fn name(operation: &mut Operation) {
    let tag = operation.tags.iter().flatten().next().cloned().unwrap_or_default();
    operation.operation_id = operation.operation_id.take().map(|handler| format!("{tag}_{handler}"));
}

/// Adds the role that a caller needs.
fn permit(verb: &str, path: &str, operation: &mut Operation) {
    let role = access::needed(verb, path).name();
    operation.extensions.get_or_insert_default().extend([("x-dinrail-role".to_owned(), role.into())]);
}

/// Adds the parameters that stand in the path, which every handler takes as they are.
fn describe_path(path: &str, operation: &mut Operation) {
    let parameters = operation.parameters.get_or_insert_default();
    let in_path = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    for (at, name) in in_path.enumerate() {
        let (meaning, r#type, format) = match name {
            "name" if path.starts_with("/secrets") => ("Name of the secret", Type::String, None),
            "name" if path.starts_with("/routes") => ("Name of the route", Type::String, None),
            "name" if path.starts_with("/policies") => ("`reader`, `operator` or `owner`", Type::String, None),
            "name" => ("Name of the instance", Type::String, None),
            "input" => ("Name of the input", Type::String, None),
            "reference" => ("Image reference, such as `name:1.2`, or a digest", Type::String, None),
            "id" if path.starts_with("/deadLetters") => {
                ("Id of the message", Type::Integer, Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
            }
            "id" => ("Number of the deployment", Type::Integer, Some(SchemaFormat::KnownFormat(KnownFormat::Int64))),
            "device" => ("Id of the device", Type::String, None),
            "module" => ("Id of the module", Type::String, None),
            _ => ("", Type::String, None),
        };
        let schema: RefOr<Schema> = ObjectBuilder::new().schema_type(r#type).format(format).into();
        let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Path).required(Required::True);
        parameters.insert(at, RefOr::T(parameter.description(Some(meaning)).schema(Some(schema)).build()));
    }
}

/// Adds what any call may be answered. An error answer that the handler says no more of is one of [`ERRORS`].
fn refuse(path: &str, operation: &mut Operation) {
    let mut statuses = vec!["401", "403", "500", "504"];
    let has_parameters = operation.parameters.as_ref().is_some_and(|all| !all.is_empty());
    if operation.request_body.is_some() || has_parameters {
        statuses.push("400");
    }
    if operation.request_body.is_some() {
        statuses.push("413");
    }
    if path.contains('{') {
        statuses.push("404");
    }
    let responses = &mut operation.responses.responses;
    for status in statuses {
        responses.entry(status.to_owned()).or_insert_with(|| ResponseBuilder::new().into());
    }
    for (status, answer) in responses {
        let RefOr::T(response) = answer else { continue };
        if !response.description.is_empty() || !response.content.is_empty() && !status.starts_with('2') {
            continue;
        }
        match ERRORS.iter().find(|(error, ..)| error == status) {
            Some((_, name, _)) => *answer = RefOr::Ref(Ref::new(format!("#/components/responses/{name}"))),
            None => {
                response.description = if status == "204" { "Done; there is nothing to say" } else { "Done" }.into()
            }
        }
    }
}

/// Status, name and meaning of the answers that are not a success.
const ERRORS: [(&str, &str, &str); 11] = [
    ("400", "Invalid", "Wrong in itself; the details name every problem"),
    ("401", "Unauthorized", "No token, or one that is wrong or expired"),
    ("403", "Forbidden", "The caller's role does not allow it, or a quota is spent"),
    ("404", "NotFound", "There is no such thing"),
    ("409", "Conflict", "Not as things are"),
    ("412", "PreconditionFailed", "The etag is another"),
    ("413", "TooLarge", "Larger than the limit"),
    ("429", "TooMany", "Too many at a time; ask again"),
    ("500", "Failed", "It failed; nothing of it is done unless the message says so"),
    ("503", "Unavailable", "The runtime is ending or overloaded; ask again"),
    ("504", "Timeout", "Not within the time; it may still happen"),
];

fn error_answers() -> impl Iterator<Item = (String, RefOr<utoipa::openapi::Response>)> {
    ERRORS.iter().map(|(_, name, meaning)| {
        let content = Content::new(Some(Ref::from_schema_name(ErrorDocument::name())));
        let answer = ResponseBuilder::new().description(*meaning).content("application/json", content).build();
        ((*name).to_owned(), answer.into())
    })
}

fn operations(item: &PathItem) -> impl Iterator<Item = (&'static str, &Operation)> {
    let all = [
        ("GET", &item.get),
        ("POST", &item.post),
        ("PATCH", &item.patch),
        ("PUT", &item.put),
        ("DELETE", &item.delete),
    ];
    all.into_iter().filter_map(|(verb, operation)| Some((verb, operation.as_ref()?)))
}

fn operations_mut(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let PathItem { get, post, patch, put, delete, .. } = item;
    let all = [("GET", get), ("POST", post), ("PATCH", patch), ("PUT", put), ("DELETE", delete)];
    all.into_iter().filter_map(|(verb, operation)| Some((verb, operation.as_mut()?)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::routes::ROUTES;
    use super::*;

    #[test]
    fn every_route_stands_in_the_document_under_its_own_path_and_verb() {
        let document = document();
        let routes: BTreeSet<(String, &str)> = ROUTES.iter().map(|(verb, path)| (verb.to_uppercase(), *path)).collect();
        let described: BTreeSet<(String, &str)> = document
            .paths
            .paths
            .iter()
            .flat_map(|(path, item)| operations(item).map(|(verb, _)| (verb.to_owned(), path.as_str())))
            .collect();
        assert_eq!(routes, described);
        assert_eq!(routes.len(), ROUTES.len(), "a route stands in the table twice");
    }

    #[test]
    fn what_is_not_there_is_answered_with_what_there_is() {
        let lines = lines();
        for expected in [
            "GET, POST /modules",
            "GET, DELETE /modules/{name}?purge=…",
            "GET /messages?route=…&known=…&sample=…&rate=…",
        ] {
            assert!(lines.iter().any(|line| line == expected), "{lines:#?}");
        }
    }
}
