//! The shapes of bodies. They are written down apart from what the other modules hold, so that the API stays as it is
//! when those change.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::config::{self, Problem};
use crate::model;
use crate::store;
use crate::xds::{self, Ack};

/// Seconds to wait when the caller does not say.
pub(super) fn default_timeout() -> u64 {
    30
}

/// Files with objects.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Files {
    /// YAML or JSON files.
    pub files: Vec<File>,
    /// Only say what would change.
    #[serde(default)]
    pub dry_run: bool,
    /// Answer only when every sidecar concerned has the change in force.
    #[serde(default)]
    pub wait: bool,
    /// How long to wait at most; 600 at most.
    #[serde(default = "default_timeout")]
    pub timeout_seconds: u64,
}

/// One file.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// Under this name its problems are reported.
    pub name: String,
    pub content: String,
}

/// Whether to wait.
#[derive(Debug, Default, Deserialize, ToSchema, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Waiting {
    /// Answer only when every sidecar concerned has the change in force.
    pub wait: bool,
    /// How long to wait at most, 30 when it is absent; 600 at most.
    pub timeout_seconds: Option<u64>,
}

/// What a change did.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Outcome {
    /// The revision in force after it; a new one only when something changed.
    pub revision: u64,
    pub changes: Vec<Change>,
    pub problems: Vec<Problem>,
    /// How far it came; null when the caller did not wait.
    pub wait: Option<Wait>,
}

/// What happened to an object.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Change {
    /// `created`, `configured`, `unchanged` or `deleted`.
    pub action: &'static str,
    pub kind: String,
    /// Empty for a kind that has none.
    pub namespace: String,
    pub name: String,
}

impl From<model::Change> for Change {
    fn from(change: model::Change) -> Self {
        let action = match change.action {
            model::Action::Created => "created",
            model::Action::Configured => "configured",
            model::Action::Unchanged => "unchanged",
            model::Action::Deleted => "deleted",
        };
        Self { action, kind: change.kind, namespace: change.namespace, name: change.name }
    }
}

/// How far a revision came.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Wait {
    /// Sidecars that it concerns.
    pub concerned: usize,
    /// Those that have it in force.
    pub acked: usize,
    pub nacked: Vec<Nacked>,
    /// Those that had not answered when the time was over.
    pub missing: Vec<String>,
}

/// A sidecar that refused a revision.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Nacked {
    /// NAMESPACE/NAME of its workload.
    pub sidecar: String,
    pub reason: String,
}

impl From<xds::WaitOutcome> for Wait {
    fn from(outcome: xds::WaitOutcome) -> Self {
        let nacked = |n: xds::Nacked| Nacked { sidecar: n.sidecar, reason: n.reason };
        Self {
            concerned: outcome.concerned,
            acked: outcome.acked,
            nacked: outcome.nacked.into_iter().map(nacked).collect(),
            missing: outcome.missing,
        }
    }
}

/// What a check found.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Validated {
    /// Objects that could be told apart, good or not.
    pub objects: usize,
    pub problems: Vec<Problem>,
}

/// The objects of a kind.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Items {
    pub items: Vec<serde_json::Value>,
}

/// The log, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct History {
    pub revisions: Vec<Revision>,
}

/// One line of the log.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Revision {
    pub revision: u64,
    /// RFC 3339.
    pub time: String,
    /// Who.
    pub actor: String,
    /// Why; may be empty.
    pub message: String,
    pub changes: Vec<Change>,
}

impl From<store::Revision> for Revision {
    fn from(revision: store::Revision) -> Self {
        let changes = revision.changes.into_iter().map(Change::from).collect();
        let store::Revision { revision, time, actor, message, .. } = revision;
        Self { revision, time, actor, message, changes }
    }
}

/// The control plane and its sidecars.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Status {
    pub control_plane: ControlPlane,
    pub sidecars: Vec<Sidecar>,
    /// Of the configuration folder as it is now; the first 100.
    pub problems: Vec<Problem>,
    /// Certificates in Secrets and ConfigMaps that end within 30 days or have ended, the soonest first; the first 100.
    pub expiring: Vec<Expiring>,
    /// The trust domains that ours is federated with.
    pub federation: Vec<Federated>,
}

/// A trust domain that ours is federated with.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Federated {
    pub trust_domain: String,
    /// How many of its roots are believed.
    pub roots: usize,
    /// When they were fetched, RFC 3339; null: they are what the object holds.
    pub fetched: Option<String>,
    /// When the last of them ends, RFC 3339.
    pub expires: Option<String>,
    /// Why they cannot be fetched now.
    pub problem: Option<String>,
}

/// A certificate that ends.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Expiring {
    /// `Secret shop/edge (tls.crt)`
    pub what: String,
    /// RFC 3339.
    pub expires: String,
}

/// The control plane itself.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ControlPlane {
    pub version: &'static str,
    pub trust_domain: String,
    /// The revision in force.
    pub revision: u64,
    /// RFC 3339.
    pub root_expires: String,
    /// SHA-256 of the root certificate, in hex, as join tokens carry it.
    pub root_hash: String,
    /// What the disk of the state folder has left; null: it does not say.
    pub state_bytes_free: Option<u64>,
    pub uptime_seconds: u64,
    /// By its clock, RFC 3339.
    pub time: String,
}

/// One sidecar that is connected, or was until less than the grace period ago.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Sidecar {
    /// NAMESPACE/NAME
    pub workload: String,
    /// The SPIFFE ID that its certificate proves.
    pub identity: String,
    /// `IP:PORT` of its mesh port.
    pub address: String,
    pub connected: bool,
    /// `ready`, `draining` or `unhealthy`.
    pub state: String,
    /// The newest revision that it has in force.
    pub revision: u64,
    /// `ACK`, `NACK` or `PENDING`.
    pub ack: &'static str,
    pub nack: Option<Nack>,
    /// RFC 3339; null when it has not connected since the control plane started.
    pub certificate_expires: Option<String>,
    pub subscriptions: usize,
    pub resources_sent: u64,
    pub version: String,
}

/// Why a sidecar refused something.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Nack {
    pub reason: String,
    /// Names of the resources of the message that was refused.
    pub resources: Vec<String>,
    pub revision: u64,
}

impl From<xds::SidecarStatus> for Sidecar {
    fn from(status: xds::SidecarStatus) -> Self {
        let ack = match status.ack {
            Ack::Ack => "ACK",
            Ack::Nack => "NACK",
            Ack::Pending => "PENDING",
        };
        let nack = |n: xds::Nack| Nack { reason: n.reason, resources: n.resources, revision: n.revision };
        Self {
            ack,
            nack: status.nack.map(nack),
            workload: status.workload,
            identity: status.identity,
            address: status.address,
            connected: status.connected,
            state: status.state.to_owned(),
            revision: status.revision,
            certificate_expires: status.certificate_expires,
            subscriptions: status.subscriptions,
            resources_sent: status.resources_sent,
            version: status.version,
        }
    }
}

/// Whom a join token is for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TokenRequest {
    #[serde(default = "default_namespace")]
    pub namespace: String,
    pub service_account: String,
    /// How long it can be redeemed, 600 when it is absent; 30 days at most.
    #[serde(default = "default_ttl")]
    pub ttl_seconds: u64,
}

fn default_namespace() -> String {
    "default".to_owned()
}

fn default_ttl() -> u64 {
    600
}

/// A join token. It is shown this once.
#[derive(Serialize, ToSchema)]
pub(super) struct Token {
    /// By which it is revoked.
    pub id: String,
    pub token: String,
    /// The SPIFFE ID that it is bound to.
    pub identity: String,
    /// RFC 3339.
    pub expires: String,
}

/// A file as the reader names it.
pub(super) fn parse(files: &[File]) -> (Vec<config::Object>, Vec<Problem>) {
    let (mut objects, mut problems) = (Vec::new(), Vec::new());
    for file in files {
        let name: String = file.name.chars().take(400).collect();
        let parsed = config::parse(&name, file.content.as_bytes());
        objects.extend(parsed.objects);
        problems.extend(parsed.problems);
    }
    (objects, problems)
}
