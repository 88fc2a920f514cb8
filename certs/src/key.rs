//! Private keys: ECDSA on P-256, or Ed25519.

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::{Zeroize, Zeroizing};

use crate::CertError;

/// A private key. It has no `Debug`, so that it cannot end up in a log.
pub struct Key {
    pub(crate) pair: KeyPair,
}

/// What a key computes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyKind {
    /// ECDSA on P-256 with SHA-256.
    #[default]
    EcdsaP256,
    /// Ed25519 (RFC 8032).
    Ed25519,
}

/// What is left of it in freed memory would outlive the certificate.
impl Drop for Key {
    fn drop(&mut self) {
        self.pair.zeroize();
    }
}

impl Key {
    /// A new random key, ECDSA on P-256.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn generate() -> Result<Self, CertError> {
        Self::generate_as(KeyKind::EcdsaP256)
    }

    /// A new random key.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn generate_as(kind: KeyKind) -> Result<Self, CertError> {
        let algorithm = match kind {
            KeyKind::EcdsaP256 => &PKCS_ECDSA_P256_SHA256,
            KeyKind::Ed25519 => &PKCS_ED25519,
        };
        Ok(Self { pair: KeyPair::generate_for(algorithm)? })
    }

    /// What it computes by.
    pub fn kind(&self) -> KeyKind {
        if self.pair.is_compatible(&PKCS_ED25519) { KeyKind::Ed25519 } else { KeyKind::EcdsaP256 }
    }

    /// Reads PKCS#8, DER.
    ///
    /// # Errors
    /// It is no key of a kind that we use.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, CertError> {
        let der = PrivatePkcs8KeyDer::from(der);
        let read = |algorithm| KeyPair::from_pkcs8_der_and_sign_algo(&der, algorithm);
        Ok(Self { pair: read(&PKCS_ED25519).or_else(|_| read(&PKCS_ECDSA_P256_SHA256))? })
    }

    /// Reads PKCS#8, PEM.
    ///
    /// # Errors
    /// It is no key of a kind that we use.
    pub fn from_pem(text: &[u8]) -> Result<Self, CertError> {
        let block = pem::parse(text).map_err(|why| CertError::Malformed(why.to_string()))?;
        Self::from_pkcs8(&Zeroizing::new(block.into_contents()))
    }

    /// Signs a message; by ECDSA with SHA-256, the signature as RFC 3279 2.2.3 has it.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, CertError> {
        Ok(rcgen::SigningKey::sign(&self.pair, message)?)
    }

    /// PKCS#8, DER; wiped when dropped.
    pub fn to_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.pair.serialize_der())
    }

    pub(crate) fn to_rustls(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.pair.serialize_der()))
    }
}
