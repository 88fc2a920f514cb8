//! Services and what is attached to them.

use std::collections::BTreeMap;

use super::{AdaptiveConcurrency, Balancing, CircuitBreaker, Name, Resilience, RouteTarget};

/// A name for workloads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub name: Name,
    /// Empty: selects nothing.
    pub selector: BTreeMap<String, String>,
    pub ports: Vec<ServicePort>,
    /// Reached on every port, as its workloads' apps listen: a Service that nobody wrote.
    pub any_port: bool,
    /// `clusterIP: None`: its name stands for its workloads' addresses, so it has no virtual one.
    pub headless: bool,
}

impl Service {
    /// Whether a reference may name this port.
    pub fn has_port(&self, number: u16) -> bool {
        self.any_port || self.ports.iter().any(|port| port.number == number)
    }
}

/// One port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// May be empty when the Service has one port.
    pub name: String,
    pub number: u16,
    pub target: TargetPort,
    pub protocol: AppProtocol,
}

/// Which port of a workload: by number or by the name that the workload gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetPort {
    Number(u16),
    Name(String),
}

/// From `appProtocol`, else from the port's name (`http`, `http-admin`, `grpc`, `tcp-redis` …), else the first bytes
/// decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AppProtocol {
    #[default]
    Detect,
    Http,
    Http2,
    Tcp,
}

/// leno.dev/v1alpha1 TrafficPolicy. None: the default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrafficPolicy {
    /// The Services it is attached to, in its own namespace.
    pub targets: Vec<String>,
    /// It is attached to its own namespace as a whole.
    pub of_namespace: bool,
    /// What happens to captured plaintext from outside the mesh, in a namespace.
    pub mtls: Option<MtlsMode>,
    /// What happens to captured connections to what is not in the mesh, in a namespace.
    pub egress: Option<EgressMode>,
    pub connect_timeout_ms: Option<u32>,
    pub idle_timeout_ms: Option<u32>,
    pub consecutive_failures: Option<u32>,
    pub ejection_ms: Option<u32>,
    pub max_ejected_percent: Option<u32>,
    pub retry_budget_percent: Option<u32>,
    pub retry_budget_per_second: Option<u32>,
    /// The routes it is attached to.
    pub routes: Vec<RouteTarget>,
    pub resilience: Resilience,
    pub circuit_breaker: Option<CircuitBreaker>,
    pub adaptive_concurrency: Option<AdaptiveConcurrency>,
    pub balancing: Balancing,
}

/// Whether the workloads of a namespace take plaintext from outside the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MtlsMode {
    #[default]
    Strict,
    Permissive,
}

/// Whether the workloads of a namespace reach what is not in the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EgressMode {
    #[default]
    Allow,
    RegistryOnly,
}

/// Allows objects of other namespaces to refer to objects of this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceGrant {
    pub name: Name,
    pub from: Vec<GrantFrom>,
    pub to: Vec<GrantTo>,
}

/// Who may refer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantFrom {
    pub group: String,
    pub kind: String,
    pub namespace: String,
}

/// To what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantTo {
    pub group: String,
    pub kind: String,
    /// None: all of the namespace.
    pub name: Option<String>,
}
