//! Wire to model: the one place of the sidecar that reads resource messages. Whatever cannot be right is refused with a reason
//! that names it, and travels back to the control plane in a NACK.

mod filter;
mod gateway;
pub(super) mod resilience;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};
use leno_proto::v1;
use regex::{Regex, RegexBuilder};

use super::balancing::balancing;
use super::health::health_checks;
use super::route::{HttpRoute, RawBackend, RawRule, TcpRoute};
use super::service::{Port, Service};
use super::session::session;
use super::{
    AppProtocol, BackendTls, Cluster, Endpoint, Host, HttpMatch, Locality, MethodMatch, PathMatch, Peer, Policy,
    Posture, RouteKind, ValueMatch,
};

/// Compiled size of one regular expression at most, in bytes; bounds the memory a route can cost.
const MOST_REGEX_BYTES: usize = 256 * 1024;

/// Why a resource is not put in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidResource(pub(super) String);

impl fmt::Display for InvalidResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidResource {}

pub(super) fn invalid(what: &str, value: impl fmt::Debug) -> InvalidResource {
    InvalidResource(format!("{what} {value:?} is not valid"))
}

fn port(number: u32) -> Result<u16, InvalidResource> {
    u16::try_from(number).ok().filter(|n| *n != 0).ok_or_else(|| invalid("port", number))
}

impl TryFrom<v1::Service> for Service {
    type Error = InvalidResource;

    fn try_from(wire: v1::Service) -> Result<Self, InvalidResource> {
        let ports = wire.ports.into_iter().map(|p| Ok(service_port(port(p.number)?, p)));
        let address = |text: String| text.parse().map_err(|_| invalid("address", &text));
        Ok(Self {
            ports: ports.collect::<Result<_, InvalidResource>>()?,
            any_port: wire.any_port.map(|p| service_port(0, p)),
            addresses: wire.addresses.into_iter().map(address).collect::<Result<_, _>>()?,
            policy: wire.policy.map(policy).transpose()?.map(Arc::new).unwrap_or_default(),
            namespace: wire.namespace,
            name: wire.name,
        })
    }
}

fn service_port(number: u16, wire: v1::ServicePort) -> Port {
    Port {
        number,
        protocol: match wire.protocol() {
            v1::AppProtocol::Unspecified => AppProtocol::Detect,
            v1::AppProtocol::Http => AppProtocol::Http1,
            v1::AppProtocol::Http2 => AppProtocol::Http2,
            v1::AppProtocol::Tcp => AppProtocol::Tcp,
        },
        name: wire.name,
        http_routes: wire.http_routes,
        tls_routes: wire.tls_routes,
        tcp_routes: wire.tcp_routes,
        backend_tls: wire.backend_tls.map(|tls| Arc::new(gateway::backend_tls(tls))),
    }
}

/// A zero means the default.
fn policy(wire: v1::TrafficPolicy) -> Result<Policy, InvalidResource> {
    let default = Policy::default();
    let number = |said: u32, default: u32| if said == 0 { default } else { said };
    let millis =
        |said: u32, default: Duration| if said == 0 { default } else { Duration::from_millis(u64::from(said)) };
    let resilience = resilience::resilience(wire.resilience)?;
    Ok(Policy {
        retry: resilience.retry.as_ref().map(|said| said.over(&default.retry)).unwrap_or_default(),
        resilience,
        circuit_breaker: resilience::circuit_breaker(wire.circuit_breaker),
        connect_timeout: millis(wire.connect_timeout_ms, default.connect_timeout),
        idle_timeout: millis(wire.idle_timeout_ms, default.idle_timeout),
        consecutive_failures: number(wire.consecutive_failures, default.consecutive_failures),
        ejection: millis(wire.ejection_ms, default.ejection),
        max_ejected_percent: number(wire.max_ejected_percent, default.max_ejected_percent).min(100),
        retry_percent: number(wire.retry_budget_percent, default.retry_percent).min(100),
        retries_per_second: number(wire.retry_budget_per_second, default.retries_per_second),
        balancing: balancing(wire.load_balancing, wire.outliers)?,
    })
}

/// What the control plane wants of this sidecar's namespace.
///
/// # Errors
/// Something in it cannot be right.
pub fn posture(wire: &v1::SidecarConfig) -> Result<Posture, InvalidResource> {
    Ok(Posture {
        inbound: resilience::inbound(&wire.inbound)?,
        authorization: Some(super::authorization::policies(wire)?),
        permissive: wire.permissive,
        registry_only: wire.registry_only,
        namespaces: wire.namespaces.iter().cloned().collect(),
        health_checks: health_checks(&wire.health_checks),
    })
}

impl TryFrom<v1::HttpRoute> for HttpRoute {
    type Error = InvalidResource;

    fn try_from(wire: v1::HttpRoute) -> Result<Self, InvalidResource> {
        let (kind, word) = if wire.grpc { (RouteKind::Grpc, "GRPCRoute") } else { (RouteKind::Http, "HTTPRoute") };
        let route = format!("{}/{}", wire.namespace, wire.name);
        Ok(Self {
            label: format!("{word}/{route}"),
            kind,
            hostnames: gateway::hostnames(&wire.hostnames),
            rules: wire.rules.into_iter().map(|wire| rule(word, &route, wire)).collect::<Result<_, _>>()?,
        })
    }
}

fn rule(kind: &str, route: &str, mut wire: v1::HttpRule) -> Result<RawRule, InvalidResource> {
    // The specification's zero disables a timeout, as none does.
    let timeout = |ms: Option<u64>| ms.filter(|ms| *ms != 0).map(Duration::from_millis);
    let persistence = wire.session_persistence.take();
    let session = persistence.map(|said| session(kind, route, &wire, said)).transpose()?;
    Ok(RawRule {
        session: session.map(Arc::new),
        matches: wire.matches.into_iter().map(http_match).collect::<Result<_, _>>()?,
        backends: wire.backends.into_iter().map(backend).collect::<Result<_, _>>()?,
        request_timeout: timeout(wire.request_timeout_ms),
        backend_request_timeout: timeout(wire.backend_request_timeout_ms),
        retry: wire.retry.map(resilience::inline_retry),
        resilience: resilience::resilience(wire.resilience)?,
        filters: filter::filters(wire.filters)?,
        name: wire.name,
    })
}

pub(super) fn http_match(wire: v1::HttpMatch) -> Result<HttpMatch, InvalidResource> {
    use v1::http_match::Path;
    let path = match wire.path {
        None => PathMatch::Prefix(String::new()),
        Some(Path::Exact(path)) => PathMatch::Exact(path),
        Some(Path::Prefix(path)) => PathMatch::Prefix(path.trim_end_matches('/').to_owned()),
        Some(Path::Regex(pattern)) => PathMatch::Regex(regex(&pattern)?),
        Some(Path::GrpcMethod(grpc)) => {
            let part = |text: String| match (text.is_empty(), grpc.regex) {
                (true, _) => Ok(None),
                (false, true) => regex(&text).map(ValueMatch::Regex).map(Some),
                (false, false) => Ok(Some(ValueMatch::Exact(text))),
            };
            PathMatch::Grpc(MethodMatch { service: part(grpc.service)?, method: part(grpc.method)? })
        }
    };
    let method = match wire.method.as_str() {
        "" => None,
        text => Some(Method::from_bytes(text.as_bytes()).map_err(|_| invalid("method", text))?),
    };
    let headers = wire.headers.into_iter().map(|m| Ok((header_name(&m.name)?, value_match(m.value, m.regex)?)));
    let query = wire.query.into_iter().map(|m| Ok((m.name, value_match(m.value, m.regex)?)));
    Ok(HttpMatch {
        path,
        method,
        headers: headers.collect::<Result<_, InvalidResource>>()?,
        query: query.collect::<Result<_, InvalidResource>>()?,
    })
}

fn value_match(value: String, is_regex: bool) -> Result<ValueMatch, InvalidResource> {
    if is_regex { regex(&value).map(ValueMatch::Regex) } else { Ok(ValueMatch::Exact(value)) }
}

/// Anchored: a pattern matches the whole value, so that it cannot be satisfied by a part of a longer one.
fn regex(pattern: &str) -> Result<Regex, InvalidResource> {
    RegexBuilder::new(&format!("^(?:{pattern})$"))
        .size_limit(MOST_REGEX_BYTES)
        .build()
        .map_err(|e| InvalidResource(format!("regular expression {pattern:?}: {e}")))
}

pub(super) fn header_name(name: &str) -> Result<HeaderName, InvalidResource> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid("header name", name))
}

fn backend(wire: v1::Backend) -> Result<RawBackend, InvalidResource> {
    Ok(RawBackend {
        port: if wire.invalid_reason.is_empty() { port(wire.port)? } else { 0 },
        service: wire.service,
        weight: wire.weight,
        invalid_reason: wire.invalid_reason,
        filters: filter::filters(wire.filters)?,
    })
}

impl TryFrom<v1::TcpRoute> for TcpRoute {
    type Error = InvalidResource;

    fn try_from(wire: v1::TcpRoute) -> Result<Self, InvalidResource> {
        Ok(Self { backends: wire.backends.into_iter().map(backend).collect::<Result<_, _>>()? })
    }
}

/// The endpoints of a service that serve one port of it. Those were checked when the resource was taken in. Apps without a
/// sidecar are spoken to over TLS where that is said.
pub(super) fn endpoints(wire: &v1::Endpoints, service_port: u16, tls: Option<&Arc<BackendTls>>) -> Vec<Arc<Endpoint>> {
    let over = |mut endpoint: Endpoint| {
        if let (Peer::App, Some(tls)) = (&endpoint.peer, tls) {
            endpoint.peer = Peer::Tls(tls.clone());
        }
        Arc::new(endpoint)
    };
    wire.endpoints.iter().filter_map(|e| endpoint(e, service_port).ok().flatten()).map(over).collect()
}

/// The cluster of one port of a workload that is spoken to by its address. None: it has no such port.
pub fn host(host: &Host, at: SocketAddr) -> Option<Cluster> {
    let mut endpoint = endpoint(&host.endpoint, at.port()).ok().flatten()?;
    endpoint.address.set_ip(at.ip());
    Some(Cluster {
        service: host.service.clone(),
        port: at.port(),
        pinned: Some(at),
        protocol: AppProtocol::Detect,
        policy: Arc::default(),
        endpoints: vec![Arc::new(endpoint)],
    })
}

/// One endpoint, for one port of its service. None: it does not serve that port.
pub(super) fn endpoint(wire: &v1::Endpoint, service_port: u16) -> Result<Option<Endpoint>, InvalidResource> {
    if wire.withheld {
        let nowhere = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        let locality = Locality::default();
        return Ok(Some(Endpoint {
            workload: String::new(),
            address: nowhere,
            peer: Peer::Withheld,
            healthy: true,
            locality,
        }));
    }
    let ip: IpAddr = wire.address.parse().map_err(|_| invalid("address", &wire.address))?;
    let named = wire.ports.iter().find(|p| p.service_port == u32::from(service_port));
    let (target, number) = match named {
        Some(named) => (named.target.clone(), named.number),
        // Asked for by its number: the sidecar takes every port.
        None if wire.any_port && service_port != 0 => (service_port.to_string(), service_port.into()),
        None => return Ok(None),
    };
    let (number, peer) = if wire.mesh_port == 0 {
        (port(number)?, Peer::App)
    } else {
        if wire.identity.is_empty() {
            return Err(InvalidResource(format!("endpoint {} has a mesh port but no identity", wire.workload)));
        }
        let peer = Peer::Sidecar { identity: wire.identity.clone(), port: target };
        (port(wire.mesh_port)?, peer)
    };
    Ok(Some(Endpoint {
        workload: wire.workload.clone(),
        address: SocketAddr::new(ip, number),
        peer,
        healthy: wire.healthy,
        locality: Locality { region: wire.region.clone(), zone: wire.zone.clone() },
    }))
}
