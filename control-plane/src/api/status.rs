//! The control plane and its sidecars at a glance.

use axum::Json;
use axum::extract::State;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Shared;
use super::body::{ControlPlane, Expiring, Sidecar, Status};
use super::error::ErrorBody;
use crate::model::expiry;

/// Most problems of one answer: the log has them all.
const MOST_PROBLEMS: usize = 100;

/// The control plane, and each sidecar with what it holds.
#[utoipa::path(
    get, path = "/v1/status", tag = "status",
    responses(
        (status = 200, description = "Sorted by workload", body = Status),
        (status = 401, description = "No bearer token, or a wrong one", body = ErrorBody),
    )
)]
pub(super) async fn status(State(shared): State<Shared>) -> Json<Status> {
    let parts = &shared.parts;
    let control_plane = ControlPlane {
        version: env!("CARGO_PKG_VERSION"),
        trust_domain: parts.authority.trust_domain().to_owned(),
        revision: parts.store.committed().revision,
        root_expires: parts.authority.root_not_after().format(&Rfc3339).unwrap_or_default(),
        root_hash: hex::encode(parts.authority.trust_bundle().root_hash()),
        uptime_seconds: shared.started.elapsed().as_secs(),
        time: OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default(),
    };
    let sidecars = parts.sessions.status().into_iter().map(Sidecar::from).collect();
    let problems = parts.problems.as_ref().map(|problems| problems.borrow().clone()).unwrap_or_default();
    let problems = problems.iter().take(MOST_PROBLEMS).cloned().collect();
    let soon = expiry::before(&parts.store.committed().mesh, OffsetDateTime::now_utc() + expiry::SOON);
    let expiring =
        soon.into_iter().map(|one| Expiring { what: one.what, expires: one.at.format(&Rfc3339).unwrap_or_default() });
    Json(Status { control_plane, sidecars, problems, expiring: expiring.collect() })
}
