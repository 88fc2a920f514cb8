//! Who calls whom.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::ToSchema;

use super::Shared;
use super::error::ErrorBody;
use super::extract::Params;
use crate::model::Mesh;
use crate::observed::{self, Asked, MINUTES, Seen, Source};

/// Over which time.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Window {
    /// The last so many minutes, 1 to 60.
    minutes: usize,
}

impl Default for Window {
    fn default() -> Self {
        Self { minutes: MINUTES }
    }
}

/// Who calls whom.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Edges {
    /// Over which `requests` and what follows it are counted.
    minutes: usize,
    edges: Vec<Edge>,
}

/// One caller at one port of alike workloads.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Edge {
    /// A SPIFFE ID; in plaintext an IP; `others`: for whom a sidecar had no more room.
    source: String,
    /// Whether the source has proven who it is.
    mtls: bool,
    destination: Destination,
    /// Of the app.
    port: u16,
    /// `http`, or `tcp`: connections of bytes are counted.
    protocol: &'static str,
    requests: u64,
    /// Of them: answered 5xx, or refused.
    failures: u64,
    /// Half of the requests took no longer, in milliseconds, to a factor of two; null when none was timed.
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    /// Requests by the time that they took: up to 0.25 ms, and each further class up to twice as much; the last one without an end.
    times: Vec<u64>,
    /// RFC 3339.
    first_seen: String,
    last_seen: String,
    /// What was let in and answered within the last day.
    paths: Vec<SeenPath>,
    /// There were more.
    more_paths: bool,
}

/// The workloads that are called.
#[derive(Debug, Serialize, ToSchema)]
struct Destination {
    namespace: String,
    /// A SPIFFE ID.
    identity: String,
    labels: BTreeMap<String, String>,
    /// Services that select them now.
    services: Vec<String>,
}

/// What was asked for.
#[derive(Debug, Serialize, ToSchema)]
struct SeenPath {
    method: String,
    /// As a rule of an AuthorizationPolicy names it; `?` one that can be read in two ways.
    path: String,
}

/// Who calls whom, as the called apps' sidecars tell it.
#[utoipa::path(
    get, path = "/v1/edges", tag = "status", params(Window),
    responses(
        (status = 200, description = "Sorted by whom, then by who", body = Edges),
        (status = 401, description = "No bearer token, or a wrong one", body = ErrorBody),
    )
)]
pub(super) async fn edges(State(shared): State<Shared>, Params(window): Params<Window>) -> Json<Edges> {
    let minutes = window.minutes.clamp(1, MINUTES);
    let committed = shared.parts.store.committed();
    let seen = shared.parts.observed.seen(minutes, OffsetDateTime::now_utc());
    Json(Edges { minutes, edges: seen.into_iter().map(|seen| Edge::of(seen, &committed.mesh)).collect() })
}

impl Edge {
    fn of(seen: Seen, mesh: &Mesh) -> Self {
        let time = |time: OffsetDateTime| time.format(&Rfc3339).unwrap_or_default();
        let (source, mtls) = match seen.key.source {
            Source::Identity(id) => (id, true),
            Source::Plaintext(address) => (address.to_string(), false),
            Source::Others => ("others".to_owned(), false),
        };
        let path = |(method, path)| SeenPath { method, path };
        Self {
            source,
            mtls,
            destination: Destination::of(seen.key.destination, mesh),
            port: seen.key.port,
            protocol: if seen.key.http { "http" } else { "tcp" },
            requests: seen.counts.requests,
            failures: seen.counts.failures,
            p50_ms: seen.counts.quantile_ms(0.5),
            p99_ms: seen.counts.quantile_ms(0.99),
            times: seen.counts.times().to_vec(),
            first_seen: time(seen.first),
            last_seen: time(seen.last),
            paths: seen.paths.into_iter().map(path).collect(),
            more_paths: seen.more_paths,
        }
    }
}

impl Destination {
    fn of(to: observed::Destination, mesh: &Mesh) -> Self {
        let selects = |selector: &BTreeMap<String, String>| {
            !selector.is_empty() && selector.iter().all(|(key, value)| to.labels.get(key) == Some(value))
        };
        let services = mesh.services.values();
        let services = services.filter(|service| service.name.namespace == to.namespace && selects(&service.selector));
        let services = services.map(|service| service.name.to_string()).collect();
        Self { services, namespace: to.namespace, identity: to.identity, labels: to.labels }
    }
}

/// What apps ask for.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Traffic {
    /// Over which it is counted.
    minutes: usize,
    rules: Vec<RuleTraffic>,
    services: Vec<Retried>,
}

/// Requests that were sent by one rule of a route.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RuleTraffic {
    /// KIND/NAMESPACE/NAME.
    route: String,
    /// Empty: it has no name.
    rule: String,
    requests: u64,
    /// Of them: answered 5xx.
    failures: u64,
    /// Attempts after the first.
    retries: u64,
    /// Half of the answers began no later, in milliseconds, to a factor of two; null when none was timed.
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    /// Requests by the time until their answers began, in the classes of an edge.
    times: Vec<u64>,
}

/// How often callers tried again at a service.
#[derive(Debug, Serialize, ToSchema)]
struct Retried {
    /// NAMESPACE/NAME.
    service: String,
    retries: u64,
}

/// What apps ask for by rule, and how often they try again, as the callers' sidecars tell it.
#[utoipa::path(
    get, path = "/v1/traffic", tag = "status", params(Window),
    responses(
        (status = 200, description = "Sorted by name", body = Traffic),
        (status = 401, description = "No bearer token, or a wrong one", body = ErrorBody),
    )
)]
pub(super) async fn traffic(State(shared): State<Shared>, Params(window): Params<Window>) -> Json<Traffic> {
    let minutes = window.minutes.clamp(1, MINUTES);
    let (mut rules, mut services) = (Vec::new(), Vec::new());
    for (asked, counts) in shared.parts.observed.traffic().last(minutes, OffsetDateTime::now_utc()) {
        match asked {
            Asked::Service(service) => services.push(Retried { service, retries: counts.retries }),
            Asked::Rule { route, rule } => rules.push(RuleTraffic {
                route,
                rule,
                requests: counts.requests,
                failures: counts.failures,
                retries: counts.retries,
                p50_ms: counts.quantile_ms(0.5),
                p99_ms: counts.quantile_ms(0.99),
                times: counts.times().to_vec(),
            }),
        }
    }
    Json(Traffic { minutes, rules, services })
}
