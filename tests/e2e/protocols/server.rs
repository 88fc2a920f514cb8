//! Servers that speak one version each and do the same.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Version, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a server speaks, and its services' names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP/1.0, a connection a request.
    Old,
    /// HTTP/1.1.
    One,
    /// HTTP/2 with prior knowledge.
    Two,
}

pub const ALL: [Speaks; 3] = [Speaks::Old, Speaks::One, Speaks::Two];

/// Bytes of the largest body.
pub const LARGE: usize = 4 << 20;
/// What is no text, and must arrive as it is.
pub const PACKED: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\0\xffnot unpacked by anybody";

pub type Body = BoxBody<Bytes, hyper::Error>;

pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed()
}

pub async fn start(speaks: Speaks) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            match speaks {
                Speaks::Old => drop(tokio::spawn(old(stream))),
                Speaks::One => {
                    let connection = http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service_fn(answer))
                        .with_upgrades();
                    drop(tokio::spawn(connection));
                }
                Speaks::Two => {
                    let server = http2::Builder::new(TokioExecutor::new());
                    drop(tokio::spawn(server.serve_connection(TokioIo::new(stream), service_fn(answer))));
                }
            }
        }
    });
    addr
}

async fn answer(mut request: Request<Incoming>) -> Result<Response<Body>, hyper::Error> {
    if request.headers().contains_key(header::UPGRADE) {
        let upgrading = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut io = TokioIo::new(upgrading.await.unwrap());
            let mut bytes = [0; 1024];
            while let Ok(n @ 1..) = io.read(&mut bytes).await {
                bytes[..n].make_ascii_uppercase();
                io.write_all(&bytes[..n]).await.unwrap();
            }
        });
        let answer = Response::builder().status(101).header("connection", "upgrade").header("upgrade", "websocket");
        return Ok(answer.body(full("")).unwrap());
    }
    let (head, body) = request.into_parts();
    if head.headers.get("content-type").is_some_and(|kind| kind == "application/grpc") {
        return Ok(grpc(body));
    }
    let answer =
        Response::builder().header("x-method", head.method.as_str()).header("x-version", version(head.version));
    Ok(match head.uri.path() {
        // Answered before the body was read; it is not.
        "/early" => answer.status(413).body(full("early")).unwrap(),
        "/none" => answer.status(204).body(full("")).unwrap(),
        "/packed" => answer.header("content-encoding", "gzip").body(full(PACKED)).unwrap(),
        "/dup" => {
            let twice =
                head.headers.get_all("x-there").iter().fold(answer, |answer, value| answer.header("x-back", value));
            twice.header("set-cookie", "a=1").header("set-cookie", "b=2").body(full("")).unwrap()
        }
        "/large" => answer.body(full(vec![b'L'; LARGE])).unwrap(),
        "/unknown" => {
            let parts = (0..10).map(|n| Ok(Frame::data(Bytes::from(n.to_string()))));
            answer.body(BodyExt::boxed(StreamBody::new(tokio_stream::iter(parts)))).unwrap()
        }
        _ => {
            let whole = body.collect().await?;
            let there = whole.trailers().and_then(|trailers| trailers.get("x-sum").cloned());
            let answer = answer.header("trailer", "x-sum").header("x-length", whole.to_bytes().len());
            // HEAD's answer has no body, and no trailers.
            if head.method == Method::HEAD {
                return Ok(answer.body(full("")).unwrap());
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", there.unwrap_or_else(|| "none".parse().unwrap()));
            let frames = [Ok(Frame::data(Bytes::from("echoed"))), Ok(Frame::trailers(trailers))];
            answer.body(BodyExt::boxed(StreamBody::new(tokio_stream::iter(frames)))).unwrap()
        }
    })
}

/// Sends each message back as it comes, and the status at the end.
fn grpc(body: Incoming) -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    let end = StreamBody::new(tokio_stream::iter([Ok::<_, hyper::Error>(Frame::trailers(trailers))]));
    let frames =
        tokio_stream::StreamExt::chain(http_body_util::BodyStream::new(body), http_body_util::BodyStream::new(end));
    Response::builder()
        .header("content-type", "application/grpc")
        .body(BodyExt::boxed(StreamBody::new(frames)))
        .unwrap()
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_11 => "1.1",
        _ => "2",
    }
}

/// By hand: no library serves HTTP/1.0 with bodies that end with the connection.
async fn old(mut stream: TcpStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let values = |name: &str| -> Vec<&str> {
        head.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).collect()
    };
    let method = head.split(' ').next().unwrap_or_default().to_uppercase();
    let path = head.split(' ').nth(1).unwrap_or_default();
    let (mut fields, mut body): (String, Vec<u8>) = (format!("X-Method: {method}\r\nX-Version: 1.0\r\n"), Vec::new());
    let mut status = "200 OK";
    match path {
        "/early" => (status, body) = ("413 Too Large", b"early".to_vec()),
        "/none" => status = "204 No Content",
        "/packed" => {
            fields.push_str("Content-Encoding: gzip\r\n");
            body = PACKED.to_vec();
        }
        "/dup" => {
            values("x-there").iter().for_each(|value| fields.push_str(&format!("X-Back: {value}\r\n")));
            fields.push_str("Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n");
        }
        "/large" => body = vec![b'L'; LARGE],
        "/unknown" => body = b"0123456789".to_vec(),
        _ => {
            let length = if let Some(length) = values("content-length").first() {
                let mut there = vec![0; length.parse().unwrap()];
                stream.read_exact(&mut there).await?;
                there.len()
            } else if values("transfer-encoding").is_empty() {
                0
            } else {
                chunks(&mut stream).await?
            };
            fields.push_str(&format!("X-Length: {length}\r\n"));
            body = b"echoed".to_vec();
        }
    }
    if method == "HEAD" {
        body.clear();
    }
    stream.write_all(format!("HTTP/1.0 {status}\r\n{fields}\r\n").as_bytes()).await?;
    stream.write_all(&body).await?;
    stream.shutdown().await?;
    // What was not read would make the close a reset.
    let drained = stream.read_to_end(&mut Vec::new());
    let _ = tokio::time::timeout(std::time::Duration::from_secs(1), drained).await;
    Ok(())
}

async fn chunks(stream: &mut TcpStream) -> std::io::Result<usize> {
    let mut total = 0;
    loop {
        let mut line = String::new();
        while !line.ends_with("\r\n") {
            line.push(stream.read_u8().await?.into());
        }
        if line.trim().is_empty() || line.contains(':') {
            if line.trim().is_empty() {
                return Ok(total);
            }
            continue;
        }
        let size = usize::from_str_radix(line.trim(), 16).unwrap();
        if size > 0 {
            stream.read_exact(&mut vec![0; size + 2]).await?;
            total += size;
        }
    }
}

pub fn empty() -> Body {
    Empty::new().map_err(|never: Infallible| match never {}).boxed()
}
