//! The TrafficPolicy of a Service holds for what comes to it through a Gateway, too.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use leno_tests::mesh::{service, web_services};
use leno_tests::raw::{RawApp, answer};
use leno_tests::stats::binomial_999;
use leno_tests::{HttpApp, Mesh, ProxyConnection, wait};
use tokio::net::{TcpSocket, TcpStream};

use super::support::*;

/// A TrafficPolicy of this Service.
fn policy(of: &str, spec: &str) -> String {
    format!(
        "apiVersion: leno.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: {of}, namespace: default}}\nspec:\n  \
         targetRefs: [{{group: \"\", kind: Service, name: {of}}}]\n  {spec}\n---\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_at_a_gateway_stay_within_the_budget_of_the_service_that_they_are_for() {
    let mesh = Mesh::start().await;
    let storm = || RawApp::start(|_, _| answer(503, "", "storm"));
    let (tight, ample) = (storm().await, storm().await);
    let no_ejection = "outlierDetection: {consecutiveFailures: 1000000}";
    let yaml = outside("tight", tight.addr())
        + &outside("ample", ample.addr())
        + &policy("tight", &format!("retryBudget: {{percent: 10, minRetriesPerSecond: 1}}\n  {no_ejection}"))
        + &policy("ample", &format!("retryBudget: {{percent: 100, minRetriesPerSecond: 10}}\n  {no_ejection}"))
        + &gateway(&["{name: http, port: 80, protocol: HTTP}"], "")
        + &route("tight", "", &["tight.test"], "", "tight")
        + &route("ample", "", &["ample.test"], "", "ample");
    mesh.apply(&yaml).await;
    let edge = edge(&mesh, &[80]).await;
    answers(edge.gateway(80), "tight.test", "/ready", 200).await;
    answers(edge.gateway(80), "ample.test", "/ready", 200).await;
    let start = std::time::Instant::now();
    for _ in 0..300 {
        for host in ["tight.test", "ample.test"] {
            assert_eq!(get(edge.gateway(80), host, "/storm").await.unwrap().status, 503);
        }
    }
    let seconds = start.elapsed().as_secs_f64().ceil();
    let (tried, most) = (tight.seen().len() as f64, 1.1 * 300.0 + seconds + 5.0);
    assert!(tried <= most, "{tried} tries of 300 requests, {most} are granted");
    // Two attempts more are made of each, if the budget has them; it has one for each.
    assert!(ample.seen().len() >= 500, "only {} tries of 300 requests", ample.seen().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_policy_says_of_requests_holds_at_a_gateway_and_the_routes_own_word_goes_before() {
    let mesh = Mesh::start().await;
    let app = RawApp::start(|times, seen| match (times, seen.path.rsplit('/').next()) {
        (0, Some("teapot")) => answer(418, "", "failed"),
        _ => answer(200, "", "done"),
    })
    .await;
    let said = "retry: {codes: [418]}\n  faults: [{headers: [{name: x-fault, value: \"1\"}], abort: {status: 409}}]";
    let yaml = outside("web", app.addr())
        + &policy("web", said)
        + &gateway(&["{name: http, port: 80, protocol: HTTP}"], "")
        + &route("web", "", &["web.test"], "", "web")
        + &route("own", "", &["own.test"], "    retry: {attempts: 1, codes: [503]}\n", "web");
    mesh.apply(&yaml).await;
    let edge = edge(&mesh, &[80]).await;
    let at = edge.gateway(80);
    answers(at, "web.test", "/ready", 200).await;
    answers(at, "own.test", "/ready", 200).await;
    assert_eq!(get(at, "web.test", "/teapot").await.unwrap().status, 200);
    assert_eq!(app.seen_of("/teapot").len(), 2);
    assert_eq!(get(at, "own.test", "/own/teapot").await.unwrap().status, 418);
    for host in ["web.test", "own.test"] {
        let request =
            Request::get("/").header("host", host).header("x-fault", "1").body(Full::new(Bytes::new())).unwrap();
        let reply = leno_tests::client::send(at, request).await.unwrap();
        assert_eq!((reply.status, reply.reason()), (409, Some("fault_injected")), "{host}");
    }
}

async fn answered(at: SocketAddr, users: usize) -> Vec<String> {
    let mut connection = ProxyConnection::open(at).await.unwrap();
    let mut answers = Vec::new();
    for user in 0..users {
        assert!(!connection.is_closed().await, "the gateway closed the connection");
        let request = Request::get("/").header("host", "web.test").header("x-user", format!("user-{user}"));
        let reply = connection.send(request.body(Full::new(Bytes::new())).unwrap()).await.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
        answers.push(reply.text());
    }
    answers
}

/// The route `web` of the Gateway that splits over `web-v1` and `web-v2`.
fn split(v1: u32, v2: u32) -> String {
    let one = route("web", "", &["web.test"], "", "web-v1");
    let both = format!("[{{name: web-v1, port: 80, weight: {v1}}}, {{name: web-v2, port: 80, weight: {v2}}}]");
    one.replace("[{name: web-v1, port: 80}]", &both)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sticky_split_of_a_gateways_route_moves_only_new_users() {
    const USERS: usize = 1500;
    let mesh = Mesh::start().await;
    let sticky = "loadBalancing: {stickySplits: true, hashKey: {type: Header, name: x-user}}";
    let yaml = web_services()
        + &gateway(&["{name: http, port: 80, protocol: HTTP}"], "")
        + &split(90, 10)
        + &policy("web-v1", sticky)
        + &policy("web-v2", sticky);
    mesh.apply(&yaml).await;
    let apps = [HttpApp::start("v1").await, HttpApp::start("v2").await];
    let mut sidecars = Vec::new();
    for (app, version) in apps.iter().zip(["v1", "v2"]) {
        let builder = mesh.sidecar(&format!("web-{version}"), "web").await.label("version", version);
        sidecars.push(builder.port("http", app.addr()).start().await);
    }
    let edge = edge(&mesh, &[80]).await;
    let at = edge.gateway(80);
    wait::eventually("both versions answer", wait::DEADLINE, async || {
        for _ in 0..40 {
            let reply = get(at, "web.test", "/").await.ok()?;
            (reply.status == 200).then_some(())?;
        }
        (apps[0].count() > 0 && apps[1].count() > 0).then_some(())
    })
    .await;
    let mut before: BTreeMap<usize, String> = answered(at, USERS).await.into_iter().enumerate().collect();
    for percent in [10, 20] {
        mesh.apply(&split(100 - percent, percent)).await;
        let after: BTreeMap<usize, String> = answered(at, USERS).await.into_iter().enumerate().collect();
        let on = after.values().filter(|app| *app == "v2").count();
        let allowed = binomial_999(USERS, f64::from(percent) / 100.0);
        assert!(allowed.contains(&on), "{on} of {USERS} users at {percent} %, allowed is {allowed:?}");
        let back: Vec<_> = after.iter().filter(|(user, app)| *app == "v1" && before[user] == "v2").collect();
        assert!(back.is_empty(), "moved back at {percent} %: {back:?}");
        before = after;
    }
}

/// A connection to `at` from one of the many addresses of loopback.
async fn from(client: u8, at: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 1, client), 0))).unwrap();
    socket.connect(at).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_a_gateway_is_hashed_by_its_own_address_over_http_and_over_tcp() {
    const CLIENTS: u8 = 24;
    let mesh = Mesh::start().await;
    let mut apps = Vec::new();
    let mut workloads = String::new();
    for n in 0..3 {
        let app = HttpApp::start(&n.to_string()).await;
        workloads += &format!(
            "apiVersion: leno.dev/v1alpha1\nkind: Workload\nmetadata: {{name: web-{n}, namespace: default, labels: {{app: web}}}}\n\
             spec: {{address: 127.0.0.1, ports: {{http: {}}}}}\n---\n",
            app.addr().port()
        );
        apps.push(app);
    }
    let listeners = ["{name: http, port: 80, protocol: HTTP}", "{name: tcp, port: 6000, protocol: TCP}"];
    let tcp = "apiVersion: gateway.networking.k8s.io/v1alpha2\nkind: TCPRoute\nmetadata: {name: tcp, namespace: default}\nspec:\n  \
               parentRefs: [{name: edge, sectionName: tcp}]\n  rules: [{backendRefs: [{name: web, port: 80}]}]\n---\n";
    let yaml = workloads
        + &service("web", "app: web", 80, "http")
        + &policy("web", "loadBalancing: {policy: Maglev, hashKey: {type: SourceIP}}")
        + &gateway(&listeners, "")
        + &route("web", "http", &["web.test"], "", "web")
        + tcp;
    mesh.apply(&yaml).await;
    let edge = edge(&mesh, &[80, 6000]).await;
    answers(edge.gateway(80), "web.test", "/", 200).await;
    // Who answers a client says where its hash leads; over TCP the same Service has the same table.
    for port in [80, 6000] {
        let at = edge.gateway(port);
        let mut used = BTreeSet::new();
        for client in 1..=CLIENTS {
            let mut answers = BTreeSet::new();
            for _ in 0..4 {
                let mut connection = ProxyConnection::over(from(client, at).await).await.unwrap();
                let request = Request::get("/").header("host", "web.test").body(Full::new(Bytes::new())).unwrap();
                answers.insert(connection.send(request).await.unwrap().text());
            }
            assert_eq!(answers.len(), 1, "port {port}, client {client} met {answers:?}");
            used.extend(answers);
        }
        assert_eq!(used.len(), 3, "port {port}: {used:?}");
    }
}
