//! Exponential backoff with full jitter.

use std::time::Duration;

/// Delays that double from `base` up to `max`, each drawn at random between nothing and its bound, so that many clients that
/// lost the same server do not come back at once.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    bound: Duration,
}

impl Backoff {
    /// Starts at `base`, never above `max`.
    pub fn new(base: Duration, max: Duration) -> Self {
        Self { base, max, bound: base }
    }

    /// How long to wait now.
    pub fn next_delay(&mut self) -> Duration {
        let bound = self.bound;
        self.bound = (bound * 2).min(self.max);
        bound.mul_f64(fastrand::f64())
    }

    /// It worked: the next failure starts small again.
    pub fn reset(&mut self) {
        self.bound = self.base;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_stay_below_their_bound_and_the_bound_below_the_maximum() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for bound in [100, 200, 400, 800, 1000, 1000] {
            assert!(backoff.next_delay() <= Duration::from_millis(bound));
        }
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_millis(100));
    }
}
