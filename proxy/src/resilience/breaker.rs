//! Circuit breaking: what one client has open at a service is bounded, and what is above fails at once, so that a slow service
//! does not become a slow client. Worker-local; each worker has its share.

use std::cell::Cell;
use std::rc::Rc;

use crate::error::Reason;
use crate::model::CircuitBreaker;
use crate::telemetry::levels::Open;
use crate::telemetry::{Overflow, ServiceMetrics};

/// What is open at a service.
#[derive(Debug)]
pub struct Breaker {
    workers: u32,
    metrics: Rc<ServiceMetrics>,
    connections: Rc<Cell<u32>>,
    pending: Rc<Cell<u32>>,
    requests: Rc<Cell<u32>>,
    retries: Rc<Cell<u32>>,
}

/// Counts as open until it is dropped.
#[derive(Debug)]
pub struct Permit(Rc<Cell<u32>>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

impl Breaker {
    /// For one of `workers`.
    pub fn new(workers: u32, metrics: Rc<ServiceMetrics>) -> Self {
        let none = Rc::default;
        Self {
            workers: workers.max(1),
            metrics,
            connections: none(),
            pending: none(),
            requests: none(),
            retries: none(),
        }
    }

    /// A request begins; it is open until its answer is whole.
    ///
    /// # Errors
    /// As many are open as may be.
    pub fn request(&self, limits: &CircuitBreaker) -> Result<Permit, Reason> {
        self.take(&self.requests, limits.requests, Overflow::Requests)
    }

    /// A request waits for a connection.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn pending(&self, limits: &CircuitBreaker) -> Result<Permit, Reason> {
        self.take(&self.pending, limits.pending, Overflow::Pending)
    }

    /// A connection of one request or of opaque bytes is dialled.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn connection(&self, limits: &CircuitBreaker) -> Result<Permit, Reason> {
        self.take(&self.connections, limits.connections, Overflow::Connections)
    }

    /// A request is tried again.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn retry(&self, limits: &CircuitBreaker) -> Result<Permit, Reason> {
        self.take(&self.retries, limits.retries, Overflow::Retries)
    }

    /// How much is open of each, and whether that is all that may be.
    pub fn open(&self, limits: &CircuitBreaker) -> Open {
        let of = |open: &Rc<Cell<u32>>, most: u32| (open.get(), open.get() >= self.share(most));
        [
            of(&self.connections, limits.connections),
            of(&self.pending, limits.pending),
            of(&self.requests, limits.requests),
            of(&self.retries, limits.retries),
        ]
    }

    /// A worker's share, rounded up: a limit of one lets one through everywhere.
    fn share(&self, most: u32) -> u32 {
        most.div_ceil(self.workers)
    }

    fn take(&self, open: &Rc<Cell<u32>>, most: u32, what: Overflow) -> Result<Permit, Reason> {
        if open.get() >= self.share(most) {
            self.metrics.overflow(what);
            return Err(Reason::Overloaded);
        }
        open.set(open.get() + 1);
        Ok(Permit(open.clone()))
    }
}

#[cfg(test)]
mod tests {
    use leno_runtime::metrics::Registry;

    use super::*;
    use crate::telemetry::Direction;

    #[test]
    fn what_is_above_the_workers_share_fails_until_something_is_dropped() {
        let metrics = Rc::new(ServiceMetrics::new(&Registry::new(), Direction::Outbound, "default/web"));
        let breaker = Breaker::new(2, metrics);
        let limits = CircuitBreaker { requests: 5, retries: 1, ..CircuitBreaker::default() };
        let mut open: Vec<_> = (0..3).map(|_| breaker.request(&limits).unwrap()).collect();
        assert_eq!(breaker.request(&limits).unwrap_err(), Reason::Overloaded);
        open.pop();
        open.push(breaker.request(&limits).unwrap());
        assert!(breaker.request(&limits).is_err());
        assert_eq!(
            breaker.open(&limits).map(|(open, reached)| (open, reached)),
            [(0, false), (0, false), (3, true), (0, false)]
        );
        // Each is counted for itself.
        let retry = breaker.retry(&limits).unwrap();
        assert!(breaker.retry(&limits).is_err());
        drop((open, retry));
        assert!(breaker.request(&limits).is_ok() && breaker.retry(&limits).is_ok());
    }
}
