//! Adaptive concurrency: how many requests the app gets at once follows how fast it answers. The best latency seen is what the
//! app does unhindered; while it answers about as fast the limit grows, and when requests queue up inside it the limit falls in
//! proportion. What is above is refused unseen, so that the caller's sidecar can try another instance.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::AdaptiveConcurrency;

/// The limit changes once in so many answers at least …
const LEAST_SAMPLES: u32 = 10;
/// … and after this time at least.
const WINDOW: Duration = Duration::from_millis(100);
/// The best latency is measured anew after so many windows, so that an app that has become slower for good is not held down. A
/// limit that is in use falls to the least for one window then: measured under load, each best would be worse than the last one.
const MOST_WINDOWS: u32 = 300;
/// One window lowers the limit to this part of it at most.
const STEEPEST: f64 = 0.5;
/// Latencies below this are noise.
const NOISE: f64 = 0.002;

/// The limit of one worker, in front of the app.
#[derive(Debug)]
pub struct Adaptive {
    bounds: AdaptiveConcurrency,
    state: RefCell<State>,
    in_flight: Rc<Cell<u32>>,
}

#[derive(Debug)]
struct State {
    limit: f64,
    /// Seconds.
    best: Option<f64>,
    windows: u32,
    sum: f64,
    samples: u32,
    /// Most requests in flight in this window.
    peak: u32,
    began: Instant,
    /// The limit to go back to after the best latency was measured anew.
    after_probe: Option<f64>,
}

/// A request is with the app until this is dropped.
#[derive(Debug)]
pub struct Admitted {
    in_flight: Rc<Cell<u32>>,
    since: Instant,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
    }
}

impl Adaptive {
    /// Starts in the middle.
    pub fn new(bounds: AdaptiveConcurrency, now: Instant) -> Self {
        let limit = (f64::from(bounds.least) * f64::from(bounds.most)).sqrt();
        let state =
            State { limit, best: None, windows: 0, sum: 0.0, samples: 0, peak: 0, began: now, after_probe: None };
        Self { bounds, state: RefCell::new(state), in_flight: Rc::default() }
    }

    /// Whether it was made with these bounds.
    pub fn is(&self, bounds: AdaptiveConcurrency) -> bool {
        self.bounds == bounds
    }

    /// Requests that are let in at once now.
    pub fn limit(&self) -> f64 {
        self.state.borrow().limit
    }

    /// Lets a request in, or none.
    pub fn admit(&self, now: Instant) -> Option<Admitted> {
        let in_flight = self.in_flight.get();
        let mut state = self.state.borrow_mut();
        if f64::from(in_flight) >= state.limit.floor() {
            return None;
        }
        self.in_flight.set(in_flight + 1);
        state.peak = state.peak.max(in_flight + 1);
        Some(Admitted { in_flight: self.in_flight.clone(), since: now })
    }

    /// The app has begun to answer, or failed to.
    pub fn answered(&self, admitted: &Admitted, now: Instant) {
        let mut state = self.state.borrow_mut();
        if state.after_probe.is_some() && admitted.since < state.began {
            // It was let in before, and has waited with the others.
            return;
        }
        state.sum += now.duration_since(admitted.since).as_secs_f64();
        state.samples += 1;
        if state.samples >= LEAST_SAMPLES && now.duration_since(state.began) >= WINDOW {
            state.close(self.bounds, now);
        }
    }
}

impl State {
    fn close(&mut self, bounds: AdaptiveConcurrency, now: Instant) {
        let latency = (self.sum / f64::from(self.samples)).max(NOISE);
        let used = f64::from(self.peak) * 2.0 >= self.limit;
        (self.sum, self.samples, self.peak, self.began) = (0.0, 0, 0, now);
        self.windows += 1;
        if let Some(limit) = self.after_probe.take() {
            (self.best, self.limit) = (Some(latency), limit);
            return;
        }
        if self.windows > MOST_WINDOWS {
            (self.windows, self.best) = (0, None);
            if used {
                self.after_probe = Some(self.limit);
                self.limit = f64::from(bounds.least);
                return;
            }
        }
        let best = self.best.map_or(latency, |best| best.min(latency));
        self.best = Some(best);
        let gradient = (f64::from(bounds.tolerance_percent) / 100.0 * best / latency).clamp(STEEPEST, 1.0);
        let mut limit = self.limit * gradient;
        // It grows only when it was made use of: otherwise nothing is known of what is above.
        if gradient >= 1.0 && used {
            limit += self.limit.sqrt().max(1.0);
        }
        self.limit = limit.clamp(f64::from(bounds.least), f64::from(bounds.most));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: AdaptiveConcurrency = AdaptiveConcurrency { least: 2, most: 200, tolerance_percent: 200 };

    /// An app that does `workers` requests at once, in `service` seconds each, and queues the rest; as many requests as are let
    /// in, for `seconds`. Gives the limit at the end.
    fn run(adaptive: &Adaptive, clock: &mut Instant, workers: f64, service: f64, seconds: u64) -> f64 {
        let end = *clock + Duration::from_secs(seconds);
        while *clock < end {
            let admitted: Vec<_> = std::iter::from_fn(|| adaptive.admit(*clock)).collect();
            let queued = (admitted.len() as f64 / workers).max(1.0);
            *clock += Duration::from_secs_f64(service * queued);
            admitted.iter().for_each(|one| adaptive.answered(one, *clock));
        }
        adaptive.limit()
    }

    #[test]
    fn the_limit_grows_while_the_app_keeps_up_falls_when_it_does_not_and_comes_back() {
        let mut clock = Instant::now();
        let adaptive = Adaptive::new(BOUNDS, clock);
        let unhindered = run(&adaptive, &mut clock, 1000.0, 0.02, 10);
        assert!(unhindered > 150.0, "{unhindered}");
        let overloaded = run(&adaptive, &mut clock, 8.0, 0.02, 10);
        assert!((4.0..40.0).contains(&overloaded), "{overloaded}");
        let recovered = run(&adaptive, &mut clock, 1000.0, 0.02, 10);
        assert!(recovered > 150.0, "{recovered}");
    }

    #[test]
    fn an_overload_that_lasts_does_not_creep_up_and_an_app_that_stays_slower_is_not_held_down() {
        let mut clock = Instant::now();
        let adaptive = Adaptive::new(BOUNDS, clock);
        run(&adaptive, &mut clock, 1000.0, 0.02, 5);
        for _ in 0..20 {
            let overloaded = run(&adaptive, &mut clock, 8.0, 0.02, 17);
            assert!(overloaded < 40.0, "{overloaded}");
        }
        let slower = run(&adaptive, &mut clock, 1000.0, 0.2, 600);
        assert!(slower > 150.0, "{slower}");
    }

    #[test]
    fn what_is_above_the_limit_is_refused_and_the_limit_keeps_within_its_bounds() {
        let mut clock = Instant::now();
        let adaptive = Adaptive::new(AdaptiveConcurrency { least: 3, most: 3, ..BOUNDS }, clock);
        let held: Vec<_> = (0..3).map(|_| adaptive.admit(clock).unwrap()).collect();
        assert!(adaptive.admit(clock).is_none());
        drop(held);
        assert!((run(&adaptive, &mut clock, 0.1, 1.0, 100) - 3.0).abs() < f64::EPSILON);
    }
}
