//! The domain of the sidecar, pure data: what is known of services, routes and endpoints, and how a request is matched.
//! [`convert`] is the one place that reads the wire.

mod authorization;
mod backend_tls;
mod balancing;
mod convert;
mod demand;
mod endpoint;
pub mod fields;
mod filter;
mod gateway;
mod hash;
mod health;
mod hostname;
mod jwt;
mod matching;
mod nearness;
mod observe;
mod resilience;
mod resources;
mod revoked;
mod route;
mod service;
mod session;
mod snapshot;
#[cfg(test)]
pub mod testing;

pub use authorization::{
    Among, AuthorizationAction, AuthorizationPolicy, AuthorizationRule, CallerMatch, ClaimCondition, HeaderCondition,
    Pattern, RequestMatch,
};
pub use backend_tls::BackendTls;
pub use balancing::{BalancePolicy, Balancing, HashKey};
pub use convert::{InvalidResource, host, posture};
pub use demand::Demand;
pub use endpoint::{Endpoint, Locality, Peer};
pub use filter::{Cors, Filters, Listed, Mirror, Origin, PathModifier, Redirect, RequestFilter, Rewrite};
pub use gateway::{Family, Gateway, GatewayPort, Listener, ListenerProtocol, ListenerTls};
pub use hash::{hash, hash_all, hash_ip, mix};
pub use health::{HealthCheck, ProbeKind};
pub use hostname::{HostMap, Hostname};
pub use jwt::{JwtProvider, TokenPlace};
pub use matching::{HttpMatch, MethodMatch, PathMatch, ValueMatch};
pub use nearness::Network;
pub use observe::{LogMode, Observe, Share};
pub use resilience::{
    Abort, AdaptiveConcurrency, CircuitBreaker, Conditions, Fault, InboundPolicy, RateLimit, Resilience, Retry,
    RetrySaid, lets_plaintext_in,
};
pub use resources::{Assembled, Resources};
pub use revoked::{PeerKey, Revoked, is_foreign};
pub use route::{HeaderModifier, RouteKind};
pub use service::{AppProtocol, Policy};
pub use session::SessionPersistence;
pub use snapshot::{
    AnyPort, Backend, Candidate, Cluster, Destination, DestinationPort, Host, HttpRule, Place, Posture, Snapshot,
    Target, is_virtual,
};
