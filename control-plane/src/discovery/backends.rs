//! Whether a route may send to what it names (Gateway API, `ResolvedRefs` and ReferenceGrant).

use std::collections::BTreeMap;

use crate::model::{Backend, Kind, Mesh, Name, Service};
use crate::resolve::backend_problem;

/// A backend and why it is not valid; empty when it is.
pub(super) struct Checked<'a> {
    pub(super) backend: &'a Backend,
    pub(super) invalid_reason: &'a str,
}

/// What references are checked against.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    /// For the ReferenceGrants.
    pub(super) mesh: &'a Mesh,
    /// All services, also those that nobody wrote.
    pub(super) services: &'a BTreeMap<Name, Service>,
}

/// Checks the backends of one rule of a route.
pub(super) fn check<'a>(known: Known<'_>, kind: Kind, route: &Name, backends: &'a [Backend]) -> Vec<Checked<'a>> {
    backends
        .iter()
        .map(|backend| Checked { backend, invalid_reason: invalid_reason(known, kind, route, backend) })
        .collect()
}

/// The reason why a backend is not valid; empty when it is.
pub(super) fn invalid_reason<'a>(known: Known<'_>, kind: Kind, route: &Name, backend: &'a Backend) -> &'a str {
    // Whatever else is known of it already stays as it was said.
    if !backend.invalid_reason.is_empty() {
        return &backend.invalid_reason;
    }
    let has_port = |service: &Name, port: u16| known.services.get(service).map(|service| service.has_port(port));
    backend_problem(known.mesh, &has_port, (kind, route), backend).map_or("", |problem| problem.reason)
}
