//! What is known of a request while it is under way, so that it can be told why it failed or took long, and be written down where somebody
//! wants that. No text is copied before.

use std::rc::Rc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, Request, Response, Uri};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::authorizer::Caller;
use super::body::GIVEN_UP;
use super::watched::{Watched, Written};
use super::{ResponseBody, respond};
use crate::error::Reason;
use crate::model::{Observe, Peer};
use crate::routing::{LocalPort, Split};
use crate::telemetry::memory::ID_HEADER;
use crate::telemetry::record::{Record, Stages};
use crate::telemetry::{Direction, Ending, Observer, ServiceMetrics, Story, TryOutcome};
use crate::upstream::{LocalCluster, LocalEndpoint};

/// Who called, and what is counted for what he called.
type Called<'a> = (&'a Caller, Option<&'a ServiceMetrics>);

/// Of one request.
pub(super) struct Account<'a> {
    pub(super) start: Instant,
    pub(super) story: Story,
    /// Where it goes.
    pub(super) port: Option<Rc<LocalPort>>,
    /// By which rule.
    pub(super) split: Option<Rc<Split>>,
    /// To which service, in the end.
    pub(super) cluster: Option<Rc<LocalCluster>>,
    /// Who answered.
    pub(super) answered_by: Option<Rc<LocalEndpoint>>,
    /// How often it was sent, until when the last attempt was not, and what that one waited for.
    pub(super) attempts: u32,
    pub(super) sent_after: Duration,
    pub(super) stages: Stages,
    direction: Direction,
    /// Of one that a peer sent: who, and what is counted for what he called.
    called: Option<Called<'a>>,
    observer: &'a Observer,
    watched: Option<Box<Watched>>,
    /// Whether its answer has begun.
    ended: bool,
}

impl<'a> Account<'a> {
    /// Of a request of the local app that has just come.
    pub(super) fn outbound(request: &Request<Incoming>, observer: &'a Observer) -> Self {
        // Where it goes is known, and noted, when its authority was read.
        Self::new(request, Uri::default(), observer, Direction::Outbound, None)
    }

    /// Of one that is refused before anybody looks where it goes.
    pub(super) fn refused(request: &Request<Incoming>, observer: &'a Observer, direction: Direction) -> Self {
        Self::new(request, request.uri().clone(), observer, direction, None)
    }

    /// Of a request that a peer sent.
    pub(super) fn inbound(
        request: &Request<Incoming>,
        observer: &'a Observer,
        caller: &'a Caller,
        called: Option<&'a ServiceMetrics>,
    ) -> Self {
        let uri = request.uri().clone();
        Self::new(request, uri, observer, Direction::Inbound, Some((caller, called)))
    }

    fn new(
        request: &Request<Incoming>,
        uri: Uri,
        observer: &'a Observer,
        direction: Direction,
        called: Option<Called<'a>>,
    ) -> Self {
        Self {
            start: Instant::now(),
            story: Story::new(request.method(), uri, request.headers()),
            port: None,
            split: None,
            cluster: None,
            answered_by: None,
            attempts: 0,
            sent_after: Duration::ZERO,
            stages: Stages::default(),
            direction,
            called,
            observer,
            watched: observer.is_on().then(|| Watched::new(observer, request.headers())),
            ended: false,
        }
    }

    /// What a policy says of its being written down is known now; the next hop is told of its trace.
    pub(super) fn observe(&mut self, observe: &Observe, headers: &mut HeaderMap) {
        if self.watched.is_none() && self.observer.is_asked(observe) {
            self.watched = Some(Watched::new(self.observer, headers));
        }
        if self.watched.as_mut().is_some_and(|watched| !watched.decide(self.direction, observe, headers)) {
            self.watched = None;
        }
    }

    /// The answer has begun. One that a sidecar made says which request it was.
    pub(super) fn end(&mut self, response: &mut Response<ResponseBody>) {
        self.ended = true;
        let reason = respond::reason_of(response);
        let ending = Ending { status: response.status().as_u16(), reason, took: self.start.elapsed() };
        let worth = ending.is_worth_it();
        if let Some(split) = &self.split {
            let retries = self.attempts.saturating_sub(1);
            split.answered(self.observer.registry(), ending.status, ending.took, retries);
        }
        if worth {
            let id = self.story.number(response.headers());
            // The caller's sidecar knows it by the same number.
            if reason.is_some() || self.direction == Direction::Inbound {
                response.headers_mut().insert(ID_HEADER, id.value());
            }
            self.tell_where();
            // A failure was noted when it came.
            if let Some(endpoint) = self.answered_by.as_ref().filter(|_| ending.is_slow_only()) {
                let of = &endpoint.endpoint;
                self.story.tried(&of.workload, of.address, TryOutcome::Answered(ending.status), ending.took);
            }
        }
        if let Some(watched) = self.watched.take().filter(|watched| worth || !watched.is_left_out()) {
            if !worth {
                self.tell_where();
            }
            let story = if worth { self.story.clone() } else { self.story.take() };
            let written = self.written(watched, story, ending);
            response.body_mut().written(written);
        }
        if worth {
            self.remember(ending);
        }
    }

    fn remember(&mut self, ending: Ending) {
        let story = self.story.take();
        let caller = self.called.as_ref().map_or("", |(caller, _)| caller.id());
        self.observer.memory().note(self.direction, story, caller, ending);
    }

    /// In the words of the story: which service, by which rule.
    fn tell_where(&mut self) {
        self.story.service = match (&self.called, &self.cluster, &self.port) {
            (Some((_, called)), ..) => called.map(|metrics| metrics.service().to_owned()).unwrap_or_default(),
            (None, Some(cluster), _) => cluster.shared().service.clone(),
            (None, None, Some(port)) => port.metrics().map(|m| m.service().to_owned()).unwrap_or_default(),
            (None, None, None) => String::new(),
        };
        if let Some(rule) = self.split.as_ref().and_then(|split| split.rule.as_ref()) {
            let name = Some(rule.name.as_str()).filter(|name| !name.is_empty());
            self.story.rule = name.map_or_else(|| rule.route.clone(), |name| format!("{} {name}", rule.route));
        }
    }

    fn written(&self, watched: Box<Watched>, story: Story, ending: Ending) -> Written {
        let endpoint = self.answered_by.as_ref().map(|answered_by| {
            let of = &answered_by.endpoint;
            let identity = match &of.peer {
                Peer::Sidecar { identity, .. } => identity.to_string(),
                _ => String::new(),
            };
            (of.workload.clone(), identity, of.address)
        });
        watched.answered(self.start, |watched| Record {
            direction: self.direction,
            story,
            caller: self.called.as_ref().map(|(caller, _)| caller.id().to_owned()).unwrap_or_default(),
            endpoint,
            status: ending.status,
            reason: ending.reason,
            attempts: self.attempts,
            // Only now, since most requests are of no sample.
            began: SystemTime::now() - self.start.elapsed(),
            queued: self.sent_after,
            stages: self.stages,
            first_byte: ending.took,
            total: ending.took,
            sent: watched.sent,
            received: 0,
            headers: std::mem::take(&mut watched.headers),
            span: None,
            revision: 0,
        })
    }
}

impl Drop for Account<'_> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        // Nobody waits for the answer any more.
        self.tell_where();
        let reason = Some(Reason::DownstreamReset);
        let ending = Ending { status: GIVEN_UP, reason, took: self.start.elapsed() };
        if let Some(watched) = self.watched.take() {
            self.written(watched, self.story.clone(), ending).end(reason);
        }
        self.remember(ending);
    }
}
