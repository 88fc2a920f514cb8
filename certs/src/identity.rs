//! A workload's own identity: certificate chain and key.

use std::fmt;

use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use crate::{CertError, Key, SpiffeId, verify};

/// What a workload shows to its peers.
pub struct Identity {
    /// Who it is.
    pub id: SpiffeId,
    /// Leaf first, DER.
    pub chain: Vec<Vec<u8>>,
    /// The leaf's private key.
    pub key: Key,
    /// From when the leaf is valid.
    pub not_before: OffsetDateTime,
    /// Until when the leaf is valid.
    pub not_after: OffsetDateTime,
}

impl Identity {
    /// An identity from a chain and its key; who it is and its life are read from the leaf.
    ///
    /// # Errors
    /// The chain is empty, or its leaf carries no SPIFFE ID.
    pub fn new(chain: Vec<Vec<u8>>, key: Key) -> Result<Self, CertError> {
        let leaf = chain.first().ok_or_else(|| CertError::Malformed("the chain is empty".to_owned()))?;
        let id = verify::peer_id(leaf)?;
        let (not_before, not_after) = verify::validity(leaf)?;
        Ok(Self { id, chain, key, not_before, not_after })
    }

    pub(crate) fn rustls_chain(&self) -> Vec<CertificateDer<'static>> {
        self.chain.iter().map(|der| CertificateDer::from(der.clone())).collect()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("id", &self.id).field("not_after", &self.not_after).finish_non_exhaustive()
    }
}
