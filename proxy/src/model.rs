//! The domain of the sidecar, pure data: what is known of services, routes and endpoints, and how a request is matched.
//! [`convert`] is the one place that reads the wire.

mod backend_tls;
mod convert;
mod endpoint;
mod filter;
mod gateway;
mod hostname;
mod matching;
mod nearness;
mod resources;
mod route;
mod service;
mod snapshot;

pub use backend_tls::BackendTls;
pub use convert::{InvalidResource, host, posture};
pub use endpoint::{Endpoint, Peer};
pub use filter::{Cors, Filters, Listed, Mirror, Origin, PathModifier, Redirect, RequestFilter, Rewrite};
pub use gateway::{Family, Gateway, GatewayPort, Listener, ListenerProtocol, ListenerTls};
pub use hostname::{HostMap, Hostname};
pub use matching::{HttpMatch, MethodMatch, PathMatch, ValueMatch};
pub use nearness::Network;
pub use resources::{Assembled, Demand, Resources};
pub use route::{HeaderModifier, Retry, RouteKind};
pub use service::{AppProtocol, Policy};
pub use snapshot::{
    AnyPort, Backend, Candidate, Cluster, Destination, DestinationPort, Host, HttpRule, Place, Posture, Snapshot,
    Target, is_virtual,
};
