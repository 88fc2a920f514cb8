//! The certificate authority: what signs, and its rotation.

use std::path::PathBuf;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use leno_certs::Zeroizing;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Shared;
use super::auth::Caller;
use super::error::{ApiError, ErrorBody};
use super::extract::Body;
use crate::ca::{Import, KeyAt, RotationError, Start, View};

/// Longest time after which a step may be forced, in seconds.
const MOST_FORCE_AFTER: u64 = 30 * 24 * 3600;

/// The authority, and who its rotation waits for.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Authority {
    #[serde(flatten)]
    pub view: View,
    /// Sidecars that have not done this step.
    pub missing: Vec<String>,
    /// The newest revision.
    pub revision: u64,
}

/// What comes next. Without certificates a new root is made.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Rotate {
    /// The operator's own authority, PEM: the certificate whose key signs first, the root last.
    pub certificates: Option<String>,
    /// Its key, PKCS#8, PEM.
    pub key: Option<String>,
    /// Or the path of the Unix socket of who holds the key.
    pub signer: Option<String>,
    /// Seconds after which a step no longer waits for who is missing.
    pub force_after_seconds: Option<u64>,
    /// The old key is in wrong hands: nothing that it vouches for is believed in the end, and who is away has to join anew.
    #[serde(default)]
    pub compromised: bool,
}

/// How to go on.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct Advance {
    /// Go on to the next step whoever is missing.
    pub force: bool,
    /// Hold the rotation where it is.
    pub pause: bool,
}

/// Show the authority and its rotation.
#[utoipa::path(
    get, path = "/v1/ca", tag = "ca",
    responses(
        (status = 200, description = "What signs, and how far a rotation is", body = Authority),
        (status = 401, description = "No bearer token, or a wrong one", body = ErrorBody),
    )
)]
pub(super) async fn show(State(shared): State<Shared>) -> Json<Authority> {
    Json(authority(&shared))
}

/// Begin a rotation, or import an authority.
#[utoipa::path(
    post, path = "/v1/ca/rotation", tag = "ca", request_body = Rotate,
    responses(
        (status = 200, description = "The next root is made known", body = Authority),
        (status = 400, description = "The authority cannot be taken", body = ErrorBody),
        (status = 401, description = "No bearer token, or a wrong one", body = ErrorBody),
        (status = 409, description = "One is under way", body = ErrorBody),
    )
)]
pub(super) async fn rotate(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Body(call): Body<Rotate>,
) -> Result<Json<Authority>, ApiError> {
    let import = match (call.certificates, call.key.map(Zeroizing::new), call.signer.map(PathBuf::from)) {
        (None, None, None) => None,
        (Some(chain), Some(key), None) => Some(Import { chain, key: KeyAt::Here(key) }),
        (Some(chain), None, Some(socket)) => Some(Import { chain, key: KeyAt::Signer(socket) }),
        _ => {
            let what = "an import needs certificates, and either their key or the socket of a signer";
            return Err(ApiError::bad_request(what, "see `leno ca import --help`"));
        }
    };
    let force_after = call.force_after_seconds.map(|seconds| seconds.min(MOST_FORCE_AFTER));
    let start = Start { import, force_after, compromised: call.compromised };
    shared.parts.authority.begin_rotation(start, &caller.actor).await.map_err(refused)?;
    Ok(Json(authority(&shared)))
}

/// Hold a rotation, let it go on, or force its next step.
#[utoipa::path(
    post, path = "/v1/ca/rotation/advance", tag = "ca", request_body = Advance,
    responses(
        (status = 200, description = "It is held, goes on, or has gone on", body = Authority),
        (status = 401, description = "No bearer token, or a wrong one", body = ErrorBody),
        (status = 409, description = "None is under way", body = ErrorBody),
    )
)]
pub(super) async fn advance(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Body(call): Body<Advance>,
) -> Result<Json<Authority>, ApiError> {
    let authority_of = &shared.parts.authority;
    let done = match call {
        Advance { force: true, pause: false } => {
            let missing = shared.parts.sessions.behind(&authority_of.step());
            let (phase, ..) = authority_of.progress(time::OffsetDateTime::now_utc());
            authority_of.advance(phase, &missing, &caller.actor).await
        }
        Advance { force: false, pause } => authority_of.hold(pause, &caller.actor).await,
        Advance { force: true, pause: true } => {
            return Err(ApiError::bad_request("it can be held or forced, not both", "leave out one of them"));
        }
    };
    done.map_err(refused)?;
    Ok(Json(authority(&shared)))
}

/// Take a rotation back.
#[utoipa::path(
    delete, path = "/v1/ca/rotation", tag = "ca",
    responses(
        (status = 200, description = "The authority of before stays, or signs again", body = Authority),
        (status = 401, description = "No bearer token, or a wrong one", body = ErrorBody),
        (status = 409, description = "None is under way", body = ErrorBody),
    )
)]
pub(super) async fn abort(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Authority>, ApiError> {
    shared.parts.authority.abort_rotation(&caller.actor).await.map_err(refused)?;
    Ok(Json(authority(&shared)))
}

fn authority(shared: &Shared) -> Authority {
    let parts = &shared.parts;
    let (view, missing) = (parts.authority.view(), parts.sessions.behind(&parts.authority.step()));
    Authority { view, missing, revision: parts.store.committed().revision }
}

fn refused(why: RotationError) -> ApiError {
    match why {
        RotationError::UnderWay(phase) => ApiError::new(
            StatusCode::CONFLICT,
            format!("a rotation is under way ({})", phase.as_str()),
            "see `leno ca status`; `leno ca continue` goes on with it and `leno ca abort` takes it back",
        ),
        RotationError::Idle => ApiError::new(
            StatusCode::CONFLICT,
            "no rotation is under way".to_owned(),
            "begin one with `leno ca rotate`",
        ),
        RotationError::Unfit(why) => ApiError::bad_request(
            format!("the authority cannot be taken: {why}"),
            "give the certificate whose key signs first, then those above it, the root last",
        ),
        RotationError::Failed(why) => {
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, why, "nothing has changed; see the control plane's log")
        }
        RotationError::Store(why) => why.into(),
    }
}
