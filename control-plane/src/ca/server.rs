//! The control plane's own certificate, for the xDS port and the API port. It is renewed at half of its life and swapped
//! between two accepts; connections that are open keep the one they have.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use leno_certs::{CONTROL_PLANE_ACCOUNT, CONTROL_PLANE_NAMESPACE, CertError, Identity, Key, SpiffeId, tls};
use leno_runtime::drain::DrainWatch;
use rustls::ServerConfig;
use time::OffsetDateTime;

use super::CertificateAuthority;

/// What to wait when a renewal failed.
const AGAIN: Duration = Duration::from_secs(5);

/// The TLS configurations of the control plane's own ports, always with a valid certificate.
pub struct ServerIdentity {
    authority: CertificateAuthority,
    /// DNS names and IP addresses beside the SPIFFE ID, for clients that verify those.
    names: Vec<String>,
    xds: ArcSwap<ServerConfig>,
    api: ArcSwap<ServerConfig>,
    not_after: ArcSwap<OffsetDateTime>,
}

impl ServerIdentity {
    /// Issues the first certificate, for `localhost`, the loopback addresses, the addresses that are bound, and what the
    /// API is called from outside.
    ///
    /// # Errors
    /// The authority cannot issue it.
    pub fn new(
        authority: CertificateAuthority,
        bound: &[SocketAddr],
        advertised: Option<&str>,
    ) -> Result<Arc<Self>, CertError> {
        let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        let bound = bound.iter().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified()).map(|ip| ip.to_string());
        for name in bound.chain(advertised.map(str::to_owned)) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let issued = issue(&authority, &names)?;
        Ok(Arc::new(Self {
            authority,
            names,
            xds: ArcSwap::from(issued.xds),
            api: ArcSwap::from(issued.api),
            not_after: ArcSwap::from_pointee(issued.not_after),
        }))
    }

    /// For the next connection of the xDS port: HTTP/2, a client certificate is optional.
    pub fn xds(&self) -> Arc<ServerConfig> {
        self.xds.load_full()
    }

    /// For the next connection of the API port: HTTP/2 or HTTP/1.1; clients prove themselves by a bearer token.
    pub fn api(&self) -> Arc<ServerConfig> {
        self.api.load_full()
    }

    /// Renews until the control plane drains.
    pub async fn run(self: Arc<Self>, drain: DrainWatch) {
        loop {
            let left = **self.not_after.load() - OffsetDateTime::now_utc();
            let wait = left.try_into().unwrap_or(Duration::ZERO) / 2;
            tokio::select! {
                () = tokio::time::sleep(wait.max(Duration::from_millis(500))) => {}
                () = drain.signaled() => return,
            }
            match issue(&self.authority, &self.names) {
                Ok(issued) => {
                    self.xds.store(issued.xds);
                    self.api.store(issued.api);
                    self.not_after.store(Arc::new(issued.not_after));
                    tracing::info!(expires = %issued.not_after, "the control plane's own certificate was renewed");
                }
                Err(error) => {
                    tracing::error!(%error, "the control plane's own certificate cannot be renewed");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }
}

struct Issued {
    xds: Arc<ServerConfig>,
    api: Arc<ServerConfig>,
    not_after: OffsetDateTime,
}

/// The chain holds the root too: a sidecar that joins knows but its hash.
fn issue(authority: &CertificateAuthority, names: &[String]) -> Result<Issued, CertError> {
    let bundle = authority.trust_bundle();
    let id = SpiffeId::new(&bundle.trust_domain, CONTROL_PLANE_NAMESPACE, CONTROL_PLANE_ACCOUNT)?;
    let key = Key::generate()?;
    let (not_before, not_after) = authority.life(OffsetDateTime::now_utc());
    let leaf = authority.0.authority.issue(&key, &id, names, not_before, not_after)?;
    let chain = std::iter::once(leaf).chain(bundle.roots.iter().cloned()).collect();
    let identity = Identity { id, chain, key, not_before, not_after };
    Ok(Issued {
        xds: Arc::new(tls::optional_client_server(&identity, &bundle, &[b"h2"])?),
        api: Arc::new(api_config(&identity)?),
        not_after,
    })
}

fn api_config(identity: &Identity) -> Result<ServerConfig, CertError> {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
    let chain = identity.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.key.to_pkcs8().to_vec()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
