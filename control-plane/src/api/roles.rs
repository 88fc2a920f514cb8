//! What a call needs: one line a route. A route that does not stand here needs the most.

use axum::http::Method;

use crate::model::Role::{self, Admin, Operator, Viewer};

/// Method, path as it is routed, and the least role.
pub(super) const LEAST: &[(&str, &str, Role)] = &[
    ("GET", "/v1/status", Viewer),
    ("GET", "/v1/edges", Viewer),
    ("GET", "/v1/traffic", Viewer),
    ("GET", "/v1/requests", Viewer),
    // Whose paths and identities are shown live, and what it costs, is an operator's to decide.
    ("GET", "/v1/tap", Operator),
    ("GET", "/v1/history", Viewer),
    // What is in Secrets is shown to operators only, see `Caller::may_reveal`.
    ("GET", "/v1/objects/{kind}", Viewer),
    ("GET", "/v1/objects/{kind}/{namespace}/{name}", Viewer),
    ("POST", "/v1/validate", Viewer),
    ("GET", "/v1/revocations", Viewer),
    ("POST", "/v1/apply", Operator),
    ("POST", "/v1/delete", Operator),
    ("DELETE", "/v1/objects/{kind}/{namespace}/{name}", Operator),
    ("POST", "/v1/rollback/{revision}", Operator),
    ("POST", "/v1/tokens", Operator),
    ("GET", "/v1/tokens", Operator),
    ("POST", "/v1/revocations", Admin),
    ("POST", "/v1/revocations/{id}/undo", Admin),
    ("POST", "/v1/users", Admin),
    ("GET", "/v1/users", Admin),
    ("POST", "/v1/users/{name}/revoke", Admin),
    ("GET", "/v1/audit", Admin),
    ("GET", "/v1/ca", Viewer),
    ("GET", "/v1/ca/bundle", Viewer),
    ("POST", "/v1/ca/rotation", Admin),
    ("POST", "/v1/ca/rotation/advance", Admin),
    ("DELETE", "/v1/ca/rotation", Admin),
];

/// The least role that a call needs.
pub(super) fn least(method: &Method, route: &str) -> Role {
    let method = if *method == Method::HEAD { "GET" } else { method.as_str() };
    let found = LEAST.iter().find(|(m, path, _)| *m == method && *path == route);
    found.map_or(Admin, |(_, _, role)| *role)
}
