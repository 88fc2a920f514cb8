//! Header fields that belong to one connection and are not passed on (RFC 9110, 7.6.1).

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::model::fields;

const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// Removes what describes only the connection the message came on. `trailers` as a value of TE is an end-to-end promise of
/// gRPC and stays.
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // Most messages have none of them, and one look at each field costs less than a look-up of each name.
    if !headers.keys().any(is_hop_by_hop) {
        return;
    }
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            // A sender must not be able to strip what the next reader relies on. TE is looked at below.
            .filter(|name| !matches!(*name, header::HOST | header::CONTENT_LENGTH | header::AUTHORIZATION | header::TE))
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(header::CONNECTION);
    }
    headers.remove(PROXY_CONNECTION);
    headers.remove(KEEP_ALIVE);
    headers.remove(header::TRANSFER_ENCODING);
    headers.remove(header::UPGRADE);
    if headers.get(header::TE).is_some_and(|te| te != "trailers") {
        let trailers =
            |te: &HeaderValue| te.to_str().is_ok_and(|te| te.split(',').any(|word| word.trim() == "trailers"));
        if headers.get_all(header::TE).iter().any(trailers) {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        } else {
            headers.remove(header::TE);
        }
    }
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(*name, header::CONNECTION | header::TRANSFER_ENCODING | header::UPGRADE | header::TE)
        || *name == PROXY_CONNECTION
        || *name == KEEP_ALIVE
}

/// Whether a request is gRPC.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    fields::find(headers, &header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_belongs_to_the_connection_is_removed() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, x-hop, Host, TE"),
            ("x-hop", "1"),
            ("keep-alive", "5"),
            ("te", "deflate, trailers"),
            ("transfer-encoding", "chunked"),
            ("host", "web"),
            ("x-end", "1"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        strip_hop_by_hop(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["host", "te", "x-end"]);
        assert_eq!(headers["te"], "trailers");
    }
}
