//! Endpoints: where a service's workloads are reached.

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
}
