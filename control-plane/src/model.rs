//! The domain, pure data: what a user's objects mean once they are validated. No YAML, no wire, no clock in here.

mod diff;
mod names;
mod resilience;
mod route;
mod service;
mod workload;

use std::collections::BTreeMap;

pub use diff::{Action, Change};
pub use names::{Kind, Name, ObjectKey};
pub use resilience::{AdaptiveConcurrency, CircuitBreaker, Fault, RateLimit, Resilience, RetryRules, RouteTarget};
pub use route::{
    Backend, Filter, GrpcMethodMatch, HeaderModifier, HttpMatch, HttpRoute, HttpRule, ParentRef, PathMatch, Retry,
    TcpRoute, ValueMatch,
};
pub use service::{AppProtocol, EgressMode, MtlsMode, ReferenceGrant, Service, ServicePort, TargetPort, TrafficPolicy};
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
    pub reference_grants: BTreeMap<Name, ReferenceGrant>,
}

/// One committed state: the mesh and the number of the revision that made it.
#[derive(Debug, Clone, Default)]
pub struct Committed {
    pub revision: u64,
    pub mesh: std::sync::Arc<Mesh>,
}
