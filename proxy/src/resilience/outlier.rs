//! Outlier ejection: an endpoint that keeps failing gets no requests for a while.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

/// Longest ejection, however often it is repeated.
const MOST: Duration = Duration::from_secs(300);

/// How an attempt on an endpoint ended, as far as it speaks for or against the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was answered, and not by a 5xx.
    Good,
    /// The app says that it failed.
    Failed,
    /// A gateway error: 502, 503, 504, a reset, a timeout or no connection.
    Gateway,
}

impl Verdict {
    /// What a status says.
    pub fn of_status(code: u16) -> Self {
        match code {
            502..=504 => Self::Gateway,
            500.. => Self::Failed,
            _ => Self::Good,
        }
    }
}

/// Failures in a row after which an endpoint is ejected; zero: never.
#[derive(Debug, Clone, Copy)]
pub struct Thresholds {
    /// Of any kind.
    pub failures: u32,
    /// Gateway errors.
    pub gateway: u32,
}

/// How one endpoint has fared. Worker-local.
#[derive(Debug, Default)]
pub struct Outlier {
    failures: Cell<u32>,
    gateway: Cell<u32>,
    /// Ejections in a row.
    times: Cell<u32>,
    until: Cell<Option<Instant>>,
}

impl Outlier {
    /// A request went well. An ejection is over when its time is, not before: successes may be of older requests.
    pub fn succeeded(&self) {
        self.failures.set(0);
        self.gateway.set(0);
        if self.until.get().is_none() {
            self.times.set(0);
        }
    }

    /// A request failed. True when that makes as many failures in a row as are enough, so that the endpoint should be ejected.
    pub fn failed(&self, gateway: bool, enough: Thresholds) -> bool {
        let failures = self.failures.get().saturating_add(1);
        self.failures.set(failures);
        let in_row = if gateway { self.gateway.get().saturating_add(1) } else { 0 };
        self.gateway.set(in_row);
        let reached = |count: u32, threshold: u32| threshold != 0 && count >= threshold;
        (reached(failures, enough.failures) || reached(in_row, enough.gateway)) && self.until.get().is_none()
    }

    /// Ejects it: for `base`, and each further time in a row for as much longer.
    pub fn eject(&self, base: Duration, now: Instant) {
        let times = self.times.get().saturating_add(1);
        self.times.set(times);
        self.failures.set(0);
        self.gateway.set(0);
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

    const THREE: Thresholds = Thresholds { failures: 3, gateway: 0 };

    #[test]
    fn gateway_errors_in_a_row_are_counted_apart() {
        let enough = Thresholds { failures: 100, gateway: 2 };
        let outlier = Outlier::default();
        assert!(!outlier.failed(true, enough) && !outlier.failed(false, enough) && !outlier.failed(true, enough));
        outlier.succeeded();
        assert!(!outlier.failed(true, enough) && outlier.failed(true, enough));
        assert_eq!([500, 501, 503, 404].map(Verdict::of_status), {
            use Verdict::{Failed, Gateway, Good};
            [Failed, Failed, Gateway, Good]
        });
    }

    #[test]
    fn an_endpoint_is_ejected_after_failures_in_a_row_and_longer_each_time() {
        let base = Duration::from_secs(10);
        let now = Instant::now();
        let outlier = Outlier::default();
        assert!(!outlier.failed(false, THREE) && !outlier.failed(false, THREE));
        outlier.succeeded();
        assert!(!outlier.failed(false, THREE) && !outlier.failed(false, THREE) && outlier.failed(false, THREE));
        outlier.eject(base, now);
        assert!(outlier.is_ejected(now + Duration::from_secs(9)));
        assert!(!outlier.is_ejected(now + base) && outlier.expire(now + base));
        assert!(!outlier.failed(false, THREE) && !outlier.failed(false, THREE) && outlier.failed(false, THREE));
        outlier.eject(base, now);
        assert!(outlier.is_ejected(now + Duration::from_secs(19)));
        assert!(outlier.expire(now + Duration::from_secs(20)));
        outlier.succeeded();
        assert!(!Outlier::default().failed(true, Thresholds { failures: 0, gateway: 0 }));
    }
}
