//! RequestMirror: copies of requests, whose answers nobody gets. The request itself neither waits for a copy nor fails by it.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Version, request};
use http_body::Body;
use hyper::body::Incoming;

use crate::error::Reason;
use crate::http::attempt;
use crate::http::outbound::app_http;
use crate::model::Cluster;
use crate::resilience::replay::RequestBody;
use crate::resilience::tap::{Taps, Waiting};
use crate::routing::{MirrorTarget, Split};
use crate::telemetry::MirrorMetrics;
use crate::upstream::{Choice, LocalCluster, SharedDialer};

/// Copies of one worker that are on their way at once; what is above is not sent.
const MOST_IN_FLIGHT: usize = 256;
/// For a copy as a whole, with its answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// The copies that are to be sent of one request.
#[derive(Default)]
pub(in crate::http) struct Copies<'a>(Vec<(&'a Arc<Cluster>, request::Parts)>);

impl<'a> Copies<'a> {
    pub(super) fn push(&mut self, to: &'a Arc<Cluster>, parts: request::Parts) {
        self.0.push((to, parts));
    }

    /// Whether there is none.
    pub(in crate::http) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Sends copies, for one worker.
#[derive(Debug)]
pub(in crate::http) struct Mirrors {
    dialer: SharedDialer,
    in_flight: Rc<Cell<usize>>,
    waiting: Waiting,
}

/// Counts a copy in flight until it is dropped.
struct Ticket(Rc<Cell<usize>>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Mirrors {
    pub(in crate::http) fn new(dialer: SharedDialer) -> Self {
        Self { dialer, in_flight: Rc::default(), waiting: Waiting::default() }
    }

    /// Sends copies, each by a task of its own. Their bodies get what is read of the request's by way of the taps.
    pub(in crate::http) fn send(
        &self,
        copies: Copies<'_>,
        split: &Split,
        body: &Incoming,
        downstream: Version,
        grpc: bool,
    ) -> Taps {
        let mut taps = Taps::default();
        for (to, parts) in copies.0 {
            let Some(MirrorTarget { cluster, metrics, .. }) = split.mirror(to) else { continue };
            if self.in_flight.get() >= MOST_IN_FLIGHT {
                metrics.dropped.inc();
                continue;
            }
            self.in_flight.set(self.in_flight.get() + 1);
            let ticket = Ticket(self.in_flight.clone());
            let body = match body.is_end_stream() {
                true => RequestBody::Empty,
                false => RequestBody::Copy(taps.add(&self.waiting)),
            };
            let copy = Request::from_parts(parts, body);
            let (dialer, cluster, metrics) = (self.dialer.clone(), cluster.clone(), metrics.clone());
            tokio::task::spawn_local(async move {
                let sent = one(&dialer, &cluster, copy, downstream, grpc);
                book(tokio::time::timeout(PATIENCE, sent).await.unwrap_or(Err(Reason::Timeout)), &metrics);
                drop(ticket);
            });
        }
        taps
    }
}

fn book(sent: Result<(), Reason>, metrics: &MirrorMetrics) {
    match sent {
        Ok(()) => metrics.answered.inc(),
        Err(reason) => {
            tracing::debug!(reason = reason.code(), "a mirrored request failed");
            metrics.failed.inc();
        }
    }
}

/// One copy to one endpoint. How it fares is not held against the endpoint, and nothing is tried again.
async fn one(
    dialer: &SharedDialer,
    cluster: &LocalCluster,
    copy: Request<RequestBody>,
    downstream: Version,
    grpc: bool,
) -> Result<(), Reason> {
    let endpoint = cluster.pick(&Choice::default(), &[]).ok_or(Reason::NoEndpoints)?;
    let _in_flight = endpoint.begin();
    let app = app_http(cluster.shared().protocol, downstream, grpc);
    let answer =
        attempt::send(dialer, &endpoint, &cluster.policy(), &cluster.breaker, app, &mut Some(copy), &Cell::default())
            .await?;
    let mut body = answer.response.into_body();
    // Read to its end, so that the connection can take another request.
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        frame.map_err(|_| Reason::UpstreamReset)?;
    }
    if let Some((sender, pool)) = answer.connection {
        pool.give_back(sender);
    }
    Ok(())
}

/// Reads a body that goes nowhere but to its copies.
pub(in crate::http) async fn drain(mut body: RequestBody) {
    let read = async { while let Some(Ok(_)) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {} };
    let _ = tokio::time::timeout(PATIENCE, read).await;
}
