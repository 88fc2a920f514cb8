//! Requests that fail on the way out: the answer, which says in header, log and metric alike what happened, and faults on purpose.

use http::{HeaderMap, Response};
use tokio::time::Instant;

use super::{ResponseBody, respond};
use crate::error::Reason;
use crate::model::Fault;
use crate::resilience::deadline::Deadline;
use crate::resilience::fault;
use crate::telemetry::{Direction, Metrics, Told};

/// The answer to a request that fails here, after so many attempts.
pub(super) fn answer(
    metrics: &Metrics,
    reason: Reason,
    grpc: bool,
    service: &str,
    attempts: u32,
) -> Response<ResponseBody> {
    metrics.failed(Direction::Outbound, reason, Told { service, attempts, connection: None });
    let mut response = respond::error(reason, grpc);
    respond::at_hop(response.headers_mut(), Direction::Outbound);
    response
}

/// Holds a request or answers it, as faults say. None: it goes on.
pub(super) async fn inject(
    metrics: &Metrics,
    faults: &[Fault],
    headers: &HeaderMap,
    grpc: bool,
    deadline: Deadline,
) -> Option<Response<ResponseBody>> {
    let injected = fault::draw(faults, headers, || fastrand::u32(..100));
    if !injected.delay.is_zero() {
        let held = Instant::now().checked_add(injected.delay);
        let until = held.into_iter().chain(deadline.at).min().unwrap_or_else(Instant::now);
        tokio::time::sleep_until(until).await;
        if held.is_none_or(|held| until < held) {
            return Some(answer(metrics, deadline.reason(), grpc, "", 0));
        }
    }
    let abort = injected.abort?;
    metrics.failed(Direction::Outbound, Reason::FaultInjected, Told::default());
    let mut response = respond::abort(abort, grpc);
    respond::at_hop(response.headers_mut(), Direction::Outbound);
    Some(response)
}
