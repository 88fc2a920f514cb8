//! Who may call: whoever shows the admin's bearer token (RFC 6750, in the header only).

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Shared;
use super::error::ApiError;

pub(super) async fn require(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = shown.and_then(|text| text.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    // `matches` takes the same time whatever was shown.
    if token.is_some_and(|(_, token)| shared.parts.token.matches(token.trim())) {
        return next.run(request).await;
    }
    let message = match token {
        Some(_) => "the bearer token is not this control plane's",
        None => "the call has no bearer token",
    };
    ApiError::new(
        StatusCode::UNAUTHORIZED,
        message,
        "use the context that the control plane writes to STATE_DIR/admin.yaml",
    )
    .into_response()
}
