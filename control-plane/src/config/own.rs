//! The specs of our own kinds, `leno.dev/v1alpha1`. An unknown field is refused by `decode` for these as for every
//! kind.

mod authorization;
mod balancing;
mod federation;
mod jwt;
mod resilience;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use authorization::{
    AuthorizationPolicySpec, AuthorizationRule, CallerMatch, ClaimCondition, HeaderCondition, RequestMatch,
};
pub use balancing::{Empty, GrpcCheck, HashKey, HealthCheck, HttpCheck, LoadBalancing};
pub use federation::{FederatedTrustDomainSpec, WrittenProfile};
pub use jwt::{JwtProviderSpec, WrittenJwks, WrittenPlace};
pub use resilience::{
    Abort, AccessLog, AdaptiveConcurrency, CircuitBreaker, Fault, FaultHeader, Hedge, RateLimit, RetryRules, Tracing,
};

/// A workload without a sidecar, as Istio's WorkloadEntry.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadSpec {
    /// An IP address.
    pub address: String,
    /// Port numbers by name.
    #[serde(default)]
    pub ports: BTreeMap<String, i64>,
    /// The account that it runs as.
    #[serde(default)]
    pub service_account: Option<String>,
    /// The SPIFFE ID that its sidecar proves, for one that has a sidecar of another mesh.
    #[serde(default)]
    pub identity: Option<String>,
    /// Where that sidecar takes connections of the mesh.
    #[serde(default)]
    pub mesh_port: Option<i64>,
}

/// How clients treat a service.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrafficPolicySpec {
    /// The Services and routes that it is attached to, or its own Namespace.
    pub target_refs: Vec<TargetRef>,
    /// `STRICT` or `PERMISSIVE`, for a Namespace or the workloads of a Service.
    #[serde(default)]
    pub mtls: Option<String>,
    /// The same by port of the app, for the workloads of a Service.
    #[serde(default)]
    pub port_level_mtls: Option<BTreeMap<String, String>>,
    /// `ALLOW` or `REGISTRY_ONLY`, for a Namespace.
    #[serde(default)]
    pub egress: Option<String>,
    /// A duration (GEP-2257).
    #[serde(default)]
    pub connect_timeout: Option<String>,
    /// A duration (GEP-2257): how long a connection may lie idle.
    #[serde(default)]
    pub idle_timeout: Option<String>,
    /// When an endpoint is set aside.
    #[serde(default)]
    pub outlier_detection: Option<OutlierDetection>,
    /// How many retries are allowed.
    #[serde(default)]
    pub retry_budget: Option<RetryBudget>,
    /// Which endpoint gets a request.
    #[serde(default)]
    pub load_balancing: Option<LoadBalancing>,
    /// How each workload's own sidecar checks its app.
    #[serde(default)]
    pub health_check: Option<HealthCheck>,
    /// When a request is tried again.
    #[serde(default)]
    pub retry: Option<RetryRules>,
    /// A second attempt beside a slow first one.
    #[serde(default)]
    pub hedge: Option<Hedge>,
    /// What is done to some requests on purpose.
    #[serde(default)]
    pub faults: Option<Vec<Fault>>,
    /// How many requests are let in.
    #[serde(default)]
    pub rate_limits: Option<Vec<RateLimit>>,
    /// What one client may have open.
    #[serde(default)]
    pub circuit_breaker: Option<CircuitBreaker>,
    /// A limit in front of the app that follows its latency.
    #[serde(default)]
    pub adaptive_concurrency: Option<AdaptiveConcurrency>,
    /// Which requests the caller's sidecar writes down.
    #[serde(default)]
    pub access_log: Option<AccessLog>,
    /// Which requests begin a trace.
    #[serde(default)]
    pub tracing: Option<Tracing>,
}

/// An object of the policy's own namespace (GEP-713).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetRef {
    /// Empty: the core group.
    #[serde(default)]
    pub group: String,
    /// `Service`, `Namespace`, `HTTPRoute` or `GRPCRoute`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// A named rule of a route.
    #[serde(default)]
    pub section_name: Option<String>,
}

/// When an endpoint is set aside.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutlierDetection {
    /// Failures in a row after which it is.
    #[serde(default)]
    pub consecutive_failures: Option<i64>,
    /// A duration (GEP-2257): for how long.
    #[serde(default)]
    pub ejection_time: Option<String>,
    /// At most this share of the endpoints at a time.
    #[serde(default)]
    pub max_ejected_percent: Option<i64>,
    /// Gateway errors (502, 503, 504, resets, failed connections) in a row after which it is.
    #[serde(default)]
    pub consecutive_gateway_failures: Option<i64>,
    /// A duration (GEP-2257): over how long rates are taken.
    #[serde(default)]
    pub interval: Option<String>,
    /// An endpoint with fewer requests in an interval is not judged by its rates.
    #[serde(default)]
    pub minimum_requests: Option<i64>,
    /// An endpoint with a lower share of successes is set aside while the others are better.
    #[serde(default)]
    pub success_rate_percent: Option<i64>,
    /// An endpoint that takes so many times as long as the others is.
    #[serde(default)]
    pub latency_factor: Option<i64>,
}

/// How many retries are allowed: `percent` of the requests plus `minRetriesPerSecond`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetryBudget {
    /// Of the requests.
    #[serde(default)]
    pub percent: Option<i64>,
    /// On top, each second.
    #[serde(default)]
    pub min_retries_per_second: Option<i64>,
}
