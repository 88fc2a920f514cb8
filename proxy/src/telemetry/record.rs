//! What is written down of one request: in the access log, as a span, and for whoever taps. Made only of requests that one of them wants.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use http::{HeaderName, HeaderValue};

use super::trace::Span;
use super::{Direction, Story, TryOutcome};
use crate::error::Reason;

/// Longest text that is taken of a peer, in bytes.
pub(super) const MOST_TEXT: usize = 256;
/// Methods that may stand by their own names (OpenTelemetry, `http.request.method`).
const METHODS: [&str; 10] = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE", "QUERY"];
/// What stands for every other one.
const OTHER_METHOD: &str = "_OTHER";

/// What the last attempt waited for, where it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stages {
    /// For the TCP connection.
    pub connect: Duration,
    /// For its TLS handshake.
    pub tls: Duration,
}

/// A request that has ended.
#[derive(Debug, Clone)]
pub struct Record {
    pub direction: Direction,
    pub story: Story,
    /// Who asked, as far as he has proven it; empty: the local app.
    pub caller: String,
    /// The workload that answered, its SPIFFE ID if it has a sidecar, and what was dialled.
    pub endpoint: Option<(String, String, SocketAddr)>,
    pub status: u16,
    /// Why, where a sidecar said so.
    pub reason: Option<Reason>,
    pub attempts: u32,
    pub began: SystemTime,
    /// Until the last attempt was begun.
    pub queued: Duration,
    pub stages: Stages,
    /// Until the answer's head.
    pub first_byte: Duration,
    /// Until the last byte of its body.
    pub total: Duration,
    /// Of the request's body, where its head says it.
    pub sent: Option<u64>,
    /// Of the answer's body.
    pub received: u64,
    /// Those that are allowed to be written down.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub span: Option<Span>,
    /// The newest revision of the configuration that this sidecar had something of.
    pub revision: u64,
}

/// What an attribute says.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Text(String),
    Number(i64),
    Seconds(f64),
}

impl Record {
    /// Whether somebody would call it a failure.
    pub fn is_failure(&self) -> bool {
        self.status >= 500 || self.reason.is_some()
    }

    /// `METHOD SERVICE`, of which there are few.
    pub fn name(&self) -> String {
        match self.story.service.as_str() {
            "" => self.method().to_owned(),
            service => format!("{} {service}", self.method()),
        }
    }

    fn method(&self) -> &str {
        let method = self.story.method();
        METHODS.iter().copied().find(|known| *known == method).unwrap_or(OTHER_METHOD)
    }

    /// Without a query, in which secrets stand.
    pub fn path(&self) -> String {
        shown(self.story.uri.path())
    }

    /// In the words of OpenTelemetry's semantic conventions, and ours below `leno.`. What is not known is left out.
    pub fn attributes(&self) -> Vec<(String, Value)> {
        let mut all = Attributes(Vec::with_capacity(24));
        all.text("http.request.method", self.method());
        if self.method() == OTHER_METHOD {
            all.text("http.request.method_original", &shown(self.story.method()));
        }
        all.text("url.path", &self.path());
        all.text("server.address", &shown(self.story.uri.host().unwrap_or_default()));
        all.number("http.response.status_code", self.status.into());
        all.some_number("http.request.body.size", self.sent);
        all.number("http.response.body.size", self.received);
        if let Some(reason) = self.reason {
            all.text("error.type", reason.code());
        } else if self.is_failure() {
            all.text("error.type", &self.status.to_string());
        }
        if self.attempts > 1 {
            all.number("http.request.resend_count", u64::from(self.attempts - 1));
        }
        self.of_the_mesh(&mut all);
        for (name, value) in &self.headers {
            all.text(&format!("http.request.header.{name}"), &shown(&String::from_utf8_lossy(value.as_bytes())));
        }
        all.0
    }

    fn of_the_mesh(&self, all: &mut Attributes) {
        all.text("leno.direction", self.direction.label());
        all.text("leno.service", &self.story.service);
        all.text("leno.route", &self.story.rule);
        all.text("leno.source.identity", &self.caller);
        if let Some((workload, identity, address)) = &self.endpoint {
            all.text("leno.endpoint", workload);
            all.text("leno.destination.identity", identity);
            all.text("network.peer.address", &address.ip().to_string());
            all.number("network.peer.port", address.port().into());
        }
        if let Some(reason) = self.reason {
            all.text("leno.reason", reason.code());
            all.text("leno.fault", reason.fault().label());
        }
        if let Some(id) = self.story.id {
            all.text("leno.request_id", id.value().to_str().unwrap_or_default());
        }
        if self.attempts > 0 {
            all.number("leno.attempts", self.attempts.into());
        }
        if self.story.retry_denied {
            all.text("leno.retry_denied", "budget");
        }
        all.number("leno.revision", self.revision);
        all.seconds("leno.queue.duration", self.queued);
        all.seconds("leno.connect.duration", self.stages.connect);
        all.seconds("leno.tls.duration", self.stages.tls);
        all.seconds("leno.first_byte.duration", self.first_byte);
        all.seconds("leno.duration", self.total);
    }

    /// Each attempt that was no success: when, since the request began, and in words.
    pub fn attempts_told(&self) -> Vec<(Duration, Vec<(String, Value)>)> {
        let told = |one: &super::memory::Try| {
            let mut all = Attributes(Vec::with_capacity(3));
            all.text("leno.endpoint", &one.endpoint);
            all.text("network.peer.address", &one.address.to_string());
            match one.outcome {
                TryOutcome::Failed(reason) => all.text("leno.reason", reason.code()),
                TryOutcome::Answered(status) => all.number("http.response.status_code", status.into()),
            }
            (one.after, all.0)
        };
        self.story.tries.iter().map(told).collect()
    }
}

struct Attributes(Vec<(String, Value)>);

impl Attributes {
    fn text(&mut self, name: &str, text: &str) {
        if !text.is_empty() {
            self.0.push((name.to_owned(), Value::Text(text.to_owned())));
        }
    }

    fn number(&mut self, name: &str, number: u64) {
        self.0.push((name.to_owned(), Value::Number(i64::try_from(number).unwrap_or(i64::MAX))));
    }

    fn some_number(&mut self, name: &str, number: Option<u64>) {
        if let Some(number) = number {
            self.number(name, number);
        }
    }

    fn seconds(&mut self, name: &str, time: Duration) {
        if !time.is_zero() {
            self.0.push((name.to_owned(), Value::Seconds(time.as_secs_f64())));
        }
    }
}

/// A peer's text without control characters, and no longer than is written down.
pub fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(MOST_TEXT).filter(|c| !c.is_control()).collect();
    while shown.len() > MOST_TEXT {
        shown.pop();
    }
    shown
}

#[cfg(test)]
pub(super) mod tests {
    use http::{HeaderMap, Method};

    use super::*;
    use crate::telemetry::RequestId;

    /// A request of the local app that was answered.
    pub(in crate::telemetry) fn record(method: &str, uri: &str, status: u16) -> Record {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut story = Story::new(&method, uri.parse().unwrap(), &HeaderMap::new());
        story.service = "default/web".to_owned();
        Record {
            direction: Direction::Outbound,
            story,
            caller: String::new(),
            endpoint: None,
            status,
            reason: None,
            attempts: 1,
            began: SystemTime::UNIX_EPOCH + Duration::from_secs(1),
            queued: Duration::ZERO,
            stages: Stages::default(),
            first_byte: Duration::from_millis(1),
            total: Duration::from_millis(2),
            sent: None,
            received: 5,
            headers: Vec::new(),
            span: None,
            revision: 7,
        }
    }

    fn text(record: &Record, name: &str) -> Option<Value> {
        record.attributes().into_iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    #[test]
    fn the_words_are_those_of_the_conventions_and_what_is_not_known_is_left_out() {
        let record = record("GET", "http://web:80/a?token=secret", 200);
        assert_eq!(text(&record, "url.path"), Some(Value::Text("/a".to_owned())), "a query may hold a secret");
        assert_eq!(text(&record, "server.address"), Some(Value::Text("web".to_owned())));
        assert_eq!(text(&record, "http.response.status_code"), Some(Value::Number(200)));
        assert_eq!(text(&record, "leno.duration"), Some(Value::Seconds(0.002)));
        for unknown in ["error.type", "leno.reason", "leno.tls.duration", "http.request.body.size", "leno.endpoint"] {
            assert_eq!(text(&record, unknown), None, "{unknown}");
        }
        assert_eq!(record.name(), "GET default/web");
    }

    #[test]
    fn a_failure_says_its_reason_and_a_strange_method_makes_no_new_name() {
        let mut record = record("BREW", "http://web/", 503);
        record.reason = Some(Reason::NoEndpoints);
        record.story.id = Some(RequestId(255));
        assert_eq!(record.name(), "_OTHER default/web");
        assert_eq!(text(&record, "http.request.method_original"), Some(Value::Text("BREW".to_owned())));
        assert_eq!(text(&record, "error.type"), text(&record, "leno.reason"));
        assert_eq!(text(&record, "leno.request_id"), Some(Value::Text("00000000000000ff".to_owned())));
    }

    #[test]
    fn what_a_peer_says_is_clipped_and_has_no_control_characters() {
        assert_eq!(shown("a\u{1b}[31m\r\nb\u{7f}\u{85}"), "a[31mb");
        assert_eq!(shown(&"ü".repeat(1_000)).len(), MOST_TEXT);
    }
}
