//! How a client verifies a server.

use std::sync::Arc;

use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, OtherError, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::signatures::{Signatures, signatures_by};
use super::trusted::Trusted;
use crate::{CertError, bundle, verify};

/// Wraps one of our errors as rustls carries it.
pub(super) fn refused(why: CertError) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
}

/// Checks that a verified leaf is an SVID of the trust domain, and that who is shown between it and the root may sign.
pub(super) fn check_svid(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    trust_domain: &str,
) -> Result<(), Error> {
    intermediates.iter().try_for_each(|shown| verify::may_sign(shown)).map_err(refused)?;
    let id = verify::peer_id(leaf).map_err(refused)?;
    if id.trust_domain() != trust_domain {
        return Err(refused(CertError::WrongTrustDomain {
            theirs: id.trust_domain().to_owned(),
            ours: trust_domain.to_owned(),
        }));
    }
    Ok(())
}

pub(super) fn chain(
    leaf: &CertificateDer<'_>,
    roots: &RootCertStore,
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
    provider: &CryptoProvider,
) -> Result<(), Error> {
    let parsed = ParsedCertificate::try_from(leaf)?;
    let algorithms = provider.signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms)
}

/// Verifies the chain and that the leaf is an SVID. The name is not looked at: identities are, not addresses.
#[derive(Debug)]
pub(super) struct SvidVerifier {
    trusted: Trusted<RootCertStore>,
    signatures: Signatures,
}

impl SvidVerifier {
    pub(super) fn new(trusted: Trusted<RootCertStore>, provider: Arc<CryptoProvider>) -> Self {
        Self { trusted, signatures: Signatures::tls13(provider) }
    }
}

/// Verifies that the server shows the pinned root and that its chain leads there.
#[derive(Debug)]
pub(super) struct PinnedVerifier {
    root_sha256: [u8; 32],
    signatures: Signatures,
}

impl PinnedVerifier {
    pub(super) fn new(root_sha256: [u8; 32], provider: Arc<CryptoProvider>) -> Self {
        Self { root_sha256, signatures: Signatures::tls13(provider) }
    }
}

/// Verifies the chain against given roots, and that the leaf is an SVID of whatever trust domain.
#[derive(Debug)]
pub(super) struct RootedVerifier {
    roots: RootCertStore,
    signatures: Signatures,
}

impl RootedVerifier {
    pub(super) fn new(roots: RootCertStore, provider: Arc<CryptoProvider>) -> Self {
        Self { roots, signatures: Signatures::tls13(provider) }
    }
}

/// Takes any server, and says so by its name.
#[derive(Debug)]
pub(super) struct UnprovenVerifier {
    signatures: Signatures,
}

impl UnprovenVerifier {
    pub(super) fn new(signatures: Signatures) -> Self {
        Self { signatures }
    }
}

impl ServerCertVerifier for SvidVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let domain = self.trusted.of(leaf);
        chain(leaf, &domain.roots, intermediates, now, self.signatures.provider())?;
        check_svid(leaf, intermediates, &domain.name)?;
        Ok(ServerCertVerified::assertion())
    }

    signatures_by!(signatures);
}

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let pinned = intermediates.iter().find(|c| bundle::hash(c) == self.root_sha256);
        let Some(pinned) = pinned else {
            return Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        };
        let mut roots = RootCertStore::empty();
        roots.add(pinned.clone())?;
        chain(leaf, &roots, intermediates, now, self.signatures.provider())?;
        verify::peer_id(leaf).map_err(refused)?;
        Ok(ServerCertVerified::assertion())
    }

    signatures_by!(signatures);
}

impl ServerCertVerifier for RootedVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        chain(leaf, &self.roots, intermediates, now, self.signatures.provider())?;
        intermediates.iter().try_for_each(|shown| verify::may_sign(shown)).map_err(refused)?;
        verify::peer_id(leaf).map_err(refused)?;
        Ok(ServerCertVerified::assertion())
    }

    signatures_by!(signatures);
}

impl ServerCertVerifier for UnprovenVerifier {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    signatures_by!(signatures);
}
