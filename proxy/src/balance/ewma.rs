//! How long an endpoint takes to answer: a moving average that jumps up to a peak at once and decays slowly (Finagle's Peak EWMA), so
//! that one that has become slow is left alone before its requests have piled up.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

/// What was measured this long ago counts a third.
const DECAY: Duration = Duration::from_secs(10);
/// What an endpoint is taken for that has not answered yet, once it has a request: nobody sends it a second one in haste.
const UNKNOWN: Duration = Duration::from_secs(1);

/// The average of one endpoint. Worker-local.
#[derive(Debug, Default)]
pub struct PeakEwma {
    /// In nanoseconds, and when.
    average: Cell<Option<(f64, Instant)>>,
}

impl PeakEwma {
    /// An attempt took so long.
    pub fn observe(&self, took: Duration, now: Instant) {
        let took = took.as_nanos() as f64;
        let average = match self.average.get() {
            Some((average, at)) if took <= average => {
                let kept = kept(at, now);
                average * kept + took * (1.0 - kept)
            }
            _ => took,
        };
        self.average.set(Some((average, now)));
    }

    /// What one more request costs there, beside those in flight. An endpoint that was left alone is forgiven with time.
    pub fn cost(&self, in_flight: u32, now: Instant) -> u64 {
        let average = match self.average.get() {
            Some((average, at)) => average * kept(at, now),
            None if in_flight == 0 => 0.0,
            None => UNKNOWN.as_nanos() as f64,
        };
        (average * (f64::from(in_flight) + 1.0)) as u64
    }
}

fn kept(at: Instant, now: Instant) -> f64 {
    (-now.saturating_duration_since(at).as_secs_f64() / DECAY.as_secs_f64()).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_counts_at_once_and_is_forgiven_slowly() {
        let (start, ms) = (Instant::now(), Duration::from_millis);
        let endpoint = PeakEwma::default();
        assert_eq!(endpoint.cost(0, start), 0, "a new one is tried");
        assert!(endpoint.cost(1, start) >= 2_000_000_000, "but with one request only");
        endpoint.observe(ms(10), start);
        assert_eq!(endpoint.cost(0, start), 10_000_000);
        assert_eq!(endpoint.cost(2, start), 30_000_000);
        endpoint.observe(ms(500), start);
        assert_eq!(endpoint.cost(0, start), 500_000_000);
        endpoint.observe(ms(10), start + ms(100));
        assert!(endpoint.cost(0, start + ms(100)) > 490_000_000);
        assert!(endpoint.cost(0, start + ms(60_000)) < 2_000_000);
    }
}
