//! Gauges of what stands open at a service. The request path counts in cells of its worker; housekeeping shows them every few seconds.

use std::cell::{Cell, OnceCell};

use leno_runtime::metrics::{Gauge, Registry};

use super::{Direction, Overflow};

/// A worker's part of a gauge that all workers add to. The series is made when there is first something to say.
#[derive(Debug, Default)]
pub struct Level {
    gauge: OnceCell<Gauge>,
    said: Cell<f64>,
}

impl Level {
    /// It is so much now.
    pub fn set(&self, now: f64, make: impl FnOnce() -> Gauge) {
        if now != self.said.get() {
            self.gauge.get_or_init(make).add(now - self.said.replace(now));
        }
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        self.gauge.get().into_iter().for_each(|gauge| gauge.add(-self.said.get()));
    }
}

/// What a circuit breaker counts, by the order of [`Overflow`], and which of its limits are reached.
pub type Open = [(u32, bool); Overflow::WORDS.len()];

/// What is open at one service.
#[derive(Debug, Default)]
pub(super) struct Levels {
    active: Level,
    pending: Level,
    connections: Level,
    reached: [Level; Overflow::WORDS.len()],
}

impl Levels {
    pub(super) fn active(&self, registry: &Registry, direction: Direction, service: &str, requests: u32) {
        let name = match direction {
            Direction::Outbound => "http_client_active_requests",
            Direction::Inbound => "http_server_active_requests",
        };
        self.active.set(f64::from(requests), || registry.gauge(name, &[("service", service)]));
    }

    pub(super) fn open(&self, registry: &Registry, service: &str, open: &Open) {
        let (pending, connections) = (open[Overflow::Pending as usize].0, open[Overflow::Connections as usize].0);
        let gauge = |name| move || registry.gauge(name, &[("service", service)]);
        self.pending.set(f64::from(pending), gauge("leno_pending_requests"));
        self.connections.set(f64::from(connections), gauge("leno_open_connections"));
        for ((level, limit), (_, reached)) in self.reached.iter().zip(Overflow::WORDS).zip(open) {
            let labels = &[("service", service), ("limit", limit)];
            level.set(f64::from(u8::from(*reached)), || registry.gauge("leno_circuit_breaker_open", labels));
        }
    }
}

/// Shows how many retries a budget would grant, from the first one on that was asked of it.
pub fn budget_left(level: &Level, registry: &Registry, service: &str, left: f64) {
    level.set(left, || registry.gauge("leno_retry_budget_left", &[("service", service)]));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_add_up_and_take_their_part_back_when_they_go() {
        let registry = Registry::new();
        let show = |level: &Level, now| level.set(now, || registry.gauge("leno_pending_requests", &[]));
        let (one, other) = (Level::default(), Level::default());
        show(&one, 0.0);
        assert!(registry.read("leno_pending_requests").is_empty(), "nothing to say, no series");
        show(&one, 3.0);
        show(&other, 2.0);
        show(&one, 1.0);
        let gauge = registry.gauge("leno_pending_requests", &[]);
        assert_eq!(gauge.get(), 3.0);
        drop(one);
        assert_eq!(gauge.get(), 2.0);
    }
}
