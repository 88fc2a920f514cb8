//! The mesh's TLS configurations, swapped whole when the leaf or the roots change. New connections use the new ones.

pub mod opaque;
mod system_roots;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use leno_certs::{CertError, Identity, TrustBundle, tls};
use rustls::{ClientConfig, ServerConfig};

pub use system_roots::system_roots;

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
    configs: ArcSwap<TlsConfigs>,
    /// That of `configs`, apart, since the request path compares it.
    generation: AtomicU64,
}

impl MeshTls {
    /// Starts with a leaf and a bundle.
    ///
    /// # Errors
    /// They do not make a configuration.
    pub fn new(identity: &Identity, bundle: &TrustBundle) -> Result<Self, CertError> {
        let configs = ArcSwap::from_pointee(configs(identity, bundle, 0)?);
        Ok(Self(Arc::new(Shared { configs, generation: AtomicU64::new(0) })))
    }

    /// Replaces both. There is one caller, the control thread.
    ///
    /// # Errors
    /// They do not make a configuration; the old ones stay.
    pub fn publish(&self, identity: &Identity, bundle: &TrustBundle) -> Result<(), CertError> {
        let generation = self.generation() + 1;
        self.0.configs.store(Arc::new(configs(identity, bundle, generation)?));
        self.0.generation.store(generation, Ordering::Release);
        Ok(())
    }

    /// What is in force.
    pub fn current(&self) -> Arc<TlsConfigs> {
        self.0.configs.load_full()
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

/// How a client says which port of the far app it wants: by the server name, so that it costs nothing per request.
/// `PORT.h1.leno.internal`, `PORT.h2.leno.internal`.
pub mod port_name {
    const SUFFIX: &str = ".leno.internal";

    /// What the far sidecar speaks to its app.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum AppHttp {
        /// HTTP/1.1, or opaque bytes.
        H1,
        /// HTTP/2 with prior knowledge.
        H2,
    }

    /// The server name for a port.
    pub fn encode(port: &str, http: AppHttp) -> String {
        let http = match http {
            AppHttp::H1 => "h1",
            AppHttp::H2 => "h2",
        };
        format!("{port}.{http}{SUFFIX}")
    }

    /// The port and the protocol that a server name asks for.
    pub fn decode(server_name: &str) -> Option<(&str, AppHttp)> {
        let (port, http) = server_name.strip_suffix(SUFFIX)?.rsplit_once('.')?;
        let http = match http {
            "h1" => AppHttp::H1,
            "h2" => AppHttp::H2,
            _ => return None,
        };
        Some((port, http))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_port_survives_the_server_name() {
            for port in ["http", "8080", "a-b"] {
                let name = encode(port, AppHttp::H2);
                assert!(rustls_pki_types::ServerName::try_from(name.clone()).is_ok(), "{name}");
                assert_eq!(decode(&name), Some((port, AppHttp::H2)));
            }
            for bad in ["", "leno.internal", "http.leno.internal", "http.h3.leno.internal", "example.com"] {
                assert_eq!(decode(bad), None, "{bad}");
            }
        }
    }
}
