//! The domain, pure data: what a user's objects mean once they are validated. No YAML, no wire, no clock in here.

pub mod audit;
mod authorization;
mod backend_tls;
mod balancing;
mod diff;
pub mod expiry;
mod federation;
mod filter;
mod gateway;
mod https_url;
mod jwt;
mod names;
mod resilience;
mod revocation;
mod role;
mod route;
mod secret;
mod service;
mod workload;

use std::collections::BTreeMap;

pub use authorization::{
    Among, AuthorizationAction, AuthorizationPolicy, AuthorizationRule, CallerMatch, ClaimCondition, HeaderCondition,
    RequestMatch,
};
pub use backend_tls::{BackendTlsPolicy, EndpointSlice, PolicyTarget, SliceEndpoint, SubjectAltName};
pub use balancing::{BalancePolicy, Balancing, HashKey, HealthCheck, ProbeKind, SessionPersistence};
pub use diff::{Action, Change};
pub use federation::{BundleEndpoint, FederatedTrustDomain};
pub use filter::{Cors, Filter, HeaderModifier, Mirror, PathModifier, Redirect, Rewrite};
pub use gateway::{
    AllowedFrom, BoundPorts, CLASS, CONTROLLER, ClientValidation, Gateway, GatewayClass, GatewayParent, Listener,
    ListenerSet, ObjectRef, Operator, Protocol, Selector, TlsRoute, hostname_covers, hostnames_meet,
};
pub use https_url::HttpsUrl;
pub use jwt::{JwtKeys, JwtProvider, TokenPlace};
pub use names::{Kind, Name, ObjectKey};
pub use resilience::{
    AccessLog, AdaptiveConcurrency, CircuitBreaker, Fault, RateLimit, Resilience, RetryRules, RouteTarget,
};
pub use revocation::{Revocation, Revocations, Target};
pub use role::Role;
pub use route::{
    Backend, GrpcMethodMatch, HttpMatch, HttpRoute, HttpRule, PRECEDENCE, ParentRef, PathMatch, Retry, TcpRoute,
    ValueMatch,
};
pub use secret::{Authorities, ConfigMap, KeyPair, Secret};
pub use service::{
    AppProtocol, EgressMode, GrantFrom, GrantTo, MtlsMode, ReferenceGrant, Service, ServicePort, TargetPort,
    TrafficPolicy, Unfit,
};
pub use workload::{StaticWorkload, Workload};

/// Everything that is in force at one revision. Immutable: a change makes a new one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Mesh {
    pub services: BTreeMap<Name, Service>,
    pub workloads: BTreeMap<Name, StaticWorkload>,
    /// HTTPRoutes.
    pub http_routes: BTreeMap<Name, HttpRoute>,
    /// GRPCRoutes; the same shape, `grpc` is true.
    pub grpc_routes: BTreeMap<Name, HttpRoute>,
    pub tcp_routes: BTreeMap<Name, TcpRoute>,
    pub traffic_policies: BTreeMap<Name, TrafficPolicy>,
    pub authorization_policies: BTreeMap<Name, AuthorizationPolicy>,
    pub jwt_providers: BTreeMap<Name, JwtProvider>,
    /// By trust domain.
    pub federated_trust_domains: BTreeMap<String, FederatedTrustDomain>,
    pub reference_grants: BTreeMap<Name, ReferenceGrant>,
    /// Labels of the Namespaces that are written down.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    pub gateway_classes: BTreeMap<String, GatewayClass>,
    pub gateways: BTreeMap<Name, Gateway>,
    pub listener_sets: BTreeMap<Name, ListenerSet>,
    pub tls_routes: BTreeMap<Name, TlsRoute>,
    pub secrets: BTreeMap<Name, Secret>,
    pub config_maps: BTreeMap<Name, ConfigMap>,
    pub backend_tls_policies: BTreeMap<Name, BackendTlsPolicy>,
    pub endpoint_slices: BTreeMap<Name, EndpointSlice>,
    /// What Endpoints objects say, a slice a subset.
    pub endpoints: BTreeMap<Name, Vec<EndpointSlice>>,
}

impl Mesh {
    /// The labels of a namespace. Every namespace has the one of its name, as in Kubernetes, whether it was written down or not.
    pub fn namespace_labels(&self, namespace: &str) -> BTreeMap<String, String> {
        let mut labels = self.namespaces.get(namespace).cloned().unwrap_or_default();
        labels.insert("kubernetes.io/metadata.name".to_owned(), namespace.to_owned());
        labels
    }

    /// Where the keys of issuers are fetched from.
    pub fn jwks_urls(&self) -> impl Iterator<Item = &HttpsUrl> {
        self.jwt_providers.values().filter_map(|provider| match &provider.keys {
            JwtKeys::Url(url) => Some(url),
            JwtKeys::Inline(_) | JwtKeys::ConfigMap(_) => None,
        })
    }

    /// The TrafficPolicies in the order in which they win a conflict.
    pub fn policies_by_age(&self) -> Vec<(&Name, &TrafficPolicy)> {
        let mut all: Vec<_> = self.traffic_policies.iter().collect();
        all.sort_by_key(|(name, policy)| (policy.created, *name));
        all
    }

    /// Whether a route may send to a Service: as [`Self::may_refer`] says, and a route that is attached to Services alone to those
    /// themselves, since it opens nothing that its clients could not reach anyway (GEP-1294).
    pub fn may_send(&self, kind: Kind, route: &Name, service: &Name) -> bool {
        if self.may_refer((GATEWAY_GROUP, kind.as_str()), &route.namespace, ("", "Service", service)) {
            return true;
        }
        let http = |routes: &BTreeMap<Name, HttpRoute>| {
            routes.get(route).is_some_and(|r| r.gateways.is_empty() && r.parents.iter().any(|p| p.service == *service))
        };
        match kind {
            Kind::HttpRoute => http(&self.http_routes),
            Kind::GrpcRoute => http(&self.grpc_routes),
            Kind::TlsRoute => {
                let route = self.tls_routes.get(route);
                route.is_some_and(|r| r.gateways.is_empty() && r.parents.iter().any(|p| p.service == *service))
            }
            _ => {
                let route = self.tcp_routes.get(route);
                route.is_some_and(|r| r.gateways.is_empty() && r.parents.iter().any(|p| p.service == *service))
            }
        }
    }

    /// Whether the objects of one kind and namespace may refer to an object (GEP-709): to their own namespace's always, else
    /// with a ReferenceGrant in that one's.
    pub fn may_refer(&self, from: (&str, &str), namespace: &str, to: (&str, &str, &Name)) -> bool {
        let (group, kind, object) = to;
        if namespace == object.namespace {
            return true;
        }
        let first = Name::new(&object.namespace, "");
        let grants = self.reference_grants.range(first..).take_while(|(name, _)| name.namespace == object.namespace);
        grants.into_iter().any(|(_, grant)| {
            grant.from.iter().any(|f| (f.group.as_str(), f.kind.as_str()) == from && f.namespace == namespace)
                && grant.to.iter().any(|to| {
                    (to.group.as_str(), to.kind.as_str()) == (group, kind)
                        && to.name.as_ref().is_none_or(|name| *name == object.name)
                })
        })
    }
}

/// The group of the Gateway API.
pub const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";

/// One committed state: the mesh and the number of the revision that made it.
#[derive(Debug, Clone, Default)]
pub struct Committed {
    pub revision: u64,
    pub mesh: std::sync::Arc<Mesh>,
}
