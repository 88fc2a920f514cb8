//! How a backend without a sidecar is spoken to over TLS (BackendTLSPolicy, GEP-1897).

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use leno_certs::tls::edge::{BackendName, EdgeCertificate};

/// One policy, with the certificate that this sidecar shows.
#[derive(Debug, Clone)]
pub struct BackendTls {
    /// Server name, and what the certificate has to be for unless `names` say otherwise.
    pub hostname: String,
    /// DER.
    pub roots: Vec<Vec<u8>>,
    /// The machine's own roots hold.
    pub system_roots: bool,
    /// One of them has to be in the certificate.
    pub names: Vec<BackendName>,
    /// Why the policy cannot be met: nobody is spoken to then.
    pub invalid: Option<String>,
    /// Shown when the backend asks.
    pub client: Option<Arc<EdgeCertificate>>,
    /// SHA-256 of everything above.
    pub digest: [u8; 32],
}

impl PartialEq for BackendTls {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for BackendTls {}

impl Hash for BackendTls {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}
