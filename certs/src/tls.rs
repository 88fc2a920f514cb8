//! The rustls configurations of the mesh: TLS 1.3 only, aws-lc-rs, no session resumption. What leaves it is in [`edge`].
//!
//! Resumption is off on purpose: a resumed session would skip the verification of a peer whose root or identity was
//! withdrawn in the meantime. Connections between sidecars live long, so full handshakes are rare.

mod client;
pub mod edge;
mod refusal;
mod server;
mod signatures;
mod trusted;

pub use refusal::refusal;

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, NamedGroup, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::{CertError, Identity, TrustBundle};
use trusted::Trusted;

const VERSIONS: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// The hybrid of X25519 and ML-KEM-768 goes first: what somebody records today is not read by a quantum computer later. A client of a
/// Gateway that does not know it gets X25519.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups.sort_by_key(|group| group.name() != NamedGroup::X25519MLKEM768);
    Arc::new(provider)
}

fn roots<R: AsRef<[u8]>>(der: &[R]) -> Result<RootCertStore, CertError> {
    let mut store = RootCertStore::empty();
    for root in der {
        store.add(CertificateDer::from(root.as_ref()))?;
    }
    if store.is_empty() {
        return Err(CertError::Malformed("no root certificate was given".to_owned()));
    }
    Ok(store)
}

/// Those that can be used.
fn lenient(der: &[Vec<u8>]) -> RootCertStore {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(der.iter().map(|root| CertificateDer::from(root.as_slice())));
    store
}

/// That a leaf leads to a root of the bundle at this time, and that those between may sign.
pub(crate) fn verify_chain(
    leaf: &[u8],
    intermediates: &[Vec<u8>],
    bundle: &TrustBundle,
    now: UnixTime,
) -> Result<(), CertError> {
    let between: Vec<_> = intermediates.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    client::chain(&CertificateDer::from(leaf), &roots(&bundle.roots)?, &between, now, &provider())?;
    Ok(())
}

fn alpn_list(alpn: &[&[u8]]) -> Vec<Vec<u8>> {
    alpn.iter().map(|name| name.to_vec()).collect()
}

/// For dialling a peer of the mesh. It verifies the chain, and that the leaf is an SVID of the trust domain or of one that it is
/// federated with; *which* identity is right is for the caller to say, who compares [`crate::verify::peer_id`] before it sends a byte.
///
/// # Errors
/// The bundle or the identity is unusable.
pub fn mesh_client(identity: &Identity, bundle: &TrustBundle, alpn: &[&[u8]]) -> Result<ClientConfig, CertError> {
    svid_client(identity, Trusted::all(bundle)?, alpn)
}

/// For dialling the control plane: as [`mesh_client`], but only our own trust domain is believed.
///
/// # Errors
/// The bundle or the identity is unusable.
pub fn control_plane_client(
    identity: &Identity,
    bundle: &TrustBundle,
    alpn: &[&[u8]],
) -> Result<ClientConfig, CertError> {
    svid_client(identity, Trusted::own(bundle)?, alpn)
}

fn svid_client(
    identity: &Identity,
    trusted: Trusted<RootCertStore>,
    alpn: &[&[u8]],
) -> Result<ClientConfig, CertError> {
    let verifier = client::SvidVerifier::new(trusted, provider());
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(identity.rustls_chain(), identity.key.to_rustls())?;
    config.resumption = rustls::client::Resumption::disabled();
    config.alpn_protocols = alpn_list(alpn);
    Ok(config)
}

/// For accepting peers of the mesh: a client without a certificate of the trust domain, or of one that it is federated with, is refused.
///
/// # Errors
/// The bundle or the identity is unusable.
pub fn mesh_server(identity: &Identity, bundle: &TrustBundle, alpn: &[&[u8]]) -> Result<ServerConfig, CertError> {
    server_config(identity, server::SvidVerifier::required(Trusted::all(bundle)?, provider())?, alpn)
}

/// For accepting those of our own trust domain. A client may come without a certificate, since it has yet to get its first one. A certificate that
/// is shown must be right.
///
/// # Errors
/// The bundle or the identity is unusable.
pub fn optional_client_server(
    identity: &Identity,
    bundle: &TrustBundle,
    alpn: &[&[u8]],
) -> Result<ServerConfig, CertError> {
    server_config(identity, server::SvidVerifier::optional(Trusted::own(bundle)?, provider())?, alpn)
}

fn server_config(
    identity: &Identity,
    verifier: server::SvidVerifier,
    alpn: &[&[u8]],
) -> Result<ServerConfig, CertError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(identity.rustls_chain(), identity.key.to_rustls())?;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = alpn_list(alpn);
    Ok(config)
}

/// For a sidecar that joins: it has no bundle yet, only the hash of the root, from its join token. The server must show that
/// root in its chain, and the chain must lead to it.
///
/// # Errors
/// None in practice; the provider knows TLS 1.3.
pub fn pinned_client(root_sha256: [u8; 32], alpn: &[&[u8]]) -> Result<ClientConfig, CertError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(client::PinnedVerifier::new(root_sha256, provider())))
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    config.alpn_protocols = alpn_list(alpn);
    Ok(config)
}

/// For a sidecar that joins and was given the roots (DER) by a file. The caller still has to see that the peer is the control plane and not
/// any workload.
///
/// # Errors
/// None of the roots is usable.
pub fn rooted_client(roots_der: &[Vec<u8>], alpn: &[&[u8]]) -> Result<ClientConfig, CertError> {
    let verifier = client::RootedVerifier::new(roots(roots_der)?, provider());
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    config.alpn_protocols = alpn_list(alpn);
    Ok(config)
}

/// For a sidecar that holds a join secret and knows no root yet. Whoever answers is taken, so nothing that such a connection
/// brings may be believed but what a [`crate::JoinSecret`] proves; and nothing secret may be sent over it.
///
/// # Errors
/// None in practice; the provider knows TLS 1.3.
pub fn unproven_client(alpn: &[&[u8]]) -> Result<ClientConfig, CertError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(client::UnprovenVerifier::new(signatures::Signatures::tls13(
            provider(),
        ))))
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    config.alpn_protocols = alpn_list(alpn);
    Ok(config)
}

/// For people and tools: ordinary verification of the server's name or address against these roots.
///
/// # Errors
/// The text holds no certificate.
pub fn pem_client(roots_pem: &str, alpn: &[&[u8]]) -> Result<ClientConfig, CertError> {
    let blocks = pem::parse_many(roots_pem).map_err(|e| CertError::Malformed(e.to_string()))?;
    let store = roots(&blocks.into_iter().map(pem::Pem::into_contents).collect::<Vec<_>>())?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)?
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = alpn_list(alpn);
    Ok(config)
}
