//! Routes, as the control plane describes them.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::resilience::{Resilience, RetrySaid};
use super::{Filters, Hostname, HttpMatch, SessionPersistence};

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
    /// Met with a Gateway's listener; without meaning for a Service.
    pub hostnames: Vec<Hostname>,
    pub rules: Vec<RawRule>,
}

#[derive(Debug, Clone)]
pub struct RawRule {
    pub name: String,
    pub matches: Vec<HttpMatch>,
    pub backends: Vec<RawBackend>,
    pub request_timeout: Option<Duration>,
    pub backend_request_timeout: Option<Duration>,
    pub session: Option<Arc<SessionPersistence>>,
    pub retry: Option<RetrySaid>,
    pub resilience: Resilience,
    pub filters: Filters<RawBackend>,
}

impl RawRule {
    /// Everything that the rule sends to: its backends, and what it and they mirror to.
    pub fn targets(&self) -> impl Iterator<Item = &RawBackend> {
        let filters = std::iter::once(&self.filters).chain(self.backends.iter().map(|backend| &backend.filters));
        self.backends.iter().chain(filters.flat_map(Filters::mirrors).map(|mirror| &mirror.target))
    }
}

#[derive(Debug, Clone)]
pub struct RawBackend {
    pub service: String,
    pub port: u16,
    pub weight: u32,
    pub invalid_reason: String,
    pub filters: Filters<RawBackend>,
}

#[derive(Debug, Clone)]
pub struct TcpRoute {
    pub backends: Vec<RawBackend>,
}

/// RequestHeaderModifier or ResponseHeaderModifier. No header has two actions, so their order means nothing.
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
    /// Applies the three lists.
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
