//! The control plane and its sidecars at a glance.

use axum::Json;
use axum::extract::State;
use leno_certs::verify;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::body::{ControlPlane, Expiring, Federated, Sidecar, Status};
use super::error::ErrorBody;
use super::{Parts, Shared};
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
        state_bytes_free: parts.store.free_bytes(),
        uptime_seconds: shared.started.elapsed().as_secs(),
        time: OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default(),
    };
    let sidecars = parts.sessions.status().into_iter().map(Sidecar::from).collect();
    let problems = parts.problems.as_ref().map(|problems| problems.borrow().clone()).unwrap_or_default();
    let problems = problems.iter().take(MOST_PROBLEMS).cloned().collect();
    let soon = expiry::before(&parts.store.committed().mesh, OffsetDateTime::now_utc() + expiry::SOON);
    let expiring =
        soon.into_iter().map(|one| Expiring { what: one.what, expires: one.at.format(&Rfc3339).unwrap_or_default() });
    let expiring = expiring.collect();
    Json(Status { control_plane, sidecars, problems, expiring, federation: federated(&shared.parts) })
}

fn federated(parts: &Parts) -> Vec<Federated> {
    let known = parts.federation.known();
    let mesh = &parts.store.committed().mesh;
    let own = parts.authority.trust_domain();
    let one = |name: &String| {
        let domain = known.get(name);
        let roots = domain.map(|domain| &domain.roots[..]).unwrap_or_default();
        let expires = roots.iter().filter_map(|root| verify::not_after(root).ok()).max();
        let problem = match domain {
            _ if name == own => Some("it is called as our own trust domain".to_owned()),
            Some(domain) => domain.problem.clone(),
            None => None,
        };
        let when = |at: OffsetDateTime| at.format(&Rfc3339).unwrap_or_default();
        Federated {
            trust_domain: name.clone(),
            roots: roots.len(),
            fetched: domain.and_then(|domain| domain.fetched).map(when),
            expires: expires.map(when),
            problem,
        }
    };
    mesh.federated_trust_domains.keys().map(one).collect()
}
