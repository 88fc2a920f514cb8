//! Adaptive concurrency: the sidecar sheds what its app cannot answer in good time.

use std::sync::Arc;
use std::time::Duration;

use leno_tests::raw::{RawApp, Step, answer};
use leno_tests::wait;
use leno_tests::{Behaviour, HttpApp, Load, Mesh};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{Web, field, policy};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_above_the_limit_is_refused_unseen_and_another_instance_takes_it() {
    let app = RawApp::start(|_, seen| match seen.path.as_str() {
        "/stall" => vec![Step::Stall],
        _ => answer(200, "", "done"),
    })
    .await;
    let web = Web::start(&[&app], &policy("  adaptiveConcurrency: {minRequests: 2, maxRequests: 2}")).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut caller = TcpStream::connect(web.frontend.http_proxy()).await.unwrap();
        caller.write_all(b"GET /stall HTTP/1.1\r\nhost: web\r\n\r\n").await.unwrap();
        held.push(caller);
    }
    wait::until("both are at the app", wait::DEADLINE, || app.seen_of("/stall").len() == 2).await;
    let refused = web.post("/third", &[]).await;
    assert_eq!((refused.status, refused.reason()), (503, Some("app_overloaded")));
    assert_eq!((field(&refused, "leno-hop"), field(&refused, "leno-retry")), (Some("inbound"), Some("safe")));
    assert_eq!(field(&refused, "leno-attempts"), Some("3"), "nobody has seen it, so even a POST is tried again");
    assert!(app.seen_of("/third").is_empty());

    let free = RawApp::start(|_, _| answer(200, "", "free")).await;
    let _second = web.mesh.sidecar("web-9", "web").await.port("http", free.addr()).start().await;
    wait::eventually("the second instance takes what the first cannot", wait::DEADLINE, async || {
        (web.post("/third", &[]).await.text() == "free").then_some(())
    })
    .await;
    drop(held);
    wait::until("both places are free", wait::DEADLINE, || app.broken_off() == 2).await;
}

/// An app that answers one request at a time.
async fn serial(time: Duration) -> RawApp {
    let turn = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let start = std::time::Instant::now();
    RawApp::start(move |_, _| {
        // Each takes the next free stretch of time.
        let now = u64::try_from(start.elapsed().as_micros()).unwrap();
        let step = u64::try_from(time.as_micros()).unwrap();
        let before = turn
            .fetch_update(std::sync::atomic::Ordering::SeqCst, std::sync::atomic::Ordering::SeqCst, |free| {
                Some(free.max(now) + step)
            })
            .unwrap();
        let done = before.max(now) + step;
        let mut steps = vec![Step::Wait(Duration::from_micros(done - now))];
        steps.extend(answer(200, "", "done"));
        steps
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_app_is_not_buried_and_is_served_in_full_once_the_load_is_gone() {
    let app = serial(Duration::from_millis(10)).await;
    let adaptive = "  adaptiveConcurrency: {minRequests: 2, maxRequests: 500}\n  retry: {attempts: 0}\n  \
                    outlierDetection: {consecutiveFailures: 1000000}";
    let web = Web::start(&[&app], &policy(adaptive)).await;
    // What the app does unhindered.
    let calm = Load::new(web.frontend.http_proxy(), "http://web/calm").clients(1).limit(60).run().await;
    calm.assert_no_failure();
    let storm = Load::new(web.frontend.http_proxy(), "http://web/storm").clients(64).pause(Duration::from_millis(20));
    let report = storm.limit(8000).run().await;
    assert!(!report.failures().is_empty(), "nothing was shed");
    for failure in report.failures() {
        let (status, text) = failure.result.as_ref().unwrap();
        assert!(*status == 503 && text.starts_with("app_overloaded"), "{status} {text}");
    }
    // The second half: by then the limit has found its place. Without it all 64 would queue up in the app.
    let (unhindered, under_load) = (median(&calm.outcomes), median(&report.outcomes[4000..]));
    assert!(under_load < unhindered * 16, "{unhindered:?} unhindered, {under_load:?} under load");
    let after = Load::new(web.frontend.http_proxy(), "http://web/after").clients(1).limit(50).run().await;
    after.assert_no_failure();
}

fn median(outcomes: &[leno_tests::load::Outcome]) -> Duration {
    let mut took: Vec<_> = outcomes.iter().filter(|o| o.is_ok()).map(|o| o.ended - o.started).collect();
    assert!(!took.is_empty(), "nothing was answered");
    took.sort();
    took[took.len() / 2]
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_policy_nothing_is_shed() {
    let app = HttpApp::start("web").await;
    let mesh = Mesh::start().await;
    mesh.apply(&leno_tests::mesh::service("web", "app: web", 80, "http")).await;
    let _web = mesh.sidecar("web", "web").await.port("http", app.addr()).start().await;
    let frontend = mesh.sidecar("frontend", "frontend").await.start().await;
    mesh.reachable(&frontend, "http://web/").await;
    app.set(Behaviour::Delay(Duration::from_millis(100)));
    let report = Load::new(frontend.http_proxy(), "http://web/").clients(64).limit(640).run().await;
    report.assert_no_failure();
}
