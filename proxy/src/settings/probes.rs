//! `--probes`: the checks of an app that kubelet would make itself if the app took plaintext from outside the mesh.
//!
//! The text is JSON, written by `leno inject`: `{"web/liveness":{"httpGet":{"path":"/healthz","port":8080},
//! "timeoutSeconds":1}}`. The fields are those of a Kubernetes probe, with every port a number.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use serde::Deserialize;

/// Most bytes of the text.
const MOST_BYTES: usize = 64 << 10;
/// Most probes: three of each container, of more containers than a pod ever has.
const MOST_PROBES: usize = 192;
/// Most header fields that a probe sends.
const MOST_HEADERS: usize = 64;
/// The longest that one check may take.
const LONGEST: Duration = Duration::from_secs(3600);

/// Every probe of a pod, by `CONTAINER/KIND`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probes(pub BTreeMap<String, Probe>);

/// One check of the app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What is done.
    pub action: Action,
    /// How long it may take, everything included.
    pub timeout: Duration,
}

/// What a check does. `host` is None for the workload's own address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// GET must be answered with a status from 200 to 399.
    Http(HttpGet),
    /// The port must take a connection.
    Tcp {
        /// Name or address.
        host: Option<String>,
        /// The port.
        port: u16,
    },
    /// The gRPC health protocol must say SERVING.
    Grpc {
        /// The port.
        port: u16,
        /// The service that is asked about; empty for the server as a whole.
        service: String,
    },
}

/// A check by HTTP/1.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpGet {
    /// Name or address.
    pub host: Option<String>,
    /// The port.
    pub port: u16,
    /// Path and query, in the form that a request line takes.
    pub path: String,
    /// Over TLS. The certificate is not looked at, as kubelet does not.
    pub https: bool,
    /// Sent besides those that every check sends; `host` among them replaces the authority.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Written {
    #[serde(default = "one")]
    timeout_seconds: u64,
    http_get: Option<WrittenHttp>,
    tcp_socket: Option<WrittenTcp>,
    grpc: Option<WrittenGrpc>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct WrittenHttp {
    host: Option<String>,
    port: u16,
    #[serde(default)]
    path: String,
    scheme: Option<String>,
    #[serde(default)]
    http_headers: Vec<WrittenHeader>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenHeader {
    name: String,
    #[serde(default)]
    value: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenTcp {
    host: Option<String>,
    port: u16,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenGrpc {
    port: u16,
    #[serde(default)]
    service: Option<String>,
}

/// Kubernetes' own default.
fn one() -> u64 {
    1
}

impl Probes {
    /// Reads the text.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MOST_BYTES {
            return Err(format!("{} bytes are too many, at most {MOST_BYTES}", text.len()));
        }
        let written: BTreeMap<String, Written> = serde_json::from_str(text)
            .map_err(|why| format!("{why}; write {{\"CONTAINER/liveness\":{{\"tcpSocket\":{{\"port\":8080}}}}}}"))?;
        if written.len() > MOST_PROBES {
            return Err(format!("{} probes are too many, at most {MOST_PROBES}", written.len()));
        }
        let read = |(name, written): (String, Written)| {
            check_name(&name)?;
            let probe = probe(written).map_err(|why| format!("{name}: {why}"))?;
            Ok((name, probe))
        };
        written.into_iter().map(read).collect::<Result<_, _>>().map(Self)
    }
}

/// It is a part of the path under which kubelet asks.
fn check_name(name: &str) -> Result<(), String> {
    let (container, kind) = name.split_once('/').unwrap_or((name, ""));
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if !container.is_empty() && container.bytes().all(good) && ["liveness", "readiness", "startup"].contains(&kind) {
        return Ok(());
    }
    Err(format!("{name:?} is no CONTAINER/liveness, CONTAINER/readiness or CONTAINER/startup"))
}

fn probe(written: Written) -> Result<Probe, String> {
    let timeout = Duration::from_secs(written.timeout_seconds);
    if timeout.is_zero() || timeout > LONGEST {
        return Err(format!("timeoutSeconds {} is not between 1 and {}", written.timeout_seconds, LONGEST.as_secs()));
    }
    let action = match (written.http_get, written.tcp_socket, written.grpc) {
        (Some(get), None, None) => Action::Http(http_get(get)?),
        (None, Some(tcp), None) => Action::Tcp { host: host(tcp.host)?, port: port(tcp.port)? },
        (None, None, Some(grpc)) => Action::Grpc { port: port(grpc.port)?, service: grpc.service.unwrap_or_default() },
        _ => return Err("exactly one of httpGet, tcpSocket and grpc is needed".to_owned()),
    };
    Ok(Probe { action, timeout })
}

fn http_get(written: WrittenHttp) -> Result<HttpGet, String> {
    let https = match written.scheme.as_deref() {
        None | Some("HTTP" | "http" | "") => false,
        Some("HTTPS" | "https") => true,
        Some(other) => return Err(format!("the scheme {other:?} is neither HTTP nor HTTPS")),
    };
    if written.http_headers.len() > MOST_HEADERS {
        return Err(format!("{} headers are too many, at most {MOST_HEADERS}", written.http_headers.len()));
    }
    let header = |WrittenHeader { name, value }| {
        let bad = || format!("the header {name:?} cannot be sent");
        let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
        Ok((parsed, HeaderValue::from_bytes(value.as_bytes()).map_err(|_| bad())?))
    };
    Ok(HttpGet {
        host: host(written.host)?,
        port: port(written.port)?,
        path: path(&written.path)?,
        https,
        headers: written.http_headers.into_iter().map(header).collect::<Result<_, String>>()?,
    })
}

fn host(written: Option<String>) -> Result<Option<String>, String> {
    let Some(host) = written.filter(|host| !host.is_empty()) else { return Ok(None) };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if bare.parse::<std::net::IpAddr>().is_ok() || super::parse::is_host(bare) {
        return Ok(Some(bare.to_owned()));
    }
    Err(format!("{host:?} is no name and no address"))
}

fn port(port: u16) -> Result<u16, String> {
    if port == 0 { Err("port 0 is none to connect to".to_owned()) } else { Ok(port) }
}

/// As it goes into a request line: what kubelet would escape is escaped, and a fragment is not sent.
fn path(written: &str) -> Result<String, String> {
    use std::fmt::Write as _;
    let written = written.split('#').next().unwrap_or_default();
    let mut path = String::with_capacity(written.len() + 1);
    if !written.starts_with('/') {
        path.push('/');
    }
    for byte in written.bytes() {
        if byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte) {
            path.push(char::from(byte));
        } else {
            let _ = write!(path, "%{byte:02X}");
        }
    }
    match path.parse::<http::uri::PathAndQuery>() {
        Ok(_) => Ok(path),
        Err(why) => Err(format!("the path {written:?} cannot be asked for: {why}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_probe_is_read_with_the_defaults_of_kubernetes() {
        let text = r#"{"web/liveness":{"httpGet":{"port":8080}},
            "web/readiness":{"httpGet":{"path":"a b?x=1#y","port":1,"host":"[::1]","scheme":"HTTPS",
                "httpHeaders":[{"name":"X-A","value":"b"}]},"timeoutSeconds":5},
            "db/startup":{"tcpSocket":{"port":5432}},"api/liveness":{"grpc":{"port":9000,"service":null}}}"#;
        let Probes(probes) = Probes::parse(text).unwrap();
        let Action::Http(get) = &probes["web/liveness"].action else { panic!() };
        assert_eq!((get.path.as_str(), get.port, get.https, &get.host), ("/", 8080, false, &None));
        assert_eq!(probes["web/liveness"].timeout, Duration::from_secs(1));
        let Action::Http(get) = &probes["web/readiness"].action else { panic!() };
        assert_eq!((get.path.as_str(), get.https, get.host.as_deref()), ("/a%20b?x=1", true, Some("::1")));
        assert_eq!(get.headers[0].0, "x-a");
        assert_eq!(probes["db/startup"].action, Action::Tcp { host: None, port: 5432 });
        assert_eq!(probes["api/liveness"].action, Action::Grpc { port: 9000, service: String::new() });
        assert_eq!(Probes::parse("{}"), Ok(Probes::default()));
    }

    #[test]
    fn a_probe_that_could_not_be_made_is_refused_by_name() {
        for (bad, word) in [
            ("", "EOF"),
            ("[]", "invalid type"),
            (r#"{"web":{"tcpSocket":{"port":1}}}"#, "CONTAINER/liveness"),
            (r#"{"../liveness":{"tcpSocket":{"port":1}}}"#, "CONTAINER/liveness"),
            (r#"{"web/liveness":{}}"#, "exactly one"),
            (r#"{"web/liveness":{"tcpSocket":{"port":1},"grpc":{"port":1}}}"#, "exactly one"),
            (r#"{"web/liveness":{"tcpSocket":{"port":0}}}"#, "port 0"),
            (r#"{"web/liveness":{"tcpSocket":{"port":70000}}}"#, "70000"),
            (r#"{"web/liveness":{"tcpSocket":{"port":1,"host":"a b"}}}"#, "no name"),
            (r#"{"web/liveness":{"tcpSocket":{"port":1},"timeoutSeconds":0}}"#, "timeoutSeconds"),
            (r#"{"web/liveness":{"httpGet":{"port":1,"scheme":"FTP"}}}"#, "FTP"),
            (r#"{"web/liveness":{"httpGet":{"port":1,"httpHeaders":[{"name":"a b"}]}}}"#, "cannot be sent"),
            (r#"{"web/liveness":{"exec":{"command":[]}}}"#, "unknown field"),
        ] {
            let why = Probes::parse(bad).unwrap_err();
            assert!(why.contains(word), "{bad}: {why}");
        }
    }

    #[test]
    fn more_probes_than_the_bound_are_refused() {
        let text = |n: usize| {
            let all: Vec<String> = (0..n).map(|i| format!(r#""c{i}/liveness":{{"tcpSocket":{{"port":1}}}}"#)).collect();
            format!("{{{}}}", all.join(","))
        };
        assert_eq!(Probes::parse(&text(MOST_PROBES)).unwrap().0.len(), MOST_PROBES);
        assert!(Probes::parse(&text(MOST_PROBES + 1)).unwrap_err().contains("too many"));
        assert!(Probes::parse(&format!("{{{}}}", " ".repeat(MOST_BYTES))).unwrap_err().contains("too many"));
    }
}
