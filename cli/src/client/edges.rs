//! The answers of `GET /v1/edges` and `GET /v1/traffic`.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Who calls whom.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Edges {
    /// Over which is counted.
    pub minutes: u64,
    /// Sorted by whom, then by who.
    pub edges: Vec<Edge>,
}

/// What apps ask for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Traffic {
    pub rules: Vec<RuleTraffic>,
    pub services: Vec<Retried>,
}

/// Requests that were sent by one rule of a route.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct RuleTraffic {
    /// KIND/NAMESPACE/NAME.
    pub route: String,
    pub rule: String,
    pub requests: u64,
    /// Of them.
    pub failures: u64,
    /// Attempts after the first.
    pub retries: u64,
    /// Until the answer began, in the classes of an edge.
    pub times: Vec<u64>,
}

/// How often callers tried again at a service.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Retried {
    /// NAMESPACE/NAME.
    pub service: String,
    pub retries: u64,
}

/// One caller at one port of alike workloads.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Edge {
    /// A SPIFFE ID; in plaintext an IP; `others`.
    pub source: String,
    /// Whether the source has proven who it is.
    pub mtls: bool,
    /// The workloads that are called.
    pub destination: Destination,
    /// Of the app.
    pub port: u16,
    /// `http` or `tcp`.
    pub protocol: String,
    /// Or connections.
    pub requests: u64,
    /// Of them.
    pub failures: u64,
    /// In milliseconds.
    pub p50_ms: Option<f64>,
    /// In milliseconds.
    pub p99_ms: Option<f64>,
    /// Requests by the time that they took: up to 0.25 ms, and each further class up to twice as much.
    pub times: Vec<u64>,
    /// RFC 3339.
    pub first_seen: String,
    /// RFC 3339.
    pub last_seen: String,
    /// What was let in and answered.
    pub paths: Vec<SeenPath>,
    /// There were more.
    pub more_paths: bool,
}

/// The workloads that are called.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Destination {
    /// Of the workloads.
    pub namespace: String,
    /// A SPIFFE ID.
    pub identity: String,
    /// Of the workloads.
    pub labels: BTreeMap<String, String>,
    /// NAMESPACE/NAME of those that select them.
    pub services: Vec<String>,
}

/// What was asked for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct SeenPath {
    /// As it was sent.
    pub method: String,
    /// As a rule names it; `?`: one that can be read in two ways.
    pub path: String,
}

impl Edge {
    /// Who calls, as people say it.
    pub fn who(&self) -> String {
        account(&self.source)
    }

    /// Who is called: the first of its Services, or else its account.
    pub fn whom(&self) -> String {
        self.destination.services.first().cloned().unwrap_or_else(|| account(&self.destination.identity))
    }
}

/// `NAMESPACE/ACCOUNT` of a SPIFFE ID; anything else as it is.
pub fn account(id: &str) -> String {
    let parts = id.strip_prefix("spiffe://").and_then(|rest| rest.split_once("/ns/")?.1.split_once("/sa/"));
    parts.map_or_else(|| id.to_owned(), |(namespace, account)| format!("{namespace}/{account}"))
}
