//! A request that somebody wants written down, from its head to the last byte of its answer.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use tokio::time::Instant;

use crate::error::Reason;
use crate::model::{LogMode, Observe};
use crate::telemetry::record::Record;
use crate::telemetry::trace::{self, Parent, Span};
use crate::telemetry::{Direction, Observer};

/// What has to be taken of a request's head before it is sent on.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) observer: Observer,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) sent: Option<u64>,
    pub(super) span: Option<Span>,
    /// What was drawn for it.
    log: Option<LogMode>,
    parent: Option<Parent>,
    /// Its `tracestate`.
    state: String,
    /// Whether it is known if its trace is kept.
    decided: bool,
    /// It is of no sample, so that it is of use only if it fails.
    left_out: bool,
}

impl Watched {
    /// Of a request that has just come.
    pub(super) fn new(observer: &Observer, of: &HeaderMap) -> Box<Self> {
        let length = of.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let parent = trace::parent(of);
        Box::new(Self {
            observer: observer.clone(),
            headers: observer.headers(of),
            sent: length,
            span: None,
            log: None,
            state: parent.map_or_else(String::new, |_| trace::state(of)),
            parent,
            decided: false,
            left_out: false,
        })
    }

    /// Decides what becomes of it, by what a policy says, and tells the next hop of its trace. Whether anybody wants it at all.
    pub(super) fn decide(&mut self, direction: Direction, observe: &Observe, headers: &mut HeaderMap) -> bool {
        self.decided = true;
        self.span = self.observer.span(direction, self.parent, std::mem::take(&mut self.state), observe.traces);
        if let Some(span) = &self.span {
            span.tell(headers);
        }
        // Drawn now, so that what is of no sample costs little.
        let (mode, sampled) = self.observer.draw(observe, self.span.is_some());
        self.log = Some(mode);
        self.left_out = !sampled;
        self.span.is_some() || mode != LogMode::Off || self.observer.is_tapped()
    }

    /// Whether nobody wants it unless it failed.
    pub(super) fn is_left_out(&self) -> bool {
        self.left_out && self.span.is_none() && !self.observer.is_tapped()
    }

    /// Its answer has begun, or nobody waits for it any more.
    pub(super) fn answered(mut self: Box<Self>, start: Instant, record: impl FnOnce(&mut Self) -> Record) -> Written {
        let mut record = record(&mut self);
        if !self.decided {
            self.span = self.observer.span(record.direction, self.parent, std::mem::take(&mut self.state), None);
        }
        record.span = self.span.take();
        Written(Some(Box::new(Unfinished { observer: self.observer, log: self.log, start, record })))
    }
}

/// A request whose answer has begun. One that is dropped was given up by its caller.
#[derive(Debug)]
pub(super) struct Written(Option<Box<Unfinished>>);

#[derive(Debug)]
struct Unfinished {
    observer: Observer,
    log: Option<LogMode>,
    start: Instant,
    record: Record,
}

impl Written {
    /// More of its answer has come.
    pub(super) fn received(&mut self, bytes: usize) {
        if let Some(unfinished) = &mut self.0 {
            unfinished.record.received += bytes as u64;
        }
    }

    /// Its answer was whole, or ended so.
    pub(super) fn end(mut self, reason: Option<Reason>) {
        self.note(reason);
    }

    fn note(&mut self, reason: Option<Reason>) {
        let Some(unfinished) = self.0.take() else { return };
        let Unfinished { observer, log, start, mut record } = *unfinished;
        record.total = start.elapsed();
        record.reason = record.reason.or(reason);
        observer.note(record, log);
    }

    /// What breaks off is held against whoever sends it.
    pub(super) fn broken(self) {
        let inbound = self.0.as_ref().is_some_and(|unfinished| unfinished.record.direction == Direction::Inbound);
        self.end(Some(if inbound { Reason::AppReset } else { Reason::UpstreamReset }));
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        self.note(Some(Reason::DownstreamReset));
    }
}
