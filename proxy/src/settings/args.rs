//! The command line as clap reads it; [`super::parse`] gives it meaning.

use std::path::PathBuf;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use super::interception::{InterceptArgs, RedirectionFlags};

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
port in use, 73 state folder unusable, 77 identity refused or a capability
missing, 78 settings do not fit the state folder.";

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
    /// File with the join token for the first start, or with the token of a Kubernetes service account (needs --control-plane-ca).
    #[arg(long, value_name = "FILE", help_heading = "Mesh")]
    pub token_file: Option<PathBuf>,
    /// File with the mesh's root certificates (PEM): a service account's token is shown to nobody but a control plane of these.
    #[arg(long, value_name = "FILE", help_heading = "Mesh")]
    pub control_plane_ca: Option<PathBuf>,
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
    /// A check of the app: http://HOST:PORT/PATH, tcp://HOST:PORT or grpc://HOST:PORT/SERVICE. While it fails, the app gets no
    /// requests; may be given again.
    #[arg(long = "health-check", value_name = "URL", help_heading = "Workload")]
    pub health_checks: Vec<String>,
    /// The app's health checks, which are then answered on --health-addr; JSON, written by `leno inject`.
    #[arg(long, value_name = "JSON", env = "LENO_PROBES", hide_env_values = true, help_heading = "Workload")]
    pub probes: Option<String>,

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
    /// Take redirected traffic; the rules are there already, made by `leno-proxy intercept`.
    #[arg(long, conflicts_with = "intercept", help_heading = "Interception")]
    pub transparent: bool,
    /// Redirect the traffic of this network namespace, then give up root and every capability, and take it.
    #[arg(long, help_heading = "Interception")]
    pub intercept: bool,
    /// Where redirected connections to the app's ports arrive.
    #[arg(long, value_name = "ADDR", default_value = ":15006", help_heading = "Interception")]
    pub inbound_addr: String,
    /// Where DNS is answered, and on the same port of `[::1]`; loopback only.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15053", help_heading = "Interception")]
    pub dns_addr: String,
    /// Where health checks of the app are answered.
    #[arg(long, value_name = "ADDR", default_value = ":15020", help_heading = "Interception")]
    pub health_addr: String,
    /// Which traffic is redirected.
    #[command(flatten)]
    pub redirection: RedirectionFlags,

    /// What is written down of each request.
    #[command(flatten)]
    pub access_log: AccessLogFlags,
    /// Which requests are traced.
    #[command(flatten)]
    pub traces: TraceFlags,

    /// Serve a Gateway instead of a workload.
    #[arg(long, value_name = "NAME", help_heading = "Listeners")]
    pub gateway: Option<String>,
    /// Where a port of the Gateway is served; may be given again.
    #[arg(long = "gateway-listen", value_name = "PORT=ADDR", help_heading = "Listeners")]
    pub gateway_listen: Vec<String>,

    /// Threads that carry traffic.
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Process")]
    pub workers: usize,
    /// How old an HTTP/2 connection of the app or of a Gateway's client gets, give or take a tenth, before it is asked to come
    /// anew (GOAWAY; open requests and streams go on to their end), so that clients spread over workers and over the sidecars
    /// of a Gateway; 0s: any age.
    #[arg(long, value_name = "DURATION", default_value = "1h", help_heading = "Process")]
    pub max_connection_age: String,
    /// What the keys of its certificates compute by: ecdsa (P-256) or ed25519.
    #[arg(long, value_name = "KIND", default_value = "ecdsa", help_heading = "Mesh")]
    pub leaf_key: String,
    /// How long open requests may take to end after SIGTERM.
    #[arg(long, value_name = "DURATION", default_value = "30s", help_heading = "Process")]
    pub drain_timeout: String,
    /// Drain and exit 0 when the app's processes in this process namespace have ended: for jobs.
    #[arg(long, help_heading = "Process")]
    pub exit_with_app: bool,
    /// Form of the ready line and of the log: text or json.
    #[arg(long, value_name = "FORM", default_value = "text", help_heading = "Process")]
    pub output: String,
}

/// Flags of the access log. A TrafficPolicy can say otherwise for a service or a route.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Access log")]
pub struct AccessLogFlags {
    /// Which requests are written down, one line each: off, errors, sampled (and all that fail or are traced) or all.
    #[arg(long, value_name = "MODE", default_value = "off", env = "LENO_ACCESS_LOG")]
    pub access_log: String,
    /// How many of the requests that went well a sample has.
    #[arg(long, value_name = "PERCENT", default_value = "1")]
    pub access_log_percent: String,
    /// Form of a line: json (fields as in OpenTelemetry's log model) or text.
    #[arg(long, value_name = "FORM", default_value = "json")]
    pub access_log_form: String,
    /// Where lines are added [default: standard error]. The file is opened once: rotate it by copying and truncating.
    #[arg(long, value_name = "FILE")]
    pub access_log_file: Option<PathBuf>,
    /// A header field of requests that is written down too; may be given again. Without it none is.
    #[arg(long = "access-log-header", value_name = "NAME")]
    pub access_log_headers: Vec<String>,
}

/// Flags of traces.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Traces")]
pub struct TraceFlags {
    /// OpenTelemetry collector that spans are sent to, such as http://127.0.0.1:4317. Without it requests' own traces are passed on.
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<String>,
    /// How spans travel: grpc or http/protobuf.
    #[arg(long, value_name = "PROTOCOL", default_value = "grpc", env = "OTEL_EXPORTER_OTLP_PROTOCOL")]
    pub otlp_protocol: String,
    /// How many of the requests that come without a trace begin one; with a trace, what it says holds.
    #[arg(long, value_name = "PERCENT", default_value = "1")]
    pub trace_percent: String,
    /// Most traces a second, of whatever origin.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub traces_per_second: u32,
}

/// Everything that the command line can ask for.
#[derive(Debug, Clone)]
pub enum Cli {
    /// No subcommand: be the sidecar.
    Serve(Box<Args>),
    /// Redirect the traffic of the network namespace.
    Intercept(Box<InterceptArgs>),
    /// Wait until the sidecar is ready.
    Wait(WaitArgs),
    /// Hold a container's namespaces.
    Hold(HoldArgs),
}

/// The subcommands, for clap.
#[derive(Debug, Clone, Subcommand)]
enum Command {
    /// Redirect the TCP and DNS traffic of this network namespace to the sidecar, all rules at once or none. Takes the
    /// capability CAP_NET_ADMIN and nothing else: no iptables, no nft.
    #[command(after_help = INTERCEPT_EXAMPLES)]
    Intercept(Box<InterceptArgs>),
    /// Wait until the sidecar is ready: for start order and for health checks of containers.
    #[command(after_help = WAIT_EXAMPLES)]
    Wait(WaitArgs),
    /// Do nothing but hold the namespaces of a container that the app and its sidecar join. Ends at SIGTERM.
    Hold(HoldArgs),
}

const INTERCEPT_EXAMPLES: &str = "\
Examples:
  What would be done:
    leno-proxy intercept --dry-run
  All but the database and what the host's containers send:
    leno-proxy intercept --exclude-outbound-ports 5432 --exclude-interface docker0,veth*
  Is it as it was asked for? Exit code 1 when it is not:
    leno-proxy intercept --check
  Undo it:
    leno-proxy intercept --remove

Exit codes: 0 done, 1 --check found a difference, 2 wrong usage, 69 the kernel
lacks something, 77 the capability CAP_NET_ADMIN is missing.";

const WAIT_EXAMPLES: &str = "\
Examples:
  Start an app when the mesh is there:
    leno-proxy wait && exec my-app
  A container's health check, one try:
    leno-proxy wait --timeout 0s

Exit codes: 0 ready, 2 wrong usage, 69 not ready in time.";

/// `leno-proxy wait`.
#[derive(Debug, Clone, clap::Args)]
pub struct WaitArgs {
    /// Admin port of the sidecar.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15000")]
    pub admin_addr: String,
    /// How long to wait; 0s tries once.
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    pub timeout: String,
}

/// `leno-proxy hold`.
#[derive(Debug, Clone, clap::Args)]
pub struct HoldArgs {
    /// End by itself when processes of an app were there and have all ended, and the sidecar has drained: for jobs.
    #[arg(long)]
    pub until_apps_end: bool,
}

impl Cli {
    /// Reads the process's command line; ends the process with a message when it cannot be read.
    pub fn parse() -> Self {
        Self::try_parse_from(std::env::args_os()).unwrap_or_else(|why| why.exit())
    }

    /// Reads a command line.
    ///
    /// # Errors
    /// It cannot be read, or asks for help.
    pub fn try_parse_from<T: Into<std::ffi::OsString> + Clone>(
        line: impl IntoIterator<Item = T>,
    ) -> Result<Self, clap::Error> {
        // The plain form has required flags, some with a variable of the environment, and a subcommand takes none of them;
        // so they are read only when there is no subcommand.
        let command = Args::command().args_conflicts_with_subcommands(true).subcommand_negates_reqs(true);
        let matches = Command::augment_subcommands(command).try_get_matches_from(line)?;
        if matches.subcommand_name().is_none() {
            return Args::from_arg_matches(&matches).map(|args| Self::Serve(Box::new(args)));
        }
        Ok(match Command::from_arg_matches(&matches)? {
            Command::Intercept(args) => Self::Intercept(args),
            Command::Wait(args) => Self::Wait(args),
            Command::Hold(args) => Self::Hold(args),
        })
    }
}
