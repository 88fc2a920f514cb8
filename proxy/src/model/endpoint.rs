//! Endpoints: where a service's workloads are reached.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::BackendTls;

/// One workload of a service, on one of the service's ports.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// NAMESPACE/NAME of the workload.
    pub workload: String,
    /// What is dialled: the sidecar's mesh port, or the app itself.
    pub address: SocketAddr,
    /// How it is spoken to.
    pub peer: Peer,
    /// Whether it wants new requests.
    pub healthy: bool,
    /// Where it stands.
    pub locality: Locality,
}

/// Where a workload stands, by its labels `topology.kubernetes.io/region` and `zone`. Empty: not said.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Locality {
    /// The region.
    pub region: String,
    /// The zone in it.
    pub zone: String,
}

impl Locality {
    /// What a workload's labels say.
    pub fn of(labels: &BTreeMap<String, String>) -> Self {
        let label = |name: &str| labels.get(&format!("topology.kubernetes.io/{name}")).cloned().unwrap_or_default();
        Self { region: label("region"), zone: label("zone") }
    }
}

/// What stands at an endpoint's address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Peer {
    /// A sidecar: mutual TLS, and it must prove this SPIFFE ID.
    Sidecar {
        /// The only identity that is accepted.
        identity: String,
        /// Name of the app's port behind the sidecar.
        port: String,
    },
    /// The app itself, in plaintext, since the workload has no sidecar.
    App,
    /// The app itself over TLS, as a BackendTLSPolicy wants it.
    Tls(Arc<BackendTls>),
    /// Somebody to whom this sidecar's identity may send nothing. Where that is was not said.
    Withheld,
}
