//! What every client of plain HTTP can rely on, whatever its server speaks.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Version};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::place::{Place, every, host};
use super::server::{Body, LARGE, PACKED, Speaks, empty, full};

struct Got {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
    trailers: Option<HeaderMap>,
}

/// One request on a connection of its own.
async fn ask(proxy: SocketAddr, client: Version, mut request: Request<Body>) -> anyhow::Result<Got> {
    let io = TokioIo::new(TcpStream::connect(proxy).await?);
    *request.version_mut() = client;
    let response = if client == Version::HTTP_2 {
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(connection);
        sender.send_request(request).await?
    } else {
        let host = request.uri().authority().unwrap().to_string();
        request.headers_mut().insert("host", host.parse()?);
        let (mut sender, connection) = http1::handshake(io).await?;
        tokio::spawn(connection);
        sender.send_request(request).await?
    };
    let (head, body) = response.into_parts();
    let whole = body.collect().await?;
    let trailers = whole.trailers().cloned();
    Ok(Got { status: head.status.as_u16(), headers: head.headers, body: whole.to_bytes(), trailers })
}

/// A body whose length nobody knows before, with a trailer.
fn pieces(n: usize) -> Body {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "42".parse().unwrap());
    let piece = || Ok(Frame::data(Bytes::from(vec![b'p'; 10_000])));
    let frames: Vec<_> = (0..n).map(|_| piece()).chain([Ok(Frame::trailers(trailers))]).collect();
    BodyExt::boxed(StreamBody::new(tokio_stream::iter(frames)))
}

struct Try<'a> {
    proxy: SocketAddr,
    client: Version,
    host: String,
    speaks: Speaks,
    what: &'a str,
}

impl Try<'_> {
    async fn ask(&self, method: Method, path: &str, fields: &[(&str, &str)], body: Body) -> Got {
        let mut request = Request::builder().method(method.clone()).uri(format!("http://{}{path}", self.host));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(body).unwrap();
        let asked = ask(self.proxy, self.client, request);
        let got = tokio::time::timeout(Duration::from_secs(30), asked).await;
        let got = got.unwrap_or_else(|_| panic!("{}: {method} {path}: no answer", self.what));
        got.unwrap_or_else(|error| panic!("{}: {method} {path}: {error:#}", self.what))
    }

    async fn methods(&self) {
        let more = Method::from_bytes(b"PROPFIND").unwrap();
        for method in [Method::GET, Method::HEAD, Method::DELETE, Method::OPTIONS, Method::PATCH, more] {
            let got = self.ask(method.clone(), "/", &[], empty()).await;
            assert_eq!((got.status, got.headers["x-length"].to_str().unwrap()), (200, "0"), "{} {method}", self.what);
            assert_eq!(got.headers["x-method"], method.as_str(), "{}", self.what);
            let body = if method == Method::HEAD { "" } else { "echoed" };
            assert_eq!(got.body, body, "{} {method}", self.what);
            let version = [("2", Speaks::Two), ("1.1", Speaks::One), ("1.0", Speaks::Old)];
            assert!(version.contains(&(got.headers["x-version"].to_str().unwrap(), self.speaks)), "{}", self.what);
        }
    }

    async fn bodies(&self) {
        for length in [0, 1, 65_537, LARGE] {
            for method in [Method::POST, Method::PUT] {
                let got = self.ask(method, "/", &[], full(vec![b'b'; length])).await;
                assert_eq!((got.status, got.headers["x-length"].to_str().unwrap()), (200, &*length.to_string()));
            }
        }
        // HTTP/1.0 has no chunks.
        if self.client != Version::HTTP_10 {
            let fields = [("trailer", "x-sum"), ("te", "trailers")];
            let got = self.ask(Method::POST, "/", &fields, pieces(20)).await;
            assert_eq!((got.status, got.headers["x-length"].to_str().unwrap()), (200, "200000"), "{}", self.what);
            if self.speaks != Speaks::Old {
                let trailers = got.trailers.unwrap_or_else(|| panic!("{}: no trailers came back", self.what));
                assert_eq!(trailers["x-sum"], "42", "{}", self.what);
            }
            let fields = [("expect", "100-continue")];
            let got = self.ask(Method::POST, "/", &fields, full(vec![b'b'; 1000])).await;
            assert_eq!((got.status, got.headers["x-length"].to_str().unwrap()), (200, "1000"), "{}", self.what);
        }
    }

    async fn answers(&self) {
        assert_eq!(self.ask(Method::GET, "/none", &[], empty()).await.status, 204, "{}", self.what);
        let got = self.ask(Method::GET, "/large", &[], empty()).await;
        assert_eq!(got.body.len(), LARGE, "{}", self.what);
        assert_eq!(self.ask(Method::GET, "/unknown", &[], empty()).await.body, "0123456789", "{}", self.what);
        let got = self.ask(Method::GET, "/packed", &[("accept-encoding", "gzip")], empty()).await;
        assert_eq!(got.headers["content-encoding"], "gzip", "{}", self.what);
        assert_eq!(got.body, PACKED, "{}", self.what);
        let got = self.ask(Method::GET, "/dup", &[("x-there", "1"), ("X-There", "2")], empty()).await;
        let all =
            |name: &str| got.headers.get_all(name).iter().map(|v| v.to_str().unwrap().to_owned()).collect::<Vec<_>>();
        assert_eq!(all("x-back"), ["1", "2"], "{}", self.what);
        assert_eq!(all("set-cookie"), ["a=1", "b=2"], "{}", self.what);
        let got = self.ask(Method::POST, "/early", &[], full(vec![b'b'; 1000])).await;
        assert_eq!((got.status, &got.body[..]), (413, &b"early"[..]), "{}", self.what);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_every_version_get_the_same_of_servers_of_every_version() {
    let place = Place::start().await;
    for client in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
        for (speaks, pair) in every() {
            let what = format!("{client:?} to {speaks:?} {}", if pair { "through a pair" } else { "through one" });
            let (proxy, host) = (place.frontend.http_proxy(), host(speaks, pair));
            let tried = Try { proxy, client, host, speaks, what: &what };
            tried.methods().await;
            tried.bodies().await;
            tried.answers().await;
        }
    }
}
