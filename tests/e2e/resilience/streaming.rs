//! Bodies and retries: answers that come early, bodies that break off, and lengths that are wrong.

use std::time::Duration;

use leno_tests::raw::{RawApp, Step, answer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Web, field, policy};

/// Everything that comes back for these bytes, until the sidecar closes or nothing has come for a while.
async fn exchange(web: &Web, bytes: &[u8]) -> String {
    let mut caller = TcpStream::connect(web.frontend.http_proxy()).await.unwrap();
    caller.write_all(bytes).await.unwrap();
    read(&mut caller).await
}

async fn read(caller: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let mut part = [0; 4096];
    while let Ok(Ok(n)) = tokio::time::timeout(Duration::from_secs(2), caller.read(&mut part)).await {
        if n == 0 {
            break;
        }
        all.extend_from_slice(&part[..n]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_before_the_body_was_sent_is_the_answer() {
    let app = RawApp::start(|_, _| {
        vec![Step::Send("HTTP/1.1 413 No\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbig".into()), Step::Close]
    })
    .await;
    let web = Web::start(&[&app], "").await;
    let mut caller = TcpStream::connect(web.frontend.http_proxy()).await.unwrap();
    caller.write_all(b"POST /early HTTP/1.1\r\nhost: web\r\ncontent-length: 100000\r\n\r\npart").await.unwrap();
    let all = read(&mut caller).await;
    assert!(all.starts_with("HTTP/1.1 413 ") && all.ends_with("big"), "{all}");
    assert_eq!(app.seen_of("/early").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_503_is_tried_again_with_what_was_sent_and_what_still_comes() {
    let app = RawApp::start(|times, _| match times {
        0 => {
            vec![Step::Send("HTTP/1.1 503 No\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno".into()), Step::Close]
        }
        _ => answer(200, "", "done"),
    })
    .await;
    let web = Web::start(&[&app], "").await;
    let mut caller = TcpStream::connect(web.frontend.http_proxy()).await.unwrap();
    caller.write_all(b"PUT /early HTTP/1.1\r\nhost: web\r\ncontent-length: 10\r\n\r\nfirst").await.unwrap();
    leno_tests::wait::until("it was tried again", leno_tests::wait::DEADLINE, || app.seen_of("/early").len() == 2)
        .await;
    caller.write_all(b"later").await.unwrap();
    let all = read(&mut caller).await;
    assert!(all.starts_with("HTTP/1.1 200 ") && all.ends_with("done"), "{all}");
    assert_eq!(app.body_bytes(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_seen_as_broken_and_its_request_is_not_sent_again() {
    let app = RawApp::start(|_, seen| {
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf ".to_owned();
        match seen.path.as_str() {
            "/reset" => vec![Step::Send(head), Step::Wait(Duration::from_millis(50)), Step::Reset],
            "/short" => vec![Step::Send(head), Step::Close],
            _ => vec![
                Step::Send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhalf \r\n".into()),
                Step::Close,
            ],
        }
    })
    .await;
    let web = Web::start(&[&app], "").await;
    for path in ["/reset", "/short", "/chunked"] {
        let all = exchange(&web, format!("GET {path} HTTP/1.1\r\nhost: web\r\n\r\n").as_bytes()).await;
        // What breaks off at once may take its head with it.
        assert!(all.is_empty() || all.starts_with("HTTP/1.1 200 "), "{path}: {all}");
        assert!(!all.contains("half half"), "{path}: two answers in one: {all}");
        assert!(!all.ends_with("0\r\n\r\n"), "{path}: what was cut must not look whole: {all}");
        assert_eq!(app.seen_of(path).len(), 1, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_app_sends_beyond_its_length_reaches_nobody() {
    let app = RawApp::start(|_, seen| match seen.path.as_str() {
        "/long" => {
            let smuggled = "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nsmuggle";
            vec![Step::Send(format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok{smuggled}"))]
        }
        _ => answer(200, "", "done"),
    })
    .await;
    let web = Web::start(&[&app], "").await;
    for _ in 0..20 {
        let long = web.get("/long").await;
        assert_eq!((long.status, long.text().as_str()), (200, "ok"));
        let next = web.get("/next").await;
        assert_eq!((next.status, next.text().as_str()), (200, "done"), "an answer to no request was taken for one");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_ends_before_a_byte_of_the_answer_is_a_502_for_a_post_and_a_retry_for_a_get() {
    let app = RawApp::start(|times, seen| match (times, seen.path.as_str()) {
        (0, "/reset" | "/post-reset") => vec![Step::ReadBody, Step::Reset],
        (0, "/close" | "/post-close") => vec![Step::ReadBody, Step::Close],
        (0, "/garbage") => vec![Step::Send("no HTTP at all\r\n\r\n".into()), Step::Close],
        _ => answer(200, "", "done"),
    })
    .await;
    let web = Web::start(&[&app], "").await;
    for path in ["/reset", "/close"] {
        assert_eq!((web.get(path).await.status, app.seen_of(path).len()), (200, 2), "{path}");
    }
    for path in ["/post-reset", "/post-close"] {
        let reply = web.post(path, &[]).await;
        assert_eq!((reply.status, reply.reason(), app.seen_of(path).len()), (502, Some("app_reset"), 1), "{path}");
        assert_eq!(field(&reply, "leno-retry"), Some("if-idempotent"), "{path}");
    }
    let garbage = web.get("/garbage").await;
    assert_eq!((garbage.status, garbage.reason()), (502, Some("upstream_protocol_error")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_503_costs_the_app_no_more_than_the_budget() {
    let app = RawApp::start(|_, _| answer(503, "", "storm")).await;
    let budget =
        "  retryBudget: {percent: 10, minRetriesPerSecond: 1}\n  outlierDetection: {consecutiveFailures: 1000000}";
    let web = Web::start(&[&app], &policy(budget)).await;
    let start = std::time::Instant::now();
    for _ in 0..300 {
        assert_eq!(web.get("/storm").await.status, 503);
    }
    let seconds = start.elapsed().as_secs_f64().ceil();
    let most = 1.1 * 300.0 + seconds + 5.0;
    let tried = app.seen().len() as f64;
    assert!(tried <= most, "{tried} tries of 300 requests, {most} are granted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_that_closes_ends_an_answer_without_a_length() {
    let app = RawApp::start(|_, _| vec![Step::Send("HTTP/1.1 200 OK\r\n\r\nuntil the end".into()), Step::Close]).await;
    let web = Web::start(&[&app], "").await;
    let whole = web.get("/close").await;
    assert_eq!((whole.status, whole.text().as_str()), (200, "until the end"));
}
