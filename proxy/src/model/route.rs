//! Routes, as the control plane describes them.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

use std::sync::Arc;

use super::{HttpMatch, SessionPersistence};

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
    pub retry: Option<Retry>,
    pub session: Option<Arc<SessionPersistence>>,
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

/// When a request is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Further attempts after the first.
    pub attempts: u32,
    /// Statuses that are retried, for idempotent requests.
    pub codes: Vec<u16>,
    /// Before the first retry; doubles.
    pub backoff: Duration,
}

impl Default for Retry {
    /// What holds where a route says nothing: enough to hide one bad instance, and the budget bounds it.
    fn default() -> Self {
        Self { attempts: 2, codes: vec![503], backoff: Duration::from_millis(5) }
    }
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
