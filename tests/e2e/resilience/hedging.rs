//! A second attempt beside a slow first one.

use http::Method;
use leno_tests::client;
use leno_tests::raw::{RawApp, Step, answer};
use leno_tests::wait;

use super::{Web, policy};

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_instance_is_hedged_by_another_and_the_loser_is_broken_off_and_a_post_is_not_hedged() {
    let slow = RawApp::start(|_, _| vec![Step::ReadBody, Step::Stall]).await;
    let good = RawApp::start(|_, _| answer(200, "", "done")).await;
    let web = Web::start(&[&slow, &good], &policy("  hedge: {delay: 50ms}")).await;
    for n in 0..10 {
        let reply = web.get(&format!("/{n}")).await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "done"), "{n}");
    }
    let stalled = slow.seen().len();
    assert!(stalled > 0, "the slow instance was never tried");
    assert_eq!(good.seen().len(), 10, "no request was answered twice");
    wait::until("the losers are broken off", wait::DEADLINE, || slow.broken_off() == stalled).await;
    let hedged = web.frontend.metrics().await.sum("leno_hedges_total", &[("service", "default/web")]);
    assert!(hedged >= stalled as f64, "{hedged} hedges, {stalled} stalled attempts");

    for n in 0..10 {
        web.send(Method::POST, &format!("/post/{n}"), &[("leno-timeout-ms", "300")]).await;
        let path = format!("/post/{n}");
        assert_eq!(slow.seen_of(&path).len() + good.seen_of(&path).len(), 1, "a POST is sent once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_a_body_is_hedged_when_all_of_it_is_kept() {
    let slow = RawApp::start(|_, _| vec![Step::ReadBody, Step::Stall]).await;
    let good = RawApp::start(|_, _| answer(200, "", "done")).await;
    let web = Web::start(&[&slow, &good], &policy("  hedge: {delay: 300ms}\n  retry: {attempts: 0}")).await;
    let put = async |path: &str, length: usize, more: &[(&str, &str)]| {
        let request = client::request(Method::PUT, &format!("http://web{path}"), more, vec![b'b'; length]);
        client::send(web.frontend.http_proxy(), request).await.unwrap()
    };
    const KEPT: usize = 60_000;
    for n in 0..10 {
        let reply = put(&format!("/{n}"), KEPT, &[]).await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "done"), "{n}");
    }
    let stalled = slow.seen().len();
    assert!(stalled > 0, "the slow instance was never tried");
    assert_eq!((good.seen().len(), good.body_bytes()), (10, 10 * KEPT), "each had the whole body, once");
    assert_eq!(slow.body_bytes(), stalled * KEPT);
    wait::until("the losers are broken off", wait::DEADLINE, || slow.broken_off() == stalled).await;
    // One that is longer is sent once.
    for n in 0..8 {
        let path = format!("/long/{n}");
        put(&path, 100_000, &[("leno-timeout-ms", "1000")]).await;
        assert_eq!(slow.seen_of(&path).len() + good.seen_of(&path).len(), 1, "{path}");
    }
}
