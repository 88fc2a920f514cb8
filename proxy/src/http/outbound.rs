//! From the local app to the mesh: the order of layers of a request, and its attempts.

#[cfg(test)]
mod tests;

use std::rc::Rc;

use http::{Request, Response, Uri, Version, header, request, uri};
use hyper::body::Incoming;
use leno_runtime::drain::DrainWatch;
use tokio::time::Instant;

use super::attempt::Answer;
use super::body::{Booking, GIVEN_UP, ResponseBody};
use super::edge::{self, Edge};
use super::exchange::{Body, Exchange};
use super::filters::{self, Chain, Front, Mirrors};
use super::upgrade::{self, Tunnel};
use super::{headers, respond};
use crate::error::Reason;
use crate::model::{AppProtocol, Demand, Retry};
use crate::resilience::replay::RequestBody;
use crate::resilience::tap::Taps;
use crate::routing::{LocalPort, Router, ServiceAddress, Split};
use crate::tcp;
use crate::telemetry::{Direction, Metrics, ServiceMetrics};
use crate::tls::port_name::AppHttp;
use crate::upstream::{InFlight, SharedDialer};

/// How a request came to us.
#[derive(Debug, Clone)]
pub enum Via {
    /// Through the HTTP proxy port: its authority says where it goes.
    Proxy,
    /// Through a local port that leads to one service.
    Upstream(Rc<ServiceAddress>),
    /// From a client of the Gateway that this sidecar serves: its host says which listener's routes hold.
    Gateway(Rc<Edge>),
}

impl Via {
    /// The authority of a request that may name none (HTTP/1.0, or an empty Host), where only one service can be meant.
    fn authority(&self) -> Option<uri::Authority> {
        let Self::Upstream(address) = self else { return None };
        let text = match &address.demand {
            Demand::Gateway(_) => return None,
            Demand::Address(address) => address.clone(),
            Demand::Service(name) => name.split_once('/').map(|(namespace, name)| format!("{name}.{namespace}"))?,
        };
        text.parse().ok()
    }
}

/// What serves the local app's requests, for one worker.
#[derive(Debug)]
pub struct Outbound {
    router: Rc<Router>,
    dialer: SharedDialer,
    metrics: Rc<Metrics>,
    /// What holds where a route says nothing of retries.
    default_retry: Retry,
    mirrors: Mirrors,
    /// Upgraded connections outlive their requests, and the drain waits for them.
    drain: DrainWatch,
}

impl Outbound {
    /// Serves by these routes.
    pub fn new(router: Rc<Router>, dialer: SharedDialer, metrics: Rc<Metrics>, drain: DrainWatch) -> Self {
        let mirrors = Mirrors::new(dialer.clone());
        Self { router, dialer, metrics, default_retry: Retry::default(), mirrors, drain }
    }

    /// Answers a request, whatever happens.
    pub async fn handle(&self, via: &Via, request: Request<Incoming>) -> Response<ResponseBody> {
        let grpc = headers::is_grpc(request.headers());
        let version = request.version();
        let served = match upgrade::wanted(version, request.headers()) {
            None => self.serve(via, request, grpc).await,
            // Boxed, as every way that is rarely taken.
            Some(protocol) => Box::pin(self.upgrade(via, request, protocol)).await,
        };
        let mut response = match served {
            Ok(response) => response,
            Err(reason) => {
                self.metrics.failed(Direction::Outbound, reason);
                tracing::debug!(reason = reason.code(), "request failed");
                respond::error(reason, grpc)
            }
        };
        if version != Version::HTTP_2 {
            *response.version_mut() = Version::HTTP_11;
        }
        response
    }

    /// The answer to a request of a connection that is refused as a whole.
    pub fn refuse(&self, request: &Request<Incoming>, reason: Reason) -> Response<ResponseBody> {
        self.metrics.failed(Direction::Outbound, reason);
        respond::error(reason, headers::is_grpc(request.headers()))
    }

    /// The layers, outermost first.
    async fn serve(&self, via: &Via, request: Request<Incoming>, grpc: bool) -> Result<Response<ResponseBody>, Reason> {
        let start = Instant::now();
        let (mut parts, body) = request.into_parts();
        let downstream = parts.version;

        // 1. Which destination: everything below depends on what is configured for it.
        let port = self.destination(&mut parts, via).await?;

        // 2. Which rule, then which backend: matches read the request as the app sent it, before any filter.
        let split = port.select(&parts.method, parts.uri.path(), parts.uri.query(), &parts.headers, grpc)?.clone();
        let drawn = split.draw();
        let chain = Chain::new(&split, drawn.as_ref().ok().map(|(index, _)| *index), &parts.headers);

        // 3. Filters that answer themselves, and those on the request: the rule's, then the backend's.
        if let Some(answer) = chain.answer(&parts, || front(via, &parts, &port)) {
            if matches!(&answer, Ok(answer) if answer.status().is_redirection()) {
                self.mirror_only(&chain, &split, &port, Request::from_parts(parts, body), grpc);
            }
            return Ok(self.answered(&port, &chain, answer, grpc, start));
        }
        let cluster = match drawn {
            Ok((_, cluster)) => cluster,
            Err(reason) => return Ok(self.answered(&port, &chain, Err(reason), grpc, start)),
        };
        let copies = chain.request(&mut parts)?;

        // 4. From here on it is booked, also when the caller gives up.
        let mut booking = booking(cluster.metrics.clone(), start);
        let taps = match copies.is_empty() {
            true => Taps::default(),
            false => self.mirrors.send(copies, &split, &body, downstream, grpc),
        };

        // 5. The attempts, all within one deadline.
        let mut exchange = Exchange {
            dialer: &self.dialer,
            default_retry: &self.default_retry,
            port: &port,
            split: &split,
            cluster,
            app: app_http(cluster.shared().protocol, downstream, grpc),
            parts,
            body: Body::new(body, &cluster.metrics, taps),
        };
        let timeout = split.rule.as_ref().and_then(|rule| rule.request_timeout);
        let answered = exchange.run(timeout.map(|timeout| Instant::now() + timeout)).await;

        // 6. Filters on the answer, and the booking that ends with its body.
        Ok(match answered {
            Ok((answer, in_flight)) => {
                let mut response = booked(answer, in_flight, booking);
                chain.response(response.headers_mut());
                response
            }
            Err(reason) => {
                self.metrics.failed(Direction::Outbound, reason);
                tracing::debug!(reason = reason.code(), service = cluster.shared().service, "request failed");
                let (mut parts, body) = respond::error(reason, grpc).into_parts();
                chain.share(&mut parts.headers);
                booking.code = parts.status.as_u16();
                Response::from_parts(parts, body.booked(booking))
            }
        })
    }
}

impl Outbound {
    /// Books an answer that no backend gives.
    fn answered(
        &self,
        port: &LocalPort,
        chain: &Chain<'_>,
        answer: Result<Response<ResponseBody>, Reason>,
        grpc: bool,
        start: Instant,
    ) -> Response<ResponseBody> {
        let response = match answer {
            Ok(mut response) => {
                chain.response(response.headers_mut());
                response
            }
            Err(reason) => {
                self.metrics.failed(Direction::Outbound, reason);
                tracing::debug!(reason = reason.code(), "request failed");
                let mut response = respond::error(reason, grpc);
                chain.share(response.headers_mut());
                response
            }
        };
        if let Some(metrics) = port.metrics() {
            metrics.answered(response.status().as_u16(), start.elapsed());
        }
        response
    }

    /// Mirrors a request that goes nowhere else.
    fn mirror_only(&self, chain: &Chain<'_>, split: &Split, port: &LocalPort, request: Request<Incoming>, grpc: bool) {
        let (mut parts, body) = request.into_parts();
        let downstream = parts.version;
        let (Ok(copies), Some(metrics)) = (chain.request(&mut parts), port.metrics()) else { return };
        if !copies.is_empty() {
            let taps = self.mirrors.send(copies, split, &body, downstream, grpc);
            tokio::task::spawn_local(filters::drain(Body::new(body, metrics, taps).attempt()));
        }
    }

    async fn destination(&self, parts: &mut request::Parts, via: &Via) -> Result<Rc<LocalPort>, Reason> {
        let authority = normalise(parts, via)?;
        match via {
            Via::Proxy => self.router.by_authority(authority.as_str()).await,
            Via::Upstream(address) => self.router.by_address(address).await,
            Via::Gateway(edge) => {
                edge.forwarded(parts, &authority);
                self.router.by_edge(&edge.address, &edge::host(&authority))
            }
        }
    }

    /// The same layers for a request that asks to go on in another protocol. An endpoint that cannot be reached is replaced by
    /// another one; once the request was sent there is but this attempt.
    async fn upgrade(
        &self,
        via: &Via,
        mut request: Request<Incoming>,
        protocol: http::HeaderValue,
    ) -> Result<Response<ResponseBody>, Reason> {
        let start = Instant::now();
        let caller = hyper::upgrade::on(&mut request);
        let (mut parts, body) = request.into_parts();
        let port = self.destination(&mut parts, via).await?;
        let split = port.select(&parts.method, parts.uri.path(), parts.uri.query(), &parts.headers, false)?.clone();
        let drawn = split.draw();
        let chain = Chain::new(&split, drawn.as_ref().ok().map(|(index, _)| *index), &parts.headers);
        if let Some(answer) = chain.answer(&parts, || front(via, &parts, &port)) {
            return Ok(self.answered(&port, &chain, answer, false, start));
        }
        let (_, cluster) = drawn?;
        // A conversation in another protocol is not copied.
        drop(chain.request(&mut parts)?);
        let mut booking = booking(cluster.metrics.clone(), start);
        let body = match http_body::Body::is_end_stream(&body) {
            true => RequestBody::Empty,
            false => RequestBody::Once(body, cluster.metrics.request_bytes.clone()),
        };
        let exchange = async {
            let reached = tcp::dial_cluster(&port.budget, cluster, &self.dialer).await?;
            upgrade::send(reached, Request::from_parts(parts, body), protocol.clone()).await
        };
        let limit = split.rule.as_ref().and_then(|rule| rule.request_timeout);
        let answered = match limit {
            None => exchange.await,
            Some(limit) => tokio::time::timeout(limit, exchange).await.unwrap_or(Err(Reason::Timeout)),
        };
        let (mut answer, in_flight, metrics) =
            answered.inspect_err(|reason| booking.code = reason.status().as_u16())?;
        booking.code = answer.status().as_u16();
        if !upgrade::agreed(&answer) {
            booking._in_flight = Some(in_flight);
            let (mut parts, body) = answer.into_parts();
            headers::strip_hop_by_hop(&mut parts.headers);
            chain.response(&mut parts.headers);
            return Ok(Response::from_parts(parts, ResponseBody::upstream(body, booking)));
        }
        let protocol = answer.headers().get(header::UPGRADE).cloned().unwrap_or(protocol);
        let (app, guard) = (hyper::upgrade::on(&mut answer), self.drain.guard());
        tokio::task::spawn_local(Tunnel { caller, app, metrics, in_flight, guard }.run());
        let mut response = Response::from_parts(answer.into_parts().0, ResponseBody::empty());
        headers::strip_hop_by_hop(response.headers_mut());
        chain.response(response.headers_mut());
        upgrade::say(response.headers_mut(), protocol);
        Ok(response)
    }
}

/// The authority of a request, which from now on stands in its URI alone. Absolute-form wins over Host (RFC 9112, 3.2.2).
fn normalise(parts: &mut request::Parts, via: &Via) -> Result<uri::Authority, Reason> {
    if parts.method == http::Method::CONNECT || parts.uri.scheme_str().is_some_and(|s| s != "http" && s != "https") {
        return Err(Reason::BadRequest);
    }
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = hosts.next();
    // Two readers could take one of two hosts each.
    if hosts.next().is_some() {
        return Err(Reason::BadAuthority);
    }
    let authority = match (parts.uri.authority(), host) {
        (Some(authority), _) => authority.clone(),
        (None, Some(host)) if !host.is_empty() => {
            uri::Authority::try_from(host.as_bytes()).map_err(|_| Reason::BadAuthority)?
        }
        (None, None) if parts.version != Version::HTTP_10 => return Err(Reason::BadAuthority),
        (None, _) => via.authority().ok_or(Reason::BadAuthority)?,
    };
    if authority.as_str().contains('@') {
        return Err(Reason::BadAuthority);
    }
    let plain_http = parts.uri.scheme() == Some(&uri::Scheme::HTTP) && parts.uri.authority().is_some();
    if !plain_http {
        let mut uri = std::mem::take(&mut parts.uri).into_parts();
        uri.scheme = Some(uri::Scheme::HTTP);
        uri.authority = Some(authority.clone());
        uri.path_and_query.get_or_insert(uri::PathAndQuery::from_static("/"));
        parts.uri = Uri::from_parts(uri).map_err(|_| Reason::BadRequest)?;
    }
    parts.headers.remove(header::HOST);
    headers::strip_hop_by_hop(&mut parts.headers);
    parts.version = Version::HTTP_2;
    Ok(authority)
}

/// A request of the local app is plain, and came to the port that it names, else to its destination's. One of a Gateway's client
/// came to the listener's port, whatever it names: there may be a port forwarded in between.
fn front(via: &Via, parts: &request::Parts, port: &LocalPort) -> Front {
    if let Via::Gateway(edge) = via {
        return edge.front();
    }
    Front { scheme: uri::Scheme::HTTP, port: parts.uri.port_u16().unwrap_or(port.number) }
}

/// What is spoken to the app: what its Service says, else what the caller speaks. gRPC needs HTTP/2 whatever was said.
pub(super) fn app_http(protocol: AppProtocol, downstream: Version, grpc: bool) -> AppHttp {
    let h2 = downstream == Version::HTTP_2;
    match protocol {
        AppProtocol::Http2 => AppHttp::H2,
        AppProtocol::Http1 if grpc && h2 => AppHttp::H2,
        AppProtocol::Http1 => AppHttp::H1,
        AppProtocol::Detect | AppProtocol::Tcp if h2 => AppHttp::H2,
        AppProtocol::Detect | AppProtocol::Tcp => AppHttp::H1,
    }
}

/// Until there is an answer it says that the caller gave up, as nginx and others write it.
fn booking(metrics: Rc<ServiceMetrics>, start: Instant) -> Booking {
    Booking { metrics, code: GIVEN_UP, start, _in_flight: None, connection: None }
}

fn booked(answer: Answer, in_flight: InFlight, mut booking: Booking) -> Response<ResponseBody> {
    let (mut parts, body) = answer.response.into_parts();
    if answer.connection.is_some() {
        headers::strip_hop_by_hop(&mut parts.headers);
    }
    booking.code = parts.status.as_u16();
    booking._in_flight = Some(in_flight);
    booking.connection = answer.connection;
    Response::from_parts(parts, ResponseBody::upstream(body, booking))
}
