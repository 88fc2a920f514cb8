//! What the control side counts.

use std::collections::BTreeMap;

use leno_proto::resource::TYPE_URLS;
use leno_runtime::metrics::{Counter, Gauge, Registry};
use time::OffsetDateTime;

/// Handles to every series of the control side. Cheap to clone.
#[derive(Clone)]
pub struct XdsMetrics {
    pub(super) connected: Gauge,
    pub(super) last_ack: Gauge,
    pub(super) nacks: Counter,
    pub(super) destinations: Gauge,
    pub(super) revision: Gauge,
    pub(super) unsaved: Gauge,
    received: BTreeMap<&'static str, Counter>,
    pub(super) leaf_expiry: Gauge,
    pub(super) root_expiry: Gauge,
    pub(super) renewed: Counter,
    pub(super) not_renewed: Counter,
}

/// The last part of a type URL: `HttpRoute`.
pub(super) fn short(type_url: &str) -> &str {
    type_url.rsplit('.').next().unwrap_or(type_url)
}

impl XdsMetrics {
    /// Registers every series, so that each is there from the start.
    pub fn new(registry: &Registry) -> Self {
        let received =
            |url: &&'static str| (*url, registry.counter("leno_xds_resources_received_total", &[("type", short(url))]));
        let renewals = |result: &str| registry.counter("leno_certificate_renewals_total", &[("result", result)]);
        let gauge = |name: &'static str| registry.gauge(name, &[]);
        Self {
            connected: gauge("leno_xds_connected"),
            last_ack: gauge("leno_xds_last_ack_timestamp_seconds"),
            nacks: registry.counter("leno_xds_nacks_total", &[]),
            destinations: gauge("leno_xds_destinations"),
            revision: gauge("leno_xds_revision"),
            unsaved: gauge("leno_snapshot_unsaved_changes"),
            received: TYPE_URLS.iter().map(received).collect(),
            leaf_expiry: gauge("leno_certificate_expiry_timestamp_seconds"),
            root_expiry: gauge("leno_trust_root_expiry_timestamp_seconds"),
            renewed: renewals("ok"),
            not_renewed: renewals("error"),
        }
    }

    pub(super) fn received(&self, type_url: &str, n: usize) {
        if let Some(counter) = self.received.get(type_url) {
            counter.add(n as u64);
        }
    }

    pub(super) fn acked(&self, now: OffsetDateTime) {
        self.last_ack.set(now.unix_timestamp() as f64);
    }
}
