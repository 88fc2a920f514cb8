//! A port of the Gateway: clients that are not in the mesh, over HTTP, TLS or plain TCP.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use leno_certs::tls::refusal;
use leno_runtime::handshakes::Handshakes;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::forward::Forwarder;
use super::hello::{hello, unrecognized};
use crate::detect::{self, Detected, Prefixed};
use crate::error::Reason;
use crate::http::{Edge, MOST_UNTAKEN, Via};
use crate::model::{Family, ListenerProtocol};
use crate::routing::{EdgeAddress, EdgeListener, EdgePort, LocalPort, Router, Shown};
use crate::tcp::{self, Abort};
use crate::telemetry::Metrics;
use crate::tls::revoked;
use crate::upstream::SharedDialer;

/// How long a client may take to say what it wants: its first line, or its hello and the handshake.
const FIRST: Duration = Duration::from_secs(10);
/// Handshakes of one port and worker at once. Only clients whose hello is whole have a place.
const MOST_HANDSHAKES: usize = 1024;

/// One port of the Gateway, for one worker.
#[derive(Debug)]
pub struct GatewayListener {
    port: u16,
    router: Rc<Router>,
    forwarder: Forwarder,
    metrics: Rc<Metrics>,
    handshakes: Handshakes,
}

impl GatewayListener {
    /// Serves a port by what the Gateway says of it at each moment.
    pub fn new(port: u16, router: Rc<Router>, forwarder: Forwarder) -> Rc<Self> {
        let metrics = forwarder.metrics.clone();
        Rc::new(Self { port, router, forwarder, metrics, handshakes: Handshakes::new(MOST_HANDSHAKES, FIRST) })
    }

    /// Serves one connection to its end.
    pub async fn serve(self: Rc<Self>, stream: TcpStream, from: SocketAddr) {
        if let Err(reason) = self.carry(stream, from).await {
            self.forwarder.failed(reason, &from);
        }
    }

    async fn carry(&self, mut stream: TcpStream, from: SocketAddr) -> Result<(), Reason> {
        let mut read = BytesMut::with_capacity(1024);
        let Some(port) = self.router.edge_port(self.port) else {
            // The Gateway has no such port (yet).
            return Box::pin(self.forwarder.refuse(stream, read, Reason::NoRoute)).await;
        };
        // Each way is boxed, so that a connection is as large as the one that it takes, and not as the largest.
        match port.family {
            Family::Http => {
                let detected = tokio::time::timeout(FIRST, detect::read(&mut stream, &mut read)).await;
                let Ok(Ok(detected)) = detected else { return Ok(()) };
                wants_its_answers(&stream);
                let edge = Edge::new(EdgeAddress { port: self.port, tls: None }, from.ip());
                let source = Some(from.ip().to_canonical());
                let io = Prefixed::new(read, stream);
                Box::pin(self.forwarder.serve(Via::Gateway(Rc::new(edge)), source, detected, io)).await;
                Ok(())
            }
            Family::Tls => Box::pin(self.tls(&port, stream, from)).await,
            Family::Tcp => {
                let route = port.listener("").and_then(|listener| counted(listener).opaque(""));
                Box::pin(self.opaque(route, from, &self.forwarder.dialer, Prefixed::new(read, stream))).await
            }
        }
    }

    /// The hello is read first: its server name says which listener the connection is for, and whether TLS ends here at all.
    async fn tls(&self, port: &EdgePort, mut stream: TcpStream, from: SocketAddr) -> Result<(), Reason> {
        let mut read = BytesMut::with_capacity(2048);
        let said = tokio::time::timeout(FIRST, hello(&mut stream, &mut read)).await;
        let hello = match said {
            Ok(Ok(Some(hello))) => hello,
            // Plain HTTP is told so; anything else is broken off.
            Ok(Ok(None)) => return Box::pin(self.forwarder.refuse(stream, read, Reason::BadRequest)).await,
            Ok(Err(_)) | Err(_) => {
                self.metrics.edge_handshake("no_hello");
                return Ok(());
            }
        };
        let name = hello.server_name.as_deref().unwrap_or_default();
        let Some(listener) = port.listener(name) else {
            self.metrics.edge_handshake("unknown_server_name");
            return unrecognized(stream).await;
        };
        let io = Prefixed::new(read, stream);
        match listener.protocol {
            ListenerProtocol::Passthrough => match counted(listener).opaque(name) {
                None => {
                    self.metrics.edge_handshake("unknown_server_name");
                    unrecognized(io).await
                }
                route => Box::pin(self.opaque(route, from, &self.forwarder.passing, io)).await,
            },
            _ => self.terminate(listener, hello.server_name, io, from).await,
        }
    }

    async fn terminate(
        &self,
        listener: &EdgeListener,
        server_name: Option<String>,
        io: Prefixed<TcpStream>,
        from: SocketAddr,
    ) -> Result<(), Reason> {
        let Some(tls) = &listener.tls else { return Err(Reason::NoRoute) };
        let accept = TlsAcceptor::from(tls.server.clone()).accept(io);
        let stream = match self.handshakes.shake(accept).await {
            Ok(stream) => stream,
            Err(error) => {
                let reason = refusal(&error);
                self.metrics.edge_handshake(reason);
                tracing::debug!(%from, port = self.port, reason, %error, "refused a client of the gateway");
                return Ok(());
            }
        };
        counted(listener);
        if listener.protocol == ListenerProtocol::Terminate {
            let route = listener.opaque(server_name.as_deref().unwrap_or_default());
            return Box::pin(self.opaque(route, from, &self.forwarder.dialer, stream)).await;
        }
        wants_its_answers(stream.get_ref().0.get_ref());
        // Whoever says nothing behind its handshake is not waited for any longer than whoever makes none.
        let (mut stream, mut read) = (stream, BytesMut::with_capacity(1024));
        let began = tokio::time::timeout(FIRST, detect::read(&mut stream, &mut read)).await;
        if !matches!(began, Ok(Ok(_))) {
            return Ok(());
        }
        let spoken = match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Detected::Http2,
            _ => Detected::Http1,
        };
        let shown = Shown { server_name, clients: tls.clients.clone() };
        let edge = Edge::new(EdgeAddress { port: self.port, tls: Some(shown) }, from.ip());
        let source = Some(from.ip().to_canonical());
        let io = Prefixed::new(read, stream);
        Box::pin(self.forwarder.serve(Via::Gateway(Rc::new(edge)), source, spoken, io)).await;
        Ok(())
    }

    /// Carries a connection whose bytes are none of ours. Without a route it is broken off.
    async fn opaque<I>(
        &self,
        route: Option<&Rc<LocalPort>>,
        from: SocketAddr,
        dialer: &SharedDialer,
        io: I,
    ) -> Result<(), Reason>
    where
        I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Abort + Unpin,
    {
        let reached = match route {
            Some(route) => tcp::dial(route, &route.tcp, Some(from.ip().to_canonical()), dialer).await,
            None => Err(Reason::NoRoute),
        };
        let reached = reached.inspect_err(|_| io.abort())?;
        tcp::copy_until(io, reached.io, &reached.metrics, revoked(reached.watched)).await;
        drop(reached.in_flight);
        Ok(())
    }
}

/// A client that takes nothing of its answers for long is closed. Not of an opaque connection: who knows what its ends have agreed on.
fn wants_its_answers(stream: &TcpStream) {
    // It fails only when the connection is gone already.
    let _ = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(MOST_UNTAKEN));
}

/// A connection is the listener's.
fn counted(listener: &EdgeListener) -> &EdgeListener {
    listener.metrics.connections.inc();
    listener
}
