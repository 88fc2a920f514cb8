//! gRPC and WebSocket, to servers that speak what they need and to servers that do not.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::place::{Place, host};
use super::server::{Body, Speaks};

const PATIENCE: Duration = Duration::from_secs(20);

/// A call whose messages are sent one by one.
pub struct Call {
    messages: mpsc::Sender<Result<Frame<Bytes>, hyper::Error>>,
    answer: http::Response<hyper::body::Incoming>,
}

impl Call {
    pub async fn start(place: &Place, host: &str) -> Self {
        let io = TokioIo::new(TcpStream::connect(place.frontend.http_proxy()).await.unwrap());
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        let (messages, queue) = mpsc::channel(1);
        let body: Body = BodyExt::boxed(StreamBody::new(ReceiverStream::new(queue)));
        let request = Request::post(format!("http://{host}/leno.test.Echo/Call"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(body)
            .unwrap();
        let first = messages.clone();
        // Whoever is refused may not read it.
        tokio::spawn(async move { drop(first.send(Ok(message("0"))).await) });
        let answer = tokio::time::timeout(PATIENCE, sender.send_request(request)).await.expect("an answer").unwrap();
        Self { messages, answer }
    }

    /// Sends a message and waits for it to come back.
    pub async fn echo(&mut self, text: &str) {
        self.messages.send(Ok(message(text))).await.unwrap();
        self.next(text).await;
    }

    /// Waits for the message that the call began with.
    pub async fn echo_first(&mut self) {
        self.next("0").await;
    }

    async fn next(&mut self, text: &str) {
        loop {
            let frame =
                tokio::time::timeout(PATIENCE, self.answer.body_mut().frame()).await.expect("a message in time");
            let data = frame.expect("the stream goes on").unwrap().into_data().unwrap();
            if !data.is_empty() {
                return assert_eq!(&data[5..], text.as_bytes());
            }
        }
    }

    /// Ends the call; gives its trailers.
    pub async fn end(self) -> HeaderMap {
        drop(self.messages);
        let whole = tokio::time::timeout(PATIENCE, self.answer.into_body().collect()).await.expect("an end").unwrap();
        whole.trailers().cloned().unwrap_or_default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_takes_longer_than_its_route_allows_ends_with_a_status() {
    let place = Place::start().await;
    for pair in [false, true] {
        let host = host(Speaks::Two, pair);
        let route = format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {host}, namespace: default}}\nspec:\n  \
             parentRefs: [{{kind: Service, group: \"\", name: {host}, port: 80}}]\n  rules:\n  \
             - timeouts: {{request: 2s}}\n    backendRefs: [{{name: {host}, port: 80}}]\n---\n"
        );
        place.mesh.apply(&route).await;
        let mut call = Call::start(&place, &host).await;
        call.echo_first().await;
        call.echo("in time").await;
        // It says nothing more and is not ended.
        let rest = tokio::time::timeout(PATIENCE, call.answer.into_body().collect()).await.expect("an end").unwrap();
        let trailers = rest.trailers().cloned().unwrap_or_default();
        assert_eq!(
            (&trailers["grpc-status"], &trailers["grpc-message"]),
            (&"4".parse().unwrap(), &"timeout".parse().unwrap())
        );
        drop(call.messages);
    }
}

fn message(text: &str) -> Frame<Bytes> {
    let length = u32::try_from(text.len()).unwrap().to_be_bytes();
    Frame::data(Bytes::from([&[0][..], &length, text.as_bytes()].concat()))
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_calls_and_streams_are_carried_and_a_server_without_http2_is_a_status() {
    let place = Place::start().await;
    for pair in [false, true] {
        // Unary: one message and an end.
        let mut unary = Call::start(&place, &host(Speaks::Two, pair)).await;
        assert_eq!(unary.answer.status(), 200);
        unary.echo_first().await;
        assert_eq!(unary.end().await["grpc-status"], "0");
        // Both ways at once.
        let mut stream = Call::start(&place, &host(Speaks::Two, pair)).await;
        stream.echo_first().await;
        for n in 1..200 {
            stream.echo(&n.to_string()).await;
        }
        assert_eq!(stream.end().await["grpc-status"], "0");
        // A server that speaks HTTP/1.1 alone cannot; the caller gets a status of gRPC, and a reason.
        for _kind in ["unary", "streaming"] {
            let refused = Call::start(&place, &host(Speaks::One, pair)).await;
            let headers = refused.answer.headers();
            assert_eq!(refused.answer.status(), 200);
            assert_eq!(headers["grpc-status"], "14", "{headers:?}");
            assert!(headers.contains_key("leno-reason"), "{headers:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn websockets_are_carried_and_a_server_of_http2_alone_is_an_error_with_a_reason() {
    let place = Place::start().await;
    for (speaks, pair) in [(Speaks::One, false), (Speaks::One, true), (Speaks::Two, false), (Speaks::Two, true)] {
        let host = host(speaks, pair);
        let mut client = TcpStream::connect(place.frontend.http_proxy()).await.unwrap();
        let ask = format!(
            "GET /chat HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        client.write_all(ask.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(tokio::time::timeout(PATIENCE, client.read_u8()).await.expect("an answer").unwrap());
        }
        let head = String::from_utf8_lossy(&head);
        if speaks == Speaks::Two {
            // Whether the server closes before or after it was asked is a race.
            let failed = ["HTTP/1.1 502", "HTTP/1.1 503"].iter().any(|status| head.starts_with(status));
            assert!(failed && head.contains("leno-reason: upstream_"), "{host}: {head}");
            continue;
        }
        assert!(head.starts_with("HTTP/1.1 101"), "{host}: {head}");
        for n in 0..100 {
            client.write_all(format!("frame {n}\n").as_bytes()).await.unwrap();
            let mut got = vec![0; format!("frame {n}\n").len()];
            tokio::time::timeout(PATIENCE, client.read_exact(&mut got)).await.expect("an echo").unwrap();
            assert_eq!(String::from_utf8_lossy(&got), format!("FRAME {n}\n"), "{host}");
        }
    }
}
