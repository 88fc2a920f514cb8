//! What the xDS port counts. Handles are made once, so that a push counts without a lookup.

use std::time::Duration;

use leno_runtime::metrics::{Counter, Gauge, Histogram, Registry};

use crate::discovery::ResourceType;

#[derive(Clone)]
pub(super) struct StreamMetrics {
    connected: Gauge,
    nacks: Counter,
    answered: Histogram,
    /// By type: messages and the resources in them.
    pushes: [(Counter, Counter); ResourceType::ALL.len()],
}

impl StreamMetrics {
    pub(super) fn new(metrics: &Registry) -> Self {
        let pushes = ResourceType::ALL.map(|kind| {
            let labels = [("type", kind.label())];
            (
                metrics.counter("leno_xds_pushes_total", "Messages sent to sidecars.", &labels),
                metrics.counter(
                    "leno_xds_resources_sent_total",
                    "Resources sent to sidecars, without the removed ones.",
                    &labels,
                ),
            )
        });
        Self {
            connected: metrics.gauge("leno_sidecars_connected", "Sidecars that hold a stream.", &[]),
            answered: metrics.histogram(
                "leno_xds_ack_duration_seconds",
                "From a message to a sidecar to its answer, whether it took it or not.",
                &[],
            ),
            nacks: metrics.counter("leno_xds_nacks_total", "Messages that sidecars refused.", &[]),
            pushes,
        }
    }

    pub(super) fn connected(&self, by: f64) {
        self.connected.add(by);
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
