//! Live requests, shown by all sidecars for as long as the caller reads.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use leno_proto::v1;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use utoipa::ToSchema;

use super::Shared;
use super::error::{ApiError, ErrorBody};
use super::extract::Params;
use super::requests::{self, Remembered};
use crate::questions::{Answered, Tapping};

/// How long a tap is open when nothing is said, and the longest.
const SECONDS: u64 = 60;
const MOST_SECONDS: u64 = 3_600;
/// Requests a second of each sidecar when nothing is said, and the most.
const PER_SECOND: u32 = 20;
const MOST_PER_SECOND: u32 = 1_000;

/// Which requests; what is not given holds for all.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// NAMESPACE/NAME.
    service: Option<String>,
    method: Option<String>,
    /// A path, or what it begins with and `*`.
    path: Option<String>,
    /// `503`, `5xx` or `400-499`.
    status: Option<String>,
    /// Those alone that failed: by a sidecar's word, or with a status of 500 and above.
    failures: Option<bool>,
    /// Of each sidecar, 20 by default.
    per_second: Option<u32>,
    /// How long, 60 by default.
    seconds: Option<u64>,
}

/// One line of the answer.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub(super) enum Line {
    /// A request that has ended.
    Request { request: Box<Remembered> },
    /// Requests that would have been shown, and were too many.
    #[serde(rename_all = "camelCase")]
    Missed { sidecar: String, missed: u64 },
}

/// Requests as they end, one JSON object a line.
#[utoipa::path(
    get, path = "/v1/tap", tag = "status", params(Which),
    responses(
        (status = 200, description = "Lines, until the time is over or the caller closes", body = Line, content_type = "application/x-ndjson"),
        (status = 400, description = "It is not clear which requests", body = ErrorBody),
        (status = 401, description = "No bearer token, or a wrong one", body = ErrorBody),
        (status = 403, description = "The caller's role does not suffice", body = ErrorBody),
        (status = 429, description = "Too much is asked at a time", body = ErrorBody),
    )
)]
pub(super) async fn tap(State(shared): State<Shared>, Params(which): Params<Which>) -> Result<Response, ApiError> {
    let seconds = which.seconds.unwrap_or(SECONDS);
    if !(1..=MOST_SECONDS).contains(&seconds) {
        return Err(ApiError::bad_request("seconds is out of range", format!("give 1 to {MOST_SECONDS}")));
    }
    let tapping = shared.parts.questions.tap(wanted(which)?).map_err(|_| {
        let message = "too much is asked of the sidecars already";
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, message, "end another tap, or try again in a second")
    })?;
    let (lines, body) = mpsc::channel(1);
    tokio::spawn(show(tapping, lines, Instant::now() + Duration::from_secs(seconds)));
    let mut response = Response::new(Body::from_stream(ReceiverStream::new(body)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    Ok(response)
}

fn wanted(which: Which) -> Result<v1::Tap, ApiError> {
    let (status_from, status_to) = which.status.as_deref().map_or(Ok((0, 0)), statuses)?;
    let per_second = which.per_second.unwrap_or(PER_SECOND);
    if !(1..=MOST_PER_SECOND).contains(&per_second) {
        return Err(ApiError::bad_request("perSecond is out of range", format!("give 1 to {MOST_PER_SECOND}")));
    }
    Ok(v1::Tap {
        service: which.service.unwrap_or_default(),
        method: which.method.unwrap_or_default(),
        path: which.path.unwrap_or_default(),
        status_from,
        status_to,
        failures: which.failures.unwrap_or_default(),
        per_second,
    })
}

/// `503`, `5xx` or `400-499`, from and to.
fn statuses(text: &str) -> Result<(u32, u32), ApiError> {
    let number = |text: &str| text.parse::<u32>().ok().filter(|n| (100..=599).contains(n));
    let found = match (text.strip_suffix("xx"), text.split_once('-')) {
        (Some(class), _) => number(&format!("{class}00")).map(|from| (from, from + 99)),
        (None, Some((from, to))) => number(from).zip(number(to)).filter(|(from, to)| from <= to),
        (None, None) => number(text).map(|n| (n, n)),
    };
    found.ok_or_else(|| ApiError::bad_request(format!("{text:?} is no status"), "write 503, 5xx or 400-499"))
}

async fn show(mut tapping: Tapping, lines: mpsc::Sender<Result<Bytes, std::io::Error>>, until: Instant) {
    loop {
        let answered = tokio::select! {
            answered = tapping.answers.recv() => answered,
            () = tokio::time::sleep_until(until) => return,
            () = lines.closed() => return,
        };
        let Some(answered) = answered else { return };
        if lines.send(Ok(Bytes::from(text(answered)))).await.is_err() {
            return;
        }
    }
}

fn text(answered: Answered) -> String {
    let sidecar = answered.sidecar.to_string();
    let mut lines: Vec<Line> = answered
        .requests
        .into_iter()
        .map(|request| Line::Request { request: Box::new(requests::tapped(sidecar.clone(), request)) })
        .collect();
    if answered.missed > 0 {
        lines.push(Line::Missed { sidecar, missed: answered.missed });
    }
    lines.iter().filter_map(|line| serde_json::to_string(line).ok()).map(|line| line + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_one_a_class_or_a_range() {
        for (given, found) in [("503", (503, 503)), ("5xx", (500, 599)), ("400-499", (400, 499))] {
            assert_eq!(statuses(given).ok(), Some(found), "{given}");
        }
        for bad in ["", "xx", "6xx", "99", "600", "5x", "499-400", "-", "4294967296", "-5xx"] {
            assert!(statuses(bad).is_err(), "{bad}");
        }
    }
}
