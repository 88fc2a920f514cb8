//! How a server verifies a client: webpki for the chain, then the SPIFFE rules on the leaf.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DistinguishedName, Error, RootCertStore};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::client::check_svid;
use super::signatures::signatures_by;
use crate::CertError;

/// Verifies the chain by webpki and that the leaf is an SVID of the trust domain.
#[derive(Debug)]
pub(super) struct SvidVerifier {
    inner: Arc<dyn ClientCertVerifier>,
    trust_domain: String,
}

impl SvidVerifier {
    pub(super) fn required(
        roots: RootCertStore,
        trust_domain: &str,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, CertError> {
        Self::build(WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider), trust_domain)
    }

    pub(super) fn optional(
        roots: RootCertStore,
        trust_domain: &str,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, CertError> {
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).allow_unauthenticated();
        Self::build(builder, trust_domain)
    }

    fn build(builder: rustls::server::ClientCertVerifierBuilder, trust_domain: &str) -> Result<Self, CertError> {
        let inner = builder.build().map_err(|e| CertError::Malformed(e.to_string()))?;
        Ok(Self { inner, trust_domain: trust_domain.to_owned() })
    }
}

impl ClientCertVerifier for SvidVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // No hints: they would tell a stranger about us, and every client has but one certificate.
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(leaf, intermediates, now)?;
        check_svid(leaf, intermediates, &self.trust_domain)?;
        Ok(verified)
    }

    signatures_by!(inner);
}
