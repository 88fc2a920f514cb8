//! The check by the gRPC health protocol (grpc.health.v1): the app must say SERVING.

use ::http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;

use super::Reason;
use super::connect::{Target, connect};

/// Most bytes of an answer; a health answer has seven.
const MOST_BODY: usize = 4 << 10;
const PATH: &str = "/grpc.health.v1.Health/Check";

#[derive(Clone, PartialEq, Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// Makes the check.
pub(super) async fn check(to: &Target, service: &str, agent: &HeaderValue) -> Result<(), Reason> {
    let broken = |why: hyper::Error| format!("{to} does not speak gRPC: {why}");
    let stream = connect(to).await?;
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(broken)?;
    let request = request(to, service, agent)?;
    let answered = async {
        let (head, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
        if !head.status.is_success() {
            return Err(format!("{to} answered the health question with status {}", head.status.as_u16()));
        }
        let body = Limited::new(body, MOST_BODY).collect().await;
        let body = body.map_err(|why| format!("{to} broke off its health answer: {why}"))?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        judge(to, service, &head.headers, &trailers, &body.to_bytes())
    };
    let mut connection = std::pin::pin!(connection);
    let mut answered = std::pin::pin!(answered);
    tokio::select! {
        biased;
        verdict = &mut answered => verdict,
        _ = &mut connection => answered.await,
    }
}

fn request(to: &Target, service: &str, agent: &HeaderValue) -> Result<Request<Full<Bytes>>, Reason> {
    let question = HealthCheckRequest { service: service.to_owned() };
    let mut frame = BytesMut::with_capacity(5 + question.encoded_len());
    frame.put_u8(0); // not compressed
    frame.put_u32(u32::try_from(question.encoded_len()).map_err(|why| why.to_string())?);
    question.encode(&mut frame).map_err(|why| why.to_string())?;
    let uri = format!("http://{to}{PATH}").parse::<Uri>().map_err(|why| format!("{to} is no address: {why}"))?;
    let mut request = Request::new(Full::new(frame.freeze()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    headers.insert(header::USER_AGENT, agent.clone());
    Ok(request)
}

fn judge(to: &Target, service: &str, head: &HeaderMap, trailers: &HeaderMap, body: &[u8]) -> Result<(), Reason> {
    let shown = if service.is_empty() { "the server" } else { service };
    // In the head when the answer has no body.
    let code = trailers.get("grpc-status").or_else(|| head.get("grpc-status")).map(HeaderValue::as_bytes);
    match code {
        Some(b"0") => {}
        Some(b"5") => return Err(format!("{to} does not know the service {shown}")),
        Some(b"12") => return Err(format!("{to} does not implement grpc.health.v1.Health")),
        Some(code) => {
            return Err(format!("{to} answered the health question with gRPC status {}", code.escape_ascii()));
        }
        None => return Err(format!("{to} answered the health question without a gRPC status")),
    }
    let answer = body.get(5..).and_then(|message| HealthCheckResponse::decode(message).ok());
    match answer.map(|answer| answer.status) {
        Some(1) => Ok(()),
        Some(2) => Err(format!("{shown} on {to} says NOT_SERVING")),
        Some(3) => Err(format!("{shown} on {to} says SERVICE_UNKNOWN")),
        _ => Err(format!("{shown} on {to} gives no health answer")),
    }
}
