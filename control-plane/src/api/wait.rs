//! Waiting for the sidecars, and what the answer's status says of it.

use std::time::Duration;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::Shared;
use super::body::{Change, Outcome, Wait};
use crate::config::Problem;
use crate::store::Applied;

/// Longest wait, in seconds: a call must end while its caller still remembers it.
const MOST_SECONDS: u64 = 600;

/// The answer to a change. What was refused comes first, since the caller has to mend that; then who refused the
/// revision, then who has not answered.
pub(super) async fn answer(shared: &Shared, applied: Applied, problems: Vec<Problem>, wait: Option<u64>) -> Response {
    let wait = match wait {
        None => None,
        Some(seconds) => {
            let most = Duration::from_secs(seconds.min(MOST_SECONDS));
            Some(Wait::from(shared.parts.sessions.wait_for(applied.revision, most).await))
        }
    };
    let status = if problems.iter().any(Problem::is_error) {
        StatusCode::UNPROCESSABLE_ENTITY
    } else if wait.as_ref().is_some_and(|wait| !wait.nacked.is_empty()) {
        StatusCode::CONFLICT
    } else if wait.as_ref().is_some_and(|wait| !wait.missing.is_empty()) {
        StatusCode::GATEWAY_TIMEOUT
    } else {
        StatusCode::OK
    };
    let changes = applied.changes.into_iter().map(Change::from).collect();
    (status, Json(Outcome { revision: applied.revision, changes, problems, wait })).into_response()
}
