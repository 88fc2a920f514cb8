//! Dialling an endpoint: TCP, and for a sidecar TLS 1.3 with its identity checked before a byte is sent.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use leno_certs::tls::refusal;
use leno_certs::verify;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Dialled;
use super::backend_tls::{BackendConfigs, Inside};
use crate::error::Reason;
use crate::model::{Endpoint, Peer, PeerKey};
use crate::telemetry::record::Stages;
use crate::tls::port_name::{self, AppHttp};
use crate::tls::{MeshTls, ReadAhead, Watched, opaque};

/// How long a connection is silent before it is probed, between two probes, and how many of them may go without an answer.
const KEEPALIVE: Duration = Duration::from_secs(30);
const PROBES_EVERY: Duration = Duration::from_secs(10);
const MOST_PROBES: u32 = 3;

/// A connection to an endpoint.
#[derive(Debug)]
pub enum Io {
    /// To the app itself.
    Plain(TcpStream),
    /// To a sidecar, or to an app that speaks TLS itself.
    Tls(Box<TlsStream<ReadAhead<TcpStream>>>),
}

/// A connection that carries opaque bytes.
pub type TcpUpstream = Io;

/// Dials for one worker.
#[derive(Debug)]
pub struct Dialer {
    tls: MeshTls,
    /// How often this sidecar dialled, for logs.
    dialled: Cell<u64>,
    backends: BackendConfigs,
    /// What is carried is TLS already, and the backend's own.
    passing: bool,
}

impl Dialer {
    /// A dialer that shows this identity.
    pub fn new(tls: MeshTls) -> Self {
        Self { tls, dialled: Cell::new(0), backends: BackendConfigs::default(), passing: false }
    }

    /// A dialer for connections whose bytes are TLS that the backend itself ends: none is put around it.
    pub fn passing(tls: MeshTls) -> Self {
        Self { passing: true, ..Self::new(tls) }
    }

    /// The number of the TLS configurations in force.
    pub fn generation(&self) -> u64 {
        self.tls.generation()
    }

    /// The sidecar at the other end of a connection; None: it leads to an app.
    pub fn watched(&self, io: &Io) -> Option<Watched> {
        let Io::Tls(stream) = io else { return None };
        let peer = PeerKey::of(stream.get_ref().1.peer_certificates()?.first()?)?;
        Some(Watched::new(self.tls.clone(), peer))
    }

    /// Dials an endpoint for HTTP. Gives the generation of the identity that was shown.
    ///
    /// # Errors
    /// Whatever happened, no byte of a request was sent.
    pub async fn http(&self, to: &Endpoint, app: AppHttp, timeout: Duration) -> Result<Dialled, Reason> {
        let configs = self.tls.current();
        let inside = if app == AppHttp::H2 { Inside::Http2 } else { Inside::Http1 };
        let (io, stages) = self.dial(to, configs.client_http.clone(), app, inside, timeout).await?;
        let watched = self.watched(&io);
        Ok(Dialled { io, watched, generation: configs.generation, stages })
    }

    /// Dials an endpoint for an opaque connection, as far as its app.
    ///
    /// # Errors
    /// As [`Self::http`].
    pub async fn tcp(&self, to: &Endpoint, timeout: Duration) -> Result<TcpUpstream, Reason> {
        let dialled = async {
            let config = self.tls.current().client_tcp.clone();
            let (mut io, _) = self.dial(to, config, AppHttp::H1, Inside::Opaque, timeout).await?;
            if matches!(to.peer, Peer::Sidecar { .. }) {
                opaque::decode(io.read_u8().await.map_err(|_| Reason::ConnectFailed)?)?;
            }
            Ok(io)
        };
        tokio::time::timeout(timeout, dialled).await.unwrap_or(Err(Reason::ConnectTimeout))
    }

    async fn dial(
        &self,
        to: &Endpoint,
        config: Arc<ClientConfig>,
        app: AppHttp,
        inside: Inside,
        timeout: Duration,
    ) -> Result<(Io, Stages), Reason> {
        if to.peer == Peer::Withheld {
            return Err(Reason::Denied);
        }
        self.dialled.set(self.dialled.get().wrapping_add(1));
        let tls = match &to.peer {
            Peer::Tls(tls) if !self.passing => Some((tls, self.backends.of(to, tls, inside)?)),
            _ => None,
        };
        let dialled = async {
            let begun = Instant::now();
            let stream = connect(to.address).await.map_err(|error| {
                tracing::debug!(endpoint = %to.address, workload = to.workload, %error, "cannot connect");
                Reason::ConnectFailed
            })?;
            let connect = begun.elapsed();
            let io = match (&to.peer, tls) {
                // Boxed, as every way that is rarely taken.
                (_, Some((tls, config))) => Box::pin(BackendConfigs::handshake(to, tls, config, stream)).await,
                (Peer::Withheld, None) => Err(Reason::Denied),
                (Peer::App | Peer::Tls(_), None) => Ok(Io::Plain(stream)),
                (Peer::Sidecar { identity, port }, None) => {
                    let io = handshake(to, stream, config, identity, port, app).await?;
                    if self.watched(&io).is_some_and(|peer| peer.is_revoked()) {
                        tracing::warn!(endpoint = %to.address, workload = to.workload, "the endpoint was revoked");
                        return Err(Reason::EndpointRevoked);
                    }
                    Ok(io)
                }
            }?;
            let tls = if matches!(io, Io::Tls(_)) { begun.elapsed() - connect } else { Duration::ZERO };
            Ok((io, Stages { connect, tls }))
        };
        tokio::time::timeout(timeout, dialled).await.unwrap_or(Err(Reason::ConnectTimeout))
    }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    set_options(&stream)?;
    Ok(stream)
}

/// The options that every connection of a sidecar has: no delay for small writes, and probes, so that a peer that vanished
/// without a word is noticed.
///
/// # Errors
/// The connection is gone already.
pub fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive =
        socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(PROBES_EVERY).with_retries(MOST_PROBES);
    socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

async fn handshake(
    to: &Endpoint,
    stream: TcpStream,
    config: Arc<ClientConfig>,
    identity: &str,
    port: &str,
    app: AppHttp,
) -> Result<Io, Reason> {
    let name = ServerName::try_from(port_name::encode(port, app)).map_err(|_| Reason::UnknownPort)?;
    let stream = TlsConnector::from(config).connect(name, ReadAhead::new(stream)).await.map_err(|error| {
        let reason = refusal(&error);
        tracing::warn!(endpoint = %to.address, workload = to.workload, reason, %error, "TLS handshake with the endpoint failed");
        // A dead peer is no news of its certificate.
        if error.kind() == io::ErrorKind::InvalidData { Reason::TlsFailed } else { Reason::ConnectFailed }
    })?;
    let proven = stream.get_ref().1.peer_certificates().and_then(|chain| verify::peer_id(chain.first()?).ok());
    match proven {
        Some(proven) if proven.as_str() == identity => {
            tracing::info!(endpoint = %to.address, workload = to.workload, peer = %proven, port, "connected upstream");
            Ok(Io::Tls(Box::new(stream)))
        }
        proven => {
            let proven = proven.map(|p| p.to_string()).unwrap_or_default();
            tracing::warn!(endpoint = %to.address, expected = identity, proven, "the endpoint proved another identity");
            Err(Reason::WrongIdentity)
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_flush(cx),
            Self::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Self::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Self::Tls(io) => Pin::new(io).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(io) => io.is_write_vectored(),
            Self::Tls(io) => io.is_write_vectored(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_peer_that_vanished_is_noticed_within_a_minute() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = connect(listener.local_addr().unwrap()).await.unwrap();
        let socket = socket2::SockRef::from(&stream);
        let probes = socket.tcp_keepalive_interval().unwrap() * socket.tcp_keepalive_retries().unwrap();
        assert!(
            socket.keepalive().unwrap() && socket.tcp_keepalive_time().unwrap() + probes <= Duration::from_secs(60)
        );
        assert!(stream.nodelay().unwrap());
    }
}
