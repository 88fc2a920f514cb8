//! The same layers for a request that asks to go on in another protocol. An endpoint that cannot be reached is replaced by another
//! one; once the request was sent there is but this attempt. Until the app has agreed it is a request like any other: it has
//! its deadline, and faults hold for it. From the 101 on nothing does, and a conversation in another protocol is not copied.

use std::net::IpAddr;
use std::rc::Rc;

use http::{HeaderValue, Request, Response, header, request};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::super::account::Account;
use super::super::body::{Booking, Limit};
use super::super::exchange::{earlier, shorter};
use super::super::filters::Chain;
use super::super::tie::{self, Promise, Tie};
use super::super::upgrade::{self, Caller, Tunnel};
use super::super::{ResponseBody, failing, headers};
use super::{Outbound, Via, front};
use crate::error::Reason;
use crate::resilience::deadline::{self, Deadline};
use crate::resilience::replay::RequestBody;
use crate::routing::LocalPort;
use crate::tcp::{self, Held};
use crate::telemetry::ServiceMetrics;
use crate::tls::Watched;
use crate::upstream::{Choice, LocalCluster};

/// A request on its way.
struct Wish<'a> {
    port: &'a LocalPort,
    cluster: &'a Rc<LocalCluster>,
    choice: Choice,
    protocol: HeaderValue,
    deadline: Deadline,
    /// When the app has to have answered.
    until: Option<Instant>,
}

/// What the app said, and what is held meanwhile.
type Said = (Response<Incoming>, Held, Rc<ServiceMetrics>, Option<Watched>);

impl Outbound {
    pub(super) async fn upgrade(
        &self,
        via: &Via,
        source: Option<IpAddr>,
        mut request: Request<Incoming>,
        protocol: HeaderValue,
        account: &mut Account<'_>,
    ) -> Result<Response<ResponseBody>, Reason> {
        let start = account.start;
        let caller = hyper::upgrade::on(&mut request);
        let (mut parts, body) = request.into_parts();
        let streamed = upgrade::as_http1(&mut parts, &protocol);
        let left = deadline::left(&parts.headers, false);
        if left.is_some_and(|left| left.is_zero()) {
            return Err(Reason::DeadlineExpired);
        }
        let port = self.destination(&mut parts, via, &mut account.story).await?;
        account.port = Some(port.clone());
        let split = port.rule(&mut parts, false)?.clone();
        account.split = Some(split.clone());
        let tied = tie::tie(&split, &parts, source);
        let chain = Chain::new(&split, tied.as_ref().ok().map(|tie| tie.index), &parts.headers);
        if let Some(answer) = chain.answer(&parts, || front(via, &parts, &port)) {
            return Ok(self.answered(&port, &chain, answer, false, start));
        }
        let Tie { cluster, choice, promise, .. } = match tied {
            Ok(tie) => tie,
            Err(reason) => return Ok(self.answered(&port, &chain, Err(reason), false, start)),
        };
        account.cluster = Some(cluster.clone());
        drop(chain.request(&mut parts)?);
        let (rule, policy) = (split.rule.as_deref(), cluster.policy());
        let resilience = rule.map_or(&policy.resilience, |rule| &rule.resilience);
        account.observe(&resilience.observe, &mut parts.headers);
        let mut booking = Booking::new(cluster.metrics.clone(), start);

        let deadline = Deadline::new(rule.and_then(|rule| rule.request_timeout), left, start);
        let faults = &resilience.faults;
        if let Some(aborted) = failing::inject(&self.metrics, faults, &parts.headers, false, deadline).await {
            return Ok(booking.of_own(aborted));
        }
        let retry = rule.and_then(|rule| rule.retry.as_ref()).unwrap_or(&policy.retry);
        let attempt = shorter(retry.per_try_timeout, rule.and_then(|rule| rule.backend_request_timeout));
        let until = earlier(attempt.and_then(|limit| Instant::now().checked_add(limit)), deadline.at);
        let wish = Wish { port: &port, cluster, choice, protocol, deadline, until };
        let mut said = self.ask(&wish, parts, body).await;
        if let (Ok((answer, ..)), Some(streamed)) = (&mut said, &streamed)
            && !streamed.fits(answer)
        {
            said = Err(Reason::UpstreamProtocol);
        }
        let (answer, held, metrics, watched) = match said {
            Ok(said) => said,
            Err(reason) => {
                let mut response = failing::answer(&self.metrics, reason, false, &cluster.shared().service, 1);
                chain.share(response.headers_mut());
                return Ok(booking.of_own(response));
            }
        };
        booking.code = answer.status().as_u16();
        if upgrade::agreed(&answer) {
            let caller = match &streamed {
                None => Caller::Connection(caller),
                Some(streamed) => streamed.caller(caller),
            };
            let tunnel = |app| Tunnel { caller, app, metrics, in_flight: held, watched, guard: self.drain.guard() };
            let mut response = go_on(answer, promise, &chain, tunnel, wish.protocol);
            if let Some(streamed) = streamed {
                headers::strip_hop_by_hop(response.headers_mut());
                streamed.say(&mut response);
            }
            return Ok(response);
        }
        Ok(self.declined(answer, held, &wish, promise, &chain, booking))
    }

    /// Until the app's answer has begun.
    async fn ask(&self, wish: &Wish<'_>, mut parts: request::Parts, body: Incoming) -> Result<Said, Reason> {
        if let Some(until) = wish.until {
            let left = until.saturating_duration_since(Instant::now());
            deadline::tell(&mut parts.headers, false, left);
        }
        let body = match http_body::Body::is_end_stream(&body) {
            true => RequestBody::Empty,
            false => RequestBody::Once(body, wish.cluster.metrics.request_bytes.clone()),
        };
        let asked = async {
            let budget = wish.port.budget(wish.cluster);
            let reached = tcp::dial_cluster(&budget, wish.cluster, &wish.choice, &self.dialer).await?;
            upgrade::send(reached, Request::from_parts(parts, body), wish.protocol.clone()).await
        };
        match wish.until {
            None => asked.await,
            Some(until) => tokio::time::timeout_at(until, asked).await.unwrap_or_else(|_| Err(wish.late())),
        }
    }

    /// The app has answered in the protocol that it was asked in.
    fn declined(
        &self,
        answer: Response<Incoming>,
        held: Held,
        wish: &Wish<'_>,
        promise: Option<Box<Promise>>,
        chain: &Chain<'_>,
        mut booking: Booking,
    ) -> Response<ResponseBody> {
        let endpoint = held.0.endpoint().id;
        (booking._in_flight, booking._open) = (Some(held.0), Some(held.1));
        let (mut parts, body) = answer.into_parts();
        headers::strip_hop_by_hop(&mut parts.headers);
        chain.response(&mut parts.headers);
        if let Some(promise) = promise {
            promise.keep(&mut parts.headers, endpoint);
        }
        let mut body = ResponseBody::upstream(body, booking);
        if let Some(at) = wish.until {
            body = body.limited(|| Limit::new(at, wish.late(), false, &self.metrics));
        }
        Response::from_parts(parts, body)
    }
}

impl Wish<'_> {
    fn late(&self) -> Reason {
        if self.until == self.deadline.at { self.deadline.reason() } else { Reason::Timeout }
    }
}

/// The app has agreed: bytes are carried from now on.
fn go_on(
    mut answer: Response<Incoming>,
    promise: Option<Box<Promise>>,
    chain: &Chain<'_>,
    tunnel: impl FnOnce(hyper::upgrade::OnUpgrade) -> Tunnel,
    asked: HeaderValue,
) -> Response<ResponseBody> {
    let protocol = answer.headers().get(header::UPGRADE).cloned().unwrap_or(asked);
    let tunnel = tunnel(hyper::upgrade::on(&mut answer));
    let endpoint = tunnel.in_flight.0.endpoint().id;
    tokio::task::spawn_local(tunnel.run());
    let mut response = Response::from_parts(answer.into_parts().0, ResponseBody::empty());
    headers::strip_hop_by_hop(response.headers_mut());
    chain.response(response.headers_mut());
    if let Some(promise) = promise {
        promise.keep(response.headers_mut(), endpoint);
    }
    upgrade::say(response.headers_mut(), protocol);
    response
}
