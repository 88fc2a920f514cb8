//! How requests are kept safe: retries, hedging, faults and limits, of a whole service or of one rule.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use leno_proto::v1;

use super::{HttpMatch, Observe, RouteKind};

/// What of a failed attempt is tried again, by name as the user writes it; each is a bit of [`Conditions`].
const CONDITIONS: [(&str, Conditions); 10] = [
    ("connect-failure", Conditions::CONNECT_FAILURE),
    ("refused-stream", Conditions::REFUSED_STREAM),
    ("reset-before-request", Conditions::REFUSED_STREAM),
    ("reset", Conditions::RESET),
    ("timeout", Conditions::TIMEOUT),
    ("cancelled", Conditions::grpc(1)),
    ("deadline-exceeded", Conditions::grpc(4)),
    ("internal", Conditions::grpc(13)),
    ("resource-exhausted", Conditions::grpc(8)),
    ("unavailable", Conditions::grpc(14)),
];

/// A set of conditions: the lower half is of gRPC statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conditions(u32);

impl Conditions {
    /// The endpoint or its app could not be reached.
    pub const CONNECT_FAILURE: Self = Self(1 << 20);
    /// A stream that the upstream refused unseen, or a connection that ended before a byte of the request was sent.
    pub const REFUSED_STREAM: Self = Self(1 << 21);
    /// A connection that ended before an answer came.
    pub const RESET: Self = Self(1 << 22);
    /// The timeout of an attempt.
    pub const TIMEOUT: Self = Self(1 << 23);
    /// What holds where nothing is said.
    pub const DEFAULT: Self = Self(Self::CONNECT_FAILURE.0 | Self::REFUSED_STREAM.0 | Self::RESET.0 | Self::TIMEOUT.0);

    /// A gRPC status (google.rpc.Code, 0 to 16).
    pub const fn grpc(status: u8) -> Self {
        Self(1 << if status < 17 { status } else { 0 })
    }

    /// None: one of the names is not known.
    pub(super) fn named<'a>(names: impl Iterator<Item = &'a str>) -> Option<Self> {
        let bit = |name: &str| CONDITIONS.iter().find(|(known, _)| *known == name).map(|(_, bit)| bit.0);
        names.map(bit).try_fold(0, |set, bit| Some(set | bit?)).map(Self)
    }

    /// Whether one of these is in the set.
    pub fn has(self, one: Self) -> bool {
        self.0 & one.0 != 0
    }
}

/// When a request is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Further attempts after the first.
    pub attempts: u32,
    /// Statuses that are tried again.
    pub codes: Vec<u16>,
    /// Conditions that are.
    pub on: Conditions,
    /// What is not safe to do twice is tried again all the same.
    pub non_idempotent: bool,
    /// Of one attempt.
    pub per_try_timeout: Option<Duration>,
    /// Before the first retry; doubles.
    pub backoff: Duration,
    /// Longest pause.
    pub most_backoff: Duration,
    /// Longest `Retry-After` that is waited for.
    pub most_retry_after: Duration,
}

impl Default for Retry {
    /// What holds where nothing is said: enough to hide one bad instance, and the budget bounds it.
    fn default() -> Self {
        Self {
            attempts: 2,
            codes: vec![503],
            on: Conditions::DEFAULT,
            non_idempotent: false,
            per_try_timeout: None,
            backoff: Duration::from_millis(5),
            most_backoff: Duration::from_secs(10),
            most_retry_after: Duration::from_secs(1),
        }
    }
}

/// What was said of retries in one place; what was not is left to the next one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RetrySaid {
    pub(super) attempts: Option<u32>,
    pub(super) codes: Option<Vec<u16>>,
    pub(super) on: Option<Conditions>,
    pub(super) non_idempotent: Option<bool>,
    pub(super) per_try_timeout: Option<Duration>,
    pub(super) backoff: Option<Duration>,
    pub(super) most_backoff: Option<Duration>,
    pub(super) most_retry_after: Option<Duration>,
}

impl RetrySaid {
    /// With what holds otherwise.
    pub fn over(&self, otherwise: &Retry) -> Retry {
        Retry {
            attempts: self.attempts.unwrap_or(otherwise.attempts),
            codes: self.codes.clone().unwrap_or_else(|| otherwise.codes.clone()),
            on: self.on.unwrap_or(otherwise.on),
            non_idempotent: self.non_idempotent.unwrap_or(otherwise.non_idempotent),
            per_try_timeout: self.per_try_timeout.or(otherwise.per_try_timeout),
            backoff: self.backoff.unwrap_or(otherwise.backoff),
            most_backoff: self.most_backoff.unwrap_or(otherwise.most_backoff),
            most_retry_after: self.most_retry_after.unwrap_or(otherwise.most_retry_after),
        }
    }
}

/// What policies say of a service's or a rule's requests.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Resilience {
    /// None: nothing was said.
    pub retry: Option<RetrySaid>,
    /// Without an answer for this long, another attempt is made beside the first.
    pub hedge: Option<Duration>,
    /// What is done to requests on purpose.
    pub faults: Arc<Vec<Fault>>,
    /// Which of them are written down.
    pub observe: Observe,
}

impl Resilience {
    /// A rule's, where nothing was said of it the service's.
    pub fn over(&self, service: &Self, inline: Option<&RetrySaid>, base: &Retry) -> (Retry, Self) {
        let retry = self.retry.as_ref().map_or_else(|| base.clone(), |said| said.over(base));
        let retry = inline.map_or_else(|| retry.clone(), |said| said.over(&retry));
        let faults = if self.faults.is_empty() { service.faults.clone() } else { self.faults.clone() };
        let observe = self.observe.over(service.observe);
        (retry, Self { retry: None, hedge: self.hedge.or(service.hedge), faults, observe })
    }
}

/// What is done to some requests on purpose.
#[derive(Debug, Clone)]
pub struct Fault {
    /// As it came, by which two are compared.
    pub(super) said: v1::Fault,
    /// Of the requests that match.
    pub percent: u32,
    /// Which requests.
    pub matches: HttpMatch,
    /// How long they are held.
    pub delay: Duration,
    /// What is answered instead of the app.
    pub abort: Option<Abort>,
}

impl PartialEq for Fault {
    fn eq(&self, other: &Self) -> bool {
        self.said == other.said
    }
}

/// What is answered instead of the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abort {
    /// The HTTP status.
    pub status: http::StatusCode,
    /// For gRPC callers.
    pub grpc_status: Option<u8>,
}

/// What one client may have open at a service, of all its workers together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitBreaker {
    /// Connections that carry one request each, or opaque bytes.
    pub connections: u32,
    /// Requests that wait for a connection.
    pub pending: u32,
    /// Requests whose answer is not whole.
    pub requests: u32,
    /// Retries that wait for their answer.
    pub retries: u32,
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self { connections: 10_000, pending: 10_000, requests: 20_000, retries: 1_000 }
    }
}

/// How many requests are let in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RateLimit {
    /// What it is of, and its name.
    pub label: String,
    /// Its name in header fields.
    pub name: String,
    /// So many …
    pub requests: u32,
    /// … in this time.
    pub seconds: u32,
    /// At once.
    pub burst: u32,
    /// Each caller has its own.
    pub by_caller: bool,
}

/// A limit in front of the app that follows its latency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdaptiveConcurrency {
    /// It never falls below.
    pub least: u32,
    /// It never rises above.
    pub most: u32,
    /// It grows while the latency is below this share of the best one, in percent.
    pub tolerance_percent: u32,
}

/// What a sidecar enforces in front of its app.
#[derive(Debug, Clone)]
pub struct InboundPolicy {
    /// As it came, by which two are compared.
    pub(super) said: v1::InboundPolicy,
    /// Of all requests.
    pub rate_limits: Vec<RateLimit>,
    /// Of those that a rule matches, in the order in which matches are tried.
    pub rules: Vec<(RouteKind, HttpMatch, Arc<Vec<RateLimit>>)>,
    /// None: no limit.
    pub adaptive: Option<AdaptiveConcurrency>,
}

/// Whether plaintext is let in to a port of an app whose services say this. What is said of the port goes before what is said of the
/// others, and that before the namespace's mode; of two services the stricter holds.
pub fn lets_plaintext_in<'a>(
    policies: impl Iterator<Item = &'a InboundPolicy> + Clone,
    port: u16,
    namespace: bool,
) -> bool {
    let strictest = |of: u32| policies.clone().filter_map(|policy| policy.said.permissive.get(&of).copied()).min();
    strictest(u32::from(port)).or_else(|| strictest(0)).unwrap_or(namespace)
}

impl InboundPolicy {
    /// Whether it is for a workload: one that was started for the service, or that the service selects.
    pub fn is_for(&self, service: &str, labels: &BTreeMap<String, String>) -> bool {
        let selector = &self.said.selector;
        let selected = || !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value));
        self.said.service == service || selected()
    }
}

impl PartialEq for InboundPolicy {
    fn eq(&self, other: &Self) -> bool {
        self.said == other.said
    }
}

impl Eq for InboundPolicy {}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(modes: &[(u32, bool)]) -> InboundPolicy {
        let said = v1::InboundPolicy { permissive: modes.iter().copied().collect(), ..Default::default() };
        InboundPolicy { said, rate_limits: vec![], rules: vec![], adaptive: None }
    }

    #[test]
    fn plaintext_goes_by_the_port_then_by_the_service_then_by_the_namespace_and_the_stricter_service_holds() {
        let cases: [(&[InboundPolicy], bool, bool); 8] = [
            (&[], false, false),
            (&[], true, true),
            (&[says(&[(0, true)])], false, true),
            (&[says(&[(0, false)])], true, false),
            (&[says(&[(8080, true), (0, false)])], false, true),
            (&[says(&[(9090, true), (0, false)])], true, false),
            (&[says(&[(0, true)]), says(&[(0, false)])], true, false),
            (&[says(&[(8080, true)]), says(&[(0, false)])], false, true),
        ];
        for (n, (policies, namespace, expected)) in cases.into_iter().enumerate() {
            assert_eq!(lets_plaintext_in(policies.iter(), 8080, namespace), expected, "case {n}");
        }
    }
}
