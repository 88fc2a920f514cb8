//! Routes to Services: of several types on one port only one holds (GEP-1294).

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Kind, Mesh, Name, PRECEDENCE, ParentRef};

/// Which types of routes are attached to which Services. Routes that differ in nothing else stand there once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OnServices(BTreeMap<Name, BTreeSet<On>>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct On {
    /// The routes' own: those of one namespace hold together, for its own or for all clients.
    namespace: String,
    kind: Kind,
    parent: ParentRef,
}

impl OnServices {
    pub(super) fn of(mesh: &Mesh) -> Self {
        let http = mesh.http_routes.values().map(|route| (Kind::HttpRoute, &route.name, &route.parents));
        let grpc = mesh.grpc_routes.values().map(|route| (Kind::GrpcRoute, &route.name, &route.parents));
        let tls = mesh.tls_routes.values().map(|route| (Kind::TlsRoute, &route.name, &route.parents));
        let tcp = mesh.tcp_routes.values().map(|route| (Kind::TcpRoute, &route.name, &route.parents));
        let mut all = Self::default();
        for (kind, name, parents) in http.chain(grpc).chain(tls).chain(tcp) {
            for parent in parents {
                let on = On { namespace: name.namespace.clone(), kind, parent: parent.clone() };
                all.0.entry(parent.service.clone()).or_default().insert(on);
            }
        }
        all
    }

    /// The type that holds in place of a route on every port that its parent stands for. None: the route holds on one of them.
    pub fn instead_of(&self, mesh: &Mesh, kind: Kind, namespace: &str, parent: &ParentRef) -> Option<Kind> {
        let all = self.0.get(&parent.service)?;
        let holds = |number: u16, name: &str| {
            let there = |kind: &Kind| {
                all.iter().any(|on| on.namespace == namespace && on.kind == *kind && on.parent.covers(number, name))
            };
            PRECEDENCE.into_iter().find(there)
        };
        let written = mesh.services.get(&parent.service);
        let mut ports: Vec<(u16, &str)> = written
            .iter()
            .flat_map(|service| &service.ports)
            .map(|port| (port.number, port.name.as_str()))
            .filter(|(number, name)| parent.covers(*number, name))
            .collect();
        if ports.is_empty() {
            // Nobody wrote the Service, or the port is not there (yet).
            ports.push((parent.port.unwrap_or_default(), parent.section.as_deref().unwrap_or_default()));
        }
        let holding: Vec<Kind> = ports.into_iter().filter_map(|(number, name)| holds(number, name)).collect();
        if holding.contains(&kind) { None } else { holding.first().copied() }
    }
}
