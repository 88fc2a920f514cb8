//! The log of revisions, and going back.

use axum::extract::State;
use axum::response::Response;
use axum::{Extension, Json};
use serde::Deserialize;

use super::Shared;
use super::auth::Caller;
use super::body::{History, Outcome, Revision, Waiting, default_timeout};
use super::error::{ApiError, ErrorBody, blocking};
use super::extract::{Body, Params, Segments};
use super::wait;

/// Most revisions of one answer.
const MOST: usize = 1_000;

/// How many.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Limit {
    /// At most 1000.
    limit: usize,
}

impl Default for Limit {
    fn default() -> Self {
        Self { limit: 50 }
    }
}

/// Who changed what, newest first.
#[utoipa::path(
    get, path = "/v1/history", tag = "history", params(Limit),
    responses(
        (status = 200, description = "The newest revisions", body = History),
        (status = 401, description = "No bearer token, or a wrong one", body = ErrorBody),
    )
)]
pub(super) async fn history(
    State(shared): State<Shared>,
    Params(Limit { limit }): Params<Limit>,
) -> Result<Json<History>, ApiError> {
    let store = shared.parts.store.clone();
    let revisions = blocking(move || Ok(store.history(limit.min(MOST))?)).await?;
    Ok(Json(History { revisions: revisions.into_iter().map(Revision::from).collect() }))
}

/// Make the objects what they were at a revision. This is a new revision.
#[utoipa::path(
    post, path = "/v1/rollback/{revision}", tag = "history", request_body = Waiting,
    params(("revision" = u64, Path, description = "One of the history")),
    responses(
        (status = 200, description = "It is done, and in force everywhere when the caller waited", body = Outcome),
        (status = 401, description = "No bearer token, or a wrong one", body = ErrorBody),
        (status = 404, description = "There is no such revision", body = ErrorBody),
        (status = 409, description = "Done, but a sidecar refused it", body = Outcome),
        (status = 422, description = "An object of then is not valid in this version; nothing was changed", body = ErrorBody),
        (status = 504, description = "Done, but some sidecar did not answer in time", body = Outcome),
    )
)]
pub(super) async fn rollback(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Segments(revision): Segments<u64>,
    Body(waiting): Body<Waiting>,
) -> Result<Response, ApiError> {
    let applied = shared.parts.store.rollback(revision, &caller.actor).await?;
    let seconds = waiting.wait.then(|| waiting.timeout_seconds.unwrap_or_else(default_timeout));
    Ok(wait::answer(&shared, applied, Vec::new(), seconds).await)
}
