//! Services and what is attached to them.

use std::collections::BTreeMap;

use super::{AdaptiveConcurrency, Balancing, CircuitBreaker, Name, ParentRef, Resilience, RouteTarget};

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

    /// Whether a route's parent stands for any port of it.
    pub fn has_parent_port(&self, parent: &ParentRef) -> bool {
        match (parent.port, &parent.section) {
            (None, None) => true,
            (Some(number), None) => self.has_port(number),
            _ => self.ports.iter().any(|port| parent.covers(port.number, &port.name)),
        }
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
    /// Set where `appProtocol` says that the app cannot be spoken to by every route.
    pub unfit: Option<Unfit>,
}

/// What an app's protocol is no good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// It is WebSocket's, so HTTP/1.1's.
    Grpc,
    /// It is no HTTP.
    Http,
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
    /// Seconds since 1970; of policies that say different things the oldest holds, then the first by name (GEP-713).
    pub created: i64,
    /// The Services it is attached to, in its own namespace.
    pub targets: Vec<String>,
    /// It is attached to its own namespace as a whole.
    pub of_namespace: bool,
    /// What happens to captured plaintext from outside the mesh, in a namespace or at the workloads of a Service.
    pub mtls: Option<MtlsMode>,
    /// The same by port of the app.
    pub port_mtls: BTreeMap<u16, MtlsMode>,
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

impl TrafficPolicy {
    /// Takes from `other` what this one does not say. What they are attached to stays as it is.
    pub fn fill(&mut self, other: &Self) {
        fn fill<T: Clone>(own: &mut Option<T>, other: Option<&T>) {
            if own.is_none() {
                *own = other.cloned();
            }
        }
        fill(&mut self.mtls, other.mtls.as_ref());
        for (port, mode) in &other.port_mtls {
            self.port_mtls.entry(*port).or_insert(*mode);
        }
        fill(&mut self.egress, other.egress.as_ref());
        fill(&mut self.connect_timeout_ms, other.connect_timeout_ms.as_ref());
        fill(&mut self.idle_timeout_ms, other.idle_timeout_ms.as_ref());
        fill(&mut self.consecutive_failures, other.consecutive_failures.as_ref());
        fill(&mut self.ejection_ms, other.ejection_ms.as_ref());
        fill(&mut self.max_ejected_percent, other.max_ejected_percent.as_ref());
        fill(&mut self.retry_budget_percent, other.retry_budget_percent.as_ref());
        fill(&mut self.retry_budget_per_second, other.retry_budget_per_second.as_ref());
        fill(&mut self.circuit_breaker, other.circuit_breaker.as_ref());
        fill(&mut self.adaptive_concurrency, other.adaptive_concurrency.as_ref());
        self.balancing.fill(&other.balancing);
        self.resilience.fill(&other.resilience);
    }

    /// What it says, without whom it says it of.
    pub fn said(&self) -> Self {
        Self { created: 0, targets: Vec::new(), of_namespace: false, routes: Vec::new(), ..self.clone() }
    }
}

/// Whether workloads take plaintext from outside the mesh.
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
