//! What the workers read: destinations with everything joined that a request needs, built before it is published and
//! immutable afterwards.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};
use leno_proto::v1;

use super::{
    AppProtocol, AuthorizationPolicy, BackendTls, Endpoint, Filters, Gateway, HealthCheck, Hostname, HttpMatch,
    InboundPolicy, Policy, Resilience, Retry, RouteKind, SessionPersistence, convert,
};

/// One state of everything that was asked for.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// By NAMESPACE/NAME. None: the control plane says that there is no such service.
    pub services: HashMap<String, Option<Arc<Destination>>>,
    /// By IP:PORT or IP. None: not an address of the mesh.
    pub addresses: HashMap<String, Option<Place>>,
    /// What the control plane wants of this sidecar's namespace.
    pub posture: Arc<Posture>,
    /// The Gateway that this sidecar serves. The outer None: not known yet; the inner: there is none of its name.
    pub gateway: Option<Option<Arc<Gateway>>>,
}

/// How captured traffic to and from what is outside the mesh is treated. The default holds until the control plane has
/// spoken: nobody outside gets in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Posture {
    /// Plaintext from outside the mesh is passed to the app.
    pub permissive: bool,
    /// Only what is in the mesh is reached.
    pub registry_only: bool,
    /// The namespaces that there are.
    pub namespaces: BTreeSet<String>,
    /// How the namespace's apps are checked; each names the workloads that it is meant for.
    pub health_checks: Vec<HealthCheck>,
    /// What the sidecars of the namespace's services enforce, by NAMESPACE/NAME.
    pub inbound: BTreeMap<String, Arc<InboundPolicy>>,
    /// Who may call the namespace's apps. None: not known yet, so nobody is let in.
    pub authorization: Option<Arc<[AuthorizationPolicy]>>,
}

/// Whether an address is of the blocks that services' virtual addresses are taken from, 240.240.0.0/16 and
/// fd6c:656e:6f00::/48. Nothing is there but what the mesh says.
pub fn is_virtual(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.octets()[..2] == [240, 240],
        IpAddr::V6(ip) => ip.segments()[..3] == [0xfd6c, 0x656e, 0x6f00],
    }
}

/// What is at an address of the mesh.
#[derive(Debug, Clone)]
pub enum Place {
    /// One port of a workload.
    Endpoint(Arc<Cluster>),
    /// A workload, whatever the port.
    Host(Arc<Host>),
    /// A service, by NAMESPACE/NAME; the port is the service's.
    Virtual(String),
    /// Several workloads, told apart by IP:PORT.
    Shared,
}

/// A workload that is spoken to by its address.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    /// NAMESPACE/NAME of a service that it serves, or nothing.
    pub service: String,
    /// The workload as an endpoint, by the number of the app's port. It is dialled at the address that was asked for.
    pub endpoint: v1::Endpoint,
}

/// A service with its routes and endpoints.
#[derive(Debug)]
pub struct Destination {
    /// NAMESPACE/NAME.
    pub name: String,
    /// In the order in which the Service lists them.
    pub ports: Vec<DestinationPort>,
    /// What holds for every other port, when it is reached on all.
    pub any_port: Option<AnyPort>,
    /// What its name resolves to inside an intercepted namespace.
    pub addresses: Vec<IpAddr>,
}

/// The ports of a service that do not stand in its list.
#[derive(Debug)]
pub struct AnyPort {
    /// Its routes and endpoints; its number and its own cluster's mean nothing.
    template: DestinationPort,
    endpoints: Arc<v1::Endpoints>,
    tls: Option<Arc<BackendTls>>,
}

impl AnyPort {
    pub(super) fn new(template: DestinationPort, endpoints: Arc<v1::Endpoints>, tls: Option<Arc<BackendTls>>) -> Self {
        Self { template, endpoints, tls }
    }

    /// The port of this number.
    pub fn port(&self, number: u16) -> DestinationPort {
        let own = Cluster {
            port: number,
            endpoints: convert::endpoints(&self.endpoints, number, self.tls.as_ref()),
            pinned: None,
            service: self.template.own.service.clone(),
            policy: self.template.own.policy.clone(),
            ..*self.template.own
        };
        DestinationPort {
            number,
            protocol: self.template.protocol,
            candidates: self.template.candidates.clone(),
            routed: self.template.routed,
            tls: self.template.tls.clone(),
            tcp: self.template.tcp.clone(),
            own: Arc::new(own),
        }
    }
}

impl Destination {
    /// The port of this number; without a number port 80, else the only one.
    pub fn port(&self, number: Option<u16>) -> Option<&DestinationPort> {
        let wanted = number.unwrap_or(80);
        self.ports.iter().find(|p| p.number == wanted).or(match (&self.ports[..], number) {
            ([only], None) => Some(only),
            _ => None,
        })
    }
}

/// One port of a service.
#[derive(Debug, Clone)]
pub struct DestinationPort {
    /// The Service port's number.
    pub number: u16,
    /// What the app speaks.
    pub protocol: AppProtocol,
    /// Matches of all attached routes in the order in which they are tried. Empty with `routed`: nothing matches.
    pub candidates: Vec<Candidate>,
    /// Whether any HTTPRoute or GRPCRoute is attached. If so a request that none matches is not found.
    pub routed: bool,
    /// Where TLSRoutes send connections, by the hostname that they say.
    pub tls: Vec<(Hostname, Arc<Vec<Backend>>)>,
    /// Where a TCPRoute sends connections, if one is attached.
    pub tcp: Option<Arc<Vec<Backend>>>,
    /// The service's own endpoints, where no route is attached.
    pub own: Arc<Cluster>,
}

/// One match of a rule.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// GRPCRoutes only match gRPC.
    pub kind: RouteKind,
    /// The match.
    pub matches: HttpMatch,
    /// Shared by all matches of the rule.
    pub rule: Arc<HttpRule>,
}

impl Candidate {
    /// Whether it takes a request. `grpc` says whether that is one of gRPC.
    pub fn takes(&self, method: &Method, path: &str, query: Option<&str>, headers: &HeaderMap, grpc: bool) -> bool {
        (grpc || self.kind == RouteKind::Http) && self.matches.holds(method, path, query, headers)
    }
}

/// What happens to a request that a rule matched.
#[derive(Debug)]
pub struct HttpRule {
    /// The route's resource name, `HTTPRoute/default/web`.
    pub route: String,
    /// Name of the rule, may be empty.
    pub name: String,
    /// Weighted.
    pub backends: Vec<Backend>,
    /// Of the whole request with all its attempts.
    pub request_timeout: Option<Duration>,
    /// Of one attempt.
    pub backend_request_timeout: Option<Duration>,
    /// None: the default.
    pub retry: Option<Retry>,
    /// A client stays with the endpoint that it first got.
    pub session: Option<Arc<SessionPersistence>>,
    /// What else policies say of the requests.
    pub resilience: Resilience,
    /// Applied to every request of the rule, and to its answer.
    pub filters: Filters,
}

/// One of a rule's backends.
#[derive(Debug, Clone)]
pub struct Backend {
    /// Share of the traffic, relative to the sum.
    pub weight: u32,
    /// Where it leads.
    pub target: Target,
    /// Applied to the request after the rule's, and to the answer before them.
    pub filters: Filters,
}

impl Backend {
    /// The policy of its Service.
    pub fn policy(&self) -> Option<&Arc<Policy>> {
        match &self.target {
            Target::Cluster(cluster) => Some(&cluster.policy),
            Target::Invalid(_) => None,
        }
    }
}

/// What a reference to a backend leads to.
#[derive(Debug, Clone)]
pub enum Target {
    /// A service's endpoints.
    Cluster(Arc<Cluster>),
    /// The reference is not valid: its share of the requests is answered 500. The reason is one of the Gateway API.
    Invalid(String),
}

/// The endpoints of one service port.
#[derive(Debug, PartialEq)]
pub struct Cluster {
    /// NAMESPACE/NAME of the service.
    pub service: String,
    /// The Service port's number.
    pub port: u16,
    /// Set when it is one endpoint that is spoken to by its address, and not all of the service's.
    pub pinned: Option<SocketAddr>,
    /// What the app speaks.
    pub protocol: AppProtocol,
    /// How its endpoints are treated.
    pub policy: Arc<Policy>,
    /// All endpoints, healthy or not.
    pub endpoints: Vec<Arc<Endpoint>>,
}
