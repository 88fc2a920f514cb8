//! From the command line to checked settings. Every problem is found before any is reported.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use leno_certs::KeyKind;
use leno_runtime::Output;

use super::health;
use super::{
    Args, GatewaySettings, HostPort, Interception, ObserveSettings, PortSpec, Probes, Settings, TokenSource,
    UpstreamSpec,
};

/// Most labels, and most ports, that a registration carries (`leno_proto::Registration`).
const MOST: usize = 64;
/// Most worker threads: more than any machine has use for, so a slip of the finger is caught.
const MOST_WORKERS: usize = 256;

/// Everything that was wrong with the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl std::error::Error for Problems {}

impl Problems {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    /// Notes a problem with what it is about before it.
    pub(super) fn add(&mut self, flag: &str, why: &str) {
        self.0.push(format!("{flag}: {why}"));
    }

    /// The value, when there was no problem.
    pub(super) fn or<T>(self, value: T) -> Result<T, Self> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }

    /// Notes the problem with the flag's name before it, and goes on with the default.
    pub(super) fn take<T: Default>(&mut self, flag: &str, result: Result<T, String>) -> T {
        result.unwrap_or_else(|why| {
            self.0.push(format!("{flag}: {why}"));
            T::default()
        })
    }
}

impl TryFrom<Args> for Settings {
    type Error = Problems;

    fn try_from(args: Args) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        let p = &mut problems;
        let service = p.take("--service", dns_label(&args.service));
        let service_account = match &args.service_account {
            Some(name) => p.take("--service-account", dns_label(name)),
            None => service.clone(),
        };
        let settings = Self {
            control_plane: p.take("--control-plane", host_port(&args.control_plane).map(Some)).unwrap_or_default(),
            token: token(&args),
            control_plane_ca: args.control_plane_ca.clone(),
            namespace: p.take("--namespace", dns_label(&args.namespace)),
            labels: p.take("--label", labels(&args.labels, &service)),
            service_account,
            service,
            name: args.name.as_deref().map(|name| p.take("--name", dns_label(name))),
            ports: p.take("--port", ports(&args.ports)),
            upstreams: p.take("--upstream", upstreams(&args.upstreams)),
            mesh_addr: p.take("--mesh-addr", listen(&args.mesh_addr)),
            http_proxy_addr: p.take("--http-proxy-addr", loopback(&args.http_proxy_addr)),
            admin_addr: p.take("--admin-addr", loopback(&args.admin_addr)),
            inbound_addr: p.take("--inbound-addr", listen(&args.inbound_addr)),
            dns_addr: p.take("--dns-addr", loopback(&args.dns_addr)),
            health_addr: p.take("--health-addr", listen(&args.health_addr)),
            probes: p.take("--probes", args.probes.as_deref().map(Probes::parse).transpose()),
            health_checks: p.take("--health-check", health::health_checks(&args.health_checks)),
            interception: Interception::read(&args, p),
            gateway: GatewaySettings::read(&args, p),
            observe: ObserveSettings::read(&args, p),
            exit_with_app: args.exit_with_app,
            advertise_addr: p.take("--advertise-addr", args.advertise_addr.as_deref().map(advertised).transpose()),
            state_dir: args.state_dir,
            workers: p.take("--workers", workers(args.workers)),
            output: p.take("--output", args.output.parse::<Output>().map_err(|why| why.to_string())),
            max_connection_age: p.take("--max-connection-age", connection_age(&args.max_connection_age)),
            leaf_key: p.take("--leaf-key", leaf_key(&args.leaf_key)),
            drain_timeout: p.take("--drain-timeout", parse_duration(&args.drain_timeout)),
            join_timeout: p.take("--join-timeout", parse_duration(&args.join_timeout)),
        };
        problems.or(settings)
    }
}

fn leaf_key(text: &str) -> Result<KeyKind, String> {
    match text {
        "ecdsa" => Ok(KeyKind::EcdsaP256),
        "ed25519" => Ok(KeyKind::Ed25519),
        _ => Err(format!("{text:?} is no kind of key; write ecdsa or ed25519")),
    }
}

/// Connections that end sooner than this cost more than they spread.
const LEAST_AGE: Duration = Duration::from_secs(1);

fn connection_age(text: &str) -> Result<Option<Duration>, String> {
    match parse_duration(text)? {
        Duration::ZERO => Ok(None),
        age if age < LEAST_AGE => Err(format!("{text:?} is too short: at least {LEAST_AGE:?}, or 0s for any age")),
        age => Ok(Some(age)),
    }
}

impl Default for HostPort {
    /// Only stands in for an address that was refused, so that the other flags are still checked.
    fn default() -> Self {
        Self { host: String::new(), port: 0 }
    }
}

fn token(args: &Args) -> Option<TokenSource> {
    let text = args
        .token
        .as_ref()
        .filter(|text| !text.trim().is_empty())
        .map(|text| TokenSource::Text(text.trim().to_owned()));
    text.or_else(|| args.token_file.clone().map(TokenSource::File))
}

/// A name as Kubernetes takes it for services and accounts (RFC 1123 label).
pub(super) fn dns_label(name: &str) -> Result<String, String> {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let ends = |b: Option<&u8>| b.is_some_and(|b| *b != b'-');
    let bytes = name.as_bytes();
    if bytes.len() <= 63 && bytes.iter().all(|b| good(*b)) && ends(bytes.first()) && ends(bytes.last()) {
        return Ok(name.to_owned());
    }
    Err(format!("{name:?} is no name: at most 63 of a-z, 0-9 and '-', not '-' at the ends"))
}

pub(super) fn host_port(text: &str) -> Result<HostPort, String> {
    let wrong = || format!("{text:?} is no HOST:PORT, such as 127.0.0.1:15010");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse::<u16>().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').filter(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok()).ok_or_else(wrong)?,
        None => Some(host).filter(|host| is_host(host)).ok_or_else(wrong)?,
    };
    Ok(HostPort { host: host.to_owned(), port })
}

/// A DNS name or an IPv4 address.
pub(super) fn is_host(host: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    !host.is_empty() && host.len() <= 253 && host.chars().all(good)
}

/// Where to listen: `IP:PORT`, `localhost:PORT`, `:PORT` for every address, or a bare port on loopback. Port 0 means any.
pub(super) fn listen(text: &str) -> Result<String, String> {
    if text.parse::<u16>().is_ok() {
        return Ok(format!("127.0.0.1:{text}"));
    }
    let port_only = |prefix| text.strip_prefix(prefix).is_some_and(|port: &str| port.parse::<u16>().is_ok());
    if let Some(port) = text.strip_prefix("localhost:").filter(|port| port.parse::<u16>().is_ok()) {
        return Ok(format!("127.0.0.1:{port}"));
    }
    if port_only(":") || text.parse::<SocketAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is no address to listen on, such as 127.0.0.1:8080, [::1]:8080 or :15008"))
}

/// The port of an address to listen on; zero when it cannot be read, which is told elsewhere.
pub(super) fn given_port(addr: &str) -> u16 {
    addr.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(0)
}

/// An address only this machine reaches. Whoever reaches such a port speaks with this workload's identity, so it may not
/// be open to others.
fn loopback(text: &str) -> Result<String, String> {
    let addr = listen(text)?;
    match addr.parse::<SocketAddr>() {
        Ok(socket) if socket.ip().is_loopback() => Ok(addr),
        _ => Err(format!(
            "{text:?} is open to other machines, and nobody has to prove who he is there; use 127.0.0.1 or [::1]"
        )),
    }
}

fn advertised(text: &str) -> Result<IpAddr, String> {
    match text.parse::<IpAddr>() {
        Ok(ip) if !ip.is_unspecified() && !ip.is_multicast() => Ok(ip),
        _ => Err(format!("{text:?} is no IP address that peers can dial")),
    }
}

fn workers(n: usize) -> Result<usize, String> {
    if (1..=MOST_WORKERS).contains(&n) { Ok(n) } else { Err(format!("{n} is not between 1 and {MOST_WORKERS}")) }
}

fn labels(given: &[String], service: &str) -> Result<BTreeMap<String, String>, String> {
    let mut labels = BTreeMap::new();
    for text in given {
        let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is no KEY=VALUE"))?;
        label_key(key)?;
        if value.len() > 63 || !label_part(value, true) {
            return Err(format!(
                "the value of {text:?} is none that a selector can match: at most 63 letters, digits, '-', '_', '.'"
            ));
        }
        if labels.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(format!("{key:?} is given twice"));
        }
    }
    labels.entry("app".to_owned()).or_insert_with(|| service.to_owned());
    bounded("labels", labels.len()).map(|()| labels)
}

fn label_key(key: &str) -> Result<(), String> {
    let (prefix, name) = key.rsplit_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let good = name.len() <= 63 && label_part(name, false) && prefix.is_none_or(is_host);
    if good { Ok(()) } else { Err(format!("{key:?} is no label key, such as version or example.com/version")) }
}

/// Letters, digits, `-`, `_` and `.`, with a letter or digit at both ends.
fn label_part(text: &str, may_be_empty: bool) -> bool {
    let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (text.is_empty() && may_be_empty)
        || (text.chars().all(good) && end(text.chars().next()) && end(text.chars().last()))
}

fn ports(given: &[String]) -> Result<Vec<PortSpec>, String> {
    let mut names = BTreeSet::new();
    let mut ports = Vec::new();
    for text in given {
        let (name, target) = text
            .split_once('=')
            .ok_or_else(|| format!("{text:?} is no NAME=HOST:PORT, such as http=127.0.0.1:8080"))?;
        let name = dns_label(name)?;
        let HostPort { host, port } = host_port(target)?;
        if !names.insert(name.clone()) {
            return Err(format!("{name:?} is given twice"));
        }
        ports.push(PortSpec { name, host, port });
    }
    bounded("ports", ports.len()).map(|()| ports)
}

fn upstreams(given: &[String]) -> Result<Vec<UpstreamSpec>, String> {
    let mut asked = BTreeSet::new();
    let mut upstreams = Vec::new();
    for text in given {
        let (target, at) = text
            .split_once('=')
            .ok_or_else(|| format!("{text:?} is no HOST:PORT=LISTEN, such as web:80=127.0.0.1:8080"))?;
        let HostPort { host, port } = host_port(target)?;
        let spec = UpstreamSpec { host: host.to_ascii_lowercase(), port, listen: loopback(at)? };
        if !asked.insert(spec.asked()) {
            return Err(format!("{:?} is given twice", spec.asked()));
        }
        upstreams.push(spec);
    }
    Ok(upstreams)
}

fn bounded(what: &str, n: usize) -> Result<(), String> {
    if n <= MOST { Ok(()) } else { Err(format!("{n} {what} are too many, at most {MOST} can be registered")) }
}

/// A duration as the Gateway API writes it (GEP-2257): numbers with the units h, m, s and ms, such as `1m30s`.
///
/// # Errors
/// A text that is none; the reason is for people.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration, such as 500ms, 10s or 1m30s");
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: u64 = rest[..digits].parse().ok().filter(|_| digits <= 5).ok_or_else(wrong)?;
        let tail = &rest[digits..];
        let unit = tail.len() - tail.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        total += match &tail[..unit] {
            "h" => Duration::from_secs(number * 3600),
            "m" => Duration::from_secs(number * 60),
            "s" => Duration::from_secs(number),
            "ms" => Duration::from_millis(number),
            _ => return Err(wrong()),
        };
        rest = &tail[unit..];
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}
