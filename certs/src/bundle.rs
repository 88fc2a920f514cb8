//! Trust bundles: the roots of a trust domain, and those of the domains that it is federated with.

pub mod document;

use sha2::{Digest, Sha256};

/// The roots that vouch for a trust domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustBundle {
    /// Whose roots they are.
    pub trust_domain: String,
    /// Root certificates, DER.
    pub roots: Vec<Vec<u8>>,
    /// Other trust domains, each with its roots. A root vouches for its own domain and for no other.
    pub federated: Vec<FederatedRoots>,
}

/// The roots that vouch for a trust domain which is not our own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FederatedRoots {
    /// Whose roots they are.
    pub trust_domain: String,
    /// Root certificates, DER.
    pub roots: Vec<Vec<u8>>,
}

impl TrustBundle {
    /// Of a domain that is federated with none.
    pub fn new(trust_domain: impl Into<String>, roots: Vec<Vec<u8>>) -> Self {
        Self { trust_domain: trust_domain.into(), roots, federated: Vec::new() }
    }

    /// SHA-256 of the first root's DER: what a join token pins. All zero when there is no root.
    pub fn root_hash(&self) -> [u8; 32] {
        self.roots.first().map(|root| hash(root)).unwrap_or_default()
    }

    /// All roots as PEM.
    pub fn to_pem(&self) -> String {
        self.roots.iter().map(|root| pem::encode(&pem::Pem::new("CERTIFICATE", root.as_slice()))).collect()
    }
}

pub(crate) fn hash(der: &[u8]) -> [u8; 32] {
    Sha256::digest(der).into()
}
