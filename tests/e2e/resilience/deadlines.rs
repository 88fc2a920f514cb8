//! The time that is left travels with the request.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use leno_certs::tls;
use leno_tests::raw::{RawApp, RawSeen, Step, answer};
use leno_tests::{client, light, wait};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Web, field, policy, route, rule_policy};

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

/// A peer with a certificate of the mesh, which does not look at deadlines itself.
async fn peer(web: &Web) -> http2::SendRequest<Full<Bytes>> {
    let token = web.mesh.control_plane.api().token("default", "peer", 60).await.unwrap();
    let peer = light::join(web.mesh.control_plane.xds(), "cluster.local", "peer", &token).await.unwrap();
    let config = tls::mesh_client(&peer.identity, &peer.bundle, &[b"h2"]).unwrap();
    let stream = TcpStream::connect(web.instances[0].mesh()).await.unwrap();
    let name = ServerName::try_from("http.h1.leno.internal").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_comes_too_late_uses_nothing_of_a_limit_up() {
    let app = RawApp::start(|_, _| answer(200, "", "done")).await;
    let web = Web::start(&[&app], "").await;
    let mut peer = peer(&web).await;
    web.mesh.apply(&policy("  rateLimits: [{requests: 2, per: 1h}]")).await;
    let mut send = async |left: &str| {
        let request = Request::get("http://web/late").header("leno-timeout-ms", left).body(Full::default()).unwrap();
        let response = peer.send_request(request).await.unwrap();
        (
            response.status().as_u16(),
            response.headers().get("leno-reason").map(|code| code.to_str().unwrap().to_owned()),
        )
    };
    for _ in 0..5 {
        assert_eq!(send("0").await, (504, Some("deadline_expired".to_owned())));
    }
    assert_eq!(send("20000").await.0, 200);
    assert_eq!(send("20000").await.0, 200);
    assert_eq!(send("20000").await, (429, Some("rate_limited".to_owned())));
    assert_eq!(app.seen_of("/late").len(), 2);
}

/// `length` and `chunked` stall in the body of their answer.
async fn stalling() -> RawApp {
    RawApp::start(|_, seen| {
        let stalls = |head: &str| vec![Step::Send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n4\r\npart")), Step::Stall];
        match seen.path.rsplit('/').next() {
            Some("length") => stalls("content-length: 100"),
            Some("chunked") => stalls("transfer-encoding: chunked"),
            _ => answer(200, "", "done"),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_stalls_in_its_body_breaks_off_when_the_time_of_the_route_is_over() {
    let per_try = rule_policy("said", "  retry: {perTryTimeout: 1s}");
    for (timeouts, policy) in
        [("request: 1s", ""), ("request: 20s, backendRequest: 1s", ""), ("request: 20s", &*per_try)]
    {
        let app = stalling().await;
        let web = Web::start(&[&app], &(route(&format!("    timeouts: {{{timeouts}}}\n")) + policy)).await;
        for path in ["/said/length", "/said/chunked"] {
            let mut caller = TcpStream::connect(web.frontend.http_proxy()).await.unwrap();
            caller.write_all(format!("GET {path} HTTP/1.1\r\nhost: web\r\n\r\n").as_bytes()).await.unwrap();
            let mut got = Vec::new();
            let read = tokio::time::timeout(wait::DEADLINE, caller.read_to_end(&mut got)).await;
            let got = String::from_utf8_lossy(&got);
            assert!(read.is_ok(), "{timeouts} {path}: it is still waited for: {got}");
            assert!(got.starts_with("HTTP/1.1 200") && got.contains("part"), "{timeouts} {path}: {got}");
            assert!(!got.ends_with("0\r\n\r\n"), "{timeouts} {path}: it must not look whole: {got}");
        }
        wait::until("the app is left alone", wait::DEADLINE, || app.broken_off() == 2).await;
        // Over HTTP/2 the one stream is reset, and the others go on.
        let stream = TcpStream::connect(web.frontend.http_proxy()).await.unwrap();
        let (mut sender, connection) =
            http2::handshake::<_, _, Full<Bytes>>(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let get = |path: &str| Request::get(format!("http://web{path}")).body(Full::default()).unwrap();
        web.mesh.apply(&h1()).await;
        let stalled = sender.send_request(get("/said/length")).await.unwrap();
        assert_eq!(stalled.status(), 200);
        let broken = stalled.into_body().collect().await.unwrap_err();
        assert!(format!("{broken:?}").contains("CANCEL"), "{broken:?}");
        assert_eq!(sender.send_request(get("/said/fine")).await.unwrap().status(), 200);
        let metrics = web.frontend.metrics().await;
        assert_eq!(metrics.sum("leno_failures_total", &[("reason", "timeout")]), 3.0, "{timeouts}");
        // What has no limit may take its time.
        let mut caller = TcpStream::connect(web.frontend.http_proxy()).await.unwrap();
        caller.write_all(b"GET /other/length HTTP/1.1\r\nhost: web\r\n\r\n").await.unwrap();
        let mut got = Vec::new();
        let two_seconds = std::time::Duration::from_secs(2);
        assert!(tokio::time::timeout(two_seconds, caller.read_to_end(&mut got)).await.is_err());
    }
}

/// Everybody is let wait in the midst of the answer by one of two instances: it is not well, although it answers 200.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_whose_answers_do_not_come_whole_in_time_is_ejected() {
    let stalled = |_: usize, _: &RawSeen| {
        vec![Step::Send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart".into()), Step::Stall]
    };
    for timeouts in [route("    timeouts: {backendRequest: 500ms}\n"), policy("  retry: {perTryTimeout: 500ms}")] {
        let (ill, well) = (RawApp::start(stalled).await, RawApp::start(|_, _| answer(200, "", "done")).await);
        let web = Web::start(&[&ill, &well], &timeouts).await;
        let get = async || {
            let request = client::request(Method::GET, "http://web/said/whole", &[], "");
            client::send(web.frontend.http_proxy(), request).await
        };
        wait::eventually("it is ejected", wait::DEADLINE, async || {
            let _ = get().await;
            let metrics = web.frontend.metrics().await;
            (metrics.sum("leno_endpoint_ejections_total", &[("service", "default/web")]) == 1.0).then_some(())
        })
        .await;
        assert_eq!(ill.seen().len(), 5, "as many as make an outlier, each tried once");
        for _ in 0..20 {
            assert_eq!(get().await.expect("a whole answer").text(), "done");
        }
    }
}

/// The app speaks HTTP/1.1 whatever its callers speak.
fn h1() -> String {
    leno_tests::mesh::service("web", "app: web", 80, "http")
        .replace("targetPort: http", "targetPort: http, appProtocol: http")
}
