//! A client's HTTP/2 connection gets no older than it may: it is asked to come anew, and nothing is lost by that.

use std::error::Error as _;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use leno_tests::mesh::service;
use leno_tests::raw::{RawApp, Step, answer};
use leno_tests::{Mesh, wait};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// Pieces of a stream that lasts longer than its connection may, and so do the requests beside it.
const PIECES: usize = 12;
const PAUSE: Duration = Duration::from_millis(400);

async fn app() -> RawApp {
    RawApp::start(|_, seen| match seen.path.as_str() {
        "/stream" => {
            let mut steps = vec![Step::Send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".into())];
            for _ in 0..PIECES {
                steps.extend([Step::Wait(PAUSE), Step::Send("5\r\npiece\r\n".into())]);
            }
            steps.push(Step::Send("0\r\n\r\n".into()));
            steps
        }
        _ => answer(200, "", "done"),
    })
    .await
}

type Sender = SendRequest<Full<Bytes>>;

async fn connect(at: SocketAddr) -> (Sender, JoinHandle<hyper::Result<()>>) {
    let stream = TcpStream::connect(at).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    (sender, tokio::spawn(connection))
}

/// Whether the other end has said that it takes no more requests, and nothing worse.
fn is_goaway(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.is_some_and(|cause| cause.is_go_away() && cause.is_remote() && cause.reason() == Some(h2::Reason::NO_ERROR))
}

/// A stream and, beside it, one request after the other; gives how many connections that took.
async fn talks(at: SocketAddr, app: &RawApp, who: &str) -> usize {
    let (mut sender, first) = connect(at).await;
    let request = |path: &str| Request::get(format!("http://web{path}")).body(Full::default()).unwrap();
    let stream = sender.send_request(request("/stream")).await.unwrap();
    assert_eq!(stream.status(), 200);
    let stream = tokio::spawn(async move { stream.into_body().collect().await.map(|body| body.to_bytes().len()) });
    let (mut connections, mut sent) = (1, 0);
    while !stream.is_finished() || connections < 2 {
        assert!(sent < 100_000, "no connection was ended");
        let path = format!("/one/{who}/{sent}");
        match sender.try_send_request(request(&path)).await {
            Ok(reply) => {
                assert_eq!(reply.status(), 200);
                assert_eq!(reply.into_body().collect().await.unwrap().to_bytes(), "done");
                sent += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            // Nothing of it was sent, or the connection takes no more and nobody has looked at it (RFC 9113, 6.8). Anything else
            // would be a request that is lost.
            Err(mut error) => {
                let unsent = error.take_message().is_some();
                let untaken = is_goaway(error.error()) && app.seen_of(&path).is_empty();
                assert!(unsent || untaken, "after {sent} requests: {:?}", error.error());
                connections += 1;
                sender = connect(at).await.0;
            }
        }
    }
    assert_eq!(stream.await.unwrap().unwrap(), PIECES * "piece".len(), "the stream went on to its end");
    // And then the connection that it was on did.
    let ended = tokio::time::timeout(wait::DEADLINE, first).await;
    assert!(ended.is_ok(), "the first connection is still open");
    connections
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_connection_of_the_app_or_of_a_gateways_client_ends_and_no_request_or_stream_is_lost() {
    let mesh = Mesh::start().await;
    let app = app().await;
    let edge = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: edge, namespace: default}\n\
                spec: {gatewayClassName: leno, listeners: [{name: http, port: 80, protocol: HTTP}]}\n---\n\
                apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: edge, namespace: default}\n\
                spec: {parentRefs: [{name: edge}], rules: [{backendRefs: [{name: web, port: 80}]}]}\n---\n";
    mesh.apply(&(service("web", "app: web", 80, "http") + edge)).await;
    // An app of HTTP/1.1, whatever its callers speak.
    let h1 = service("web", "app: web", 80, "http").replace("targetPort: http", "targetPort: http, appProtocol: http");
    mesh.apply(&h1).await;
    let _web = mesh.sidecar("web", "web").await.port("http", app.addr()).start().await;
    let age = ["--max-connection-age", "2s"];
    let frontend = mesh.sidecar("frontend", "frontend").await.args(&age).start().await;
    let gateway = ["--gateway", "edge", "--gateway-listen=80=127.0.0.1:0"];
    let edge = mesh.sidecar("edge", "edge").await.args(&age).args(&gateway).start().await;
    mesh.connected(3).await;
    mesh.reachable(&frontend, "http://web/ready").await;
    wait::eventually("the gateway answers", wait::DEADLINE, async || {
        let request = leno_tests::client::request(http::Method::GET, "http://web/ready", &[], "");
        (leno_tests::client::send(edge.gateway(80), request).await.ok()?.status == 200).then_some(())
    })
    .await;
    let (ours, theirs) =
        tokio::join!(talks(frontend.http_proxy(), &app, "ours"), talks(edge.gateway(80), &app, "theirs"));
    // The stream lasts for at least five seconds: one connection after another, and not one a request.
    for connections in [ours, theirs] {
        assert!((2..=20).contains(&connections), "{connections} connections");
    }
}
