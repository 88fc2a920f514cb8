//! Which routes and policies are attached to which Service, and the other way round. Rebuilt from the mesh at a revision;
//! that is a pass over small structures without any encoding.

use std::collections::{BTreeSet, HashMap};

use crate::model::{
    Backend, HttpRoute, Kind, Mesh, Name, PRECEDENCE, ParentRef, Resilience, Service, ServicePort, TrafficPolicy,
};

/// Identifies a route of any kind.
pub(super) type RouteKey = (Kind, Name);

/// The name of a route's resource: `HTTPRoute/NAMESPACE/NAME`.
pub(super) fn resource_name(kind: Kind, name: &Name) -> String {
    let kind = match kind {
        Kind::GrpcRoute => "GRPCRoute",
        Kind::TcpRoute => "TCPRoute",
        Kind::TlsRoute => "TLSRoute",
        _ => "HTTPRoute",
    };
    format!("{kind}/{name}")
}

/// The routes of one port, by the names of their resources, in order of precedence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PortRoutes {
    pub(super) http: Vec<String>,
    pub(super) tls: Vec<String>,
    pub(super) tcp: Vec<String>,
}

/// One attachment. Its order is the Gateway API's: the oldest first, then by namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Attached {
    created: i64,
    name: Name,
    kind: Kind,
    port: Option<u16>,
    section: Option<String>,
}

impl Attached {
    /// None: a port that stands nowhere.
    fn covers(&self, port: Option<&ServicePort>) -> bool {
        self.port.is_none_or(|number| port.is_some_and(|port| port.number == number))
            && self.section.as_ref().is_none_or(|name| port.is_some_and(|port| port.name == *name))
    }
}

#[derive(Debug, Default)]
pub(super) struct Attachments {
    by_service: HashMap<Name, BTreeSet<Attached>>,
    by_backend: HashMap<Name, BTreeSet<RouteKey>>,
    /// Routes that send into another namespace: the ones that a ReferenceGrant may concern.
    crossing: BTreeSet<RouteKey>,
    policies: HashMap<Name, TrafficPolicy>,
    /// What policies say of a route's rules, in the order in which they win; None: of all its rules.
    of_routes: HashMap<RouteKey, Vec<(Option<String>, Resilience)>>,
}

impl Attachments {
    pub(super) fn of(mesh: &Mesh) -> Self {
        let mut all = Self::default();
        for (kind, routes) in [(Kind::HttpRoute, &mesh.http_routes), (Kind::GrpcRoute, &mesh.grpc_routes)] {
            for route in routes.values() {
                all.add(kind, &route.name, route.created, &route.parents, http_backends(route));
            }
        }
        for route in mesh.tcp_routes.values() {
            all.add(Kind::TcpRoute, &route.name, route.created, &route.parents, route.backends.iter());
        }
        for route in mesh.tls_routes.values() {
            all.add(Kind::TlsRoute, &route.name, route.created, &route.parents, route.backends.iter());
        }
        for (name, policy) in mesh.policies_by_age() {
            for target in &policy.targets {
                let service = Name::new(&name.namespace, target);
                all.policies.entry(service).or_default().fill(policy);
            }
            for target in &policy.routes {
                let route = (target.kind, Name::new(&name.namespace, &target.name));
                let said = (target.section.clone(), policy.resilience.clone());
                all.of_routes.entry(route).or_default().push(said);
            }
        }
        all
    }

    fn add<'a>(
        &mut self,
        kind: Kind,
        name: &Name,
        created: i64,
        parents: &[ParentRef],
        backends: impl Iterator<Item = &'a Backend>,
    ) {
        for parent in parents {
            let (name, section) = (name.clone(), parent.section.clone());
            let attached = Attached { created, name, kind, port: parent.port, section };
            self.by_service.entry(parent.service.clone()).or_default().insert(attached);
        }
        for backend in backends {
            self.by_backend.entry(backend.service.clone()).or_default().insert((kind, name.clone()));
            if backend.service.namespace != name.namespace {
                self.crossing.insert((kind, name.clone()));
            }
        }
    }

    /// The routes whose backends name this Service.
    pub(super) fn sending_to(&self, service: &Name) -> impl Iterator<Item = &RouteKey> {
        self.by_backend.get(service).into_iter().flatten()
    }

    /// The routes that send into another namespace.
    pub(super) fn crossing(&self) -> impl Iterator<Item = &RouteKey> {
        self.crossing.iter()
    }

    /// All policies of a Service as one.
    pub(super) fn policy(&self, service: &Name) -> Option<&TrafficPolicy> {
        self.policies.get(service)
    }

    /// What policies say of a rule: those of the rule itself first, then those of its route.
    pub(super) fn of_rule<'a>(&'a self, kind: Kind, route: &Name, rule: &str) -> Vec<&'a Resilience> {
        let all = self.of_routes.get(&(kind, route.clone())).map(Vec::as_slice).unwrap_or_default();
        let of_rule = all.iter().filter(|(section, _)| section.as_deref().is_some_and(|name| name == rule));
        of_rule.chain(all.iter().filter(|(section, _)| section.is_none())).map(|(_, said)| said).collect()
    }

    /// Whether any rule of a route has rate limits.
    pub(super) fn limits_route(&self, kind: Kind, route: &Name) -> bool {
        let all = self.of_routes.get(&(kind, route.clone()));
        all.into_iter().flatten().any(|(_, said)| said.rate_limits.is_some())
    }

    /// The GRPCRoutes of a Service's own namespace that are attached to it, or else the HTTPRoutes, oldest first.
    pub(super) fn http_routes(&self, service: &Name) -> Vec<RouteKey> {
        let mut found: Vec<RouteKey> = Vec::new();
        for attached in self.by_service.get(service).into_iter().flatten() {
            let key = (attached.kind, attached.name.clone());
            let http = matches!(attached.kind, Kind::HttpRoute | Kind::GrpcRoute);
            if http && key.1.namespace == service.namespace && !found.contains(&key) {
                found.push(key);
            }
        }
        // Of both types only the more specific one holds (GEP-1426).
        if found.iter().any(|(kind, _)| *kind == Kind::GrpcRoute) {
            found.retain(|(kind, _)| *kind == Kind::GrpcRoute);
        }
        found
    }

    /// The ports of a Service that routes name.
    pub(super) fn parent_ports(&self, service: &Name) -> impl Iterator<Item = u16> {
        self.by_service.get(service).into_iter().flatten().filter_map(|attached| attached.port)
    }

    /// The other namespaces that have routes of their own (consumer routes, GEP-1324) for this Service.
    pub(super) fn consumer_namespaces(&self, service: &Name) -> BTreeSet<&str> {
        let attached = self.by_service.get(service).into_iter().flatten();
        attached.map(|a| a.name.namespace.as_str()).filter(|namespace| *namespace != service.namespace).collect()
    }

    /// The routes of each port of a Service for the clients of one namespace. A namespace with consumer routes on a port sees
    /// only those there; every other one sees the producer's.
    pub(super) fn routes(&self, service: &Service, client_namespace: &str) -> Vec<PortRoutes> {
        service.ports.iter().map(|port| self.of_port(service, Some(port), client_namespace)).collect()
    }

    /// As [`Self::routes`], for the ports that stand nowhere: what is attached to no port in particular.
    pub(super) fn routes_of_any_port(&self, service: &Service, client_namespace: &str) -> PortRoutes {
        self.of_port(service, None, client_namespace)
    }

    fn of_port(&self, service: &Service, port: Option<&ServicePort>, client_namespace: &str) -> PortRoutes {
        let own = self.port_routes(&service.name, port, client_namespace);
        if own == PortRoutes::default() && client_namespace != service.name.namespace {
            return self.port_routes(&service.name, port, &service.name.namespace);
        }
        own
    }

    /// Of several types only the most specific one holds.
    fn port_routes(&self, service: &Name, port: Option<&ServicePort>, route_namespace: &str) -> PortRoutes {
        let attached: Vec<&Attached> = self
            .by_service
            .get(service)
            .into_iter()
            .flatten()
            .filter(|a| a.name.namespace == route_namespace && a.covers(port))
            .collect();
        let Some(kind) = PRECEDENCE.into_iter().find(|kind| attached.iter().any(|a| a.kind == *kind)) else {
            return PortRoutes::default();
        };
        // A route may name the Service twice, once with the port and once without.
        let mut seen = BTreeSet::new();
        let names = attached.into_iter().filter(|a| a.kind == kind && seen.insert(&a.name));
        let names = names.map(|a| resource_name(kind, &a.name)).collect();
        match kind {
            Kind::TcpRoute => PortRoutes { tcp: names, ..PortRoutes::default() },
            Kind::TlsRoute => PortRoutes { tls: names, ..PortRoutes::default() },
            _ => PortRoutes { http: names, ..PortRoutes::default() },
        }
    }
}

fn http_backends(route: &HttpRoute) -> impl Iterator<Item = &Backend> {
    route.rules.iter().flat_map(crate::model::HttpRule::targets)
}
