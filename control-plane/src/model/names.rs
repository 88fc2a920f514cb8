//! Names of objects.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Namespace and name of an object. Sorted by namespace, then name, as the Gateway API breaks ties.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Name {
    pub namespace: String,
    pub name: String,
}

impl Name {
    /// A name from its two parts.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The kinds of object that a user may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Namespace,
    Service,
    Workload,
    HttpRoute,
    GrpcRoute,
    TcpRoute,
    ReferenceGrant,
    TrafficPolicy,
    GatewayClass,
    Gateway,
    ListenerSet,
    TlsRoute,
    BackendTlsPolicy,
    Secret,
    ConfigMap,
    EndpointSlice,
    Endpoints,
    AuthorizationPolicy,
    JwtProvider,
    FederatedTrustDomain,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 20] = [
        Self::Namespace,
        Self::Service,
        Self::Workload,
        Self::HttpRoute,
        Self::GrpcRoute,
        Self::TcpRoute,
        Self::ReferenceGrant,
        Self::TrafficPolicy,
        Self::GatewayClass,
        Self::Gateway,
        Self::ListenerSet,
        Self::TlsRoute,
        Self::BackendTlsPolicy,
        Self::Secret,
        Self::ConfigMap,
        Self::EndpointSlice,
        Self::Endpoints,
        Self::AuthorizationPolicy,
        Self::JwtProvider,
        Self::FederatedTrustDomain,
    ];

    /// The kind as the user writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::Service => "Service",
            Self::Workload => "Workload",
            Self::HttpRoute => "HTTPRoute",
            Self::GrpcRoute => "GRPCRoute",
            Self::TcpRoute => "TCPRoute",
            Self::ReferenceGrant => "ReferenceGrant",
            Self::TrafficPolicy => "TrafficPolicy",
            Self::GatewayClass => "GatewayClass",
            Self::Gateway => "Gateway",
            Self::ListenerSet => "ListenerSet",
            Self::TlsRoute => "TLSRoute",
            Self::BackendTlsPolicy => "BackendTLSPolicy",
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
            Self::EndpointSlice => "EndpointSlice",
            Self::Endpoints => "Endpoints",
            Self::AuthorizationPolicy => "AuthorizationPolicy",
            Self::JwtProvider => "JwtProvider",
            Self::FederatedTrustDomain => "FederatedTrustDomain",
        }
    }

    /// The kind that is written exactly so.
    pub fn from_exact(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// Whether its objects live in a namespace.
    pub fn namespaced(self) -> bool {
        !matches!(self, Self::Namespace | Self::GatewayClass | Self::FederatedTrustDomain)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What identifies one object in the store.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    pub kind: Kind,
    /// The namespace is empty for a kind that has none (Namespace).
    pub name: Name,
}

impl ObjectKey {
    /// The key of an object; the namespace of a kind that has none is dropped.
    pub fn new(kind: Kind, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        let namespace = if kind.namespaced() { namespace.into() } else { String::new() };
        Self { kind, name: Name::new(namespace, name) }
    }
}

/// `HTTPRoute default/web`, `Namespace web`.
impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind.namespaced() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}", self.kind, self.name.name)
        }
    }
}
