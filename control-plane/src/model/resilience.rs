//! What policies say of requests: retries, hedging, limits and faults. None: nothing was said.

use super::{Kind, ValueMatch};

/// Of a whole service or of one rule.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resilience {
    pub retry: Option<RetryRules>,
    /// Milliseconds until another attempt is made beside the first.
    pub hedge_ms: Option<u64>,
    pub faults: Option<Vec<Fault>>,
    pub rate_limits: Option<Vec<RateLimit>>,
    pub access_log: Option<AccessLog>,
    /// Millionths of the requests that come without a trace.
    pub traces: Option<u32>,
}

/// Which requests the caller's sidecar writes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessLog {
    /// As it travels: 0 off, 1 errors, 2 sampled, 3 all.
    pub mode: u32,
    /// Millionths of the requests that went well.
    pub share: Option<u32>,
}

impl Resilience {
    /// Takes from `other` what was not said before it.
    pub fn fill(&mut self, other: &Self) {
        self.retry = self.retry.take().or_else(|| other.retry.clone());
        self.hedge_ms = self.hedge_ms.or(other.hedge_ms);
        self.faults = self.faults.take().or_else(|| other.faults.clone());
        self.rate_limits = self.rate_limits.take().or_else(|| other.rate_limits.clone());
        self.access_log = self.access_log.or(other.access_log);
        self.traces = self.traces.or(other.traces);
    }
}

/// When a request is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RetryRules {
    pub attempts: Option<u32>,
    pub codes: Option<Vec<u16>>,
    /// By name, as they travel.
    pub on: Option<Vec<String>>,
    pub non_idempotent: Option<bool>,
    pub per_try_timeout_ms: Option<u64>,
    pub backoff_ms: Option<u64>,
    pub max_backoff_ms: Option<u64>,
    pub max_retry_after_ms: Option<u64>,
}

/// What is done to some requests on purpose.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fault {
    pub percent: u32,
    pub headers: Vec<ValueMatch>,
    pub delay_ms: u64,
    /// Zero: none.
    pub abort_status: u16,
    pub abort_grpc_status: Option<u32>,
}

/// How many requests are let in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RateLimit {
    pub name: String,
    pub requests: u32,
    pub seconds: u32,
    pub burst: u32,
    pub by_caller: bool,
}

/// What one client may have open at a service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CircuitBreaker {
    pub max_connections: Option<u32>,
    pub max_pending_requests: Option<u32>,
    pub max_requests: Option<u32>,
    pub max_retries: Option<u32>,
}

/// A limit in front of the app that follows its latency.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AdaptiveConcurrency {
    pub min_requests: u32,
    pub max_requests: u32,
    pub tolerance_percent: u32,
}

/// A route of the policy's own namespace that it is attached to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteTarget {
    pub kind: Kind,
    pub name: String,
    /// The name of a rule; None: all of them.
    pub section: Option<String>,
}
