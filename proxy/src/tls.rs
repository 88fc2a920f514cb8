//! The mesh's TLS configurations, swapped whole when the leaf or the roots change. New connections use the new ones.

pub mod opaque;
pub mod port_name;
mod read_ahead;
mod revocations;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use leno_certs::{CertError, Identity, TrustBundle, tls};
use rustls::{ClientConfig, ServerConfig};

pub use read_ahead::ReadAhead;
pub use revocations::{Watched, revoked};

use crate::model::Revoked;

/// ALPN of a connection that multiplexes HTTP requests.
pub const ALPN_HTTP: &[u8] = b"h2";
/// ALPN of a connection that carries one opaque TCP connection.
pub const ALPN_TCP: &[u8] = b"leno-tcp/1";

/// What belongs to one leaf and one bundle.
#[derive(Debug)]
pub struct TlsConfigs {
    /// For dialling with HTTP.
    pub client_http: Arc<ClientConfig>,
    /// For dialling with an opaque connection.
    pub client_tcp: Arc<ClientConfig>,
    /// For the mesh port.
    pub server: Arc<ServerConfig>,
    /// Grows with each swap. A pooled connection of an older one gets no new requests, so that nobody stays on a leaf or a
    /// root that was replaced.
    pub generation: u64,
}

/// The handle that everybody shares.
#[derive(Debug, Clone)]
pub struct MeshTls(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Never changes.
    trust_domain: String,
    configs: ArcSwap<TlsConfigs>,
    /// That of `configs`, apart, since the request path compares it.
    generation: AtomicU64,
    revocations: revocations::Revocations,
}

impl MeshTls {
    /// Starts with a leaf and a bundle.
    ///
    /// # Errors
    /// They do not make a configuration.
    pub fn new(identity: &Identity, bundle: &TrustBundle) -> Result<Self, CertError> {
        let configs = ArcSwap::from_pointee(configs(identity, bundle, 0)?);
        let (generation, revocations) = (AtomicU64::new(0), revocations::Revocations::new(bundle));
        let trust_domain = bundle.trust_domain.clone();
        Ok(Self(Arc::new(Shared { trust_domain, configs, generation, revocations })))
    }

    /// Replaces both. There is one caller, the control thread.
    ///
    /// # Errors
    /// They do not make a configuration; the old ones stay.
    pub fn publish(&self, identity: &Identity, bundle: &TrustBundle) -> Result<(), CertError> {
        let generation = self.generation() + 1;
        self.0.configs.store(Arc::new(configs(identity, bundle, generation)?));
        self.0.generation.store(generation, Ordering::Release);
        self.0.revocations.believe(bundle);
        Ok(())
    }

    /// Replaces the list of those who are in the mesh no more. When this returns no new connection is made with one of them, and
    /// those who hold open ones are woken.
    pub fn revoke(&self, revoked: Revoked) {
        self.0.revocations.replace(revoked);
    }

    /// What is in force.
    pub fn current(&self) -> Arc<TlsConfigs> {
        self.0.configs.load_full()
    }

    /// Our own trust domain.
    pub fn trust_domain(&self) -> &str {
        &self.0.trust_domain
    }

    /// The number of the configurations in force.
    pub fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }
}

fn configs(identity: &Identity, bundle: &TrustBundle, generation: u64) -> Result<TlsConfigs, CertError> {
    Ok(TlsConfigs {
        client_http: Arc::new(tls::mesh_client(identity, bundle, &[ALPN_HTTP])?),
        client_tcp: Arc::new(tls::mesh_client(identity, bundle, &[ALPN_TCP])?),
        server: Arc::new(tls::mesh_server(identity, bundle, &[ALPN_HTTP, ALPN_TCP])?),
        generation,
    })
}
