//! Services, as the control plane describes them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::resilience::{CircuitBreaker, Resilience, Retry};
use super::{BackendTls, Balancing};

/// What an app speaks on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum AppProtocol {
    /// Not said: the first bytes decide.
    #[default]
    Detect,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// Opaque bytes.
    Tcp,
}

/// How a service's endpoints are treated: a TrafficPolicy with its defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// For one TCP connection and its TLS handshake.
    pub connect_timeout: Duration,
    /// A pooled connection without a request is closed after this.
    pub idle_timeout: Duration,
    /// An endpoint that fails this often in a row is ejected; zero: never.
    pub consecutive_failures: u32,
    /// For how long it is ejected the first time; each further time in a row as much longer.
    pub ejection: Duration,
    /// Most endpoints that may be ejected at once, in percent of all.
    pub max_ejected_percent: u32,
    /// Retries in percent of requests.
    pub retry_percent: u32,
    /// Retries a second that are always granted.
    pub retries_per_second: u32,
    /// Which endpoint gets a request.
    pub balancing: Balancing,
    /// When a request is tried again that no rule says more of.
    pub retry: Retry,
    /// What else is said of requests.
    pub resilience: Resilience,
    /// What may be open at once.
    pub circuit_breaker: CircuitBreaker,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(90),
            consecutive_failures: 5,
            ejection: Duration::from_secs(10),
            max_ejected_percent: 50,
            retry_percent: 20,
            retries_per_second: 10,
            balancing: Balancing::default(),
            retry: Retry::default(),
            resilience: Resilience::default(),
            circuit_breaker: CircuitBreaker::default(),
        }
    }
}

/// One service by itself; its routes and endpoints are resources of their own.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    pub namespace: String,
    pub name: String,
    pub ports: Vec<Port>,
    /// What holds for the ports that do not stand in `ports`, when the service is reached on every port.
    pub any_port: Option<Port>,
    /// What its name resolves to inside an intercepted namespace.
    pub addresses: Vec<IpAddr>,
    pub policy: Arc<Policy>,
}

impl Service {
    /// What is known of the port of this number.
    pub fn port(&self, number: u16) -> Option<&Port> {
        self.ports.iter().find(|port| port.number == number).or(self.any_port.as_ref())
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Port {
    /// Zero for any.
    pub number: u16,
    pub name: String,
    pub protocol: AppProtocol,
    /// Names of the resources, oldest first.
    pub http_routes: Vec<String>,
    /// With one of these its clients speak TLS.
    pub tls_routes: Vec<String>,
    pub tcp_routes: Vec<String>,
    /// How an app without a sidecar is spoken to over TLS.
    pub backend_tls: Option<Arc<BackendTls>>,
}
