//! Where a request goes: from the authority to the destination, from the destination's routes to a rule, from the rule's
//! weights to a cluster. Worker-local; rebuilt lazily when the snapshot changes.

mod captured;
mod edge;
mod split;

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, header, request};
use tokio::time::Instant;

use super::authority::{self, ServiceAddress};
use crate::detect::Learned;
use crate::error::Reason;
use crate::model::{
    self, AppProtocol, Backend, Candidate, Cluster, Demand, Destination, Filters, HostMap, Hostname, HttpRule, Place,
    Policy, Posture, Snapshot, Target,
};
use crate::resilience::budget::RetryBudget;
use crate::state::Reader;
use crate::state::demand::{Demands, LastUsed};
use crate::telemetry::levels::{self, Level};
use crate::telemetry::{MirrorMetrics, ServiceMetrics};
use crate::upstream::{Clusters, LocalCluster};

pub use captured::{Captured, Destined};
pub use edge::{EdgeAddress, EdgeListener, EdgePort, Shown};
pub use split::{MirrorTarget, Split};

use split::LocalTarget;

/// How long a first request waits for the control plane to say where its destination is.
const RESOLVE: Duration = Duration::from_secs(5);
/// Authorities that are remembered; apps that use more make the memory start anew.
const MOST_REMEMBERED: usize = 1024;

/// Ports of destinations of which something is kept although nobody uses them now.
const MOST_KEPT: usize = 4096;
/// The port of a request that names none.
const HTTP: u16 = 80;

/// A worker's routing.
#[derive(Debug)]
pub struct Router {
    namespace: String,
    reader: Reader,
    demands: Demands,
    clusters: Rc<Clusters>,
    workers: u32,
    /// The version of the snapshot that all of the below was made from.
    version: Cell<u64>,
    snapshot: RefCell<Arc<Snapshot>>,
    by_authority: RefCell<HashMap<String, Rc<LocalPort>>>,
    by_address: RefCell<HashMap<ServiceAddress, Rc<LocalPort>>>,
    captured: RefCell<HashMap<SocketAddr, Captured>>,
    /// Ports of the Gateway, where one is served.
    edge: RefCell<HashMap<u16, Rc<EdgePort>>>,
    /// Outlives a snapshot, so that a change of configuration grants no fresh budget and forgets nothing.
    kept: RefCell<HashMap<(Demand, u16), Kept>>,
}

/// What is kept of a destination's port for as long as the destination is used.
#[derive(Debug, Clone)]
struct Kept {
    budget: Rc<RetryBudget>,
    left: Rc<Level>,
    learned: Rc<Learned>,
}

/// One port of a destination, for one worker.
#[derive(Debug)]
pub struct LocalPort {
    /// Its number.
    pub number: u16,
    /// What the app speaks, unless a route leads elsewhere.
    pub protocol: AppProtocol,
    /// The budget of all requests to it. None at a Gateway, which is no Service: each request goes by that of the Service it
    /// is for.
    budget: Option<Rc<RetryBudget>>,
    /// What its connections have shown, where nobody said what the app speaks.
    pub learned: Rc<Learned>,
    routed: bool,
    /// Whether any match asks for the Host.
    matches_host: bool,
    candidates: Vec<(Candidate, Rc<Split>)>,
    /// Where a Gateway's request goes that none of the above matches: the routes of a less specific hostname.
    less_specific: Option<Rc<LocalPort>>,
    /// Where requests go without a route.
    own: Rc<Split>,
    /// Where opaque connections go.
    pub tcp: Rc<Split>,
    /// Where connections go by the server that their TLS names; set where TLSRoutes say that.
    pub tls: Option<Box<HostMap<Rc<Split>>>>,
    used: Option<Arc<LastUsed>>,
}

impl Router {
    /// Routes for a sidecar of `namespace`, one of `workers` that share its traffic.
    pub fn new(
        namespace: String,
        reader: Reader,
        demands: Demands,
        clusters: Rc<Clusters>,
        workers: usize,
    ) -> Rc<Self> {
        Rc::new(Self {
            namespace,
            reader,
            demands,
            clusters,
            workers: u32::try_from(workers.max(1)).unwrap_or(u32::MAX),
            // No snapshot has this version, so the first request looks.
            version: Cell::new(u64::MAX),
            snapshot: RefCell::default(),
            by_authority: RefCell::default(),
            by_address: RefCell::default(),
            captured: RefCell::default(),
            edge: RefCell::default(),
            kept: RefCell::default(),
        })
    }

    /// The destination that an authority means.
    ///
    /// # Errors
    /// It is no name of the mesh, there is no such service, or the control plane does not say in time.
    pub async fn by_authority(&self, authority: &str) -> Result<Rc<LocalPort>, Reason> {
        self.refresh();
        if let Some(known) = self.by_authority.borrow().get(authority) {
            self.touch(known);
            return Ok(known.clone());
        }
        let address = authority::parse(authority, &self.namespace).ok_or(Reason::UnknownService)?;
        let port = Box::pin(self.by_address(&address)).await?;
        remember(&self.by_authority, authority.to_owned(), port.clone());
        Ok(port)
    }

    /// The destination that a local port was opened for.
    ///
    /// # Errors
    /// As [`Self::by_authority`].
    pub async fn by_address(&self, address: &ServiceAddress) -> Result<Rc<LocalPort>, Reason> {
        let deadline = Instant::now() + RESOLVE;
        loop {
            self.refresh();
            if let Some(known) = self.by_address.borrow().get(address) {
                self.touch(known);
                return Ok(known.clone());
            }
            // Asked for even when it is known, so that it is kept as long as it is used.
            let used = self.demands.want(&address.demand);
            if let Some(found) = self.look_up(address, used.clone()) {
                if let Some(used) = used {
                    used.answered(found.is_ok());
                }
                let found = found?;
                remember(&self.by_address, address.clone(), found.clone());
                return Ok(found);
            }
            self.news(used.is_some(), deadline).await?;
        }
    }

    /// Waits for another snapshot, when there is a use in it.
    async fn news(&self, asked: bool, deadline: Instant) -> Result<(), Reason> {
        if !asked {
            return Err(Reason::NotResolved);
        }
        let changed = self.reader.changed(self.version.get());
        tokio::time::timeout_at(deadline, changed).await.map_err(|_| Reason::NotResolved)
    }

    /// What the control plane wants of this sidecar's namespace.
    pub fn posture(&self) -> Arc<Posture> {
        self.refresh();
        self.snapshot.borrow().posture.clone()
    }

    fn touch(&self, port: &LocalPort) {
        if let Some(used) = &port.used {
            used.touch(self.demands.clock());
        }
    }

    /// Forgets everything that was made from an older snapshot.
    fn refresh(&self) {
        let version = self.reader.version();
        if version == self.version.get() {
            return;
        }
        self.version.set(version);
        *self.snapshot.borrow_mut() = self.reader.current();
        self.by_authority.borrow_mut().clear();
        self.by_address.borrow_mut().clear();
        self.captured.borrow_mut().clear();
        self.edge.borrow_mut().clear();
    }

    /// None: the snapshot does not know.
    fn look_up(&self, address: &ServiceAddress, used: Option<Arc<LastUsed>>) -> Option<Result<Rc<LocalPort>, Reason>> {
        let snapshot = self.snapshot.borrow();
        match &address.demand {
            // No app can ask for it.
            Demand::Gateway(_) => Some(Err(Reason::UnknownService)),
            Demand::Service(name) => {
                let destination = snapshot.services.get(name)?;
                let found = destination.as_ref().and_then(|d| self.service_port(d, address, used));
                Some(found.ok_or(Reason::UnknownService))
            }
            Demand::Address(address_text) => {
                let place = match (snapshot.addresses.get(address_text)?, address.port) {
                    (Some(Place::Endpoint(cluster)), _) => Some(cluster.clone()),
                    (Some(Place::Host(host)), Some(port)) => {
                        let at = address_text.parse().ok().map(|ip| SocketAddr::new(ip, port));
                        at.and_then(|at| model::host(host, at)).map(Arc::new)
                    }
                    _ => None,
                };
                let found = place.map(|cluster| self.single(&cluster, address, used));
                Some(found.ok_or(Reason::UnknownService))
            }
        }
    }

    fn service_port(
        &self,
        destination: &Destination,
        address: &ServiceAddress,
        used: Option<Arc<LastUsed>>,
    ) -> Option<Rc<LocalPort>> {
        let port = match (destination.port(address.port), &destination.any_port) {
            (Some(port), _) => Cow::Borrowed(port),
            (None, Some(any)) => Cow::Owned(any.port(address.port.unwrap_or(HTTP))),
            (None, None) => return None,
        };
        let sticky = Some(&port.own.policy).filter(|policy| policy.balancing.sticky_splits).cloned();
        let mut rules: HashMap<*const HttpRule, Rc<Split>> = HashMap::new();
        let mut candidates = Vec::with_capacity(port.candidates.len());
        for candidate in &port.candidates {
            let split = rules.entry(Arc::as_ptr(&candidate.rule)).or_insert_with(|| {
                Rc::new(self.split(Some(candidate.rule.clone()), &candidate.rule.backends, &sticky))
            });
            candidates.push((candidate.clone(), split.clone()));
        }
        // What a TCPRoute says holds for requests, too.
        let own = port.tcp.as_ref().map_or_else(|| self.own(&port.own), |to| Rc::new(self.split(None, to, &sticky)));
        let Kept { budget, learned, .. } = self.kept(&address.demand, port.number, &port.own.policy);
        Some(Rc::new(LocalPort {
            number: port.number,
            protocol: port.protocol,
            budget: Some(budget),
            learned,
            // Whoever says where TLS goes says that nothing else does.
            routed: port.routed || !port.tls.is_empty(),
            matches_host: candidates.iter().any(|(candidate, _)| candidate.matches.asks_for_host()),
            candidates,
            less_specific: None,
            tls: self.by_server_name(&port.tls, &sticky),
            tcp: own.clone(),
            own,
            used,
        }))
    }

    fn single(&self, cluster: &Arc<Cluster>, address: &ServiceAddress, used: Option<Arc<LastUsed>>) -> Rc<LocalPort> {
        let own = self.own(cluster);
        let Kept { budget, learned, .. } = self.kept(&address.demand, cluster.port, &cluster.policy);
        Rc::new(LocalPort {
            number: cluster.port,
            protocol: cluster.protocol,
            budget: Some(budget),
            learned,
            routed: false,
            matches_host: false,
            candidates: Vec::new(),
            less_specific: None,
            tls: None,
            tcp: own.clone(),
            own,
            used,
        })
    }

    fn by_server_name(
        &self,
        routes: &[(Hostname, Arc<Vec<Backend>>)],
        sticky: &Option<Arc<Policy>>,
    ) -> Option<Box<HostMap<Rc<Split>>>> {
        let mut map = HostMap::default();
        for (hostname, backends) in routes {
            map.insert(hostname, Rc::new(self.split(None, backends, sticky)));
        }
        (!routes.is_empty()).then(|| Box::new(map))
    }

    fn own(&self, cluster: &Arc<Cluster>) -> Rc<Split> {
        let target = LocalTarget::Cluster(self.clusters.local(cluster));
        Rc::new(Split {
            rule: None,
            backends: vec![(1, target)],
            total: 1,
            sticky: None,
            mirrors: Vec::new(),
            answered: Default::default(),
        })
    }

    /// `sticky` is the policy of the Service that the routes are of, where that says so.
    fn split(&self, rule: Option<Arc<HttpRule>>, backends: &[Backend], sticky: &Option<Arc<Policy>>) -> Split {
        let backends: Vec<_> = backends
            .iter()
            .map(|backend| match &backend.target {
                Target::Cluster(cluster) => (backend.weight, LocalTarget::Cluster(self.clusters.local(cluster))),
                Target::Invalid(_) => (backend.weight, LocalTarget::Invalid),
            })
            .collect();
        let total = backends.iter().fold(0_u32, |sum, (weight, _)| sum.saturating_add(*weight));
        let mirrors = rule.iter().flat_map(|rule| self.mirrors(rule)).collect();
        Split { rule, backends, total, sticky: sticky.clone(), mirrors, answered: Default::default() }
    }

    fn mirrors(&self, rule: &HttpRule) -> Vec<MirrorTarget> {
        let filters = std::iter::once(&rule.filters).chain(rule.backends.iter().map(|backend| &backend.filters));
        let target = |shared: &Arc<Cluster>| MirrorTarget {
            shared: shared.clone(),
            cluster: self.clusters.local(shared),
            metrics: Rc::new(MirrorMetrics::new(self.clusters.registry(), &shared.service)),
        };
        filters.flat_map(Filters::mirrors).map(|mirror| target(&mirror.target)).collect()
    }

    fn kept(&self, demand: &Demand, port: u16, policy: &Policy) -> Kept {
        let mut all = self.kept.borrow_mut();
        // A worker has its share of what is granted by the second.
        let per_second = f64::from(policy.retries_per_second) / f64::from(self.workers);
        let made = || Rc::new(RetryBudget::new(policy.retry_percent, per_second, Instant::now()));
        let kept = all.entry((demand.clone(), port)).or_insert_with(|| Kept {
            budget: made(),
            left: Rc::default(),
            learned: Rc::default(),
        });
        if !kept.budget.is(policy.retry_percent, per_second) {
            kept.budget = made();
        }
        kept.clone()
    }

    /// Housekeeping, every few seconds: what is kept of destinations that are no longer used. When an app has tried ports
    /// without end, of those that nobody uses now too.
    pub fn sweep(&self) {
        self.refresh();
        let (registry, now) = (self.clusters.registry(), Instant::now());
        let snapshot = self.snapshot.borrow();
        let mut all = self.kept.borrow_mut();
        let many = all.len() > MOST_KEPT;
        all.retain(|(demand, _), kept| {
            let known = match demand {
                Demand::Gateway(_) => snapshot.gateway.is_some(),
                Demand::Service(name) => snapshot.services.contains_key(name),
                Demand::Address(address) => snapshot.addresses.contains_key(address),
            };
            if let (Demand::Service(service), Some(left)) = (demand, kept.budget.left(now)) {
                levels::budget_left(&kept.left, registry, service, left);
            }
            known && (!many || Rc::strong_count(&kept.budget) > 1)
        });
    }
}

/// Remembers within the bound; what is above makes the memory start anew.
fn remember<K: std::hash::Hash + Eq, V>(memory: &RefCell<HashMap<K, V>>, key: K, value: V) {
    let mut memory = memory.borrow_mut();
    if memory.len() >= MOST_REMEMBERED {
        memory.clear();
    }
    memory.insert(key, value);
}

impl LocalPort {
    /// The rule that a request falls under, whose host stands in its URI alone.
    ///
    /// # Errors
    /// As [`Self::select`].
    pub fn rule(&self, parts: &mut request::Parts, grpc: bool) -> Result<&Rc<Split>, Reason> {
        let host = parts.uri.authority().filter(|_| self.matches_host).map(|host| HeaderValue::from_str(host.as_str()));
        let Some(Ok(host)) = host else {
            return self.select(&parts.method, parts.uri.path(), parts.uri.query(), &parts.headers, grpc);
        };
        parts.headers.insert(header::HOST, host);
        let found = self.select(&parts.method, parts.uri.path(), parts.uri.query(), &parts.headers, grpc);
        parts.headers.remove(header::HOST);
        found
    }

    /// The rule that a request falls under.
    ///
    /// # Errors
    /// There are routes, and none matches (Gateway API: 404).
    pub fn select(
        &self,
        method: &Method,
        path: &str,
        query: Option<&str>,
        headers: &HeaderMap,
        grpc: bool,
    ) -> Result<&Rc<Split>, Reason> {
        if !self.routed {
            return Ok(&self.own);
        }
        let found = self.candidates.iter().find(|(candidate, _)| candidate.takes(method, path, query, headers, grpc));
        match (found, &self.less_specific) {
            (Some((_, split)), _) => Ok(split),
            (None, Some(other)) => other.select(method, path, query, headers, grpc),
            (None, None) => Err(Reason::NoRoute),
        }
    }
}

impl LocalPort {
    /// The budget of what is for this cluster.
    pub fn budget(&self, cluster: &LocalCluster) -> Rc<RetryBudget> {
        self.budget.clone().unwrap_or_else(|| cluster.budget())
    }

    /// Whether routes of HTTP are attached to it.
    pub fn is_routed(&self) -> bool {
        self.routed
    }

    /// What is counted of requests that no backend answers.
    pub fn metrics(&self) -> Option<&Rc<ServiceMetrics>> {
        self.own.backends.iter().find_map(|(_, target)| match target {
            LocalTarget::Cluster(cluster) => Some(&cluster.metrics),
            LocalTarget::Invalid => None,
        })
    }
}
