//! Users: who else may call, as what, and until when.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::Shared;
use super::auth::{ADMIN, Caller};
use super::error::{ApiError, ErrorBody, blocking};
use super::extract::{Body, Segments};
use super::revocations::rfc3339;
use crate::ca::UserToken;
use crate::model::Role;
use crate::store::UserRecord;
use crate::validate::is_dns_subdomain;

/// Longest life of a user, in seconds: ten years.
const MOST_TTL: u64 = 10 * 365 * 24 * 3600;

/// A new user.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NewUser {
    pub name: String,
    /// `viewer`, `operator` or `admin`.
    pub role: String,
    /// How long the user may call; absent: until it is revoked.
    pub ttl_seconds: Option<u64>,
}

/// What a new user calls with. It is shown this once.
#[derive(Serialize, ToSchema)]
pub(super) struct Credential {
    pub id: String,
    pub name: String,
    pub role: String,
    pub token: String,
    /// RFC 3339; null: until it is revoked.
    pub expires: Option<String>,
}

/// A user, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct User {
    id: String,
    name: String,
    role: String,
    by: String,
    /// RFC 3339.
    created: String,
    /// RFC 3339; null: until it is revoked.
    expires: Option<String>,
    /// Its time is over.
    expired: bool,
}

/// All users.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Users {
    users: Vec<User>,
}

/// Why a user is revoked.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Because {
    /// May be empty.
    reason: String,
}

/// Make a user with a role.
#[utoipa::path(
    post, path = "/v1/users", tag = "users", request_body = NewUser,
    responses(
        (status = 200, description = "The user; its token is shown this once", body = Credential),
        (status = 400, description = "The name, the role or the time is not possible", body = ErrorBody),
        (status = 401, description = "No bearer token, or a wrong one", body = ErrorBody),
        (status = 403, description = "It needs the role admin", body = ErrorBody),
        (status = 409, description = "There is a user of that name", body = ErrorBody),
        (status = 507, description = "There are too many users", body = ErrorBody),
    )
)]
pub(super) async fn create(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Body(call): Body<NewUser>,
) -> Result<Response, ApiError> {
    if !is_dns_subdomain(&call.name) || call.name == ADMIN {
        let name: String = call.name.chars().take(80).collect();
        return Err(ApiError::bad_request(format!("{name:?} is no name for a user"), "use a-z, 0-9, '-' and '.'"));
    }
    let role: Role = call.role.parse().map_err(|why: String| ApiError::bad_request(why, "see docs/security.md"))?;
    if call.ttl_seconds.is_some_and(|ttl| ttl == 0 || ttl > MOST_TTL) {
        return Err(ApiError::bad_request("a user lives between 1 second and ten years", "give another --ttl"));
    }
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let expires_unix = call.ttl_seconds.and_then(|ttl| now.checked_add_unsigned(ttl));
    let token = UserToken::new();
    let record = UserRecord {
        name: call.name.clone(),
        role,
        secret_sha256: token.secret_sha256(),
        by: caller.actor.name.clone(),
        created_unix: now,
        expires_unix,
    };
    if !shared.parts.store.insert_user(token.id.clone(), record, &caller.actor).await? {
        let message = format!("there is a user {} already", call.name);
        return Err(ApiError::new(StatusCode::CONFLICT, message, "revoke that one, or choose another name"));
    }
    let credential = Credential {
        id: token.id.clone(),
        name: call.name,
        role: role.to_string(),
        token: token.to_text().to_string(),
        expires: expires_unix.map(rfc3339),
    };
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(credential)).into_response())
}

/// All users, without their secrets.
#[utoipa::path(
    get, path = "/v1/users", tag = "users",
    responses(
        (status = 200, description = "By name", body = Users),
        (status = 401, description = "No bearer token, or a wrong one", body = ErrorBody),
        (status = 403, description = "It needs the role admin", body = ErrorBody),
    )
)]
pub(super) async fn list(State(shared): State<Shared>) -> Result<Json<Users>, ApiError> {
    let store = shared.parts.store.clone();
    let mut all = blocking(move || Ok(store.users()?)).await?;
    all.sort_by(|a, b| a.1.name.cmp(&b.1.name));
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let user = |(id, record): (String, UserRecord)| User {
        id,
        expired: record.is_over(now),
        name: record.name,
        role: record.role.to_string(),
        by: record.by,
        created: rfc3339(record.created_unix),
        expires: record.expires_unix.map(rfc3339),
    };
    Ok(Json(Users { users: all.into_iter().map(user).collect() }))
}

/// Revoke a user: its next call is refused.
#[utoipa::path(
    post, path = "/v1/users/{name}/revoke", tag = "users", request_body = Because,
    params(("name" = String, Path, description = "One of the list")),
    responses(
        (status = 200, description = "It may call no more", body = serde_json::Value),
        (status = 401, description = "No bearer token, or a wrong one", body = ErrorBody),
        (status = 403, description = "It needs the role admin", body = ErrorBody),
        (status = 404, description = "There is no such user", body = ErrorBody),
    )
)]
pub(super) async fn revoke(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Segments(name): Segments<String>,
    Body(Because { reason }): Body<Because>,
) -> Result<Json<serde_json::Value>, ApiError> {
    if shared.parts.store.remove_user(&name, &reason, &caller.actor).await? {
        return Ok(Json(serde_json::json!({"name": name, "revoked": true})));
    }
    Err(ApiError::not_found("there is no such user", "see `leno user list`"))
}
