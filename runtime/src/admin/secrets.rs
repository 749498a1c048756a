//! `GET /secrets`, `GET, PUT, DELETE /secrets/{name}`. No answer holds a value, nor does an error say what was in a body.
//!
//! `PUT` takes `{"value": TEXT, "allow": [MODULE, …], "only": true}`, each optional: a value is set, modules are allowed in addition
//! or, with `only`, instead of those that were. `DELETE` is refused while somebody refers to the secret, but for `?force=true`.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::error::ApiError;
use super::request::{self, By, Params};
use crate::handle::{Allow, Handle};
use crate::view::SecretView;

/// Every secret, without its value.
#[utoipa::path(get, path = "/secrets", tag = "secrets", responses((status = 200, body = Vec<SecretView>)))]
pub(super) async fn list(State(handle): State<Handle>) -> Result<Json<Vec<SecretView>>, ApiError> {
    Ok(Json(handle.secrets().await?))
}

/// One secret, without its value.
#[utoipa::path(get, path = "/secrets/{name}", tag = "secrets", responses((status = 200, body = SecretView)))]
pub(super) async fn show(State(handle): State<Handle>, Path(name): Path<String>) -> Result<Json<SecretView>, ApiError> {
    Ok(Json(handle.secret(&name).await?))
}

/// Gives a secret a value, says which modules may have it, or both. Modules that refer to it are told.
#[utoipa::path(
    put, path = "/secrets/{name}", tag = "secrets", request_body = SecretRequest,
    responses((status = 200, body = SecretView), (status = 409))
)]
pub(super) async fn put(
    State(handle): State<Handle>,
    Path(name): Path<String>,
    by: By,
    body: Body,
) -> Result<Json<SecretView>, ApiError> {
    let (value, allow) = read(request::json_unquoted(body).await?)?;
    Ok(Json(handle.secret_set(&name, value, allow, &by.0).await?))
}

/// Removes a secret.
#[utoipa::path(
    delete, path = "/secrets/{name}", tag = "secrets",
    params(("force" = Option<bool>, Query, description = "Also while somebody refers to it")),
    responses((status = 200, body = SecretView), (status = 409))
)]
pub(super) async fn remove(
    State(handle): State<Handle>,
    Path(name): Path<String>,
    params: Params,
    by: By,
) -> Result<Json<SecretView>, ApiError> {
    Ok(Json(handle.secret_remove(&name, params.is_set("force"), &by.0).await?))
}

/// What `PUT` takes. For the document only: the body is read by hand, so that no error repeats what was in it.
#[derive(utoipa::ToSchema)]
#[allow(dead_code)]
pub(super) struct SecretRequest {
    /// Its value: 1 to 4096 bytes.
    value: Option<String>,
    /// Modules that may have it; `*`: every one that names it.
    allow: Option<Vec<String>>,
    /// These and no others; otherwise in addition to those that may already.
    only: Option<bool>,
}

fn read(body: Map<String, Value>) -> Result<(Option<Zeroizing<String>>, Allow), ApiError> {
    let (mut value, mut allow) = (None, Allow::default());
    let mut problems = Vec::new();
    for (key, member) in body {
        match (key.as_str(), member) {
            ("value", Value::String(text)) => value = Some(Zeroizing::new(text)),
            ("value", _) => problems.push("value: expected a text".to_owned()),
            ("allow", Value::Array(modules)) if modules.iter().all(Value::is_string) => {
                allow.modules = modules.iter().filter_map(Value::as_str).map(str::to_owned).collect();
            }
            ("allow", _) => problems.push("allow: expected a list of names of modules".to_owned()),
            ("only", Value::Bool(only)) => allow.only = only,
            ("only", _) => problems.push("only: expected true or false".to_owned()),
            // The key itself may be a value that somebody has put in the wrong place.
            _ => problems.push("a member is none of value, allow, only".to_owned()),
        }
    }
    if problems.is_empty() {
        return Ok((value, allow));
    }
    let hint = r#"write {"value": "…", "allow": ["MODULE"], "only": false}; each may be left out"#;
    Err(ApiError::invalid("the secret cannot be read").hint(hint).details(problems))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn errors_about_a_body_do_not_repeat_it() {
        let body = json!({"value": 4711, "allow": "hunter2", "only": "hunter2", "hunter2": 1});
        let refused = format!("{:?}", read(body.as_object().unwrap().clone()).unwrap_err());
        assert!(!refused.contains("hunter2") && !refused.contains("4711"), "{refused}");
        assert!(refused.contains("value: expected a text"), "{refused}");

        let (value, allow) = read(json!({"value": "v", "allow": ["a"]}).as_object().unwrap().clone()).unwrap();
        assert_eq!((value.unwrap().as_str(), allow.modules, allow.only), ("v", vec!["a".to_owned()], false));
    }
}
