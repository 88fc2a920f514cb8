//! Revocations: who is in the mesh no more, though his certificates have not expired.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use leno_certs::lineage::Origin;
use leno_certs::{CONTROL_PLANE_NAMESPACE, Lineage, SpiffeId};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::ToSchema;

use super::Shared;
use super::auth::Caller;
use super::body::{Wait, default_timeout};
use super::error::{ApiError, ErrorBody, blocking};
use super::extract::{Body, Segments};
use crate::ca::new_id;
use crate::model::audit::Actor;
use crate::model::{self, Name, Revocations, Target};

/// No leaf lives longer, so what was revoked with its leaves alone is of no use any more after that. Seconds.
const LEAVES_ARE_DEAD: i64 = 91 * 24 * 3600;
/// Longest reason, in characters.
const MOST_REASON: usize = 300;
/// Longest wait, in seconds.
const MOST_SECONDS: u64 = 600;

/// What to revoke: one of the three.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct Revoke {
    /// NAMESPACE/NAME of a workload: the sidecars that have registered under this name. Others of their identity stay.
    pub workload: Option<String>,
    /// A SPIFFE ID, or NAMESPACE/SERVICE-ACCOUNT: everybody of it.
    pub identity: Option<String>,
    /// The id of a join token that was not used yet.
    pub token: Option<String>,
    /// Why.
    pub reason: String,
    /// How long to wait at most until every sidecar has it in force, in seconds, 30 when it is absent; 0: do not wait.
    pub timeout_seconds: Option<u64>,
}

/// Why a revocation is taken back.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct Undo {
    /// Why.
    pub reason: String,
    /// As in a revocation.
    pub timeout_seconds: Option<u64>,
}

/// What a revocation did.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct Revoked {
    /// Null: it was a token, which no sidecar has to know of.
    pub revocation: Option<Revocation>,
    /// The revision that it is; null when it was revoked before, or was a token.
    pub revision: Option<u64>,
    /// Workloads whose sidecars had the name before and are alive under these now; they are not revoked.
    pub renamed: Vec<String>,
    /// How far it came.
    pub wait: Option<Wait>,
}

/// One revocation.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Revocation {
    pub id: String,
    /// `workload` or `identity`.
    pub kind: &'static str,
    /// NAMESPACE/NAME, or a SPIFFE ID.
    pub name: String,
    /// How many sidecars are told by their certificates; 0 for an identity.
    pub sidecars: usize,
    pub reason: String,
    pub by: String,
    /// RFC 3339.
    pub created: String,
    /// RFC 3339; null when it holds until it is undone.
    pub expires: Option<String>,
}

/// All revocations.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct List {
    pub revocations: Vec<Revocation>,
}

/// Revoke a workload, an identity or an unused join token.
#[utoipa::path(
    post, path = "/v1/revocations", tag = "revocations", request_body = Revoke,
    responses(
        (status = 200, description = "It is revoked, and every sidecar knows when the caller waited", body = Revoked),
        (status = 400, description = "The call is malformed", body = ErrorBody),
        (status = 401, description = "No bearer token, or a wrong one", body = ErrorBody),
        (status = 404, description = "There is no such workload or token", body = ErrorBody),
        (status = 504, description = "It is revoked, but some sidecar did not answer in time", body = Revoked),
        (status = 507, description = "There are too many revocations", body = ErrorBody),
    )
)]
pub(super) async fn revoke(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Body(call): Body<Revoke>,
) -> Result<Response, ApiError> {
    let reason: String = call.reason.chars().take(MOST_REASON).collect();
    let mut renamed = Vec::new();
    let target = match (&call.workload, &call.identity, &call.token) {
        (Some(name), None, None) => {
            let (target, others) = workload(&shared, name).await?;
            renamed = others;
            target
        }
        (None, Some(id), None) => Target::Identity(identity(&shared, id)?),
        (None, None, Some(id)) => return token(&shared, id, caller.actor).await,
        _ => {
            return Err(ApiError::bad_request(
                "exactly one of workload, identity and token is revoked by a call",
                "name one",
            ));
        }
    };
    let known = shared.parts.store.revocations().borrow().clone();
    if let Some(before) = covering(&known, &target) {
        let revocation = Some(Revocation::from(before));
        return Ok(Json(Revoked { revocation, renamed, ..Revoked::default() }).into_response());
    }
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let expires_unix = match &target {
        // Whoever joined by a secret still has it, so this has no end of its own.
        Target::Workload { lineages, .. } if lineages.iter().all(|l| l.origin == Origin::default()) => {
            Some(now + LEAVES_ARE_DEAD)
        }
        _ => None,
    };
    let (id, by) = (new_id(), caller.actor.name.clone());
    let revocation = model::Revocation { id, target, reason, by, created_unix: now, expires_unix };
    let revision = shared.parts.store.revoke(revocation.clone(), &caller.actor).await?;
    let done = Revoked { revocation: Some((&revocation).into()), revision: Some(revision), renamed, wait: None };
    Ok(answer(&shared, done, call.timeout_seconds).await)
}

/// Everything that is revoked.
#[utoipa::path(
    get, path = "/v1/revocations", tag = "revocations",
    responses(
        (status = 200, description = "The newest first", body = List),
        (status = 401, description = "No bearer token, or a wrong one", body = ErrorBody),
    )
)]
pub(super) async fn list(State(shared): State<Shared>) -> Json<List> {
    let all: Arc<Revocations> = shared.parts.store.revocations().borrow().clone();
    let mut all: Vec<&model::Revocation> = all.iter().collect();
    all.sort_by_key(|revocation| (std::cmp::Reverse(revocation.created_unix), &revocation.id));
    Json(List { revocations: all.into_iter().map(Revocation::from).collect() })
}

/// Take a revocation back.
#[utoipa::path(
    post, path = "/v1/revocations/{id}/undo", tag = "revocations", request_body = Undo,
    params(("id" = String, Path, description = "One of the list")),
    responses(
        (status = 200, description = "It is taken back", body = Revoked),
        (status = 401, description = "No bearer token, or a wrong one", body = ErrorBody),
        (status = 404, description = "There is no such revocation", body = ErrorBody),
        (status = 504, description = "It is taken back, but some sidecar did not answer in time", body = Revoked),
    )
)]
pub(super) async fn undo(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Segments(id): Segments<String>,
    Body(call): Body<Undo>,
) -> Result<Response, ApiError> {
    let reason: String = call.reason.chars().take(MOST_REASON).collect();
    let gone = shared.parts.store.revocations().borrow().get(&id).cloned();
    let revision = shared.parts.store.undo_revocation(&id, &caller.actor, &reason).await?;
    match (gone, revision) {
        (Some(gone), Some(revision)) => {
            let done = Revoked { revocation: Some((&gone).into()), revision: Some(revision), ..Revoked::default() };
            Ok(answer(&shared, done, call.timeout_seconds).await)
        }
        _ => Err(ApiError::not_found("there is no such revocation", "see `leno revoke list`")),
    }
}

async fn answer(shared: &Shared, mut done: Revoked, seconds: Option<u64>) -> Response {
    let revision = done.revision.unwrap_or_default();
    let seconds = seconds.unwrap_or_else(default_timeout).min(MOST_SECONDS);
    done.wait = match seconds {
        0 => None,
        most => Some(Wait::from(shared.parts.sessions.wait_for(revision, Duration::from_secs(most)).await)),
    };
    let late = done.wait.as_ref().is_some_and(|wait| !wait.missing.is_empty() || !wait.nacked.is_empty());
    let status = if late { StatusCode::GATEWAY_TIMEOUT } else { StatusCode::OK };
    (status, Json(done)).into_response()
}

/// A join token is made void; no sidecar has to be told.
async fn token(shared: &Shared, id: &str, actor: Actor) -> Result<Response, ApiError> {
    // Whoever has a token at hand may give all of it: its second part is the id.
    let id = id.split('.').nth(1).unwrap_or(id).to_ascii_lowercase();
    let store = shared.parts.store.clone();
    if blocking(move || Ok(store.revoke_token(&id, &actor)?)).await? {
        return Ok(Json(Revoked::default()).into_response());
    }
    Err(ApiError::not_found(
        "there is no join token of that id that could still be used",
        "see `leno token list`; what has joined by a token is revoked by `leno revoke workload` or `leno revoke identity`",
    ))
}

/// The sidecars that hold the name, and those that have held it. One of the latter that is alive under another name now is left alone where
/// the name is held: it may well be that it was only renamed. It is named instead. Where nobody holds the name it is who is meant.
async fn workload(shared: &Shared, text: &str) -> Result<(Target, Vec<String>), ApiError> {
    let Some((namespace, name)) = text.split_once('/').filter(|(ns, name)| !ns.is_empty() && !name.is_empty()) else {
        return Err(ApiError::bad_request("a workload is named NAMESPACE/NAME", "see `leno get workloads -A`"));
    };
    let name = Name::new(namespace, name);
    let held = shared.parts.registry.holders(&name);
    let nameless = held.iter().any(|workload| workload.lineage.is_none());
    let mut lineages: Vec<Lineage> = held.iter().filter_map(|workload| workload.lineage).collect();
    let (store, wanted) = (shared.parts.store.clone(), name.clone());
    let before = blocking(move || Ok(store.instances(&wanted)?)).await?;
    let live = shared.parts.registry.live();
    let mut renamed = Vec::new();
    for lineage in before.iter().filter_map(|record| record.lineage.parse::<Lineage>().ok()) {
        let elsewhere = live.values().find(|w| w.lineage == Some(lineage) && w.name != name);
        match elsewhere.filter(|_| !held.is_empty()) {
            Some(workload) => renamed.push(workload.name.to_string()),
            None => lineages.push(lineage),
        }
    }
    lineages.sort_unstable();
    lineages.dedup();
    if nameless {
        let message =
            format!("the certificate of the workload {name} is of an older version and does not tell it apart");
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            message,
            "revoke its identity, or wait until its certificate was renewed (half of its life)",
        ));
    }
    if lineages.is_empty() {
        let message = format!("no sidecar has registered as the workload {name}");
        return Err(ApiError::not_found(message, "see `leno status`; or revoke its identity"));
    }
    Ok((Target::Workload { name, lineages }, renamed))
}

fn identity(shared: &Shared, text: &str) -> Result<String, ApiError> {
    let domain = shared.parts.authority.trust_domain();
    let id = match text.split_once('/') {
        Some((namespace, account)) if !text.contains("://") => SpiffeId::new(domain, namespace, account),
        _ => SpiffeId::parse(text),
    };
    let id =
        id.map_err(|why| ApiError::bad_request(why.to_string(), "give a SPIFFE ID or NAMESPACE/SERVICE-ACCOUNT"))?;
    if id.trust_domain() != domain || id.namespace() == CONTROL_PLANE_NAMESPACE {
        let message = format!("{id} is none of this mesh's workloads");
        return Err(ApiError::bad_request(message, "only identities that workloads can have are revoked"));
    }
    Ok(id.to_string())
}

/// The revocation that says all of this already.
fn covering<'a>(known: &'a Revocations, target: &Target) -> Option<&'a model::Revocation> {
    known.iter().find(|revocation| match (&revocation.target, target) {
        (Target::Identity(known), Target::Identity(asked)) => known == asked,
        (Target::Workload { lineages: known, .. }, Target::Workload { lineages: asked, .. }) => {
            asked.iter().all(|lineage| known.contains(lineage))
        }
        _ => false,
    })
}

impl From<&model::Revocation> for Revocation {
    fn from(revocation: &model::Revocation) -> Self {
        let (kind, name, sidecars) = match &revocation.target {
            Target::Workload { name, lineages } => ("workload", name.to_string(), lineages.len()),
            Target::Identity(id) => ("identity", id.clone(), 0),
        };
        Self {
            id: revocation.id.clone(),
            kind,
            name,
            sidecars,
            reason: revocation.reason.clone(),
            by: revocation.by.clone(),
            created: rfc3339(revocation.created_unix),
            expires: revocation.expires_unix.map(rfc3339),
        }
    }
}

/// Seconds since 1970 as text.
pub(super) fn rfc3339(unix: i64) -> String {
    OffsetDateTime::from_unix_timestamp(unix).ok().and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
}
