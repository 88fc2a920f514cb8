//! The ports that the local app uses: the HTTP proxy, and those that lead to one service.

use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::detect::{self, Detected, Prefixed};
use crate::error::Reason;
use crate::http::{Outbound, Protocol, Server, Via};
use crate::model::AppProtocol;
use crate::routing::{LocalPort, Router, ServiceAddress};
use crate::tcp::{self, Abort, Reached};
use crate::telemetry::{Direction, Metrics};
use crate::upstream::SharedDialer;

/// How long a connection may take to show what it speaks, where only HTTP is served.
const FIRST_BYTES: Duration = Duration::from_secs(60);
/// A client that is silent for this long may be waiting for the server to speak first, so the server is dialled. Clients that
/// speak first do so long before.
const SILENT: Duration = Duration::from_millis(20);
/// What is read of a server that speaks first, before it is passed on.
const FIRST_READ: usize = 4096;

/// The HTTP proxy port.
#[derive(Debug, Clone)]
pub struct ProxyListener {
    /// Serves the requests.
    pub outbound: Rc<Outbound>,
    /// Serves the connections.
    pub server: Server,
}

impl ProxyListener {
    /// Serves one connection to its end.
    pub async fn serve(self, mut stream: TcpStream) {
        let mut read = BytesMut::with_capacity(1024);
        let detected = tokio::time::timeout(FIRST_BYTES, detect::read(&mut stream, &mut read)).await;
        let Ok(Ok(detected)) = detected else { return };
        serve_http(&self.server, self.outbound, Via::Proxy, detected, Prefixed::new(read, stream)).await;
    }
}

async fn serve_http(server: &Server, outbound: Rc<Outbound>, via: Via, detected: Detected, io: Prefixed<TcpStream>) {
    // What is not HTTP gets HTTP/1.1's own answer to that, a 400.
    let protocol = if detected == Detected::Http2 { Protocol::Http2 } else { Protocol::Http1 };
    let handler = move |request| {
        let (outbound, via) = (outbound.clone(), via.clone());
        async move { outbound.handle(&via, request).await }
    };
    server.serve(io, protocol, handler).await;
}

/// A local port that leads to one service.
#[derive(Debug, Clone)]
pub struct LocalListener {
    /// The service.
    pub address: Rc<ServiceAddress>,
    /// Where its endpoints are.
    pub router: Rc<Router>,
    /// Reaches them.
    pub dialer: SharedDialer,
    /// Serves HTTP requests.
    pub outbound: Rc<Outbound>,
    /// Serves HTTP connections.
    pub server: Server,
    /// Counts failures.
    pub metrics: Rc<Metrics>,
}

impl LocalListener {
    /// Serves one connection to its end.
    pub async fn serve(self, stream: TcpStream) {
        if let Err(reason) = self.route(stream).await {
            self.metrics.failed(Direction::Outbound, reason);
            tracing::debug!(reason = reason.code(), service = ?self.address.demand, "connection failed");
        }
    }

    async fn route(&self, mut stream: TcpStream) -> Result<(), Reason> {
        let port = match self.router.by_address(&self.address).await {
            Ok(port) => port,
            // An HTTP client can be told why; the service's protocol is not known, so its bytes decide.
            Err(reason) => return self.refuse(stream, reason).await,
        };
        let mut read = BytesMut::with_capacity(1024);
        match port.protocol {
            AppProtocol::Tcp => self.opaque(&port, Prefixed::new(read, stream)).await,
            AppProtocol::Http1 | AppProtocol::Http2 => {
                let detected = tokio::time::timeout(FIRST_BYTES, detect::read(&mut stream, &mut read)).await;
                let Ok(Ok(detected)) = detected else { return Ok(()) };
                self.http(detected, Prefixed::new(read, stream)).await;
                Ok(())
            }
            AppProtocol::Detect => self.detect(&port, stream, read).await,
        }
    }

    async fn refuse(&self, mut stream: TcpStream, reason: Reason) -> Result<(), Reason> {
        let mut read = BytesMut::with_capacity(1024);
        let detected = tokio::time::timeout(Duration::from_secs(1), detect::read(&mut stream, &mut read)).await;
        match detected {
            Ok(Ok(http)) if http.is_http() => {
                self.http(http, Prefixed::new(read, stream)).await;
                Ok(())
            }
            _ => {
                stream.abort();
                Err(reason)
            }
        }
    }

    async fn http(&self, detected: Detected, io: Prefixed<TcpStream>) {
        serve_http(&self.server, self.outbound.clone(), Via::Upstream(self.address.clone()), detected, io).await;
    }

    async fn opaque(&self, port: &LocalPort, io: Prefixed<TcpStream>) -> Result<(), Reason> {
        // Whoever is refused here must not take it for an empty answer.
        let reached = tcp::dial(port, &self.dialer).await.inspect_err(|_| io.abort())?;
        let Reached { io: upstream, metrics, in_flight } = reached;
        tcp::copy(io, upstream, &metrics).await;
        drop(in_flight);
        Ok(())
    }

    /// Nobody said what the service speaks: the client's first bytes decide, or that the server speaks first.
    async fn detect(&self, port: &LocalPort, mut stream: TcpStream, mut read: BytesMut) -> Result<(), Reason> {
        if let Ok(detected) = tokio::time::timeout(SILENT, detect::read(&mut stream, &mut read)).await {
            return match detected.map_err(|_| Reason::DownstreamReset)? {
                Detected::Unknown | Detected::Tls => self.opaque(port, Prefixed::new(read, stream)).await,
                http => {
                    self.http(http, Prefixed::new(read, stream)).await;
                    Ok(())
                }
            };
        }
        let reached = tcp::dial(port, &self.dialer).await.inspect_err(|_| stream.abort())?;
        let Reached { io: mut upstream, metrics, in_flight } = reached;
        let mut greeting = BytesMut::with_capacity(FIRST_READ);
        tokio::select! {
            detected = detect::read(&mut stream, &mut read) => {
                let detected = detected.map_err(|_| Reason::DownstreamReset)?;
                if detected.is_http() {
                    // The server did not speak: the connection was dialled in vain.
                    drop((upstream, in_flight));
                    self.http(detected, Prefixed::new(read, stream)).await;
                    return Ok(());
                }
            }
            spoke = upstream.read_buf(&mut greeting) => {
                spoke.map_err(|_| Reason::UpstreamReset)?;
            }
        }
        tcp::copy(Prefixed::new(read, stream), Prefixed::new(greeting, upstream), &metrics).await;
        drop(in_flight);
        Ok(())
    }
}
