//! Faults on purpose.

use std::time::{Duration, Instant};

use http::Method;
use leno_tests::raw::{RawApp, answer};

use super::{Web, field, policy};

#[tokio::test(flavor = "multi_thread")]
async fn only_requests_with_the_header_are_aborted_and_the_app_does_not_see_them() {
    let app = RawApp::start(|_, _| answer(200, "", "done")).await;
    let fault = "  faults:\n  - headers: [{name: x-fault, value: \"a.*\", type: RegularExpression}]\n    \
                 abort: {status: 418, grpcStatus: 9}";
    let web = Web::start(&[&app], &policy(fault)).await;
    let aborted = web.send(Method::GET, "/a", &[("x-fault", "abc")]).await;
    assert_eq!((aborted.status, aborted.reason()), (418, Some("fault_injected")));
    assert_eq!(field(&aborted, "leno-fault"), Some("configuration"));
    let grpc = web.post("/a", &[("x-fault", "abc"), ("content-type", "application/grpc")]).await;
    assert_eq!((grpc.status, field(&grpc, "grpc-status")), (200, Some("9")));
    assert!(app.seen().is_empty());
    assert_eq!(web.send(Method::GET, "/a", &[("x-fault", "b")]).await.status, 200);
    assert_eq!(web.get("/a").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_of_the_requests_is_aborted_and_a_delay_holds_them() {
    let app = RawApp::start(|_, _| answer(200, "", "done")).await;
    let faults = "  faults:\n  - {percent: 50, abort: {status: 500}}\n  - headers: [{name: x-slow, value: \"1\"}]\n    delay: 400ms\n";
    let web = Web::start(&[&app], &policy(faults)).await;
    let mut aborted = 0;
    for _ in 0..200 {
        let reply = web.get("/share").await;
        assert!(matches!(reply.status, 200 | 500));
        aborted += usize::from(reply.status == 500);
    }
    // Binomial(200, 1/2): six standard deviations are 43.
    assert!((57..=143).contains(&aborted), "{aborted}");
    assert_eq!(app.seen_of("/share").len(), 200 - aborted);
    let start = Instant::now();
    web.send(Method::GET, "/slow", &[("x-slow", "1")]).await;
    assert!(start.elapsed() >= Duration::from_millis(400));
}
