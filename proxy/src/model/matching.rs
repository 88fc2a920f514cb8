//! How one match of an HTTPRoute or GRPCRoute reads a request (Gateway API v1, HTTPRouteMatch and GRPCRouteMatch).

use std::borrow::Cow;
use std::cmp::Reverse;

use http::{HeaderMap, HeaderName, Method};
use regex::Regex;

/// All of its parts must hold.
#[derive(Debug, Clone)]
pub struct HttpMatch {
    /// The path.
    pub path: PathMatch,
    /// None: any method.
    pub method: Option<Method>,
    /// Each must hold.
    pub headers: Vec<(HeaderName, ValueMatch)>,
    /// Each must hold.
    pub query: Vec<(String, ValueMatch)>,
}

/// How a path is matched.
#[derive(Debug, Clone)]
pub enum PathMatch {
    /// The whole path, case-sensitive.
    Exact(String),
    /// By path elements, without a trailing slash: `/a` matches `/a`, `/a/` and `/a/b`, but not `/ab`. Empty: everything.
    Prefix(String),
    /// The whole path.
    Regex(Regex),
    /// `/SERVICE/METHOD`.
    Grpc(MethodMatch),
}

/// A gRPC method; a missing part matches anything.
#[derive(Debug, Clone)]
pub struct MethodMatch {
    /// Full name of the service.
    pub service: Option<ValueMatch>,
    /// Name of the method.
    pub method: Option<ValueMatch>,
}

/// How a value is matched.
#[derive(Debug, Clone)]
pub enum ValueMatch {
    /// The same, byte for byte.
    Exact(String),
    /// The whole value.
    Regex(Regex),
}

impl ValueMatch {
    fn holds(&self, value: &str) -> bool {
        match self {
            Self::Exact(wanted) => wanted == value,
            Self::Regex(regex) => regex.is_match(value),
        }
    }

    fn chars(&self) -> usize {
        match self {
            Self::Exact(wanted) => wanted.chars().count(),
            Self::Regex(regex) => regex.as_str().chars().count(),
        }
    }
}

impl HttpMatch {
    /// Whether a request matches.
    pub fn holds(&self, method: &Method, path: &str, query: Option<&str>, headers: &HeaderMap) -> bool {
        self.path.holds(path)
            && self.method.as_ref().is_none_or(|wanted| wanted == method)
            && self.headers.iter().all(|(name, wanted)| header_holds(headers, name, wanted))
            && self.query.iter().all(|(name, wanted)| query_holds(query, name, wanted))
    }

    /// Whether it asks for the host that a request names, which is no header of HTTP/2.
    pub fn asks_for_host(&self) -> bool {
        self.headers.iter().any(|(name, _)| *name == http::header::HOST)
    }

    /// Where a match stands among others: the smaller key is looked at first. Ties go to the older route, see
    /// [`super::snapshot`]. A regular expression stands between exact and prefix, which the specification leaves open.
    pub fn precedence(&self) -> impl Ord + use<> {
        let (rank, service, method) = match &self.path {
            PathMatch::Exact(path) => (0, path.chars().count(), 0),
            PathMatch::Regex(regex) => (1, regex.as_str().chars().count(), 0),
            PathMatch::Prefix(path) => (2, path.chars().count(), 0),
            // GRPCRoute: characters in the service first, then in the method.
            PathMatch::Grpc(grpc) => (
                0,
                grpc.service.as_ref().map_or(0, ValueMatch::chars),
                grpc.method.as_ref().map_or(0, ValueMatch::chars),
            ),
        };
        (
            rank,
            Reverse(service),
            Reverse(method),
            Reverse(self.method.is_some()),
            Reverse(self.headers.len()),
            Reverse(self.query.len()),
        )
    }
}

impl PathMatch {
    /// Whether a path matches.
    pub fn holds(&self, path: &str) -> bool {
        match self {
            Self::Exact(wanted) => wanted == path,
            Self::Prefix(prefix) => {
                path.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            Self::Regex(regex) => regex.is_match(path),
            Self::Grpc(grpc) => {
                let Some((service, method)) = path.strip_prefix('/').and_then(|rest| rest.split_once('/')) else {
                    return false;
                };
                grpc.service.as_ref().is_none_or(|wanted| wanted.holds(service))
                    && grpc.method.as_ref().is_none_or(|wanted| wanted.holds(method))
            }
        }
    }
}

/// A header that was sent several times is one list (RFC 9110, 5.3): the list as a whole must match.
fn header_holds(headers: &HeaderMap, name: &HeaderName, wanted: &ValueMatch) -> bool {
    let mut values = headers.get_all(name).iter();
    let Some(first) = values.next() else { return false };
    // A value that is no text matches nothing, so that it cannot be mistaken for one.
    let Ok(first) = first.to_str() else { return false };
    let Some(second) = values.next() else { return wanted.holds(first) };
    let mut list = first.to_owned();
    for value in std::iter::once(second).chain(values) {
        let Ok(value) = value.to_str() else { return false };
        list.push(',');
        list.push_str(value);
    }
    wanted.holds(&list)
}

/// Of a repeated parameter the first counts.
fn query_holds(query: Option<&str>, name: &str, wanted: &ValueMatch) -> bool {
    query
        .into_iter()
        .flat_map(|query| query.split('&'))
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find(|(key, _)| decoded(key) == name)
        .is_some_and(|(_, value)| wanted.holds(&decoded(value)))
}

/// `application/x-www-form-urlencoded`; a stray `%` stands for itself.
fn decoded(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|b| b == b'%' || b == b'+') {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let hex = |i: usize| bytes.get(i).and_then(|b| char::from(*b).to_digit(16));
        match (byte, hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
                continue;
            }
            (b'+', _, _) => out.push(b' '),
            (other, _, _) => out.push(other),
        }
        at += 1;
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(path: &str) -> PathMatch {
        PathMatch::Prefix(path.to_owned())
    }

    #[test]
    fn a_prefix_is_matched_by_path_elements() {
        for (pattern, path, holds) in [
            ("", "/", true),
            ("", "/anything", true),
            ("/a", "/a", true),
            ("/a", "/a/", true),
            ("/a", "/a/b", true),
            ("/a", "/ab", false),
            ("/a", "/", false),
            ("/a/b", "/a/b/c", true),
            ("/a/b", "/a", false),
            ("/a", "/A", false),
        ] {
            assert_eq!(prefix(pattern).holds(path), holds, "{pattern} {path}");
        }
    }

    #[test]
    fn query_parameters_are_decoded_and_the_first_of_a_name_counts() {
        let is = |value: &str| ValueMatch::Exact(value.to_owned());
        assert!(query_holds(Some("a=1&b=x%20y"), "b", &is("x y")));
        assert!(query_holds(Some("b=x+y"), "b", &is("x y")));
        assert!(!query_holds(Some("b=1&b=2"), "b", &is("2")));
        assert!(query_holds(Some("b"), "b", &is("")));
        assert!(query_holds(Some("b=%"), "b", &is("%")));
        assert!(!query_holds(None, "b", &is("")));
    }

    #[test]
    fn a_repeated_header_is_one_list() {
        let mut headers = HeaderMap::new();
        headers.append("x-a", "1".parse().unwrap());
        let name = HeaderName::from_static("x-a");
        assert!(header_holds(&headers, &name, &ValueMatch::Exact("1".into())));
        headers.append("x-a", "2".parse().unwrap());
        assert!(!header_holds(&headers, &name, &ValueMatch::Exact("1".into())));
        assert!(header_holds(&headers, &name, &ValueMatch::Exact("1,2".into())));
    }

    #[test]
    fn a_grpc_method_is_matched_by_its_parts() {
        let service = MethodMatch { service: Some(ValueMatch::Exact("pkg.S".into())), method: None };
        assert!(PathMatch::Grpc(service.clone()).holds("/pkg.S/Get"));
        assert!(!PathMatch::Grpc(service).holds("/pkg.Stub/Get"));
        let method = MethodMatch { service: None, method: Some(ValueMatch::Exact("Get".into())) };
        assert!(PathMatch::Grpc(method.clone()).holds("/any/Get"));
        assert!(!PathMatch::Grpc(method).holds("Get"));
    }
}
