//! Redirected connections: where each was on its way to is read from the kernel, and it goes on there as the mesh says.
//!
//! `leno-proxy intercept` sends what the app connects to to port 15001, and what others connect to of the app's to 15006.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use socket2::SockRef;
use tokio::net::TcpStream;

use super::forward::Forwarder;
use super::local::ProxyListener;
use crate::error::Reason;
use crate::http::{Caller, Inbound};
use crate::model::is_virtual;
use crate::routing::{Captured, Router};
use crate::settings::OwnPorts;
use crate::tcp::{self, Abort};
use crate::telemetry::{Direction, Metrics, ServiceMetrics, Told};
use crate::upstream::set_options;

/// For a connection out of the mesh, or to the local app.
const CONNECT: Duration = Duration::from_secs(30);

/// Where a connection was on its way to before it was redirected. None: it was not.
fn original(stream: &TcpStream) -> Option<SocketAddr> {
    let local = canonical(stream.local_addr().ok()?);
    let socket = SockRef::from(stream);
    let original = if local.is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
    let original = canonical(original.ok()?.as_socket()?);
    (original != local).then_some(original)
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Port 15001: what the app connects to.
#[derive(Debug, Clone)]
pub struct CaptureListener {
    /// Finds out what is there.
    pub router: Rc<Router>,
    /// Carries the connections.
    pub forwarder: Rc<Forwarder>,
    /// An app that is configured for the HTTP proxy connects here by itself.
    pub proxy: ProxyListener,
    /// Never gone to.
    pub own: OwnPorts,
    /// What is counted of connections out of the mesh.
    pub outside: Rc<ServiceMetrics>,
}

impl CaptureListener {
    /// Serves one connection to its end.
    pub async fn serve(self, stream: TcpStream, from: SocketAddr) {
        let Some(to) = original(&stream) else { return self.proxy.serve(stream).await };
        if let Err(reason) = self.route(stream, canonical(from), to).await {
            self.forwarder.failed(reason, &to);
        }
    }

    async fn route(&self, stream: TcpStream, from: SocketAddr, to: SocketAddr) -> Result<(), Reason> {
        if self.own.contains(to.port()) && (from.ip() == to.ip() || to.ip().is_loopback()) {
            return self.forwarder.refuse(stream, BytesMut::new(), Reason::LoopRefused).await;
        }
        match self.router.captured(to).await {
            Ok(Captured::Mesh(destined)) => {
                self.forwarder.carry(&destined.address, &destined.port, stream, BytesMut::with_capacity(1024)).await
            }
            Ok(Captured::Outside) => self.outside(stream, to).await,
            // Nobody can say what is there now. What certainly is the mesh's is refused, and the rest goes by the policy.
            Err(Reason::NotResolved) if !is_virtual(to.ip()) => self.outside(stream, to).await,
            Err(reason) => self.forwarder.refuse(stream, BytesMut::new(), reason).await,
        }
    }

    async fn outside(&self, stream: TcpStream, to: SocketAddr) -> Result<(), Reason> {
        let allowed = !self.router.posture().registry_only;
        self.forwarder.metrics.egress(allowed);
        if !allowed {
            tracing::info!(%to, reason = Reason::EgressDenied.code(), "refused a connection out of the mesh");
            return self.forwarder.refuse(stream, BytesMut::new(), Reason::EgressDenied).await;
        }
        let upstream = connect(to).await.inspect_err(|_| stream.abort())?;
        tcp::copy(stream, upstream, &self.outside).await;
        Ok(())
    }
}

async fn connect(to: SocketAddr) -> Result<TcpStream, Reason> {
    let connected = tokio::time::timeout(CONNECT, TcpStream::connect(to)).await;
    let stream = connected.map_err(|_| Reason::ConnectTimeout)?.map_err(|error| {
        tracing::debug!(%to, %error, "cannot connect");
        Reason::ConnectFailed
    })?;
    set_options(&stream).map_err(|_| Reason::ConnectFailed)?;
    Ok(stream)
}

/// Port 15006: plaintext to the app from outside the mesh.
#[derive(Debug, Clone)]
pub struct InboundListener {
    /// Never let in.
    pub own: OwnPorts,
    /// Counts what is refused.
    pub metrics: Rc<Metrics>,
    /// Counts what is let in.
    pub app: Rc<ServiceMetrics>,
    /// Says whether somebody without an identity may have it, and not too much.
    pub gate: Rc<Inbound>,
}

impl InboundListener {
    /// Serves one connection to its end.
    pub async fn serve(self, stream: TcpStream, from: SocketAddr) {
        let to = original(&stream);
        if let Err(reason) = self.admit(stream, from, to).await {
            self.failed(reason, &format_args!("{from} to {to:?}, not through the mesh"));
        }
    }

    fn failed(&self, reason: Reason, connection: &dyn std::fmt::Debug) {
        self.metrics.failed(Direction::Inbound, reason, Told { connection: Some(connection), ..Told::default() });
    }

    async fn admit(&self, stream: TcpStream, from: SocketAddr, to: Option<SocketAddr>) -> Result<(), Reason> {
        // Whoever comes here directly would be sent here again.
        let Some(to) = to.filter(|to| !self.own.contains(to.port())) else {
            stream.abort();
            return Err(Reason::LoopRefused);
        };
        let (caller, port) = (Caller::unknown().at(canonical(from).ip()), to.port());
        if !self.gate.lets_plaintext_in(&caller, port) {
            stream.abort();
            return Err(Reason::PlaintextRefused);
        }
        // Nothing of it is read, so it is one request to the limits of the app's services.
        self.gate.open(&caller, port).await.inspect_err(|_| stream.abort())?;
        self.metrics.plaintext();
        let app = connect(to).await.map_err(|_| Reason::AppConnectFailed).inspect_err(|_| stream.abort())?;
        tcp::copy_until(stream, app, &self.app, self.gate.until_plaintext_denied(&caller, port)).await;
        Ok(())
    }
}
