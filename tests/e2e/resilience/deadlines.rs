//! The time that is left travels with the request.

use http::Method;
use leno_tests::raw::{RawApp, Step, answer};
use leno_tests::wait;

use super::{Web, field, route};

#[tokio::test(flavor = "multi_thread")]
async fn the_app_is_told_how_much_of_the_time_is_left() {
    let app = RawApp::start(|_, _| answer(200, "", "done")).await;
    let web = Web::start(&[&app], &route("    timeouts: {request: 20s}\n")).await;
    let told = |path: &str, name: &str| app.seen_of(path)[0].field(name).map(str::to_owned);
    web.get("/said/a").await;
    let left: u64 = told("/said/a", "leno-timeout-ms").unwrap().parse().unwrap();
    assert!((1..=20_001).contains(&left), "{left}");
    // A caller can shorten it, and never lengthen it.
    web.send(Method::GET, "/said/b", &[("leno-timeout-ms", "9000")]).await;
    let left: u64 = told("/said/b", "leno-timeout-ms").unwrap().parse().unwrap();
    assert!((1..=9001).contains(&left), "{left}");
    web.send(Method::GET, "/said/c", &[("leno-timeout-ms", "90000")]).await;
    let left: u64 = told("/said/c", "leno-timeout-ms").unwrap().parse().unwrap();
    assert!((1..=20_001).contains(&left), "{left}");
    web.post("/other/grpc", &[("content-type", "application/grpc"), ("grpc-timeout", "9S")]).await;
    let left = told("/other/grpc", "grpc-timeout").unwrap();
    let left: u64 = left.strip_suffix('m').unwrap().parse().unwrap();
    assert!((1..=9001).contains(&left), "{left}");
    web.get("/other/none").await;
    assert_eq!(told("/other/none", "leno-timeout-ms"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_time_has_passed_does_not_reach_the_app() {
    let app = RawApp::start(|_, _| answer(200, "", "done")).await;
    let web = Web::start(&[&app], "").await;
    let late = web.send(Method::GET, "/late", &[("leno-timeout-ms", "0")]).await;
    assert_eq!((late.status, late.reason(), field(&late, "leno-retry")), (504, Some("deadline_expired"), Some("safe")));
    let grpc = web.post("/late", &[("content-type", "application/grpc"), ("grpc-timeout", "0m")]).await;
    assert_eq!((grpc.status, field(&grpc, "grpc-status")), (200, Some("4")));
    assert!(app.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_own_deadline_ends_the_work_everywhere_and_is_not_held_against_the_instance() {
    let app = RawApp::start(|_, seen| match seen.path.as_str() {
        "/stall" | "/said/stall" => vec![Step::Stall],
        _ => answer(200, "", "done"),
    })
    .await;
    let web = Web::start(&[&app], &route("    timeouts: {request: 300ms}\n")).await;
    for n in 1..=6 {
        let reply = web.send(Method::GET, "/stall", &[("leno-timeout-ms", "200")]).await;
        assert_eq!((reply.status, reply.reason()), (504, Some("deadline_exceeded")));
        wait::until("the app is left alone", wait::DEADLINE, || app.broken_off() == n).await;
    }
    assert_eq!(web.frontend.metrics().await.sum("leno_endpoint_ejections_total", &[]), 0.0);
    // The route's own limit holds whatever the caller says.
    let reply = web.send(Method::GET, "/said/stall", &[("leno-timeout-ms", "60000")]).await;
    assert_eq!((reply.status, reply.reason()), (504, Some("timeout")));
    assert_eq!(web.get("/fine").await.status, 200);
}
