//! Requests of clients that are not in the mesh: what they may say of themselves, and what is said about them.

use std::borrow::Cow;
use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, request, uri};

use super::filters::Front;
use crate::routing::EdgeAddress;
use crate::upstream::CASE_HEADER;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// What an app believes of a proxy in front of it; from a stranger it is removed.
static UNTRUSTED: [HeaderName; 7] = [
    http::header::FORWARDED,
    FOR,
    HOST,
    PROTO,
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-client-cert"),
    HeaderName::from_static("x-real-ip"),
];
/// What sidecars say to each other.
const OURS: &str = "leno-";

/// One connection of a client to a Gateway.
#[derive(Debug)]
pub struct Edge {
    /// Where it came in.
    pub address: EdgeAddress,
    client: HeaderValue,
    proto: HeaderValue,
}

impl Edge {
    /// A connection from this address.
    pub fn new(address: EdgeAddress, client: IpAddr) -> Self {
        let proto = HeaderValue::from_static(if address.tls.is_some() { "https" } else { "http" });
        let client = HeaderValue::from_str(&client.to_canonical().to_string());
        Self { address, client: client.unwrap_or(HeaderValue::from_static("unknown")), proto }
    }

    /// Where its requests came in.
    pub(super) fn front(&self) -> Front {
        let scheme = if self.address.tls.is_some() { uri::Scheme::HTTPS } else { uri::Scheme::HTTP };
        Front { scheme, port: self.address.port }
    }

    /// Says to the app who asks, and takes away what only a proxy in front of us may say.
    pub(super) fn forwarded(&self, parts: &mut request::Parts, authority: &uri::Authority) {
        let headers = &mut parts.headers;
        UNTRUSTED.iter().for_each(|name| _ = headers.remove(name));
        headers.insert(FOR, self.client.clone());
        headers.insert(PROTO, self.proto.clone());
        if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
            headers.insert(HOST, host);
        }
    }
}

/// The server has put the case of the client's names there itself.
fn ours(name: &HeaderName) -> bool {
    name.as_str().starts_with(OURS) && name != CASE_HEADER
}

/// Takes away what only sidecars say to each other.
pub(super) fn distrust(headers: &mut HeaderMap) {
    if headers.keys().any(ours) {
        let ours: Vec<HeaderName> = headers.keys().filter(|name| ours(name)).cloned().collect();
        ours.iter().for_each(|name| _ = headers.remove(name));
    }
}

/// The host of an authority as hostnames are compared: in lower case, without a port and without the root's dot.
pub(super) fn host(authority: &uri::Authority) -> Cow<'_, str> {
    let host = authority.host();
    let host = host.strip_suffix('.').unwrap_or(host);
    match host.bytes().any(|b| b.is_ascii_uppercase()) {
        true => Cow::Owned(host.to_ascii_lowercase()),
        false => Cow::Borrowed(host),
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn what_a_stranger_says_of_himself_is_replaced_by_what_is_known() {
        let mut parts = Request::get("http://Shop.example.com:81/").body(()).unwrap().into_parts().0;
        for name in ["x-forwarded-for", "forwarded", "x-real-ip", "leno-reason", "leno-anything", "x-forwarded-port"] {
            parts.headers.append(name, "1.2.3.4".parse().unwrap());
            parts.headers.append(name, "5.6.7.8".parse().unwrap());
        }
        parts.headers.insert("x-own", "1".parse().unwrap());
        let edge = Edge::new(EdgeAddress { port: 80, tls: None }, "::ffff:10.0.0.9".parse().unwrap());
        let authority = parts.uri.authority().cloned().unwrap();
        distrust(&mut parts.headers);
        edge.forwarded(&mut parts, &authority);
        let mut left: Vec<_> = parts.headers.iter().map(|(n, v)| format!("{n}={}", v.to_str().unwrap())).collect();
        left.sort();
        assert_eq!(
            left,
            ["x-forwarded-for=10.0.0.9", "x-forwarded-host=Shop.example.com:81", "x-forwarded-proto=http", "x-own=1"]
        );
    }

    #[test]
    fn a_host_is_compared_without_case_port_and_dot() {
        for (text, expected) in [("a.B.", "a.b"), ("a:80", "a"), ("[::1]:80", "[::1]"), ("a", "a")] {
            assert_eq!(host(&text.parse().unwrap()), expected);
        }
    }
}
