//! Serving HTTP on a connection, with limits.

use std::convert::Infallible;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use leno_runtime::drain::DrainWatch;
use tokio::io::{AsyncRead, AsyncWrite};

use super::ResponseBody;
use crate::upstream::LocalExec;

/// Largest request head.
const MOST_HEAD: usize = 64 * 1024;
/// A connection that sends no whole request head for this long is closed. It is also how long a keep-alive connection may be
/// idle; well above what HTTP clients keep theirs for, so that it is the client that closes first and no request meets a close.
const HEAD_TIMEOUT: Duration = Duration::from_secs(600);
/// Flow-control windows, as upstream.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
/// Requests at once on one connection. A peer's worker has one connection for all its requests, so this is not small.
const MOST_STREAMS: u32 = 2000;
/// Streams that a client may reset before they were looked at (rapid reset, CVE-2023-44487).
const MOST_RESETS: usize = 20;
/// The same for a peer's sidecar: it resets for all of its apps' callers on one connection, and it has proven who it is.
const MOST_PEER_RESETS: usize = 1000;
/// A peer that answers no ping for this long is gone.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Which HTTP a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0 and 1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Serves connections until they end or the drain asks them to.
#[derive(Debug, Clone)]
pub struct Server {
    drain: DrainWatch,
    resets: usize,
}

impl Server {
    /// Connections of this server end with the drain: HTTP/1 ones after the request in flight, HTTP/2 ones by GOAWAY.
    pub fn new(drain: DrainWatch) -> Self {
        Self { drain, resets: MOST_RESETS }
    }

    /// As [`Self::new`], for the connections of other sidecars.
    pub fn for_peers(drain: DrainWatch) -> Self {
        Self { drain, resets: MOST_PEER_RESETS }
    }

    /// Serves one connection to its end.
    pub async fn serve<I, H, F>(&self, io: I, protocol: Protocol, handler: H)
    where
        I: AsyncRead + AsyncWrite + Unpin + 'static,
        H: Fn(Request<Incoming>) -> F + 'static,
        F: Future<Output = Response<ResponseBody>> + 'static,
    {
        let _guard = self.drain.guard();
        let service = service_fn(move |request| {
            let response = handler(request);
            async move { Ok::<_, Infallible>(response.await) }
        });
        let io = TokioIo::new(io);
        let ended = match protocol {
            Protocol::Http1 => {
                let connection = http1::Builder::new()
                    .pipeline_flush(true)
                    .half_close(false)
                    .max_buf_size(MOST_HEAD)
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_TIMEOUT)
                    .serve_connection(io, service);
                let mut connection = std::pin::pin!(connection);
                tokio::select! {
                    biased;
                    ended = connection.as_mut() => ended,
                    () = self.drain.signaled() => {
                        connection.as_mut().graceful_shutdown();
                        connection.await
                    }
                }
            }
            Protocol::Http2 => {
                let connection = http2::Builder::new(LocalExec)
                    .timer(TokioTimer::new())
                    .initial_stream_window_size(STREAM_WINDOW)
                    .initial_connection_window_size(CONNECTION_WINDOW)
                    .max_concurrent_streams(MOST_STREAMS)
                    .max_pending_accept_reset_streams(self.resets)
                    .max_header_list_size(MOST_HEAD as u32)
                    .keep_alive_interval(PING_INTERVAL)
                    .keep_alive_timeout(PING_TIMEOUT)
                    .serve_connection(io, service);
                let mut connection = std::pin::pin!(connection);
                tokio::select! {
                    biased;
                    ended = connection.as_mut() => ended,
                    () = self.drain.signaled() => {
                        connection.as_mut().graceful_shutdown();
                        connection.await
                    }
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection ended");
        }
    }
}
