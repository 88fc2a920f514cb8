//! Private keys: ECDSA on P-256.

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::{Zeroize, Zeroizing};

use crate::CertError;

/// A private key. It has no `Debug`, so that it cannot end up in a log.
pub struct Key {
    pub(crate) pair: KeyPair,
}

/// What is left of it in freed memory would outlive the certificate.
impl Drop for Key {
    fn drop(&mut self) {
        self.pair.zeroize();
    }
}

impl Key {
    /// A new random key.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn generate() -> Result<Self, CertError> {
        Ok(Self { pair: KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)? })
    }

    /// Reads PKCS#8, DER.
    ///
    /// # Errors
    /// It is no ECDSA P-256 key.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, CertError> {
        let der = PrivatePkcs8KeyDer::from(der);
        Ok(Self { pair: KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256)? })
    }

    /// Reads PKCS#8, PEM.
    ///
    /// # Errors
    /// It is no ECDSA P-256 key.
    pub fn from_pem(text: &[u8]) -> Result<Self, CertError> {
        let block = pem::parse(text).map_err(|why| CertError::Malformed(why.to_string()))?;
        Self::from_pkcs8(&Zeroizing::new(block.into_contents()))
    }

    /// Signs a message: SHA-256, the signature as RFC 3279 2.2.3 has it.
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
