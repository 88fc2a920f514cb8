//! What a TrafficPolicy says of balancing and of health.

use serde::{Deserialize, Serialize};

/// Which endpoint gets a request.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancing {
    /// `LeastRequest`, `RoundRobin`, `Random`, `PeakEwma`, `RingHash` or `Maglev`.
    #[serde(default)]
    pub policy: Option<String>,
    /// What a request is hashed by.
    #[serde(default)]
    pub hash_key: Option<HashKey>,
    /// The hash decides among weighted backends, too.
    #[serde(default)]
    pub sticky_splits: Option<bool>,
    /// `PreferClose` or `Any`.
    #[serde(default)]
    pub locality: Option<String>,
    /// A duration (GEP-2257): how long the share of a new endpoint grows.
    #[serde(default)]
    pub slow_start: Option<String>,
    /// When fewer endpoints are healthy, all are used.
    #[serde(default)]
    pub panic_threshold_percent: Option<i64>,
}

/// What a request is hashed by.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HashKey {
    /// `SourceIP`, `Header`, `Cookie` or `QueryParam`.
    pub r#type: String,
    /// Of the header, cookie or query parameter.
    #[serde(default)]
    pub name: Option<String>,
    /// A duration (GEP-2257): for how long the sidecar makes a cookie where there is none.
    #[serde(default)]
    pub ttl: Option<String>,
}

/// How each workload's own sidecar checks its app. One of `http`, `tcp` and `grpc` says what is done.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheck {
    /// A port of the Service; without it the first.
    #[serde(default)]
    pub port: Option<i64>,
    /// A duration (GEP-2257).
    #[serde(default)]
    pub interval: Option<String>,
    /// A duration (GEP-2257).
    #[serde(default)]
    pub timeout: Option<String>,
    /// Passed checks in a row after which the app is healthy again.
    #[serde(default)]
    pub healthy_threshold: Option<i64>,
    /// Failed checks in a row after which it is not.
    #[serde(default)]
    pub unhealthy_threshold: Option<i64>,
    /// GET is answered as expected.
    #[serde(default)]
    pub http: Option<HttpCheck>,
    /// The port takes a connection.
    #[serde(default)]
    pub tcp: Option<Empty>,
    /// The gRPC health protocol says SERVING.
    #[serde(default)]
    pub grpc: Option<GrpcCheck>,
}

/// GET is answered as expected.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpCheck {
    /// Path and query; without it `/`.
    #[serde(default)]
    pub path: Option<String>,
    /// Value of Host; without it the address.
    #[serde(default)]
    pub host: Option<String>,
    /// Without them 200 to 399.
    #[serde(default)]
    pub expected_statuses: Option<Vec<i64>>,
}

/// The gRPC health protocol says SERVING.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrpcCheck {
    /// Which service is asked about; without it the server as a whole.
    #[serde(default)]
    pub service: Option<String>,
}

/// Has no fields.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Empty {}
