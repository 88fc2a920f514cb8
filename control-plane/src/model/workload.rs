//! Workloads: running instances, with a sidecar or written down.

use std::collections::BTreeMap;
use std::net::IpAddr;

use leno_certs::Lineage;
use serde::{Deserialize, Serialize};

use super::Name;

/// A Workload object: an instance without a sidecar, reached in plaintext; or one with a sidecar of another mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticWorkload {
    pub name: Name,
    pub labels: BTreeMap<String, String>,
    pub address: IpAddr,
    pub ports: BTreeMap<String, u16>,
    pub service_account: Option<String>,
    /// The mesh port and the identity of a sidecar that does not register here.
    pub sidecar: Option<(u16, String)>,
}

/// An instance as discovery sees it, wherever it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    pub name: Name,
    pub labels: BTreeMap<String, String>,
    pub address: IpAddr,
    /// None: no sidecar.
    pub mesh_port: Option<u16>,
    /// The SPIFFE ID that its sidecar has proven.
    pub identity: Option<String>,
    pub ports: BTreeMap<String, u16>,
    /// Wants new requests.
    pub healthy: bool,
    /// Further addresses, of either family.
    #[serde(default)]
    pub more_addresses: Vec<IpAddr>,
    /// Its sidecar takes every port of the app, named or not.
    #[serde(default)]
    pub any_port: bool,
    /// Which sidecar has registered it, by its certificate.
    #[serde(default, with = "super::revocation::optional")]
    pub lineage: Option<Lineage>,
}

impl Workload {
    /// Every address that it has, the one that peers dial first.
    pub fn ips(&self) -> impl Iterator<Item = IpAddr> {
        std::iter::once(self.address).chain(self.more_addresses.iter().copied())
    }
}
