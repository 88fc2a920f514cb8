//! Whether a route may send to what it names (Gateway API, `ResolvedRefs` and ReferenceGrant).

use super::Problem;
use crate::model::{Backend, Kind, Mesh, Name, Unfit};

/// Why a backend is not valid. The grant is looked at before the Service, so that nobody learns what exists in a namespace that
/// granted nothing. `has_port`: whether a Service has a port; None: there is no such Service.
pub fn backend_problem(
    mesh: &Mesh,
    has_port: &dyn Fn(&Name, u16) -> Option<bool>,
    (kind, route): (Kind, &Name),
    backend: &Backend,
) -> Option<Problem> {
    let service = &backend.service;
    match backend.invalid_reason.as_str() {
        "" => {}
        "InvalidKind" => return Some(Problem::new("InvalidKind", format!("the backend {service} is no Service"))),
        _ => return Some(Problem::new("UnsupportedValue", format!("the backend {service} is not valid"))),
    }
    if !mesh.may_send(kind, route, service) {
        let message = format!("no ReferenceGrant in {} lets this {kind} send to {service}", service.namespace);
        return Some(Problem::new("RefNotPermitted", message));
    }
    let missing = match has_port(service, backend.port) {
        Some(true) => return unfit(mesh, kind, backend),
        Some(false) => format!("the Service {service} has no port {}", backend.port),
        None => format!("there is no Service {service}"),
    };
    Some(Problem::new("BackendNotFound", missing))
}

/// The Service says that its app speaks something that cannot be what the route carries (GEP-1911).
fn unfit(mesh: &Mesh, kind: Kind, backend: &Backend) -> Option<Problem> {
    let ports = &mesh.services.get(&backend.service)?.ports;
    let unfit = ports.iter().find(|port| port.number == backend.port)?.unfit?;
    let carries = match kind {
        Kind::HttpRoute => unfit == Unfit::Grpc,
        Kind::GrpcRoute => false,
        _ => true,
    };
    let message = || {
        let Backend { service, port, .. } = backend;
        format!("the appProtocol of port {port} of the Service {service} is nothing that a {kind} carries")
    };
    (!carries).then(|| Problem::new("UnsupportedProtocol", message()))
}
