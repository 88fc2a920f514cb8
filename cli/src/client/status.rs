//! The answer of `GET /v1/status`.

use serde::Deserialize;

use super::answer::Problem;

/// The control plane and its sidecars.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// Itself.
    pub control_plane: ControlPlane,
    /// All that are connected, or were a moment ago.
    pub sidecars: Vec<Sidecar>,
    /// What is wrong in its configuration folder now.
    pub problems: Vec<Problem>,
    /// Certificates of users that end soon.
    pub expiring: Vec<Expiring>,
    /// The trust domains that its own is federated with.
    pub federation: Vec<Federated>,
}

/// A trust domain that ours is federated with.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Federated {
    /// Its name.
    pub trust_domain: String,
    /// How many of its roots are believed.
    pub roots: u64,
    /// When the last of them ends, RFC 3339.
    pub expires: Option<String>,
    /// Why they cannot be fetched now.
    pub problem: Option<String>,
}

/// A certificate that ends.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Expiring {
    /// Where it is.
    pub what: String,
    /// RFC 3339.
    pub expires: String,
}

/// The control plane.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ControlPlane {
    /// Its program's version.
    pub version: String,
    /// The mesh's trust domain.
    pub trust_domain: String,
    /// The revision in force.
    pub revision: u64,
    /// RFC 3339.
    pub root_expires: String,
    /// What the disk of its state folder has left; None: it does not say.
    pub state_bytes_free: Option<u64>,
    /// Since its start.
    pub uptime_seconds: i64,
    /// By its clock, RFC 3339.
    pub time: String,
}

/// One sidecar.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Sidecar {
    /// `NAMESPACE/NAME`.
    pub workload: String,
    /// The SPIFFE ID that its certificate proves.
    pub identity: String,
    /// `IP:PORT` of its mesh port.
    pub address: String,
    /// Whether its stream is open.
    pub connected: bool,
    /// `ready`, `draining` or `unhealthy`.
    pub state: String,
    /// The revision it has in force.
    pub revision: u64,
    /// `ACK`, `NACK` or `PENDING`.
    pub ack: String,
    /// What it refused last.
    pub nack: Option<Nack>,
    /// RFC 3339.
    pub certificate_expires: String,
    /// Over its stream.
    pub resources_sent: u64,
    /// Of its program.
    pub version: String,
}

/// What a sidecar refused.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Nack {
    /// Its words.
    pub reason: String,
    /// Names of the resources.
    pub resources: Vec<String>,
    /// The revision that they came with.
    pub revision: u64,
}
