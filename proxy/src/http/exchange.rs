//! A request and its attempts: which endpoint gets it, whether it is tried again, and within what time.

use std::rc::Rc;
use std::time::Duration;

use http::{Request, request};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::attempt::{self, Answer};
use super::respond;
use crate::error::Reason;
use crate::model::Retry;
use crate::resilience::replay::{Replay, RequestBody};
use crate::resilience::retry::{self, Outcome};
use crate::resilience::tap::Taps;
use crate::routing::{LocalPort, Split};
use crate::telemetry::ServiceMetrics;
use crate::tls::port_name::AppHttp;
use crate::upstream::{InFlight, LocalCluster, LocalEndpoint, SharedDialer};

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

/// A request and its attempts.
pub(super) struct Exchange<'a> {
    pub(super) dialer: &'a SharedDialer,
    /// What holds where the route says nothing of retries.
    pub(super) default_retry: &'a Retry,
    pub(super) port: &'a LocalPort,
    pub(super) split: &'a Split,
    pub(super) cluster: &'a Rc<LocalCluster>,
    pub(super) app: AppHttp,
    pub(super) parts: request::Parts,
    pub(super) body: Body,
}

impl Exchange<'_> {
    /// The answer to the last attempt, all within one deadline.
    pub(super) async fn run(&mut self, deadline: Option<Instant>) -> Result<(Answer, InFlight), Reason> {
        self.port.budget.request();
        let rule = self.split.rule.as_deref();
        let policy = rule.and_then(|rule| rule.retry.as_ref()).unwrap_or(self.default_retry);
        let per_try = rule.and_then(|rule| rule.backend_request_timeout);
        let mut tried: Vec<Rc<LocalEndpoint>> = Vec::new();
        let mut retries = 0;
        loop {
            let endpoint = self.cluster.pick(&tried).ok_or(Reason::NoEndpoints)?;
            let in_flight = endpoint.begin();
            let limit = per_try.map(|limit| Instant::now() + limit).into_iter().chain(deadline).min();
            let attempt = self.attempt(&endpoint, retries == policy.attempts);
            let result = match limit {
                None => attempt.await,
                Some(limit) => tokio::time::timeout_at(limit, attempt).await.unwrap_or(Err(Reason::Timeout)),
            };
            // What the caller did is not held against the endpoint.
            if result.is_err() && self.body.is_broken_off() {
                return Err(Reason::DownstreamReset);
            }
            let outcome = match &result {
                Ok(answer) => {
                    Outcome::Answered(answer.response.status().as_u16(), respond::reason_of(&answer.response))
                }
                Err(reason) => Outcome::Failed(*reason),
            };
            self.cluster.record(&endpoint, matches!(outcome, Outcome::Answered(code, _) if code < 500));
            let Some(pause) = self.may_retry(policy, retries, outcome, deadline) else {
                return result.map(|answer| (answer, in_flight));
            };
            // The answer that nobody will read goes now, so that its connection or stream is free.
            drop((result, in_flight));
            retries += 1;
            self.cluster.metrics.retries.inc();
            tried.push(endpoint);
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
    }

    async fn attempt(&mut self, endpoint: &LocalEndpoint, last: bool) -> Result<Answer, Reason> {
        let parts = if last { take(&mut self.parts) } else { self.parts.clone() };
        let request = Request::from_parts(parts, self.body.attempt());
        attempt::send(self.dialer, endpoint, &self.cluster.policy(), self.app, request).await
    }

    /// How long to wait before the next attempt. None: there is none.
    fn may_retry(&self, policy: &Retry, retries: u32, outcome: Outcome, deadline: Option<Instant>) -> Option<Duration> {
        if retries >= policy.attempts
            || !retry::retryable(policy, &self.parts.method, outcome)
            || !self.body.is_repeatable()
        {
            return None;
        }
        let pause = retry::backoff(policy, retries + 1, fastrand::f64());
        let now = Instant::now();
        if deadline.is_some_and(|deadline| now + pause >= deadline) {
            return None;
        }
        if !self.port.budget.withdraw(now) {
            self.cluster.metrics.retries_denied.inc();
            return None;
        }
        Some(pause)
    }
}

/// The parts for the last attempt, without a copy.
fn take(parts: &mut request::Parts) -> request::Parts {
    let mut empty = Request::new(()).into_parts().0;
    // The method is still asked for by whoever looks at the outcome.
    empty.method = parts.method.clone();
    std::mem::replace(parts, empty)
}
