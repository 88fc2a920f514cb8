//! What is tried again, what is not, and what the client is told.

use leno_tests::raw::{RawApp, Step, answer};

use super::{Web, field, policy, route, rule_policy};

/// Fails the first request for each path, in the way that the path names, and answers the others.
async fn fails_once() -> RawApp {
    RawApp::start(|times, seen| match (times, seen.path.rsplit('/').next()) {
        (0, Some("reset")) => vec![Step::ReadBody, Step::Reset],
        (0, Some("storm")) => answer(503, "", "failed"),
        (0, Some("teapot")) => answer(418, "", "failed"),
        (0, Some("soon")) => answer(503, "retry-after: 1\r\n", "failed"),
        (0, Some("late")) => answer(503, "retry-after: 60\r\n", "failed"),
        (0, Some("grpc")) => answer(200, "content-type: application/grpc\r\ngrpc-status: 14\r\n", ""),
        _ => answer(200, "", "done"),
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_that_the_app_may_have_seen_is_sent_again_only_with_an_idempotency_key() {
    let app = fails_once().await;
    let web = Web::start(&[&app], "").await;
    let plain = web.post("/plain/reset", &[]).await;
    assert_eq!((plain.status, plain.reason()), (502, Some("app_reset")));
    assert_eq!(field(&plain, "leno-hop"), Some("inbound"));
    assert_eq!(field(&plain, "leno-fault"), Some("upstream"));
    assert_eq!(field(&plain, "leno-retry"), Some("if-idempotent"));
    assert_eq!(field(&plain, "leno-attempts"), None);
    assert_eq!(app.seen_of("/plain/reset").len(), 1);

    let keyed = web.post("/keyed/reset", &[("idempotency-key", "\"7\"")]).await;
    assert_eq!((keyed.status, keyed.text().as_str()), (200, "done"));
    assert_eq!(field(&keyed, "leno-attempts"), Some("2"));
    let seen = app.seen_of("/keyed/reset");
    assert_eq!(seen.iter().map(|s| s.field("leno-attempt")).collect::<Vec<_>>(), [None, Some("2")]);
    assert_eq!(app.body_bytes(), 3 * "a body".len(), "each attempt had the whole body");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_rule_may_say_that_posts_are_sent_again_and_the_others_are_not() {
    let app = fails_once().await;
    let policies = route("") + &rule_policy("said", "  retry: {nonIdempotent: true}");
    let web = Web::start(&[&app], &policies).await;
    assert_eq!(web.post("/said/reset", &[]).await.status, 200);
    assert_eq!(app.seen_of("/said/reset").len(), 2);
    assert_eq!(web.post("/other/reset", &[]).await.status, 502);
    assert_eq!(app.seen_of("/other/reset").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn codes_and_conditions_are_those_of_the_policy() {
    let app = fails_once().await;
    let web = Web::start(&[&app], &policy("  retry: {codes: [418], on: [connect-failure]}")).await;
    for (path, status, times) in [("/teapot", 200, 2), ("/storm", 503, 1), ("/reset", 502, 1)] {
        let reply = web.get(path).await;
        assert_eq!((reply.status, app.seen_of(path).len()), (status, times), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_statuses_are_tried_again_where_the_policy_says_so() {
    let app = fails_once().await;
    let policies = route("") + &rule_policy("said", "  retry: {on: [unavailable], nonIdempotent: true}");
    let web = Web::start(&[&app], &policies).await;
    let grpc = [("content-type", "application/grpc")];
    let other = web.post("/other/grpc", &grpc).await;
    assert_eq!((field(&other, "grpc-status"), app.seen_of("/other/grpc").len()), (Some("14"), 1));
    let said = web.post("/said/grpc", &grpc).await;
    assert_eq!((said.text().as_str(), app.seen_of("/said/grpc").len()), ("done", 2));
    assert_eq!(field(&said, "leno-attempts"), Some("2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_waited_for_and_when_it_is_long_the_answer_is_passed_on() {
    let app = fails_once().await;
    let web = Web::start(&[&app], "").await;
    assert_eq!(web.get("/soon").await.status, 200);
    let seen = app.seen_of("/soon");
    assert_eq!(seen.len(), 2);
    assert!((seen[1].at - seen[0].at).as_millis() >= 990, "asked for a second");
    let late = web.get("/late").await;
    assert_eq!((late.status, field(&late, "retry-after")), (503, Some("60")));
    assert_eq!(app.seen_of("/late").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_do_not_multiply_along_a_chain() {
    let app = fails_once().await;
    let web = Web::start(&[&app], "").await;
    // What the hop before retries already is not retried by this one, unless no app has seen it.
    let nested = web.send(http::Method::GET, "/nested/storm", &[("leno-attempt", "2")]).await;
    assert_eq!((nested.status, app.seen_of("/nested/storm").len()), (503, 1));
    let first = web.get("/first/storm").await;
    assert_eq!((first.status, app.seen_of("/first/storm").len()), (200, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_attempt_is_given_up_and_made_again_at_another_instance() {
    let slow = RawApp::start(|_, _| vec![Step::Stall]).await;
    let good = RawApp::start(|_, _| answer(200, "", "done")).await;
    let web = Web::start(&[&slow, &good], &policy("  retry: {perTryTimeout: 1s}")).await;
    for n in 0..10 {
        let reply = web.get(&format!("/{n}")).await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "done"), "{n}");
    }
    assert!(!slow.seen().is_empty(), "the slow instance was never tried");
    assert_eq!(good.seen().len(), 10);
    leno_tests::wait::until("the slow attempts are broken off", leno_tests::wait::DEADLINE, || {
        slow.broken_off() == slow.seen().len()
    })
    .await;
}
