//! The sidecar's metrics: handles that are made when a cluster or listener is, so that the request path only adds to atomics.

pub mod access_log;
pub mod edges;
pub mod levels;
pub mod memory;
pub mod names;
pub mod observer;
pub mod otlp;
pub mod record;
pub mod taps;
mod told;
pub mod trace;

use std::cell::{Cell, OnceCell, RefCell};
use std::time::Duration;

use leno_runtime::metrics::{Counter, Gauge, Histogram, Registry};

use self::levels::{Levels, Open};
use self::told::Pace;
use crate::error::Reason;

pub use edges::{Edge, EdgeKey, Edges, Peer, Spoken};
pub use memory::{Ending, Memory, RequestId, Story, TryOutcome};
pub use observer::Observer;
pub use told::Told;

/// Distinct status codes that are counted apart, for one service and direction. An app that answers with more is folded into
/// `code="other"`.
const MOST_CODES: usize = 32;

/// Which way traffic goes, from the local app's point of view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the local app.
    Outbound,
    /// To the local app.
    Inbound,
}

impl Direction {
    /// As header, log and metric name it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
        }
    }
}

/// What is counted for one service in one direction. Worker-local; the series behind it are shared.
#[derive(Debug)]
pub struct ServiceMetrics {
    registry: Registry,
    direction: Direction,
    service: String,
    by_code: RefCell<Vec<(u16, Counter)>>,
    overflows: [OnceCell<Counter>; 4],
    hedges: OnceCell<Counter>,
    durations: [OnceCell<Histogram>; CLASSES.len()],
    active: Cell<u32>,
    levels: Levels,
    /// Bytes of request bodies.
    pub request_bytes: Counter,
    /// Bytes of response bodies.
    pub response_bytes: Counter,
    /// Attempts after the first.
    pub retries: Counter,
    /// Retries that the budget did not grant.
    pub retries_denied: Counter,
    /// Ejections of an endpoint.
    pub ejections: Counter,
    /// Endpoints that are ejected now, by any worker.
    pub ejected: Gauge,
    /// Opaque connections.
    pub tcp_connections: Counter,
    /// Bytes of opaque connections from the caller.
    pub tcp_sent: Counter,
    /// Bytes of opaque connections to the caller.
    pub tcp_received: Counter,
}

/// Of statuses, as they are counted.
pub const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The place of a status among [`CLASSES`].
pub fn class(status: u16) -> usize {
    usize::from(status / 100).clamp(1, CLASSES.len()) - 1
}

/// How long requests of a service take that are answered so; the same handle for the same service and class. The names are those of
/// OpenTelemetry's semantic conventions for HTTP.
fn request_duration(registry: &Registry, direction: Direction, service: &str, class: usize) -> Histogram {
    let name = match direction {
        Direction::Outbound => "http_client_request_duration_seconds",
        Direction::Inbound => "http_server_request_duration_seconds",
    };
    registry.histogram(name, &[("service", service), ("class", CLASSES[class])])
}

/// What was full when a request was refused by a circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// Connections.
    Connections,
    /// Requests that wait for one.
    Pending,
    /// Requests.
    Requests,
    /// Retries.
    Retries,
}

impl Overflow {
    /// In the order of their numbers, with the words of the metric.
    const WORDS: [&str; 4] = ["connections", "pending", "requests", "retries"];
}

impl ServiceMetrics {
    /// The handles for a service, NAMESPACE/NAME.
    pub fn new(registry: &Registry, direction: Direction, service: &str) -> Self {
        let labels = &[("direction", direction.label()), ("service", service)];
        let counter = |name| registry.counter(name, labels);
        Self {
            by_code: RefCell::default(),
            overflows: Default::default(),
            hedges: OnceCell::new(),
            durations: Default::default(),
            active: Cell::default(),
            levels: Levels::default(),
            request_bytes: counter("leno_request_bytes_total"),
            response_bytes: counter("leno_response_bytes_total"),
            retries: counter("leno_retries_total"),
            retries_denied: counter("leno_retries_denied_total"),
            ejections: counter("leno_endpoint_ejections_total"),
            ejected: registry.gauge("leno_endpoints_ejected", labels),
            tcp_connections: counter("leno_tcp_connections_total"),
            tcp_sent: counter("leno_tcp_sent_bytes_total"),
            tcp_received: counter("leno_tcp_received_bytes_total"),
            registry: registry.clone(),
            direction,
            service: service.to_owned(),
        }
    }

    /// NAMESPACE/NAME.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// A circuit breaker refused something. The series is made when it first happens, as few services ever have one.
    pub fn overflow(&self, what: Overflow) {
        let counter = self.overflows[what as usize].get_or_init(|| {
            let labels = &[
                ("direction", self.direction.label()),
                ("service", self.service.as_str()),
                ("limit", Overflow::WORDS[what as usize]),
            ];
            self.registry.counter("leno_circuit_breaker_overflows_total", labels)
        });
        counter.inc();
    }

    /// A second attempt was made beside a slow first one.
    pub fn hedges(&self) {
        let labels = &[("direction", self.direction.label()), ("service", self.service.as_str())];
        self.hedges.get_or_init(|| self.registry.counter("leno_hedges_total", labels)).inc();
    }

    /// A request has come.
    pub fn begun(&self) {
        self.active.set(self.active.get() + 1);
    }

    /// One that has come is over.
    pub fn over(&self) {
        self.active.set(self.active.get().saturating_sub(1));
    }

    /// Shows what is open at the service now.
    pub fn show(&self, open: Option<&Open>) {
        self.levels.active(&self.registry, self.direction, &self.service, self.active.get());
        open.into_iter().for_each(|open| self.levels.open(&self.registry, &self.service, open));
    }

    /// A request was answered.
    pub fn answered(&self, code: u16, took: Duration) {
        let class = class(code);
        let made = || request_duration(&self.registry, self.direction, &self.service, class);
        self.durations[class].get_or_init(made).observe(took);
        let mut by_code = self.by_code.borrow_mut();
        if let Some((_, counter)) = by_code.iter().find(|(known, _)| *known == code) {
            return counter.inc();
        }
        let counter = self.code_counter(if by_code.len() < MOST_CODES { code.to_string() } else { "other".to_owned() });
        counter.inc();
        if by_code.len() < MOST_CODES {
            by_code.push((code, counter));
        }
    }

    fn code_counter(&self, code: String) -> Counter {
        let labels =
            &[("direction", self.direction.label()), ("service", self.service.as_str()), ("code", code.as_str())];
        self.registry.counter("leno_requests_total", labels)
    }
}

/// What is counted of the requests that are mirrored to one service.
#[derive(Debug)]
pub struct MirrorMetrics {
    /// Answered by whatever.
    pub answered: Counter,
    /// Not answered.
    pub failed: Counter,
    /// Not sent, since too many were on their way.
    pub dropped: Counter,
}

impl MirrorMetrics {
    /// The handles for a service, NAMESPACE/NAME.
    pub fn new(registry: &Registry, service: &str) -> Self {
        let counter = |result| {
            let labels = &[("service", service), ("result", result)];
            registry.counter("leno_mirrored_requests_total", labels)
        };
        Self { answered: counter("answered"), failed: counter("failed"), dropped: counter("dropped") }
    }
}

/// What is counted for one listener of a Gateway.
#[derive(Debug)]
pub struct ListenerMetrics {
    /// Connections whose listener it is.
    pub connections: Counter,
    /// Requests whose host is its own.
    pub requests: Counter,
}

impl ListenerMetrics {
    /// The handles for a listener; the Gateway is NAMESPACE/NAME.
    pub fn new(registry: &Registry, gateway: &str, listener: &str) -> Self {
        let labels = &[("gateway", gateway), ("listener", listener)];
        let counter = |name| registry.counter(name, labels);
        Self {
            connections: counter("leno_gateway_connections_total"),
            requests: counter("leno_gateway_requests_total"),
        }
    }
}

/// What is counted for a direction as a whole.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    failures: Vec<[(Counter, Pace); 2]>,
    handshake_failures: Counter,
    handshakes: Counter,
    egress: [Counter; 2],
    plaintext: Counter,
    untaken: Counter,
    detected: Vec<Counter>,
}

/// What a connection turned out to speak, where nobody had said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// TLS, begun by the client.
    Tls,
    /// Something else, begun by the client.
    ClientFirst,
    /// Something that the server began.
    ServerFirst,
}

impl Found {
    /// In the order of their numbers, with the words of the metric.
    const WORDS: [&str; 5] = ["http1", "http2", "tls", "client_first", "server_first"];
}

impl Metrics {
    /// The handles of one worker.
    pub fn new(registry: &Registry) -> Self {
        let failure = |direction: Direction, reason: &Reason| {
            let safe = if reason.unseen() { "safe" } else { "if-idempotent" };
            let labels = &[
                ("direction", direction.label()),
                ("reason", reason.code()),
                ("fault", reason.fault().label()),
                ("retry", safe),
            ];
            registry.counter("leno_failures_total", labels)
        };
        let handshakes = |result: &str| registry.counter("leno_tls_handshakes_total", &[("result", result)]);
        let egress = |verdict: &str| registry.counter("leno_egress_connections_total", &[("verdict", verdict)]);
        let detected = |word: &&str| registry.counter("leno_detected_connections_total", &[("protocol", word)]);
        Self {
            detected: Found::WORDS.iter().map(detected).collect(),
            egress: [egress("denied"), egress("allowed")],
            plaintext: registry.counter("leno_plaintext_connections_total", &[]),
            untaken: registry.counter("leno_gateway_answers_given_up_total", &[]),
            registry: registry.clone(),
            failures: Reason::ALL
                .iter()
                .map(|r| [Direction::Outbound, Direction::Inbound].map(|way| (failure(way, r), Pace::default())))
                .collect(),
            handshake_failures: handshakes("failed"),
            handshakes: handshakes("ok"),
        }
    }

    /// The registry, for handles that are made later.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// A request or connection failed here: counted, and, when not too much of it was, told in the log.
    pub fn failed(&self, direction: Direction, reason: Reason, told: Told<'_>) {
        let (counter, pace) = &self.failures[reason as usize][usize::from(direction == Direction::Inbound)];
        counter.inc();
        pace.tell(direction, reason, told);
    }

    /// Answers of a Gateway that were given up because their clients do not take them.
    pub fn untaken(&self) -> Counter {
        self.untaken.clone()
    }

    /// A connection has shown what it speaks.
    pub fn detected(&self, found: Found) {
        self.detected[found as usize].inc();
    }

    /// A captured connection leads out of the mesh.
    pub fn egress(&self, allowed: bool) {
        self.egress[usize::from(allowed)].inc();
    }

    /// A connection from outside the mesh was let in.
    pub fn plaintext(&self) {
        self.plaintext.inc();
    }

    /// A client of a Gateway did not come through its handshake.
    pub fn edge_handshake(&self, reason: &'static str) {
        self.registry.counter("leno_gateway_handshake_failures_total", &[("reason", reason)]).inc();
    }

    /// A TLS handshake on the mesh port ended.
    pub fn handshake(&self, refused: Option<&str>) {
        let Some(reason) = refused else { return self.handshakes.inc() };
        self.handshake_failures.inc();
        let labels = &[("reason", reason)];
        self.registry.counter("leno_tls_handshake_failures_total", labels).inc();
    }
}
