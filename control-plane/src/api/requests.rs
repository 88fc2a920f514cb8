//! What sidecars remember of requests that failed or took long, asked of them while the caller waits.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use leno_proto::v1;
use leno_proto::v1::question::What;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::ToSchema;

use super::Shared;
use super::error::{ApiError, ErrorBody};
use super::extract::Params;
use crate::questions::Answered;

/// How long sidecars may take to answer.
const WITHIN: Duration = Duration::from_secs(2);

/// Which requests: one of the three.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// A request's number, the `leno-request-id` of its answer.
    id: Option<String>,
    /// The newest failures of this service, NAMESPACE/NAME.
    failures_of: Option<String>,
    /// The newest requests of this service that took a second or longer.
    slow_of: Option<String>,
}

/// What is remembered.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Requests {
    /// How many sidecars were asked, and how many answered in time.
    asked: usize,
    answered: usize,
    /// The newest first.
    requests: Vec<Remembered>,
}

/// A request, as one sidecar saw it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Remembered {
    id: String,
    /// NAMESPACE/NAME of the workload whose sidecar remembers it.
    sidecar: String,
    /// `outbound`: from that workload's app; `inbound`: to it.
    direction: &'static str,
    /// RFC 3339.
    ended: String,
    method: String,
    host: String,
    path: String,
    /// SPIFFE ID; `none`: in plaintext; empty: the workload's own app.
    caller: String,
    service: String,
    /// The route, and the rule's name behind it.
    rule: String,
    status: u32,
    /// See docs/reasons.md; empty: no sidecar said one.
    reason: String,
    took_ms: f64,
    tries: Vec<Tried>,
    /// Another attempt was not granted, by the retry budget or the limit of open retries.
    retry_denied: bool,
    /// The newest revision that the sidecar had something of.
    revision: u64,
    /// What follows is known of a tapped request alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    tapped: Option<Tapped>,
}

/// What is known of a request that was seen as it ended.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Tapped {
    /// NAMESPACE/NAME of the workload that answered; empty: none did, or it is the sidecar's own.
    endpoint: String,
    /// What was dialled.
    address: String,
    attempts: u32,
    /// Of the answer's body.
    bytes: u64,
    /// Empty: its trace is not kept.
    trace_id: String,
}

/// An attempt that was no success, or the one that took long.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Tried {
    workload: String,
    address: String,
    /// 0: there was no answer of an app.
    status: u32,
    reason: String,
    /// Since the request began.
    after_ms: f64,
}

/// What sidecars remember of requests that failed or took long.
#[utoipa::path(
    get, path = "/v1/requests", tag = "status", params(Which),
    responses(
        (status = 200, description = "What the sidecars that are connected say", body = Requests),
        (status = 400, description = "It is not said which requests", body = ErrorBody),
        (status = 401, description = "No bearer token, or a wrong one", body = ErrorBody),
        (status = 429, description = "Too much is asked at a time", body = ErrorBody),
    )
)]
pub(super) async fn remembered(
    State(shared): State<Shared>,
    Params(which): Params<Which>,
) -> Result<Json<Requests>, ApiError> {
    let answers = shared.parts.questions.ask(what(which)?, WITHIN).await.map_err(|_| {
        ApiError::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too much is asked of the sidecars already",
            "try again in a second",
        )
    })?;
    let (asked, answered) = (answers.asked, answers.answers.len());
    let mut requests: Vec<_> = answers.answers.into_iter().flat_map(told).collect();
    requests.sort_by_key(|(ended, _)| std::cmp::Reverse(*ended));
    Ok(Json(Requests { asked, answered, requests: requests.into_iter().map(|(_, request)| request).collect() }))
}

fn what(which: Which) -> Result<What, ApiError> {
    match (which.id, which.failures_of, which.slow_of) {
        (Some(id), None, None) => {
            let digits = id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit());
            let number = u64::from_str_radix(&id, 16).ok().filter(|_| digits).ok_or_else(|| {
                ApiError::bad_request(
                    "a request's id has 16 hexadecimal digits",
                    "take that of the header leno-request-id",
                )
            })?;
            Ok(What::Request(number))
        }
        (None, Some(service), None) => Ok(What::FailuresOf(service)),
        (None, None, Some(service)) => Ok(What::SlowOf(service)),
        _ => Err(ApiError::bad_request("it is not said which requests", "give one of id, failuresOf and slowOf")),
    }
}

fn told(answered: Answered) -> impl Iterator<Item = (u64, Remembered)> {
    let sidecar = answered.sidecar.to_string();
    answered.requests.into_iter().map(move |request| (request.ended_ms, remember(sidecar.clone(), request)))
}

/// A request that was seen as it ended.
pub(super) fn tapped(sidecar: String, mut request: v1::RememberedRequest) -> Remembered {
    let tapped = Tapped {
        endpoint: std::mem::take(&mut request.endpoint),
        address: std::mem::take(&mut request.address),
        attempts: request.attempts,
        bytes: request.bytes,
        trace_id: std::mem::take(&mut request.trace_id),
    };
    let id = if request.id == 0 { String::new() } else { format!("{:016x}", request.id) };
    Remembered { id, tapped: Some(tapped), ..remember(sidecar, request) }
}

fn remember(sidecar: String, request: v1::RememberedRequest) -> Remembered {
    let milliseconds = |micros: u64| micros as f64 / 1000.0;
    let ended = OffsetDateTime::from_unix_timestamp_nanos(i128::from(request.ended_ms) * 1_000_000).ok();
    let tried = |one: v1::TriedEndpoint| Tried {
        workload: one.workload,
        address: one.address,
        status: one.status,
        reason: one.reason,
        after_ms: milliseconds(one.after_us),
    };
    Remembered {
        id: format!("{:016x}", request.id),
        sidecar,
        direction: if request.inbound { "inbound" } else { "outbound" },
        ended: ended.and_then(|ended| ended.format(&Rfc3339).ok()).unwrap_or_default(),
        method: request.method,
        host: request.host,
        path: request.path,
        caller: request.caller,
        service: request.service,
        rule: request.rule,
        status: request.status,
        reason: request.reason,
        took_ms: milliseconds(request.took_us),
        tries: request.tries.into_iter().map(tried).collect(),
        retry_denied: request.retry_denied,
        revision: request.revision,
        tapped: None,
    }
}
