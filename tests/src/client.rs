//! A plain HTTP/1.1 client: one keep-alive connection, to a sidecar's proxy port or to a server itself.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Reply {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The reason code of a sidecar's own error answer, or nothing.
    pub fn reason(&self) -> Option<&str> {
        self.headers.get("leno-reason")?.to_str().ok()
    }
}

/// A keep-alive connection over which absolute-form requests go.
pub struct ProxyConnection {
    sender: SendRequest<Full<Bytes>>,
}

impl ProxyConnection {
    /// Connects to `addr`.
    pub async fn open(addr: SocketAddr) -> Result<Self> {
        Self::over(TcpStream::connect(addr).await.with_context(|| format!("connect to {addr}"))?).await
    }

    /// Speaks over `stream`.
    pub async fn over(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        Self::over_io(stream).await
    }

    /// Speaks over a connection of any kind.
    pub async fn over_io<I>(io: I) -> Result<Self>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::handshake(TokioIo::new(io)).await?;
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    /// True when the peer has closed it in good order, so that the next request needs a new one.
    pub async fn is_closed(&mut self) -> bool {
        self.sender.ready().await.is_err()
    }

    /// Sends one request and reads the answer to its end.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Reply> {
        let exchange = async {
            let response = self.sender.send_request(request).await?;
            let (head, body) = response.into_parts();
            let body = body.collect().await.context("the answer's body")?.to_bytes();
            Ok(Reply { status: head.status.as_u16(), headers: head.headers, body })
        };
        tokio::time::timeout(PATIENCE, exchange).await.context("no answer in time")?
    }
}

/// A request for `uri`, which has an authority.
pub fn request(method: Method, uri: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let uri: Uri = uri.parse().expect("a URI");
    let host = uri.authority().map_or_else(String::new, ToString::to_string);
    let mut request = Request::builder().method(method).uri(uri).header(header::HOST, host);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(body.into())).expect("a request")
}

/// One request over a connection of its own to the proxy port `proxy`.
pub async fn send(proxy: SocketAddr, request: Request<Full<Bytes>>) -> Result<Reply> {
    ProxyConnection::open(proxy).await?.send(request).await
}

/// One request by HTTP/2 with prior knowledge, over a connection of its own to the proxy port `proxy`.
pub async fn send_http2(proxy: SocketAddr, mut request: Request<Full<Bytes>>) -> Result<Reply> {
    // Its host is its authority.
    request.headers_mut().remove(header::HOST);
    let stream = TcpStream::connect(proxy).await.with_context(|| format!("connect to {proxy}"))?;
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let exchange = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = body.collect().await.context("the answer's body")?;
        // What a gRPC caller looks for stands in either.
        let mut headers = head.headers;
        headers.extend(body.trailers().cloned().unwrap_or_default());
        Ok(Reply { status: head.status.as_u16(), headers, body: body.to_bytes() })
    };
    tokio::time::timeout(PATIENCE, exchange).await.context("no answer in time")?
}

/// GET `uri` through the proxy port `proxy`.
pub async fn get(proxy: SocketAddr, uri: &str) -> Result<Reply> {
    send(proxy, request(Method::GET, uri, &[], Bytes::new())).await
}

/// GET `path` from `addr` itself, in origin form.
pub async fn get_direct(addr: SocketAddr, path: &str) -> Result<Reply> {
    send(addr, origin_form(addr, path)?).await
}

/// [`get_direct`] over a connection that was made elsewhere, for example in another network namespace.
pub async fn get_over(stream: TcpStream, path: &str) -> Result<Reply> {
    let request = origin_form(stream.peer_addr()?, path)?;
    ProxyConnection::over(stream).await?.send(request).await
}

fn origin_form(addr: SocketAddr, path: &str) -> Result<Request<Full<Bytes>>> {
    ensure!(path.starts_with('/'), "{path} is no path");
    Ok(Request::get(path).header(header::HOST, addr.to_string()).body(Full::new(Bytes::new()))?)
}
