//! HTTPRoutes and GRPCRoutes have no hostname of a listener in common (GRPCRoute, `hostnames`): of two that would, the older one
//! holds, then the one that comes first by namespace and name.

use std::collections::{BTreeMap, BTreeSet};

use super::{Attached, Problem, Resolved};
use crate::model::{Kind, Mesh, Name, hostname_covers, hostnames_meet};

/// The hostnames of one kind's routes on a listener, and whose they are.
#[derive(Default)]
struct Taken<'a> {
    exact: BTreeMap<&'a str, &'a Name>,
    wild: Vec<(&'a str, &'a Name)>,
}

impl<'a> Taken<'a> {
    fn meets(&self, hostname: &str) -> Option<&'a Name> {
        let wild = || self.wild.iter().find(|(own, _)| hostnames_meet(own, hostname)).map(|(_, name)| *name);
        let exact = match is_wild(hostname) {
            true => self.exact.iter().find(|(own, _)| hostname_covers(hostname, own)).map(|(_, name)| *name),
            false => self.exact.get(hostname).copied(),
        };
        exact.or_else(wild)
    }

    fn take(&mut self, hostname: &'a str, name: &'a Name) {
        match is_wild(hostname) {
            true => self.wild.push((hostname, name)),
            false => _ = self.exact.entry(hostname).or_insert(name),
        }
    }
}

fn is_wild(hostname: &str) -> bool {
    hostname.is_empty() || hostname.starts_with('*')
}

/// What a route's hostnames come to on a listener.
fn on_listener<'a>(own: &'a [String], listener: &'a str) -> Vec<&'a str> {
    if own.is_empty() {
        return vec![listener];
    }
    let own = own.iter().map(String::as_str).filter(|own| hostnames_meet(own, listener));
    own.map(|own| if !listener.is_empty() && hostname_covers(own, listener) { listener } else { own }).collect()
}

fn hostnames<'a>(mesh: &'a Mesh, route: &Attached) -> &'a [String] {
    let routes = if route.kind == Kind::GrpcRoute { &mesh.grpc_routes } else { &mesh.http_routes };
    routes.get(&route.name).map(|route| route.hostnames.as_slice()).unwrap_or_default()
}

/// The routes of a listener that do not hold, and the ones that hold instead.
fn rejected(mesh: &Mesh, attached: &BTreeSet<Attached>, listener: &str) -> Vec<(Attached, Name)> {
    let both = [Kind::HttpRoute, Kind::GrpcRoute];
    if !both.iter().all(|kind| attached.iter().any(|route| route.kind == *kind)) {
        return Vec::new();
    }
    let (mut http, mut grpc) = (Taken::default(), Taken::default());
    let mut rejected = Vec::new();
    for route in attached.iter().filter(|route| both.contains(&route.kind)) {
        let (own, other) = if route.kind == Kind::GrpcRoute { (&mut grpc, &http) } else { (&mut http, &grpc) };
        let names = on_listener(hostnames(mesh, route), listener);
        match names.iter().find_map(|hostname| other.meets(hostname)) {
            Some(winner) => rejected.push((route.clone(), winner.clone())),
            None => names.into_iter().for_each(|hostname| own.take(hostname, &route.name)),
        }
    }
    rejected
}

/// Takes those that do not hold from their listeners. One that is left with none by a parent is told so.
pub(super) fn keep(mesh: &Mesh, all: &mut Resolved) {
    let mut lost: BTreeMap<(Kind, Name), Name> = BTreeMap::new();
    for listener in all.gateways.values_mut().flat_map(|gateway| &mut gateway.listeners) {
        for (route, winner) in rejected(mesh, &listener.attached, &listener.listener.hostname) {
            listener.attached.remove(&route);
            lost.insert((route.kind, route.name), winner);
        }
    }
    for ((kind, name), winner) in lost {
        let Some(outcomes) = all.routes.get_mut(&(kind, name.clone())) else { continue };
        for (parent, outcome) in outcomes.iter_mut().filter(|(_, outcome)| matches!(outcome, Some(Ok(())))) {
            let listeners = all.gateways.values().flat_map(|gateway| &gateway.listeners);
            let named = listeners.filter(|listener| listener.is_of(parent));
            let left = named.into_iter().any(|l| l.attached.iter().any(|a| a.kind == kind && a.name == name));
            if !left {
                let other = if kind == Kind::GrpcRoute { Kind::HttpRoute } else { Kind::GrpcRoute };
                let message = format!("the {other} {winner} has a hostname of this route on the same listener");
                *outcome = Some(Err(Problem::new("Conflicted", message)));
            }
        }
    }
}
