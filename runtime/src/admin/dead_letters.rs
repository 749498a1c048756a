//! `GET /deadLetters`, `GET /deadLetters/{id}`, `POST /deadLetters/resend` and `POST /deadLetters/purge`.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};

use super::error::ApiError;
use super::request::{self, Params};
use crate::handle::Handle;
use crate::view::{DeadLetterChoice, DeadLetterView, DeadLettersMoved, DeadLettersView};

/// A page unless told.
const PAGE: u32 = 100;

/// Messages that were set aside, the oldest first, a page at a time.
#[utoipa::path(
    get, path = "/deadLetters", tag = "deadLetters",
    params(
        ("name" = Option<String>, Query, description = "Only those for this module or endpoint"),
        ("olderThanSecs" = Option<u64>, Query, description = "Only those that were set aside at least so long ago"),
        ("after" = Option<i64>, Query, description = "Only those behind this id: `next` of the page before"),
        ("limit" = Option<u32>, Query, description = "Most of one page; 100 unless told, 1000 at most")
    ),
    responses((status = 200, body = DeadLettersView))
)]
pub(super) async fn list(State(handle): State<Handle>, params: Params) -> Result<Json<DeadLettersView>, ApiError> {
    let choice = DeadLetterChoice {
        name: params.text("name").filter(|name| !name.is_empty()).map(str::to_owned),
        older_than_secs: params.number("olderThanSecs")?,
        ..DeadLetterChoice::default()
    };
    // Ids may lie below 0.
    let after = params.text("after").map_or(Ok(0), |text| {
        text.parse().map_err(|_| ApiError::invalid(format!("after={text} is no id of a dead letter: ids are numbers")))
    })?;
    let limit = params.number("limit")?.map_or(PAGE, |limit| u32::try_from(limit).unwrap_or(u32::MAX));
    Ok(Json(handle.dead_letters(&choice, after, limit).await?))
}

/// One message that was set aside, with its properties and body.
#[utoipa::path(
    get, path = "/deadLetters/{id}", tag = "deadLetters",
    responses((status = 200, body = DeadLetterView))
)]
pub(super) async fn show(
    State(handle): State<Handle>,
    Path(id): Path<String>,
) -> Result<Json<DeadLetterView>, ApiError> {
    let number =
        id.parse().map_err(|_| ApiError::invalid(format!("'{id}' is no id of a dead letter: ids are numbers")))?;
    Ok(Json(handle.dead_letter(number).await?))
}

/// Puts dead letters back into their queues.
#[utoipa::path(
    post, path = "/deadLetters/resend", tag = "deadLetters",
    request_body = DeadLetterChoice,
    responses((status = 200, body = DeadLettersMoved), (status = 404))
)]
pub(super) async fn resend(State(handle): State<Handle>, body: Body) -> Result<Json<DeadLettersMoved>, ApiError> {
    let choice: DeadLetterChoice = request::object(body).await?;
    Ok(Json(handle.dead_letters_resend(&choice).await?))
}

/// Discards dead letters; the ledger then has them as purged.
#[utoipa::path(
    post, path = "/deadLetters/purge", tag = "deadLetters",
    request_body = DeadLetterChoice,
    responses((status = 200, body = DeadLettersMoved), (status = 404))
)]
pub(super) async fn purge(State(handle): State<Handle>, body: Body) -> Result<Json<DeadLettersMoved>, ApiError> {
    let choice: DeadLetterChoice = request::object(body).await?;
    Ok(Json(handle.dead_letters_purge(&choice).await?))
}
