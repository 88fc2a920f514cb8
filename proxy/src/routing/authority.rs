//! Which destination a request or a local port means: `web`, `web.default`, `web.default.svc.cluster.local`, `web.mesh`, or an
//! endpoint's `IP:PORT`; each with or without a port.

use std::net::{IpAddr, SocketAddr};

use crate::model::Demand;

/// A destination and the port that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServiceAddress {
    /// What has to be known to reach it.
    pub demand: Demand,
    /// None: not said.
    pub port: Option<u16>,
}

/// Longest authority that is looked at: a DNS name and a port.
const MOST_BYTES: usize = 253 + 6;

/// Reads an authority. A bare name is of `namespace`. None: it is no name of the mesh.
pub fn parse(authority: &str, namespace: &str) -> Option<ServiceAddress> {
    if authority.len() > MOST_BYTES || authority.contains('@') {
        return None;
    }
    if let Some((ip, port)) = address(authority) {
        let port = port.unwrap_or(80);
        return Some(ServiceAddress { demand: Demand::Address(SocketAddr::new(ip, port).to_string()), port: None });
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, Some(number(port)?)),
        None => (authority, None),
    };
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let labels: Vec<&str> = host.split('.').collect();
    let (name, namespace) = match labels[..] {
        [name] | [name, "mesh"] => (name, namespace),
        [name, namespace] | [name, namespace, "svc" | "mesh"] | [name, namespace, "svc", "cluster", "local"] => {
            (name, namespace)
        }
        _ => return None,
    };
    (label(name) && label(namespace))
        .then(|| ServiceAddress { demand: Demand::Service(format!("{namespace}/{name}")), port })
}

fn address(authority: &str) -> Option<(IpAddr, Option<u16>)> {
    if let Ok(address) = authority.parse::<SocketAddr>() {
        return Some((address.ip(), Some(address.port())));
    }
    let bare = authority.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(authority);
    bare.parse().ok().map(|ip| (ip, None))
}

/// Digits only: `str::parse` would take a `+` too, and two readers of one request must not differ.
fn number(port: &str) -> Option<u16> {
    port.bytes().all(|b| b.is_ascii_digit()).then(|| port.parse().ok().filter(|p| *p != 0)).flatten()
}

/// A DNS label (RFC 1123).
fn label(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.len() <= 63 && text.bytes().all(fits) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_name_means_the_same_service() {
        for (text, service, port) in [
            ("web", "here/web", None),
            ("web:8080", "here/web", Some(8080)),
            ("WEB.Default", "default/web", None),
            ("web.default.svc", "default/web", None),
            ("web.default.svc.cluster.local:80", "default/web", Some(80)),
            ("web.default.svc.cluster.local.", "default/web", None),
            ("web.mesh", "here/web", None),
            ("web.default.mesh", "default/web", None),
        ] {
            let wanted = ServiceAddress { demand: Demand::Service(service.into()), port };
            assert_eq!(parse(text, "here"), Some(wanted), "{text}");
        }
    }

    #[test]
    fn an_address_is_an_endpoint() {
        for (text, address) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("127.0.0.1", "127.0.0.1:80"),
            ("[::1]:8080", "[::1]:8080"),
            ("[::1]", "[::1]:80"),
        ] {
            let wanted = ServiceAddress { demand: Demand::Address(address.into()), port: None };
            assert_eq!(parse(text, "here"), Some(wanted), "{text}");
        }
    }

    #[test]
    fn what_is_no_name_of_the_mesh_is_none() {
        for bad in [
            "",
            ":80",
            "web:",
            "web:+80",
            "web:0",
            "web:99999",
            "a.b.c.d",
            "example.com.",
            "-web",
            "we_b",
            "user@web",
            "web..default",
        ] {
            if bad == "example.com." {
                // Two labels are a service and its namespace; the control plane says whether there is one.
                assert!(parse(bad, "here").is_some());
                continue;
            }
            assert_eq!(parse(bad, "here"), None, "{bad}");
        }
        assert_eq!(parse(&"a".repeat(300), "here"), None);
    }

    #[test]
    fn whatever_text_comes_it_is_a_name_of_labels_or_none() {
        let parts = [
            "web",
            "-",
            ".",
            ":",
            "80",
            "[",
            "]",
            "::1",
            "@",
            "svc",
            "cluster.local",
            "%",
            "\0",
            "\u{fc}",
            " ",
            "+",
            "127.0.0.1",
        ];
        for _ in 0..100_000 {
            let text: String = (0..fastrand::usize(..8)).map(|_| parts[fastrand::usize(..parts.len())]).collect();
            let Some(address) = parse(&text, "here") else { continue };
            match address.demand {
                Demand::Service(name) => {
                    let (namespace, name) = name.split_once('/').unwrap();
                    assert!(label(namespace) && label(name), "{text:?}");
                }
                Demand::Address(address) => assert!(address.parse::<SocketAddr>().is_ok(), "{text:?}"),
                other => panic!("{text:?}: {other:?}"),
            }
        }
    }
}
