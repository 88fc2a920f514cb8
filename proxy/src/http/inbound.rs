//! From the mesh to the local app: what happens to a request that a peer's sidecar sent.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::account::Account;
use super::attempt::{self, Answer};
use super::authorizer::{Authorizer, Caller};
use super::body::{Booking, ResponseBody};
use super::gate::{Gate, Pass};
use super::{headers, respond};
use crate::error::Reason;
use crate::model::Observe;
use crate::model::fields;
use crate::policy::pattern;
use crate::resilience::deadline;
use crate::resilience::replay::RequestBody;
use crate::settings::OwnPorts;
use crate::telemetry::record::Stages;
use crate::telemetry::{Direction, Edge, Edges, Metrics, Observer, ServiceMetrics, Spoken, Told, edges};
use crate::tls::port_name::AppHttp;
use crate::upstream::{
    CASE_HEADER, Dialled, Http1Pool, Http1Sender, Http2Sender, Http2Slot, Io, http1_handshake, set_options,
};

/// For a connection to the local app, which is on the same machine.
const CONNECT: Duration = Duration::from_secs(5);
/// Idle connections to the app are closed after this, see [`Http1Pool::new`].
const IDLE: Duration = Duration::from_secs(3);

/// A port of the local app, for one worker.
#[derive(Debug)]
pub struct AppPort {
    /// Its name, by which peers ask for it.
    pub name: String,
    host: String,
    number: u16,
    http1: Rc<Http1Pool>,
    http2: Rc<Http2Slot>,
    /// What is counted for it.
    pub metrics: Rc<ServiceMetrics>,
}

impl AppPort {
    /// A port at `host:number`.
    pub fn new(name: String, host: String, number: u16, metrics: Rc<ServiceMetrics>) -> Rc<Self> {
        Rc::new(Self { name, host, number, http1: Http1Pool::new(IDLE), http2: Rc::default(), metrics })
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Connects to the app.
    ///
    /// # Errors
    /// It does not accept connections.
    pub async fn connect(&self) -> Result<TcpStream, Reason> {
        connect(&self.host, self.number).await
    }

    /// Closes connections that have been idle for too long.
    pub fn sweep(&self) {
        self.http1.sweep(Instant::now());
    }

    async fn http1(&self) -> Result<Http1Sender, Reason> {
        http1_handshake(self.connect().await?).await.map_err(|_| Reason::AppConnectFailed)
    }

    async fn http2(&self) -> Result<Http2Sender, Reason> {
        // The app's connection shows no identity, so there is but one generation.
        if let Some(open) = self.http2.open(0) {
            return Ok(open);
        }
        let (host, number) = (self.host.clone(), self.number);
        let dialled = Box::pin(self.http2.dial(async move {
            let io = Io::Plain(connect(&host, number).await?);
            Ok(Dialled { io, watched: None, generation: 0, stages: Stages::default() })
        }));
        dialled.await.map(|(sender, _)| sender)
    }
}

/// The ports of the local app, for one worker.
#[derive(Debug)]
pub struct AppPorts {
    /// Those that were given by name.
    named: Vec<Rc<AppPort>>,
    any: Option<AnyPort>,
}

/// Every other port, when the sidecar takes all.
#[derive(Debug)]
struct AnyPort {
    /// Not the app's.
    own: OwnPorts,
    metrics: Rc<ServiceMetrics>,
    /// Those that peers asked for, by the address that they came to.
    used: RefCell<HashMap<(IpAddr, u16), Rc<AppPort>>>,
}

/// Ports that one worker remembers. An app has a handful; peers that ask for more make the unused ones be forgotten.
const MOST_PORTS: usize = 256;

impl AppPorts {
    /// The ports that were given by name, and no other.
    pub fn named(named: Vec<Rc<AppPort>>) -> Self {
        Self { named, any: None }
    }

    /// The ports that were given by name, and every other but the sidecar's own.
    pub fn any(named: Vec<Rc<AppPort>>, own: OwnPorts, metrics: Rc<ServiceMetrics>) -> Self {
        Self { named, any: Some(AnyPort { own, metrics, used: RefCell::default() }) }
    }

    /// The port that a peer asks for which came to the address `at`. One that was not given is sought there: an app that
    /// listens on loopback alone means not to be reached from elsewhere.
    pub fn get(&self, name: &str, at: IpAddr) -> Option<Rc<AppPort>> {
        if let Some(named) = self.named.iter().find(|port| port.name == name) {
            return Some(named.clone());
        }
        let any = self.any.as_ref()?;
        let number = name.parse().ok().filter(|number| *number != 0 && !any.own.contains(*number))?;
        let mut used = any.used.borrow_mut();
        if !used.contains_key(&(at, number)) && used.len() >= MOST_PORTS {
            used.retain(|_, port| Rc::strong_count(port) > 1);
            if used.len() >= MOST_PORTS {
                return None;
            }
        }
        let made = || AppPort::new(number.to_string(), at.to_string(), number, any.metrics.clone());
        Some(used.entry((at, number)).or_insert_with(made).clone())
    }

    /// Closes connections that have been idle for too long.
    pub fn sweep(&self) {
        self.named.iter().for_each(|port| port.sweep());
        self.any.iter().for_each(|any| any.used.borrow().values().for_each(|port| port.sweep()));
    }
}

async fn connect(host: &str, number: u16) -> Result<TcpStream, Reason> {
    let connected = tokio::time::timeout(CONNECT, TcpStream::connect((host, number))).await;
    let stream = match connected {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::warn!(app = %format_args!("{host}:{number}"), %error, "the local app does not accept connections");
            return Err(Reason::AppConnectFailed);
        }
        Err(_) => return Err(Reason::AppConnectFailed),
    };
    set_options(&stream).map_err(|_| Reason::AppConnectFailed)?;
    Ok(stream)
}

/// What serves peers' requests, for one worker.
#[derive(Debug)]
pub struct Inbound {
    metrics: Rc<Metrics>,
    authorizer: Authorizer,
    gate: Gate,
    edges: Edges,
    observer: Observer,
}

/// A request whose like was not seen before.
struct Unseen {
    hash: u64,
    method: Method,
    uri: Uri,
}

impl Unseen {
    fn of(edge: &Edge, request: &Request<Incoming>) -> Option<Self> {
        let (method, uri) = (request.method(), request.uri());
        let hash = edges::hash(method.as_str(), uri.path());
        edge.is_unseen(hash).then(|| Self { hash, method: method.clone(), uri: uri.clone() })
    }

    /// Remembers it, unless the app itself said that there is nothing, or not for this caller.
    fn note(self, edge: &Edge, answered: StatusCode) {
        if !matches!(answered.as_u16(), 401 | 403 | 404 | 405 | 501) && edge.see(self.hash) {
            let pattern = pattern::of(self.uri.path());
            edge.note(self.method.as_str(), pattern.as_deref().unwrap_or(edges::UNCLEAR));
        }
    }
}

impl Inbound {
    /// Counts in these metrics and edges, lets in what the authorizer and the gate do, and tells the observer.
    pub fn new(metrics: Rc<Metrics>, authorizer: Authorizer, gate: Gate, edges: Edges, observer: Observer) -> Self {
        Self { metrics, authorizer, gate, edges, observer }
    }

    /// Answers a request, whatever happens. `port` is what the caller asked for when it connected, none: there is no such port.
    pub async fn handle(
        &self,
        caller: &Rc<Caller>,
        port: Option<&Rc<AppPort>>,
        app: AppHttp,
        mut request: Request<Incoming>,
    ) -> Response<ResponseBody> {
        let mut account = Account::inbound(&request, &self.observer, caller, port.map(|port| &*port.metrics));
        account.observe(&Observe::default(), request.headers_mut());
        let mut response = self.serve(caller, port, app, request, account.start).await;
        account.end(&mut response);
        response
    }

    async fn serve(
        &self,
        caller: &Rc<Caller>,
        port: Option<&Rc<AppPort>>,
        app: AppHttp,
        request: Request<Incoming>,
        start: Instant,
    ) -> Response<ResponseBody> {
        let grpc = headers::is_grpc(request.headers());
        let Some(port) = port else { return self.failed(Reason::UnknownPort, grpc) };
        // Booked from here on, also when the caller gives up.
        let mut booking = Booking::new(port.metrics.clone(), start);
        booking.under_way = Some(caller.begin());
        let edge = caller.edge(&self.edges, port.number, Spoken::Http);
        let unseen = Unseen::of(edge, &request);
        // A request that comes too late uses nothing of a rate limit up, and takes nobody's place.
        let left = deadline::left(request.headers(), grpc);
        let (entered, pass) = match left {
            Some(left) if left.is_zero() => (Err(Reason::DeadlineExpired), Pass::default()),
            _ => match self.enter(caller, port, &request, grpc).await {
                Ok(pass) => (Ok(()), pass),
                Err((reason, pass)) => (Err(reason), pass),
            },
        };
        let answered = match (entered, left) {
            (Err(reason), _) => Err(reason),
            (Ok(()), None) => answer(port, app, request).await,
            (Ok(()), Some(left)) => {
                let answered = tokio::time::timeout(left, answer(port, app, request));
                answered.await.unwrap_or(Err(Reason::DeadlineExceeded))
            }
        };
        if let Some((adaptive, admitted)) = pass.place {
            adaptive.answered(&admitted, Instant::now());
            booking._admitted = Some(admitted);
        }
        let mut response = match answered {
            Ok(answer) => {
                let (mut parts, body) = answer.response.into_parts();
                respond::hearsay(&mut parts.headers);
                parts.version = Version::HTTP_2;
                if let Some(unseen) = unseen {
                    unseen.note(edge, parts.status);
                }
                booking.code = parts.status.as_u16();
                booking.connection = answer.connection;
                Response::from_parts(parts, ResponseBody::upstream(body, booking))
            }
            Err(reason) => {
                let (parts, body) = self.failed(reason, grpc).into_parts();
                booking.code = reason.status().as_u16();
                Response::from_parts(parts, body.booked(booking))
            }
        };
        if let Some(rate) = pass.rate {
            rate.tell(response.headers_mut());
        }
        response
    }

    async fn enter(
        &self,
        caller: &Caller,
        port: &AppPort,
        request: &Request<Incoming>,
        grpc: bool,
    ) -> Result<Pass, (Reason, Pass)> {
        let authorized = self.authorizer.request(caller, port.number, request).await;
        authorized.map_err(|reason| (reason, Pass::default()))?;
        self.gate.enter(caller.id(), request, grpc)
    }

    /// Lets in a connection of bytes to one of the app's ports, which is one request to the rate limits of its services.
    ///
    /// # Errors
    /// The caller may not have it, or has used its limit up.
    pub async fn open(&self, caller: &Caller, port: u16) -> Result<(), Reason> {
        let authorized = self.authorizer.connection(caller, port).await;
        let opened = authorized.and_then(|()| self.gate.open(caller.id()));
        caller.edge(&self.edges, port, Spoken::Bytes).opened(opened.is_ok());
        opened
    }

    /// Whether plaintext from outside of the mesh is let in to one of the app's ports. Who sends it is counted either way.
    pub fn lets_plaintext_in(&self, caller: &Caller, port: u16) -> bool {
        let lets_in = self.gate.lets_plaintext_in(port);
        if !lets_in {
            caller.edge(&self.edges, port, Spoken::Bytes).opened(false);
        }
        lets_in
    }

    /// Comes back when a connection in plaintext that was let in no longer would be.
    pub async fn until_plaintext_denied(&self, caller: &Caller, port: u16) {
        tokio::select! {
            () = self.until_denied(caller, port) => {}
            () = self.gate.until_strict(port) => {}
        }
    }

    /// Comes back when a connection of bytes that was let in no longer would be.
    pub async fn until_denied(&self, caller: &Caller, port: u16) {
        self.authorizer.until_denied(caller, port).await;
    }

    /// Comes back when no request of the caller would be let in any more and some are under way.
    pub async fn until_shut_out(&self, caller: &Caller) {
        self.authorizer.until_shut_out(caller).await;
    }

    /// Answers a request of somebody who is served nothing.
    pub fn refuse(&self, request: &Request<Incoming>, reason: Reason) -> Response<ResponseBody> {
        let mut response = self.failed(reason, headers::is_grpc(request.headers()));
        Account::refused(request, &self.observer, Direction::Inbound).end(&mut response);
        response
    }

    fn failed(&self, reason: Reason, grpc: bool) -> Response<ResponseBody> {
        self.metrics.failed(Direction::Inbound, reason, Told::default());
        let mut response = respond::error(reason, grpc);
        respond::at_hop(response.headers_mut(), Direction::Inbound);
        response
    }
}

/// Boxed, as [`super::exchange`] does with what is sent.
fn answer<'a>(
    port: &'a AppPort,
    app: AppHttp,
    request: Request<Incoming>,
) -> Pin<Box<dyn Future<Output = Result<Answer, Reason>> + 'a>> {
    let (parts, incoming) = request.into_parts();
    let request = Request::from_parts(parts, body(port, incoming));
    match app {
        AppHttp::H1 => match attempt::to_http1(request) {
            Ok(request) => Box::pin(http1(port, request)),
            Err(reason) => Box::pin(std::future::ready(Err(reason))),
        },
        AppHttp::H2 => Box::pin(http2(port, request)),
    }
}

fn body(port: &AppPort, incoming: Incoming) -> RequestBody {
    if http_body::Body::is_end_stream(&incoming) {
        RequestBody::Empty
    } else {
        RequestBody::Once(incoming, port.metrics.request_bytes.clone())
    }
}

async fn http1(port: &AppPort, mut request: Request<RequestBody>) -> Result<Answer, Reason> {
    // A request that no byte of was sent gets another connection; anything else is for the caller's side to decide, which
    // knows the retry policy.
    while let Some(sender) = port.http1.take(Instant::now()) {
        match attempt::send_http1(sender, port.http1.clone(), request).await {
            Ok(answer) => return Ok(answer),
            Err((_, Some(unsent))) => request = *unsent,
            Err((reason, None)) => return Err(of_app(reason)),
        }
    }
    // Boxed, as every way that is rarely taken: its state would make each request's future large, and that is moved about.
    let sender = Box::pin(port.http1()).await?;
    attempt::send_http1(sender, port.http1.clone(), request).await.map_err(|(reason, _)| of_app(reason))
}

async fn http2(port: &AppPort, mut request: Request<RequestBody>) -> Result<Answer, Reason> {
    fields::remove(request.headers_mut(), &CASE_HEADER);
    for _ in 0..2 {
        let sender = port.http2().await.map_err(|_| Reason::AppConnectFailed)?;
        match attempt::send_http2(sender, request).await {
            Ok(mut response) => {
                fields::remove(response.headers_mut(), &CASE_HEADER);
                return Ok(Answer { response, connection: None });
            }
            Err((_, Some(unsent))) => request = *unsent,
            Err((reason, None)) => return Err(of_app(reason)),
        }
    }
    Err(Reason::AppConnectFailed)
}

/// Here the upstream is the app itself.
fn of_app(reason: Reason) -> Reason {
    match reason {
        Reason::UpstreamReset => Reason::AppReset,
        Reason::Refused | Reason::ConnectFailed => Reason::AppConnectFailed,
        other => other,
    }
}
