//! Secrets and ConfigMaps: of both only certificates and public keys are kept in the mesh.

use std::fmt;
use std::sync::Arc;

/// A Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Of `tls.crt` and `tls.key`; or why there is none.
    pub key_pair: Result<Arc<KeyPair>, String>,
    /// Of `ca.crt`; or why there are none.
    pub authorities: Result<Authorities, String>,
}

/// A ConfigMap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigMap {
    /// Of `ca.crt`; or why there are none.
    pub authorities: Result<Authorities, String>,
    /// The JSON Web Key Set of `jwks.json`; or why there is none.
    pub jwks: Result<Arc<str>, String>,
}

/// Certificates of authorities, DER.
pub type Authorities = Arc<Vec<Vec<u8>>>;

/// A certificate chain and its key.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// Leaf first, DER.
    pub chain: Vec<Vec<u8>>,
    /// DER.
    pub key: Vec<u8>,
}

/// A key is shown nowhere.
impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair").field("certificates", &self.chain.len()).finish_non_exhaustive()
    }
}
