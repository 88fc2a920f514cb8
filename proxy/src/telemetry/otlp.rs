//! Spans to an OpenTelemetry collector: OTLP over gRPC or over HTTP, in batches, from the control thread. A collector that is slow or gone
//! costs a request nothing: what does not fit the queue, or was offered in vain, is dropped and counted.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use http::{Request, StatusCode, header};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use leno_runtime::backoff::Backoff;
use leno_runtime::metrics::{Counter, Registry};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span, status};
use prost::Message;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tonic::transport::{Channel, Endpoint};

use super::Direction;
use super::record::{Record, Value};
use crate::settings::CollectorSettings;

/// Spans that wait to be sent.
const MOST_WAITING: usize = 2_048;
/// Spans of one batch.
const MOST_AT_ONCE: usize = 512;
/// A batch gathers this long.
const GATHER: Duration = Duration::from_millis(500);
/// How long the collector may take for a batch, and how often one is offered.
const PATIENCE: Duration = Duration::from_secs(5);
const TRIES: usize = 3;
/// As the specification of OTLP over HTTP has it.
const PATH: &str = "/v1/traces";

/// Takes spans; clones share it.
#[derive(Debug, Clone)]
pub struct Spans {
    queue: mpsc::Sender<Arc<Record>>,
    full: Counter,
}

impl Spans {
    /// Has a request's span sent, some time.
    pub fn send(&self, record: Arc<Record>) {
        if self.queue.try_send(record).is_err() {
            self.full.inc();
        }
    }
}

/// What sends them, once it runs.
pub struct Exporter {
    queue: mpsc::Receiver<Arc<Record>>,
    collector: CollectorSettings,
    resource: Resource,
    sent: Counter,
    in_vain: Counter,
}

/// The queue's two ends. `resource` says who this sidecar is, as OpenTelemetry names it.
pub fn channel(collector: CollectorSettings, resource: &[(&str, String)], registry: &Registry) -> (Spans, Exporter) {
    let (sender, queue) = mpsc::channel(MOST_WAITING);
    let counter = |result| registry.counter("leno_spans_total", &[("result", result)]);
    let attributes = resource.iter().map(|(name, text)| key_value((*name).to_owned(), Value::Text(text.clone())));
    let resource = Resource { attributes: attributes.collect(), ..Resource::default() };
    let (sent, in_vain) = (counter("sent"), counter("not_taken"));
    (Spans { queue: sender, full: counter("queue_full") }, Exporter { queue, collector, resource, sent, in_vain })
}

impl Exporter {
    /// Sends until nobody takes spans any more; what waits then is sent, too.
    pub async fn run(mut self) {
        let mut batch = Vec::new();
        let mut said = false;
        while self.queue.recv_many(&mut batch, MOST_AT_ONCE).await > 0 {
            let more = async {
                while batch.len() < MOST_AT_ONCE {
                    let room = MOST_AT_ONCE - batch.len();
                    if self.queue.recv_many(&mut batch, room).await == 0 {
                        return;
                    }
                }
            };
            let _ = tokio::time::timeout(GATHER, more).await;
            let count = batch.len() as u64;
            let request = self.request(batch.drain(..));
            match self.offer(request).await {
                Ok(()) => {
                    said = false;
                    self.sent.add(count);
                }
                Err(why) => {
                    self.in_vain.add(count);
                    if !std::mem::replace(&mut said, true) {
                        tracing::warn!(
                            collector = self.collector.authority,
                            why,
                            "the collector takes no spans; they are dropped until it does"
                        );
                    }
                }
            }
        }
    }

    async fn offer(&self, request: ExportTraceServiceRequest) -> Result<(), String> {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(2));
        let mut last = String::new();
        for n in 0..TRIES {
            if n > 0 {
                tokio::time::sleep(backoff.next_delay()).await;
            }
            last = match tokio::time::timeout(PATIENCE, send(&self.collector, request.clone())).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(why)) => why,
                Err(_) => "it did not answer in time".to_owned(),
            };
        }
        Err(last)
    }

    fn request(&self, records: impl Iterator<Item = Arc<Record>>) -> ExportTraceServiceRequest {
        let scope = InstrumentationScope { name: "leno-proxy".to_owned(), ..InstrumentationScope::default() };
        let spans = records.filter_map(|record| span_of(&record)).collect();
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
        let resource = Some(self.resource.clone());
        let resource_spans = vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }];
        ExportTraceServiceRequest { resource_spans }
    }
}

/// One batch, on a connection of its own: there is one in half a second at most, and a collector that moved is found again.
async fn send(to: &CollectorSettings, request: ExportTraceServiceRequest) -> Result<(), String> {
    match to.http {
        false => {
            let endpoint = Endpoint::from_shared(format!("http://{}", to.authority)).map_err(|why| why.to_string())?;
            let channel: Channel =
                endpoint.connect().await.map_err(|why| format!("cannot connect: {}", cause(&why)))?;
            let sent = TraceServiceClient::new(channel).export(request).await;
            sent.map(|_| ()).map_err(|status| format!("{}: {}", status.code(), status.message()))
        }
        true => {
            let stream = TcpStream::connect(&to.authority).await.map_err(|why| format!("cannot connect: {why}"))?;
            let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
            let (mut sender, connection) = handshake.map_err(|why| why.to_string())?;
            let connection = tokio::spawn(connection);
            let request = Request::post(format!("{}{PATH}", to.prefix))
                .header(header::HOST, &to.authority)
                .header(header::CONTENT_TYPE, "application/x-protobuf")
                .body(Full::new(bytes::Bytes::from(request.encode_to_vec())))
                .map_err(|why| why.to_string())?;
            let answered = sender.send_request(request).await;
            connection.abort();
            match answered.map_err(|why| why.to_string())?.status() {
                StatusCode::OK => Ok(()),
                status => Err(format!("it answered {status}")),
            }
        }
    }
}

/// The innermost reason.
fn cause(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(inner) = last.source() {
        last = inner;
    }
    last.to_string()
}

/// None: the request is of no trace.
fn span_of(record: &Record) -> Option<Span> {
    let of = record.span.as_ref()?;
    let began = record.began.duration_since(UNIX_EPOCH).unwrap_or_default();
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let kind = match record.direction {
        Direction::Outbound => span::SpanKind::Client,
        Direction::Inbound => span::SpanKind::Server,
    };
    let event = |(after, attributes): (Duration, Vec<(String, Value)>)| span::Event {
        time_unix_nano: nanos(began + after),
        name: "leno.attempt".to_owned(),
        attributes: key_values(attributes),
        dropped_attributes_count: 0,
    };
    let code = if record.is_failure() { status::StatusCode::Error } else { status::StatusCode::Unset };
    let message = record.reason.map(|reason| reason.code().to_owned()).unwrap_or_default();
    Some(Span {
        trace_id: of.trace.to_be_bytes().to_vec(),
        span_id: of.id.to_be_bytes().to_vec(),
        parent_span_id: of.parent.map(|parent| parent.to_be_bytes().to_vec()).unwrap_or_default(),
        trace_state: of.state.clone(),
        // Sampled, by the W3C's flags.
        flags: 1,
        name: record.name(),
        kind: kind.into(),
        start_time_unix_nano: nanos(began),
        end_time_unix_nano: nanos(began + record.total),
        attributes: key_values(record.attributes()),
        events: record.attempts_told().into_iter().map(event).collect(),
        status: Some(Status { code: code.into(), message }),
        ..Span::default()
    })
}

fn key_values(attributes: Vec<(String, Value)>) -> Vec<KeyValue> {
    attributes.into_iter().map(|(name, value)| key_value(name, value)).collect()
}

fn key_value(key: String, value: Value) -> KeyValue {
    let value = match value {
        Value::Text(text) => any_value::Value::StringValue(text),
        Value::Number(number) => any_value::Value::IntValue(number),
        Value::Seconds(seconds) => any_value::Value::DoubleValue(seconds),
    };
    KeyValue { key, value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
