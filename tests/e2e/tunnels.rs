//! CONNECT at the HTTP proxy port: an app that can use an HTTP proxy and nothing else reaches every service.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo};
use leno_tests::mesh::{Trio, service};
use leno_tests::raw::read_head;
use leno_tests::{Mesh, tools, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

type Http2 = SendRequest<Empty<Bytes>>;

async fn connect(proxy: SocketAddr, to: &str, early: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(proxy).await.unwrap();
    stream.write_all(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n{early}").as_bytes()).await.unwrap();
    let head = read_head(&mut stream).await.unwrap();
    (stream, head)
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_pass_a_tunnel_both_ways_with_what_was_sent_ahead_and_each_half_ends_by_itself() {
    let mesh = Mesh::start().await;
    let trio = Trio::start(&mesh).await;
    let proxy = trio.frontend.http_proxy();
    wait::eventually("the store answers", wait::DEADLINE, async || {
        let (mut tunnel, head) = connect(proxy, "store:7000", "ahead ").await;
        if !head.starts_with("HTTP/1.1 200") {
            return None;
        }
        tunnel.write_all(b"and behind").await.ok()?;
        tunnel.shutdown().await.ok()?;
        let mut echoed = String::new();
        tunnel.read_to_string(&mut echoed).await.ok()?;
        (echoed == "ahead and behind").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_a_tunnel_are_routed_and_a_tunnel_to_nowhere_is_refused_with_its_reason() {
    let mesh = Mesh::start().await;
    let trio = Trio::start(&mesh).await;
    mesh.reachable(&trio.frontend, "http://web/").await;
    let proxy = trio.frontend.http_proxy();
    trio.app.forget();
    let (mut tunnel, head) = connect(proxy, "web.default:80", "GET /in HTTP/1.1\r\nHost: web\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let answer = read_head(&mut tunnel).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(trio.app.seen()[0].path, "/in");
    for (to, status, reason) in [
        ("nobody:80", "404", "unknown_service"),
        ("web:81", "404", "unknown_service"),
        ("example.com:443", "404", "unknown_service"),
        ("web", "400", "bad_authority"),
    ] {
        let (_, head) = connect(proxy, to, "").await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{to}: {head}");
        assert!(head.contains(&format!("leno-reason: {reason}")), "{to}: {head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_reaches_a_service_through_a_tunnel() {
    if let Some(missing) = tools::missing(&["curl"]) {
        return tools::skip(&format!("{missing} is not installed"));
    }
    let mesh = Mesh::start().await;
    let trio = Trio::start(&mesh).await;
    mesh.reachable(&trio.frontend, "http://web/").await;
    let proxy = format!("http://{}", trio.frontend.http_proxy());
    let arguments = ["--silent", "--show-error", "--proxytunnel", "--proxy", &proxy, "http://web:80/"];
    let output = Command::new("curl").args(arguments).output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "web");
}

/// A service of static instances, which are there without a sidecar.
fn outside(name: &str, protocol: &str, to: &[SocketAddr]) -> String {
    let mut yaml = service(name, &format!("app: {name}"), 7000, "tcp");
    if !protocol.is_empty() {
        yaml = yaml.replace("port: 7000", &format!("port: 7000, appProtocol: {protocol}"));
    }
    for (n, addr) in to.iter().enumerate() {
        yaml += &format!(
            "apiVersion: leno.dev/v1alpha1\nkind: Workload\nmetadata: {{name: {name}-{n}, namespace: default, labels: {{app: {name}}}}}\n\
             spec: {{address: 127.0.0.1, ports: {{tcp: {}}}}}\n---\n",
            addr.port()
        );
    }
    yaml
}

/// A port where nobody listens.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

async fn http2(proxy: SocketAddr) -> Http2 {
    let stream = TcpStream::connect(proxy).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn ask(sender: &mut Http2, to: &str) -> Response<Incoming> {
    sender.ready().await.unwrap();
    sender.send_request(Request::connect(to).body(Empty::new()).unwrap()).await.unwrap()
}

async fn opened(sender: &mut Http2, to: &str) -> TokioIo<Upgraded> {
    let answer = wait::eventually("a tunnel", wait::DEADLINE, async || {
        let answer = ask(sender, to).await;
        (answer.status() == 200).then_some(answer)
    })
    .await;
    TokioIo::new(hyper::upgrade::on(answer).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_may_come_behind_other_requests_of_its_connection_and_ends_them() {
    let mesh = Mesh::start().await;
    let trio = Trio::start(&mesh).await;
    mesh.reachable(&trio.frontend, "http://web/").await;
    wait::eventually("the store answers", wait::DEADLINE, async || {
        let mut caller = TcpStream::connect(trio.frontend.http_proxy()).await.unwrap();
        for _ in 0..2 {
            caller.write_all(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n").await.unwrap();
            assert!(read_head(&mut caller).await.unwrap().starts_with("HTTP/1.1 200"));
            let mut body = [0; 3];
            caller.read_exact(&mut body).await.unwrap();
        }
        caller.write_all(b"CONNECT store:7000 HTTP/1.1\r\nHost: store:7000\r\n\r\nahead").await.unwrap();
        if !read_head(&mut caller).await.unwrap().starts_with("HTTP/1.1 200") {
            return None;
        }
        caller.shutdown().await.unwrap();
        let mut echoed = String::new();
        caller.read_to_string(&mut echoed).await.ok()?;
        (echoed == "ahead").then_some(())
    })
    .await;
    // What follows one that is refused was meant for it, whenever it comes, and is no request.
    trio.app.forget();
    let mut caller = TcpStream::connect(trio.frontend.http_proxy()).await.unwrap();
    caller.write_all(b"CONNECT nobody:80 HTTP/1.1\r\nHost: nobody:80\r\n\r\n").await.unwrap();
    let refused = read_head(&mut caller).await.unwrap();
    assert!(refused.starts_with("HTTP/1.1 404") && refused.contains("onnection: close"), "{refused}");
    let _ = caller.write_all(b"GET /smuggled HTTP/1.1\r\nHost: web\r\n\r\n").await;
    let _ = tokio::time::timeout(wait::DEADLINE, caller.read_to_end(&mut Vec::new())).await.expect("it ends");
    assert_eq!(trio.app.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_whose_end_cannot_be_reached_is_refused_before_it_is_opened() {
    let mesh = Mesh::start().await;
    let closed = nobody().await;
    mesh.apply(
        &(outside("dead", "tcp", &[closed]) + &outside("unknown", "", &[closed]) + &outside("empty", "tcp", &[])),
    )
    .await;
    let frontend = mesh.sidecar("frontend", "frontend").await.start().await;
    mesh.connected(1).await;
    let proxy = frontend.http_proxy();
    let mut h2 = http2(proxy).await;
    for (to, reason) in
        [("dead:7000", "connect_failed"), ("unknown:7000", "connect_failed"), ("empty:7000", "no_endpoints")]
    {
        let (_, head) = connect(proxy, to, "").await;
        assert!(head.starts_with("HTTP/1.1 503") && head.contains(&format!("leno-reason: {reason}")), "{to}: {head}");
        let answer = ask(&mut h2, to).await;
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["leno-reason"]),
            (503, &reason.parse().unwrap()),
            "{to}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_http2_carries_a_tunnel_beside_others_and_each_half_ends_by_itself() {
    let mesh = Mesh::start().await;
    let trio = Trio::start(&mesh).await;
    mesh.reachable(&trio.frontend, "http://web/").await;
    let mut sender = http2(trio.frontend.http_proxy()).await;
    let (mut one, mut two) = (opened(&mut sender, "store:7000").await, opened(&mut sender, "store:7000").await);
    for (n, tunnel) in [&mut one, &mut two].into_iter().enumerate() {
        tunnel.write_all(format!("number {n}").as_bytes()).await.unwrap();
    }
    let get = Request::get("http://web/").body(Empty::new()).unwrap();
    assert_eq!(sender.send_request(get).await.unwrap().status(), 200, "beside them");
    for (n, mut tunnel) in [one, two].into_iter().enumerate() {
        tunnel.shutdown().await.unwrap();
        let mut echoed = String::new();
        tokio::time::timeout(wait::DEADLINE, tunnel.read_to_string(&mut echoed)).await.expect("its end").unwrap();
        assert_eq!(echoed, format!("number {n}"));
    }
    // Requests in it are routed, also one that goes on in another protocol.
    trio.app.forget();
    let tunnel = opened(&mut sender, "web:80").await;
    let (mut inside, connection) = hyper::client::conn::http1::handshake(tunnel.into_inner()).await.unwrap();
    tokio::spawn(connection);
    let get = Request::get("/in").header("host", "web").body(Empty::<Bytes>::new()).unwrap();
    let answer = inside.send_request(get).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "web");
    assert_eq!(trio.app.seen()[0].path, "/in");
    // What is no host and port is none to lead a tunnel to.
    let answer = ask(&mut sender, "nobody:80").await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["leno-reason"]),
        (404, &"unknown_service".parse().unwrap())
    );
}

/// Opens one as h2 shows it, where an end and a reset are two things.
async fn stream(proxy: SocketAddr, to: &str) -> (h2::SendStream<Bytes>, h2::RecvStream) {
    let (sender, connection) = h2::client::handshake(TcpStream::connect(proxy).await.unwrap()).await.unwrap();
    tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    let (answer, sends) = sender.send_request(Request::connect(to).body(()).unwrap(), false).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 200);
    (sends, answer.into_body())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_that_is_cut_at_one_end_is_cut_at_the_other_and_does_not_look_whole() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mesh = Mesh::start().await;
    mesh.apply(&outside("store", "tcp", &[listener.local_addr().unwrap()])).await;
    let frontend = mesh.sidecar("frontend", "frontend").await.start().await;
    mesh.connected(1).await;
    let within = async |what: &str, read: &mut (dyn Future<Output = ()> + Unpin)| {
        tokio::time::timeout(wait::DEADLINE, read).await.unwrap_or_else(|_| panic!("{what}"))
    };
    let (mut sends, mut gets) = stream(frontend.http_proxy(), "store:7000").await;
    let (mut app, _) = listener.accept().await.unwrap();
    sends.send_data(Bytes::from_static(b"x"), false).unwrap();
    assert_eq!(app.read_u8().await.unwrap(), b'x');
    app.write_all(b"part").await.unwrap();
    assert_eq!(gets.data().await.unwrap().unwrap(), "part");
    socket2::SockRef::from(&app).set_linger(Some(Duration::ZERO)).unwrap();
    drop(app);
    within(
        "the caller is told",
        &mut Box::pin(async {
            let error = gets.data().await.expect("no end in good order").unwrap_err();
            assert!(error.is_reset(), "{error}");
        }),
    )
    .await;

    let (mut sends, _gets) = stream(frontend.http_proxy(), "store:7000").await;
    let (mut app, _) = listener.accept().await.unwrap();
    sends.send_data(Bytes::from_static(b"x"), false).unwrap();
    assert_eq!(app.read_u8().await.unwrap(), b'x');
    sends.send_reset(h2::Reason::CANCEL);
    within(
        "the app is told",
        &mut Box::pin(async {
            let error = app.read_u8().await.unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "no end in good order");
        }),
    )
    .await;
}
