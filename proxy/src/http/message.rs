//! What is looked at of an HTTP/2 request before anybody acts on it. Its framing cannot be read in two ways; but it will be
//! HTTP/1 on its last hop, and there it could.

use http::{HeaderMap, Method, Request, header};
use hyper::ext::Protocol;

use super::scan::{MOST_FIELDS, is_look_alike};
use super::target::{authority_fits, tunnel_fits};
use crate::error::Reason;

/// What HTTP/2 counts for a field besides its bytes.
const OVERHEAD: usize = 32;

/// Why a request is refused, if it is. `most` is for all of its fields, of which a peer's sidecar may have added some; `tunnels`: CONNECT
/// opens some.
pub(super) fn refused<B>(request: &Request<B>, most: usize, added: usize, tunnels: bool) -> Option<Reason> {
    let headers = request.headers();
    let (size, look_alike) = look(headers);
    if headers.len() > MOST_FIELDS + added || size > most {
        return Some(Reason::HeadTooLarge);
    }
    if look_alike {
        return Some(Reason::MalformedRequest);
    }
    let uri = request.uri();
    // With a protocol it is a request like others (RFC 8441); there is none where that was not offered.
    let tunnel = request.method() == Method::CONNECT && request.extensions().get::<Protocol>().is_none();
    if tunnel && !tunnels {
        return Some(Reason::BadRequest);
    }
    if uri.scheme_str().is_some_and(|scheme| scheme != "http" && scheme != "https") {
        return Some(Reason::BadRequest);
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let authority = match (uri.authority(), hosts.next()) {
        (Some(authority), None) => authority.as_str(),
        (Some(authority), Some(host)) if host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()) => {
            authority.as_str()
        }
        (None, Some(host)) => host.to_str().unwrap_or_default(),
        _ => "",
    };
    let fits = if tunnel { tunnel_fits } else { authority_fits };
    if fits(authority.as_bytes()).is_err() || hosts.next().is_some() {
        return Some(Reason::BadAuthority);
    }
    let one_length = {
        let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
        let first = lengths.next();
        first.is_none_or(|length| !length.is_empty() && length.as_bytes().iter().all(u8::is_ascii_digit))
            && lengths.next().is_none()
    };
    let target = tunnel || uri.path().starts_with('/') || (uri.path() == "*" && request.method() == Method::OPTIONS);
    if !one_length || !target { Some(Reason::MalformedRequest) } else { None }
}

/// The size as HTTP/2 counts it, where duplicates and pieces of cookies are fields of their own; and whether a name is mistaken for that
/// of a length behind a CGI.
fn look(headers: &HeaderMap) -> (usize, bool) {
    headers.iter().fold((0, false), |(size, look_alike), (name, value)| {
        let name = name.as_str().as_bytes();
        let length = name.len() + value.len() + OVERHEAD;
        (size + length, look_alike || (matches!(name.len(), 14 | 17) && is_look_alike(name)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 64 * 1024;

    fn verdict(request: http::request::Builder) -> Option<Reason> {
        refused(&request.body(()).unwrap(), MOST, 0, false)
    }

    #[test]
    fn a_tunnel_names_a_host_and_a_port_and_is_opened_where_there_are_some() {
        let tunnel = |to: &str, tunnels| refused(&Request::connect(to).body(()).unwrap(), MOST, 0, tunnels);
        assert_eq!(tunnel("web:80", true), None);
        assert_eq!(tunnel("web:80", false), Some(Reason::BadRequest));
        assert_eq!(tunnel("web", true), Some(Reason::BadAuthority));
        let mut wish = Request::connect("http://web/chat").body(()).unwrap();
        assert_eq!(refused(&wish, MOST, 0, false), Some(Reason::BadRequest));
        wish.extensions_mut().insert(Protocol::from_static("websocket"));
        assert_eq!(refused(&wish, MOST, 0, false), None);
    }

    #[test]
    fn a_request_that_would_be_ambiguous_in_http_1_is_refused() {
        let get = || Request::get("http://web/");
        assert_eq!(verdict(get()), None);
        assert_eq!(verdict(get().header("host", "WEB")), None);
        assert_eq!(verdict(get().header("host", "other")), Some(Reason::BadAuthority));
        assert_eq!(verdict(get().header("host", "web").header("host", "web")), Some(Reason::BadAuthority));
        assert_eq!(verdict(Request::get("http://a@web/")), Some(Reason::BadAuthority));
        assert_eq!(verdict(Request::get("/")), Some(Reason::BadAuthority));
        assert_eq!(verdict(Request::get("/").header("host", "web")), None);
        for authority in ["web:http", "web:+80", "web:123456"] {
            let request = Request::get(format!("http://{authority}/"));
            assert_eq!(verdict(request), Some(Reason::BadAuthority), "{authority}");
        }
        assert_eq!(verdict(Request::get("ftp://web/")), Some(Reason::BadRequest));
        assert_eq!(verdict(Request::connect("web:80")), Some(Reason::BadRequest));
        assert_eq!(verdict(Request::get("*").header("host", "web")), Some(Reason::MalformedRequest));
        assert_eq!(verdict(Request::options("*").header("host", "web")), None);
        for length in ["+1", "1, 1", "", "1 "] {
            assert_eq!(verdict(get().header("content-length", length)), Some(Reason::MalformedRequest), "{length:?}");
        }
        for name in ["content_length", "Transfer_Encoding"] {
            assert_eq!(verdict(get().header(name, "1")), Some(Reason::MalformedRequest), "{name}");
        }
        let twice = get().header("content-length", "1").header("content-length", "1");
        assert_eq!(verdict(twice), Some(Reason::MalformedRequest));
    }

    #[test]
    fn every_duplicate_counts() {
        let of = |n: usize, length: usize| {
            (0..n).fold(Request::get("http://web/"), |request, _| request.header("cookie", "a".repeat(length)))
        };
        assert_eq!(verdict(of(MOST_FIELDS, 1)), None);
        assert_eq!(verdict(of(MOST_FIELDS + 1, 1)), Some(Reason::HeadTooLarge));
        assert_eq!(verdict(of(50, MOST / 50 - OVERHEAD - 6)), None);
        assert_eq!(verdict(of(50, MOST / 50 - OVERHEAD - 5)), Some(Reason::HeadTooLarge));
    }
}
