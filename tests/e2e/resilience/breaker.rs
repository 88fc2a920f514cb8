//! What one client has open at a service is bounded, and what is above fails at once.

use leno_tests::raw::{RawApp, Step, answer};
use leno_tests::wait::{self, eventually};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

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
