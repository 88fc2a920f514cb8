//! A Gateway comes, changes and goes while it serves.

use std::time::Duration;

use leno_tests::{Behaviour, Load, Mesh, ProxyConnection, client, wait};
use tokio::net::TcpStream;

use super::support::*;

const HTTP: &str = "{name: http, port: 80, protocol: HTTP}";

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_does_not_exist_yet_has_its_ports_and_answers_404() {
    let mesh = Mesh::start().await;
    let _apps = apps(&mesh, ["web"]).await;
    let edge = edge(&mesh, &[80, 443]).await;
    let reply = get(edge.gateway(80), "a.example.com", "/").await.unwrap();
    assert_eq!((reply.status, reply.reason()), (404, Some("no_route")));
    // Another class's Gateway is none of ours.
    let foreign = gateway(&[HTTP], "").replace("gatewayClassName: leno", "gatewayClassName: other");
    mesh.apply(&(foreign + &route("web", "", &[], "", "web"))).await;
    assert_eq!(get(edge.gateway(80), "a.example.com", "/").await.unwrap().status, 404);
    mesh.apply(&gateway(&[HTTP], "")).await;
    answers(edge.gateway(80), "a.example.com", "/", 200).await;
    let ca = Ca::new();
    let https = "{name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: a}]}}";
    mesh.apply(&(ca.pair(&["a.example.com"]).secret("a") + &gateway(&[HTTP, https], ""))).await;
    Tls::new(&ca).answers(edge.gateway(443), "a.example.com", "/", 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_without_a_flag_are_bound_as_they_are_and_closed_when_they_go() {
    let mesh = Mesh::start().await;
    let _apps = apps(&mesh, ["web"]).await;
    let first = leno_tests::peers::free_port();
    let second = leno_tests::peers::free_port();
    let listener = |name: &str, port: u16| format!("{{name: {name}, port: {port}, protocol: HTTP}}");
    let one = listener("one", first.port());
    mesh.apply(&(gateway(&[&one], "") + &route("web", "", &[], "", "web"))).await;
    let mut edge = edge(&mesh, &[]).await;
    assert_eq!(edge.gateway(first.port()).port(), first.port(), "it is in the ready line");
    answers(first, "a.example.com", "/", 200).await;
    let two = listener("two", second.port());
    let mut held = ProxyConnection::open(first).await.unwrap();
    let ask = || client::request(http::Method::GET, "http://a.example.com/", &[], "");
    assert_eq!(held.send(ask()).await.unwrap().status, 200);
    mesh.apply(&gateway(&[&one, &two], "")).await;
    answers(second, "a.example.com", "/", 200).await;
    assert_eq!(held.send(ask()).await.unwrap().status, 200, "the first port's connections are none of it");
    mesh.apply(&gateway(&[&two], "")).await;
    wait::eventually("the first port is closed", wait::DEADLINE, || async {
        TcpStream::connect(first).await.is_err().then_some(())
    })
    .await;
    wait::eventually("its idle connection is closed", wait::DEADLINE, || async {
        TcpStream::connect(first).await.is_err().then_some(())
    })
    .await;
    tokio::time::timeout(PATIENCE, async { while !held.is_closed().await {} }).await.expect("the connection ends");
    answers(second, "a.example.com", "/", 200).await;
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_routes_and_listeners_under_load_lose_no_request() {
    let mesh = Mesh::start().await;
    let _apps = apps(&mesh, ["one", "two"]).await;
    let more = "{name: more, port: 80, protocol: HTTP, hostname: more.example.com}";
    mesh.apply(&(gateway(&[HTTP], "") + &route("web", "", &[], "", "one"))).await;
    let edge = edge(&mesh, &[80]).await;
    let at = edge.gateway(80);
    answers(at, "a.example.com", "/", 200).await;
    let load = Load::new(at, "http://a.example.com/").clients(8).start();
    for round in 0..10 {
        let to = if round % 2 == 0 { "two" } else { "one" };
        let listeners: &[&str] = if round % 3 == 0 { &[HTTP, more] } else { &[HTTP] };
        mesh.apply(&(gateway(listeners, "") + &route("web", "", &[], "", to))).await;
    }
    let report = load.stop().await;
    assert!(report.outcomes.len() > 100, "{}", report.outcomes.len());
    let failed: Vec<_> = report.outcomes.iter().filter(|outcome| !outcome.is_ok()).take(5).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_lets_requests_end_and_closes_idle_connections() {
    let mesh = Mesh::start().await;
    let [web] = apps(&mesh, ["web"]).await;
    mesh.apply(&(gateway(&[HTTP], "") + &route("web", "", &[], "", "web"))).await;
    let mut edge = edge(&mesh, &[80]).await;
    let at = edge.gateway(80);
    answers(at, "a.example.com", "/", 200).await;
    let mut idle = ProxyConnection::open(at).await.unwrap();
    let ask = || client::request(http::Method::GET, "http://a.example.com/", &[], "");
    assert_eq!(idle.send(ask()).await.unwrap().status, 200);
    web.forget();
    web.set(Behaviour::Delay(Duration::from_secs(2)));
    let slow = tokio::spawn(async move { get(at, "a.example.com", "/slow").await });
    wait::eventually("the request is there", wait::DEADLINE, || async { (web.count() > 0).then_some(()) }).await;
    edge.stop().await;
    assert_eq!(slow.await.unwrap().unwrap().status, 200);
    assert!(idle.is_closed().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_restarts_without_its_control_plane() {
    let (mut mesh, ca) = (Mesh::start().await, Ca::new());
    let _apps = apps(&mesh, ["web"]).await;
    let https = "{name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: a}]}}";
    let yaml = ca.pair(&["a.example.com"]).secret("a") + &gateway(&[https], "") + &route("web", "", &[], "", "web");
    mesh.apply(&yaml).await;
    let mut edge = edge(&mesh, &[443]).await;
    let tls = Tls::new(&ca);
    tls.answers(edge.gateway(443), "a.example.com", "/", 200).await;
    edge.stop().await;
    let file = edge.state_dir().join("snapshot.bin");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "it has the listener's key in it");
    mesh.control_plane.kill();
    edge.start_again().await;
    tls.answers(edge.gateway(443), "a.example.com", "/", 200).await;
}
