//! Events as an app sends them (text/event-stream): each arrives at once, however long the stream lives, by whatever way.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Version};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use leno_tests::Mesh;
use leno_tests::mesh::service;
use leno_tests::raw::read_head;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::place::workload;
use crate::ingress::support::{Ca, Tls, answers, edge, gateway, route};

const EVENTS: usize = 100;

/// Leave to send events, one each, for each stream by its number.
type Leave = Arc<[Semaphore; 16]>;

/// `/events/N` is answered by an event for each permit of N, anything else by `ok`.
async fn app(leave: Leave) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, leave.clone()));
        }
    });
    addr
}

async fn serve(mut stream: TcpStream, leave: Leave) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let number = |head: String| head.strip_prefix("GET /events/")?.split(' ').next()?.parse::<usize>().ok();
    let next = loop {
        if let Some(number) = number(read_head(&mut stream).await?) {
            break &leave[number];
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await?;
    };
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n\
                 transfer-encoding: chunked\r\n\r\n";
    stream.write_all(head).await?;
    for n in 0.. {
        next.acquire().await.unwrap().forget();
        let event = format!("data: {n}\n\n");
        stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await?;
    }
    Ok(())
}

async fn open<I>(io: I, version: Version, host: &str, number: usize) -> Incoming
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let authority = if version == Version::HTTP_2 { format!("http://{host}") } else { String::new() };
    let uri = format!("{authority}/events/{number}");
    let request = Request::get(uri).version(version).header("accept", "text/event-stream");
    let response = if version == Version::HTTP_2 {
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap()
    } else {
        let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request.header("host", host).body(Empty::<Bytes>::new()).unwrap()).await.unwrap()
    };
    // Before there is any event.
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    response.into_body()
}

/// Each event is sent only when the one before it has been read.
async fn follow(stream: &mut Incoming, next: &Semaphore, events: std::ops::Range<usize>, what: &str) {
    for n in events {
        next.add_permits(1);
        let frame = tokio::time::timeout(Duration::from_secs(20), stream.frame()).await;
        let frame = frame.unwrap_or_else(|_| panic!("{what}: event {n} is held back"));
        let data = frame.unwrap_or_else(|| panic!("{what}: ended before {n}")).unwrap().into_data().unwrap();
        assert_eq!(data, format!("data: {n}\n\n"), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_at_once_and_their_streams_outlive_changes_of_routes() {
    let leave: Leave = Arc::new(std::array::from_fn(|_| Semaphore::new(0)));
    let (mesh, ca, app) = (Mesh::start().await, Ca::new(), app(leave.clone()).await);
    let https = "{name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: web}]}}";
    let yaml = service("web", "app: web", 80, "http")
        + &service("plain", "app: plain", 80, "http")
        + &workload("plain", "http", app)
        + &ca.pair(&["web"]).secret("web")
        + &gateway(&["{name: http, port: 80, protocol: HTTP}", https], "")
        + &route("web", "", &["web"], "", "web")
        + &route("plain", "", &["plain"], "", "plain");
    mesh.apply(&yaml).await;
    let _web = mesh.sidecar("web", "web").await.port("http", app).start().await;
    let frontend = mesh.sidecar("frontend", "frontend").await.start().await;
    let edge = edge(&mesh, &[80, 443]).await;
    mesh.connected(3).await;
    for host in ["web", "plain"] {
        mesh.reachable(&frontend, &format!("http://{host}/")).await;
        answers(edge.gateway(80), host, "/", 200).await;
    }
    let tls = Tls::new(&ca);
    tls.answers(edge.gateway(443), "web", "/", 200).await;
    let mut streams = leave.iter().enumerate();
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let alpn = if version == Version::HTTP_2 { "h2" } else { "http/1.1" };
        for host in ["web", "plain"] {
            for (place, at) in [("sidecar", frontend.http_proxy()), ("Gateway", edge.gateway(80))] {
                let (number, next) = streams.next().unwrap();
                let mut stream = open(TcpStream::connect(at).await.unwrap(), version, host, number).await;
                follow(&mut stream, next, 0..EVENTS, &format!("{version:?} {host} by {place}")).await;
            }
        }
        let secure = tls.clone().alpn(&[alpn]).connect(edge.gateway(443), "web").await.unwrap();
        let (number, next) = streams.next().unwrap();
        let mut stream = open(secure, version, "web", number).await;
        let what = format!("{version:?} by HTTPS");
        follow(&mut stream, next, 0..EVENTS, &what).await;
        // Its route goes elsewhere.
        mesh.apply(&route("web", "", &["web"], "", "plain")).await;
        follow(&mut stream, next, EVENTS..2 * EVENTS, &what).await;
        mesh.apply(&route("web", "", &["web"], "", "web")).await;
    }
}
