//! Apps behind sidecars: an HTTP server whose behaviour a test changes at will, and a TCP echo.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// The header by which a client numbers its requests; an app keeps each number it sees.
pub const REQUEST_ID: &str = "x-test-id";

/// What an app does with a request. It reads the whole body first.
#[derive(Debug, Clone, PartialEq)]
pub enum Behaviour {
    /// 200 with the app's name as body.
    Answer,
    /// This status with the app's name as body.
    Status(u16),
    /// [`Answer`](Self::Answer) after a while.
    Delay(Duration),
    /// [`Answer`](Self::Answer) with these headers.
    Headers(Vec<(&'static str, &'static str)>),
    /// A gRPC answer: no message, and the status 0 in the trailers.
    Grpc,
    /// Resets the connection before the first byte of an answer.
    ResetBefore,
    /// Resets the connection in the middle of the answer's body.
    ResetWithin,
}

/// A request as the app saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// When its head was read.
    pub at: Instant,
    /// Its method.
    pub method: Method,
    /// Its path and query.
    pub path: String,
    /// The value of [`REQUEST_ID`].
    pub id: Option<String>,
    /// Length of its body.
    pub body: usize,
    /// The host that it names.
    pub host: String,
    /// Its headers.
    pub headers: HeaderMap,
}

impl Seen {
    /// All values of a header as one list.
    pub fn header(&self, name: &str) -> Option<String> {
        let values: Vec<_> = self.headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("?")).collect();
        (!values.is_empty()).then(|| values.join(","))
    }
}

struct State {
    name: String,
    behaviour: Mutex<Behaviour>,
    seen: Mutex<Vec<Seen>>,
}

/// An HTTP/1.1 and HTTP/2 (prior knowledge) server in this process.
pub struct HttpApp {
    addr: SocketAddr,
    state: Arc<State>,
    accepting: AbortHandle,
}

type Body = BoxBody<Bytes, Reset>;

/// The error that makes hyper drop a connection.
#[derive(Debug)]
struct Reset;

impl std::fmt::Display for Reset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("reset, as the test asked")
    }
}

impl std::error::Error for Reset {}

impl HttpApp {
    /// Starts an app that answers with `name`.
    pub async fn start(name: &str) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.expect("a port"), name)
    }

    /// An app on a listener that was made elsewhere, for example in another network namespace.
    pub fn on(listener: TcpListener, name: &str) -> Self {
        let addr = listener.local_addr().expect("its address");
        let state =
            Arc::new(State { name: name.to_owned(), behaviour: Mutex::new(Behaviour::Answer), seen: Mutex::default() });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&state))).abort_handle();
        Self { addr, state, accepting }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Changes what it does with every request from now on.
    pub fn set(&self, behaviour: Behaviour) {
        *lock(&self.state.behaviour) = behaviour;
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.state.seen).clone()
    }

    /// How many requests it has had.
    pub fn count(&self) -> usize {
        lock(&self.state.seen).len()
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        lock(&self.state.seen).clear();
    }
}

impl Drop for HttpApp {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            // An error of one connection is what some tests ask for.
            let _ = serve(stream, state).await;
        });
    }
}

async fn serve(stream: TcpStream, state: Arc<State>) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let stream = stream.into_std()?;
    // A second descriptor of the same socket, by which the service can make its close a reset.
    let handle = Arc::new(stream.try_clone()?);
    let io = TokioIo::new(TcpStream::from_std(stream)?);
    let service = service_fn(move |request| answer(request, Arc::clone(&state), Arc::clone(&handle)));
    auto::Builder::new(TokioExecutor::new())
        .serve_connection(io, service)
        .await
        .map_err(|error| anyhow::anyhow!("{error}"))
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<State>,
    socket: Arc<std::net::TcpStream>,
) -> Result<Response<Body>, Reset> {
    let at = Instant::now();
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Reset)?.to_bytes();
    let id = head.headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).map(str::to_owned);
    let path = head.uri.path_and_query().map_or_else(String::new, ToString::to_string);
    let named = head.uri.authority().map(ToString::to_string);
    let host = named.or_else(|| Some(head.headers.get("host")?.to_str().ok()?.to_owned())).unwrap_or_default();
    lock(&state.seen).push(Seen { at, method: head.method, path, id, body: body.len(), host, headers: head.headers });
    let behaviour = lock(&state.behaviour).clone();
    let name = full(&state.name);
    match behaviour {
        Behaviour::Answer => Ok(Response::new(name)),
        Behaviour::Status(code) => Ok(Response::builder().status(code).body(name).expect("a status")),
        Behaviour::Delay(time) => {
            tokio::time::sleep(time).await;
            Ok(Response::new(name))
        }
        Behaviour::Headers(headers) => {
            let mut response = Response::new(name);
            for (name, value) in headers {
                response.headers_mut().append(name, HeaderValue::from_static(value));
            }
            Ok(response)
        }
        Behaviour::Grpc => {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            let frames = tokio_stream::iter([Ok(Frame::trailers(trailers))]);
            let mut response = Response::new(BodyExt::boxed(StreamBody::new(frames)));
            response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
            response.headers_mut().insert("x-app", HeaderValue::from_str(&state.name).expect("a name"));
            Ok(response)
        }
        Behaviour::ResetBefore => {
            linger_zero(&socket);
            Err(Reset)
        }
        Behaviour::ResetWithin => {
            linger_zero(&socket);
            let part = Ok(Frame::data(Bytes::from_static(b"only a part of ")));
            let frames = tokio_stream::iter([part, Err(Reset)]);
            Ok(Response::new(BodyExt::boxed(StreamBody::new(frames))))
        }
    }
}

/// Makes the close that follows a reset.
fn linger_zero(socket: &std::net::TcpStream) {
    SockRef::from(socket).set_linger(Some(Duration::ZERO)).expect("a socket option");
}

fn full(text: &str) -> Body {
    Full::new(Bytes::copy_from_slice(text.as_bytes())).map_err(|never: Infallible| match never {}).boxed()
}

/// A TCP server that sends back what it gets.
pub struct TcpEcho {
    addr: SocketAddr,
    accepting: AbortHandle,
}

impl TcpEcho {
    /// Starts it.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("its address");
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(echo(stream));
            }
        });
        Self { addr, accepting: accepting.abort_handle() }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for TcpEcho {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return stream.shutdown().await;
        }
        stream.write_all(&buffer[..n]).await?;
    }
}
