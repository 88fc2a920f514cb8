//! What the sidecars of a service enforce in front of their app: rate limits, adaptive concurrency, and what of plaintext. It is their own and not
//! the callers' to enforce, since a caller's sidecar is not theirs to trust.

use std::collections::BTreeMap;

use leno_proto::v1;

use super::attach::Attachments;
use super::convert::resilience;
use crate::model::{Kind, Mesh, MtlsMode, Name, Service, TrafficPolicy};

/// None: nothing was said of the service.
pub(super) fn policy(mesh: &Mesh, attachments: &Attachments, service: &Service) -> Option<v1::InboundPolicy> {
    let said = attachments.policy(&service.name);
    let policy = v1::InboundPolicy {
        service: service.name.to_string(),
        rate_limits: said
            .and_then(|policy| policy.resilience.rate_limits.as_deref())
            .map(resilience::rate_limits)
            .unwrap_or_default(),
        adaptive_concurrency: said.and_then(|p| p.adaptive_concurrency.as_ref()).map(resilience::adaptive),
        routes: routes(mesh, attachments, &service.name),
        selector: service.selector.clone(),
        permissive: said.map(permissive).unwrap_or_default(),
    };
    let limitless = policy.rate_limits.is_empty() && policy.adaptive_concurrency.is_none() && policy.routes.is_empty();
    (!limitless || !policy.permissive.is_empty()).then_some(policy)
}

/// By port of the app; 0 stands for those that are not named.
fn permissive(said: &TrafficPolicy) -> BTreeMap<u32, bool> {
    let ports = said.port_mtls.iter().map(|(port, mode)| (u32::from(*port), *mode));
    let modes = ports.chain(said.mtls.map(|mode| (0, mode)));
    modes.map(|(port, mode)| (port, mode == MtlsMode::Permissive)).collect()
}

/// All routes of the service's own namespace when any has limits: which rule holds for a request depends on all of them.
fn routes(mesh: &Mesh, attachments: &Attachments, service: &Name) -> Vec<v1::HttpRoute> {
    let attached = attachments.http_routes(service);
    if !attached.iter().any(|(kind, name)| attachments.limits_route(*kind, name)) {
        return Vec::new();
    }
    let wire = |(kind, name): &(Kind, Name)| {
        let routes = if *kind == Kind::GrpcRoute { &mesh.grpc_routes } else { &mesh.http_routes };
        let limits = |rule: &str| {
            attachments.of_rule(*kind, name, rule).into_iter().find_map(|said| said.rate_limits.as_deref())
        };
        routes.get(name).map(|route| resilience::limited_route(route, limits))
    };
    attached.iter().filter_map(wire).collect()
}
