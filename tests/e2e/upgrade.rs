//! A request may ask to go on in another protocol, as WebSocket does; then bytes are carried both ways unseen.

use std::net::SocketAddr;
use std::time::Duration;

use leno_tests::mesh::service;
use leno_tests::{Mesh, Sidecar};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const PATIENCE: Duration = Duration::from_secs(20);

/// Agrees to whatever is asked for and answers each byte in upper case; `/no` is answered 200, and `/reset` by a reset.
async fn app() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    addr
}

async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let head = head(&mut stream).await?;
    if head.starts_with("GET /no ") {
        return stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno").await;
    }
    if head.starts_with("GET /reset ") {
        return socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    }
    let asked = head.to_ascii_lowercase();
    assert!(asked.contains("connection: upgrade") && asked.contains("upgrade: shout"), "{head}");
    assert!(asked.contains("x-key: 1"), "{head}");
    // Nothing may follow the request before the app has agreed.
    let early = tokio::time::timeout(Duration::from_millis(100), stream.read_u8()).await;
    let verdict = if early.is_err() { "late" } else { "early" };
    let agreed = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: shout\r\nx-data: {verdict}\r\n\r\n>"
    );
    stream.write_all(agreed.as_bytes()).await?;
    let mut buffer = [0; 1024];
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            stream.write_all(b"<").await?;
            return stream.shutdown().await;
        }
        buffer[..n].make_ascii_uppercase();
        stream.write_all(&buffer[..n]).await?;
    }
}

/// Reads to the empty line and no further.
async fn head(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

async fn pair(mesh: &Mesh) -> (Sidecar, Sidecar) {
    mesh.apply(&service("web", "app: web", 80, "http")).await;
    let web = mesh.sidecar("web", "web").await.port("http", app().await).start().await;
    let frontend = mesh.sidecar("frontend", "frontend").await.start().await;
    (web, frontend)
}

async fn ask(frontend: &Sidecar, path: &str, behind: &str) -> TcpStream {
    let mut client = TcpStream::connect(frontend.http_proxy()).await.unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: shout\r\nX-Key: 1\r\n\r\n{behind}"
    );
    client.write_all(request.as_bytes()).await.unwrap();
    client
}

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgraded_connection_carries_bytes_both_ways_and_none_before_the_app_has_agreed() {
    let mesh = Mesh::start().await;
    let (_web, frontend) = pair(&mesh).await;
    let mut client = ask(&frontend, "/", "early").await;
    let answer = within(head(&mut client)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("upgrade: shout"), "{answer}");
    assert!(answer.contains("x-data: late"), "bytes behind the request waited for the app: {answer}");
    let mut got = [0; 6];
    within(client.read_exact(&mut got)).await.unwrap();
    assert_eq!(&got, b">EARLY");
    // A change of configuration touches it no more than any open connection.
    mesh.apply(&service("web", "app: web", 81, "http")).await;
    client.write_all(b"later").await.unwrap();
    client.shutdown().await.unwrap();
    let mut rest = Vec::new();
    within(client.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest, b"LATER<", "a half that ends is passed on as such");
    assert!(frontend.metrics().await.sum("leno_requests_total", &[("code", "101")]) >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_does_not_agree_or_breaks_off_gives_an_ordinary_answer() {
    let mesh = Mesh::start().await;
    let (_web, frontend) = pair(&mesh).await;
    let mut client = ask(&frontend, "/no", "").await;
    let answer = within(head(&mut client)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let mut body = [0; 2];
    within(client.read_exact(&mut body)).await.unwrap();
    // The connection is one for requests still.
    client.write_all(b"GET /no HTTP/1.1\r\nHost: web\r\n\r\n").await.unwrap();
    assert!(within(head(&mut client)).await.unwrap().starts_with("HTTP/1.1 200"));
    let mut client = ask(&frontend, "/reset", "").await;
    let answer = within(head(&mut client)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("leno-reason: upstream_reset"), "{answer}");
}
