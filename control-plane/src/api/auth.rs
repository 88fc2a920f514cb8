//! Who calls, and whether the call is his to make. A caller shows a bearer token (RFC 6750, in the header only): the administrator's of
//! `admin.yaml`, or one of a user (`leno user create`).

use std::net::SocketAddr;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use time::OffsetDateTime;

use super::Shared;
use super::error::{ApiError, blocking};
use super::roles;
use crate::ca::UserToken;
use crate::model::Role;
use crate::model::audit::{Actor, Event};

/// The name of whoever shows the token of `admin.yaml`; no user can have it.
pub(super) const ADMIN: &str = "admin";

/// From where a request comes, as the accept loop saw it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Address(pub(super) SocketAddr);

/// Who has called.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) actor: Actor,
    pub(super) role: Role,
}

impl Caller {
    /// What is in Secrets is for those who may write it.
    pub(super) fn may_reveal(&self, reveal: bool) -> Result<(), ApiError> {
        if reveal && self.role < Role::Operator { Err(forbidden(self, Role::Operator)) } else { Ok(()) }
    }
}

pub(super) async fn require(State(shared): State<Shared>, mut request: Request, next: Next) -> Response {
    let address = request.extensions().get::<Address>().map(|address| address.0.to_string()).unwrap_or_default();
    let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = shown.and_then(|text| text.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let token = token.map(|(_, token)| token.trim().to_owned());
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned()).unwrap_or_default();
    let (method, action) = (request.method().clone(), format!("{} {route}", request.method()));
    let caller = match who(&shared, token.as_deref(), &address).await {
        Ok(Some(caller)) => caller,
        Ok(None) => {
            let actor = Actor { address, ..Actor::default() };
            refused(&shared, actor, action, StatusCode::UNAUTHORIZED);
            return unauthorized(token.is_some());
        }
        Err(error) => return error.into_response(),
    };
    let needed = roles::least(&method, &route);
    if caller.role < needed {
        refused(&shared, caller.actor.clone(), action, StatusCode::FORBIDDEN);
        return forbidden(&caller, needed).into_response();
    }
    let actor = caller.actor.clone();
    request.extensions_mut().insert(caller);
    let response = next.run(request).await;
    // What changed something has an entry of its own. A write that did not come so far is noted here.
    let status = response.status();
    let writes = method != Method::GET && method != Method::HEAD && route != "/v1/validate";
    if writes && (status.is_client_error() || status.is_server_error()) && status != StatusCode::GATEWAY_TIMEOUT {
        refused(&shared, actor, action, status);
    }
    response
}

/// The holder of a token; none when it is nobody's.
async fn who(shared: &Shared, token: Option<&str>, address: &str) -> Result<Option<Caller>, ApiError> {
    let Some(token) = token else { return Ok(None) };
    let caller = |name: &str, role: Role| {
        let actor = Actor { name: name.to_owned(), role: role.to_string(), address: address.to_owned() };
        Some(Caller { actor, role })
    };
    // `matches` takes the same time whatever was shown.
    if shared.parts.token.matches(token) {
        return Ok(caller(ADMIN, Role::Admin));
    }
    let Some(shown) = UserToken::parse(token) else { return Ok(None) };
    let (store, now) = (shared.parts.store.clone(), OffsetDateTime::now_utc().unix_timestamp());
    let user = blocking(move || Ok(store.user(&shown.id, shown.secret_sha256(), now)?)).await?;
    Ok(user.and_then(|user| caller(&user.name, user.role)))
}

fn refused(shared: &Shared, actor: Actor, action: String, status: StatusCode) {
    let result = format!("{} {}", status.as_u16(), status.canonical_reason().unwrap_or_default());
    shared.parts.trail.refused(Event { actor, action, result, ..Event::default() });
}

fn unauthorized(shown: bool) -> Response {
    let message = match shown {
        true => "the bearer token is not this control plane's, or its time is over",
        false => "the call has no bearer token",
    };
    ApiError::new(
        StatusCode::UNAUTHORIZED,
        message,
        "use the context that the control plane writes to STATE_DIR/admin.yaml, or one of `leno user create`",
    )
    .into_response()
}

fn forbidden(caller: &Caller, needed: Role) -> ApiError {
    ApiError::new(
        StatusCode::FORBIDDEN,
        format!("this needs the role {needed}, and {} has the role {}", caller.actor.name, caller.role),
        "use a context that has it; an admin makes one by `leno user create`",
    )
}
