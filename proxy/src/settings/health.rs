//! `--health-check`: how the sidecar checks its own app, whatever the mesh asks for.

use super::HostPort;
use super::parse::host_port;

/// Most checks on one command line.
const MOST: usize = 8;

/// A check of the app, written as a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthUrl {
    /// What is done.
    pub scheme: HealthScheme,
    /// Where.
    pub at: HostPort,
    /// Path and query for HTTP, the service's name for gRPC.
    pub path: String,
}

/// What a check does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthScheme {
    /// GET must be answered with a status from 200 to 399.
    Http,
    /// The port must take a connection.
    Tcp,
    /// The gRPC health protocol must say SERVING.
    Grpc,
}

pub(super) fn health_checks(written: &[String]) -> Result<Vec<HealthUrl>, String> {
    if written.len() > MOST {
        return Err(format!("is here {} times, at most {MOST} are taken", written.len()));
    }
    written.iter().map(|text| health_url(text)).collect()
}

fn health_url(text: &str) -> Result<HealthUrl, String> {
    let wrong = || {
        format!(
            "{text:?} is no check, such as http://127.0.0.1:8080/healthz, tcp://127.0.0.1:5432 or grpc://127.0.0.1:9000"
        )
    };
    let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
    let (at, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    let at = host_port(at)?;
    let (scheme, path) = match scheme {
        "http" => (HealthScheme::Http, if path.is_empty() { "/" } else { path }),
        "tcp" if path.trim_matches('/').is_empty() => (HealthScheme::Tcp, ""),
        "grpc" => (HealthScheme::Grpc, path.trim_start_matches('/')),
        _ => return Err(wrong()),
    };
    if scheme == HealthScheme::Http && path.parse::<http::Uri>().is_err() {
        return Err(wrong());
    }
    Ok(HealthUrl { scheme, at, path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_written_as_a_url() {
        let read = |text: &str| health_url(text).map(|url| (url.scheme, url.at.to_string(), url.path));
        let ok = |scheme, at: &str, path: &str| Ok((scheme, at.to_owned(), path.to_owned()));
        assert_eq!(read("http://127.0.0.1:8080/a?b"), ok(HealthScheme::Http, "127.0.0.1:8080", "/a?b"));
        assert_eq!(read("http://[::1]:8080"), ok(HealthScheme::Http, "[::1]:8080", "/"));
        assert_eq!(read("tcp://db:5432"), ok(HealthScheme::Tcp, "db:5432", ""));
        assert_eq!(
            read("grpc://127.0.0.1:9000/shop.v1.Cart"),
            ok(HealthScheme::Grpc, "127.0.0.1:9000", "shop.v1.Cart")
        );
        for bad in ["", "127.0.0.1:80", "https://a:1/", "tcp://a:1/x", "http://a/", "http://a:0/", "http://a:1/ b"] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
        assert!(health_checks(&vec!["tcp://a:1".to_owned(); MOST]).is_ok());
        assert!(health_checks(&vec!["tcp://a:1".to_owned(); MOST + 1]).is_err());
    }
}
