//! Ejection by rates: over an interval an endpoint is compared with the others of its service. It is an outlier only when it does
//! worse than they do; when all do badly, none is.

use std::cell::Cell;
use std::time::Duration;

/// Differences in latency below this are noise, whatever the factor.
const NOISE: Duration = Duration::from_millis(5);

/// How one endpoint has fared in an interval. Worker-local.
#[derive(Debug, Default)]
pub struct Rate {
    requests: Cell<u32>,
    good: Cell<u32>,
    took: Cell<Duration>,
    /// The longest that one took.
    longest: Cell<Duration>,
}

/// What an endpoint is judged by.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// With fewer requests it is not judged.
    pub minimum_requests: u32,
    /// Lowest share of successes, in percent; zero: any.
    pub success_rate_percent: u32,
    /// How many times as long as the others it may take; zero: any.
    pub latency_factor: u32,
}

impl Rate {
    /// An attempt ended.
    pub fn add(&self, good: bool, took: Duration) {
        self.requests.set(self.requests.get().saturating_add(1));
        self.good.set(self.good.get().saturating_add(u32::from(good)));
        self.took.set(self.took.get().saturating_add(took));
        self.longest.set(self.longest.get().max(took));
    }

    /// Begins the next interval; gives the share of successes and the mean time, when there were enough requests. The longest one
    /// is left out of the mean: a single one that had to wait, for a connection or a pause of the machine, says nothing of the others.
    fn take(&self, minimum: u32) -> Option<(f64, Duration)> {
        let (requests, good, took) = (self.requests.take(), self.good.take(), self.took.take());
        let usual = took.saturating_sub(self.longest.take()) / requests.saturating_sub(1).max(1);
        (requests != 0 && requests >= minimum).then(|| (f64::from(good) * 100.0 / f64::from(requests), usual))
    }
}

/// The indices of the outliers, worst first by what they are ejected for. Begins the next interval.
pub fn outliers<'a>(rates: impl Iterator<Item = &'a Rate>, limits: Limits) -> Vec<usize> {
    let judged: Vec<(usize, (f64, Duration))> =
        rates.enumerate().filter_map(|(i, rate)| Some((i, rate.take(limits.minimum_requests)?))).collect();
    let mut out = Vec::new();
    if limits.success_rate_percent != 0 {
        let least = f64::from(limits.success_rate_percent);
        let mut sorted: Vec<_> = judged.iter().map(|(i, (rate, _))| (*i, *rate)).collect();
        sorted.sort_by(|a, b| a.1.total_cmp(&b.1));
        let bad = |at: &usize| sorted[*at].1 < least && others(&sorted, *at).is_some_and(|others| others >= least);
        out.extend((0..sorted.len()).filter(bad).map(|at| sorted[at].0));
    }
    if limits.latency_factor != 0 {
        let mut sorted: Vec<_> = judged.iter().map(|(i, (_, took))| (*i, *took)).collect();
        sorted.sort_by_key(|one| std::cmp::Reverse(one.1));
        let slow = |at: &usize| {
            let took = sorted[*at].1;
            others(&sorted, *at).is_some_and(|others| {
                took > others.saturating_mul(limits.latency_factor) && took.saturating_sub(others) > NOISE
            })
        };
        out.extend((0..sorted.len()).filter(slow).map(|at| sorted[at].0));
    }
    let mut seen = std::collections::HashSet::new();
    out.retain(|index| seen.insert(*index));
    out
}

/// The median of all but one. None: there is no other.
fn others<T: Copy>(sorted: &[(usize, T)], but: usize) -> Option<T> {
    let middle = sorted.len().checked_sub(2)? / 2;
    sorted.get(if middle >= but { middle + 1 } else { middle }).map(|(_, value)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody.
    const NONE: [usize; 0] = [];
    const LIMITS: Limits = Limits { minimum_requests: 10, success_rate_percent: 90, latency_factor: 3 };

    /// `(requests, of them good, milliseconds each)`
    fn found(endpoints: &[(u32, u32, u64)]) -> Vec<usize> {
        let rates: Vec<Rate> = endpoints.iter().map(|_| Rate::default()).collect();
        for (rate, (requests, good, ms)) in rates.iter().zip(endpoints) {
            (0..*requests).for_each(|n| rate.add(n < *good, Duration::from_millis(*ms)));
        }
        let found = outliers(rates.iter(), LIMITS);
        assert!(outliers(rates.iter(), LIMITS).is_empty(), "the next interval is a new one");
        found
    }

    #[test]
    fn an_endpoint_that_fails_more_than_the_others_is_an_outlier_and_not_when_all_do() {
        assert_eq!(found(&[(100, 100, 10), (100, 80, 10), (100, 99, 10)]), [1]);
        assert_eq!(found(&[(100, 100, 10), (100, 80, 10)]), [1]);
        assert!(found(&[(100, 80, 10), (100, 80, 10), (100, 99, 10)]).len() < 2);
        assert_eq!(found(&[(100, 50, 10), (100, 50, 10)]), NONE);
        assert_eq!(found(&[(100, 100, 10), (9, 0, 10)]), NONE, "too few requests to tell");
        assert_eq!(found(&[(100, 0, 10)]), NONE, "there is no other to compare it with");
    }

    #[test]
    fn an_endpoint_that_is_slower_than_the_others_is_an_outlier_and_noise_is_not() {
        assert_eq!(found(&[(20, 20, 10), (20, 20, 12), (20, 20, 40)]), [2]);
        assert_eq!(found(&[(20, 20, 10), (20, 20, 29)]), NONE);
        assert_eq!(found(&[(20, 20, 1), (20, 20, 4)]), NONE);
        assert_eq!(found(&[(20, 10, 200), (20, 20, 10), (20, 20, 10)]), [0], "once for both");
    }

    #[test]
    fn one_request_that_had_to_wait_makes_nobody_slow() {
        let rates = [Rate::default(), Rate::default()];
        rates.iter().for_each(|rate| (0..10).for_each(|_| rate.add(true, Duration::from_millis(1))));
        rates[0].add(true, Duration::from_secs(10));
        assert!(outliers(rates.iter(), LIMITS).is_empty());
        for rate in &rates {
            (0..10).for_each(|_| rate.add(true, Duration::from_millis(1)));
        }
        (0..5).for_each(|_| rates[0].add(true, Duration::from_secs(10)));
        assert_eq!(outliers(rates.iter(), LIMITS), [0], "several are no accident");
    }
}
