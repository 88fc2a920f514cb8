//! Routes to listeners.

use std::collections::BTreeMap;

use super::{Attached, Problem, Resolved, ResolvedListener};
use crate::model::{GatewayParent, Kind, Mesh, Name, hostnames_meet};

/// A route of whichever kind.
struct Route<'a> {
    kind: Kind,
    name: &'a Name,
    created: i64,
    hostnames: &'a [String],
    gateways: &'a [GatewayParent],
}

/// Attaches every route of the mesh.
pub(super) fn routes(mesh: &Mesh, all: &mut Resolved) {
    let http = mesh.http_routes.values().map(|route| (Kind::HttpRoute, route));
    let http = http.chain(mesh.grpc_routes.values().map(|route| (Kind::GrpcRoute, route))).map(|(kind, r)| Route {
        kind,
        name: &r.name,
        created: r.created,
        hostnames: &r.hostnames,
        gateways: &r.gateways,
    });
    let tcp = mesh.tcp_routes.values().map(|r| Route {
        kind: Kind::TcpRoute,
        name: &r.name,
        created: r.created,
        hostnames: &[],
        gateways: &r.gateways,
    });
    let tls = mesh.tls_routes.values().map(|r| Route {
        kind: Kind::TlsRoute,
        name: &r.name,
        created: r.created,
        hostnames: &r.hostnames,
        gateways: &r.gateways,
    });
    for route in http.chain(tcp).chain(tls).filter(|route| !route.gateways.is_empty()) {
        let labels = mesh.namespace_labels(&route.name.namespace);
        let outcomes = route.gateways.iter().map(|parent| {
            let outcome = gateway_of(mesh, all, parent).map(|gateway| match gateway {
                Ok(gateway) => attach(&route, &labels, parent, all, &gateway),
                Err(problem) => Err(problem),
            });
            (parent.clone(), outcome)
        });
        let outcomes = outcomes.collect();
        all.routes.insert((route.kind, route.name.clone()), outcomes);
    }
}

/// The Gateway whose listeners a parent names; None when it is somebody else's.
fn gateway_of(mesh: &Mesh, all: &Resolved, parent: &GatewayParent) -> Option<Result<Name, Problem>> {
    let missing = || Problem::new("NoMatchingParent", format!("there is no {} {}", parent.kind, parent.name));
    let gateway = match parent.kind {
        Kind::ListenerSet => match mesh.listener_sets.get(&parent.name) {
            Some(set) => &set.parent,
            None => return Some(Err(missing())),
        },
        _ => &parent.name,
    };
    match (all.gateways.contains_key(gateway), mesh.gateways.contains_key(gateway)) {
        (true, _) => Some(Ok(gateway.clone())),
        (false, true) => None,
        (false, false) => Some(Err(missing())),
    }
}

/// Tries one parent: from all of its listeners, each condition leaves those that meet it, and the first that leaves none is
/// the reason.
fn attach(
    route: &Route<'_>,
    labels: &BTreeMap<String, String>,
    parent: &GatewayParent,
    all: &mut Resolved,
    gateway: &Name,
) -> Result<(), Problem> {
    if parent.kind == Kind::ListenerSet
        && let Some(Err(why)) = all.listener_sets.get(&parent.name)
        && why.reason != "ListenersNotValid"
    {
        let message = format!("the ListenerSet {} is not accepted: {}", parent.name, why.message);
        return Err(Problem::new("NoMatchingParent", message));
    }
    let Some(gateway) = all.gateways.get_mut(gateway) else {
        return Err(Problem::new("NoMatchingParent", format!("there is no {} {}", parent.kind, parent.name)));
    };
    let named: Vec<&mut ResolvedListener> = gateway.listeners.iter_mut().filter(|l| l.is_of(parent)).collect();
    if named.is_empty() {
        let message = format!("the {} {} has no listener of that sectionName and port", parent.kind, parent.name);
        return Err(Problem::new("NoMatchingParent", message));
    }
    let allowed: Vec<&mut ResolvedListener> = named
        .into_iter()
        .filter(|l| l.kinds.contains(&route.kind))
        .filter(|l| l.listener.from.allows(&l.owner.1.namespace, &route.name.namespace, labels))
        .collect();
    if allowed.is_empty() {
        let message = format!("no listener allows a {} of the namespace {}", route.kind, route.name.namespace);
        return Err(Problem::new("NotAllowedByListeners", message));
    }
    let met: Vec<&mut ResolvedListener> = allowed.into_iter().filter(|l| meets(route, &l.listener.hostname)).collect();
    if met.is_empty() {
        let message = "no hostname of the route and of a listener that allows it stand for a common name";
        return Err(Problem::new("NoMatchingListenerHostname", message));
    }
    for listener in met {
        listener.attached.insert(Attached { created: route.created, name: route.name.clone(), kind: route.kind });
    }
    Ok(())
}

fn meets(route: &Route<'_>, hostname: &str) -> bool {
    // TCP names no server.
    route.kind == Kind::TcpRoute
        || route.hostnames.is_empty()
        || route.hostnames.iter().any(|own| hostnames_meet(own, hostname))
}
