//! The retry budget: retries are a share of the requests plus a few a second, so that they cannot multiply an outage.

use std::cell::RefCell;
use std::time::Duration;

use tokio::time::Instant;

/// Most tokens that requests can save up, in retries. Bounds the burst after a quiet, healthy hour.
const MOST_SAVED: f64 = 100.0;

/// Worker-local. With several workers each has its share of the per-second part.
#[derive(Debug)]
pub struct RetryBudget {
    share: f64,
    per_second: f64,
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    /// Earned by requests.
    earned: f64,
    /// Granted by the passing second.
    granted: f64,
    second: Instant,
}

impl RetryBudget {
    /// `percent` of the requests plus `per_second` retries in each second.
    pub fn new(percent: u32, per_second: f64, now: Instant) -> Self {
        let state = RefCell::new(State { earned: 0.0, granted: per_second, second: now });
        Self { share: f64::from(percent) / 100.0, per_second, state }
    }

    /// Whether it was made with these bounds.
    pub fn is(&self, percent: u32, per_second: f64) -> bool {
        (self.share - f64::from(percent) / 100.0).abs() < f64::EPSILON
            && (self.per_second - per_second).abs() < f64::EPSILON
    }

    /// A request has come (its first attempt, not a retry).
    pub fn request(&self) {
        let mut state = self.state.borrow_mut();
        state.earned = (state.earned + self.share).min(MOST_SAVED);
    }

    /// Asks for one retry.
    pub fn withdraw(&self, now: Instant) -> bool {
        let mut state = self.state.borrow_mut();
        // What a second does not use is lost, so that no burst can be saved up from it.
        if now.duration_since(state.second) >= Duration::from_secs(1) {
            state.second = now;
            state.granted = self.per_second;
        }
        if state.granted >= 1.0 {
            state.granted -= 1.0;
        } else if state.earned >= 1.0 {
            state.earned -= 1.0;
        } else {
            return false;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_stay_within_their_share_and_the_seconds_part() {
        let start = Instant::now();
        let budget = RetryBudget::new(20, 10.0, start);
        let mut retries = 0;
        // 10,000 requests over 10 s, each of which wants to be retried twice.
        for n in 0..10_000_u32 {
            budget.request();
            let now = start + Duration::from_millis(u64::from(n));
            retries += u32::from(budget.withdraw(now)) + u32::from(budget.withdraw(now));
        }
        assert!((2000..=2100).contains(&retries), "{retries}");
    }

    #[test]
    fn a_few_retries_are_granted_without_traffic() {
        let start = Instant::now();
        let budget = RetryBudget::new(20, 10.0, start);
        assert_eq!((0..100).filter(|_| budget.withdraw(start)).count(), 10);
        assert_eq!((0..100).filter(|_| budget.withdraw(start + Duration::from_secs(9))).count(), 10);
    }
}
