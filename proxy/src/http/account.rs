//! What is known of the local app's request while it is under way, so that it can be told why it failed or took long. Nothing is written
//! down, and no text is copied, before it has.

use std::rc::Rc;

use http::{Request, Response, Uri};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::{ResponseBody, respond};
use crate::routing::{LocalPort, Split};
use crate::telemetry::memory::ID_HEADER;
use crate::telemetry::{Direction, Ending, Memory, Story, TryOutcome};
use crate::upstream::{LocalCluster, LocalEndpoint};

/// Of one request.
pub(super) struct Account {
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
}

impl Account {
    /// Of a request that has just come.
    pub(super) fn new(request: &Request<Incoming>) -> Self {
        // Where it goes is known, and noted, when its authority was read.
        let story = Story::new(request.method(), Uri::default(), request.headers());
        Self { start: Instant::now(), story, port: None, split: None, cluster: None, answered_by: None }
    }

    /// The answer has begun. One that a sidecar made says which request it was.
    pub(super) fn end(mut self, memory: &Memory, response: &mut Response<ResponseBody>) {
        let reason = respond::reason_of(response);
        let ending = Ending { status: response.status().as_u16(), reason, took: self.start.elapsed() };
        if ending.is_worth_it() {
            let id = self.story.number(response.headers());
            if reason.is_some() {
                response.headers_mut().insert(ID_HEADER, id.value());
            }
            self.remember(memory, ending);
        }
    }

    fn remember(self, memory: &Memory, ending: Ending) {
        let Self { mut story, port, split, cluster, answered_by, .. } = self;
        story.service = match (&cluster, &port) {
            (Some(cluster), _) => cluster.shared().service.clone(),
            (None, Some(port)) => port.metrics().map(|metrics| metrics.service().to_owned()).unwrap_or_default(),
            (None, None) => String::new(),
        };
        if let Some(rule) = split.as_ref().and_then(|split| split.rule.as_ref()) {
            let name = Some(rule.name.as_str()).filter(|name| !name.is_empty());
            story.rule = name.map_or_else(|| rule.route.clone(), |name| format!("{} {name}", rule.route));
        }
        // A failure was noted when it came.
        if let Some(endpoint) = answered_by.filter(|_| ending.is_slow_only()) {
            let of = &endpoint.endpoint;
            story.tried(&of.workload, of.address, TryOutcome::Answered(ending.status), ending.took);
        }
        memory.note(Direction::Outbound, story, "", ending);
    }
}
