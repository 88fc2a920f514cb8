//! Who looks at live requests (`leno tap`). Nothing is paid while nobody does; one who reads slowly misses requests and is told how many.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::record::Record;

/// Taps that may be open at a time.
pub const MOST_TAPS: usize = 16;
/// Requests that wait to be sent to one of them.
const MOST_WAITING: usize = 256;
/// Most requests a second of one tap, whatever is asked for.
const MOST_PER_SECOND: u32 = 1_000;

/// Which requests somebody wants to see. What is empty or zero holds for all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// NAMESPACE/NAME.
    pub service: String,
    pub method: String,
    /// A path, or what it begins with and `*`.
    pub path: String,
    /// From and to, with both.
    pub status: (u16, u16),
    pub failures: bool,
    pub per_second: u32,
}

impl Filter {
    /// Of one second.
    fn budget(&self) -> u32 {
        match self.per_second {
            0 => MOST_PER_SECOND,
            said => said.min(MOST_PER_SECOND),
        }
    }

    fn takes(&self, record: &Record) -> bool {
        let said = |filter: &str, is: &str| filter.is_empty() || filter == is;
        let path = record.story.uri.path();
        let on_path = match self.path.strip_suffix('*') {
            Some(begin) => path.starts_with(begin),
            None => said(&self.path, path),
        };
        let (from, to) = self.status;
        on_path
            && said(&self.service, &record.story.service)
            && said(&self.method, record.story.method())
            && (to == 0 || (from..=to).contains(&record.status))
            && (!self.failures || record.is_failure())
    }
}

/// All of them; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Taps(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    open: AtomicUsize,
    last: AtomicU64,
    taps: Mutex<Vec<Open>>,
}

#[derive(Debug)]
struct Open {
    id: u64,
    filter: Filter,
    /// When its second began, and what of it is left.
    second: (Instant, u32),
    queue: mpsc::Sender<Arc<Record>>,
    missed: Arc<AtomicU64>,
}

/// One tap, open until it is dropped.
#[derive(Debug)]
pub struct Tap {
    of: Taps,
    id: u64,
    /// What it sees.
    pub requests: mpsc::Receiver<Arc<Record>>,
    missed: Arc<AtomicU64>,
}

impl Taps {
    fn lock(&self) -> MutexGuard<'_, Vec<Open>> {
        self.0.taps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anybody looks.
    pub fn are_open(&self) -> bool {
        self.0.open.load(Relaxed) > 0
    }

    /// Looks from now on. None: too many do.
    pub fn open(&self, filter: Filter) -> Option<Tap> {
        let mut taps = self.lock();
        if taps.len() >= MOST_TAPS {
            return None;
        }
        let id = self.0.last.fetch_add(1, Relaxed);
        let (queue, requests) = mpsc::channel(MOST_WAITING);
        let missed = Arc::new(AtomicU64::new(0));
        taps.push(Open { id, second: (Instant::now(), filter.budget()), filter, queue, missed: missed.clone() });
        self.0.open.store(taps.len(), Relaxed);
        Some(Tap { of: self.clone(), id, requests, missed })
    }

    /// Shows a request to whoever wants it.
    pub fn show(&self, record: &Arc<Record>) {
        let now = Instant::now();
        for tap in self.lock().iter_mut().filter(|tap| tap.filter.takes(record)) {
            if now.duration_since(tap.second.0) >= Duration::from_secs(1) {
                tap.second = (now, tap.filter.budget());
            }
            if tap.second.1 == 0 || tap.queue.try_send(record.clone()).is_err() {
                tap.missed.fetch_add(1, Relaxed);
            } else {
                tap.second.1 -= 1;
            }
        }
    }
}

impl Tap {
    /// Requests that it wanted to see and did not, since this was asked last.
    pub fn missed(&self) -> u64 {
        self.missed.swap(0, Relaxed)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let mut taps = self.of.lock();
        taps.retain(|tap| tap.id != self.id);
        self.of.0.open.store(taps.len(), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::*;

    fn seen(tap: &mut Tap) -> Vec<u16> {
        std::iter::from_fn(|| tap.requests.try_recv().ok()).map(|record| record.status).collect()
    }

    #[test]
    fn a_tap_sees_what_it_asked_for_and_nothing_when_it_is_gone() {
        let taps = Taps::default();
        assert!(!taps.are_open());
        let filter = |filter: Filter| taps.open(filter).unwrap();
        let mut all = filter(Filter::default());
        let mut path = filter(Filter { path: "/a/*".to_owned(), ..Filter::default() });
        let mut bad = filter(Filter { status: (500, 599), method: "GET".to_owned(), ..Filter::default() });
        let mut other = filter(Filter { service: "default/other".to_owned(), ..Filter::default() });
        let mut failed = filter(Filter { failures: true, path: "/b".to_owned(), ..Filter::default() });
        for (method, path, status) in [("GET", "/a/1", 200), ("POST", "/b", 500), ("GET", "/b", 503)] {
            taps.show(&Arc::new(record(method, &format!("http://web{path}"), status)));
        }
        let saw = [&mut all, &mut path, &mut bad, &mut other, &mut failed].map(seen);
        assert_eq!(saw, [vec![200, 500, 503], vec![200], vec![503], vec![], vec![500, 503]]);
        drop((all, path, bad, other, failed));
        assert!(!taps.are_open());
    }

    #[test]
    fn no_more_taps_than_the_bound_and_no_more_requests_than_one_asked_for_or_reads() {
        let taps = Taps::default();
        let mut slow = taps.open(Filter { per_second: 5_000, ..Filter::default() }).unwrap();
        let mut few = taps.open(Filter { per_second: 3, ..Filter::default() }).unwrap();
        let others: Vec<_> = (2..MOST_TAPS).map(|_| taps.open(Filter::default()).unwrap()).collect();
        assert!(taps.open(Filter::default()).is_none());
        let record = Arc::new(record("GET", "http://web/", 200));
        for _ in 0..MOST_WAITING + 100 {
            taps.show(&record);
        }
        assert_eq!((seen(&mut slow).len(), slow.missed(), slow.missed()), (MOST_WAITING, 100, 0));
        assert!((3..=6).contains(&seen(&mut few).len()), "its second may have been over once");
        drop(others);
        assert!(taps.open(Filter::default()).is_some());
    }
}
