//! What the sidecar remembers of requests that went wrong or took long, for whoever asks why: the newest ones, in a bounded ring that
//! all workers share. A request that went well leaves nothing here.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use super::Direction;
use super::record::shown;
use crate::error::Reason;
use crate::model::fields;

/// The header by which a request that failed or took long is known to every sidecar on its way, and to who gets an answer of a sidecar's own
/// making. A request that goes well has no number, unless it came with one: the hop that fails it gives it one in its answer, and those
/// before it take it over, as the attempts after it do.
pub const ID_HEADER: HeaderName = HeaderName::from_static("leno-request-id");
/// From here on a request took long.
pub const SLOW: Duration = Duration::from_secs(1);
/// Failures that are remembered, requests that their callers gave up, and slow ones. Each has room of its own: callers that go in their
/// thousands push nothing else out.
pub const MOST_FAILURES: usize = 256;
pub const MOST_GIVEN_UP: usize = 64;
pub const MOST_SLOW: usize = 64;
/// Attempts of one request that are remembered, the first ones.
const MOST_TRIES: usize = 16;

/// A request's number, 16 hexadecimal digits on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId(pub u64);

impl RequestId {
    /// The one that a request or an answer came with.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        fields::find(headers, &ID_HEADER).and_then(|value| Self::parse(value.as_bytes()))
    }

    /// A new one.
    pub fn fresh() -> Self {
        Self(fastrand::u64(1..))
    }

    /// Reads 16 lower-case hexadecimal digits.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let digits = text.len() == 16 && text.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let number = u64::from_str_radix(std::str::from_utf8(text).ok().filter(|_| digits)?, 16).ok()?;
        Some(Self(number))
    }

    /// As a header has it. No two requests have the same one, so no table of a connection has to hold it.
    pub fn value(self) -> HeaderValue {
        let mut text = [0; 16];
        for (n, digit) in text.iter_mut().enumerate() {
            let nibble = (self.0 >> (60 - 4 * n)) & 0xf;
            *digit = b"0123456789abcdef"[nibble as usize];
        }
        // Digits make a header's value.
        let mut value = HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("0"));
        value.set_sensitive(true);
        value
    }
}

/// One attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Try {
    /// NAMESPACE/NAME of the workload.
    pub endpoint: String,
    /// What was dialled.
    pub address: SocketAddr,
    /// What came of it.
    pub outcome: TryOutcome,
    /// Since the request began.
    pub after: Duration,
}

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TryOutcome {
    /// Nothing, for this reason.
    Failed(Reason),
    /// An answer with this status.
    Answered(u16),
}

/// What is known of a request while it is under way.
#[derive(Debug, Clone, Default)]
pub struct Story {
    /// Its number, once it has one.
    pub id: Option<RequestId>,
    method: Method,
    /// With its authority, once that is known.
    pub uri: Uri,
    /// NAMESPACE/NAME of the service that it is for; empty: nobody knows.
    pub service: String,
    /// The route and the rule that it was sent by; empty: by none.
    pub rule: String,
    /// Its attempts that were no success, and the last one.
    pub tries: Vec<Try>,
    /// Another attempt was not granted: by the retry budget, or by the limit of retries that are open.
    pub retry_denied: bool,
}

impl Story {
    /// Of a request's head.
    pub fn new(method: &Method, uri: Uri, headers: &HeaderMap) -> Self {
        let (service, rule, tries) = (String::new(), String::new(), Vec::new());
        Self { id: RequestId::of(headers), method: method.clone(), uri, service, rule, tries, retry_denied: false }
    }

    /// Its method.
    pub fn method(&self) -> &str {
        self.method.as_str()
    }

    /// What is known so far; nothing of it is left here.
    pub fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// Its number: its own, the one that somebody behind us gave it in this answer, or a new one.
    pub fn number(&mut self, answer: &HeaderMap) -> RequestId {
        *self.id.get_or_insert_with(|| RequestId::of(answer).unwrap_or_else(RequestId::fresh))
    }

    /// Adds an attempt.
    pub fn tried(&mut self, endpoint: &str, address: SocketAddr, outcome: TryOutcome, after: Duration) {
        if self.tries.len() < MOST_TRIES {
            self.tries.push(Try { endpoint: endpoint.to_owned(), address, outcome, after });
        }
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// Its status.
    pub status: u16,
    /// Why, where a sidecar said so.
    pub reason: Option<Reason>,
    /// Until the answer's head.
    pub took: Duration,
}

impl Ending {
    /// Whether the request is worth to be remembered.
    pub fn is_worth_it(&self) -> bool {
        self.status >= 500 || self.reason.is_some() || self.took >= SLOW
    }

    /// Whether there is nothing to it but the time that it took.
    pub fn is_slow_only(&self) -> bool {
        self.status < 500 && self.reason.is_none()
    }
}

/// A request that is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    pub id: RequestId,
    pub direction: Direction,
    /// Seconds and nanoseconds since 1970.
    pub ended: Duration,
    pub method: String,
    /// As it was asked for, without what could stand in a query.
    pub host: String,
    pub path: String,
    /// Who asked, as far as he has proven it; empty: the local app.
    pub caller: String,
    pub service: String,
    pub rule: String,
    pub ending: Ending,
    pub tries: Vec<Try>,
    pub retry_denied: bool,
    /// The newest revision of the configuration that this sidecar had something of.
    pub revision: u64,
}

/// Which requests are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// That one.
    Id(RequestId),
    /// The newest ones that failed of a service, NAMESPACE/NAME.
    FailuresOf(String),
    /// The newest ones that took long of a service.
    SlowOf(String),
}

/// The ring; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Inner>);

/// The newest at the end.
type Ring = Mutex<VecDeque<Remembered>>;

#[derive(Debug, Default)]
struct Inner {
    failures: Ring,
    given_up: Ring,
    slow: Ring,
    revision: AtomicU64,
}

/// Most requests of one answer.
const MOST_TOLD: usize = 16;

impl Memory {
    /// Notes which revision something came of.
    pub fn saw_revision(&self, revision: u64) {
        self.0.revision.fetch_max(revision, Ordering::Relaxed);
    }

    /// The newest one that was noted; 0: none.
    pub fn revision(&self) -> u64 {
        self.0.revision.load(Ordering::Relaxed)
    }

    /// Remembers a request, in place of the oldest one when there is no more room.
    pub fn note(&self, direction: Direction, story: Story, caller: &str, ending: Ending) {
        let host = story.uri.authority().map_or("", |authority| authority.as_str());
        let remembered = Remembered {
            id: story.id.unwrap_or_else(RequestId::fresh),
            direction,
            ended: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            method: shown(story.method.as_str()),
            host: shown(host),
            path: shown(story.uri.path()),
            caller: caller.to_owned(),
            service: story.service,
            rule: story.rule,
            ending,
            tries: story.tries,
            retry_denied: story.retry_denied,
            revision: self.revision(),
        };
        let (ring, most) = match ending.reason {
            _ if ending.is_slow_only() => (&self.0.slow, MOST_SLOW),
            Some(Reason::DownstreamReset) => (&self.0.given_up, MOST_GIVEN_UP),
            _ => (&self.0.failures, MOST_FAILURES),
        };
        let mut ring = ring.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.len() >= most {
            ring.pop_front();
        }
        ring.push_back(remembered);
    }

    /// What is remembered, the newest first.
    pub fn tell(&self, asked: &Asked) -> Vec<Remembered> {
        let Inner { failures, given_up, slow, .. } = &*self.0;
        let of = |rings: &[&Ring], is: &dyn Fn(&Remembered) -> bool| {
            let mut found = Vec::new();
            for ring in rings {
                let ring = ring.lock().unwrap_or_else(PoisonError::into_inner);
                found.extend(ring.iter().rev().filter(|one| is(one)).take(MOST_TOLD).cloned());
            }
            found.sort_by_key(|one: &Remembered| std::cmp::Reverse(one.ended));
            found.truncate(MOST_TOLD);
            found
        };
        match asked {
            Asked::Id(id) => of(&[failures, given_up, slow], &|one| one.id == *id),
            Asked::FailuresOf(service) => of(&[failures, given_up], &|one| one.service == *service),
            Asked::SlowOf(service) => of(&[slow], &|one| one.service == *service),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::MOST_TEXT;
    use super::*;

    fn story(id: u64, uri: &str) -> Story {
        let story = Story::new(&Method::GET, uri.parse().unwrap(), &HeaderMap::new());
        Story { id: Some(RequestId(id)), ..story }
    }

    fn ending(status: u16, took: Duration) -> Ending {
        Ending { status, reason: None, took }
    }

    #[test]
    fn a_number_is_read_as_it_is_written_and_nothing_else_is() {
        for number in [1, 0xfedc_ba98_7654_3210, u64::MAX] {
            let value = RequestId(number).value();
            assert!(value.is_sensitive(), "it is in no table of a connection");
            assert_eq!(RequestId::parse(value.as_bytes()), Some(RequestId(number)));
        }
        for bad in ["", "1", "00000000000000001", "000000000000000G", "000000000000000A", "+00000000000001"] {
            assert_eq!(RequestId::parse(bad.as_bytes()), None, "{bad}");
        }
        let mut headers = HeaderMap::new();
        assert_eq!(RequestId::of(&headers), None);
        headers.insert(ID_HEADER, HeaderValue::from_static("00000000000000ff"));
        assert_eq!(RequestId::of(&headers), Some(RequestId(255)));
        assert_ne!(RequestId::fresh(), RequestId::fresh());
        let (mut own, mut fresh) = (story(7, "/"), Story { id: None, ..story(7, "/") });
        assert_eq!(own.number(&headers), RequestId(7), "whoever has one keeps it");
        assert_eq!(fresh.number(&headers), RequestId(255), "and takes over that of who failed it");
        assert_eq!(fresh.number(&HeaderMap::new()), RequestId(255));
    }

    #[test]
    fn the_newest_are_remembered_and_never_more_than_the_bound() {
        let memory = Memory::default();
        for n in 0..2 * MOST_FAILURES as u64 {
            let story = Story { service: "default/web".to_owned(), ..story(n, "http://web/a?secret=1") };
            memory.note(Direction::Outbound, story, "", ending(503, Duration::ZERO));
        }
        for n in 0..2 * MOST_SLOW as u64 {
            memory.note(Direction::Inbound, story(n + 10_000, "/"), "", ending(200, SLOW));
        }
        let inner = &memory.0;
        assert_eq!(
            (inner.failures.lock().unwrap().len(), inner.slow.lock().unwrap().len()),
            (MOST_FAILURES, MOST_SLOW)
        );
        let told = memory.tell(&Asked::FailuresOf("default/web".to_owned()));
        assert_eq!((told.len(), told[0].id), (MOST_TOLD, RequestId(2 * MOST_FAILURES as u64 - 1)));
        assert_eq!((told[0].host.as_str(), told[0].path.as_str()), ("web", "/a"), "a query may hold a secret");
        assert!(memory.tell(&Asked::Id(RequestId(0))).is_empty(), "the oldest are forgotten");
        assert_eq!(memory.tell(&Asked::Id(RequestId(10_000 + MOST_SLOW as u64))).len(), 1);
    }

    #[test]
    fn callers_that_go_in_their_thousands_push_no_failure_out() {
        let memory = Memory::default();
        let note = |n: u64, reason| {
            let story = Story { service: "default/web".to_owned(), ..story(n, "http://web/") };
            let ending = Ending { status: 503, reason, took: Duration::ZERO };
            memory.note(Direction::Outbound, story, "", ending);
        };
        note(1, Some(Reason::NoEndpoints));
        (2..10_000).for_each(|n| note(n, Some(Reason::DownstreamReset)));
        assert_eq!(memory.0.given_up.lock().unwrap().len(), MOST_GIVEN_UP);
        assert_eq!(memory.tell(&Asked::Id(RequestId(1))).len(), 1);
        note(10_000, Some(Reason::NoEndpoints));
        let told = memory.tell(&Asked::FailuresOf("default/web".to_owned()));
        assert_eq!((told.len(), told[0].id, told[1].id), (MOST_TOLD, RequestId(10_000), RequestId(9_999)));
    }

    #[test]
    fn what_a_peer_says_is_clipped_and_attempts_are_bounded() {
        let mut long = story(1, &format!("/{}", "a".repeat(5_000)));
        for _ in 0..100 {
            long.tried("default/web-1", "10.0.0.1:1".parse().unwrap(), TryOutcome::Answered(503), Duration::ZERO);
        }
        let memory = Memory::default();
        memory.note(Direction::Outbound, long, "", ending(503, Duration::ZERO));
        let told = memory.tell(&Asked::Id(RequestId(1)));
        assert_eq!((told[0].path.len(), told[0].tries.len()), (MOST_TEXT, MOST_TRIES));
        assert_eq!(shown("a\u{1b}[31mb\n"), "a[31mb");
    }
}
