//! What stands between peers and the local app: rate limits and adaptive concurrency, as the service's policies say.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use tokio::time::Instant;

use crate::error::Reason;
use crate::model::{HttpMatch, InboundPolicy, RateLimit, RouteKind, lets_plaintext_in};
use crate::resilience::adaptive::{Adaptive, Admitted};
use crate::resilience::rate_limit::{Limiter, Table, Verdict};
use crate::state::Reader;

/// IETF draft-ietf-httpapi-ratelimit-headers.
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The gate of one worker.
#[derive(Debug)]
pub struct Gate {
    /// NAMESPACE/NAME of the service that the sidecar was started for.
    service: String,
    /// By which other services select the local app.
    labels: BTreeMap<String, String>,
    reader: Reader,
    workers: u32,
    limiter: Limiter,
    version: Cell<u64>,
    /// Of every service that the local app is an instance of; a request is counted by each.
    policies: RefCell<Vec<Arc<InboundPolicy>>>,
    adaptive: RefCell<Option<Rc<Adaptive>>>,
}

/// What a request was let in with.
#[derive(Debug, Default)]
pub(super) struct Pass {
    /// Of the limit that has the least left.
    pub(super) rate: Option<Box<Said>>,
    /// Its place at the app.
    pub(super) place: Option<(Rc<Adaptive>, Admitted)>,
}

/// What the header fields say of a rate limit.
#[derive(Debug)]
pub(super) struct Said {
    name: String,
    requests: u32,
    seconds: u32,
    verdict: Verdict,
}

impl Gate {
    /// For one of the workers that share these buckets.
    pub fn new(
        service: String,
        labels: BTreeMap<String, String>,
        reader: Reader,
        rates: Arc<Table>,
        workers: usize,
    ) -> Self {
        Self {
            service,
            labels,
            reader,
            workers: u32::try_from(workers.max(1)).unwrap_or(u32::MAX),
            limiter: Limiter::new(rates),
            // No snapshot has this version, so the first request looks.
            version: Cell::new(u64::MAX),
            policies: RefCell::default(),
            adaptive: RefCell::default(),
        }
    }

    /// Lets a request in, or says why not.
    pub(super) fn enter(
        &self,
        caller: &str,
        request: &Request<impl Sized>,
        grpc: bool,
    ) -> Result<Pass, (Reason, Pass)> {
        if self.version.get() != self.reader.version() {
            self.refresh();
        }
        let policies = self.policies.borrow();
        if policies.is_empty() {
            return Ok(Pass::default());
        }
        let rate = self.rate(&policies, caller, request, grpc);
        if rate.as_ref().is_some_and(|said| !said.verdict.allowed) {
            return Err((Reason::RateLimited, Pass { rate, place: None }));
        }
        let Some(adaptive) = &*self.adaptive.borrow() else { return Ok(Pass { rate, place: None }) };
        match adaptive.admit(Instant::now()) {
            Some(admitted) => Ok(Pass { rate, place: Some((adaptive.clone(), admitted)) }),
            None => Err((Reason::AppOverloaded, Pass { rate, place: None })),
        }
    }

    /// Lets in a connection whose requests nobody can count.
    pub(super) fn open(&self, caller: &str) -> Result<(), Reason> {
        if self.version.get() != self.reader.version() {
            self.refresh();
        }
        let policies = self.policies.borrow();
        let mut limits = policies.iter().flat_map(|policy| &policy.rate_limits);
        if limits.all(|limit| self.limiter.take(limit, caller).allowed) { Ok(()) } else { Err(Reason::RateLimited) }
    }

    /// Whether plaintext from outside of the mesh is let in to a port of the app.
    pub(super) fn lets_plaintext_in(&self, port: u16) -> bool {
        if self.version.get() != self.reader.version() {
            self.refresh();
        }
        let namespace = self.reader.current().posture.permissive;
        lets_plaintext_in(self.policies.borrow().iter().map(|policy| &**policy), port, namespace)
    }

    /// Comes back when it is not.
    pub(super) async fn until_strict(&self, port: u16) {
        loop {
            let seen = self.reader.version();
            if !self.lets_plaintext_in(port) {
                return;
            }
            self.reader.changed(seen).await;
        }
    }

    fn refresh(&self) {
        self.version.set(self.reader.version());
        let all = self.reader.current().posture.clone();
        let mut newer: Vec<_> =
            all.inbound.values().filter(|policy| policy.is_for(&self.service, &self.labels)).cloned().collect();
        // The app has one limit of requests at once: that of the service that the sidecar was started for goes first.
        newer.sort_by_key(|policy| !policy.is_for(&self.service, &BTreeMap::new()));
        if *self.policies.borrow() == newer {
            return;
        }
        self.limiter.forget();
        let bounds = newer.iter().find_map(|policy| policy.adaptive).map(|mut bounds| {
            bounds.least = bounds.least.div_ceil(self.workers);
            bounds.most = bounds.most.div_ceil(self.workers);
            bounds
        });
        // What was learned of the app stays while its bounds do.
        let mut adaptive = self.adaptive.borrow_mut();
        let kept = adaptive.take().filter(|known| bounds.is_some_and(|bounds| known.is(bounds)));
        *adaptive = kept.or_else(|| bounds.map(|bounds| Rc::new(Adaptive::new(bounds, Instant::now()))));
        *self.policies.borrow_mut() = newer;
    }

    /// Asks every limit that the request falls under. Those before the one that refuses have been charged: a caller that is above
    /// one limit gets no nearer to another for free.
    fn rate(
        &self,
        policies: &[Arc<InboundPolicy>],
        caller: &str,
        request: &Request<impl Sized>,
        grpc: bool,
    ) -> Option<Box<Said>> {
        let (method, uri) = (request.method(), request.uri());
        let holds = |(kind, matches, _): &&(RouteKind, HttpMatch, Arc<Vec<RateLimit>>)| {
            (grpc || *kind == RouteKind::Http) && matches.holds(method, uri.path(), uri.query(), request.headers())
        };
        let limits = policies.iter().flat_map(|policy| {
            let of_rule = policy.rules.iter().find(holds).into_iter().flat_map(|(_, _, limits)| limits.iter());
            of_rule.chain(&policy.rate_limits)
        });
        let mut least: Option<(&RateLimit, Verdict)> = None;
        for limit in limits {
            let verdict = self.limiter.take(limit, caller);
            if least.is_none_or(|(_, known)| verdict.remaining < known.remaining || !verdict.allowed) {
                least = Some((limit, verdict));
            }
            if !verdict.allowed {
                break;
            }
        }
        least.map(|(limit, verdict)| {
            let (name, requests, seconds) = (limit.name.clone(), limit.requests, limit.seconds);
            Box::new(Said { name, requests, seconds, verdict })
        })
    }
}

impl Said {
    /// Tells the caller.
    pub(super) fn tell(&self, headers: &mut HeaderMap) {
        let Self { name, requests, seconds, verdict } = self;
        let full = verdict.full.as_secs_f64().ceil();
        for (field, text) in [
            (RATE_LIMIT_POLICY, format!("\"{name}\";q={requests};w={seconds}")),
            (RATE_LIMIT, format!("\"{name}\";r={};t={full}", verdict.remaining)),
        ] {
            if let Ok(value) = HeaderValue::from_str(&text) {
                headers.append(field, value);
            }
        }
        if !verdict.allowed {
            let wait = verdict.wait.as_secs_f64().ceil().max(1.0) as u64;
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait));
        }
    }
}
