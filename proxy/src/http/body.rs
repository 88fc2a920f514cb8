//! Response bodies on their way to the caller, and what is booked when they end.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::authorizer::UnderWay;
use super::watched::Written;
use super::{patience, respond};
use crate::error::Reason;
use crate::resilience::adaptive::Admitted;
use crate::resilience::breaker::Permit;
use crate::resilience::outlier::Verdict;
use crate::telemetry::{Direction, Metrics, ServiceMetrics, Told};
use crate::upstream::{Http1Pool, Http1Sender, InFlight, LocalCluster, LocalEndpoint};

/// A response's body.
#[derive(Debug)]
pub struct ResponseBody {
    source: Source,
    /// Booked when the body ends or is given up, whichever comes first.
    booking: Option<Booking>,
    /// A request that is written down when it ends.
    written: Option<Written>,
    /// When it has to be whole. Boxed: most have all the time they want.
    limit: Option<Box<Limit>>,
}

/// When an answer has to be whole.
#[derive(Debug)]
pub(super) struct Limit {
    until: Pin<Box<Sleep>>,
    reason: Reason,
    grpc: bool,
    metrics: Rc<Metrics>,
    /// Where it comes from, if that is still to be told how it fared.
    judge: Option<(Rc<LocalCluster>, Rc<LocalEndpoint>)>,
}

impl Limit {
    pub(super) fn new(at: Instant, reason: Reason, grpc: bool, metrics: &Rc<Metrics>) -> Self {
        Self { until: Box::pin(tokio::time::sleep_until(at)), reason, grpc, metrics: metrics.clone(), judge: None }
    }

    /// The endpoint is judged by whether the answer comes whole in time.
    pub(super) fn judging(self, judge: Option<(Rc<LocalCluster>, Rc<LocalEndpoint>)>) -> Self {
        Self { judge, ..self }
    }

    fn record(&mut self, verdict: Verdict) {
        if let Some((cluster, endpoint)) = self.judge.take() {
            cluster.record(&endpoint, verdict, None);
        }
    }
}

/// Why an answer breaks off.
#[derive(Debug)]
pub enum Broken {
    /// The upstream broke it off.
    Upstream(hyper::Error),
    /// It took too long.
    Late(h2::Error),
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Upstream(error) => write!(f, "the upstream broke its answer off: {error}"),
            Self::Late(_) => f.write_str("the answer was not whole in time"),
        }
    }
}

impl std::error::Error for Broken {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Upstream(error) => Some(error),
            Self::Late(error) => Some(error),
        }
    }
}

#[derive(Debug)]
enum Source {
    Empty,
    Full(Bytes),
    Upstream(Incoming),
}

/// The code under which a request is counted whose caller did not wait for the answer.
pub(super) const GIVEN_UP: u16 = 499;

/// What ends with the body, or with a request that never got one.
#[derive(Debug)]
pub(super) struct Booking {
    pub(super) metrics: Rc<ServiceMetrics>,
    pub(super) code: u16,
    pub(super) start: Instant,
    /// Held for its drop.
    pub(super) _in_flight: Option<InFlight>,
    /// Likewise: what a circuit breaker counts.
    pub(super) _open: Option<Permit>,
    /// Likewise: a place at the app.
    pub(super) _admitted: Option<Admitted>,
    /// What a peer's connection has under way.
    pub(super) under_way: Option<UnderWay>,
    /// An HTTP/1.1 connection that can take the next request once this body was read whole.
    pub(super) connection: Option<(Http1Sender, Rc<Http1Pool>)>,
}

impl Booking {
    /// Until there is an answer it says that the caller gave up, as nginx and others write it.
    pub(super) fn new(metrics: Rc<ServiceMetrics>, start: Instant) -> Self {
        metrics.begun();
        Self {
            metrics,
            code: GIVEN_UP,
            start,
            _in_flight: None,
            _open: None,
            _admitted: None,
            under_way: None,
            connection: None,
        }
    }

    /// Books an answer of the sidecar's own.
    pub(super) fn of_own(mut self, response: Response<ResponseBody>) -> Response<ResponseBody> {
        self.code = response.status().as_u16();
        response.map(|body| body.booked(self))
    }
}

impl Drop for Booking {
    fn drop(&mut self) {
        let took = self.start.elapsed();
        self.metrics.answered(self.code, took);
        self.metrics.over();
        self.under_way.iter().for_each(|request| request.answered(self.code, took));
        // A body that was given up leaves a connection that is closing; the pool looks.
        if let Some((sender, pool)) = self.connection.take() {
            pool.give_back(sender);
        }
    }
}

impl ResponseBody {
    /// No body.
    pub(super) fn empty() -> Self {
        Self::of(Source::Empty, None)
    }

    /// A body of the sidecar's own.
    pub(super) fn full(bytes: Bytes) -> Self {
        Self::of(Source::Full(bytes), None)
    }

    /// The upstream's body.
    pub(super) fn upstream(body: Incoming, booking: Booking) -> Self {
        // One that has nothing to come ends here, so that its connection is free at once.
        let booking = if body.is_end_stream() { None } else { Some(booking) };
        Self::of(Source::Upstream(body), booking)
    }

    fn of(source: Source, booking: Option<Booking>) -> Self {
        Self { source, booking, written: None, limit: None }
    }

    /// The request is written down when this ends: at once when nothing is to come.
    pub(super) fn written(&mut self, written: Written) {
        match self.is_end_stream() {
            true => written.end(None),
            false => self.written = Some(written),
        }
    }

    /// Breaks it off unless it is whole by then.
    pub(super) fn limited(mut self, limit: impl FnOnce() -> Limit) -> Self {
        if !self.is_end_stream() {
            self.limit = Some(Box::new(limit()));
        }
        self
    }

    /// It was not whole in time. A caller of gRPC can be told, any other one sees an answer that breaks off. It is held against the
    /// endpoint where it is the endpoint that is waited for, and not its caller that takes its time or has none left.
    fn late(&mut self, limit: &mut Limit, stalled: bool) -> Result<Frame<Bytes>, Broken> {
        (self.source, self.booking) = (Source::Empty, None);
        if let Some(written) = self.written.take() {
            written.end(Some(limit.reason));
        }
        if stalled && limit.reason == Reason::Timeout {
            limit.record(Verdict::Gateway);
        }
        limit.metrics.failed(Direction::Outbound, limit.reason, Told::default());
        if !limit.grpc {
            return Err(Broken::Late(h2::Reason::CANCEL.into()));
        }
        let mut trailers = HeaderMap::with_capacity(2);
        respond::grpc_fields(limit.reason, &mut trailers);
        Ok(Frame::trailers(trailers))
    }

    /// Books a body of the sidecar's own.
    pub(super) fn booked(mut self, booking: Booking) -> Self {
        self.booking = Some(booking);
        self
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        if this.limit.is_some() {
            return this.poll_limited(cx);
        }
        this.poll_source(cx)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Empty => true,
            Source::Full(_) => false,
            Source::Upstream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Upstream(body) => body.size_hint(),
        }
    }
}

impl ResponseBody {
    /// As [`Self::poll_source`], until the time is over.
    fn poll_limited(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Some(mut limit) = self.limit.take() else { return self.poll_source(cx) };
        let over = limit.until.as_mut().poll(cx).is_ready();
        let polled = self.poll_source(cx);
        let whole = match &polled {
            Poll::Ready(None) => true,
            Poll::Ready(Some(Ok(frame))) => frame.is_trailers() || self.is_end_stream(),
            _ => false,
        };
        match &polled {
            Poll::Ready(Some(Err(_))) => limit.record(Verdict::Gateway),
            _ if whole => limit.record(Verdict::Good),
            _ if over => return Poll::Ready(Some(self.late(&mut limit, polled.is_pending()))),
            _ => self.limit = Some(limit),
        }
        polled
    }

    fn write(&mut self, frame: &Option<Result<Frame<Bytes>, Broken>>) {
        let Some(mut written) = self.written.take() else { return };
        match frame {
            Some(Ok(frame)) => {
                written.received(frame.data_ref().map_or(0, Bytes::len));
                match self.is_end_stream() {
                    true => written.end(None),
                    false => self.written = Some(written),
                }
            }
            Some(Err(_)) => written.broken(),
            None => written.end(None),
        }
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let frame = match &mut self.source {
            Source::Empty => None,
            Source::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.source = Source::Empty;
                Some(Ok(Frame::data(bytes)))
            }
            Source::Upstream(body) => {
                ready!(patience::note(Pin::new(body).poll_frame(cx))).map(|frame| frame.map_err(Broken::Upstream))
            }
        };
        if let (Some(Ok(frame)), Some(booking)) = (&frame, &self.booking) {
            booking.metrics.response_bytes.add(frame.data_ref().map_or(0, |data| data.len() as u64));
        }
        if self.written.is_some() {
            self.write(&frame);
        }
        // Booked with the last byte, not when the caller's connection gets round to dropping us.
        if !matches!(frame, Some(Ok(_))) || self.is_end_stream() {
            self.booking = None;
        }
        Poll::Ready(frame)
    }
}
