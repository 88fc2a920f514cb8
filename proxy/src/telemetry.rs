//! The sidecar's metrics: handles that are made when a cluster or listener is, so that the request path only adds to atomics.

pub mod access_log;
pub mod edges;
pub mod memory;
pub mod observer;
pub mod otlp;
pub mod record;
pub mod taps;
mod told;
pub mod trace;

use std::cell::{OnceCell, RefCell};
use std::time::Duration;

use leno_runtime::metrics::{Counter, Gauge, Histogram, Registry};

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
    duration: Histogram,
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

/// How long requests of a service take; the same handle for the same service.
fn request_duration(registry: &Registry, direction: Direction, service: &str) -> Histogram {
    registry.histogram(
        "leno_request_duration_seconds",
        "Time from a request's head to the last byte of its answer.",
        &[("direction", direction.label()), ("service", service)],
    )
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
        let counter = |name, help| registry.counter(name, help, labels);
        Self {
            by_code: RefCell::default(),
            overflows: Default::default(),
            hedges: OnceCell::new(),
            duration: request_duration(registry, direction, service),
            request_bytes: counter("leno_request_bytes_total", "Bytes of request bodies."),
            response_bytes: counter("leno_response_bytes_total", "Bytes of response bodies."),
            retries: counter("leno_retries_total", "Attempts after the first."),
            retries_denied: counter("leno_retries_denied_total", "Retries that the budget did not grant."),
            ejections: counter("leno_endpoint_ejections_total", "Ejections of an endpoint that kept failing."),
            ejected: registry.gauge(
                "leno_endpoints_ejected",
                "Endpoints that are ejected now, summed over workers.",
                labels,
            ),
            tcp_connections: counter("leno_tcp_connections_total", "Opaque connections."),
            tcp_sent: counter("leno_tcp_sent_bytes_total", "Bytes of opaque connections from the caller."),
            tcp_received: counter("leno_tcp_received_bytes_total", "Bytes of opaque connections to the caller."),
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
            let help = "What a circuit breaker refused, by the limit that was reached.";
            self.registry.counter("leno_circuit_breaker_overflows_total", help, labels)
        });
        counter.inc();
    }

    /// A second attempt was made beside a slow first one.
    pub fn hedges(&self) {
        let labels = &[("direction", self.direction.label()), ("service", self.service.as_str())];
        let help = "Attempts beside a slow first one.";
        self.hedges.get_or_init(|| self.registry.counter("leno_hedges_total", help, labels)).inc();
    }

    /// A request was answered.
    pub fn answered(&self, code: u16, took: Duration) {
        self.duration.observe(took);
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
        self.registry.counter("leno_requests_total", "Requests by the status they were answered with.", labels)
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
            registry.counter("leno_mirrored_requests_total", "Copies of requests (RequestMirror).", labels)
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
        let counter = |name, help| registry.counter(name, help, labels);
        Self {
            connections: counter("leno_gateway_connections_total", "Connections over TLS or TCP by listener."),
            requests: counter("leno_gateway_requests_total", "Requests by the listener that has their host."),
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
            registry.counter(
                "leno_failures_total",
                "Requests and connections that a sidecar itself failed, by reason.",
                labels,
            )
        };
        let handshakes = |result: &str| {
            registry.counter("leno_tls_handshakes_total", "TLS handshakes on the mesh port.", &[("result", result)])
        };
        let egress = |verdict: &str| {
            registry.counter(
                "leno_egress_connections_total",
                "Captured connections to what is not in the mesh.",
                &[("verdict", verdict)],
            )
        };
        let detected = |word: &&str| {
            registry.counter(
                "leno_detected_connections_total",
                "Connections by what they turned out to speak, where nobody had said it.",
                &[("protocol", word)],
            )
        };
        Self {
            detected: Found::WORDS.iter().map(detected).collect(),
            egress: [egress("denied"), egress("allowed")],
            plaintext: registry.counter(
                "leno_plaintext_connections_total",
                "Captured connections from outside the mesh that were let in (PERMISSIVE).",
                &[],
            ),
            untaken: registry.counter(
                "leno_gateway_answers_given_up_total",
                "Answers that were given up because their clients took nothing of them.",
                &[],
            ),
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
        let help = "Refused TLS handshakes on the ports of a Gateway.";
        self.registry.counter("leno_gateway_handshake_failures_total", help, &[("reason", reason)]).inc();
    }

    /// A TLS handshake on the mesh port ended.
    pub fn handshake(&self, refused: Option<&str>) {
        let Some(reason) = refused else { return self.handshakes.inc() };
        self.handshake_failures.inc();
        let labels = &[("reason", reason)];
        self.registry
            .counter("leno_tls_handshake_failures_total", "Refused TLS handshakes on the mesh port.", labels)
            .inc();
    }
}
