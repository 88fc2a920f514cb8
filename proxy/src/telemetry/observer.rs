//! Decides which requests are written down, and hands them to the access log, the collector of traces and whoever taps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue};
use leno_runtime::metrics::Registry;

use super::access_log::AccessLog;
use super::otlp::Spans;
use super::record::Record;
use super::taps::Taps;
use super::trace::{Parent, Span};
use super::{Direction, Memory};
use crate::model::{LogMode, Observe, Share};
use crate::settings::ObserveSettings;

/// Clones share it.
#[derive(Debug, Clone)]
pub struct Observer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// What holds where no policy says otherwise.
    settings: ObserveSettings,
    log: AccessLog,
    spans: Option<Spans>,
    taps: Taps,
    memory: Memory,
    registry: Registry,
    pace: Pace,
}

impl Observer {
    /// Without `spans` there are no traces of our own; those that come are passed on.
    pub fn new(
        settings: ObserveSettings,
        log: AccessLog,
        spans: Option<Spans>,
        taps: Taps,
        memory: Memory,
        registry: Registry,
    ) -> Self {
        let pace = Pace { begun: Instant::now(), second: AtomicU64::new(0), most: settings.most_traces };
        Self(Arc::new(Inner { settings, log, spans, taps, memory, registry, pace }))
    }

    /// Whether any request is written down that no policy speaks of.
    pub fn is_on(&self) -> bool {
        let inner = &*self.0;
        inner.spans.is_some() || inner.settings.log != LogMode::Off || inner.taps.are_open()
    }

    /// Whether a policy wants something of this request.
    pub fn is_asked(&self, observe: &Observe) -> bool {
        observe.log.is_some_and(|(mode, _)| mode != LogMode::Off)
    }

    /// Whether anybody taps.
    pub fn is_tapped(&self) -> bool {
        self.0.taps.are_open()
    }

    /// What the access log wants of a request, and whether it does so if the request goes well. One that is traced is of every sample.
    pub fn draw(&self, observe: &Observe, traced: bool) -> (LogMode, bool) {
        let (mode, share) = observe.log.unwrap_or((self.0.settings.log, None));
        if mode != LogMode::Sampled {
            return (mode, true);
        }
        match traced || share.unwrap_or(self.0.settings.log_share).draw() {
            true => (LogMode::All, true),
            false => (LogMode::Errors, false),
        }
    }

    /// Where things are counted.
    pub fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// Where the newest requests that went wrong are remembered.
    pub fn memory(&self) -> &Memory {
        &self.0.memory
    }

    /// The header fields that may be written down, of this request.
    pub fn headers(&self, of: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
        let named = self.0.settings.headers.iter();
        named.filter_map(|name| Some((name.clone(), of.get(name)?.clone()))).collect()
    }

    /// The request's span, with the `tracestate` that came with its parent, if its trace is kept: by its parent's word, else by chance, and never more than so many a second. Only where a
    /// request comes from is it begun anew: the sidecar of the called app goes by what that of the caller decided.
    pub fn span(
        &self,
        direction: Direction,
        parent: Option<Parent>,
        state: String,
        share: Option<Share>,
    ) -> Option<Span> {
        let inner = &*self.0;
        inner.spans.as_ref()?;
        let kept = match (parent.and_then(|parent| parent.sampled), direction) {
            (Some(said), _) => said,
            (None, Direction::Inbound) => false,
            (None, Direction::Outbound) => share.unwrap_or(inner.settings.traces).draw(),
        };
        (kept && inner.pace.take()).then(|| Span::begin(parent, state))
    }

    /// A request has ended. `log`: what was drawn for it, if it came as far.
    pub fn note(&self, record: Record, log: Option<LogMode>) {
        let inner = &*self.0;
        let logged = match log.unwrap_or_else(|| self.draw(&Observe::default(), record.span.is_some()).0) {
            LogMode::Off => false,
            LogMode::All => true,
            LogMode::Errors | LogMode::Sampled => record.is_failure(),
        };
        let spans = inner.spans.as_ref().filter(|_| record.span.is_some());
        let tapped = inner.taps.are_open();
        if !logged && !tapped && spans.is_none() {
            return;
        }
        let record = Arc::new(Record { revision: inner.memory.revision(), ..record });
        if tapped {
            inner.taps.show(&record);
        }
        if let Some(spans) = spans {
            inner.exemplify(&record);
            spans.send(record.clone());
        }
        if logged {
            inner.log.note(record);
        }
    }
}

impl Inner {
    /// Names the trace beside the numbers that its request is counted in. A look-up, which few requests pay for.
    fn exemplify(&self, record: &Record) {
        let (Some(span), service) = (&record.span, &record.story.service) else { return };
        if !service.is_empty() {
            let class = super::class(record.status);
            let seconds = super::request_duration(&self.registry, record.direction, service, class);
            seconds.exemplar(record.total, span.trace, record.began + record.total);
        }
    }
}

/// So many a second, over all workers.
#[derive(Debug)]
struct Pace {
    begun: Instant,
    /// Which second in the upper half, how many of it in the lower.
    second: AtomicU64,
    most: u32,
}

impl Pace {
    fn take(&self) -> bool {
        self.take_at(self.begun.elapsed())
    }

    fn take_at(&self, at: Duration) -> bool {
        let now = at.as_secs() << 32;
        let taken = self.second.fetch_update(Relaxed, Relaxed, |known| {
            let used = if known >> 32 == at.as_secs() { known & u64::from(u32::MAX) } else { 0 };
            (used < u64::from(self.most)).then_some(now | (used + 1))
        });
        taken.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::super::access_log::{LogFile, LogForm};
    use super::super::otlp;
    use super::*;
    use crate::settings::CollectorSettings;

    fn observer(log: LogMode, traces: u32, most_traces: u32, collected: bool) -> Observer {
        let registry = Registry::new();
        let collector = collected.then(|| CollectorSettings {
            http: false,
            authority: "127.0.0.1:1".to_owned(),
            prefix: String::new(),
        });
        let spans = collector.clone().map(|collector| otlp::channel(collector, &[], &registry).0);
        let settings = ObserveSettings {
            log,
            traces: Share::millionths(traces),
            most_traces,
            headers: vec![http::header::USER_AGENT],
            ..ObserveSettings::default()
        };
        let log = AccessLog::new(LogForm::Json, LogFile::default(), &registry);
        Observer::new(settings, log, spans, Taps::default(), Memory::default(), registry)
    }

    #[test]
    fn a_trace_is_kept_by_its_parents_word_else_by_chance_and_begun_at_the_caller_alone() {
        let parent = |sampled| Some(Parent { trace: 1, span: 2, sampled });
        for (traces, parent, direction, kept) in [
            (Share::ALL, None, Direction::Outbound, true),
            (Share::ALL, None, Direction::Inbound, false),
            (Share::ALL, parent(Some(false)), Direction::Outbound, false),
            (Share::ALL, parent(None), Direction::Outbound, true),
            (0, None, Direction::Outbound, false),
            (0, parent(Some(true)), Direction::Outbound, true),
            (0, parent(Some(true)), Direction::Inbound, true),
            (0, parent(None), Direction::Outbound, false),
        ] {
            let span = observer(LogMode::Off, traces, 10, true).span(direction, parent, String::new(), None);
            assert_eq!(span.is_some(), kept, "{traces} {parent:?} {direction:?}");
            assert!(observer(LogMode::Off, traces, 10, false).span(direction, parent, String::new(), None).is_none());
        }
        let policy = Some(Share::millionths(Share::ALL));
        assert!(observer(LogMode::Off, 0, 10, true).span(Direction::Outbound, None, String::new(), policy).is_some());
    }

    #[test]
    fn there_are_no_more_traces_in_a_second_than_the_bound() {
        let pace = Pace { begun: Instant::now(), second: AtomicU64::new(0), most: 3 };
        let taken = |secs| (0..10).filter(|_| pace.take_at(Duration::from_secs(secs))).count();
        assert_eq!([taken(0), taken(0), taken(1), taken(5)], [3, 0, 3, 3]);
    }

    #[test]
    fn only_named_headers_are_taken_and_nothing_is_on_by_itself() {
        let observer = observer(LogMode::Off, 0, 0, false);
        let headers: HeaderMap = [("user-agent", "curl"), ("authorization", "secret")]
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .into_iter()
            .collect();
        assert_eq!(observer.headers(&headers), [(http::header::USER_AGENT, HeaderValue::from_static("curl"))]);
        assert!(!observer.is_on() && !observer.is_asked(&Observe::default()));
        assert!(observer.is_asked(&Observe { log: Some((LogMode::Errors, None)), traces: None }));
    }
}
