//! Routes mean what the Gateway API says, between real sidecars.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use leno_tests::mesh::service;
use leno_tests::{Behaviour, HttpApp, Mesh, Sidecar, TcpEcho, client, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const ROUTE: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop, namespace: default}
spec:
  parentRefs: [{kind: Service, group: "", name: shop, port: 80}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /}}]
    backendRefs: [{name: a, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /cart}}]
    backendRefs: [{name: b, port: 80}]
  - matches: [{path: {type: Exact, value: /cart/total}}]
    backendRefs: [{name: a, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /cart}, method: POST}]
    backendRefs: [{name: a, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /cart}, headers: [{name: X-Beta, value: "yes"}]}]
    backendRefs: [{name: a, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /search}, queryParams: [{name: v, value: "2"}]}]
    backendRefs: [{name: b, port: 80}]
  - matches: [{path: {type: RegularExpression, value: "/item/[0-9]+"}}]
    backendRefs: [{name: b, port: 80}]
  - matches: [{path: {type: Exact, value: /gone}}]
    backendRefs: [{name: not-there, port: 80}]
  - matches: [{path: {type: Exact, value: /slow}}]
    timeouts: {request: 200ms}
    backendRefs: [{name: b, port: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: shop, namespace: default}
spec: {selector: {app: a}, ports: [{name: http, port: 80}]}
"#;

struct Parts {
    frontend: Sidecar,
    a: HttpApp,
    b: HttpApp,
    _sidecars: [Sidecar; 2],
    mesh: Mesh,
}

async fn start() -> Parts {
    let mesh = Mesh::start().await;
    mesh.apply(&(service("a", "app: a", 80, "http") + &service("b", "app: b", 80, "http") + ROUTE)).await;
    let (a, b) = (HttpApp::start("a").await, HttpApp::start("b").await);
    let one = mesh.sidecar("a", "a").await.port("http", a.addr()).start().await;
    let two = mesh.sidecar("b", "b").await.port("http", b.addr()).start().await;
    let frontend = mesh.sidecar("frontend", "frontend").await.start().await;
    mesh.connected(3).await;
    mesh.reachable(&frontend, "http://a/").await;
    mesh.reachable(&frontend, "http://b/").await;
    mesh.reachable(&frontend, "http://shop/").await;
    Parts { frontend, a, b, _sidecars: [one, two], mesh }
}

async fn ask(frontend: &Sidecar, method: Method, path: &str, headers: &[(&str, &str)]) -> client::Reply {
    let request = client::request(method, &format!("http://shop{path}"), headers, Bytes::new());
    client::send(frontend.http_proxy(), request).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_most_specific_match_wins_whatever_its_place_in_the_list() {
    let parts = start().await;
    /// Method, path, headers, and the app that must answer.
    type Case = (Method, &'static str, &'static [(&'static str, &'static str)], &'static str);
    let cases: &[Case] = &[
        (Method::GET, "/", &[], "a"),
        (Method::GET, "/other", &[], "a"),
        (Method::GET, "/cart", &[], "b"),
        (Method::GET, "/cart/", &[], "b"),
        (Method::GET, "/cart/items?x=1", &[], "b"),
        (Method::GET, "/cartoon", &[], "a"), // A prefix matches whole path elements.
        (Method::GET, "/cart/total", &[], "a"),
        (Method::POST, "/cart/items", &[], "a"),
        (Method::GET, "/cart", &[("x-beta", "yes")], "a"),
        (Method::GET, "/cart", &[("x-beta", "no")], "b"),
        (Method::GET, "/search?v=2", &[], "b"),
        (Method::GET, "/search?v=1", &[], "a"),
        (Method::GET, "/item/42", &[], "b"),
        (Method::GET, "/item/x", &[], "a"),
    ];
    for (method, path, headers, app) in cases {
        let reply = ask(&parts.frontend, method.clone(), path, headers).await;
        assert_eq!((reply.status, reply.text().as_str()), (200, *app), "{method} {path} {headers:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecars_own_answers_say_why_in_leno_reason() {
    let parts = start().await;
    let reason = |reply: &client::Reply| reply.reason().map(str::to_owned);
    let gone = ask(&parts.frontend, Method::GET, "/gone", &[]).await;
    assert_eq!((gone.status, reason(&gone).as_deref()), (500, Some("invalid_backend")));
    let unknown = parts.frontend.get("http://nobody-knows/").await.unwrap();
    assert_eq!((unknown.status, reason(&unknown).as_deref()), (404, Some("unknown_service")));
    parts.b.set(Behaviour::Delay(Duration::from_secs(3)));
    let start = Instant::now();
    let slow = ask(&parts.frontend, Method::GET, "/slow", &[]).await;
    assert_eq!((slow.status, reason(&slow).as_deref()), (504, Some("timeout")));
    assert!(start.elapsed() < Duration::from_secs(2), "the timeout of 200 ms took {:?}", start.elapsed());
    parts.b.set(Behaviour::Status(418));
    let app = ask(&parts.frontend, Method::GET, "/cart", &[]).await;
    assert_eq!((app.status, reason(&app)), (418, None), "an app's own answer is not the sidecar's");
    assert!(parts.a.count() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tcp_route_moves_new_connections_and_leaves_open_ones_alone() {
    let mesh = Mesh::start().await;
    let tcp = |name: &str| {
        service(name, &format!("app: {name}"), 7000, "tcp").replace("port: 7000", "port: 7000, appProtocol: tcp")
    };
    let route = |one: u32, two: u32| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1alpha2\nkind: TCPRoute\nmetadata: {{name: store, namespace: default}}\nspec:\n  \
             parentRefs: [{{kind: Service, group: \"\", name: store, port: 7000}}]\n  rules:\n  - backendRefs:\n    \
             - {{name: one, port: 7000, weight: {one}}}\n    - {{name: two, port: 7000, weight: {two}}}\n"
        )
    };
    mesh.apply(&(tcp("store") + &tcp("one") + &tcp("two") + "---\n" + &route(1, 0))).await;
    let (echo, greeter) = (TcpEcho::start().await, greeter().await);
    let _one = mesh.sidecar("one", "one").await.port("tcp", echo.addr()).start().await;
    let _two = mesh.sidecar("two", "two").await.port("tcp", greeter).start().await;
    let frontend = mesh.sidecar("frontend", "frontend").await.upstream("store:7000").start().await;
    mesh.connected(3).await;

    let mut old = TcpStream::connect(frontend.upstream("store:7000")).await.unwrap();
    talk(&mut old).await;
    mesh.apply(&route(0, 1)).await;
    // The server speaks first here: the sidecar must not wait for the client's first bytes.
    let mut new = TcpStream::connect(frontend.upstream("store:7000")).await.unwrap();
    let mut greeting = [0; 5];
    tokio::time::timeout(wait::DEADLINE, new.read_exact(&mut greeting)).await.expect("a greeting").unwrap();
    assert_eq!(&greeting, b"hello");
    talk(&mut old).await;
}

async fn talk(stream: &mut TcpStream) {
    stream.write_all(b"are you there?").await.unwrap();
    let mut answer = [0; 14];
    tokio::time::timeout(wait::DEADLINE, stream.read_exact(&mut answer)).await.expect("an echo").unwrap();
    assert_eq!(&answer, b"are you there?");
}

/// A server that speaks first.
async fn greeter() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"hello").await;
            open.push(stream);
        }
    });
    addr
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_without_a_sidecar_is_reached_by_name_and_by_address() {
    let parts = start().await;
    let app = HttpApp::start("bare").await;
    let yaml = format!(
        "{}apiVersion: leno.dev/v1alpha1\nkind: Workload\nmetadata: {{name: bare-1, namespace: default, labels: {{app: bare}}}}\n\
         spec: {{address: 127.0.0.1, ports: {{http: {}}}}}\n",
        service("bare", "app: bare", 80, "http"),
        app.addr().port()
    );
    parts.mesh.apply(&yaml).await;
    parts.mesh.reachable(&parts.frontend, "http://bare/").await;
    assert_eq!(parts.frontend.get("http://bare.default.svc.cluster.local:80/").await.unwrap().text(), "bare");
    assert_eq!(parts.frontend.get(&format!("http://{}/", app.addr())).await.unwrap().text(), "bare");
}
