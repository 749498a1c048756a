//! `POST /devices/query`: a query over twins, as in IoT Hub's service API.
//!
//! ```text
//! {"query": "SELECT * FROM devices.modules WHERE properties.reported.limit > 3"}
//! x-ms-max-item-count: 100            1 to 1000; a page may have fewer
//! x-ms-continuation: …                of the page before
//! → [ … ]
//! x-ms-item-type: twin | raw          whole twins, or what was selected of them
//! x-ms-continuation: …                where there is more
//! ```

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::ToSchema;

use super::error::ApiError;
use super::error::iot_hub::HubCode;
use super::request;
use crate::handle::Handle;

const MAX_ITEM_COUNT: HeaderName = HeaderName::from_static("x-ms-max-item-count");
const CONTINUATION: HeaderName = HeaderName::from_static("x-ms-continuation");
const ITEM_TYPE: HeaderName = HeaderName::from_static("x-ms-item-type");
/// Rows of a page.
const DEFAULT_ITEMS: usize = 100;
const MAX_ITEMS: usize = 1000;

#[derive(Deserialize, ToSchema)]
pub(super) struct QueryDocument {
    /// `SELECT * | COUNT() | fields FROM devices | devices.modules [WHERE …]`.
    query: String,
}

/// Some of what a query over twins finds, and where the rest begins.
#[utoipa::path(
    post, path = "/devices/query", tag = "twins",
    params(
        ("x-ms-max-item-count" = Option<u32>, Header, description = "Rows of a page: 1 to 1000, 100 unless told"),
        ("x-ms-continuation" = Option<String>, Header, description = "What the page before gave")
    ),
    request_body = QueryDocument,
    responses((
        status = 200, body = Vec<Object>,
        headers(
            ("x-ms-item-type" = String, description = "`twin` for whole twins, else `raw`"),
            ("x-ms-continuation" = String, description = "What to ask the next page with, where there is one")
        )
    ))
)]
pub(super) async fn twins(State(handle): State<Handle>, headers: HeaderMap, body: Body) -> Result<Response, ApiError> {
    let QueryDocument { query } = request::object(body).await?;
    let text = |name: &HeaderName| -> Result<Option<String>, ApiError> {
        let Some(value) = headers.get(name) else { return Ok(None) };
        let text = value.to_str().map_err(|_| ApiError::invalid(format!("{name} is not text")))?.trim();
        Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
    };
    let max_items = items(text(&MAX_ITEM_COUNT)?.as_deref())?;
    let page = handle.query(&query, max_items, text(&CONTINUATION)?.as_deref()).await?;
    let mut response = page.body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    headers.insert(ITEM_TYPE, HeaderValue::from_static(if page.has_twins { "twin" } else { "raw" }));
    // Of letters, digits, - and _ only.
    if let Some(continuation) = page.continuation.and_then(|token| HeaderValue::try_from(token).ok()) {
        headers.insert(CONTINUATION, continuation);
    }
    Ok(response)
}

fn items(text: Option<&str>) -> Result<usize, ApiError> {
    let Some(text) = text else { return Ok(DEFAULT_ITEMS) };
    match text.parse() {
        Ok(count) if (1..=MAX_ITEMS).contains(&count) => Ok(count),
        _ => Err(ApiError::invalid(format!("{MAX_ITEM_COUNT}: {text} is not a number from 1 to {MAX_ITEMS}"))
            .hint("ask for smaller pages, and for the next one with x-ms-continuation")
            .iot_hub(&HubCode::INVALID_RESULT_COUNT)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_1_to_1000_rows() {
        assert_eq!(items(None).unwrap(), 100);
        assert_eq!((items(Some("1")).unwrap(), items(Some("1000")).unwrap()), (1, 1000));
        for text in ["0", "1001", "-1", "many", "99999999999999999999"] {
            assert!(items(Some(text)).is_err(), "{text}");
        }
    }
}
