//! The command line as clap reads it; [`super::parse`] gives it meaning.

use std::path::PathBuf;

use clap::Parser;

const EXAMPLES: &str = "\
Examples:
  First start of an instance of web, whose app listens on 127.0.0.1:8080:
    leno-proxy --control-plane 127.0.0.1:15010 --token-file web.token \\
      --service web --label version=v1 --port http=127.0.0.1:8080 \\
      --state-dir /var/lib/leno/web-1

  A client only; its app reaches store on 127.0.0.1:6379, and every
  service by HTTP through the proxy 127.0.0.1:15001:
    leno-proxy --control-plane 127.0.0.1:15010 --token-file frontend.token \\
      --service frontend --upstream store:6379=127.0.0.1:6379 \\
      --state-dir /var/lib/leno/frontend

`leno token create --service-account NAME` makes a token. The first start
uses it up: from then on the certificate in the state folder proves the
identity and renews itself.

Exit codes: 0 after SIGTERM, 2 wrong usage, 69 control plane unreachable or
port in use, 73 state folder unusable, 77 identity refused, 78 settings do
not fit the state folder.";

/// The sidecar of Leno: mutual TLS, balancing, retries and routes for one instance of a service.
#[derive(Debug, Clone, Parser)]
#[command(name = "leno-proxy", version, about, after_help = EXAMPLES, max_term_width = 120)]
pub struct Args {
    /// Address of the control plane's stream.
    #[arg(long, value_name = "HOST:PORT", env = "LENO_CONTROL_PLANE", help_heading = "Mesh")]
    pub control_plane: String,
    /// Join token for the first start. Prefer --token-file: other users of the machine can read command lines.
    #[arg(long, env = "LENO_TOKEN", hide_env_values = true, conflicts_with = "token_file", help_heading = "Mesh")]
    pub token: Option<String>,
    /// File with the join token for the first start.
    #[arg(long, value_name = "FILE", help_heading = "Mesh")]
    pub token_file: Option<PathBuf>,
    /// Folder for the identity and the last good configuration; one per sidecar.
    #[arg(long, value_name = "DIR", help_heading = "Mesh")]
    pub state_dir: PathBuf,
    /// How long a first start waits for the control plane.
    #[arg(long, value_name = "DURATION", default_value = "10s", help_heading = "Mesh")]
    pub join_timeout: String,

    /// The service that this workload is an instance of; sets the label app=NAME.
    #[arg(long, value_name = "NAME", help_heading = "Workload")]
    pub service: String,
    /// Namespace of the workload.
    #[arg(long, default_value = "default", help_heading = "Workload")]
    pub namespace: String,
    /// Service account, the identity's last part [default: the service's name].
    #[arg(long, value_name = "NAME", help_heading = "Workload")]
    pub service_account: Option<String>,
    /// A label by which Services select the workload; may be given again.
    #[arg(long = "label", value_name = "KEY=VALUE", help_heading = "Workload")]
    pub labels: Vec<String>,
    /// Name of the workload [default: the service's name and a stable suffix].
    #[arg(long, help_heading = "Workload")]
    pub name: Option<String>,
    /// A port of the local app, by its name (or number) in the Service's targetPort; may be given again.
    #[arg(long = "port", value_name = "NAME=HOST:PORT", help_heading = "Workload")]
    pub ports: Vec<String>,

    /// A local port that leads to a service of the mesh; may be given again.
    #[arg(long = "upstream", value_name = "HOST:PORT=LISTEN", help_heading = "Listeners")]
    pub upstreams: Vec<String>,
    /// Where other sidecars connect, with mutual TLS.
    #[arg(long, value_name = "ADDR", default_value = ":15008", help_heading = "Listeners")]
    pub mesh_addr: String,
    /// The IP address that other sidecars dial [default: the one the control plane is reached from].
    #[arg(long, value_name = "IP", help_heading = "Listeners")]
    pub advertise_addr: Option<String>,
    /// HTTP proxy for the local app; loopback only, since who reaches it speaks as this workload.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15001", help_heading = "Listeners")]
    pub http_proxy_addr: String,
    /// Readiness, metrics and configuration dump; loopback only.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15000", help_heading = "Listeners")]
    pub admin_addr: String,
    /// Serve a Gateway instead of a workload.
    #[arg(long, value_name = "NAME", help_heading = "Listeners")]
    pub gateway: Option<String>,
    /// Where a port of the Gateway is served; may be given again.
    #[arg(long = "gateway-listen", value_name = "PORT=ADDR", help_heading = "Listeners")]
    pub gateway_listen: Vec<String>,

    /// Threads that carry traffic.
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Process")]
    pub workers: usize,
    /// How long open requests may take to end after SIGTERM.
    #[arg(long, value_name = "DURATION", default_value = "30s", help_heading = "Process")]
    pub drain_timeout: String,
    /// Form of the ready line and of the log: text or json.
    #[arg(long, value_name = "FORM", default_value = "text", help_heading = "Process")]
    pub output: String,
}
