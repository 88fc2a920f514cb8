//! What one client has open at a service is bounded, and what is above fails at once.

use std::net::SocketAddr;
use std::time::Duration;

use leno_tests::raw::{RawApp, Step, answer};
use leno_tests::wait::{self, eventually};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::{Web, field, policy};

async fn stall(web: &Web, path: &str) -> TcpStream {
    let mut caller = TcpStream::connect(web.frontend.http_proxy()).await.unwrap();
    caller.write_all(format!("GET {path} HTTP/1.1\r\nhost: web\r\n\r\n").as_bytes()).await.unwrap();
    caller
}

async fn stalling() -> RawApp {
    RawApp::start(|_, seen| if seen.path == "/stall" { vec![Step::Stall] } else { answer(200, "", "done") }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_above_the_limit_fail_at_once_and_the_next_is_served_when_one_has_ended() {
    let app = stalling().await;
    let web = Web::start(&[&app], &policy("  circuitBreaker: {maxRequests: 2}")).await;
    let held = [stall(&web, "/stall").await, stall(&web, "/stall").await];
    wait::until("both are at the app", wait::DEADLINE, || app.seen_of("/stall").len() == 2).await;
    let refused = web.get("/third").await;
    assert_eq!((refused.status, refused.reason()), (503, Some("overloaded")));
    assert_eq!((field(&refused, "leno-hop"), field(&refused, "leno-retry")), (Some("outbound"), Some("safe")));
    assert!(app.seen_of("/third").is_empty(), "what was refused did not reach the app");
    let metrics = web.frontend.metrics().await;
    assert_eq!(metrics.sum("leno_circuit_breaker_overflows_total", &[("limit", "requests")]), 1.0);
    assert_eq!(metrics.sum("leno_failures_total", &[("reason", "overloaded"), ("retry", "safe")]), 1.0);
    drop(held);
    eventually("a place is free", wait::DEADLINE, async || (web.get("/again").await.status == 200).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_an_app_without_a_sidecar_are_bounded() {
    let app = stalling().await;
    let bystander = stalling().await;
    let limits = policy("  circuitBreaker: {maxConnections: 1}").replace("web", "legacy");
    let legacy = format!(
        "{}{limits}apiVersion: leno.dev/v1alpha1\nkind: Workload\nmetadata: {{name: legacy-1, namespace: default, labels: {{app: legacy}}}}\n\
         spec: {{address: 127.0.0.1, ports: {{http: {}}}}}\n---\n",
        leno_tests::mesh::service("legacy", "app: legacy", 80, "http"),
        app.addr().port()
    );
    let web = Web::start(&[&bystander], &legacy).await;
    web.mesh.reachable(&web.frontend, "http://legacy/ready").await;
    let mut held = TcpStream::connect(web.frontend.http_proxy()).await.unwrap();
    held.write_all(b"GET /stall HTTP/1.1\r\nhost: legacy\r\n\r\n").await.unwrap();
    wait::until("it is at the app", wait::DEADLINE, || app.seen_of("/stall").len() == 1).await;
    let refused = web.frontend.get("http://legacy/second").await.unwrap();
    assert_eq!((refused.status, refused.reason()), (503, Some("overloaded")));
    drop(held);
    eventually("the connection is free", wait::DEADLINE, async || {
        (web.frontend.get("http://legacy/again").await.ok()?.status == 200).then_some(())
    })
    .await;
}

/// A place where connections are neither accepted nor refused: the kernel's queue is full. As long as what is given lives.
async fn silence() -> (TcpListener, SocketAddr, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let at = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = tokio::time::timeout(Duration::from_millis(500), TcpStream::connect(at)).await {
        queued.push(stream.unwrap());
        assert!(queued.len() < 100, "the queue has no end");
    }
    (listener, at, queued)
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_wait_for_a_connection_are_bounded() {
    let bystander = stalling().await;
    let (_listener, at, _queued) = silence().await;
    let limits = "  connectTimeout: 3s\n  retry: {attempts: 0}\n  circuitBreaker: {maxPendingRequests: 2}";
    let silent = format!(
        "{}{}apiVersion: leno.dev/v1alpha1\nkind: Workload\nmetadata: {{name: silent-1, namespace: default, labels: {{app: silent}}}}\n\
         spec: {{address: 127.0.0.1, ports: {{http: {}}}}}\n---\n",
        leno_tests::mesh::service("silent", "app: silent", 80, "http"),
        policy(limits).replace("web", "silent"),
        at.port()
    );
    let web = Web::start(&[&bystander], &silent).await;
    let get = async || {
        let reply = web.frontend.get("http://silent/").await.unwrap();
        (reply.status, reply.reason().map(str::to_owned))
    };
    // The first three at once: two wait, until there is no use in it.
    let (one, two, three) = tokio::join!(get(), get(), get());
    let mut reasons: Vec<_> = [one, two, three].into_iter().map(|(status, reason)| (status, reason.unwrap())).collect();
    reasons.sort();
    let timeout = || (503, "connect_timeout".to_owned());
    assert_eq!(reasons, [timeout(), timeout(), (503, "overloaded".to_owned())]);
    let metrics = web.frontend.metrics().await;
    assert_eq!(metrics.sum("leno_circuit_breaker_overflows_total", &[("limit", "pending")]), 1.0);
    // Their places are free.
    assert_eq!(get().await, (503, Some("connect_timeout".to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_tried_again_are_bounded() {
    let app = RawApp::start(|times, seen| match (times, seen.path.as_str()) {
        (0, _) => answer(503, "", "failed"),
        (_, "/stall/1" | "/stall/2") => vec![Step::Stall],
        _ => answer(200, "", "done"),
    })
    .await;
    let web = Web::start(&[&app], &policy("  circuitBreaker: {maxRetries: 2}")).await;
    assert_eq!(web.get("/before").await.status, 200);
    let held = [stall(&web, "/stall/1").await, stall(&web, "/stall/2").await];
    let tried = |path: &str| app.seen_of(path).len();
    wait::until("both are tried again", wait::DEADLINE, || tried("/stall/1") == 2 && tried("/stall/2") == 2).await;
    // The answer that there is is passed on.
    let third = web.get("/third").await;
    assert_eq!((third.status, third.text().as_str(), tried("/third")), (503, "failed", 1));
    let metrics = web.frontend.metrics().await;
    assert_eq!(metrics.sum("leno_circuit_breaker_overflows_total", &[("limit", "retries")]), 1.0);
    drop(held);
    let mut n = 0;
    eventually("a place is free", wait::DEADLINE, async || {
        n += 1;
        (web.get(&format!("/again/{n}")).await.status == 200).then_some(())
    })
    .await;
}
