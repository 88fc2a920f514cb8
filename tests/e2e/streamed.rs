//! WebSocket on a stream of HTTP/2 (RFC 8441), as browsers ask for it: the app, which knows HTTP/1.1 alone, sees its own kind.

use std::net::SocketAddr;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use bytes::Bytes;
use h2::client::SendRequest;
use h2::ext::Protocol;
use http::{Method, Request, Response, Version};
use leno_tests::mesh::service;
use leno_tests::raw::read_head;
use leno_tests::{Mesh, wait};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::ingress::support::{Ca, Tls, answers, edge, gateway, route};

/// Agrees at `/chat` and answers each byte in upper case; elsewhere it does what it should not, or declines.
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
    let head = read_head(&mut stream).await?;
    let field = |name: &str| {
        let named = |line: &str| {
            Some(line.split_once(": ")?.1.to_owned()).filter(|_| line.to_ascii_lowercase().starts_with(name))
        };
        head.lines().find_map(named).unwrap_or_default()
    };
    let path = head.split(' ').nth(1).unwrap_or_default();
    if path == "/" {
        return stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    }
    assert!(head.starts_with("GET /"), "{head}");
    assert!(field("connection:").eq_ignore_ascii_case("upgrade") && field("upgrade:") == "websocket", "{head}");
    assert_eq!(field("sec-websocket-version:"), "13", "{head}");
    assert_eq!(field("sec-websocket-protocol:"), "talk", "{head}");
    let text = field("sec-websocket-key:") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    let accept = base64::engine::general_purpose::STANDARD.encode(hash.as_ref());
    let accept = if path == "/forged" { "bm9ib2R5".to_owned() } else { accept };
    match path {
        "/declined" => return stream.write_all(b"HTTP/1.1 403 No\r\ncontent-length: 2\r\n\r\nno").await,
        "/plain" => return stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await,
        _ => {}
    }
    let agreed = format!(
        "HTTP/1.1 101 Yes\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {accept}\r\n\
         sec-websocket-protocol: talk\r\n\r\n>"
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

async fn http2<I: AsyncRead + AsyncWrite + Unpin + Send + 'static>(io: I) -> SendRequest<Bytes> {
    let (sender, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    // The server's settings are there once it has answered.
    let get = Request::get("http://web/").version(Version::HTTP_2).body(()).unwrap();
    assert_eq!(sender.send_request(get, true).unwrap().0.await.unwrap().status(), 200);
    sender
}

async fn wish(sender: &mut SendRequest<Bytes>, path: &str) -> (Response<h2::RecvStream>, h2::SendStream<Bytes>) {
    assert!(sender.is_extended_connect_protocol_enabled());
    let request = Request::builder()
        .method(Method::CONNECT)
        .uri(format!("http://web{path}"))
        .version(Version::HTTP_2)
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "talk")
        .extension(Protocol::from_static("websocket"));
    let (answer, sends) = sender.send_request(request.body(()).unwrap(), false).unwrap();
    (tokio::time::timeout(wait::DEADLINE, answer).await.expect("an answer").unwrap(), sends)
}

async fn talks<I: AsyncRead + AsyncWrite + Unpin + Send + 'static>(io: I, at: &str) {
    let mut sender = http2(io).await;
    let (answer, mut sends) = wish(&mut sender, "/chat").await;
    assert_eq!(answer.status(), 200, "{at}");
    assert_eq!(answer.headers()["sec-websocket-protocol"], "talk", "{at}");
    for field in ["sec-websocket-accept", "upgrade", "connection"] {
        assert!(!answer.headers().contains_key(field), "{at}: {field}");
    }
    sends.send_data(Bytes::from_static(b"early"), false).unwrap();
    let mut gets = answer.into_body();
    let mut got = Vec::new();
    while got.len() < 6 {
        got.extend_from_slice(&gets.data().await.unwrap().unwrap());
    }
    assert_eq!(got, b">EARLY", "{at}");
    // Beside others, and a half that ends is passed on as such.
    let (another, _) = wish(&mut sender, "/chat").await;
    assert_eq!(another.status(), 200, "{at}");
    sends.send_data(Bytes::from_static(b"late"), true).unwrap();
    let mut rest = Vec::new();
    while let Some(data) = gets.data().await {
        rest.extend_from_slice(&data.unwrap());
    }
    assert_eq!(rest, b"LATE<", "{at}");
    let (declined, _) = wish(&mut sender, "/declined").await;
    assert_eq!(declined.status(), 403, "{at}");
    assert_eq!(declined.into_body().data().await.unwrap().unwrap(), "no", "{at}");
    for path in ["/plain", "/forged"] {
        let (refused, _) = wish(&mut sender, path).await;
        let reason = refused.headers().get("leno-reason").map(|reason| reason.to_str().unwrap());
        assert_eq!((refused.status().as_u16(), reason), (502, Some("upstream_protocol_error")), "{at} {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_on_a_stream_of_http2_is_one_of_http1_to_the_app() {
    let (mesh, ca) = (Mesh::start().await, Ca::new());
    let https = "{name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: web}]}}";
    mesh.apply(
        &(service("web", "app: web", 80, "http")
            + &ca.pair(&["web"]).secret("web")
            + &gateway(&["{name: http, port: 80, protocol: HTTP}", https], "")
            + &route("web", "", &["web"], "", "web")),
    )
    .await;
    let addr = app().await;
    let _web = mesh.sidecar("web", "web").await.port("http", addr).start().await;
    let frontend = mesh.sidecar("frontend", "frontend").await.start().await;
    let edge = edge(&mesh, &[80, 443]).await;
    mesh.connected(3).await;
    mesh.reachable(&frontend, "http://web/").await;
    let tls = Tls::new(&ca).alpn(&["h2"]);
    answers(edge.gateway(80), "web", "/", 200).await;
    talks(TcpStream::connect(frontend.http_proxy()).await.unwrap(), "the proxy port").await;
    talks(TcpStream::connect(edge.gateway(80)).await.unwrap(), "the Gateway").await;
    talks(tls.connect(edge.gateway(443), "web").await.unwrap(), "the Gateway, over TLS").await;
}
