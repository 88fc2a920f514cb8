//! Whether a route may send to what it names (Gateway API, `ResolvedRefs` and ReferenceGrant).

use std::collections::BTreeMap;

use crate::model::{Backend, GATEWAY_GROUP, Kind, Mesh, Name, Service};

/// The Service does not exist or does not have the port.
const BACKEND_NOT_FOUND: &str = "BackendNotFound";
/// The Service is in another namespace that did not grant the reference.
const REF_NOT_PERMITTED: &str = "RefNotPermitted";

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

/// The grant is looked at before the Service, so that nobody learns what exists in a namespace that granted nothing.
pub(super) fn invalid_reason<'a>(known: Known<'_>, kind: Kind, route: &Name, backend: &'a Backend) -> &'a str {
    if !backend.invalid_reason.is_empty() {
        return &backend.invalid_reason;
    }
    if backend.service.namespace != route.namespace && !granted(known.mesh, kind, &route.namespace, &backend.service) {
        return REF_NOT_PERMITTED;
    }
    let found = known.services.get(&backend.service).is_some_and(|service| service.has_port(backend.port));
    if found { "" } else { BACKEND_NOT_FOUND }
}

/// Whether any ReferenceGrant of the Service's namespace lets routes of `kind` in `from` send to it.
fn granted(mesh: &Mesh, kind: Kind, from: &str, service: &Name) -> bool {
    mesh.may_refer((GATEWAY_GROUP, kind.as_str()), from, ("", "Service", service))
}
