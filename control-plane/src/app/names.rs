//! All metrics of the control plane, as docs/metrics.md lists them.

use leno_runtime::metrics::{Named, counter, gauge, histogram};

/// In the order of the page.
pub static METRICS: &[Named] = &[
    gauge("leno_revision", &[], "the newest revision"),
    counter("leno_store_commits_total", &[], "revisions committed since the start"),
    gauge("leno_config_problems", &[], "errors in `--config-dir` as it is now"),
    gauge("leno_sidecars_connected", &[], "sidecars that hold a stream"),
    counter("leno_xds_pushes_total", &["type"], "messages sent to sidecars"),
    counter("leno_xds_resources_sent_total", &["type"], "resources sent, without the removed ones"),
    gauge("leno_xds_unanswered_messages", &[], "messages to sidecars that are not answered yet"),
    histogram("leno_xds_ack_duration_seconds", &[], "from a message to a sidecar to its answer"),
    counter("leno_xds_nacks_total", &[], "messages that sidecars refused"),
    counter(
        "leno_ca_signings_total",
        &["kind"],
        "leaf certificates signed: `join`, `join_secret`, `service_account`, `renew`",
    ),
    counter("leno_identity_refusals_total", &["reason"], "identities that were refused, at the handshake too"),
    gauge("leno_root_not_after_seconds", &[], "when the first certificate of the authority expires, since 1970"),
    gauge(
        "leno_certificates_expiring",
        &["days"],
        "what ends within 30, 7, 1 and 0 days: the authority, certificates in Secrets and ConfigMaps, roots of federated domains",
    ),
    gauge("leno_ca_rotation_phase", &[], "0: no rotation is under way; 1: distributing; 2: reissuing"),
    gauge("leno_ca_rotation_missing_sidecars", &[], "sidecars that the rotation waits for"),
    counter("leno_jwks_fetches_total", &["result"], "key sets fetched"),
    counter("leno_federation_fetches_total", &["trust_domain", "result"], "bundles of federated trust domains fetched"),
];
