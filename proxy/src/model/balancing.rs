//! Which endpoint gets a request: what a TrafficPolicy says of it, with its defaults filled in.

use std::time::Duration;

use http::HeaderName;
use leno_proto::v1;

use super::InvalidResource;
use super::convert::{header_name, invalid};

/// How an endpoint is picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BalancePolicy {
    /// The less busy of two drawn at random.
    #[default]
    LeastRequest,
    /// One after the other.
    RoundRobin,
    /// Any.
    Random,
    /// Of two drawn at random the one that promises to answer sooner.
    PeakEwma,
    /// By a ring of hashes.
    RingHash,
    /// By Maglev's table.
    Maglev,
}

/// What a request is hashed by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashKey {
    /// The caller's address.
    SourceIp,
    /// A header.
    Header(HeaderName),
    /// A cookie.
    Cookie {
        /// Its name.
        name: String,
        /// For how many seconds the sidecar makes one where there is none; zero: until the client ends. None: it makes none.
        ttl: Option<u64>,
    },
    /// A query parameter.
    Query(String),
}

/// What a TrafficPolicy says of balancing.
#[derive(Debug, Clone, PartialEq)]
pub struct Balancing {
    /// How an endpoint is picked.
    pub policy: BalancePolicy,
    /// What requests are hashed by, for policies and splits that do.
    pub hash_key: Option<HashKey>,
    /// The hash decides among weighted backends, too.
    pub sticky_splits: bool,
    /// Near endpoints go before far ones.
    pub prefer_close: bool,
    /// How long the share of a new or returned endpoint grows; zero: it has its full share at once.
    pub slow_start: Duration,
    /// When fewer of the endpoints are healthy, in percent, all of them are used.
    pub panic_percent: u32,
    /// Gateway errors in a row after which an endpoint is ejected; zero: they count as failures only.
    pub gateway_failures: u32,
    /// Over how long rates are taken.
    pub interval: Duration,
    /// An endpoint with fewer requests in an interval is not judged by its rates.
    pub minimum_requests: u32,
    /// An endpoint with a lower share of successes is ejected while the others are better; zero: none is.
    pub success_rate_percent: u32,
    /// An endpoint that takes so many times as long as the others is ejected; zero: none is.
    pub latency_factor: u32,
}

impl Default for Balancing {
    fn default() -> Self {
        Self {
            policy: BalancePolicy::default(),
            hash_key: None,
            sticky_splits: false,
            prefer_close: false,
            slow_start: Duration::ZERO,
            panic_percent: 0,
            gateway_failures: 0,
            interval: Duration::from_secs(10),
            minimum_requests: 20,
            success_rate_percent: 0,
            latency_factor: 0,
        }
    }
}

impl Balancing {
    /// Whether endpoints are picked by the hash of a request.
    pub fn hashes(&self) -> bool {
        matches!(self.policy, BalancePolicy::RingHash | BalancePolicy::Maglev)
    }

    /// Whether it matters how long an attempt takes and how it ends, beyond failures in a row.
    pub fn measures(&self) -> bool {
        self.policy == BalancePolicy::PeakEwma || self.success_rate_percent != 0 || self.latency_factor != 0
    }
}

/// Wire to model. A zero means the default.
pub(super) fn balancing(
    load: Option<v1::LoadBalancing>,
    outliers: Option<v1::Outliers>,
) -> Result<Balancing, InvalidResource> {
    let mut balancing = Balancing::default();
    if let Some(wire) = load {
        balancing.policy = policy(&wire)?;
        balancing.hash_key = wire.hash_key.map(hash_key).transpose()?;
        balancing.sticky_splits = wire.sticky_splits;
        balancing.prefer_close = wire.prefer_close;
        balancing.slow_start = Duration::from_millis(wire.slow_start_ms.into());
        balancing.panic_percent = wire.panic_percent.min(100);
    }
    if let Some(wire) = outliers {
        balancing.gateway_failures = wire.consecutive_gateway_failures;
        if wire.interval_ms != 0 {
            balancing.interval = Duration::from_millis(wire.interval_ms.into());
        }
        if wire.minimum_requests != 0 {
            balancing.minimum_requests = wire.minimum_requests;
        }
        balancing.success_rate_percent = wire.success_rate_percent.min(100);
        balancing.latency_factor = wire.latency_factor;
    }
    Ok(balancing)
}

fn policy(wire: &v1::LoadBalancing) -> Result<BalancePolicy, InvalidResource> {
    // A policy of a newer control plane must not become another one in silence.
    let known = v1::BalancePolicy::try_from(wire.policy).map_err(|_| invalid("balancing policy", wire.policy))?;
    Ok(match known {
        v1::BalancePolicy::Unspecified | v1::BalancePolicy::LeastRequest => BalancePolicy::LeastRequest,
        v1::BalancePolicy::RoundRobin => BalancePolicy::RoundRobin,
        v1::BalancePolicy::Random => BalancePolicy::Random,
        v1::BalancePolicy::PeakEwma => BalancePolicy::PeakEwma,
        v1::BalancePolicy::RingHash => BalancePolicy::RingHash,
        v1::BalancePolicy::Maglev => BalancePolicy::Maglev,
    })
}

fn hash_key(wire: v1::HashKey) -> Result<HashKey, InvalidResource> {
    use v1::hash_key::Key;
    Ok(match wire.key {
        Some(Key::SourceIp(_)) => HashKey::SourceIp,
        Some(Key::Header(name)) => HashKey::Header(header_name(&name)?),
        Some(Key::Cookie(cookie)) => {
            // It is written into a header as it is.
            header_name(&cookie.name)?;
            HashKey::Cookie { name: cookie.name, ttl: cookie.ttl_seconds }
        }
        Some(Key::Query(name)) => HashKey::Query(name),
        None => return Err(InvalidResource("a hash key of a kind that this sidecar does not know".to_owned())),
    })
}
