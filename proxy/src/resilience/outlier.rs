//! Outlier ejection: an endpoint that keeps failing gets no requests for a while.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

/// Longest ejection, however often it is repeated.
const MOST: Duration = Duration::from_secs(300);

/// How one endpoint has fared. Worker-local.
#[derive(Debug, Default)]
pub struct Outlier {
    failures: Cell<u32>,
    /// Ejections in a row.
    times: Cell<u32>,
    until: Cell<Option<Instant>>,
}

impl Outlier {
    /// A request went well. An ejection is over when its time is, not before: successes may be of older requests.
    pub fn succeeded(&self) {
        self.failures.set(0);
        if self.until.get().is_none() {
            self.times.set(0);
        }
    }

    /// A request failed. True when that makes `threshold` failures in a row, so that the endpoint should be ejected.
    pub fn failed(&self, threshold: u32) -> bool {
        let failures = self.failures.get().saturating_add(1);
        self.failures.set(failures);
        threshold != 0 && failures >= threshold && self.until.get().is_none()
    }

    /// Ejects it: for `base`, and each further time in a row for as much longer.
    pub fn eject(&self, base: Duration, now: Instant) {
        let times = self.times.get().saturating_add(1);
        self.times.set(times);
        self.failures.set(0);
        self.until.set(Some(now + base.saturating_mul(times).min(MOST)));
    }

    /// Whether it is ejected now.
    pub fn is_ejected(&self, now: Instant) -> bool {
        self.until.get().is_some_and(|until| now < until)
    }

    /// Ends an ejection whose time is over; true when there was one.
    pub fn expire(&self, now: Instant) -> bool {
        let over = self.until.get().is_some_and(|until| now >= until);
        if over {
            self.until.set(None);
        }
        over
    }

    /// Whether it counts as ejected, over or not.
    pub fn holds_ejection(&self) -> bool {
        self.until.get().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_ejected_after_failures_in_a_row_and_longer_each_time() {
        let base = Duration::from_secs(10);
        let now = Instant::now();
        let outlier = Outlier::default();
        assert!(!outlier.failed(3) && !outlier.failed(3));
        outlier.succeeded();
        assert!(!outlier.failed(3) && !outlier.failed(3) && outlier.failed(3));
        outlier.eject(base, now);
        assert!(outlier.is_ejected(now + Duration::from_secs(9)));
        assert!(!outlier.is_ejected(now + base) && outlier.expire(now + base));
        assert!(!outlier.failed(3) && !outlier.failed(3) && outlier.failed(3));
        outlier.eject(base, now);
        assert!(outlier.is_ejected(now + Duration::from_secs(19)));
        assert!(outlier.expire(now + Duration::from_secs(20)));
        outlier.succeeded();
        assert!(!Outlier::default().failed(0));
    }
}
