//! What the xDS port counts. Handles are made once, so that a push counts without a lookup.

use std::time::Duration;

use leno_runtime::metrics::{Counter, Gauge, Histogram, Registry};

use crate::discovery::ResourceType;

#[derive(Clone)]
pub(super) struct StreamMetrics {
    connected: Gauge,
    nacks: Counter,
    answered: Histogram,
    unanswered: Gauge,
    /// By type: messages and the resources in them.
    pushes: [(Counter, Counter); ResourceType::ALL.len()],
}

impl StreamMetrics {
    pub(super) fn new(metrics: &Registry) -> Self {
        let pushes = ResourceType::ALL.map(|kind| {
            let labels = [("type", kind.label())];
            (
                metrics.counter("leno_xds_pushes_total", &labels),
                metrics.counter("leno_xds_resources_sent_total", &labels),
            )
        });
        Self {
            connected: metrics.gauge("leno_sidecars_connected", &[]),
            unanswered: metrics.gauge("leno_xds_unanswered_messages", &[]),
            answered: metrics.histogram("leno_xds_ack_duration_seconds", &[]),
            nacks: metrics.counter("leno_xds_nacks_total", &[]),
            pushes,
        }
    }

    pub(super) fn connected(&self, by: f64) {
        self.connected.add(by);
    }

    /// A session's part of what is not answered.
    pub(super) fn unanswered(&self) -> Unanswered {
        Unanswered { gauge: self.unanswered.clone(), said: 0 }
    }

    pub(super) fn answered(&self, after: Duration) {
        self.answered.observe(after);
    }

    pub(super) fn nacked(&self) {
        self.nacks.inc();
    }

    pub(super) fn pushed(&self, kind: ResourceType, resources: usize) {
        let (messages, sent) = &self.pushes[kind as usize];
        messages.inc();
        sent.add(resources as u64);
    }
}

/// Messages of one session that its sidecar has not answered yet; none when it ends.
pub(super) struct Unanswered {
    gauge: Gauge,
    said: usize,
}

impl Unanswered {
    pub(super) fn set(&mut self, now: usize) {
        if now != self.said {
            self.gauge.add(now as f64 - self.said as f64);
            self.said = now;
        }
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        self.set(0);
    }
}
