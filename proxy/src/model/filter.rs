//! What a rule or one of its backends does to requests and answers (Gateway API v1, HTTPRouteFilter and GRPCRouteFilter).

use std::borrow::Cow;
use std::sync::Arc;

use http::uri::{Authority, Scheme};
use http::{HeaderValue, StatusCode, Uri};

use super::{Cluster, HeaderModifier};

/// The filters of a rule or a backend. `T` is what is mirrored to: by name as the control plane says it, then joined.
#[derive(Debug, Clone)]
pub struct Filters<T = Arc<Cluster>> {
    /// What changes or copies the request, in the order in which it was written.
    pub request: Vec<RequestFilter<T>>,
    /// Instead of passing the request on.
    pub redirect: Option<Redirect>,
    /// Who may use the answer.
    pub cors: Option<Cors>,
    /// What changes the answer.
    pub response: Vec<HeaderModifier>,
}

impl<T> Default for Filters<T> {
    fn default() -> Self {
        Self { request: Vec::new(), redirect: None, cors: None, response: Vec::new() }
    }
}

impl<T> Filters<T> {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.request.is_empty() && self.redirect.is_none() && self.cors.is_none() && self.response.is_empty()
    }

    /// What requests are mirrored to.
    pub fn mirrors(&self) -> impl Iterator<Item = &Mirror<T>> {
        self.request.iter().filter_map(|filter| match filter {
            RequestFilter::Mirror(mirror) => Some(mirror),
            _ => None,
        })
    }

    /// The same filters with other targets of mirrors. A mirror without a target is left out.
    pub(super) fn join<U, E>(&self, mut target: impl FnMut(&T) -> Result<Option<U>, E>) -> Result<Filters<U>, E> {
        let mut request = Vec::with_capacity(self.request.len());
        for filter in &self.request {
            request.push(match filter {
                RequestFilter::Headers(modifier) => RequestFilter::Headers(modifier.clone()),
                RequestFilter::Rewrite(rewrite) => RequestFilter::Rewrite(rewrite.clone()),
                RequestFilter::Mirror(Mirror { target: of, numerator, denominator }) => {
                    let Some(target) = target(of)? else { continue };
                    RequestFilter::Mirror(Mirror { target, numerator: *numerator, denominator: *denominator })
                }
            });
        }
        let (redirect, cors) = (self.redirect.clone(), self.cors.clone());
        Ok(Filters { request, redirect, cors, response: self.response.clone() })
    }
}

/// A change to a request on its way to the backend.
#[derive(Debug, Clone)]
pub enum RequestFilter<T> {
    /// RequestHeaderModifier.
    Headers(HeaderModifier),
    /// URLRewrite.
    Rewrite(Rewrite),
    /// RequestMirror.
    Mirror(Mirror<T>),
}

/// A share of the requests is sent to one endpoint of a service too, whose answer nobody gets.
#[derive(Debug, Clone)]
pub struct Mirror<T> {
    /// The service's port.
    pub target: T,
    /// So many …
    pub numerator: u32,
    /// … of so many requests. Never zero.
    pub denominator: u32,
}

/// Host and path that the backend sees. None: as the caller wrote it.
#[derive(Debug, Clone)]
pub struct Rewrite {
    /// The host, without a port.
    pub hostname: Option<Authority>,
    /// The path.
    pub path: Option<PathModifier>,
}

/// RequestRedirect: the answer says where to go instead.
#[derive(Debug, Clone)]
pub struct Redirect {
    /// None: the request's own.
    pub scheme: Option<Scheme>,
    /// None: the one that the request names.
    pub hostname: Option<Authority>,
    /// None: the request's own.
    pub path: Option<PathModifier>,
    /// None: that of the scheme, else the one that the request came to.
    pub port: Option<u16>,
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
}

/// Another path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathModifier {
    /// Whatever it was.
    Full(String),
    /// Instead of the prefix that the rule matched. Neither has a slash at its end.
    Prefix {
        /// What was matched.
        matched: String,
        /// What stands there now.
        replacement: String,
    },
}

impl PathModifier {
    /// The new path. What is behind the prefix stays byte for byte as it came.
    pub fn apply<'a>(&'a self, path: &'a str) -> Cow<'a, str> {
        match self {
            Self::Full(full) => Cow::Borrowed(full),
            Self::Prefix { matched, replacement } => match path.strip_prefix(matched.as_str()) {
                Some("") if replacement.is_empty() => Cow::Borrowed("/"),
                Some(rest) if replacement.is_empty() => Cow::Borrowed(rest),
                Some(rest) => Cow::Owned(format!("{replacement}{rest}")),
                None => Cow::Borrowed(path),
            },
        }
    }
}

/// CORS: which pages may use the answers.
#[derive(Debug, Clone)]
pub struct Cors {
    /// Any of these.
    pub origins: Vec<Origin>,
    /// Whether they may send cookies and the like.
    pub credentials: bool,
    /// Methods, where any are named.
    pub methods: Option<Listed>,
    /// Headers of requests, where any are named.
    pub headers: Option<Listed>,
    /// Headers of answers, where any are named.
    pub exposed: Option<HeaderValue>,
    /// How long a browser may remember what it was told, in seconds.
    pub max_age: HeaderValue,
}

/// The value of a header that lists what is allowed.
#[derive(Debug, Clone)]
pub enum Listed {
    /// `*`
    Any,
    /// Exactly these.
    These(HeaderValue),
}

/// A pattern of origins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Every one.
    Any,
    /// Of one scheme and port.
    Of {
        /// Whether it is https.
        secure: bool,
        /// In lower case. What begins with a dot is the end of a host, nothing is any host.
        host: String,
        /// The port.
        port: u16,
    },
}

impl Origin {
    /// Reads `SCHEME://HOST[:PORT]`, whose host may be `*` or begin with `*.`.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        let (scheme, rest) = text.split_once("://")?;
        let secure = scheme == "https";
        if !secure && scheme != "http" {
            return None;
        }
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0)?),
            None => (rest, default_port(secure)),
        };
        let host = host.strip_prefix('*').unwrap_or(host).to_ascii_lowercase();
        Some(Self::Of { secure, host, port })
    }

    /// Whether the origin that a request names is one of these.
    pub fn holds(&self, origin: &HeaderValue) -> bool {
        let Self::Of { secure, host, port } = self else { return true };
        let Ok(uri) = Uri::try_from(origin.as_bytes()) else { return false };
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return false };
        // An origin is no more than that.
        if authority.as_str().contains('@') || !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return false;
        }
        let named = authority.host().to_ascii_lowercase();
        let fits = if host.is_empty() || host.starts_with('.') {
            named.len() > host.len() && named.ends_with(host.as_str())
        } else {
            named == *host
        };
        fits && scheme == if *secure { "https" } else { "http" }
            && authority.port_u16().unwrap_or(default_port(*secure)) == *port
    }
}

fn default_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_replaced_as_the_table_of_the_specification_says() {
        for (path, matched, replacement, modified) in [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/", "/foo", "", "/"),
            ("/foo", "/foo", "", "/"),
            ("/a", "", "/xyz", "/xyz/a"),
            ("/foo/b%2Fc//d", "/foo", "/xyz", "/xyz/b%2Fc//d"),
        ] {
            let modifier = PathModifier::Prefix { matched: matched.into(), replacement: replacement.into() };
            assert_eq!(modifier.apply(path), modified, "{path} {matched} {replacement}");
        }
        assert_eq!(PathModifier::Full("/all".into()).apply("/foo/bar"), "/all");
    }

    #[test]
    fn an_origin_is_held_by_scheme_host_and_port() {
        for (pattern, origin, holds) in [
            ("*", "null", true),
            ("https://www.foo.com", "https://www.foo.com", true),
            ("https://www.foo.com", "https://www.foo.com:443", true),
            ("https://www.foo.com", "http://www.foo.com", false),
            ("https://www.foo.com", "https://www.foo.com:8443", false),
            ("https://www.foo.com", "https://www.foo.com.evil.org", false),
            ("https://www.foo.com", "https://www.foo.com/x", false),
            ("https://www.foo.com", "https://evil@www.foo.com", false),
            ("http://foo.com:8080", "http://foo.com:8080", true),
            ("https://*.bar.com", "https://www.bar.com", true),
            ("https://*.bar.com", "https://a.b.bar.com", true),
            ("https://*.bar.com", "https://bar.com", false),
            ("https://*.bar.com", "https://foobar.com", false),
            ("https://*", "https://any.org", true),
            ("https://*", "http://any.org", false),
            ("https://*", "null", false),
            ("http://*:12345", "http://any.org:12345", true),
        ] {
            let parsed = Origin::parse(pattern).unwrap();
            assert_eq!(parsed.holds(&HeaderValue::from_static(origin)), holds, "{pattern} {origin}");
        }
        assert_eq!(Origin::parse("ftp://a"), None);
    }
}
