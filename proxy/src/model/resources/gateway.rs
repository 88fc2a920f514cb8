//! Joining a Gateway: like a destination, all of its parts are there or its previous version stays.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use leno_proto::resource::Resource;
use leno_proto::v1;
use sha2::{Digest, Sha256};

use super::assemble::{self, Clusters, Missing, Rules};
use super::{Resources, Wanted};
use crate::model::gateway::{Gateway, GatewayPort, Listener, RawGateway, RawListener};
use crate::model::{BackendTls, Candidate, Hostname};

impl Resources {
    /// What has to be subscribed for a Gateway.
    pub(super) fn want_gateway(&self, name: &str, wanted: &mut Wanted) {
        wanted.insert((v1::Gateway::TYPE_URL, name.to_owned()));
        let Some(Some(gateway)) = self.gateways.get(name) else { return };
        for listener in &gateway.listeners {
            wanted.extend(listener.http_routes.iter().map(|r| (v1::HttpRoute::TYPE_URL, r.clone())));
            wanted.extend(listener.tls_routes.iter().map(|r| (v1::TlsRoute::TYPE_URL, r.clone())));
            wanted.extend(listener.tcp_routes.iter().map(|r| (v1::TcpRoute::TYPE_URL, r.clone())));
        }
        let listeners = || gateway.listeners.iter();
        let http = listeners().flat_map(|l| &l.http_routes);
        let tcp = listeners().flat_map(|l| &l.tcp_routes);
        let tls = listeners().flat_map(|l| &l.tls_routes);
        for service in self.backends_in(http, tls, tcp) {
            wanted.insert((v1::Endpoints::TYPE_URL, service.clone()));
            wanted.insert((v1::Service::TYPE_URL, service));
        }
    }

    /// The policy with the certificate that this sidecar shows. One that is asked for and not there cannot be done without.
    pub(super) fn with_client(&self, tls: &Arc<BackendTls>) -> Arc<BackendTls> {
        let Some(client) = self.gateways.values().flatten().find_map(|gateway| gateway.client.as_ref()) else {
            return tls.clone();
        };
        let digest = Sha256::new().chain_update(tls.digest);
        Arc::new(match client {
            Ok(client) => {
                let digest = digest.chain_update(client.leaf()).finalize().into();
                BackendTls { client: Some(client.clone()), digest, ..(**tls).clone() }
            }
            Err(why) => {
                let digest = digest.chain_update(why).finalize().into();
                let invalid = tls.invalid.clone().or_else(|| Some(format!("the Gateway's client certificate: {why}")));
                BackendTls { invalid, digest, ..(**tls).clone() }
            }
        })
    }
}

pub(super) fn gateway(
    held: &Resources,
    name: &str,
    raw: &RawGateway,
    clusters: &mut Clusters,
) -> Result<Gateway, Missing> {
    let mut ports: BTreeMap<u16, GatewayPort> = BTreeMap::new();
    let mut rules = Rules::default();
    for raw in &raw.listeners {
        let family = raw.protocol.family();
        let port = ports.entry(raw.port).or_insert_with(|| GatewayPort { family, listeners: Vec::new() });
        // The control plane sends no two families on one port; the first would win (ProtocolConflict).
        if port.family == family {
            port.listeners.push(listener(held, raw, clusters, &mut rules)?);
        }
    }
    Ok(Gateway { name: name.to_owned(), ports })
}

fn listener(
    held: &Resources,
    raw: &RawListener,
    clusters: &mut Clusters,
    rules: &mut Rules,
) -> Result<Listener, Missing> {
    let mut tcp = None;
    for route in &raw.tcp_routes {
        // The oldest wins.
        if let (None, Some(route)) = (&tcp, held.tcp_routes.get(route).ok_or(Missing)?) {
            tcp = Some(Arc::new(assemble::backends(held, &route.backends, clusters)?));
        }
    }
    Ok(Listener {
        name: raw.name.clone(),
        protocol: raw.protocol,
        hostname: raw.hostname.clone(),
        tls: raw.tls.clone(),
        http: http(held, raw, clusters, rules)?,
        tls_routes: assemble::tls_routes(held, &raw.tls_routes, clusters)?,
        tcp,
    })
}

/// A hostname's matches are those of the routes that say it. What none of them matches goes to the next less specific hostname,
/// which the workers link, since precedence is the hostname's first (HTTPRouteSpec.hostnames).
fn http(
    held: &Resources,
    raw: &RawListener,
    clusters: &mut Clusters,
    rules: &mut Rules,
) -> Result<Vec<(Hostname, Vec<Candidate>)>, Missing> {
    let mut routes = Vec::new();
    for route in &raw.http_routes {
        // A route that was withdrawn while the listener still names it is skipped; the next version of the Gateway follows.
        if let Some(route) = held.http_routes.get(route).ok_or(Missing)? {
            routes.push(route);
        }
    }
    let hostnames: BTreeSet<&Hostname> = routes.iter().flat_map(|route| &route.hostnames).collect();
    hostnames
        .into_iter()
        .map(|hostname| {
            let said: Vec<_> = routes.iter().copied().filter(|route| route.hostnames.contains(hostname)).collect();
            Ok((hostname.clone(), assemble::candidates(held, &said, None, clusters, rules)?))
        })
        .collect()
}

#[cfg(test)]
mod tests;
