//! Serving HTTP on a connection, with limits.

use std::convert::Infallible;
use std::future::{Ready, poll_fn, ready};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::FutureExt;
use futures_util::future::Either;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::rt::bounds::Http2ServerConnExec;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use leno_runtime::drain::DrainWatch;
use leno_runtime::metrics::Counter;
use tokio::io::{AsyncRead, AsyncWrite};

use super::account::Account;
use super::guard::{Answered, Guard, HEAD_TIME, Requests, Seen};
use super::patience::{self, Patience};
use super::room::Place;
use super::scan::MOST_HEAD;
use super::stream::{self, Cut, Streams};
use super::{ResponseBody, headers, message, respond};
use crate::detect::{self, Prefixed};
use crate::error::{REASON_HEADER, Reason};
use crate::model::fields;
use crate::tcp::Abort;
use crate::telemetry::{Direction, Metrics, Observer, Told};
use crate::upstream::{CASE_HEADER, CONNECTION_WINDOW, STREAM_WINDOW, own_case, restore_case};

/// How long a keep-alive connection may be idle; well above what HTTP clients keep theirs for, so that it is the client that
/// closes first and no request meets a close.
const IDLE: Duration = Duration::from_secs(600);
/// What hyper may buffer of an HTTP/1 connection: more than a head, so that it is us who say that one is too large.
const BUFFER: usize = MOST_HEAD + 8 * 1024;
/// Largest head of a peer's sidecar, which has let it pass already: HTTP/2 counts 32 bytes more for each field.
const MOST_PEER_HEAD: usize = 2 * MOST_HEAD;
/// Fields that a peer's sidecar may have added.
const MOST_ADDED: usize = 28;
/// What HTTP/2 itself lets pass and keeps of a head. From the limit to here we say why it is refused, beyond it is a bare 431.
const MOST_DECODED: usize = 2 * MOST_PEER_HEAD;
/// Requests at once on one connection.
const MOST_STREAMS: u32 = 2000;
/// The same for a peer's sidecar, whose worker has one connection for all requests of its apps. What is above would wait without
/// an end behind long polls and streams, so it is more than the connections that its apps may have open.
const MOST_PEER_STREAMS: u32 = 20_000;
/// Streams that a client may reset before they were looked at (rapid reset, CVE-2023-44487). A gRPC client whose deadlines are
/// short resets bursts of them, and all of its other calls would fail with the connection; clients are the own app or have
/// proven who they are, so the bound is one for memory and not for suspicion.
const MOST_RESETS: usize = 1000;
/// What a stream keeps of an answer that its client does not take, besides what is in flight from the app's sidecar.
const MOST_UNTAKEN: usize = 400 << 10;
const MOST_STRANGER_UNTAKEN: usize = 64 << 10;
/// The same for clients that are not in the mesh, of whom anything may be suspected.
const MOST_STRANGER_STREAMS: u32 = 256;
const MOST_STRANGER_RESETS: usize = 100;
/// A peer that answers no ping for this long is gone. One whose head or frame does not come whole cannot answer either, so this is
/// HTTP/2's limit for slow heads, too.
const PING_INTERVAL: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(15);

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
    resets: usize,
    head: usize,
    added: usize,
    /// What is kept of an answer that its client does not take.
    untaken: usize,
    /// Such an answer is given up after a while, or when there are too many; counted.
    patient: Option<Counter>,
    /// CONNECT opens tunnels.
    tunnels: bool,
    /// How old an HTTP/2 connection gets.
    age: Option<Duration>,
    /// Where refused requests are counted.
    metrics: Option<(Rc<Metrics>, Direction, Observer)>,
}

impl Server {
    /// Connections of this server end with the drain: HTTP/1 ones after the request in flight, HTTP/2 ones by GOAWAY.
    pub fn new(drain: DrainWatch) -> Self {
        let (streams, resets, head, untaken) = (MOST_STREAMS, MOST_RESETS, MOST_HEAD, MOST_UNTAKEN);
        let (patient, tunnels) = (None, false);
        Self { drain, streams, resets, head, added: 0, untaken, patient, tunnels, age: None, metrics: None }
    }

    /// As [`Self::new`], for the connections of other sidecars.
    pub fn for_peers(drain: DrainWatch) -> Self {
        Self { streams: MOST_PEER_STREAMS, head: MOST_PEER_HEAD, added: MOST_ADDED, ..Self::new(drain) }
    }

    /// As [`Self::new`], for clients that are not in the mesh.
    pub fn for_strangers(drain: DrainWatch, metrics: &Metrics) -> Self {
        let (streams, resets, untaken) = (MOST_STRANGER_STREAMS, MOST_STRANGER_RESETS, MOST_STRANGER_UNTAKEN);
        Self { streams, resets, untaken, patient: Some(metrics.untaken()), ..Self::new(drain) }
    }

    /// The same, where CONNECT opens tunnels. The handler makes them.
    pub fn tunnelling(&self) -> Self {
        Self { tunnels: true, ..self.clone() }
    }

    /// HTTP/2 connections end when they are so old, give or take a tenth: no new requests, and those that are open go on to
    /// their end.
    pub fn aging(self, age: Option<Duration>) -> Self {
        Self { age, ..self }
    }

    /// Counts what is refused.
    pub fn counting(self, metrics: Rc<Metrics>, direction: Direction, observer: Observer) -> Self {
        Self { metrics: Some((metrics, direction, observer)), ..self }
    }

    /// Serves one connection to its end.
    pub async fn serve<I, H, F>(&self, io: I, protocol: Protocol, handler: H)
    where
        I: AsyncRead + AsyncWrite + Abort + Unpin + Send + 'static,
        H: Fn(Request<Incoming>) -> F + 'static,
        F: Future<Output = Response<ResponseBody>> + 'static,
    {
        let _guard = self.drain.guard();
        let ended = match protocol {
            Protocol::Http1 => self.http1(io, handler).await,
            Protocol::Http2 => self.http2(io, handler).await,
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection ended");
        }
    }

    /// As [`Self::serve`], for HTTP/2 that has not begun yet: whoever does not begin it is not waited for without an end.
    pub async fn serve_peer<I, H, F>(&self, mut io: I, handler: H)
    where
        I: AsyncRead + AsyncWrite + Abort + Unpin + Send + 'static,
        H: Fn(Request<Incoming>) -> F + 'static,
        F: Future<Output = Response<ResponseBody>> + 'static,
    {
        let mut read = BytesMut::with_capacity(64);
        let began = tokio::time::timeout(HEAD_TIME, detect::read(&mut io, &mut read)).await;
        if matches!(began, Ok(Ok(detect::Detected::Http2))) {
            self.serve(Prefixed::new(read, io), Protocol::Http2, handler).await;
        }
    }

    async fn http1<I, H, F>(&self, io: I, handler: H) -> hyper::Result<()>
    where
        I: AsyncRead + AsyncWrite + Abort + Unpin + Send + 'static,
        H: Fn(Request<Incoming>) -> F + 'static,
        F: Future<Output = Response<ResponseBody>> + 'static,
    {
        let io = Guard::new(io, self.tunnels).of_stranger(self.patient.clone());
        let (requests, last, server) = (io.requests(), io.requests(), self.clone());
        let place = Place::enter();
        let leave = place.leave();
        // Not an async block, which would hold the handler's future twice. And boxed: it is some kilobytes, and everything that
        // passes it on would move them.
        let service = service_fn(move |mut request: Request<Incoming>| {
            let Seen { refused, names, upgrade } = requests.begin();
            if let Some(reason) = refused {
                return Either::Left(server.refuse(reason, &request));
            }
            match names {
                Some(names) => request.headers_mut().insert(CASE_HEADER, names),
                None => fields::remove(request.headers_mut(), &CASE_HEADER),
            };
            fields::remove(request.headers_mut(), &REASON_HEADER);
            let waiting = upgrade.then(|| (requests.clone(), request.method() == Method::CONNECT));
            let asked = place.asked();
            Either::Right(Box::pin(handler(request)).map(move |response| {
                drop(asked);
                Ok(finish(response, waiting))
            }))
        });
        // Half-closing is the guard's: hyper would not look any more whether the client is there.
        // Without `pipeline_flush`: it would hold answers back while more of the client's bytes are there, and buffer an
        // answer that the client does not read without a bound.
        let connection = http1::Builder::new()
            .half_close(false)
            .title_case_headers(true)
            .max_buf_size(BUFFER)
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE)
            .serve_connection(TokioIo::new(io), service)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        // Looked at whenever the connection was, which is what changes it.
        let over = poll_fn(|_| if last.is_over() { Poll::Ready(()) } else { Poll::Pending });
        tokio::select! {
            biased;
            ended = connection.as_mut() => return ended,
            () = self.drain.signaled() => {}
            () = over => {}
            () = leave => {}
        }
        connection.as_mut().graceful_shutdown();
        connection.await
    }

    async fn http2<I, H, F>(&self, io: I, handler: H) -> hyper::Result<()>
    where
        I: AsyncRead + AsyncWrite + Abort + Unpin + Send + 'static,
        H: Fn(Request<Incoming>) -> F + 'static,
        F: Future<Output = Response<ResponseBody>> + 'static,
    {
        let server = self.clone();
        let from_app = self.added == 0;
        let place = Place::enter();
        let leave = place.leave();
        let service = service_fn(move |mut request: Request<Incoming>| {
            if let Some(reason) = message::refused(&request, server.head, server.added, server.tunnels) {
                return Either::Left(server.refuse(reason, &request));
            }
            if from_app {
                fields::remove(request.headers_mut(), &CASE_HEADER);
                fields::remove(request.headers_mut(), &REASON_HEADER);
            }
            let asked = place.asked();
            let mut answer = Box::pin(handler(request));
            Either::Right(poll_fn(move |cx| patience::note(answer.as_mut().poll(cx))).map(move |mut response| {
                drop(asked);
                if from_app {
                    fields::remove(response.headers_mut(), &CASE_HEADER);
                }
                if let Some(cut) = response.extensions_mut().remove::<Arc<Cut>>() {
                    stream::opens(cut);
                }
                Ok(response)
            }))
        });
        match &self.patient {
            Some(given_up) => self.run_http2(Patience(given_up.clone()), io, service, leave).await,
            None => self.run_http2(Streams, io, service, leave).await,
        }
    }

    async fn run_http2<I, E, S, F>(
        &self,
        exec: E,
        io: I,
        service: S,
        leave: impl Future<Output = ()>,
    ) -> hyper::Result<()>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Service<Request<Incoming>, Response = Response<ResponseBody>, Error = Infallible, Future = F>,
        F: Future<Output = Result<Response<ResponseBody>, Infallible>> + 'static,
        E: Http2ServerConnExec<F, ResponseBody>,
    {
        let mut builder = http2::Builder::new(exec);
        // Apps and strangers may ask for WebSockets so (RFC 8441); between sidecars they have connections of their own.
        if self.added == 0 {
            builder.enable_connect_protocol();
        }
        let connection = builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(self.streams)
            .max_pending_accept_reset_streams(self.resets)
            .max_send_buf_size(self.untaken)
            .max_header_list_size(u32::try_from(MOST_DECODED).unwrap_or(u32::MAX))
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .serve_connection(TokioIo::new(io), service);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            biased;
            ended = connection.as_mut() => return ended,
            () = self.drain.signaled() => {}
            () = aged(self.age) => {}
            () = leave => {}
        }
        connection.as_mut().graceful_shutdown();
        connection.await
    }

    fn refuse(&self, reason: Reason, request: &Request<Incoming>) -> Ready<Result<Response<ResponseBody>, Infallible>> {
        let mut response = respond::error(reason, headers::is_grpc(request.headers()));
        if let Some((metrics, direction, observer)) = &self.metrics {
            metrics.failed(*direction, reason, Told::default());
            respond::at_hop(response.headers_mut(), *direction);
            Account::refused(request, observer, *direction).end(&mut response);
        }
        if request.version() < http::Version::HTTP_2 {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            return ready(Ok(finish(response, None)));
        }
        ready(Ok(response))
    }
}

/// Comes back once a connection that began now is old. Not all at the same time, so that clients do not come back all at once.
async fn aged(age: Option<Duration>) {
    match age {
        Some(age) => tokio::time::sleep(age.mul_f64(0.9 + 0.2 * fastrand::f64())).await,
        None => std::future::pending().await,
    }
}

/// The last look at an answer to an HTTP/1 request. `waiting`: for whether it is the last one, and whether it was one for a tunnel.
fn finish(mut response: Response<ResponseBody>, waiting: Option<(Requests, bool)>) -> Response<ResponseBody> {
    if let Some((waiting, tunnel)) = waiting {
        let opened = tunnel && response.status().is_success();
        waiting.answered(match tunnel {
            _ if opened || response.status() == StatusCode::SWITCHING_PROTOCOLS => Answered::Agreed,
            true => Answered::Over,
            false => Answered::Declined,
        });
        if tunnel && !opened {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
    if fields::find(response.headers(), &REASON_HEADER).is_some() {
        own_case(response.headers_mut());
    }
    if fields::find(response.headers(), &CASE_HEADER).is_none() {
        return response;
    }
    let mut extensions = std::mem::take(response.extensions_mut());
    restore_case(response.headers_mut(), &mut extensions);
    *response.extensions_mut() = extensions;
    response
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
            ("GET / HTTP/1.1\nhost: a\n\n".to_owned(), "400"),
            ("CONNECT a:80 HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(), "400"),
        ] {
            // What was asked before is answered, and nothing behind it.
            for (before, answers) in [("", 1), ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", 2)] {
                let got = answers_to(&format!("{before}{bad}GET / HTTP/1.1\r\nhost: a\r\n\r\n")).await;
                let last = &got[got.rfind("HTTP/1.1").unwrap()..];
                assert!(last.starts_with(&format!("HTTP/1.1 {status}")), "{bad:?} {got:?}");
                assert!(last.contains("leno-reason: ") && last.contains("connection: close"), "{bad:?} {got:?}");
                assert_eq!(got.matches("HTTP/1.1 ").count(), answers, "{bad:?} {got:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_has_ended_its_way_is_answered_and_asked_once_when_that_takes_long() {
        for (version, takes, asked) in [("1.1", 800, 0), ("1.1", 1500, 1), ("1.1", 60_000, 1), ("1.0", 60_000, 0)] {
            let (_drain, watch) = drain::channel();
            let (mut client, io) = tokio::io::duplex(64 * 1024);
            let server = Server::new(watch);
            let handler = move |_| async move {
                tokio::time::sleep(Duration::from_millis(takes)).await;
                Response::new(ResponseBody::full("late".into()))
            };
            let served = server.serve(io, Protocol::Http1, handler);
            let waits = async {
                client.write_all(format!("GET / HTTP/{version}\r\nhost: a\r\n\r\n").as_bytes()).await.unwrap();
                client.shutdown().await.unwrap();
                let mut got = String::new();
                client.read_to_string(&mut got).await.unwrap();
                got
            };
            let ((), got) = tokio::join!(served, waits);
            assert_eq!(got.matches("HTTP/1.1 100 Continue\r\n\r\n").count(), asked, "{version} {takes} ms: {got}");
            assert!(got.contains(" 200 OK\r\n") && got.ends_with("late"), "{version} {takes} ms: {got}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn connections_do_not_grow_old_at_the_same_moment_and_where_nothing_is_said_they_do_not() {
        let start = tokio::time::Instant::now();
        let age = Duration::from_secs(100);
        let mut ends = Vec::new();
        for _ in 0..20 {
            aged(Some(age)).await;
            ends.push(start.elapsed() - ends.iter().sum::<Duration>());
        }
        let least = ends.iter().min().unwrap();
        let most = ends.iter().max().unwrap();
        assert!(*least >= age.mul_f64(0.9) && *most <= age.mul_f64(1.1) + Duration::from_millis(20), "{ends:?}");
        assert!(*most - *least > Duration::from_secs(2), "{ends:?}");
        assert!(tokio::time::timeout(age * 1000, aged(None)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_takes_too_long_is_refused_and_an_idle_connection_is_not() {
        let (_drain, watch) = drain::channel();
        let (mut client, io) = tokio::io::duplex(64 * 1024);
        let server = Server::new(watch);
        let served = server.serve(io, Protocol::Http1, |_| async { Response::new(ResponseBody::empty()) });
        let slow = async {
            let mut got = vec![0; 4096];
            tokio::time::sleep(HEAD_TIME * 2).await;
            client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            let n = client.read(&mut got).await.unwrap();
            assert!(got[..n].starts_with(b"HTTP/1.1 200"));
            // A byte every few seconds keeps nothing alive.
            let start = tokio::time::Instant::now();
            for byte in b"GET / HTTP/1.1\r\nx: ".iter().chain(&[b'a'; 100]) {
                if client.write_all(&[*byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            let mut got = Vec::new();
            client.read_to_end(&mut got).await.unwrap();
            let got = String::from_utf8_lossy(&got);
            assert!(got.starts_with("HTTP/1.1 408") && got.contains("leno-reason: head_timeout"), "{got}");
            start.elapsed()
        };
        let ((), took) = tokio::join!(served, slow);
        assert!(took >= HEAD_TIME, "{took:?}");
    }
}
