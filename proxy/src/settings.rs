//! The bootstrap settings: what is on the command line, read once. Everything that changes later comes over the stream.
//!
//! The flags are part of the product's contract, see the README; [`Settings`] is their checked form and the only one that
//! the rest of the program sees.

mod args;
mod gateway;
mod health;
mod interception;
mod observe;
mod own_ports;
mod parse;
mod probes;
mod state_dir;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use leno_certs::KeyKind;
use leno_runtime::Output;

pub use args::{Args, Cli, HoldArgs, WaitArgs};
pub use gateway::MOST_GATEWAY_PORTS;
pub use health::{HealthScheme, HealthUrl};
pub use interception::{Cidr, InterceptArgs, Interception, Interface, PortRange, Redirection, Selection};
pub use observe::{CollectorSettings, ObserveSettings};
pub use own_ports::OwnPorts;
pub use parse::{Problems, parse_duration};
pub use probes::{Action, HttpGet, Probe, Probes};
pub use state_dir::StateDir;

/// What one sidecar was asked to be.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the control plane serves the stream.
    pub control_plane: HostPort,
    /// What proves who the sidecar is at its first start.
    pub token: Option<TokenSource>,
    /// File with the roots that the control plane's certificate leads to, for a token that names none.
    pub control_plane_ca: Option<PathBuf>,
    /// The service that the workload is an instance of; sets the label `app` unless that was given.
    pub service: String,
    /// Namespace of the workload and of every short name its app uses.
    pub namespace: String,
    /// Service account; the identity is `spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT`.
    pub service_account: String,
    /// Labels by which Services select the workload.
    pub labels: BTreeMap<String, String>,
    /// Name of the workload, when it was chosen by hand.
    pub name: Option<String>,
    /// The app's ports.
    pub ports: Vec<PortSpec>,
    /// Local ports that lead to a service of the mesh.
    pub upstreams: Vec<UpstreamSpec>,
    /// Where peers of the mesh connect.
    pub mesh_addr: String,
    /// Where the app may use an HTTP proxy.
    pub http_proxy_addr: String,
    /// Where `/ready`, `/live`, `/metrics` and `/config_dump` are served.
    pub admin_addr: String,
    /// Where redirected connections to the app's ports arrive.
    pub inbound_addr: String,
    /// Where DNS is answered; the same port of `[::1]` belongs to it.
    pub dns_addr: String,
    /// Where health checks of the app are answered.
    pub health_addr: String,
    /// The app's health checks; None: the health port is not served.
    pub probes: Option<Probes>,
    /// Checks of the app by which the mesh is told how it is.
    pub health_checks: Vec<HealthUrl>,
    /// How traffic is intercepted; none in explicit use.
    pub interception: Option<Interception>,
    /// The Gateway that is served; none for an app's sidecar.
    pub gateway: Option<GatewaySettings>,
    /// End when the app's processes have ended.
    pub exit_with_app: bool,
    /// The address that peers dial, when it is not the one that the control plane is reached from.
    pub advertise_addr: Option<IpAddr>,
    /// Folder of the identity and of the last good snapshot.
    pub state_dir: PathBuf,
    /// Worker threads for traffic.
    pub workers: usize,
    /// Form of the ready line.
    pub output: Output,
    /// How old an HTTP/2 connection of the app or of a Gateway's client gets.
    pub max_connection_age: Option<Duration>,
    /// What is written down of requests.
    pub observe: ObserveSettings,
    /// What the keys of its leaves compute by.
    pub leaf_key: KeyKind,
    /// How long open requests and connections may take to end after SIGTERM.
    pub drain_timeout: Duration,
    /// How long a first start waits for the control plane.
    pub join_timeout: Duration,
}

/// `--gateway NAME`, and `--gateway-listen PORT=ADDR` for each of its ports that is not to be bound as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewaySettings {
    /// Of the sidecar's namespace.
    pub name: String,
    /// By the Gateway's port.
    pub listen: BTreeMap<u16, String>,
}

/// A host, by name or address, and a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// A DNS name or an IP address, without brackets.
    pub host: String,
    /// The port; zero only where one is to be chosen.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// `--port NAME=HOST:PORT`: a port of the local app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortSpec {
    /// Name (or number) by which a Service's `targetPort` finds it.
    pub name: String,
    /// Where the app listens.
    pub host: String,
    /// On which port.
    pub port: u16,
}

/// `--upstream HOST:PORT=LISTEN`: a local port that leads to a service of the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamSpec {
    /// The service as its users write it: `web`, `web.default`, `web.default.svc.cluster.local`, or an IP address.
    pub host: String,
    /// The service's port.
    pub port: u16,
    /// Where to listen; port 0 means any.
    pub listen: String,
}

impl UpstreamSpec {
    /// The key of this upstream in the ready line: what was asked.
    pub fn asked(&self) -> String {
        HostPort { host: self.host.clone(), port: self.port }.to_string()
    }
}

/// Where the join token comes from. It is a secret: `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// On the command line or in the environment.
    Text(String),
    /// In a file, read when it is needed.
    File(PathBuf),
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(…)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

#[cfg(test)]
mod tests;
