//! `leno status`: the control plane, and each sidecar with what it holds.

use http::Method;
use time::OffsetDateTime;

use super::report::print_problems;
use crate::args::Global;
use crate::client::{ControlPlane, Status, read};
use crate::failure::Failure;
use crate::output::{self, Format, Paint, Table, printable};
use crate::spans::{relative, span};

/// Show each sidecar: identity, revision, ACK or NACK with the reason, certificate expiry
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {}

const EXAMPLES: &str = "Examples:
  leno status
  leno status -o json | jq '.sidecars[] | select(.ack == \"NACK\")'";

/// Runs the command.
///
/// # Errors
/// The control plane could not be asked.
pub async fn run(global: &Global) -> Result<(), Failure> {
    let answer = super::client(global)?.expect(Method::GET, "/v1/status", None).await?;
    if global.output != Format::Table {
        return output::value(&answer, global.output);
    }
    let status: Status = read(&answer)?;
    let now = OffsetDateTime::now_utc();
    output::line(headline(&status.control_plane, now))?;
    print_problems(&status.problems);
    if status.sidecars.is_empty() {
        return output::line(
            "No sidecar has joined yet: leno token create --service-account NAME, then start leno-proxy with it.",
        );
    }
    output::line("")?;
    table(&status, now).print()?;
    let paint = Paint::stdout();
    for (who, nack) in status.sidecars.iter().filter_map(|s| s.nack.as_ref().map(|n| (&s.workload, n))) {
        let what = nack.resources.join(", ");
        let text = format!("{who} refuses revision {} ({what}): {}", nack.revision, nack.reason);
        output::line(paint.bad(&printable(&text)))?;
    }
    Ok(())
}

fn headline(plane: &ControlPlane, now: OffsetDateTime) -> String {
    printable(&format!(
        "control plane {}: trust domain {}, revision {}, up {}, root certificate expires {}",
        plane.version,
        plane.trust_domain,
        plane.revision,
        span(plane.uptime_seconds),
        relative(&plane.root_expires, now),
    ))
}

fn table(status: &Status, now: OffsetDateTime) -> Table {
    let mut table = Table::new(&["WORKLOAD", "IDENTITY", "STATE", "REVISION", "ACK", "CERTIFICATE-EXPIRES"]);
    for sidecar in &status.sidecars {
        let state = if sidecar.connected { sidecar.state.clone() } else { format!("{}, disconnected", sidecar.state) };
        table.row([
            sidecar.workload.clone(),
            sidecar.identity.clone(),
            state,
            sidecar.revision.to_string(),
            sidecar.ack.clone(),
            relative(&sidecar.certificate_expires, now),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_sidecar_is_a_line_with_identity_revision_and_expiry() {
        let status: Status = read(&json!({
            "controlPlane": {"version": "0.1.0", "trustDomain": "cluster.local", "revision": 7, "uptimeSeconds": 30,
                "rootExpires": "1970-01-01T12:00:00Z"},
            "sidecars": [
                {"workload": "default/web-1", "identity": "spiffe://cluster.local/ns/default/sa/web", "connected": true,
                    "state": "ready", "revision": 7, "ack": "ACK", "nack": null, "certificateExpires": "1970-01-01T11:30:00Z"},
                {"workload": "default/web-2", "connected": false, "state": "ready", "revision": 6, "ack": "NACK",
                    "nack": {"reason": "no", "resources": ["HTTPRoute/default/web"], "revision": 7}},
            ]
        }))
        .unwrap();
        let now = OffsetDateTime::from_unix_timestamp(0).unwrap();
        let lines = table(&status, now).lines();
        let cells: Vec<&str> = lines[1].split("   ").map(str::trim).filter(|c| !c.is_empty()).collect();
        assert_eq!(cells, ["default/web-1", "spiffe://cluster.local/ns/default/sa/web", "ready", "7", "ACK", "in 11h"]);
        assert!(lines[2].contains("ready, disconnected"));
        assert_eq!(
            headline(&status.control_plane, now),
            "control plane 0.1.0: trust domain cluster.local, revision 7, up 30s, root certificate expires in 12h"
        );
    }
}
