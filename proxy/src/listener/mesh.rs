//! The mesh port: TLS 1.3 with a verified peer, then HTTP or opaque bytes for one of the app's ports.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use leno_certs::tls::refusal;
use leno_runtime::handshakes::Handshakes;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::error::Reason;
use crate::http::{AppPort, AppPorts, Caller, Inbound, Server};
use crate::model::PeerKey;
use crate::tcp::{self, Abort};
use crate::telemetry::{Direction, Metrics, Told};
use crate::tls::port_name::{self, AppHttp};
use crate::tls::{ALPN_TCP, MeshTls, ReadAhead, Watched, opaque};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes of one worker at once.
const MOST_HANDSHAKES: usize = 256;

/// For so long a peer that was revoked is told so, on each of its connections.
const TELLING: Duration = Duration::from_secs(5);

/// The mesh port of one worker.
#[derive(Debug)]
pub struct MeshListener {
    tls: MeshTls,
    ports: Rc<AppPorts>,
    inbound: Rc<Inbound>,
    server: Server,
    metrics: Rc<Metrics>,
    handshakes: Handshakes,
}

impl MeshListener {
    /// Serves these ports of the local app.
    pub fn new(
        tls: MeshTls,
        ports: Rc<AppPorts>,
        inbound: Rc<Inbound>,
        server: Server,
        metrics: Rc<Metrics>,
    ) -> Rc<Self> {
        Rc::new(Self { tls, ports, inbound, server, metrics, handshakes: Handshakes::new(MOST_HANDSHAKES, HANDSHAKE) })
    }

    /// Serves one connection to its end.
    pub async fn serve(self: Rc<Self>, stream: TcpStream, from: SocketAddr) {
        let at = stream.local_addr().map(|at| at.ip().to_canonical()).ok();
        let stream = match Box::pin(self.handshake(stream)).await {
            Ok(stream) => stream,
            Err(error) => {
                let reason = refusal(&error);
                self.metrics.handshake(Some(reason));
                tracing::warn!(%from, reason, %error, "refused a connection on the mesh port");
                return;
            }
        };
        let tls = stream.get_ref().1;
        let peer = tls.peer_certificates().and_then(|chain| PeerKey::of(chain.first()?));
        // The verifier saw to it that there is one; without, nothing is served.
        let Some(peer) = peer else { return };
        let opaque = tls.alpn_protocol() == Some(ALPN_TCP);
        let watched = Watched::new(self.tls.clone(), peer.clone());
        let peer = peer.id;
        if watched.is_revoked() {
            let reason = Reason::Revoked.code();
            self.metrics.handshake(Some(reason));
            tracing::warn!(%from, %peer, reason, "refused a connection on the mesh port");
            // Who it was is known, so it may know why; nothing else of it is looked at.
            let _ = tokio::time::timeout(TELLING, Box::pin(self.tell_revoked(&peer, opaque, stream))).await;
            return;
        }
        self.metrics.handshake(None);
        let asked = tls.server_name().and_then(port_name::decode);
        let (name, app) = asked.unwrap_or(("", AppHttp::H1));
        let port = at.and_then(|at| self.ports.get(name, at));
        tracing::info!(%from, %peer, port = name, opaque, "accepted a peer");
        let caller = Rc::new(Caller::proven((*peer).into()));
        if opaque {
            // Boxed: most connections carry requests, and need not be as large as one of bytes.
            Box::pin(self.tcp(&caller, port, stream, &watched)).await;
        } else {
            let inbound = self.inbound.clone();
            let handler = {
                let caller = caller.clone();
                move |request| {
                    let (inbound, port, caller) = (inbound.clone(), port.clone(), caller.clone());
                    async move { inbound.handle(&caller, port.as_ref(), app, request).await }
                }
            };
            // In a task of its own, so that what comes and goes on the connection does not look each time whether policies changed.
            let server = self.server.clone();
            let mut serving = tokio::task::spawn_local(async move { server.serve_peer(stream, handler).await });
            tokio::select! {
                _ = &mut serving => return,
                () = self.inbound.until_shut_out(&caller) => tracing::info!(%peer, "closed a connection: a policy shuts the peer out"),
                () = watched.revoked() => tracing::warn!(%peer, "closed a connection: the peer was revoked"),
            }
            // What is under way is broken off with the connection.
            serving.abort();
        }
    }

    async fn handshake(&self, stream: TcpStream) -> io::Result<TlsStream<ReadAhead<TcpStream>>> {
        let accept = TlsAcceptor::from(self.tls.current().server.clone()).accept(ReadAhead::new(stream));
        self.handshakes.shake(accept).await
    }

    async fn tell_revoked(&self, peer: &str, opaque: bool, mut stream: TlsStream<ReadAhead<TcpStream>>) {
        if opaque {
            self.metrics.failed(
                Direction::Inbound,
                Reason::Revoked,
                Told { connection: Some(&peer), ..Told::default() },
            );
            let _ = stream.write_all(&[opaque::encode(Err(Reason::Revoked))]).await;
            let _ = stream.shutdown().await;
            return;
        }
        let inbound = self.inbound.clone();
        let handler = move |request| {
            let inbound = inbound.clone();
            async move { inbound.refuse(&request, Reason::Revoked) }
        };
        self.server.serve_peer(stream, handler).await;
    }

    async fn tcp(
        &self,
        caller: &Caller,
        port: Option<Rc<AppPort>>,
        mut stream: TlsStream<ReadAhead<TcpStream>>,
        watched: &Watched,
    ) {
        let connected = match &port {
            None => Err(Reason::UnknownPort),
            Some(port) => match self.inbound.open(caller, port.number()).await {
                Ok(()) => port.connect().await.map(|app| (port, app)),
                Err(reason) => Err(reason),
            },
        };
        let byte = opaque::encode(connected.as_ref().map(|_| ()).map_err(|reason| *reason));
        let tell = async {
            stream.write_all(&[byte]).await?;
            stream.flush().await
        };
        let told = tell.await;
        match connected {
            Ok((port, app)) if told.is_ok() => {
                let denied = async {
                    tokio::select! {
                        () = self.inbound.until_denied(caller, port.number()) => {}
                        () = watched.revoked() => {}
                    }
                };
                tcp::copy_until(stream, app, &port.metrics, denied).await;
            }
            Ok((_, app)) => app.abort(),
            Err(reason) => {
                self.metrics.failed(
                    Direction::Inbound,
                    reason,
                    Told { connection: Some(&caller.id()), ..Told::default() },
                );
                // In good order, so that the byte arrives; the caller's sidecar sends nothing more.
                let _ = stream.shutdown().await;
            }
        }
    }
}
