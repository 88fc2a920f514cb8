//! Model to wire: the resources of the stream.

mod filter;
pub(super) mod resilience;

use std::net::IpAddr;

use leno_proto::v1;

use crate::model::{
    AppProtocol, GrpcMethodMatch, HttpMatch, HttpRoute, HttpRule, PathMatch, Retry, Revocations, Service, ServicePort,
    TcpRoute, TlsRoute, TrafficPolicy, ValueMatch, Workload,
};

use filter::Reason;

use super::attach::PortRoutes;
use super::backends::Checked;
use super::balancing;
use super::selection::EndpointPort;

/// A reason of the Gateway API.
const UNSUPPORTED_VALUE: &str = "UnsupportedValue";

/// A Service as one client sees it: `routes` has one entry a port, in the order of the ports; `any_port` is what is attached to
/// the ports that do not stand there.
pub(super) fn service(
    service: &Service,
    policy: Option<&TrafficPolicy>,
    addresses: &[IpAddr],
    routes: &[PortRoutes],
    any_port: &PortRoutes,
) -> v1::Service {
    v1::Service {
        namespace: service.name.namespace.clone(),
        name: service.name.name.clone(),
        ports: service.ports.iter().zip(routes).map(|(port, routes)| service_port(port, routes)).collect(),
        policy: policy.map(traffic_policy),
        addresses: addresses.iter().map(ToString::to_string).collect(),
        any_port: service.any_port.then(|| v1::ServicePort {
            http_routes: any_port.http.clone(),
            tls_routes: any_port.tls.clone(),
            tcp_routes: any_port.tcp.clone(),
            ..v1::ServicePort::default()
        }),
    }
}

fn service_port(port: &ServicePort, routes: &PortRoutes) -> v1::ServicePort {
    v1::ServicePort {
        number: port.number.into(),
        name: port.name.clone(),
        protocol: app_protocol(port.protocol).into(),
        http_routes: routes.http.clone(),
        tls_routes: routes.tls.clone(),
        tcp_routes: routes.tcp.clone(),
        backend_tls: None,
    }
}

fn app_protocol(protocol: AppProtocol) -> v1::AppProtocol {
    match protocol {
        AppProtocol::Detect => v1::AppProtocol::Unspecified,
        AppProtocol::Http => v1::AppProtocol::Http,
        AppProtocol::Http2 => v1::AppProtocol::Http2,
        AppProtocol::Tcp => v1::AppProtocol::Tcp,
    }
}

/// On the wire a zero says 'the default', so a value that was not set is one.
fn traffic_policy(policy: &TrafficPolicy) -> v1::TrafficPolicy {
    v1::TrafficPolicy {
        connect_timeout_ms: policy.connect_timeout_ms.unwrap_or_default(),
        consecutive_failures: policy.consecutive_failures.unwrap_or_default(),
        ejection_ms: policy.ejection_ms.unwrap_or_default(),
        max_ejected_percent: policy.max_ejected_percent.unwrap_or_default(),
        retry_budget_percent: policy.retry_budget_percent.unwrap_or_default(),
        retry_budget_per_second: policy.retry_budget_per_second.unwrap_or_default(),
        idle_timeout_ms: policy.idle_timeout_ms.unwrap_or_default(),
        load_balancing: balancing::load_balancing(&policy.balancing),
        outliers: balancing::outliers(&policy.balancing),
        resilience: Some(resilience::resilience(&policy.resilience)),
        circuit_breaker: policy.circuit_breaker.as_ref().map(resilience::circuit_breaker),
    }
}

/// An HTTPRoute or GRPCRoute; `backends` has one list a rule, `mirror` says why something is not mirrored to, and `said` what
/// policies say of a rule.
pub(super) fn http_route(
    route: &HttpRoute,
    backends: &[Vec<Checked<'_>>],
    mirror: &Reason<'_>,
    said: impl Fn(&HttpRule) -> Option<v1::Resilience>,
) -> v1::HttpRoute {
    let rules = route.rules.iter().zip(backends);
    v1::HttpRoute {
        namespace: route.name.namespace.clone(),
        name: route.name.name.clone(),
        grpc: route.grpc,
        created: route.created,
        rules: rules
            .map(|(rule, backends)| v1::HttpRule { resilience: said(rule), ..http_rule(rule, backends, mirror) })
            .collect(),
        hostnames: route.hostnames.clone(),
    }
}

fn http_rule(rule: &HttpRule, backends: &[Checked<'_>], mirror: &Reason<'_>) -> v1::HttpRule {
    if rule.filters.iter().any(|filter| filter.unknown().is_some()) {
        let matches = rule.matches.iter().map(http_match).collect();
        return v1::HttpRule {
            name: rule.name.clone(),
            matches,
            backends: vec![no_backend()],
            ..v1::HttpRule::default()
        };
    }
    v1::HttpRule {
        name: rule.name.clone(),
        matches: rule.matches.iter().map(http_match).collect(),
        backends: backends.iter().map(|checked| http_backend(checked, mirror)).collect(),
        request_timeout_ms: rule.request_timeout_ms,
        backend_request_timeout_ms: rule.backend_request_timeout_ms,
        retry: rule.retry.as_ref().map(retry),
        filters: rule.filters.iter().filter_map(|f| filter::filter(f, mirror)).collect(),
        session_persistence: rule.session_persistence.as_ref().map(balancing::session),
        resilience: None,
    }
}

/// A TCPRoute.
pub(super) fn tcp_route(route: &TcpRoute, backends: &[Checked<'_>]) -> v1::TcpRoute {
    v1::TcpRoute {
        namespace: route.name.namespace.clone(),
        name: route.name.name.clone(),
        created: route.created,
        backends: backends.iter().map(backend).collect(),
    }
}

/// A TLSRoute.
pub(super) fn tls_route(route: &TlsRoute, backends: &[Checked<'_>]) -> v1::TlsRoute {
    v1::TlsRoute {
        namespace: route.name.namespace.clone(),
        name: route.name.name.clone(),
        created: route.created,
        hostnames: route.hostnames.clone(),
        backends: backends.iter().map(backend).collect(),
    }
}

fn http_match(m: &HttpMatch) -> v1::HttpMatch {
    use v1::http_match::Path;
    let path = m.path.as_ref().map(|path| match path {
        PathMatch::Exact(path) => Path::Exact(path.clone()),
        PathMatch::Prefix(path) => Path::Prefix(path.clone()),
        PathMatch::Regex(path) => Path::Regex(path.clone()),
        PathMatch::Grpc(GrpcMethodMatch { service, method, regex }) => {
            Path::GrpcMethod(v1::GrpcMethod { service: service.clone(), method: method.clone(), regex: *regex })
        }
    });
    v1::HttpMatch {
        path,
        headers: m.headers.iter().map(value_match).collect(),
        query: m.query.iter().map(value_match).collect(),
        method: m.method.clone(),
    }
}

fn value_match(m: &ValueMatch) -> v1::ValueMatch {
    v1::ValueMatch { name: m.name.clone(), value: m.value.clone(), regex: m.regex }
}

fn retry(retry: &Retry) -> v1::Retry {
    v1::Retry {
        attempts: retry.attempts,
        codes: retry.codes.iter().map(|code| u32::from(*code)).collect(),
        backoff_ms: retry.backoff_ms,
    }
}

fn backend(checked: &Checked<'_>) -> v1::Backend {
    v1::Backend {
        service: checked.backend.service.to_string(),
        port: checked.backend.port.into(),
        weight: checked.backend.weight,
        invalid_reason: checked.invalid_reason.to_owned(),
        filters: Vec::new(),
    }
}

fn http_backend(checked: &Checked<'_>, mirror: &Reason<'_>) -> v1::Backend {
    if checked.backend.filters.iter().any(|filter| filter.unknown().is_some()) {
        return v1::Backend { weight: checked.backend.weight, ..no_backend() };
    }
    let filters = checked.backend.filters.iter().filter_map(|f| filter::filter(f, mirror)).collect();
    v1::Backend { filters, ..backend(checked) }
}

/// Its share of the requests is answered with an error: they may not pass without a filter that nobody here knows.
fn no_backend() -> v1::Backend {
    v1::Backend { weight: 1, invalid_reason: UNSUPPORTED_VALUE.to_owned(), ..v1::Backend::default() }
}

/// A workload as an endpoint of one service.
pub(super) fn endpoint(workload: &Workload, ports: Vec<EndpointPort>) -> v1::Endpoint {
    v1::Endpoint {
        workload: workload.name.to_string(),
        address: workload.address.to_string(),
        mesh_port: workload.mesh_port.unwrap_or_default().into(),
        identity: workload.identity.clone().unwrap_or_default(),
        ports: ports
            .into_iter()
            .map(|port| v1::EndpointPort {
                service_port: port.service_port.into(),
                target: port.target,
                number: port.number.into(),
            })
            .collect(),
        healthy: workload.healthy,
        any_port: workload.any_port,
        more_addresses: workload.more_addresses.iter().map(ToString::to_string).collect(),
        region: balancing::label(workload, balancing::REGION),
        zone: balancing::label(workload, balancing::ZONE),
        withheld: false,
    }
}

/// Who was revoked, sorted, so that the same content has the same version.
pub(super) fn revocations(all: &Revocations) -> v1::Revocations {
    let instances = all.instances().into_iter().map(|instance| instance.to_vec()).collect();
    v1::Revocations { instances, identities: all.identities() }
}
