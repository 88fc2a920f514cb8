//! Joining one destination. All of its parts are there or it is not joined: a route must never point at a backend whose
//! endpoints are still on their way.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use leno_proto::v1;

use super::{Resources, SharedCluster};
use crate::model::route::{HttpRoute, RawBackend, RawRule};
use crate::model::service::{Port, Service};
use crate::model::snapshot::{
    AnyPort, Backend, Candidate, Cluster, Destination, DestinationPort, Host, HttpRule, Place, Target,
};
use crate::model::{AppProtocol, Filters, Hostname, InvalidResource, Policy, RouteKind, convert};

/// Something that is needed was not answered yet.
#[derive(Debug)]
pub(super) struct Missing;

/// Clusters that were joined already, so that routes to the same backend share one.
pub(super) type Clusters = HashMap<(String, u16), SharedCluster>;
/// Rules that were joined already, by route, so that a route of several hostnames has its rules once.
pub(super) type Rules = HashMap<String, Vec<Arc<HttpRule>>>;

pub(super) fn destination(
    held: &Resources,
    name: &str,
    service: &Service,
    clusters: &mut Clusters,
) -> Result<Destination, Missing> {
    let ports = service.ports.iter().map(|p| destination_port(held, name, service, p, clusters));
    let ports = ports.collect::<Result<_, _>>()?;
    let any_port = match &service.any_port {
        None => None,
        Some(any) => {
            let template = destination_port(held, name, service, any, clusters)?;
            let endpoints = held.endpoints.get(name).ok_or(Missing)?.clone().unwrap_or_default();
            let tls = any.backend_tls.as_ref().map(|tls| held.with_client(tls));
            Some(AnyPort::new(template, endpoints, tls))
        }
    };
    Ok(Destination { name: name.to_owned(), ports, any_port, addresses: service.addresses.clone() })
}

fn destination_port(
    held: &Resources,
    name: &str,
    service: &Service,
    port: &Port,
    clusters: &mut Clusters,
) -> Result<DestinationPort, Missing> {
    let mut routes = Vec::new();
    for route in &port.http_routes {
        // A route that was withdrawn while the service still names it is skipped; the next version of the service follows.
        if let Some(route) = held.http_routes.get(route).ok_or(Missing)? {
            routes.push(route);
        }
    }
    let mut tcp = None;
    for route in &port.tcp_routes {
        // The oldest wins; the others have no say (Gateway API, conflict resolution).
        if let (None, Some(route)) = (&tcp, held.tcp_routes.get(route).ok_or(Missing)?) {
            tcp = Some(Arc::new(backends(held, &route.backends, clusters)?));
        }
    }
    Ok(DestinationPort {
        number: port.number,
        protocol: port.protocol,
        routed: !routes.is_empty(),
        candidates: candidates(held, &routes, Some(&service.policy), clusters, &mut Rules::default())?,
        tls: tls_routes(held, &port.tls_routes, clusters)?,
        tcp,
        own: cluster(held, name, service, port.number, clusters)?,
    })
}

/// A hostname's backends.
type BackendsOf = (Hostname, Arc<Vec<Backend>>);

pub(super) fn tls_routes(
    held: &Resources,
    names: &[String],
    clusters: &mut Clusters,
) -> Result<Vec<BackendsOf>, Missing> {
    let mut all = Vec::new();
    for route in names {
        if let Some(route) = held.tls_routes.get(route).ok_or(Missing)? {
            let backends = Arc::new(backends(held, &route.backends, clusters)?);
            // Of two that say the same hostname the older one, which comes first, holds.
            all.extend(route.hostnames.iter().map(|hostname| (hostname.clone(), backends.clone())));
        }
    }
    Ok(all)
}

/// All matches of all routes in the order of the specification's precedence. The sort is stable, and routes come oldest first
/// with their rules in order, so ties fall as specified. GRPCRoutes come before HTTPRoutes. `policy` is that of the Service that
/// the routes are of; None: they are a Gateway's.
pub(super) fn candidates(
    held: &Resources,
    routes: &[&HttpRoute],
    policy: Option<&Policy>,
    clusters: &mut Clusters,
    rules: &mut Rules,
) -> Result<Vec<Candidate>, Missing> {
    let mut all = Vec::new();
    for route in routes {
        if !rules.contains_key(&route.label) {
            let made = route.rules.iter().map(|raw| http_rule(held, route, raw, policy, clusters).map(Arc::new));
            rules.insert(route.label.clone(), made.collect::<Result<_, _>>()?);
        }
        for (raw, rule) in route.rules.iter().zip(&rules[&route.label]) {
            all.extend(raw.matches.iter().map(|m| Candidate {
                kind: route.kind,
                matches: m.clone(),
                rule: rule.clone(),
            }));
        }
    }
    all.sort_by_cached_key(|c| (c.kind == RouteKind::Http, c.matches.precedence()));
    Ok(all)
}

fn http_rule(
    held: &Resources,
    route: &HttpRoute,
    raw: &RawRule,
    policy: Option<&Policy>,
    clusters: &mut Clusters,
) -> Result<HttpRule, Missing> {
    let backends = backends(held, &raw.backends, clusters)?;
    let default = Policy::default();
    // A Gateway has none of its own: what holds for the requests of a rule is said of the Service that they go to.
    let policy =
        policy.or_else(|| backends.iter().find_map(Backend::policy).map(|policy| &**policy)).unwrap_or(&default);
    let (retry, resilience) = raw.resilience.over(&policy.resilience, raw.retry.as_ref(), &policy.retry);
    Ok(HttpRule {
        route: route.label.clone(),
        name: raw.name.clone(),
        backends,
        request_timeout: raw.request_timeout,
        backend_request_timeout: raw.backend_request_timeout,
        session: raw.session.clone(),
        retry: Some(retry),
        resilience,
        filters: filters(held, &raw.filters, clusters)?,
    })
}

pub(super) fn backends(held: &Resources, raw: &[RawBackend], clusters: &mut Clusters) -> Result<Vec<Backend>, Missing> {
    raw.iter()
        .map(|b| {
            Ok(Backend {
                weight: b.weight,
                target: target(held, b, clusters)?,
                filters: filters(held, &b.filters, clusters)?,
            })
        })
        .collect()
}

fn target(held: &Resources, raw: &RawBackend, clusters: &mut Clusters) -> Result<Target, Missing> {
    if !raw.invalid_reason.is_empty() {
        return Ok(Target::Invalid(raw.invalid_reason.clone()));
    }
    Ok(match held.services.get(&raw.service).ok_or(Missing)? {
        Some(service) if service.port(raw.port).is_some() => {
            Target::Cluster(cluster(held, &raw.service, service, raw.port, clusters)?)
        }
        _ => Target::Invalid("BackendNotFound".to_owned()),
    })
}

/// Nothing is mirrored to what is not valid.
fn filters(held: &Resources, raw: &Filters<RawBackend>, clusters: &mut Clusters) -> Result<Filters, Missing> {
    raw.join(|mirror| match target(held, mirror, clusters)? {
        Target::Cluster(cluster) => Ok(Some(cluster)),
        Target::Invalid(_) => Ok(None),
    })
}

fn cluster(
    held: &Resources,
    name: &str,
    service: &Service,
    port: u16,
    clusters: &mut Clusters,
) -> Result<SharedCluster, Missing> {
    let key = (name.to_owned(), port);
    if let Some(known) = clusters.get(&key) {
        return Ok(known.clone());
    }
    let wire = held.endpoints.get(name).ok_or(Missing)?;
    // An endpoint that does not serve this port is left out.
    let tls = service.port(port).and_then(|p| p.backend_tls.as_ref()).map(|tls| held.with_client(tls));
    let endpoints = wire.as_ref().map(|wire| convert::endpoints(wire, port, tls.as_ref())).unwrap_or_default();
    let protocol = match service.port(port).map(|p| p.protocol).unwrap_or_default() {
        // Nobody said what is inside of its TLS (`https`, `wss`), and HTTP/1.1 is what every server there has.
        AppProtocol::Detect | AppProtocol::Tcp if tls.is_some() => AppProtocol::Http1,
        protocol => protocol,
    };
    let cluster = Arc::new(Cluster {
        service: key.0.clone(),
        port,
        pinned: None,
        protocol,
        policy: service.policy.clone(),
        endpoints,
    });
    clusters.insert(key, cluster.clone());
    Ok(cluster)
}

/// Refuses what could not be used later.
pub(super) fn check_address(wire: &v1::Address) -> Result<(), InvalidResource> {
    let Some(endpoint) = &wire.endpoint else { return Ok(()) };
    // Any port does: the address and the identity are looked at.
    let port = endpoint.ports.first().map_or(1, |port| port.service_port);
    convert::endpoint(endpoint, u16::try_from(port).unwrap_or_default()).map(|_| ())
}

/// What is at `asked`, which has a port or none.
pub(super) fn place(asked: &str, wire: &v1::Address) -> Option<Place> {
    if asked.parse::<IpAddr>().is_err() {
        return endpoint(wire).map(Arc::new).map(Place::Endpoint);
    }
    match &wire.endpoint {
        _ if wire.shared => Some(Place::Shared),
        Some(endpoint) => {
            Some(Place::Host(Arc::new(Host { service: wire.service.clone(), endpoint: endpoint.clone() })))
        }
        None => Some(Place::Virtual(wire.service.clone())),
    }
}

/// A single endpoint that is spoken to by its address.
fn endpoint(wire: &v1::Address) -> Option<Cluster> {
    let port = u16::try_from(wire.service_port).ok()?;
    let endpoint = convert::endpoint(wire.endpoint.as_ref()?, port).ok().flatten()?;
    Some(Cluster {
        service: wire.service.clone(),
        port,
        pinned: Some(endpoint.address),
        protocol: AppProtocol::Detect,
        policy: Arc::default(),
        endpoints: vec![Arc::new(endpoint)],
    })
}
