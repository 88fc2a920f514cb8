//! Gateways: what a sidecar serves to clients that are not in the mesh.

use std::collections::BTreeMap;
use std::sync::Arc;

use leno_certs::tls::edge::{EdgeCertificate, EdgeClients};
use rustls::ServerConfig;

use super::route::RawBackend;
use super::{Backend, Candidate, Hostname};

/// A Gateway with its routes and their backends.
#[derive(Debug)]
pub struct Gateway {
    /// NAMESPACE/NAME.
    pub name: String,
    /// By the number that the Gateway's listeners say.
    pub ports: BTreeMap<u16, GatewayPort>,
}

/// All listeners of one port; they speak one family of protocols.
#[derive(Debug)]
pub struct GatewayPort {
    /// What a connection is before anything of it was read.
    pub family: Family,
    /// The Gateway's own first, then those of ListenerSets.
    pub listeners: Vec<Listener>,
}

/// What the connections of a port are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// HTTP in the clear.
    Http,
    /// TLS; the server name says which listener.
    Tls,
    /// Opaque bytes.
    Tcp,
}

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerProtocol {
    /// HTTP in the clear.
    Http,
    /// HTTP within TLS that ends here.
    Https,
    /// Opaque bytes within TLS that ends here.
    Terminate,
    /// TLS that does not end here.
    Passthrough,
    /// Opaque bytes.
    Tcp,
}

impl ListenerProtocol {
    /// What its port's connections are.
    pub fn family(self) -> Family {
        match self {
            Self::Http => Family::Http,
            Self::Https | Self::Terminate | Self::Passthrough => Family::Tls,
            Self::Tcp => Family::Tcp,
        }
    }
}

/// One listener with everything that is attached to it.
#[derive(Debug)]
pub struct Listener {
    /// SECTION, or NAMESPACE/LISTENERSET/SECTION.
    pub name: String,
    /// What it speaks.
    pub protocol: ListenerProtocol,
    /// Which hosts are its own.
    pub hostname: Hostname,
    /// Set where TLS ends here.
    pub tls: Option<ListenerTls>,
    /// HTTPRoutes and GRPCRoutes by the hostname that they say. Every hostname's matches are in the order in which they are tried.
    pub http: Vec<(Hostname, Vec<Candidate>)>,
    /// TLSRoutes by the hostname that they say.
    pub tls_routes: Vec<(Hostname, Arc<Vec<Backend>>)>,
    /// Where a TCPRoute sends connections.
    pub tcp: Option<Arc<Vec<Backend>>>,
}

/// How TLS ends at a listener. Made once when its certificates or roots change, and shared by all workers.
#[derive(Debug, Clone)]
pub struct ListenerTls {
    /// With the certificates by server name.
    pub server: Arc<ServerConfig>,
    /// Which client certificates are asked for.
    pub clients: Option<Arc<EdgeClients>>,
}

/// A Gateway by itself; its routes are resources of their own.
#[derive(Debug)]
pub struct RawGateway {
    pub listeners: Vec<RawListener>,
    /// Shown to backends that ask for one; an error is why it is not there, and then they are not spoken to.
    pub client: Option<Result<Arc<EdgeCertificate>, String>>,
}

#[derive(Debug)]
pub struct RawListener {
    pub name: String,
    pub port: u16,
    pub protocol: ListenerProtocol,
    pub hostname: Hostname,
    pub tls: Option<ListenerTls>,
    /// Names of the resources, oldest first.
    pub http_routes: Vec<String>,
    pub tls_routes: Vec<String>,
    pub tcp_routes: Vec<String>,
}

#[derive(Debug)]
pub struct TlsRoute {
    pub hostnames: Vec<Hostname>,
    pub backends: Vec<RawBackend>,
}
