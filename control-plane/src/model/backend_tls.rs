//! BackendTLSPolicy and EndpointSlice: Services whose endpoints have no sidecar.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Name, ObjectRef};

/// How the endpoints of Services are spoken to over TLS (GEP-1897).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendTlsPolicy {
    pub name: Name,
    pub created: i64,
    pub targets: Vec<PolicyTarget>,
    pub authorities: Vec<ObjectRef>,
    /// The machine's own roots hold (`wellKnownCACertificates: System`).
    pub system_authorities: bool,
    pub hostname: String,
    pub subject_alt_names: Vec<SubjectAltName>,
}

/// What a policy is attached to, in its own namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyTarget {
    pub group: String,
    pub kind: String,
    pub name: String,
    /// The name of a port; None: every port.
    pub section: Option<String>,
}

/// A name that a certificate has to carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubjectAltName {
    Hostname(String),
    Uri(String),
}

/// Endpoints that were written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSlice {
    pub name: Name,
    /// The Service that it belongs to; None: nobody's.
    pub service: Option<String>,
    /// Numbers by name; a Service's port finds its own by name.
    pub ports: BTreeMap<String, u16>,
    pub endpoints: Vec<SliceEndpoint>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// They lead to the same place; the first is dialled.
    pub addresses: Vec<IpAddr>,
    /// Wants new requests.
    pub ready: bool,
}
