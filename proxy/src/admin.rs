//! What the sidecar shows on its admin port.

use std::sync::Arc;

use leno_runtime::admin::Admin;
use leno_runtime::metrics::Registry;
use leno_runtime::ready::Readiness;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::xds::client::Handle;
use crate::xds::identity::Credentials;
use crate::xds::status::Status;

/// A part of `/config_dump` that somebody else contributes: its name and what it shows.
pub type Section = (&'static str, Arc<dyn Fn() -> Value + Send + Sync>);

/// Puts the admin port together. `/config_dump` shows the identity without its key, the stream, everything held, and the
/// further sections.
pub fn admin(
    workload: String,
    readiness: Readiness,
    metrics: Registry,
    credentials: Credentials,
    handle: Handle,
    sections: Vec<Section>,
) -> Admin {
    let config_dump = move || {
        let mut dump = json!({
            "workload": workload,
            "version": env!("CARGO_PKG_VERSION"),
            "identity": identity(&credentials),
            "controlPlane": status(&handle.status().borrow()),
            "xds": handle.dump(),
        });
        for (name, show) in &sections {
            dump[*name] = show();
        }
        dump
    };
    Admin { readiness, metrics, config_dump: Arc::new(config_dump) }
}

fn identity(credentials: &Credentials) -> Value {
    let current = credentials.current();
    json!({
        "id": current.identity.id.to_string(),
        "notBefore": text(current.identity.not_before),
        "notAfter": text(current.identity.not_after),
        "renewGeneration": current.renew_generation,
        "trustDomain": current.bundle.trust_domain,
        "roots": current.bundle.to_pem(),
    })
}

fn status(status: &Status) -> Value {
    json!({
        "connected": status.connected,
        "since": status.since.map(text),
        "answered": status.answered,
        "lastError": status.last_error,
        "lastAck": status.last_ack.map(text),
        "lastNack": status.last_nack.as_ref().map(|nack| json!({"at": text(nack.at), "reason": nack.reason})),
    })
}

fn text(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}
