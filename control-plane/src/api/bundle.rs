//! Our roots, in the SPIFFE bundle format: for people, and for the meshes that ours is federated with.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use leno_certs::bundle_document::Document;

use super::error::{ApiError, ErrorBody};
use super::{Parts, Shared};

/// Show the roots of this trust domain as other meshes take them.
#[utoipa::path(
    get, path = "/v1/ca/bundle", tag = "ca",
    responses(
        (status = 200, description = "In the SPIFFE bundle format", content_type = "application/json", body = String),
        (status = 401, description = "No bearer token, or a wrong one", body = ErrorBody),
    )
)]
pub(super) async fn show(State(shared): State<Shared>) -> Result<Response, ApiError> {
    answer(&shared.parts)
}

/// What the federation port serves: the bundle, under every path, since which one is asked for is the other side's to choose.
pub(super) fn router(parts: Parts) -> Router {
    let bundle = get(|State(parts): State<Parts>| async move { answer(&parts) });
    Router::new().route("/", bundle.clone()).route("/{*path}", bundle).with_state(parts)
}

fn answer(parts: &Parts) -> Result<Response, ApiError> {
    let document = Document {
        roots: parts.authority.trust_bundle().roots,
        refresh_hint: Some(parts.refresh_hint.max(Duration::from_secs(1))),
        // It grows with every revision, and each step of a rotation is one.
        sequence: Some(parts.store.committed().revision),
    };
    match document.to_json() {
        Ok(json) => Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response()),
        Err(why) => {
            let message = format!("a root cannot be told to others: {why}");
            Err(ApiError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                message,
                "import an authority with an ECDSA or RSA key",
            ))
        }
    }
}
