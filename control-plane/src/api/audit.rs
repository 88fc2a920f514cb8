//! The audit log, to be read and verified by whoever calls.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Shared;
use super::error::{ApiError, ErrorBody, blocking};
use super::extract::Params;

/// Which entries.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Those after this number, oldest first; absent: the newest.
    after: Option<u64>,
    /// At most 5000; 1000 when it is absent.
    limit: Option<usize>,
}

/// Entries, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Page {
    /// Each with `seq`, `time`, `actor`, `role`, `address`, `action`, `what`, `revision`, `result`, `detail`, `previous` and `hash`.
    entries: Vec<serde_json::Value>,
    /// `seq` and `hash` of the newest entry.
    head: serde_json::Value,
}

/// Who changed what, from where, and what came of it: a chain of hashes.
#[utoipa::path(
    get, path = "/v1/audit", tag = "audit", params(Which),
    responses(
        (status = 200, description = "The entries asked for", body = Page),
        (status = 401, description = "No bearer token, or a wrong one", body = ErrorBody),
        (status = 403, description = "It needs the role admin", body = ErrorBody),
    )
)]
pub(super) async fn list(
    State(shared): State<Shared>,
    Params(Which { after, limit }): Params<Which>,
) -> Result<Json<Page>, ApiError> {
    let store = shared.parts.store.clone();
    let page = blocking(move || Ok(store.audit(after, limit.unwrap_or(1_000))?)).await?;
    let value = |text: Result<serde_json::Value, serde_json::Error>| text.unwrap_or_default();
    let entries = page.entries.iter().map(|entry| value(serde_json::to_value(entry))).collect();
    Ok(Json(Page { entries, head: value(serde_json::to_value(&page.head)) }))
}
