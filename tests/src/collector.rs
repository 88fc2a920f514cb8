//! A collector of traces: the real server side of OTLP, over gRPC or HTTP, which keeps what it was sent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind};
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio_stream::wrappers::TcpListenerStream;

use crate::wait;

/// A span, and who sent it.
#[derive(Debug, Clone)]
pub struct Collected {
    resource: Vec<KeyValue>,
    /// As it came.
    pub span: Span,
}

/// The collector.
pub struct Collector {
    addr: SocketAddr,
    spans: Spans,
    serving: AbortHandle,
}

#[derive(Debug, Clone, Default)]
struct Spans(Arc<Mutex<Vec<Collected>>>);

impl Spans {
    fn take(&self, request: ExportTraceServiceRequest) {
        let mut spans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for of in request.resource_spans {
            let resource = of.resource.map(|resource| resource.attributes).unwrap_or_default();
            let of_scopes = of.scope_spans.into_iter().flat_map(|scope| scope.spans);
            spans.extend(of_scopes.map(|span| Collected { resource: resource.clone(), span }));
        }
    }
}

#[tonic::async_trait]
impl TraceService for Spans {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        self.take(request.into_inner());
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Over gRPC.
    pub async fn grpc() -> Self {
        let (listener, addr) = port().await;
        let spans = Spans::default();
        let service = TraceServiceServer::new(spans.clone());
        let server = tonic::transport::Server::builder().add_service(service);
        let serving = tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener))).abort_handle();
        Self { addr, spans, serving }
    }

    /// Over HTTP.
    pub async fn http() -> Self {
        let (listener, addr) = port().await;
        let spans = Spans::default();
        let kept = spans.clone();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let kept = kept.clone();
                let service = service_fn(move |request| post(kept.clone(), request));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { addr, spans, serving: serving.abort_handle() }
    }

    /// As `--otlp-endpoint` takes it.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// What it was sent so far.
    pub fn spans(&self) -> Vec<Collected> {
        self.spans.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The spans of a trace, once there are so many: the callers' first.
    pub async fn trace(&self, id: &str, n: usize) -> Vec<Collected> {
        wait::eventually("the spans of the trace", wait::DEADLINE, async || {
            let mut spans: Vec<_> =
                self.spans().into_iter().filter(|of| hex::encode(&of.span.trace_id) == id).collect();
            spans.sort_by_key(|of| of.span.start_time_unix_nano);
            (spans.len() >= n).then_some(spans)
        })
        .await
    }
}

async fn post(
    kept: Spans,
    request: Request<hyper::body::Incoming>,
) -> Result<Response<Full<bytes::Bytes>>, hyper::Error> {
    let good = request.method() == "POST"
        && request.uri().path() == "/v1/traces"
        && request.headers().get("content-type").is_some_and(|kind| kind == "application/x-protobuf");
    let body = request.into_body().collect().await?.to_bytes();
    let mut response = Response::new(Full::default());
    match ExportTraceServiceRequest::decode(body) {
        Ok(request) if good => kept.take(request),
        _ => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    Ok(response)
}

async fn port() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("its address");
    (listener, addr)
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Collected {
    /// An attribute as text; empty: it has none of this name.
    pub fn attribute(&self, name: &str) -> String {
        text(&self.span.attributes, name)
    }

    /// Who sent it.
    pub fn resource(&self, name: &str) -> String {
        text(&self.resource, name)
    }

    /// Whether it is that of a caller's sidecar.
    pub fn is_client(&self) -> bool {
        self.span.kind() == SpanKind::Client
    }

    /// As the W3C writes them.
    pub fn id(&self) -> String {
        hex::encode(&self.span.span_id)
    }

    /// Empty: it is the first one.
    pub fn parent(&self) -> String {
        hex::encode(&self.span.parent_span_id)
    }

    /// What became of its attempts: an attribute of each event.
    pub fn events(&self, name: &str) -> Vec<String> {
        self.span.events.iter().map(|event| text(&event.attributes, name)).collect()
    }
}

fn text(attributes: &[KeyValue], name: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == name);
    match found.and_then(|attribute| attribute.value.as_ref()?.value.clone()) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        _ => String::new(),
    }
}
