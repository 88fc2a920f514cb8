//! Response bodies on their way to the caller, and what is booked when they end.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::authorizer::UnderWay;
use super::patience;
use crate::resilience::adaptive::Admitted;
use crate::resilience::breaker::Permit;
use crate::telemetry::ServiceMetrics;
use crate::upstream::{Http1Pool, Http1Sender, InFlight};

/// A response's body.
#[derive(Debug)]
pub struct ResponseBody {
    source: Source,
    /// Booked when the body ends or is given up, whichever comes first.
    booking: Option<Booking>,
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
    /// Likewise: what a peer's connection has under way.
    pub(super) _under_way: Option<UnderWay>,
    /// An HTTP/1.1 connection that can take the next request once this body was read whole.
    pub(super) connection: Option<(Http1Sender, Rc<Http1Pool>)>,
}

impl Booking {
    /// Books an answer of the sidecar's own.
    pub(super) fn of_own(mut self, response: Response<ResponseBody>) -> Response<ResponseBody> {
        self.code = response.status().as_u16();
        response.map(|body| body.booked(self))
    }
}

impl Drop for Booking {
    fn drop(&mut self) {
        self.metrics.answered(self.code, self.start.elapsed());
        // A body that was given up leaves a connection that is closing; the pool looks.
        if let Some((sender, pool)) = self.connection.take() {
            pool.give_back(sender);
        }
    }
}

impl ResponseBody {
    /// No body.
    pub(super) fn empty() -> Self {
        Self { source: Source::Empty, booking: None }
    }

    /// A body of the sidecar's own.
    pub(super) fn full(bytes: Bytes) -> Self {
        Self { source: Source::Full(bytes), booking: None }
    }

    /// The upstream's body.
    pub(super) fn upstream(body: Incoming, booking: Booking) -> Self {
        // One that has nothing to come ends here, so that its connection is free at once.
        let booking = if body.is_end_stream() { None } else { Some(booking) };
        Self { source: Source::Upstream(body), booking }
    }

    /// Books a body of the sidecar's own.
    pub(super) fn booked(mut self, booking: Booking) -> Self {
        self.booking = Some(booking);
        self
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let frame = match &mut this.source {
            Source::Empty => None,
            Source::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                this.source = Source::Empty;
                Some(Ok(Frame::data(bytes)))
            }
            Source::Upstream(body) => ready!(patience::note(Pin::new(body).poll_frame(cx))),
        };
        if let (Some(Ok(frame)), Some(booking)) = (&frame, &this.booking) {
            booking.metrics.response_bytes.add(frame.data_ref().map_or(0, |data| data.len() as u64));
        }
        // Booked with the last byte, not when the caller's connection gets round to dropping us.
        if !matches!(frame, Some(Ok(_))) || this.is_end_stream() {
            this.booking = None;
        }
        Poll::Ready(frame)
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
