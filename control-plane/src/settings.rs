//! The command line of the control plane: what is read once, at the start. Everything else comes through the configuration.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use leno_runtime::announce::Output;

/// The command line: a control plane, or one of the small commands beside it.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "leno-control-plane",
    version,
    about = "Leno's control plane: hands every sidecar its routes, endpoints, policy and certificates.",
    after_help = EXAMPLES,
    max_term_width = 110,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true
)]
pub struct Args {
    /// None: serve.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// What to serve; there unless there is a command.
    #[command(flatten)]
    pub settings: Option<Settings>,
}

/// What the binary does besides serving.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Exits 0 when the control plane on this machine is ready, and 69 when it is not: a container's health check.
    Health {
        /// Its --admin-addr.
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15014")]
        admin_addr: SocketAddr,
    },
}

/// What a control plane is started with.
#[derive(Debug, Clone, Parser)]
pub struct Settings {
    /// Folder for the state: objects, history, tokens, the certificate authority and admin.yaml. Made when it is missing.
    #[arg(long, value_name = "DIR")]
    pub state_dir: PathBuf,

    /// Folder with YAML files to keep in force; watched for changes.
    #[arg(long, value_name = "DIR")]
    pub config_dir: Option<PathBuf>,

    /// Where sidecars connect (gRPC over TLS). Port 0 takes any free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15010")]
    pub xds_addr: String,

    /// Where the REST API listens (HTTPS, bearer token).
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15012")]
    pub api_addr: String,

    /// Where people reach the API, when it is not where it listens: stands in admin.yaml and in the certificate.
    #[arg(long, value_name = "HOST:PORT", value_parser = host_port)]
    pub advertise_api_addr: Option<HostPort>,

    /// Where /ready, /live, /metrics and /config_dump are served. Without authentication, so keep it on loopback.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15014")]
    pub admin_addr: String,

    /// Where other meshes learn this one's roots (HTTPS, the SPIFFE bundle format, profile https_spiffe), for FederatedTrustDomain
    /// objects of theirs. Without it they are told nobody.
    #[arg(long, value_name = "ADDR")]
    pub federation_addr: Option<String>,

    /// How often they are asked to look. A rotation makes its next root known for twice as long before that signs.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = refresh_hint)]
    pub federation_refresh_hint: Duration,

    /// Folder with join secrets made by `leno inject`: a file an identity, named NAMESPACE.SERVICE-ACCOUNT. Read on demand.
    #[arg(long, value_name = "DIR")]
    pub join_secrets: Option<PathBuf>,

    /// Lets Kubernetes service accounts join by their tokens: the `iss` of the cluster's tokens
    /// (`kubectl get --raw /.well-known/openid-configuration`).
    #[arg(long, value_name = "URL", requires = "service_account_jwks")]
    pub service_account_issuer: Option<String>,

    /// The cluster's public keys: a file, or an HTTPS URL, as that of the API server's /openid/v1/jwks.
    #[arg(long, value_name = "FILE|URL", requires = "service_account_issuer")]
    pub service_account_jwks: Option<String>,

    /// The audience that a service account's token must be for.
    #[arg(long, value_name = "NAME", default_value = "leno")]
    pub service_account_audience: String,

    /// File with a bearer token for the URL of --service-account-jwks, read anew each time: this pod's own
    /// /var/run/secrets/kubernetes.io/serviceaccount/token.
    #[arg(long, value_name = "FILE", requires = "service_account_jwks")]
    pub service_account_jwks_token_file: Option<PathBuf>,

    /// Root certificates (PEM) beside the system's, for every URL that public keys are fetched from.
    #[arg(long, value_name = "FILE")]
    pub jwks_ca: Option<PathBuf>,

    /// Name of the mesh in every identity, spiffe://TRUST-DOMAIN/... It is fixed at the first start.
    #[arg(long, value_name = "NAME", default_value = "cluster.local")]
    pub trust_domain: String,

    /// How the one line that says 'ready' is printed.
    #[arg(long, value_name = "text|json", default_value = "text")]
    pub output: Output,

    /// How long a sidecar's certificate lives. It renews at half of that.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = leaf_ttl)]
    pub leaf_ttl: Duration,

    /// How long a workload whose sidecar lost its connection stays in the endpoints.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = grace)]
    pub registration_grace: Duration,

    /// File with the passphrase that encrypts the CA key; else LENO_CA_PASSPHRASE, else the random key file STATE_DIR/ca.key.
    #[arg(long, value_name = "FILE")]
    pub ca_passphrase_file: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  leno-control-plane --state-dir ./state
      Serves a mesh on this machine. Then: LENO_CONTEXT=./state/admin.yaml leno status
  leno-control-plane --state-dir /var/lib/leno --config-dir /etc/leno --xds-addr 0.0.0.0:15010
      Keeps the YAML files of a folder in force; sidecars of other machines can connect.
  LENO_CA_PASSPHRASE=... leno-control-plane --state-dir ./state
      Encrypts the CA key with a passphrase instead of a key file.

  leno-control-plane --state-dir ./state --service-account-issuer https://kubernetes.default.svc.cluster.local \
      --service-account-jwks https://kubernetes.default.svc/openid/v1/jwks \
      --service-account-jwks-token-file /var/run/secrets/kubernetes.io/serviceaccount/token \
      --jwks-ca /var/run/secrets/kubernetes.io/serviceaccount/ca.crt
      In a cluster: pods join by the tokens of their service accounts.
  leno-control-plane --state-dir ./state --trust-domain east.example --federation-addr 0.0.0.0:15013
      Tells other meshes its roots; docs/security.md says how two meshes come to trust each other.
  leno-control-plane health
      Is it ready? Exits 0 or 69; for a container's health check.

Environment: LENO_CA_PASSPHRASE (see above), LENO_LOG (log filter, for example debug or leno_control_plane=debug).";

/// A host, by name or address, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// A DNS name or an IP address, without brackets.
    pub host: String,
    /// Not zero.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{open}{}{close}:{}", self.host, self.port)
    }
}

fn host_port(text: &str) -> Result<HostPort, String> {
    let wrong = || "write HOST:PORT, for example mesh.example.org:15012 or [2001:db8::1]:15012".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let fits = match bracketed {
        Some(host) => host.parse::<Ipv6Addr>().is_ok(),
        None => {
            let label = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
            (1..=253).contains(&host.len()) && host.chars().all(label)
        }
    };
    if fits { Ok(HostPort { host: bracketed.unwrap_or(host).to_owned(), port }) } else { Err(wrong()) }
}

/// Reads `10s`, `5m`, `24h`, `7d`, `500ms` or a plain number of seconds.
///
/// # Errors
/// It is none of these, or zero, or more than a century.
pub fn duration(text: &str) -> Result<Duration, String> {
    let number = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(number);
    let millis = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(format!("{unit:?} is no unit; write for example 10s, 5m, 24h or 7d")),
    };
    let number: u64 =
        number.parse().map_err(|_| "write a whole number and a unit, for example 10s or 24h".to_owned())?;
    match number.checked_mul(millis) {
        Some(0) => Err("it must be more than zero".to_owned()),
        Some(millis) if millis <= 100 * 365 * 86_400_000 => Ok(Duration::from_millis(millis)),
        _ => Err("it is longer than a century".to_owned()),
    }
}

/// Shorter ones would be renewed all the time, longer ones would outlive any revocation of trust.
fn leaf_ttl(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        ttl if ttl < Duration::from_secs(5) => Err("a leaf lives at least 5s".to_owned()),
        ttl if ttl > Duration::from_secs(90 * 86_400) => Err("a leaf lives at most 90d".to_owned()),
        ttl => Ok(ttl),
    }
}

fn refresh_hint(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        hint if hint < Duration::from_secs(1) => Err("others are asked to look every second at most".to_owned()),
        hint if hint > Duration::from_secs(3600) => Err("others look every 1h at least".to_owned()),
        hint => Ok(hint),
    }
}

fn grace(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        grace if grace > Duration::from_secs(3600) => Err("a workload that is gone is kept for 1h at most".to_owned()),
        grace => Ok(grace),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_units() {
        for (text, seconds) in [("10", 10), ("10s", 10), ("5m", 300), ("24h", 86_400), ("2d", 172_800), ("3000ms", 3)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "0", "s", "-1s", "1.5h", "10 s", "99999999999999999999", "18446744073709551615d", "5w"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_command_needs_nothing_of_what_a_control_plane_does() {
        let args = Args::try_parse_from(["leno-control-plane", "health"]).unwrap();
        assert!(matches!(args.command, Some(Command::Health { admin_addr }) if admin_addr.port() == 15014));
        assert!(args.settings.is_none());
        assert!(Args::try_parse_from(["leno-control-plane", "--state-dir", "s", "health"]).is_err());
    }

    #[test]
    fn an_advertised_address_is_a_host_and_a_port() {
        for good in ["127.0.0.1:15012", "mesh.example.org:443", "[2001:db8::1]:15012"] {
            assert_eq!(host_port(good).unwrap().to_string(), good);
        }
        for bad in
            ["", "mesh", ":15012", "mesh:0", "mesh:x", "2001:db8::1:15012", "[mesh]:1", "https://mesh:1", "a b:1"]
        {
            assert!(host_port(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_command_line_of_the_contract_is_taken() {
        let line = "leno-control-plane --config-dir c --state-dir s --xds-addr 127.0.0.1:0 --api-addr 127.0.0.1:0 \
                    --admin-addr 127.0.0.1:0 --trust-domain example.org --output json --leaf-ttl 10s";
        let settings = Settings::try_parse_from(line.split_whitespace()).unwrap();
        assert_eq!((settings.output, settings.leaf_ttl), (Output::Json, Duration::from_secs(10)));
        assert!(Args::try_parse_from(["leno-control-plane"]).is_err(), "the state folder has no default");
        assert!(Args::try_parse_from(line.split_whitespace()).unwrap().settings.is_some());
        assert!(Settings::try_parse_from(["x", "--state-dir", "s", "--leaf-ttl", "1s"]).is_err());
    }
}
