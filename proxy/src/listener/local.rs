//! The ports that the local app is configured for: the HTTP proxy, and those that lead to one service.

use std::net::IpAddr;
use std::rc::Rc;

use bytes::BytesMut;
use futures_util::future::Either;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::forward::{FIRST_BYTES, Forwarder, protocol, source};
use crate::detect::{self, Prefixed};
use crate::error::Reason;
use crate::http::{Carrier, ResponseBody, Server, Tunnel, Via};
use crate::routing::{LocalPort, Router, ServiceAddress, parse_authority};
use crate::tcp::Reached;

/// The HTTP proxy port.
#[derive(Debug)]
pub struct ProxyListener {
    /// Of the sidecar: a bare name is of it.
    namespace: String,
    /// Where a tunnel leads.
    router: Rc<Router>,
    /// Carries the connections.
    forwarder: Rc<Forwarder>,
    /// Serves requests, also such for tunnels.
    server: Server,
}

/// Held by every tunnel of a connection.
type Held = mpsc::Sender<()>;

impl ProxyListener {
    /// The proxy port of a sidecar of this namespace.
    pub fn new(namespace: String, router: Rc<Router>, forwarder: Rc<Forwarder>) -> Rc<Self> {
        let server = forwarder.server.tunnelling();
        Rc::new(Self { namespace, router, forwarder, server })
    }

    /// Serves one connection to its end, and to that of the tunnel which it may become.
    pub async fn serve(self: Rc<Self>, mut stream: TcpStream) {
        let mut read = BytesMut::with_capacity(1024);
        let detected = tokio::time::timeout(FIRST_BYTES, detect::read(&mut stream, &mut read)).await;
        let Ok(Ok(detected)) = detected else { return };
        let (listener, from) = (self.clone(), source(&stream));
        let (held, mut all_ended) = mpsc::channel(1);
        let handler = move |request: Request<Incoming>| {
            if request.method() == http::Method::CONNECT {
                // Boxed, as every way that is rarely taken.
                return Either::Left(Box::pin(self.clone().connect(request, from, held.clone())));
            }
            Either::Right(self.forwarder.outbound.clone().handle_from(Via::Proxy, from, request))
        };
        listener.server.serve(Prefixed::new(read, stream), protocol(detected), handler).await;
        let _ = all_ended.recv().await;
    }

    /// Serves a CONNECT: what comes behind it is carried as at a local port of the service that it names.
    async fn connect(
        self: Rc<Self>,
        mut request: Request<Incoming>,
        from: Option<IpAddr>,
        held: Held,
    ) -> Response<ResponseBody> {
        let Some((tunnel, to)) = Tunnel::asked(&mut request) else {
            return self.forwarder.outbound.clone().handle_from(Via::Proxy, from, request).await;
        };
        let (address, port, reached) = match self.reach(&to, from).await {
            Ok(reached) => reached,
            Err(reason) => return self.forwarder.outbound.refuse(&request, reason),
        };
        let opened = tunnel.opened();
        tokio::task::spawn_local(async move {
            let forwarder = &self.forwarder;
            let carried = match tunnel.carrier().await {
                None => Ok(()),
                Some(Carrier::Connection(stream, read)) => {
                    forwarder.carry_on(&address, &port, from, (stream, read), reached).await
                }
                Some(Carrier::Stream(stream)) => {
                    forwarder.carry_on(&address, &port, from, (stream, BytesMut::new()), reached).await
                }
            };
            if let Err(reason) = carried {
                forwarder.failed(reason, &"CONNECT");
            }
            drop(held);
        });
        opened
    }

    /// Where a tunnel leads, and its endpoint where that is known before anything was said in it.
    async fn reach(
        &self,
        to: &str,
        from: Option<IpAddr>,
    ) -> Result<(Rc<ServiceAddress>, Rc<LocalPort>, Option<Reached>), Reason> {
        let address = parse_authority(to, &self.namespace).ok_or(Reason::UnknownService)?;
        let port = self.router.by_address(&address).await?;
        let reached = self.forwarder.reach(&port, from).await?;
        Ok((Rc::new(address), port, reached))
    }
}

/// A local port that leads to one service.
#[derive(Debug, Clone)]
pub struct LocalListener {
    /// The service.
    pub address: Rc<ServiceAddress>,
    /// Where its endpoints are.
    pub router: Rc<Router>,
    /// Carries the connections.
    pub forwarder: Rc<Forwarder>,
}

impl LocalListener {
    /// Serves one connection to its end.
    pub async fn serve(self, stream: TcpStream) {
        if let Err(reason) = self.route(stream).await {
            self.forwarder.failed(reason, &self.address.demand);
        }
    }

    async fn route(&self, stream: TcpStream) -> Result<(), Reason> {
        match self.router.by_address(&self.address).await {
            Ok(port) => {
                let from = source(&stream);
                self.forwarder.carry(&self.address, &port, from, stream, BytesMut::with_capacity(1024)).await
            }
            // An HTTP client can be told why; the service's protocol is not known, so its bytes decide.
            Err(reason) => self.forwarder.refuse(stream, BytesMut::new(), reason).await,
        }
    }
}
