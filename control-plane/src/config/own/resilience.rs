//! TrafficPolicy: retries, hedging, limits and faults.

use serde::{Deserialize, Serialize};

/// When a request is tried again, and how often.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetryRules {
    /// Further attempts after the first.
    #[serde(default)]
    pub attempts: Option<i64>,
    /// Statuses that are tried again.
    #[serde(default)]
    pub codes: Option<Vec<i64>>,
    /// Conditions that are tried again, by name.
    #[serde(default)]
    pub on: Option<Vec<String>>,
    /// Whether work that is not safe to do twice is tried again although the app may have begun it.
    #[serde(default)]
    pub non_idempotent: Option<bool>,
    /// A duration (GEP-2257): of one attempt.
    #[serde(default)]
    pub per_try_timeout: Option<String>,
    /// A duration (GEP-2257): before the first retry; doubles.
    #[serde(default)]
    pub backoff: Option<String>,
    /// A duration (GEP-2257): the longest pause.
    #[serde(default)]
    pub max_backoff: Option<String>,
    /// A duration (GEP-2257): a longer `Retry-After` is not waited for.
    #[serde(default)]
    pub max_retry_after: Option<String>,
}

/// A second attempt beside a slow first one.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hedge {
    /// A duration (GEP-2257): how slow.
    pub delay: String,
}

/// What is done to some requests on purpose.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    /// Of the requests that have the headers; without it all of them.
    #[serde(default)]
    pub percent: Option<i64>,
    /// All of them have to be there.
    #[serde(default)]
    pub headers: Option<Vec<FaultHeader>>,
    /// A duration (GEP-2257).
    #[serde(default)]
    pub delay: Option<String>,
    /// What is answered instead of the app.
    #[serde(default)]
    pub abort: Option<Abort>,
}

/// A header that a request has.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FaultHeader {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// `Exact` or `RegularExpression`.
    #[serde(default)]
    pub r#type: Option<String>,
}

/// What is answered instead of the app.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Abort {
    /// An HTTP status.
    #[serde(default)]
    pub status: Option<i64>,
    /// A gRPC status, for gRPC callers.
    #[serde(default)]
    pub grpc_status: Option<i64>,
}

/// How many requests are let in.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// Stands in the header fields of the answers.
    #[serde(default)]
    pub name: Option<String>,
    /// So many …
    pub requests: i64,
    /// … in this time, a duration (GEP-2257) of whole seconds.
    pub per: String,
    /// At once.
    #[serde(default)]
    pub burst: Option<i64>,
    /// `Caller`: each SPIFFE ID has its own. `Everyone`: all share one.
    #[serde(default)]
    pub by: Option<String>,
}

/// Which requests the caller's sidecar writes down.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessLog {
    /// `Off`, `Errors`, `Sampled` or `All`.
    pub mode: String,
    /// Of the requests that went well, where it is a sample; up to four decimal places.
    #[serde(default)]
    pub percent: Option<f64>,
}

/// Which requests begin a trace.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tracing {
    /// Of those that come without one; up to four decimal places.
    pub percent: f64,
}

/// What one client may have open at a service.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CircuitBreaker {
    /// Connections that carry one request each.
    #[serde(default)]
    pub max_connections: Option<i64>,
    /// Requests that wait for a connection.
    #[serde(default)]
    pub max_pending_requests: Option<i64>,
    /// Requests whose answer is not whole.
    #[serde(default)]
    pub max_requests: Option<i64>,
    /// Retries among them.
    #[serde(default)]
    pub max_retries: Option<i64>,
}

/// A limit in front of the app that follows its latency.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AdaptiveConcurrency {
    /// The limit never falls below.
    #[serde(default)]
    pub min_requests: Option<i64>,
    /// It never rises above.
    #[serde(default)]
    pub max_requests: Option<i64>,
    /// It grows while the latency is below this share of the best one.
    #[serde(default)]
    pub tolerance_percent: Option<i64>,
}
