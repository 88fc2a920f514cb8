//! A second attempt beside a slow first one.

use http::Method;
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
