//! Routes, as the control plane describes them.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::HttpMatch;
use super::resilience::{Resilience, RetrySaid};

/// Which kind of object a route comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteKind {
    /// HTTPRoute.
    Http,
    /// GRPCRoute: matches gRPC requests only.
    Grpc,
}

#[derive(Debug, Clone)]
pub struct HttpRoute {
    /// The resource's name, `HTTPRoute/default/web`.
    pub label: String,
    pub kind: RouteKind,
    pub rules: Vec<RawRule>,
}

#[derive(Debug, Clone)]
pub struct RawRule {
    pub name: String,
    pub matches: Vec<HttpMatch>,
    pub backends: Vec<RawBackend>,
    pub request_timeout: Option<Duration>,
    pub backend_request_timeout: Option<Duration>,
    pub retry: Option<RetrySaid>,
    pub resilience: Resilience,
    pub request_headers: Vec<HeaderModifier>,
    pub response_headers: Vec<HeaderModifier>,
}

#[derive(Debug, Clone)]
pub struct RawBackend {
    pub service: String,
    pub port: u16,
    pub weight: u32,
    pub invalid_reason: String,
    pub request_headers: Vec<HeaderModifier>,
    pub response_headers: Vec<HeaderModifier>,
}

#[derive(Debug, Clone)]
pub struct TcpRoute {
    pub backends: Vec<RawBackend>,
}

/// RequestHeaderModifier or ResponseHeaderModifier: set, then add, then remove.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderModifier {
    /// Replaces all values.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Adds a value.
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// Removes all values.
    pub remove: Vec<HeaderName>,
}

impl HeaderModifier {
    /// Applies the three lists in their order.
    pub fn apply(&self, headers: &mut http::HeaderMap) {
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
        for name in &self.remove {
            headers.remove(name);
        }
    }
}
