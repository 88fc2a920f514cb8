//! The accept loop of the API port. Whatever a peer does, it goes on, and no peer holds a place for long without a use.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use leno_runtime::drain::DrainWatch;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use super::auth::Address;
use super::{Parts, router};
use crate::ca::ServerIdentity;

/// Connections at a time; more wait in the kernel's backlog.
const MOST_CONNECTIONS: usize = 512;
/// Requests of one HTTP/2 connection at a time.
const MOST_STREAMS: u32 = 64;
/// From the accept to the end of the handshake.
const HANDSHAKE_IN: Duration = Duration::from_secs(10);
/// The headers of a request have to be there this soon.
const HEADERS_IN: Duration = Duration::from_secs(10);
/// A connection without a request for this long is closed.
const IDLE: Duration = Duration::from_secs(60);
/// Pause after an accept that failed, as it does when the process has no file descriptors left.
const AGAIN: Duration = Duration::from_millis(100);

/// Serves until the control plane drains; each connection then ends with the requests that it has.
pub async fn serve(listener: std::net::TcpListener, parts: Parts, drain: DrainWatch) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the API port cannot be served"),
    };
    let tls = parts.tls.clone();
    let questions = parts.questions.clone();
    accept(listener, tls, router(parts), drain).await;
    // Who taps waits for no end of his own.
    questions.end_taps();
}

/// Tells other meshes our roots, until the control plane drains. Nobody has to prove who he is: they are public.
pub async fn serve_bundle(listener: std::net::TcpListener, parts: Parts, drain: DrainWatch) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the federation port cannot be served"),
    };
    let tls = parts.tls.clone();
    accept(listener, tls, super::bundle::router(parts), drain).await;
}

async fn accept(listener: TcpListener, tls: Arc<ServerIdentity>, router: Router, drain: DrainWatch) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        tokio::select! {
            () = drain.signaled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => {
                    let connection = connection(stream, address, tls.clone(), router.clone(), drain.clone());
                    tokio::spawn(async move {
                        connection.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the port cannot accept");
                    sleep(AGAIN).await;
                }
            },
        }
    }
}

/// Begun and ended requests of a connection.
#[derive(Default)]
struct Requests {
    begun: AtomicU64,
    ended: AtomicU64,
}

/// Counts the end of a request also when its caller goes away in the middle of it.
struct Ends(Arc<Requests>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

async fn connection(
    stream: TcpStream,
    address: SocketAddr,
    tls: Arc<ServerIdentity>,
    router: Router,
    drain: DrainWatch,
) {
    let _ = stream.set_nodelay(true);
    let acceptor = TlsAcceptor::from(tls.api());
    // A peer that is no TLS client is not worth a line in the log: scanners come all day.
    let Ok(Ok(stream)) = timeout(HANDSHAKE_IN, acceptor.accept(stream)).await else { return };
    let requests = Arc::new(Requests::default());
    let counter = requests.clone();
    let service = tower::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Address(address));
        counter.begun.fetch_add(1, Ordering::Relaxed);
        let (ends, router) = (Ends(counter.clone()), router.clone());
        async move {
            let answer = router.oneshot(request.map(axum::body::Body::new)).await;
            drop(ends);
            answer
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS_IN);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(MOST_STREAMS).max_header_list_size(16 << 10);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)));
    let mut seen = 0;
    loop {
        tokio::select! {
            _ = connection.as_mut() => return,
            () = drain.signaled() => break,
            () = sleep(IDLE) => {
                let (begun, ended) = (requests.begun.load(Ordering::Relaxed), requests.ended.load(Ordering::Relaxed));
                if begun == ended && begun == seen {
                    break;
                }
                seen = begun;
            }
        }
    }
    connection.as_mut().graceful_shutdown();
    // The drain has a deadline of its own; an idle connection that does not close when told so is dropped.
    let _ = timeout(IDLE, connection).await;
}
