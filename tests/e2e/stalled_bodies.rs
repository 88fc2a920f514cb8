//! A body whose reader has stopped costs a bounded amount of memory, and no other request waits for it, although all requests
//! to an instance share one connection between the sidecars.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use leno_tests::mesh::service;
use leno_tests::raw::read_head;
use leno_tests::wait::eventually;
use leno_tests::{Mesh, client};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::ingress::support::{answers, edge, gateway, get, route};

/// Transfers that are begun and not read.
const STALLED: usize = 20;
/// A sidecar's memory meanwhile: its own and what all of these may have in flight, with room to spare. Without back-pressure it
/// would be gigabytes.
const MOST_MEMORY: u64 = 200 << 20;

/// `/endless` is answered with more than anybody reads, `/deaf` is not read beyond its head, anything else is answered `ok`.
async fn app(sent: Arc<AtomicU64>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, sent.clone()));
        }
    });
    addr
}

async fn serve(mut stream: TcpStream, sent: Arc<AtomicU64>) -> std::io::Result<()> {
    loop {
        let head = read_head(&mut stream).await?;
        if head.starts_with("POST /deaf") {
            return std::future::pending().await;
        }
        if head.starts_with("GET /endless") {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n").await?;
            loop {
                stream.write_all(&[0; 64 * 1024]).await?;
                sent.fetch_add(64 * 1024, Relaxed);
            }
        }
        if head.contains("content-length: 1\r\n") {
            stream.read_u8().await?;
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await?;
    }
}

/// Comes back once nothing moves any more: as long as it does, nothing is known of where it ends.
async fn come_to_rest(what: &str, moved: impl Fn() -> u64) {
    let mut last = (0, 0);
    eventually(what, Duration::from_secs(60), async || {
        let now = moved();
        last = if now == last.0 { (now, last.1 + 1) } else { (now, 0) };
        // 50 looks, 20 ms apart.
        (now > 0 && last.1 >= 50).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_stop_cost_little_memory_and_stop_nobody_else() {
    let mesh = Mesh::start().await;
    mesh.apply(&service("web", "app: web", 80, "http")).await;
    let sent = Arc::new(AtomicU64::new(0));
    let mut web = mesh.sidecar("web", "web").await.port("http", app(sent.clone()).await).start().await;
    let mut frontend = mesh.sidecar("frontend", "frontend").await.start().await;
    mesh.connected(2).await;
    mesh.reachable(&frontend, "http://web/").await;

    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        let mut caller = TcpStream::connect(frontend.http_proxy()).await.unwrap();
        caller.write_all(b"GET /endless HTTP/1.1\r\nhost: web\r\n\r\n").await.unwrap();
        stalled.push(caller);
    }
    come_to_rest("the app stops sending what nobody reads", || sent.load(Relaxed)).await;
    beside_them(&frontend, "downloads").await;

    let written = Arc::new(AtomicU64::new(0));
    for _ in 0..STALLED {
        let mut caller = TcpStream::connect(frontend.http_proxy()).await.unwrap();
        let head = b"POST /deaf HTTP/1.1\r\nhost: web\r\ncontent-length: 1000000000000\r\n\r\n";
        caller.write_all(head).await.unwrap();
        let written = written.clone();
        tokio::spawn(async move {
            while caller.write_all(&[0; 64 * 1024]).await.is_ok() {
                written.fetch_add(64 * 1024, Relaxed);
            }
        });
    }
    come_to_rest("callers can send no more to an app that does not read", || written.load(Relaxed)).await;
    beside_them(&frontend, "uploads").await;

    for sidecar in [&mut web, &mut frontend] {
        let process = sidecar.process();
        assert!(process.memory() < MOST_MEMORY, "{} has {} MiB", process.name(), process.memory() >> 20);
    }
    drop(stalled);
}

/// Strangers who begin more answers than the connection to the app's sidecar has room for, and take nothing of them.
#[tokio::test(flavor = "multi_thread")]
async fn clients_of_a_gateway_that_take_nothing_hold_nobody_else_up() {
    const CONNECTIONS: usize = 3;
    const STREAMS: usize = 200;
    let mesh = Mesh::start().await;
    let yaml = service("web", "app: web", 80, "http")
        + &gateway(&["{name: http, port: 80, protocol: HTTP}"], "")
        + &route("web", "", &["web"], "", "web");
    mesh.apply(&yaml).await;
    let sent = Arc::new(AtomicU64::new(0));
    let _web = mesh.sidecar("web", "web").await.port("http", app(sent.clone()).await).start().await;
    let edge = edge(&mesh, &[80]).await;
    mesh.connected(2).await;
    let at = edge.gateway(80);
    answers(at, "web", "/", 200).await;
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        let stream = TcpStream::connect(at).await.unwrap();
        let (sender, connection) =
            h2::client::Builder::new().initial_window_size(1 << 20).handshake::<_, bytes::Bytes>(stream).await.unwrap();
        tokio::spawn(connection);
        let mut sender = sender.ready().await.unwrap();
        for _ in 0..STREAMS {
            let get = http::Request::get("http://web/endless").version(http::Version::HTTP_2).body(()).unwrap();
            held.push(sender.send_request(get, true).unwrap().0);
        }
    }
    eventually("too many untaken answers make room for one another", Duration::from_secs(50), async || {
        let given_up = edge.metrics().await.sum("leno_gateway_answers_given_up_total", &[]);
        (given_up >= (CONNECTIONS * STREAMS - 512) as f64).then_some(())
    })
    .await;
    for _ in 0..20 {
        let get = get(at, "web", "/");
        let reply = tokio::time::timeout(Duration::from_secs(10), get).await.expect("nobody is held up").unwrap();
        assert_eq!((reply.status, reply.text().as_str()), (200, "ok"));
    }
    drop(held);
}

/// A GET and a POST with a body are answered as if nothing was.
async fn beside_them(frontend: &leno_tests::Sidecar, what: &str) {
    let get = client::get(frontend.http_proxy(), "http://web/").await;
    assert_eq!(get.unwrap_or_else(|why| panic!("GET beside stalled {what}: {why:#}")).text(), "ok");
    let post = client::request(http::Method::POST, "http://web/", &[("connection", "close")], "x");
    let post = client::send(frontend.http_proxy(), post).await;
    assert_eq!(post.unwrap_or_else(|why| panic!("POST beside stalled {what}: {why:#}")).text(), "ok");
}
