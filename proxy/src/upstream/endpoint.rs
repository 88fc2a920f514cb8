//! One endpoint as one worker sees it: its load, how it has fared, and its connections.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::SharedDialer;
use super::http1::{self, Http1Pool, Http1Sender};
use super::http2::{Http2Sender, Http2Slot};
use crate::balance::Candidate;
use crate::balance::ewma::PeakEwma;
use crate::error::Reason;
use crate::model::{Endpoint, Policy, hash};
use crate::resilience::breaker::Breaker;
use crate::resilience::outlier::Outlier;
use crate::resilience::rates::Rate;
use crate::telemetry::record::Stages;
use crate::tls::port_name::AppHttp;

/// Idle HTTP/1.1 connections to an app without a sidecar are closed after this, see [`Http1Pool::new`].
const APP_IDLE: Duration = Duration::from_secs(3);

/// One endpoint, for one worker.
#[derive(Debug)]
pub struct LocalEndpoint {
    /// What the control plane said of it first; whether it is healthy is kept apart, since that changes.
    pub endpoint: Arc<Endpoint>,
    /// The workload, told by a hash: the same in every sidecar.
    pub id: u64,
    /// How it has fared.
    pub outlier: Outlier,
    /// How it has fared in this interval.
    pub(super) rate: Rate,
    /// How long it takes.
    pub(super) ewma: PeakEwma,
    healthy: Cell<bool>,
    /// When its slow start began.
    started: Cell<Option<Instant>>,
    in_flight: Cell<u32>,
    /// When the last request began, as far as housekeeping has seen.
    busy: Cell<Instant>,
    used: Cell<bool>,
    /// As `healthy`, but for the moment in which the balancer looks at the endpoints for one request.
    eligible: Cell<bool>,
    /// By what the far app speaks: HTTP/1.1 and HTTP/2.
    http2: [Rc<Http2Slot>; 2],
    http1: Rc<Http1Pool>,
}

/// Counts a request in flight until it is dropped.
#[derive(Debug)]
pub struct InFlight(Rc<LocalEndpoint>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get() - 1);
    }
}

impl InFlight {
    /// Where it is.
    pub fn endpoint(&self) -> &Rc<LocalEndpoint> {
        &self.0
    }
}

impl LocalEndpoint {
    pub(super) fn new(endpoint: Arc<Endpoint>) -> Rc<Self> {
        Rc::new(Self {
            id: hash(endpoint.workload.as_bytes()),
            healthy: Cell::new(endpoint.healthy),
            eligible: Cell::new(endpoint.healthy),
            endpoint,
            outlier: Outlier::default(),
            rate: Rate::default(),
            ewma: PeakEwma::default(),
            started: Cell::new(None),
            in_flight: Cell::new(0),
            busy: Cell::new(Instant::now()),
            used: Cell::new(false),
            http2: Default::default(),
            http1: Http1Pool::new(APP_IDLE),
        })
    }

    /// A request begins.
    pub fn begin(self: &Rc<Self>) -> InFlight {
        self.in_flight.set(self.in_flight.get() + 1);
        self.used.set(true);
        InFlight(self.clone())
    }

    /// A multiplexed connection to the endpoint; dialled if there is none.
    ///
    /// # Errors
    /// It could not be dialled. No byte of a request was sent.
    pub async fn http2(
        &self,
        dialer: &SharedDialer,
        app: AppHttp,
        policy: &Policy,
        breaker: &Breaker,
        stages: &Cell<Stages>,
    ) -> Result<Http2Sender, Reason> {
        let slot = &self.http2[usize::from(app == AppHttp::H2)];
        if let Some(open) = slot.open(dialer.generation()) {
            return Ok(open);
        }
        let _pending = breaker.pending(&policy.circuit_breaker)?;
        let (dialer, endpoint, timeout) = (dialer.clone(), self.endpoint.clone(), policy.connect_timeout);
        // Boxed: a way that is rarely taken must not make every request's future large.
        let (sender, waited) = Box::pin(slot.dial(async move { dialer.http(&endpoint, app, timeout).await })).await?;
        stages.set(waited);
        Ok(sender)
    }

    /// An HTTP/1.1 connection to an app without a sidecar, and the pool that it goes back to.
    ///
    /// # Errors
    /// It could not be dialled.
    pub async fn http1(
        &self,
        dialer: &SharedDialer,
        policy: &Policy,
        breaker: &Breaker,
        stages: &Cell<Stages>,
    ) -> Result<(Http1Sender, Rc<Http1Pool>), Reason> {
        if let Some(idle) = self.http1.take(Instant::now()) {
            return Ok((idle, self.http1.clone()));
        }
        let _pending = breaker.pending(&policy.circuit_breaker)?;
        let connection = breaker.connection(&policy.circuit_breaker)?;
        let dial = async {
            let dialled = dialer.http(&self.endpoint, AppHttp::H1, policy.connect_timeout).await?;
            stages.set(dialled.stages);
            http1::handshake_with(dialled.io, connection).await
        };
        Ok((Box::pin(dial).await?, self.http1.clone()))
    }

    /// Whether the control plane says that it wants requests.
    pub(super) fn is_healthy(&self) -> bool {
        self.healthy.get()
    }

    pub(super) fn set_healthy(&self, healthy: bool) {
        self.healthy.set(healthy);
        self.eligible.set(healthy);
    }

    /// Whether it wants requests and is not ejected.
    pub(super) fn is_usable(&self, now: Instant) -> bool {
        self.healthy.get() && !self.outlier.is_ejected(now)
    }

    /// For one look of the balancer.
    pub(super) fn mark(&self, eligible: bool) {
        self.eligible.set(eligible);
    }

    /// After it.
    pub(super) fn unmark(&self) {
        self.eligible.set(self.healthy.get());
    }

    /// Its share grows from now on.
    pub(super) fn start_slowly(&self, now: Instant) {
        self.started.set(Some(now));
    }

    /// Whether its share still grows; ends that when the time is over.
    pub(super) fn is_starting(&self, now: Instant, window: Duration) -> bool {
        let Some(started) = self.started.get() else { return false };
        let over = now.saturating_duration_since(started) >= window;
        if over {
            self.started.set(None);
        }
        !over
    }

    /// The share that it has of a full one, from a tenth on.
    pub(super) fn share(&self, now: Instant, window: Duration) -> f64 {
        const LEAST: f64 = 0.1;
        let Some(started) = self.started.get().filter(|_| !window.is_zero()) else { return 1.0 };
        let passed = now.saturating_duration_since(started).as_secs_f64();
        (passed / window.as_secs_f64()).clamp(LEAST, 1.0)
    }

    pub(super) fn sweep(&self, now: Instant, policy: &Policy) {
        self.http1.sweep(now);
        if self.used.replace(false) || self.in_flight.get() != 0 {
            self.busy.set(now);
        } else if now.duration_since(self.busy.get()) >= policy.idle_timeout {
            self.http2.iter().for_each(|slot| slot.release());
        }
    }
}

impl Candidate for Rc<LocalEndpoint> {
    fn is_eligible(&self) -> bool {
        self.eligible.get()
    }

    fn load(&self) -> u32 {
        self.in_flight.get()
    }
}
