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
        let received = |url: &&'static str| {
            let help = "Resources received over the stream.";
            (*url, registry.counter("leno_xds_resources_received_total", help, &[("type", short(url))]))
        };
        let renewals = |result: &str| {
            registry.counter(
                "leno_certificate_renewals_total",
                "Attempts to renew the leaf certificate.",
                &[("result", result)],
            )
        };
        let gauge = |name: &'static str, help: &'static str| registry.gauge(name, help, &[]);
        Self {
            connected: gauge("leno_xds_connected", "1 while the stream to the control plane is open."),
            last_ack: gauge(
                "leno_xds_last_ack_timestamp_seconds",
                "When a response was last acknowledged, seconds since 1970.",
            ),
            nacks: registry.counter("leno_xds_nacks_total", "Responses of which a resource was refused.", &[]),
            destinations: gauge("leno_xds_destinations", "Destinations that the local app uses."),
            revision: gauge("leno_xds_revision", "The newest revision of which something was received."),
            unsaved: gauge(
                "leno_snapshot_unsaved_changes",
                "Changes in force that the snapshot on disk does not hold yet.",
            ),
            received: TYPE_URLS.iter().map(received).collect(),
            leaf_expiry: gauge(
                "leno_certificate_expiry_timestamp_seconds",
                "When the leaf certificate expires, seconds since 1970.",
            ),
            root_expiry: gauge(
                "leno_trust_root_expiry_timestamp_seconds",
                "When the first root of the trust bundle expires, seconds since 1970.",
            ),
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
