//! How a Service's endpoints are balanced and their health is told. None: the default, which the sidecar has.

/// What a TrafficPolicy says of balancing and of health.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Balancing {
    pub policy: Option<BalancePolicy>,
    pub hash_key: Option<HashKey>,
    pub sticky_splits: Option<bool>,
    pub prefer_close: Option<bool>,
    pub slow_start_ms: Option<u32>,
    pub panic_percent: Option<u32>,
    pub consecutive_gateway_failures: Option<u32>,
    pub outlier_interval_ms: Option<u32>,
    pub minimum_requests: Option<u32>,
    pub success_rate_percent: Option<u32>,
    pub latency_factor: Option<u32>,
    pub health_check: Option<HealthCheck>,
}

impl Balancing {
    /// Takes from `other` what was not said yet.
    pub fn fill(&mut self, other: &Self) {
        fn fill<T: Clone>(own: &mut Option<T>, other: Option<&T>) {
            if own.is_none() {
                *own = other.cloned();
            }
        }
        fill(&mut self.policy, other.policy.as_ref());
        fill(&mut self.hash_key, other.hash_key.as_ref());
        fill(&mut self.sticky_splits, other.sticky_splits.as_ref());
        fill(&mut self.prefer_close, other.prefer_close.as_ref());
        fill(&mut self.slow_start_ms, other.slow_start_ms.as_ref());
        fill(&mut self.panic_percent, other.panic_percent.as_ref());
        fill(&mut self.consecutive_gateway_failures, other.consecutive_gateway_failures.as_ref());
        fill(&mut self.outlier_interval_ms, other.outlier_interval_ms.as_ref());
        fill(&mut self.minimum_requests, other.minimum_requests.as_ref());
        fill(&mut self.success_rate_percent, other.success_rate_percent.as_ref());
        fill(&mut self.latency_factor, other.latency_factor.as_ref());
        fill(&mut self.health_check, other.health_check.as_ref());
    }
}

/// How the endpoint of a request is picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BalancePolicy {
    LeastRequest,
    RoundRobin,
    Random,
    PeakEwma,
    RingHash,
    Maglev,
}

/// What a request is hashed by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashKey {
    SourceIp,
    Header(String),
    Cookie {
        name: String,
        /// Seconds. None: no cookie is made; zero: one that ends with the client.
        ttl: Option<u64>,
    },
    Query(String),
}

/// How each workload's own sidecar checks its app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// A port of the Service. None: the first.
    pub port: Option<u16>,
    pub interval_ms: u32,
    pub timeout_ms: u32,
    pub healthy_threshold: u32,
    pub unhealthy_threshold: u32,
    pub kind: ProbeKind,
}

/// What a check does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeKind {
    Http { path: String, host: String, statuses: Vec<u16> },
    Tcp,
    Grpc { service: String },
}

/// GEP-1619: a client stays with the endpoint that it first got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionPersistence {
    /// By a header instead of a cookie.
    pub header: bool,
    /// Empty: one that is unique for the rule.
    pub name: String,
    pub absolute_timeout_ms: Option<u64>,
    pub idle_timeout_ms: Option<u64>,
    /// The cookie outlives the client's session.
    pub permanent: bool,
}
