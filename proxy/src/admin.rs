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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xds::testing::{Sidecar, has, mesh_of_web};

    #[tokio::test]
    async fn the_dump_shows_resources_with_versions_and_no_key() {
        let control_plane = mesh_of_web().await;
        let dir = tempfile::tempdir().unwrap();
        let sidecar = Sidecar::start(&control_plane, dir.path());
        sidecar.want("default/web");
        sidecar.sees("web", |s| has(s, "default/web", "10.0.0.2")).await;
        let registry = Registry::new();
        let readiness = Readiness::new();
        let admin = admin(
            "default/web-1".into(),
            readiness,
            registry,
            sidecar.credentials.clone(),
            sidecar.handle.clone(),
            Vec::new(),
        );
        let dump = (admin.config_dump)();
        assert_eq!(dump["controlPlane"]["connected"], true);
        assert_eq!(dump["xds"]["endpoints"]["default/web-v1"][0]["address"], "10.0.0.2");
        assert!(
            dump["xds"]["resources"].as_array().unwrap().iter().all(|r| !r["version"].as_str().unwrap().is_empty())
        );
        assert_eq!(dump["identity"]["id"], "spiffe://cluster.local/ns/default/sa/web");
        assert!(!dump.to_string().contains("PRIVATE KEY"));
    }
}
