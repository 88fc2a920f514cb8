//! How a server verifies a client: webpki for the chain, then the SPIFFE rules on the leaf.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientCertVerifierBuilder, WebPkiClientVerifier};
use rustls::{DistinguishedName, Error, RootCertStore};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::client::check_svid;
use super::signatures::{Signatures, signatures_by};
use super::trusted::Trusted;
use crate::CertError;

/// Verifies the chain by webpki and that the leaf is an SVID of a trust domain that is believed.
#[derive(Debug)]
pub(super) struct SvidVerifier {
    trusted: Trusted<Arc<dyn ClientCertVerifier>>,
    signatures: Signatures,
}

impl SvidVerifier {
    pub(super) fn required(trusted: Trusted<RootCertStore>, provider: Arc<CryptoProvider>) -> Result<Self, CertError> {
        Self::build(trusted, provider, |builder| builder)
    }

    pub(super) fn optional(trusted: Trusted<RootCertStore>, provider: Arc<CryptoProvider>) -> Result<Self, CertError> {
        Self::build(trusted, provider, ClientCertVerifierBuilder::allow_unauthenticated)
    }

    fn build(
        trusted: Trusted<RootCertStore>,
        provider: Arc<CryptoProvider>,
        how: impl Fn(ClientCertVerifierBuilder) -> ClientCertVerifierBuilder,
    ) -> Result<Self, CertError> {
        let trusted = trusted.try_map(|roots| {
            let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
            how(builder).build().map_err(|e| CertError::Malformed(e.to_string()))
        })?;
        Ok(Self { trusted, signatures: Signatures::tls13(provider) })
    }
}

impl ClientCertVerifier for SvidVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.trusted.own.roots.client_auth_mandatory()
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
        let domain = self.trusted.of(leaf);
        let verified = domain.roots.verify_client_cert(leaf, intermediates, now)?;
        check_svid(leaf, intermediates, &domain.name)?;
        Ok(verified)
    }

    signatures_by!(signatures);
}
