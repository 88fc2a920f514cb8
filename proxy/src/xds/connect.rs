//! A connection to the control plane: TCP, TLS 1.3, and the check of who answered.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use leno_certs::{CONTROL_PLANE_ACCOUNT, CONTROL_PLANE_NAMESPACE, SpiffeId, verify};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

use crate::settings::HostPort;

/// How long TCP, TLS and HTTP/2 may take together.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A silent connection is probed after this long, and given up after as long again: that bounds how long a sidecar listens
/// to a control plane that is gone without a word.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// What the control plane speaks on its stream port.
pub(super) const ALPN: &[&[u8]] = &[b"h2"];

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum ConnectError {
    /// Nobody answers there; later may be better.
    Unreachable(String),
    /// Somebody answers who is not our control plane. Nothing was said to it.
    Untrusted(String),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => f.write_str(why),
            Self::Untrusted(why) => write!(f, "its certificate is not the control plane's: {why}"),
        }
    }
}

impl std::error::Error for ConnectError {}

/// An authenticated connection.
#[derive(Debug)]
pub(super) struct Link {
    /// To be given to a generated client.
    pub channel: Channel,
    /// The trust domain that the control plane's certificate names.
    pub trust_domain: String,
    /// Our own address on this connection: what peers in the same network can dial.
    pub local: IpAddr,
}

/// Connects. The configuration verifies the chain; that the peer *is* the control plane, and not just any workload with a
/// certificate of the mesh, is checked here.
pub(super) async fn connect(addr: &HostPort, tls: ClientConfig) -> Result<Link, ConnectError> {
    match tokio::time::timeout(TIMEOUT, steps(addr, tls)).await {
        Ok(result) => result,
        Err(_) => Err(ConnectError::Unreachable(format!("no answer within {} s", TIMEOUT.as_secs()))),
    }
}

async fn steps(addr: &HostPort, tls: ClientConfig) -> Result<Link, ConnectError> {
    let unreachable = |why: std::io::Error| ConnectError::Unreachable(why.to_string());
    let tcp = TcpStream::connect((addr.host.as_str(), addr.port)).await.map_err(unreachable)?;
    tcp.set_nodelay(true).map_err(unreachable)?;
    let local = tcp.local_addr().map_err(unreachable)?.ip().to_canonical();
    let name = ServerName::try_from(addr.host.clone())
        .map_err(|_| ConnectError::Unreachable(format!("{:?} is neither a DNS name nor an IP address", addr.host)))?;
    let stream = TlsConnector::from(Arc::new(tls)).connect(name, tcp).await.map_err(tls_error)?;
    let trust_domain = control_plane(&stream)?;
    Ok(Link { channel: channel(stream).await?, trust_domain, local })
}

fn tls_error(why: std::io::Error) -> ConnectError {
    let rustls = why.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match rustls {
        Some(rustls::Error::InvalidCertificate(_)) => ConnectError::Untrusted(why.to_string()),
        _ => ConnectError::Unreachable(format!("TLS: {why}")),
    }
}

/// The trust domain of the peer, if it is the control plane.
fn control_plane(stream: &TlsStream<TcpStream>) -> Result<String, ConnectError> {
    let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let leaf = leaf.ok_or_else(|| ConnectError::Untrusted("it shows none".to_owned()))?;
    let id: SpiffeId = verify::peer_id(leaf).map_err(|why| ConnectError::Untrusted(why.to_string()))?;
    if (id.namespace(), id.service_account()) == (CONTROL_PLANE_NAMESPACE, CONTROL_PLANE_ACCOUNT) {
        return Ok(id.trust_domain().to_owned());
    }
    Err(ConnectError::Untrusted(format!("it is {id}")))
}

/// HTTP/2 over the one connection. The channel cannot dial anew by itself: each connection is made by [`connect`], with the
/// identity of that moment.
async fn channel(stream: TlsStream<TcpStream>) -> Result<Channel, ConnectError> {
    let mut io = Some(TokioIo::new(stream));
    let once = tower::service_fn(move |_| {
        let io = io.take();
        async move { io.ok_or_else(|| std::io::Error::other("the connection to the control plane has ended")) }
    });
    Endpoint::from_static("http://leno-control-plane")
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true)
        .connect_with_connector(once)
        .await
        .map_err(|why| ConnectError::Unreachable(format!("HTTP/2: {why}")))
}
