//! The REST API: HTTPS with a bearer token, described by the OpenAPI document that it serves at `/openapi.json`.

mod audit;
mod auth;
mod authority;
mod body;
mod bundle;
mod changes;
mod edges;
mod error;
mod extract;
mod history;
mod objects;
mod requests;
mod revocations;
mod roles;
mod serve;
mod status;
mod status_of;
mod tap;
mod tokens;
mod users;
mod wait;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::{Json, Router, middleware};
use tokio::sync::watch;
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::ca::{AdminToken, CertificateAuthority, ServerIdentity};
use crate::config::Problem;
use crate::federation::Federation;
use crate::observed::Observed;
use crate::questions::Questions;
use crate::registry::Registry;
use crate::store::{Store, Trail};
use crate::xds::Sessions;
use error::ApiError;

pub use serve::{serve, serve_bundle};

/// Largest body of a request, in bytes.
const MOST_BODY: usize = 8 << 20;

/// What the API works with.
#[derive(Clone)]
pub struct Parts {
    pub store: Store,
    pub authority: CertificateAuthority,
    pub tls: Arc<ServerIdentity>,
    /// What is known of the meshes that ours is federated with.
    pub federation: Federation,
    /// How often those are asked to look at our roots.
    pub refresh_hint: Duration,
    pub registry: Registry,
    pub sessions: Sessions,
    pub token: Arc<AdminToken>,
    pub observed: Observed,
    /// What sidecars are asked.
    pub questions: Questions,
    /// Where refused calls are noted.
    pub trail: Trail,
    /// What is wrong in the configuration folder now; none without one.
    pub problems: Option<watch::Receiver<Arc<Vec<Problem>>>>,
}

/// What every handler has.
#[derive(Clone)]
struct Shared {
    parts: Parts,
    started: Instant,
    memory: Arc<status_of::Memory>,
}

#[derive(OpenApi)]
#[openapi(info(
    title = "Leno control plane",
    description = "Apply, read and delete the objects of a mesh, and see what its sidecars hold."
))]
struct Document;

/// The routes of the API.
fn router(parts: Parts) -> Router {
    let shared = Shared { parts, started: Instant::now(), memory: Arc::default() };
    let (router, mut document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(changes::apply))
        .routes(routes!(changes::delete))
        .routes(routes!(changes::validate))
        .routes(routes!(objects::list))
        .routes(routes!(objects::get, objects::delete))
        .routes(routes!(status::status))
        .routes(routes!(edges::edges))
        .routes(routes!(edges::traffic))
        .routes(routes!(requests::remembered))
        .routes(routes!(tap::tap))
        .routes(routes!(history::history))
        .routes(routes!(history::rollback))
        .routes(routes!(tokens::create, tokens::list))
        .routes(routes!(revocations::revoke, revocations::list))
        .routes(routes!(revocations::undo))
        .routes(routes!(users::create, users::list))
        .routes(routes!(users::revoke))
        .routes(routes!(audit::list))
        .routes(routes!(authority::show))
        .routes(routes!(bundle::show))
        .routes(routes!(authority::rotate, authority::abort))
        .routes(routes!(authority::advance))
        .split_for_parts();
    let bearer = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    document.components.get_or_insert_default().add_security_scheme("bearer", bearer);
    document.security = Some(vec![utoipa::openapi::SecurityRequirement::new("bearer", Vec::<String>::new())]);
    let document = Arc::new(document);
    router
        .route_layer(middleware::from_fn_with_state(shared.clone(), auth::require))
        .route("/openapi.json", axum::routing::get(move || async move { Json(document.as_ref().clone()) }))
        .fallback(|| async { ApiError::new(StatusCode::NOT_FOUND, "there is no such path", "see /openapi.json") })
        .method_not_allowed_fallback(|| async {
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "the path has no such method", "see /openapi.json")
        })
        .layer(DefaultBodyLimit::max(MOST_BODY))
        .with_state(shared)
}

#[cfg(test)]
mod tests;
