//! Rate limits: GCRA, one number a bucket, so that a bucket that all workers share needs no lock. Each worker remembers the
//! buckets that it has used, and only the first use of one takes the lock of the table.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::model::RateLimit;

/// Buckets of one sidecar. A caller more than that shares one bucket with all others that are too many.
pub const MOST_BUCKETS: usize = 10_000;
/// Whose bucket it is that is shared.
const OTHERS: &str = "";

/// The time, in nanoseconds since the table was made, at which a bucket is full again.
#[derive(Debug, Default)]
struct Bucket(AtomicU64);

/// A limit and whose it is.
type Key = (String, String);

/// The buckets of all workers.
#[derive(Debug)]
pub struct Table {
    start: Instant,
    buckets: Mutex<HashMap<Key, Arc<Bucket>>>,
}

impl Default for Table {
    fn default() -> Self {
        Self { start: Instant::now(), buckets: Mutex::default() }
    }
}

/// What a limit says of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// It is let in.
    pub allowed: bool,
    /// Requests that are left now.
    pub remaining: u32,
    /// Until the bucket is full again.
    pub full: Duration,
    /// Until a request is let in again; zero when one is.
    pub wait: Duration,
}

impl Table {
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn bucket(&self, key: Key) -> Arc<Bucket> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = buckets.get(&key) {
            return known.clone();
        }
        if buckets.len() >= MOST_BUCKETS {
            let now = self.now();
            // A full bucket is as good as a new one.
            buckets.retain(|_, bucket| Arc::strong_count(bucket) > 1 || bucket.0.load(Ordering::Relaxed) > now);
        }
        if buckets.len() >= MOST_BUCKETS {
            // Shared, and not unlimited: whoever can make identities up must not get around the limit.
            return buckets.entry((key.0, OTHERS.to_owned())).or_default().clone();
        }
        buckets.entry(key).or_default().clone()
    }
}

impl Bucket {
    /// Generic cell rate algorithm: the bucket is full at `self`; each request puts that off by one interval.
    fn take(&self, limit: &RateLimit, now: u64) -> Verdict {
        let interval = (u64::from(limit.seconds) * 1_000_000_000 / u64::from(limit.requests.max(1))).max(1);
        let room = interval.saturating_mul(u64::from(limit.burst));
        let mut full_at = self.0.load(Ordering::Relaxed);
        loop {
            let next = full_at.max(now).saturating_add(interval);
            let owed = next - now;
            if owed > room {
                let full = Duration::from_nanos(full_at.max(now) - now);
                return Verdict { allowed: false, remaining: 0, full, wait: Duration::from_nanos(owed - room) };
            }
            match self.0.compare_exchange_weak(full_at, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    let remaining = u32::try_from((room - owed) / interval).unwrap_or(u32::MAX);
                    return Verdict {
                        allowed: true,
                        remaining,
                        full: Duration::from_nanos(owed),
                        wait: Duration::ZERO,
                    };
                }
                Err(other) => full_at = other,
            }
        }
    }
}

/// A worker's view of the table.
#[derive(Debug)]
pub struct Limiter {
    table: Arc<Table>,
    used: RefCell<HashMap<Key, Arc<Bucket>>>,
}

impl Limiter {
    /// Of a table that all workers share.
    pub fn new(table: Arc<Table>) -> Self {
        Self { table, used: RefCell::default() }
    }

    /// Forgets the buckets that it has used, so that the table can let them go.
    pub fn forget(&self) {
        self.used.borrow_mut().clear();
    }

    /// Asks for one request of a caller.
    pub fn take(&self, limit: &RateLimit, caller: &str) -> Verdict {
        let key = (limit.label.clone(), if limit.by_caller { caller } else { OTHERS }.to_owned());
        let mut used = self.used.borrow_mut();
        if used.len() >= MOST_BUCKETS {
            used.clear();
        }
        let bucket = used.entry(key).or_insert_with_key(|key| self.table.bucket(key.clone()));
        bucket.take(limit, self.table.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(requests: u32, burst: u32) -> RateLimit {
        RateLimit { label: "default/web#a".into(), name: "a".into(), requests, seconds: 1, burst, by_caller: true }
    }

    #[test]
    fn a_burst_is_let_in_and_then_one_each_interval() {
        let (bucket, limit) = (Bucket::default(), limit(10, 3));
        let at = |millis: u64| bucket.take(&limit, millis * 1_000_000);
        assert_eq!([at(0).remaining, at(0).remaining, at(0).remaining], [2, 1, 0]);
        let denied = at(50);
        assert!(!denied.allowed);
        assert_eq!(denied.wait, Duration::from_millis(50));
        assert!(at(100).allowed && !at(101).allowed && at(200).allowed);
        let later = at(5_000);
        assert!(later.allowed && later.remaining == 2, "it never holds more than the burst");
    }

    #[test]
    fn workers_share_a_bucket_and_callers_do_not() {
        let table = Arc::new(Table::default());
        let (one, two) = (Limiter::new(table.clone()), Limiter::new(table));
        let limit = RateLimit { seconds: 1000, ..limit(1, 1) };
        assert!(one.take(&limit, "a").allowed && !two.take(&limit, "a").allowed);
        assert!(two.take(&limit, "b").allowed && !one.take(&limit, "b").allowed);
        let shared = RateLimit { by_caller: false, label: "all".into(), ..limit };
        assert!(one.take(&shared, "a").allowed && !one.take(&shared, "b").allowed);
    }

    #[test]
    fn callers_above_the_bound_share_one_bucket_and_full_buckets_make_room() {
        let table = Arc::new(Table::default());
        let limit = RateLimit { seconds: 1000, ..limit(1, 1) };
        // Each one of them has used its bucket up.
        for n in 0..MOST_BUCKETS {
            table.bucket((limit.label.clone(), n.to_string())).take(&limit, table.now());
        }
        let limiter = Limiter::new(table.clone());
        assert!(limiter.take(&limit, "x").allowed);
        assert!(!limiter.take(&limit, "y").allowed, "what x has used");
        assert!(table.buckets.lock().unwrap().len() <= MOST_BUCKETS + 1);
        let full = Arc::new(Table::default());
        (0..MOST_BUCKETS).for_each(|n| drop(full.bucket((limit.label.clone(), n.to_string()))));
        assert!(Limiter::new(full.clone()).take(&limit, "x").allowed);
        assert_eq!(full.buckets.lock().unwrap().len(), 1);
    }
}
