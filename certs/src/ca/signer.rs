//! What signs for an authority: a key at hand, or somebody who holds it elsewhere.

use std::io;
use std::sync::Arc;

use rcgen::{PublicKeyData, SignatureAlgorithm, SigningKey, SubjectPublicKeyInfo};

use crate::{CertError, Key, verify};

/// Somebody who holds a key and signs by it (ECDSA on P-256 with SHA-256, the signature as RFC 3279 2.2.3 has it).
pub trait Remote: Send + Sync {
    /// Signs a message. Blocks.
    ///
    /// # Errors
    /// He cannot be reached or refuses.
    fn sign(&self, message: &[u8]) -> io::Result<Vec<u8>>;
}

/// What signs.
pub enum Signer {
    /// A key at hand.
    Here(Key),
    /// A key that somebody else holds.
    There { public_key: SubjectPublicKeyInfo, remote: Arc<dyn Remote> },
}

impl Signer {
    /// The holder of the key of a certificate.
    ///
    /// # Errors
    /// The certificate is unreadable, or its key is no ECDSA P-256 one.
    pub fn remote(certificate: &[u8], remote: Arc<dyn Remote>) -> Result<Self, CertError> {
        let public_key = SubjectPublicKeyInfo::from_der(&verify::public_key(certificate)?)?;
        if public_key.algorithm() != &rcgen::PKCS_ECDSA_P256_SHA256 {
            return Err(CertError::Malformed("its key is no ECDSA P-256 key".to_owned()));
        }
        Ok(Self::There { public_key, remote })
    }
}

impl PublicKeyData for Signer {
    fn der_bytes(&self) -> &[u8] {
        match self {
            Self::Here(key) => key.pair.der_bytes(),
            Self::There { public_key, .. } => public_key.der_bytes(),
        }
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        match self {
            Self::Here(key) => key.pair.algorithm(),
            Self::There { public_key, .. } => public_key.algorithm(),
        }
    }
}

impl SigningKey for Signer {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        match self {
            Self::Here(key) => key.pair.sign(message),
            Self::There { remote, .. } => remote.sign(message).map_err(|_| rcgen::Error::RemoteKeyError),
        }
    }
}
