//! Serving HTTP on a connection, with limits.

use std::convert::Infallible;
use std::time::Duration;

use futures_util::FutureExt;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use leno_runtime::drain::DrainWatch;
use tokio::io::{AsyncRead, AsyncWrite};

use super::ResponseBody;
use crate::upstream::{CONNECTION_WINDOW, LocalExec, STREAM_WINDOW};

/// Largest request head.
const MOST_HEAD: usize = 64 * 1024;
/// A connection that sends no whole request head for this long is closed. It is also how long a keep-alive connection may be
/// idle; well above what HTTP clients keep theirs for, so that it is the client that closes first and no request meets a close.
const HEAD_TIMEOUT: Duration = Duration::from_secs(600);
/// The same for a peer's sidecar, which has let the head pass already: HTTP/2 counts 32 bytes more for each field.
const MOST_PEER_HEAD: usize = 2 * MOST_HEAD;
/// Requests at once on one connection.
const MOST_STREAMS: u32 = 2000;
/// The same for a peer's sidecar, whose worker has one connection for all requests of its apps. What is above would wait without
/// an end behind long polls and streams, so it is more than the connections that its apps may have open.
const MOST_PEER_STREAMS: u32 = 20_000;
/// Streams that a client may reset before they were looked at (rapid reset, CVE-2023-44487). A gRPC client whose deadlines are
/// short resets bursts of them, and all of its other calls would fail with the connection; clients are the own app or have
/// proven who they are, so the bound is one for memory and not for suspicion.
const MOST_RESETS: usize = 1000;
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
    streams: u32,
    head: usize,
}

impl Server {
    /// Connections of this server end with the drain: HTTP/1 ones after the request in flight, HTTP/2 ones by GOAWAY.
    pub fn new(drain: DrainWatch) -> Self {
        Self { drain, streams: MOST_STREAMS, head: MOST_HEAD }
    }

    /// As [`Self::new`], for the connections of other sidecars.
    pub fn for_peers(drain: DrainWatch) -> Self {
        Self { drain, streams: MOST_PEER_STREAMS, head: MOST_PEER_HEAD }
    }

    /// Serves one connection to its end.
    pub async fn serve<I, H, F>(&self, io: I, protocol: Protocol, handler: H)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        H: Fn(Request<Incoming>) -> F + 'static,
        F: Future<Output = Response<ResponseBody>> + 'static,
    {
        let _guard = self.drain.guard();
        // Not an async block: it would hold the handler's future twice, and a future is moved for each request.
        let service = service_fn(move |request| handler(request).map(Ok::<_, Infallible>));
        let io = TokioIo::new(io);
        let ended = match protocol {
            Protocol::Http1 => {
                // Without `pipeline_flush`: it would hold answers back while more of the client's bytes are there, and buffer
                // an answer that the client does not read without a bound.
                let connection = http1::Builder::new()
                    .half_close(false)
                    .max_buf_size(MOST_HEAD)
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_TIMEOUT)
                    .serve_connection(io, service)
                    .with_upgrades();
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
                    .max_concurrent_streams(self.streams)
                    .max_pending_accept_reset_streams(MOST_RESETS)
                    .max_header_list_size(u32::try_from(self.head).unwrap_or(u32::MAX))
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

#[cfg(test)]
mod tests {
    use leno_runtime::drain;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// What a client reads that sends this and waits for a moment; every request is answered 200.
    async fn answers_to(sent: &str) -> String {
        let (_drain, watch) = drain::channel();
        let (mut client, io) = tokio::io::duplex(64 * 1024);
        let server = Server::new(watch);
        let handler = |_| async { Response::new(ResponseBody::empty()) };
        let mut got = vec![0; 4096];
        client.write_all(sent.as_bytes()).await.unwrap();
        tokio::select! {
            () = server.serve(io, Protocol::Http1, handler) => {}
            // Paused time: passes once the server has nothing left to do.
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
        let n = client.read(&mut got).await.unwrap();
        String::from_utf8_lossy(&got[..n]).into_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_not_held_back_until_the_next_request_is_whole() {
        let got = answers_to("GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\nho").await;
        assert!(got.starts_with("HTTP/1.1 200"), "{got:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_no_http_is_told_so() {
        let fields: String = (0..101).map(|n| format!("x-{n}: 1\r\n")).collect();
        for (bad, status) in [
            ("GET / HTTP/1.1\r\nx-a : 1\r\n\r\n".to_owned(), "400"),
            ("GET / HTTP/1.1\r\nx-a: 1\r\n folded\r\n\r\n".to_owned(), "400"),
            ("POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n".to_owned(), "400"),
            (format!("GET / HTTP/1.1\r\n{fields}\r\n"), "431"),
        ] {
            let got = answers_to(&bad).await;
            assert!(got.starts_with(&format!("HTTP/1.1 {status}")), "{bad:?} {got:?}");
        }
    }
}
