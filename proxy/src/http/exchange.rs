//! A request and its attempts: which endpoint gets it, whether it is tried again, and within what time.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, request};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::attempt::{self, Answer};
use super::respond;
use crate::error::Reason;
use crate::model::fields;
use crate::model::{Policy, Retry};
use crate::resilience::breaker::Permit;
use crate::resilience::deadline::{self, Deadline};
use crate::resilience::outlier::Verdict;
use crate::resilience::replay::{Replay, RequestBody};
use crate::resilience::retry::{self, Answered, Outcome};
use crate::resilience::tap::Taps;
use crate::routing::{LocalPort, Split};
use crate::telemetry::memory::ID_HEADER;
use crate::telemetry::record::Stages;
use crate::telemetry::{ServiceMetrics, Story, TryOutcome};
use crate::tls::port_name::AppHttp;
use crate::upstream::{Choice, InFlight, LocalCluster, LocalEndpoint, SharedDialer};

/// The request's body between attempts.
pub(super) enum Body {
    Empty,
    Replay(Replay),
}

impl Body {
    /// What passes is copied to the taps too.
    pub(super) fn new(body: Incoming, metrics: &ServiceMetrics, taps: Taps) -> Self {
        if http_body::Body::is_end_stream(&body) {
            Self::Empty
        } else {
            Self::Replay(Replay::tapped(body, metrics.request_bytes.clone(), taps))
        }
    }

    pub(super) fn attempt(&self) -> RequestBody {
        match self {
            Self::Empty => RequestBody::Empty,
            Self::Replay(replay) => RequestBody::Repeatable(replay.attempt()),
        }
    }

    /// For an attempt beside another one, which goes on. None: not all of it is here, or it is too long to be kept.
    fn beside(&self) -> Option<RequestBody> {
        match self {
            Self::Empty => Some(RequestBody::Empty),
            Self::Replay(replay) => replay.beside().map(RequestBody::Repeatable),
        }
    }

    fn is_repeatable(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Replay(replay) => replay.is_repeatable(),
        }
    }

    fn is_broken_off(&self) -> bool {
        matches!(self, Self::Replay(replay) if replay.is_broken_off())
    }
}

/// What became of an attempt.
type Attempted = Result<Answer, Reason>;
/// An attempt that has ended, and at which endpoint.
type Once = (Attempted, Rc<LocalEndpoint>, InFlight);

/// A request and its attempts.
pub(super) struct Exchange<'a> {
    pub(super) dialer: &'a SharedDialer,
    pub(super) port: &'a LocalPort,
    pub(super) split: &'a Split,
    pub(super) cluster: &'a Rc<LocalCluster>,
    /// What ties the request to an endpoint.
    pub(super) choice: Choice,
    /// When the last attempt began, where somebody wants to know.
    pub(super) began: Cell<Option<Instant>>,
    /// Until when the last attempt was not begun, and what it waited for.
    pub(super) sent_after: Duration,
    pub(super) stages: Cell<Stages>,
    /// Another attempt would have been made, and was not granted.
    pub(super) denied: Cell<bool>,
    pub(super) policy: Arc<Policy>,
    pub(super) app: AppHttp,
    pub(super) grpc: bool,
    pub(super) parts: request::Parts,
    pub(super) body: Body,
    /// What is told of it, should it fail.
    pub(super) story: &'a mut Story,
    /// When the request began.
    pub(super) start: Instant,
    pub(super) deadline: Deadline,
    /// Attempts that were made.
    pub(super) attempts: u32,
    /// An app may have seen one of them.
    pub(super) seen: bool,
    /// When the answer to the last one has to be whole.
    pub(super) whole: Option<Instant>,
    /// What that says of its endpoint is known only then.
    pub(super) pending: bool,
}

/// What holds for all attempts of one request.
struct Rules {
    retry: Retries,
    /// Until an attempt's answer is whole.
    attempt: Option<Duration>,
    hedge: Option<Duration>,
}

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// What of the retry policy depends on the request.
struct Retries {
    most: u32,
    repeatable: bool,
    /// The caller's own sidecar retries it already.
    nested: bool,
    /// Which attempt of the chain the first one of ours is.
    first: u32,
}

impl Exchange<'_> {
    /// The answer to the last attempt, all within one deadline.
    pub(super) async fn run(&mut self) -> Result<(Answer, InFlight), Reason> {
        self.port.budget(self.cluster).request();
        let rules = self.rules();
        let mut tried: Vec<Rc<LocalEndpoint>> = Vec::new();
        let mut retrying: Option<Permit> = None;
        loop {
            let (result, endpoint, in_flight) = self.once(&rules, &tried).await?;
            self.attempts += 1;
            drop(retrying.take());
            // What the caller did is not held against the endpoint.
            if result.is_err() && self.body.is_broken_off() {
                return Err(Reason::DownstreamReset);
            }
            if matches!(result, Err(Reason::Timeout)) && self.deadline.callers && self.is_over() {
                self.seen = true;
                return Err(self.deadline.reason());
            }
            let outcome = outcome(&result);
            if !is_well(outcome) {
                self.remember(&endpoint, outcome, &result);
            }
            self.seen |= !unseen(outcome);
            let again = self.may_retry(&rules.retry, &result, outcome);
            self.pending = again.is_none() && self.whole.is_some() && is_pending(&result);
            self.fared(&endpoint, outcome);
            let Some((pause, permit)) = again else { return result.map(|answer| (answer, in_flight)) };
            // The answer that nobody will read goes now, so that its connection or stream is free.
            drop((result, in_flight));
            retrying = Some(permit);
            self.cluster.metrics.retries.inc();
            tried.push(endpoint);
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            self.sent_after = self.start.elapsed();
        }
    }

    /// It has a number from now on: that of who failed it, if he said one.
    fn remember(&mut self, endpoint: &LocalEndpoint, outcome: Outcome, result: &Attempted) {
        match result {
            Ok(answer) => self.story.number(answer.response.headers()),
            Err(_) => self.story.number(&HeaderMap::new()),
        };
        let came_of_it = match outcome {
            Outcome::Failed(reason) => TryOutcome::Failed(reason),
            Outcome::Answered(answered) => match answered.reason {
                Some(reason) => TryOutcome::Failed(reason),
                None => TryOutcome::Answered(answered.status),
            },
        };
        let of = &endpoint.endpoint;
        self.story.tried(&of.workload, of.address, came_of_it, self.start.elapsed());
    }

    /// One attempt, not at an endpoint that was tried while there is another.
    async fn once(&mut self, rules: &Rules, tried: &[Rc<LocalEndpoint>]) -> Result<Once, Reason> {
        let endpoint = self.cluster.pick(&self.choice, tried).ok_or(Reason::NoEndpoints)?;
        let in_flight = endpoint.begin();
        self.began.set(self.cluster.clock());
        let from_now = |limit: Option<Duration>| limit.and_then(|limit| Instant::now().checked_add(limit));
        self.whole = earlier(from_now(rules.attempt), self.deadline.at);
        let limit = self.whole;
        self.prepare(rules, limit);
        if let Some(delay) = rules.hedge.filter(|_| tried.is_empty()) {
            // Boxed, as every way that is rarely taken.
            return Ok(Box::pin(self.hedged(delay, limit, endpoint, in_flight)).await);
        }
        let last = self.attempts >= rules.retry.most;
        let mut request = Some(self.request(last));
        Ok((self.send(&endpoint, &mut request, limit).await, endpoint, in_flight))
    }

    /// What the attempt tells of its endpoint. An answer that has to be whole in time is no success before it is.
    fn fared(&self, endpoint: &LocalEndpoint, outcome: Outcome) {
        if !self.tells_of_the_endpoint(outcome) {
            return;
        }
        let (verdict, began) = (verdict(outcome), self.began.get());
        match verdict == Verdict::Good && self.pending {
            true => self.cluster.answers(endpoint, began),
            false => self.cluster.record(endpoint, verdict, began),
        }
    }

    /// A limit of our own, a caller's impatience, or an app that is well but busy is not held against an endpoint.
    fn tells_of_the_endpoint(&self, outcome: Outcome) -> bool {
        let reason = match outcome {
            Outcome::Failed(reason) => Some(reason),
            Outcome::Answered(answered) => answered.reason,
        };
        match reason {
            Some(Reason::Overloaded | Reason::AppOverloaded | Reason::DeadlineExpired | Reason::Denied) => false,
            Some(Reason::DeadlineExceeded) => !self.deadline.callers,
            _ => true,
        }
    }

    /// An attempt beside another one has failed. Its time is not known.
    fn told(&self, endpoint: &LocalEndpoint, outcome: Outcome) {
        if self.tells_of_the_endpoint(outcome) {
            self.cluster.record(endpoint, verdict(outcome), None);
        }
    }

    /// Why an answer that is not whole in time breaks off.
    pub(super) fn late(&self) -> Reason {
        if self.whole == self.deadline.at { self.deadline.reason() } else { Reason::Timeout }
    }

    fn is_over(&self) -> bool {
        self.deadline.at.is_some_and(|at| Instant::now() >= at)
    }

    fn retry(&self) -> &Retry {
        self.split.rule.as_deref().and_then(|rule| rule.retry.as_ref()).unwrap_or(&self.policy.retry)
    }

    fn rules(&self) -> Rules {
        let (rule, retry) = (self.split.rule.as_deref(), self.retry());
        let (method, headers) = (&self.parts.method, &self.parts.headers);
        let first = retry::attempt_of(headers);
        let nested = first > 1;
        let hedge = rule.map_or(self.policy.resilience.hedge, |rule| rule.resilience.hedge);
        // Only what is idempotent by its method: the app does it twice for certain.
        let hedged = hedge.is_some() && !nested && retry::idempotent(method);
        Rules {
            attempt: shorter(retry.per_try_timeout, rule.and_then(|rule| rule.backend_request_timeout)),
            hedge: hedge.filter(|_| hedged),
            retry: Retries {
                // An inner hop's share of what the outer one repeats already.
                most: if nested { retry.attempts.min(1) } else { retry.attempts },
                repeatable: retry::repeatable(retry, method, headers),
                nested,
                first,
            },
        }
    }

    /// What the next hop is told: which attempt this is, and how much time is left.
    fn prepare(&mut self, rules: &Rules, limit: Option<Instant>) {
        let number = rules.retry.first.saturating_add(self.attempts);
        if self.attempts > 0 {
            self.parts.headers.insert(retry::ATTEMPT_HEADER, HeaderValue::from(number));
            if let Some(id) = self.story.id {
                self.parts.headers.insert(ID_HEADER, id.value());
            }
        }
        if let Some(limit) = limit {
            let left = limit.saturating_duration_since(Instant::now());
            deadline::tell(&mut self.parts.headers, self.grpc, left);
        }
    }

    fn request(&mut self, last: bool) -> Request<RequestBody> {
        let parts = if last { take(&mut self.parts) } else { self.parts.clone() };
        Request::from_parts(parts, self.body.attempt())
    }

    async fn send(
        &self,
        endpoint: &LocalEndpoint,
        request: &mut Option<Request<RequestBody>>,
        limit: Option<Instant>,
    ) -> Attempted {
        let breaker = &self.cluster.breaker;
        // Boxed: the futures around it are moved into one another for each request, and would all be as large as this one.
        let sent =
            Box::pin(attempt::send(self.dialer, endpoint, &self.policy, breaker, self.app, request, &self.stages));
        match limit {
            None => sent.await,
            Some(limit) => tokio::time::timeout_at(limit, sent).await.unwrap_or(Err(Reason::Timeout)),
        }
    }

    /// An attempt, and after a while without an answer a second one at another endpoint beside it, if the budget grants it. The
    /// first answer that is none of a failure is taken; the other attempt is broken off.
    async fn hedged(
        &mut self,
        delay: Duration,
        limit: Option<Instant>,
        endpoint: Rc<LocalEndpoint>,
        in_flight: InFlight,
    ) -> Once {
        let mut first = Some(self.request(false));
        let this = &*self;
        let slow = endpoint.clone();
        let mut one = std::pin::pin!(this.send(&slow, &mut first, limit));
        let early = tokio::select! {
            biased;
            result = &mut one => Some(result),
            () = tokio::time::sleep(delay) => None,
        };
        if let Some(result) = early {
            return (result, endpoint, in_flight);
        }
        let choice = Choice { key: this.choice.key, pin: None };
        let other =
            this.cluster.pick(&choice, std::slice::from_ref(&endpoint)).filter(|other| !Rc::ptr_eq(other, &endpoint));
        let (Some(other), Some(body)) = (other, this.body.beside()) else { return (one.await, endpoint, in_flight) };
        let Some(_permit) = this.grant() else { return (one.await, endpoint, in_flight) };
        let mut second = Some(Request::from_parts(this.parts.clone(), body));
        this.cluster.metrics.hedges();
        let other_in_flight = other.begin();
        let beside = other.clone();
        let mut two = std::pin::pin!(this.send(&beside, &mut second, limit));
        let (first_done, result) = tokio::select! {
            biased;
            result = &mut one => (true, result),
            result = &mut two => (false, result),
        };
        let outcome = outcome(&result);
        let good = verdict(outcome) == Verdict::Good;
        if !first_done || !good {
            // The time that counts from now on is not that of one attempt.
            this.began.set(None);
        }
        match (first_done, good) {
            (true, true) => (result, endpoint, in_flight),
            (false, true) => (result, other, other_in_flight),
            // One failed: the endpoint is told, and the other attempt goes on.
            (true, false) => {
                this.told(&endpoint, outcome);
                (two.await, other, other_in_flight)
            }
            (false, false) => {
                this.told(&other, outcome);
                (one.await, endpoint, in_flight)
            }
        }
    }

    /// How long to wait before the next attempt. None: there is none.
    fn may_retry(&self, retries: &Retries, result: &Attempted, outcome: Outcome) -> Option<(Duration, Permit)> {
        let policy = self.retry();
        if self.attempts > retries.most
            || !retry::retryable(policy, retries.repeatable, retries.nested, outcome)
            || !self.body.is_repeatable()
        {
            return None;
        }
        let mut pause = retry::backoff(policy, self.attempts, fastrand::f64());
        if let Some(asked) = result.as_ref().ok().and_then(|answer| retry::retry_after(answer.response.headers())) {
            if asked > policy.most_retry_after {
                return None;
            }
            pause = pause.max(asked);
        }
        if self.deadline.at.is_some_and(|deadline| Instant::now() + pause >= deadline) {
            return None;
        }
        Some((pause, self.grant()?))
    }

    /// One attempt more, by the budget and the circuit breaker.
    fn grant(&self) -> Option<Permit> {
        let permit = self.cluster.breaker.retry(&self.policy.circuit_breaker).ok();
        let granted = permit.filter(|_| self.port.budget(self.cluster).withdraw(Instant::now()));
        if granted.is_none() {
            self.denied.set(true);
            self.cluster.metrics.retries_denied.inc();
        }
        granted
    }
}

/// Of two limits of an attempt.
pub(super) fn shorter(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.into_iter().chain(other).min()
}

/// Whether there is an answer of which more is to come, and that is none of a failure.
fn is_pending(result: &Attempted) -> bool {
    result.as_ref().is_ok_and(|answer| {
        let good = Verdict::of_status(answer.response.status().as_u16()) == Verdict::Good;
        good && !http_body::Body::is_end_stream(answer.response.body())
    })
}

/// Of two times that something has to be done by.
pub(super) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

fn outcome(result: &Attempted) -> Outcome {
    match result {
        Ok(answer) => Outcome::Answered(answered(&answer.response)),
        Err(reason) => Outcome::Failed(*reason),
    }
}

/// Whether there is nothing to be told of it.
fn is_well(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Answered(answered) if answered.status < 500 && answered.reason.is_none())
}

/// What an attempt says of its endpoint.
fn verdict(outcome: Outcome) -> Verdict {
    match outcome {
        Outcome::Answered(answered) => Verdict::of_status(answered.status),
        Outcome::Failed(_) => Verdict::Gateway,
    }
}

fn answered(response: &Response<Incoming>) -> Answered {
    let grpc_status =
        fields::find(response.headers(), &GRPC_STATUS).and_then(|status| status.to_str().ok()?.parse().ok());
    Answered { status: response.status().as_u16(), reason: respond::reason_of(response), grpc_status }
}

fn unseen(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Failed(reason) => reason.unseen(),
        Outcome::Answered(answered) => answered.reason.is_some_and(Reason::unseen),
    }
}

/// The parts for the last attempt, without a copy.
fn take(parts: &mut request::Parts) -> request::Parts {
    let mut empty = Request::new(()).into_parts().0;
    // The method is still asked for by whoever looks at the outcome.
    empty.method = parts.method.clone();
    std::mem::replace(parts, empty)
}
