//! What happens to a connection of the local app once it is known which destination it is for: what it speaks is found out
//! without ever making it wait, and then its requests are routed, or it is carried as it is.

use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::hello::{hello, unrecognized};
use crate::detect::{self, Detected, Manner, Prefixed};
use crate::error::Reason;
use crate::http::{Outbound, Protocol, Server, Via};
use crate::model::{AppProtocol, HostMap};
use crate::routing::{LocalPort, ServiceAddress, Split};
use crate::tcp::{self, Abort, Connection, Reached};
use crate::telemetry::{Direction, Found, Metrics, Told};
use crate::tls::revoked;
use crate::upstream::SharedDialer;

/// How long a connection may take to show what it speaks, where only HTTP is served.
pub(super) const FIRST_BYTES: Duration = Duration::from_secs(30);
/// What an app that was refused may take to show that it speaks HTTP, and can be told why.
const REFUSED: Duration = Duration::from_secs(1);
/// Where the last client spoke HTTP: one that is silent for this long may speak something else, so its server is dialled.
const SILENT: Duration = Duration::from_millis(20);
/// When neither end has said anything for this long, the connection is closed.
const MOST_SILENT: Duration = Duration::from_secs(600);
/// What is read of a server that speaks first, before it is passed on.
const FIRST_READ: usize = 4096;

/// Carries the local app's connections, for one worker.
#[derive(Debug)]
pub struct Forwarder {
    /// Reaches endpoints.
    pub dialer: SharedDialer,
    /// Reaches those that TLS goes to which does not end here: it is theirs already.
    pub passing: SharedDialer,
    /// Serves HTTP requests.
    pub outbound: Rc<Outbound>,
    /// Serves HTTP connections.
    pub server: Server,
    /// Counts failures.
    pub metrics: Rc<Metrics>,
}

/// What came first.
enum First {
    Client(std::io::Result<Detected>),
    Reached(Result<Reached, Reason>),
}

impl Forwarder {
    /// The same for another server, whose connections end when that is told to.
    pub fn with(&self, server: Server) -> Self {
        Self {
            dialer: self.dialer.clone(),
            passing: self.passing.clone(),
            outbound: self.outbound.clone(),
            server,
            metrics: self.metrics.clone(),
        }
    }

    /// Carries a connection to its end, of a client at `from`. `read` was read of it already.
    ///
    /// # Errors
    /// Why it could not be carried; it is broken off then.
    pub async fn carry(
        &self,
        address: &Rc<ServiceAddress>,
        port: &LocalPort,
        from: Option<IpAddr>,
        stream: impl Connection,
        read: BytesMut,
    ) -> Result<(), Reason> {
        self.carry_on(address, port, from, (stream, read), None).await
    }

    /// As [`Self::carry`], where an endpoint may be reached already.
    ///
    /// # Errors
    /// As [`Self::carry`].
    pub(super) async fn carry_on<I: Connection>(
        &self,
        address: &Rc<ServiceAddress>,
        port: &LocalPort,
        from: Option<IpAddr>,
        (mut stream, mut read): (I, BytesMut),
        reached: Option<Reached>,
    ) -> Result<(), Reason> {
        if let Some(routes) = &port.tls {
            // Boxed, as every way that is rarely taken.
            return Box::pin(self.by_server_name(port, routes, from, stream, read)).await;
        }
        match (port.protocol, reached) {
            (AppProtocol::Tcp, Some(reached)) => copy(Prefixed::new(read, stream), BytesMut::new(), reached).await,
            (AppProtocol::Tcp, None) => {
                self.through(port, &port.tcp, from, &self.dialer, Prefixed::new(read, stream)).await?
            }
            (AppProtocol::Http1 | AppProtocol::Http2, _) => {
                let detected = tokio::time::timeout(FIRST_BYTES, detect::read(&mut stream, &mut read)).await;
                let Ok(Ok(detected)) = detected else { return Ok(()) };
                self.http(address, from, detected, Prefixed::new(read, stream)).await;
            }
            (AppProtocol::Detect, None) => return self.detect(address, port, from, stream, read).await,
            (AppProtocol::Detect, Some(reached)) => {
                return Box::pin(self.listen(address, port, from, (stream, read), reached)).await;
            }
        }
        Ok(())
    }

    /// Reaches an endpoint before its client has said anything, where that can be any; none where requests, or the server that TLS
    /// names, say which one it is.
    ///
    /// # Errors
    /// There is none to be reached.
    pub(super) async fn reach(&self, port: &LocalPort, from: Option<IpAddr>) -> Result<Option<Reached>, Reason> {
        let by_what_comes = match port.protocol {
            AppProtocol::Tcp => false,
            AppProtocol::Detect => port.is_routed(),
            AppProtocol::Http1 | AppProtocol::Http2 => true,
        };
        if by_what_comes || port.tls.is_some() {
            return Ok(None);
        }
        tcp::dial(port, &port.tcp, from, &self.dialer).await.map(Some)
    }

    /// Tells an HTTP client why it is refused; anything else is broken off.
    ///
    /// # Errors
    /// The same reason, for whoever counts it, unless it was told.
    pub async fn refuse(&self, mut stream: impl Connection, mut read: BytesMut, reason: Reason) -> Result<(), Reason> {
        let detected = tokio::time::timeout(REFUSED, detect::read(&mut stream, &mut read)).await;
        match detected {
            Ok(Ok(http)) if http.is_http() => {
                let outbound = self.outbound.clone();
                let handler = move |request| {
                    let outbound = outbound.clone();
                    async move { outbound.refuse(&request, reason) }
                };
                self.server.serve(Prefixed::new(read, stream), protocol(http), handler).await;
                Ok(())
            }
            _ => {
                stream.abort();
                Err(reason)
            }
        }
    }

    /// Notes a connection that failed.
    pub fn failed(&self, reason: Reason, to: &dyn std::fmt::Debug) {
        self.metrics.failed(Direction::Outbound, reason, Told { connection: Some(to), ..Told::default() });
    }

    async fn http<I: Connection>(
        &self,
        address: &Rc<ServiceAddress>,
        from: Option<IpAddr>,
        detected: Detected,
        io: Prefixed<I>,
    ) {
        self.serve(Via::Upstream(address.clone()), from, detected, io).await;
    }

    /// Serves the requests of a connection.
    pub(super) async fn serve(&self, via: Via, source: Option<IpAddr>, detected: Detected, io: impl Connection) {
        let outbound = self.outbound.clone();
        let handler = move |request| outbound.clone().handle_from(via.clone(), source, request);
        self.server.serve(io, protocol(detected), handler).await;
    }

    async fn through<I: Connection>(
        &self,
        port: &LocalPort,
        split: &Split,
        from: Option<IpAddr>,
        dialer: &SharedDialer,
        io: Prefixed<I>,
    ) -> Result<(), Reason> {
        // Whoever is refused here must not take it for an empty answer.
        let reached = tcp::dial(port, split, from, dialer).await.inspect_err(|_| io.abort())?;
        copy(io, BytesMut::new(), reached).await;
        Ok(())
    }

    /// TLSRoutes are attached to the port: the server that the client names in the clear says where its TLS goes, and nothing of
    /// it is ended here.
    async fn by_server_name(
        &self,
        port: &LocalPort,
        routes: &HostMap<Rc<Split>>,
        from: Option<IpAddr>,
        mut stream: impl Connection,
        mut read: BytesMut,
    ) -> Result<(), Reason> {
        let said = tokio::time::timeout(FIRST_BYTES, hello(&mut stream, &mut read)).await;
        let Ok(Ok(said)) = said else { return Ok(()) };
        // Plain HTTP is told so; anything else is broken off.
        let Some(hello) = said else { return self.refuse(stream, read, Reason::NoRoute).await };
        self.metrics.detected(Found::Tls);
        let io = Prefixed::new(read, stream);
        match routes.get(hello.server_name.as_deref().unwrap_or_default()) {
            Some(split) => self.through(port, split, from, &self.passing, io).await,
            None => unrecognized(io).await,
        }
    }

    /// Nobody said what the service speaks. The client's first bytes decide; meanwhile the server is dialled already, since it
    /// may be the one to speak first. Only where the last client spoke HTTP is it not: such a connection would be in vain.
    async fn detect(
        &self,
        address: &Rc<ServiceAddress>,
        port: &LocalPort,
        from: Option<IpAddr>,
        mut stream: impl Connection,
        mut read: BytesMut,
    ) -> Result<(), Reason> {
        if port.learned.manner() == Some(Manner::Http)
            && let Ok(Ok(http)) = tokio::time::timeout(SILENT, detect::read(&mut stream, &mut read)).await
            && http.is_http()
        {
            self.metrics.detected(Found::of(http));
            self.http(address, from, http, Prefixed::new(read, stream)).await;
            return Ok(());
        }
        // Boxed: most connections do not come so far, and their futures shall be small.
        Box::pin(self.race(address, port, from, stream, read)).await
    }

    async fn race(
        &self,
        address: &Rc<ServiceAddress>,
        port: &LocalPort,
        from: Option<IpAddr>,
        mut stream: impl Connection,
        mut read: BytesMut,
    ) -> Result<(), Reason> {
        let mut dialling = pin!(tcp::dial(port, &port.tcp, from, &self.dialer));
        let first = tokio::select! {
            biased;
            detected = detect::read(&mut stream, &mut read) => First::Client(detected),
            reached = &mut dialling => First::Reached(reached),
        };
        let reached = match first {
            First::Client(detected) => match detected.map_err(|_| Reason::DownstreamReset)? {
                opaque @ (Detected::Tls | Detected::Unknown) => {
                    self.metrics.detected(Found::of(opaque));
                    dialling.await.inspect_err(|_| stream.abort())?
                }
                http => {
                    self.metrics.detected(Found::of(http));
                    port.learned.learn(Manner::Http);
                    self.http(address, from, http, Prefixed::new(read, stream)).await;
                    return Ok(());
                }
            },
            First::Reached(Ok(reached)) => return self.listen(address, port, from, (stream, read), reached).await,
            First::Reached(Err(reason)) => return self.refuse(stream, read, reason).await,
        };
        port.learned.learn(Manner::Opaque);
        copy(Prefixed::new(read, stream), BytesMut::new(), reached).await;
        Ok(())
    }

    /// Both ends are there; whoever speaks first decides.
    async fn listen<I: Connection>(
        &self,
        address: &Rc<ServiceAddress>,
        port: &LocalPort,
        from: Option<IpAddr>,
        (mut stream, mut read): (I, BytesMut),
        mut reached: Reached,
    ) -> Result<(), Reason> {
        let mut greeting = BytesMut::with_capacity(FIRST_READ);
        tokio::select! {
            biased;
            detected = detect::read(&mut stream, &mut read) => {
                let detected = detected.map_err(|_| Reason::DownstreamReset)?;
                self.metrics.detected(Found::of(detected));
                if detected.is_http() {
                    // The server did not speak: the connection was dialled in vain.
                    drop(reached);
                    port.learned.learn(Manner::Http);
                    self.http(address, from, detected, Prefixed::new(read, stream)).await;
                    return Ok(());
                }
            }
            spoke = reached.io.read_buf(&mut greeting) => {
                spoke.map_err(|_| Reason::UpstreamReset).inspect_err(|_| stream.abort())?;
                self.metrics.detected(Found::ServerFirst);
            }
            () = revoked(reached.watched.clone()) => {
                stream.abort();
                reached.io.abort();
                return Err(Reason::EndpointRevoked);
            }
            () = tokio::time::sleep(MOST_SILENT) => {
                stream.abort();
                reached.io.abort();
                return Err(Reason::Silent);
            }
        }
        port.learned.learn(Manner::Opaque);
        copy(Prefixed::new(read, stream), greeting, reached).await;
        Ok(())
    }
}

impl Found {
    fn of(detected: Detected) -> Self {
        match detected {
            Detected::Http1 => Self::Http1,
            Detected::Http2 => Self::Http2,
            Detected::Tls => Self::Tls,
            Detected::Unknown => Self::ClientFirst,
        }
    }
}

/// The address of a client.
pub(super) fn source(stream: &TcpStream) -> Option<IpAddr> {
    stream.peer_addr().ok().map(|from| from.ip().to_canonical())
}

/// What is not HTTP gets HTTP/1.1's own answer to that, a 400.
pub(super) fn protocol(detected: Detected) -> Protocol {
    if detected == Detected::Http2 { Protocol::Http2 } else { Protocol::Http1 }
}

async fn copy(io: impl Connection, greeting: BytesMut, reached: Reached) {
    let Reached { io: upstream, metrics, in_flight, watched } = reached;
    let gone = revoked(watched);
    if greeting.is_empty() {
        tcp::copy_until(io, upstream, &metrics, gone).await;
    } else {
        tcp::copy_until(io, Prefixed::new(greeting, upstream), &metrics, gone).await;
    }
    drop(in_flight);
}
