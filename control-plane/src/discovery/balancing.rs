//! Model to wire, for what is said of balancing.

use leno_proto::v1;

use crate::model::{BalancePolicy, Balancing, HashKey, SessionPersistence, Workload};

/// The labels by which a workload says where it is.
pub(super) const REGION: &str = "topology.kubernetes.io/region";
pub(super) const ZONE: &str = "topology.kubernetes.io/zone";

/// The value of a workload's label, or nothing.
pub(super) fn label(workload: &Workload, key: &str) -> String {
    workload.labels.get(key).cloned().unwrap_or_default()
}

/// None: nothing is said, so the message stays what it was.
pub(super) fn load_balancing(of: &Balancing) -> Option<v1::LoadBalancing> {
    let policy = match of.policy {
        None => v1::BalancePolicy::Unspecified,
        Some(BalancePolicy::LeastRequest) => v1::BalancePolicy::LeastRequest,
        Some(BalancePolicy::RoundRobin) => v1::BalancePolicy::RoundRobin,
        Some(BalancePolicy::Random) => v1::BalancePolicy::Random,
        Some(BalancePolicy::PeakEwma) => v1::BalancePolicy::PeakEwma,
        Some(BalancePolicy::RingHash) => v1::BalancePolicy::RingHash,
        Some(BalancePolicy::Maglev) => v1::BalancePolicy::Maglev,
    };
    let wire = v1::LoadBalancing {
        policy: policy.into(),
        hash_key: of.hash_key.as_ref().map(hash_key),
        sticky_splits: of.sticky_splits.unwrap_or_default(),
        prefer_close: of.prefer_close.unwrap_or_default(),
        slow_start_ms: of.slow_start_ms.unwrap_or_default(),
        panic_percent: of.panic_percent.unwrap_or_default(),
    };
    (wire != v1::LoadBalancing::default()).then_some(wire)
}

fn hash_key(of: &HashKey) -> v1::HashKey {
    use v1::hash_key::Key;
    let key = match of {
        HashKey::SourceIp => Key::SourceIp(true),
        HashKey::Header(name) => Key::Header(name.clone()),
        HashKey::Cookie { name, ttl } => Key::Cookie(v1::HashCookie { name: name.clone(), ttl_seconds: *ttl }),
        HashKey::Query(name) => Key::Query(name.clone()),
    };
    v1::HashKey { key: Some(key) }
}

/// None: nothing is said.
pub(super) fn outliers(of: &Balancing) -> Option<v1::Outliers> {
    let wire = v1::Outliers {
        consecutive_gateway_failures: of.consecutive_gateway_failures.unwrap_or_default(),
        interval_ms: of.outlier_interval_ms.unwrap_or_default(),
        minimum_requests: of.minimum_requests.unwrap_or_default(),
        success_rate_percent: of.success_rate_percent.unwrap_or_default(),
        latency_factor: of.latency_factor.unwrap_or_default(),
    };
    (wire != v1::Outliers::default()).then_some(wire)
}

pub(super) fn session(of: &SessionPersistence) -> v1::SessionPersistence {
    v1::SessionPersistence {
        header: of.header,
        name: of.name.clone(),
        absolute_timeout_ms: of.absolute_timeout_ms.unwrap_or_default(),
        idle_timeout_ms: of.idle_timeout_ms.unwrap_or_default(),
        permanent: of.permanent,
    }
}
