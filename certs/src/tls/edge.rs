//! TLS at the edge of the mesh: towards clients that know nothing of it, and towards backends that have no sidecar. TLS 1.2 and
//! 1.3 with the suites that rustls has, all of them with forward secrecy and authenticated encryption.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::aws_lc_rs;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, ClientConfig, DistinguishedName, Error, InconsistentKeys, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use super::client::UnprovenVerifier;
use super::signatures::{Signatures, signatures_by};
use super::{alpn_list, provider, roots};
use crate::{CertError, verify};

/// A certificate with its chain and key. `Debug` shows neither.
#[derive(Clone)]
pub struct EdgeCertificate {
    key: Arc<CertifiedKey>,
    names: Vec<String>,
}

impl fmt::Debug for EdgeCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EdgeCertificate").field("names", &self.names).finish_non_exhaustive()
    }
}

impl EdgeCertificate {
    /// Reads a chain, leaf first, and the leaf's key (PKCS#8, PKCS#1 or SEC1), all in DER.
    ///
    /// # Errors
    /// They cannot be read or are no pair.
    pub fn new(chain: Vec<Vec<u8>>, key: &[u8]) -> Result<Self, CertError> {
        let leaf = chain.first().ok_or_else(|| CertError::Malformed("there is no certificate".to_owned()))?;
        let names = verify::dns_names(leaf)?;
        let key =
            PrivateKeyDer::try_from(key).map_err(|why| CertError::Malformed(format!("the private key: {why}")))?;
        let key = aws_lc_rs::sign::any_supported_type(&key)?;
        let key = CertifiedKey::new(chain.into_iter().map(CertificateDer::from).collect(), key);
        match key.keys_match() {
            // A key that does not tell its public part cannot be compared.
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(Self { key: Arc::new(key), names }),
            Err(_) => Err(CertError::Malformed("the private key is not the certificate's".to_owned())),
        }
    }

    /// The certificate itself, DER.
    pub fn leaf(&self) -> &[u8] {
        self.key.cert.first().map(AsRef::as_ref).unwrap_or_default()
    }
}

/// Which certificates clients are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EdgeClients {
    /// DER.
    pub roots: Vec<Vec<u8>>,
    /// Whoever shows none, or one that is not valid, is served all the same.
    pub optional: bool,
}

/// For accepting clients from outside of the mesh. The certificate is picked by the server name, the first where none fits.
///
/// # Errors
/// There is no certificate, or the clients' roots are unusable.
pub fn edge_server(
    certificates: &[EdgeCertificate],
    clients: Option<&EdgeClients>,
    alpn: &[&[u8]],
) -> Result<ServerConfig, CertError> {
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => builder.with_client_cert_verifier(client_verifier(clients)?),
    };
    let mut config = builder.with_cert_resolver(Arc::new(ByName::new(certificates)?));
    match clients {
        None => config.ticketer = aws_lc_rs::Ticketer::new()?,
        // A resumed session would skip the verification.
        Some(_) => {
            config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
    }
    config.alpn_protocols = alpn_list(alpn);
    Ok(config)
}

fn client_verifier(clients: &EdgeClients) -> Result<Arc<dyn ClientCertVerifier>, CertError> {
    let roots = Arc::new(super::roots(&clients.roots)?);
    let valid = WebPkiClientVerifier::builder_with_provider(roots, provider());
    let valid = valid.build().map_err(|why| CertError::Malformed(why.to_string()))?;
    Ok(if clients.optional { Arc::new(AnyClient { valid }) } else { valid })
}

/// Asks for a certificate and takes every answer; so nothing may follow from the certificate that was shown.
#[derive(Debug)]
struct AnyClient {
    valid: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.valid.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    signatures_by!(valid);
}

/// Picks the certificate whose name fits and whose kind of key the client takes.
#[derive(Debug)]
struct ByName {
    all: Vec<EdgeCertificate>,
    /// Places in `all`, by a name or by `*.` and a suffix.
    names: HashMap<String, Vec<usize>>,
}

impl ByName {
    fn new(certificates: &[EdgeCertificate]) -> Result<Self, CertError> {
        if certificates.is_empty() {
            return Err(CertError::Malformed("there is no certificate".to_owned()));
        }
        let mut names: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, certificate) in certificates.iter().enumerate() {
            for name in &certificate.names {
                names.entry(name.clone()).or_default().push(at);
            }
        }
        Ok(Self { all: certificates.to_vec(), names })
    }

    fn named(&self, name: &str) -> impl Iterator<Item = usize> {
        let exact = self.names.get(name);
        // A certificate's wildcard is one label (RFC 9525, 6.3).
        let wildcard = name.split_once('.').and_then(|(_, rest)| self.names.get(&format!("*.{rest}")));
        exact.into_iter().chain(wildcard).flatten().copied()
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let named = name.iter().flat_map(|name| self.named(name));
        let fits = |at: &usize| self.all[*at].key.key.choose_scheme(hello.signature_schemes()).is_some();
        named.chain(0..self.all.len()).find(fits).map(|at| self.all[at].key.clone())
    }
}

/// A name that a backend's certificate may have.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum BackendName {
    /// A DNS name; with `*.` in front the certificate has to say just that.
    Dns(String),
    /// A URI, such as a SPIFFE ID.
    Uri(String),
}

/// How a backend without a sidecar is spoken to over TLS.
#[derive(Debug, Clone)]
pub struct Backend<'a> {
    /// What it has to be for, unless `names` says otherwise.
    pub hostname: &'a str,
    /// DER.
    pub roots: &'a [Vec<u8>],
    /// One of them has to be in the certificate; when empty, the hostname.
    pub names: &'a [BackendName],
    /// Shown when it asks.
    pub client: Option<&'a EdgeCertificate>,
}

/// For dialling a backend that has no sidecar.
///
/// # Errors
/// A root or a name is unusable.
pub fn backend_client(backend: &Backend<'_>, alpn: &[&[u8]]) -> Result<ClientConfig, CertError> {
    let hostname = ServerName::try_from(backend.hostname.to_owned())
        .map_err(|why| CertError::Malformed(format!("{:?}: {why}", backend.hostname)))?;
    let verifier = BackendVerifier {
        roots: roots(backend.roots)?,
        hostname,
        names: backend.names.to_vec(),
        signatures: Signatures::any(provider()),
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match backend.client {
        None => builder.with_no_client_auth(),
        Some(client) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(client.key.clone()))),
    };
    config.alpn_protocols = alpn_list(alpn);
    Ok(config)
}

/// Verifies the chain, and then one of the names.
#[derive(Debug)]
struct BackendVerifier {
    roots: RootCertStore,
    hostname: ServerName<'static>,
    names: Vec<BackendName>,
    signatures: Signatures,
}

impl BackendVerifier {
    fn is_named(&self, leaf: &CertificateDer<'_>, parsed: &ParsedCertificate<'_>) -> Result<(), Error> {
        if self.names.is_empty() {
            return verify_server_name(parsed, &self.hostname);
        }
        let is = |name: &BackendName| match name {
            BackendName::Dns(name) if name.starts_with("*.") => {
                verify::dns_names(leaf).is_ok_and(|names| names.iter().any(|n| n.eq_ignore_ascii_case(name)))
            }
            BackendName::Dns(name) => {
                ServerName::try_from(name.as_str()).is_ok_and(|name| verify_server_name(parsed, &name).is_ok())
            }
            BackendName::Uri(uri) => verify::uri_names(leaf).is_ok_and(|uris| uris.iter().any(|u| u == uri)),
        };
        match self.names.iter().any(is) {
            true => Ok(()),
            false => Err(Error::InvalidCertificate(CertificateError::NotValidForName)),
        }
    }
}

impl ServerCertVerifier for BackendVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(leaf)?;
        let algorithms = self.signatures.provider().signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)?;
        self.is_named(leaf, &parsed)?;
        Ok(ServerCertVerified::assertion())
    }

    signatures_by!(signatures);
}

/// For checks that ask whether a server is well and not who it is, as kubelet's do: any certificate will do.
///
/// # Errors
/// None in practice; the provider knows its versions.
pub fn unproven_client() -> Result<ClientConfig, CertError> {
    let verifier = UnprovenVerifier::new(Signatures::any(provider()));
    Ok(ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

#[cfg(test)]
mod tests;
