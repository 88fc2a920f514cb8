//! The retry budget: retries are a share of the requests plus a few a second, so that they cannot multiply an outage.

use std::cell::RefCell;

use tokio::time::Instant;

/// Most retries that requests can save up. Bounds the burst after a quiet, healthy hour.
const MOST_SAVED: f64 = 100.0;
/// Retries that are lent before any request has come, in seconds' worth of the per-second part: an instance may be bad from the
/// first moment on, and many requests meet it at once. The first requests earn less until the loan is paid back.
const LENT_SECONDS: f64 = 2.0;
/// What a request pays back of what it earns, until then.
const REPAID: f64 = 0.25;
/// The per-second part is granted a little slower than promised, and half a second's worth at once, so that the promise holds for
/// whoever counts from any moment to any other.
const PACE: f64 = 0.9;
const BURST_SECONDS: f64 = 0.5;

/// Worker-local. With several workers each has its share of the per-second part.
#[derive(Debug)]
pub struct RetryBudget {
    share: f64,
    per_second: f64,
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    /// Earned by requests, or lent.
    earned: f64,
    /// Still to be paid back.
    lent: f64,
    /// Granted by the passing time.
    granted: f64,
    at: Instant,
    /// Whether there was any need of it.
    asked: bool,
}

impl RetryBudget {
    /// `percent` of the requests plus `per_second` retries in each second.
    pub fn new(percent: u32, per_second: f64, now: Instant) -> Self {
        let lent = if percent == 0 { 0.0 } else { LENT_SECONDS * per_second };
        let state = State { earned: lent, lent, granted: BURST_SECONDS * per_second, at: now, asked: false };
        Self { share: f64::from(percent) / 100.0, per_second, state: RefCell::new(state) }
    }

    /// Whether it was made with these bounds.
    pub fn is(&self, percent: u32, per_second: f64) -> bool {
        (self.share - f64::from(percent) / 100.0).abs() < f64::EPSILON
            && (self.per_second - per_second).abs() < f64::EPSILON
    }

    /// A request has come (its first attempt, not a retry).
    pub fn request(&self) {
        let mut state = self.state.borrow_mut();
        let repaid = state.lent.min(self.share * REPAID);
        state.lent -= repaid;
        state.earned = (state.earned + self.share - repaid).min(MOST_SAVED);
    }

    /// Asks for one retry.
    pub fn withdraw(&self, now: Instant) -> bool {
        let mut state = self.state.borrow_mut();
        state.asked = true;
        state.granted = self.granted(&state, now);
        state.at = now;
        if state.granted >= 1.0 {
            state.granted -= 1.0;
        } else if state.earned >= 1.0 {
            state.earned -= 1.0;
        } else {
            return false;
        }
        true
    }

    /// How many retries would be granted now. None: nobody has asked for one yet.
    pub fn left(&self, now: Instant) -> Option<f64> {
        let state = self.state.borrow();
        state.asked.then(|| (self.granted(&state, now) + state.earned).floor())
    }

    fn granted(&self, state: &State, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(state.at).as_secs_f64();
        // At least one whole retry can be granted, however few there are in a second.
        let most = (BURST_SECONDS * self.per_second).max(1.0);
        (state.granted + PACE * self.per_second * passed).min(most)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
    fn the_promise_holds_from_any_moment_to_any_other_once_the_loan_is_paid_back() {
        let start = Instant::now();
        let budget = RetryBudget::new(20, 10.0, start);
        let mut granted = Vec::new();
        for n in 0..4_000_u32 {
            budget.request();
            let now = start + Duration::from_millis(u64::from(n) * 2);
            granted.push((0..3).filter(|_| budget.withdraw(now)).count() as f64);
        }
        for (from, to) in [(500, 1_000), (500, 4_000), (777, 1_777), (1_234, 3_999)] {
            let retries: f64 = granted[from..to].iter().sum();
            let (requests, seconds) = ((to - from) as f64, (to - from) as f64 * 0.002);
            assert!(retries <= 0.2 * requests + 10.0 * seconds.ceil(), "{from} to {to}: {retries}");
        }
    }

    #[test]
    fn a_bad_instance_that_many_requests_meet_at_once_is_retried_from_the_first_moment_on() {
        let start = Instant::now();
        let budget = RetryBudget::new(20, 10.0, start);
        (0..64).for_each(|_| budget.request());
        assert!((0..32).all(|_| budget.withdraw(start)));
    }

    #[test]
    fn a_few_retries_are_granted_without_traffic() {
        let start = Instant::now();
        let budget = RetryBudget::new(20, 10.0, start);
        assert_eq!((0..100).filter(|_| budget.withdraw(start)).count(), 25);
        assert_eq!((0..100).filter(|_| budget.withdraw(start + Duration::from_secs(9))).count(), 5);
        // Even one in ten seconds comes.
        let slow = RetryBudget::new(0, 0.1, start);
        assert!(!slow.withdraw(start) && slow.withdraw(start + Duration::from_secs(12)));
    }
}
