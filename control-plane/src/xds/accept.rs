//! The accept loop of the xDS port. Whatever a peer does, it goes on.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use leno_certs::{CertError, verify};
use leno_runtime::drain::DrainWatch;
use leno_runtime::handshakes::Handshakes;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;

use super::classify;
use super::connection::Connection;
use crate::ca::{PeerCertificate, Refusal, Refusals, ServerIdentity};

/// Connections at a time; more wait in the kernel's backlog.
const MOST_CONNECTIONS: usize = 10_000;
/// Handshakes at a time. A peer takes a place with its first byte, so that who only connects takes none.
const MOST_HANDSHAKES: usize = 1_024;
/// From the accept to the end of the handshake.
const HANDSHAKE_IN: Duration = Duration::from_secs(10);
/// Pause after an accept that failed, as it does when the process has no file descriptors left.
const AGAIN: Duration = Duration::from_millis(100);

#[derive(Clone)]
struct Door {
    tls: Arc<ServerIdentity>,
    refusals: Refusals,
    places: Arc<Handshakes>,
    ready: mpsc::Sender<Result<Connection, Infallible>>,
}

/// The connections whose handshake is done.
pub(super) fn incoming(
    listener: std::net::TcpListener,
    tls: Arc<ServerIdentity>,
    refusals: Refusals,
    drain: DrainWatch,
) -> ReceiverStream<Result<Connection, Infallible>> {
    let (ready, connections) = mpsc::channel(64);
    let places = Arc::new(Handshakes::new(MOST_HANDSHAKES, HANDSHAKE_IN));
    tokio::spawn(accept(listener, Door { tls, refusals, places, ready }, drain));
    ReceiverStream::new(connections)
}

async fn accept(listener: std::net::TcpListener, door: Door, drain: DrainWatch) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the xDS port cannot be served");
            return;
        }
    };
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => drop(tokio::spawn(door.clone().run(stream, address, place))),
                Err(error) => {
                    tracing::warn!(%error, "the xDS port cannot accept");
                    tokio::time::sleep(AGAIN).await;
                }
            },
            () = drain.signaled() => return,
        }
    }
}

impl Door {
    async fn run(self, stream: TcpStream, address: SocketAddr, place: OwnedSemaphorePermit) {
        match tokio::time::timeout(HANDSHAKE_IN, self.handshake(stream, address, place)).await {
            // A closed channel: the server drains, and the connection with it.
            Ok(Ok(Some(connection))) => drop(self.ready.send(Ok(connection)).await),
            // It went without a word, as a check whether the port is open does.
            Ok(Ok(None)) => {}
            Ok(Err(refusal)) => self.refusals.record(&refusal, address),
            Err(_) => {
                let why = "the peer took too long".to_owned();
                self.refusals.record(&Refusal::Handshake("handshake_timeout", why), address);
            }
        }
    }

    async fn handshake(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        place: OwnedSemaphorePermit,
    ) -> Result<Option<Connection>, Refusal> {
        let failed = |error: std::io::Error| classify::refusal(&error);
        stream.set_nodelay(true).map_err(failed)?;
        if stream.peek(&mut [0]).await.map_err(failed)? == 0 {
            return Ok(None);
        }
        let accept = TlsAcceptor::from(self.tls.xds()).accept(stream);
        let tls = self.places.shake(accept).await.map_err(failed)?;
        let leaf = tls.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        // The verifier has read it before.
        let unreadable = |why: CertError| Refusal::Handshake("certificate_malformed", why.to_string());
        let certificate = match leaf {
            Some(leaf) => Some(PeerCertificate {
                id: verify::peer_id(leaf).map_err(unreadable)?,
                not_after: verify::not_after(leaf).map_err(unreadable)?,
                lineage: verify::lineage(leaf),
                signed_by: verify::authority_key_id(leaf),
            }),
            None => None,
        };
        Ok(Some(Connection::new(tls, address, certificate, place)))
    }
}
