//! Join tokens.

use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use leno_certs::SpiffeId;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::ToSchema;

use super::Shared;
use super::auth::Caller;
use super::body::{Token, TokenRequest};
use super::error::{ApiError, ErrorBody, blocking};
use super::extract::Body;
use super::revocations::rfc3339;
use crate::ca::TokenError;
use crate::store::TokenRecord;
use crate::validate::{is_dns_label, is_dns_subdomain};

/// Make a join token: good once, for one identity, for a while.
#[utoipa::path(
    post, path = "/v1/tokens", tag = "tokens", request_body = TokenRequest,
    responses(
        (status = 200, description = "The token; it is shown this once", body = Token),
        (status = 400, description = "The identity or the time is not possible", body = ErrorBody),
        (status = 401, description = "No bearer token, or a wrong one", body = ErrorBody),
        (status = 507, description = "There are too many tokens that are not over", body = ErrorBody),
    )
)]
pub(super) async fn create(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Body(call): Body<TokenRequest>,
) -> Result<Response, ApiError> {
    if !is_dns_label(&call.namespace) || !is_dns_subdomain(&call.service_account) {
        let message = format!("{:?} in {:?} is no service account", clip(&call.service_account), clip(&call.namespace));
        return Err(ApiError::bad_request(message, "write names of a-z, 0-9 and -"));
    }
    let authority = shared.parts.authority.clone();
    let id = SpiffeId::new(authority.trust_domain(), &call.namespace, &call.service_account)
        .map_err(|error| ApiError::bad_request(error.to_string(), "use other names"))?;
    let (ttl, bound_to) = (Duration::from_secs(call.ttl_seconds), id.to_string());
    let made = blocking(move || {
        authority.create_token(&id, ttl, OffsetDateTime::now_utc(), &caller.actor).map_err(|error| match error {
            TokenError::Store(error) => error.into(),
            other => ApiError::bad_request(other.to_string(), "change the request"),
        })
    })
    .await?;
    let expires = made.expires.format(&Rfc3339).unwrap_or_default();
    let token = Token { id: made.id, token: made.token.to_string(), identity: bound_to, expires };
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(token)).into_response())
}

/// A join token as it is kept, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Kept {
    id: String,
    /// The SPIFFE ID that it is bound to.
    identity: String,
    /// `unused`, `used`, `revoked` or `expired`.
    state: &'static str,
    /// RFC 3339.
    created: String,
    /// RFC 3339.
    expires: String,
}

/// Join tokens.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Tokens {
    tokens: Vec<Kept>,
}

/// The join tokens that are remembered, used and expired ones included, without their secrets.
#[utoipa::path(
    get, path = "/v1/tokens", tag = "tokens",
    responses(
        (status = 200, description = "The newest first", body = Tokens),
        (status = 401, description = "No bearer token, or a wrong one", body = ErrorBody),
    )
)]
pub(super) async fn list(State(shared): State<Shared>) -> Result<Json<Tokens>, ApiError> {
    let store = shared.parts.store.clone();
    let mut all = blocking(move || Ok(store.tokens()?)).await?;
    all.sort_by_key(|(_, record)| std::cmp::Reverse(record.created_unix));
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let kept = |(id, record): (String, TokenRecord)| Kept {
        id,
        state: match () {
            () if record.used => "used",
            () if record.revoked => "revoked",
            () if record.expires_unix <= now => "expired",
            () => "unused",
        },
        identity: record.identity,
        created: rfc3339(record.created_unix),
        expires: rfc3339(record.expires_unix),
    };
    Ok(Json(Tokens { tokens: all.into_iter().map(kept).collect() }))
}

fn clip(text: &str) -> String {
    text.chars().take(80).collect()
}
