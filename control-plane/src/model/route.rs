//! Routes as the Gateway API means them. Whether a backend exists is decided later, by discovery, since it may come
//! and go.

use super::{Filter, GatewayParent, Kind, Name, SessionPersistence};

/// A Service that a route is attached to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ParentRef {
    pub service: Name,
    /// None: every port of the Service.
    pub port: Option<u16>,
    /// The name of a port. With a number it is the port that has both.
    pub section: Option<String>,
    /// The reference names the Service's namespace, and so does the status.
    pub says_namespace: bool,
}

impl ParentRef {
    /// Whether it stands for a port of its Service.
    pub fn covers(&self, number: u16, name: &str) -> bool {
        self.port.is_none_or(|port| port == number) && self.section.as_ref().is_none_or(|section| section == name)
    }

    /// The port as it was named.
    pub fn port_words(&self) -> String {
        match (self.port, &self.section) {
            (Some(number), Some(name)) => format!("{number} with the name {name:?}"),
            (Some(number), None) => number.to_string(),
            (None, Some(name)) => format!("{name:?}"),
            (None, None) => "at all".to_owned(),
        }
    }
}

/// Of several types of routes on one port of a Service only the first of these holds (GEP-1294).
pub const PRECEDENCE: [Kind; 4] = [Kind::GrpcRoute, Kind::HttpRoute, Kind::TlsRoute, Kind::TcpRoute];

/// An HTTPRoute or, with `grpc`, a GRPCRoute.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpRoute {
    pub name: Name,
    pub grpc: bool,
    /// Seconds since 1970; an older route wins a tie.
    pub created: i64,
    pub parents: Vec<ParentRef>,
    /// Gateways and ListenerSets, beside the Services.
    pub gateways: Vec<GatewayParent>,
    pub hostnames: Vec<String>,
    pub rules: Vec<HttpRule>,
}

/// What happens to the requests that a match takes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HttpRule {
    pub name: String,
    /// Never empty: a rule without matches has the specified default, the path prefix `/`.
    pub matches: Vec<HttpMatch>,
    pub filters: Vec<Filter>,
    pub backends: Vec<Backend>,
    /// Milliseconds. Some(0): the user disabled it.
    pub request_timeout_ms: Option<u64>,
    pub backend_request_timeout_ms: Option<u64>,
    pub retry: Option<Retry>,
    pub session_persistence: Option<SessionPersistence>,
}

impl HttpRule {
    /// A filter of the rule or of one of its backends that is not known here.
    pub fn unknown_filter(&self) -> Option<&str> {
        let all = self.filters.iter().chain(self.backends.iter().flat_map(|backend| &backend.filters));
        all.into_iter().find_map(Filter::unknown)
    }

    /// Everything that the rule sends to: its backends, and what it and they mirror to.
    pub fn targets(&self) -> impl Iterator<Item = &Backend> {
        let mirrors = self.filters.iter().chain(self.backends.iter().flat_map(|backend| &backend.filters));
        self.backends.iter().chain(mirrors.filter_map(Filter::mirrored))
    }
}

/// Conditions that a request meets all of.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HttpMatch {
    pub path: Option<PathMatch>,
    pub headers: Vec<ValueMatch>,
    pub query: Vec<ValueMatch>,
    /// Empty: any.
    pub method: String,
}

/// A condition on the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathMatch {
    Exact(String),
    Prefix(String),
    Regex(String),
    Grpc(GrpcMethodMatch),
}

/// An empty part matches anything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GrpcMethodMatch {
    pub service: String,
    pub method: String,
    pub regex: bool,
}

/// A condition on a header or a query parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueMatch {
    pub name: String,
    pub value: String,
    pub regex: bool,
}

/// When a request is tried again (GEP-1731).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    pub attempts: u32,
    pub codes: Vec<u16>,
    pub backoff_ms: u64,
}

/// Where a rule sends to. A reference to something that is no Service is kept, since its share is answered 500.
#[derive(Debug, Clone, PartialEq)]
pub struct Backend {
    pub service: Name,
    pub port: u16,
    pub weight: u32,
    /// A reason of the Gateway API that is known without looking at other objects (InvalidKind), or empty.
    pub invalid_reason: String,
    pub filters: Vec<Filter>,
}

/// A TCPRoute: where the connections to its parents go.
#[derive(Debug, Clone, PartialEq)]
pub struct TcpRoute {
    pub name: Name,
    pub created: i64,
    pub parents: Vec<ParentRef>,
    pub gateways: Vec<GatewayParent>,
    pub backends: Vec<Backend>,
}
