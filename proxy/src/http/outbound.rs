//! From the local app to the mesh: the order of layers of a request, and its attempts.

#[cfg(test)]
mod tests;
mod upgrading;

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use http::{HeaderMap, Request, Response, Uri, Version, header, request, uri};
use hyper::body::Incoming;
use leno_runtime::drain::DrainWatch;
use tokio::time::Instant;

use super::account::Account;
use super::attempt::Answer;
use super::body::{Booking, Limit, ResponseBody};
use super::edge::{self, Edge};
use super::exchange::{Body, Exchange};
use super::filters::{self, Chain, Front, Mirrors};
use super::tie::{self, Tie};
use super::{failing, headers, respond, upgrade};
use crate::error::Reason;
use crate::model::{AppProtocol, Demand};
use crate::resilience::deadline::{self, Deadline};
use crate::resilience::retry::ATTEMPTS_HEADER;
use crate::resilience::tap::Taps;
use crate::routing::{LocalPort, Router, ServiceAddress, Split};
use crate::telemetry::{Direction, Metrics, Observer, Story};
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

    /// Takes away what only sidecars say to each other, before anybody reads it.
    fn distrust(&self, headers: &mut HeaderMap) {
        if let Self::Gateway(_) = self {
            edge::distrust(headers);
        }
    }

    /// What an app is taken to speak whose Service does not say it: what its caller speaks, who knows it. A Gateway's client knows
    /// nothing of the app, and HTTP/1.1 is what every app has (GEP-1911); gRPC needs HTTP/2.
    fn spoken(&self, by_caller: Version, grpc: bool) -> Version {
        match self {
            Self::Gateway(_) if !grpc => Version::HTTP_11,
            _ => by_caller,
        }
    }
}

/// What serves the local app's requests, for one worker.
#[derive(Debug)]
pub struct Outbound {
    router: Rc<Router>,
    dialer: SharedDialer,
    metrics: Rc<Metrics>,
    mirrors: Mirrors,
    /// What becomes known of requests.
    observer: Observer,
    /// Upgraded connections outlive their requests, and the drain waits for them.
    drain: DrainWatch,
}

impl Outbound {
    /// Serves by these routes.
    pub fn new(
        router: Rc<Router>,
        dialer: SharedDialer,
        metrics: Rc<Metrics>,
        observer: Observer,
        drain: DrainWatch,
    ) -> Self {
        let mirrors = Mirrors::new(dialer.clone());
        Self { router, dialer, metrics, mirrors, observer, drain }
    }

    /// Answers a request, whatever happens. `source` is the address of whoever sent it. It owns what it needs, so that nobody has to wrap
    /// it in a future of his own, which would be moved about as well.
    pub async fn handle_from(
        self: Rc<Self>,
        via: Via,
        source: Option<IpAddr>,
        mut request: Request<Incoming>,
    ) -> Response<ResponseBody> {
        let grpc = headers::is_grpc(request.headers());
        let version = request.version();
        via.distrust(request.headers_mut());
        let mut account = Account::outbound(&request, &self.observer);
        let served = match upgrade::asked(&request) {
            None => self.serve(&via, source, request, grpc, &mut account).await,
            // Boxed, as every way that is rarely taken.
            Some(protocol) => Box::pin(self.upgrade(&via, source, request, protocol, &mut account)).await,
        };
        let mut response = match served {
            Ok(response) => response,
            Err(reason) => failing::answer(&self.metrics, reason, grpc, "", 0),
        };
        account.end(&mut response);
        if version != Version::HTTP_2 {
            *response.version_mut() = Version::HTTP_11;
        }
        response
    }

    /// The answer to a request of a connection that is refused as a whole.
    pub fn refuse(&self, request: &Request<Incoming>, reason: Reason) -> Response<ResponseBody> {
        let mut response = failing::answer(&self.metrics, reason, headers::is_grpc(request.headers()), "", 0);
        Account::refused(request, &self.observer, Direction::Outbound).end(&mut response);
        response
    }

    /// The layers, outermost first.
    async fn serve(
        &self,
        via: &Via,
        source: Option<IpAddr>,
        request: Request<Incoming>,
        grpc: bool,
        account: &mut Account<'_>,
    ) -> Result<Response<ResponseBody>, Reason> {
        let start = account.start;
        let (mut parts, body) = request.into_parts();
        let downstream = via.spoken(parts.version, grpc);

        let left = deadline::left(&parts.headers, grpc);
        if left.is_some_and(|left| left.is_zero()) {
            return Err(Reason::DeadlineExpired);
        }

        // 1. Which destination: everything below depends on what is configured for it.
        let port = self.destination(&mut parts, via, &mut account.story).await?;
        account.port = Some(port.clone());

        // 2. Which rule, then which backend: matches read the request as the app sent it, before any filter.
        let split = port.rule(&mut parts, grpc)?.clone();
        account.split = Some(split.clone());
        let tied = tie::tie(&split, &parts, source);
        let chain = Chain::new(&split, tied.as_ref().ok().map(|tie| tie.index), &parts.headers);

        // 3. Filters that answer themselves, and those on the request: the rule's, then the backend's.
        if let Some(answer) = chain.answer(&parts, || front(via, &parts, &port)) {
            if matches!(&answer, Ok(answer) if answer.status().is_redirection()) {
                self.mirror_only(&chain, &split, &port, Request::from_parts(parts, body), (downstream, grpc));
            }
            return Ok(self.answered(&port, &chain, answer, grpc, start));
        }
        let Tie { cluster, choice, promise, .. } = match tied {
            Ok(tie) => tie,
            Err(reason) => return Ok(self.answered(&port, &chain, Err(reason), grpc, start)),
        };
        account.cluster = Some(cluster.clone());
        let copies = chain.request(&mut parts)?;

        // 4. From here on it is booked, also when the caller gives up.
        let (rule, policy) = (split.rule.as_deref(), cluster.policy());
        let resilience = rule.map_or(&policy.resilience, |rule| &rule.resilience);
        account.observe(&resilience.observe, &mut parts.headers);
        let mut booking = Booking::new(cluster.metrics.clone(), start);
        let taps = match copies.is_empty() {
            true => Taps::default(),
            false => self.mirrors.send(copies, &split, &body, downstream, grpc),
        };

        // 5. Faults on purpose; the attempts, all within one deadline.
        let deadline = Deadline::new(rule.and_then(|rule| rule.request_timeout), left, start);
        let faults = &resilience.faults;
        if !faults.is_empty()
            && let Some(aborted) =
                Box::pin(failing::inject(&self.metrics, faults, &parts.headers, grpc, deadline)).await
        {
            return Ok(booking.of_own(aborted));
        }
        let mut exchange = Exchange {
            dialer: &self.dialer,
            policy: policy.clone(),
            grpc,
            deadline,
            attempts: 0,
            seen: false,
            whole: None,
            pending: false,
            port: &port,
            split: &split,
            cluster,
            choice,
            began: Cell::new(None),
            sent_after: Duration::ZERO,
            stages: Cell::default(),
            denied: Cell::default(),
            app: app_http(cluster.shared().protocol, downstream, grpc),
            parts,
            body: Body::new(body, &cluster.metrics, taps),
            story: &mut account.story,
            start,
        };
        let answered = match cluster.breaker.request(&policy.circuit_breaker) {
            Ok(open) => {
                booking._open = Some(open);
                exchange.run().await
            }
            Err(reason) => Err(reason),
        };

        // 6. Filters on the answer, and the booking that ends with its body.
        let mut response = match answered {
            Ok((answer, in_flight)) => {
                let endpoint = in_flight.endpoint().clone();
                account.answered_by = Some(endpoint.clone());
                let mut response = booked(answer, in_flight, booking);
                if let Some(at) = exchange.whole {
                    let judge = exchange.pending.then(|| (cluster.clone(), endpoint.clone()));
                    let limit = || Limit::new(at, exchange.late(), grpc, &self.metrics).judging(judge);
                    response = response.map(|body| body.limited(limit));
                }
                chain.response(response.headers_mut());
                if let Some(promise) = promise {
                    promise.keep(response.headers_mut(), endpoint.id);
                }
                response
            }
            Err(reason) => {
                let service = &cluster.shared().service;
                let mut response = failing::answer(&self.metrics, reason, grpc, service, exchange.attempts);
                chain.share(response.headers_mut());
                if exchange.seen {
                    respond::seen_before(response.headers_mut());
                }
                booking.of_own(response)
            }
        };
        account.attempts = exchange.attempts;
        let denied = exchange.denied.get();
        (account.sent_after, account.stages) = (exchange.sent_after, exchange.stages.get());
        if exchange.attempts > 1 {
            response.headers_mut().insert(ATTEMPTS_HEADER, http::HeaderValue::from(exchange.attempts));
        }
        account.story.retry_denied = denied;
        Ok(response)
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
                let mut response = failing::answer(&self.metrics, reason, grpc, "", 0);
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
    fn mirror_only(
        &self,
        chain: &Chain<'_>,
        split: &Split,
        port: &LocalPort,
        request: Request<Incoming>,
        (downstream, grpc): (Version, bool),
    ) {
        let (mut parts, body) = request.into_parts();
        let metrics = port.metrics().or(split.mirrored());
        let (Ok(copies), Some(metrics)) = (chain.request(&mut parts), metrics) else { return };
        if !copies.is_empty() {
            let taps = self.mirrors.send(copies, split, &body, downstream, grpc);
            tokio::task::spawn_local(filters::drain(Body::new(body, metrics, taps).attempt()));
        }
    }

    async fn destination(
        &self,
        parts: &mut request::Parts,
        via: &Via,
        story: &mut Story,
    ) -> Result<Rc<LocalPort>, Reason> {
        let authority = normalise(parts, via)?;
        story.uri = parts.uri.clone();
        match via {
            Via::Proxy => self.router.by_authority(authority.as_str()).await,
            Via::Upstream(address) => self.router.by_address(address).await,
            Via::Gateway(edge) => {
                edge.forwarded(parts, &authority);
                self.router.by_edge(&edge.address, &edge::host(&authority))
            }
        }
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
