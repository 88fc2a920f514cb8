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
/// Longest time between two looks at the clock.
const LOOK: Duration = Duration::from_secs(5);
/// Shortest time between two renewals.
const LEAST: Duration = Duration::from_millis(100);

/// The TLS configurations of the control plane's own ports, always with a valid certificate.
pub struct ServerIdentity {
    authority: CertificateAuthority,
    /// DNS names and IP addresses beside the SPIFFE ID, for clients that verify those.
    names: Vec<String>,
    xds: ArcSwap<ServerConfig>,
    api: ArcSwap<ServerConfig>,
    /// From when to when it is valid.
    life: ArcSwap<(OffsetDateTime, OffsetDateTime)>,
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
            life: ArcSwap::from_pointee(issued.life),
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

    /// Renews at half of its life by the wall clock, which may be set or go on while the machine sleeps, and at once when another authority
    /// signs; until the control plane drains.
    pub async fn run(self: Arc<Self>, drain: DrainWatch) {
        let mut steps = self.authority.watch();
        steps.mark_unchanged();
        loop {
            let (begun, ends) = **self.life.load();
            let (now, half) = (OffsetDateTime::now_utc(), begun + (ends - begun) / 2);
            // A clock that was set back makes no certificate valid that begins later.
            if now < half && now >= begun {
                let wait = Duration::try_from(half - now).unwrap_or_default().min(LOOK);
                tokio::select! {
                    () = tokio::time::sleep(wait) => continue,
                    changed = steps.changed() => if changed.is_err() { return },
                    () = drain.signaled() => return,
                }
            }
            steps.mark_unchanged();
            let this = self.clone();
            // It signs, and somebody else may hold the key.
            let issued = tokio::task::spawn_blocking(move || issue(&this.authority, &this.names)).await;
            let wait = match issued {
                Ok(Ok(issued)) => {
                    tracing::info!(expires = %issued.life.1, "the control plane's own certificate was renewed");
                    self.put(issued);
                    LEAST
                }
                Ok(Err(error)) => {
                    tracing::error!(%error, "the control plane's own certificate cannot be renewed");
                    AGAIN
                }
                Err(_) => AGAIN,
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = drain.signaled() => return,
            }
        }
    }

    fn put(&self, issued: Issued) {
        self.xds.store(issued.xds);
        self.api.store(issued.api);
        self.life.store(Arc::new(issued.life));
    }
}

struct Issued {
    xds: Arc<ServerConfig>,
    api: Arc<ServerConfig>,
    life: (OffsetDateTime, OffsetDateTime),
}

/// The chain holds the roots too: a sidecar that joins knows but the hash of one.
fn issue(authority: &CertificateAuthority, names: &[String]) -> Result<Issued, CertError> {
    let (state, now) = (authority.state(), OffsetDateTime::now_utc());
    let id = SpiffeId::new(state.current.trust_domain(), CONTROL_PLANE_NAMESPACE, CONTROL_PLANE_ACCOUNT)?;
    let key = Key::generate()?;
    let (not_before, not_after) = authority.life(&state.current, now);
    let leaf = state.current.issue(&key, &id, names, not_before, not_after)?;
    let chain = std::iter::once(leaf).chain(state.behind_own_leaf()).collect();
    let identity = Identity { id, chain, key, not_before, not_after };
    Ok(Issued {
        xds: Arc::new(tls::optional_client_server(&identity, &state.believed(now), &[b"h2"])?),
        api: Arc::new(api_config(&identity)?),
        life: (not_before, not_after),
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
