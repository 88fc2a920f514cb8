//! The clusters of one worker. A cluster keeps its endpoints' connections and history when the control plane changes it.

mod fared;
#[cfg(test)]
mod tests;
mod tiers;

use std::cell::{Cell, Ref, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use leno_runtime::metrics::Registry;
use tokio::time::Instant;

use self::tiers::Tiers;
use super::LocalEndpoint;
use crate::balance;
use crate::model::{Cluster, Endpoint, Locality, Peer, Policy, hash_all};
use crate::resilience::breaker::Breaker;
use crate::resilience::budget::RetryBudget;
use crate::telemetry::levels::{self, Level};
use crate::telemetry::{Direction, ServiceMetrics};

/// What ties a request to an endpoint.
#[derive(Debug, Default)]
pub struct Choice {
    /// Its hash, where the policy picks by one.
    pub key: Option<u64>,
    /// The endpoint that its session is with: taken as long as it is well.
    pub pin: Option<Rc<LocalEndpoint>>,
}

/// One service port's endpoints, for one worker.
#[derive(Debug)]
pub struct LocalCluster {
    /// Service and port, told by a hash: the same in every sidecar.
    pub id: u64,
    shared: RefCell<Arc<Cluster>>,
    endpoints: RefCell<Vec<Rc<LocalEndpoint>>>,
    tiers: RefCell<Tiers>,
    /// Where this sidecar stands.
    own: Rc<Locality>,
    /// Endpoints that are ejected, or were when last looked at.
    ejected: Cell<usize>,
    /// Some endpoint is to be looked at more closely than whether it is healthy.
    marks: Cell<bool>,
    /// Nothing but the default policy is to be followed: the balancer takes its short way.
    plain: Cell<bool>,
    /// Attempts are measured.
    measures: Cell<bool>,
    /// Endpoints are picked by a request's hash.
    hashes: Cell<bool>,
    /// When rates were compared last.
    judged: Cell<Instant>,
    /// What is open at it.
    pub breaker: Breaker,
    /// Of requests that come to it by no Service's port; made for the first of them.
    budget: RefCell<Option<Rc<RetryBudget>>>,
    budget_left: Level,
    workers: u32,
    /// What is counted for the service.
    pub metrics: Rc<ServiceMetrics>,
}

/// What makes an endpoint the same one, whatever else is said of it.
type Place = (String, SocketAddr, Peer);

fn place(endpoint: &Endpoint) -> Place {
    (endpoint.workload.clone(), endpoint.address, endpoint.peer.clone())
}

impl LocalCluster {
    fn new(shared: Arc<Cluster>, own: Rc<Locality>, metrics: Rc<ServiceMetrics>, workers: u32) -> Rc<Self> {
        let endpoints: Vec<_> = shared.endpoints.iter().map(|e| LocalEndpoint::new(e.clone())).collect();
        let made = Self {
            id: hash_all([shared.service.as_bytes(), &shared.port.to_be_bytes()]),
            tiers: RefCell::new(Tiers::new(&shared, &own, &endpoints, &Tiers::default())),
            shared: RefCell::new(shared),
            endpoints: RefCell::new(endpoints),
            own,
            ejected: Cell::new(0),
            marks: Cell::new(false),
            plain: Cell::new(false),
            measures: Cell::new(false),
            hashes: Cell::new(false),
            judged: Cell::new(Instant::now()),
            breaker: Breaker::new(workers, metrics.clone()),
            budget: RefCell::default(),
            budget_left: Level::default(),
            workers,
            metrics,
        };
        made.look(&made.endpoints.borrow());
        Rc::new(made)
    }

    /// What the control plane says of it.
    pub fn shared(&self) -> Ref<'_, Arc<Cluster>> {
        self.shared.borrow()
    }

    /// Takes a newer version up; an endpoint that stays where it was keeps its connections and history.
    fn update(&self, newer: &Arc<Cluster>) {
        if Arc::ptr_eq(&self.shared.borrow(), newer) {
            return;
        }
        let older = self.shared.replace(newer.clone());
        if older.endpoints == newer.endpoints && older.policy == newer.policy {
            return;
        }
        // A change of anything else grants no fresh budget.
        let (percent, per_second) = (newer.policy.retry_percent, self.per_second(&newer.policy));
        drop(self.budget.borrow_mut().take_if(|budget| !budget.is(percent, per_second)));
        let mut known: HashMap<Place, Rc<LocalEndpoint>> =
            self.endpoints.take().into_iter().map(|local| (place(&local.endpoint), local)).collect();
        let (now, slow_start) = (Instant::now(), newer.policy.balancing.slow_start);
        let endpoints = newer.endpoints.iter().map(|said| {
            let kept = known.remove(&place(said));
            // One that comes into a service which is there already, or comes back, is given time to warm up.
            let fresh = kept.as_ref().is_none_or(|kept| !kept.is_healthy()) && said.healthy;
            let local = kept.unwrap_or_else(|| LocalEndpoint::new(said.clone()));
            local.set_healthy(said.healthy);
            if fresh && !slow_start.is_zero() {
                local.start_slowly(now);
            }
            local
        });
        let endpoints: Vec<_> = endpoints.collect();
        let gone = known.values().filter(|e| e.outlier.holds_ejection()).count();
        let tiers = Tiers::new(newer, &self.own, &endpoints, &self.tiers.borrow());
        *self.tiers.borrow_mut() = tiers;
        self.release(gone);
        self.look(&endpoints);
        self.endpoints.replace(endpoints);
    }

    fn release(&self, ejections: usize) {
        self.ejected.set(self.ejected.get() - ejections.min(self.ejected.get()));
        self.metrics.ejected.add(-(ejections as f64));
    }

    /// Notes whether the short way may be taken.
    fn look(&self, endpoints: &[Rc<LocalEndpoint>]) {
        let policy = self.policy();
        let (balancing, now) = (&policy.balancing, Instant::now());
        let ill = || balancing.panic_percent != 0 && endpoints.iter().any(|e| !e.is_healthy());
        let starting = || endpoints.iter().filter(|e| e.is_starting(now, balancing.slow_start)).count() != 0;
        let marks = self.ejected.get() != 0 || ill() || starting();
        self.marks.set(marks);
        self.plain.set(!marks && self.tiers.borrow().are_plain());
        self.measures.set(balancing.measures());
        self.hashes.set(balancing.hashes());
    }

    /// Picks an endpoint, not one of `tried` while there is another. When all healthy ones are ejected or tried, any healthy
    /// one is taken: trying is better than failing for certain.
    pub fn pick(&self, choice: &Choice, tried: &[Rc<LocalEndpoint>]) -> Option<Rc<LocalEndpoint>> {
        if self.plain.get() && tried.is_empty() && choice.pin.is_none() {
            let endpoints = self.endpoints.borrow();
            return balance::pick(&endpoints, |n| fastrand::usize(..n)).map(|i| endpoints[i].clone());
        }
        self.pick_with_care(choice, tried)
    }

    fn pick_with_care(&self, choice: &Choice, tried: &[Rc<LocalEndpoint>]) -> Option<Rc<LocalEndpoint>> {
        let (now, policy) = (Instant::now(), self.policy());
        if let Some(pin) = choice.pin.as_ref().filter(|pin| tried.is_empty() && pin.is_usable(now)) {
            return Some(pin.clone());
        }
        let endpoints = self.endpoints.borrow();
        if self.marks.get() {
            self.settle(&endpoints, now);
        }
        if !self.marks.get() && tried.is_empty() {
            return self.among(&endpoints, &policy, choice.key, false);
        }
        let window = policy.balancing.slow_start;
        let panic = self.panics(&endpoints, now, policy.balancing.panic_percent);
        let thins = !window.is_zero() && !policy.balancing.hashes();
        // Not ejected, not tried, and by its share; then without each of these in turn.
        let rounds = [(true, true, true), (true, true, false), (false, true, false), (false, false, false)];
        let picked = rounds.into_iter().filter(|(_, _, thin)| thins || !thin).find_map(|(well, fresh, thin)| {
            for e in endpoints.iter() {
                let out = !panic && (!e.is_healthy() || well && e.outlier.is_ejected(now))
                    || fresh && tried.iter().any(|tried| Rc::ptr_eq(tried, e))
                    || thin && fastrand::f64() >= e.share(now, window);
                e.mark(!out);
            }
            self.among(&endpoints, &policy, choice.key, true)
        });
        endpoints.iter().for_each(|e| e.unmark());
        picked
    }

    fn among(
        &self,
        endpoints: &[Rc<LocalEndpoint>],
        policy: &Policy,
        key: Option<u64>,
        marked: bool,
    ) -> Option<Rc<LocalEndpoint>> {
        let tiers = self.tiers.borrow();
        if tiers.are_plain() {
            return balance::pick(endpoints, |n| fastrand::usize(..n)).map(|i| endpoints[i].clone());
        }
        tiers.pick(&policy.balancing, key, marked)
    }

    /// So few are well that they would be overrun: all are used, since some of those that seem ill may answer.
    fn panics(&self, endpoints: &[Rc<LocalEndpoint>], now: Instant, percent: u32) -> bool {
        percent != 0 && endpoints.iter().filter(|e| e.is_usable(now)).count() * 100 < endpoints.len() * percent as usize
    }

    /// Ends ejections and slow starts whose time is over.
    fn settle(&self, endpoints: &[Rc<LocalEndpoint>], now: Instant) {
        let slow_start = self.policy().balancing.slow_start;
        let mut over = 0;
        for endpoint in endpoints.iter().filter(|e| e.outlier.expire(now)) {
            over += 1;
            if !slow_start.is_zero() {
                endpoint.start_slowly(now);
            }
        }
        if over != 0 {
            self.release(over);
        }
        self.look(endpoints);
    }

    /// A worker has its share of what is granted by the second.
    fn per_second(&self, policy: &Policy) -> f64 {
        f64::from(policy.retries_per_second) / f64::from(self.workers.max(1))
    }

    /// The budget of its own, by its Service's policy.
    pub fn budget(&self) -> Rc<RetryBudget> {
        let made = || {
            let policy = self.policy();
            Rc::new(RetryBudget::new(policy.retry_percent, self.per_second(&policy), Instant::now()))
        };
        self.budget.borrow_mut().get_or_insert_with(made).clone()
    }

    /// Whether endpoints are picked by a request's hash.
    pub fn hashes(&self) -> bool {
        self.hashes.get()
    }

    /// The endpoint of this identity.
    pub fn endpoint(&self, id: u64) -> Option<Rc<LocalEndpoint>> {
        self.endpoints.borrow().iter().find(|endpoint| endpoint.id == id).cloned()
    }

    /// How its endpoints are treated.
    pub fn policy(&self) -> Arc<Policy> {
        self.shared.borrow().policy.clone()
    }
}

/// Service, port, and the endpoint's address when it is but one.
type Key = (String, u16, Option<SocketAddr>);

/// All clusters of one worker.
#[derive(Debug)]
pub struct Clusters {
    registry: Registry,
    own: Rc<Locality>,
    workers: u32,
    by_key: RefCell<HashMap<Key, Rc<LocalCluster>>>,
}

impl Clusters {
    /// None yet, for a sidecar that stands here.
    pub fn new(registry: Registry, own: Locality) -> Self {
        Self { registry, own: Rc::new(own), workers: 1, by_key: RefCell::default() }
    }

    /// One of so many workers, which share what may be open at a service.
    pub fn of_workers(mut self, workers: usize) -> Self {
        self.workers = u32::try_from(workers).unwrap_or(u32::MAX);
        self
    }

    /// Where metrics are registered.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The worker's own cluster behind a shared one, brought up to date.
    pub fn local(&self, shared: &Arc<Cluster>) -> Rc<LocalCluster> {
        let mut by_key = self.by_key.borrow_mut();
        let key = (shared.service.clone(), shared.port, shared.pinned);
        if let Some(known) = by_key.get(&key) {
            known.update(shared);
            return known.clone();
        }
        let metrics = Rc::new(ServiceMetrics::new(&self.registry, Direction::Outbound, &shared.service));
        let made = LocalCluster::new(shared.clone(), self.own.clone(), metrics, self.workers);
        by_key.insert(key, made.clone());
        made
    }

    /// Housekeeping, every few seconds: lets go of clusters that no destination uses any more, ends ejections, closes idle
    /// connections.
    pub fn sweep(&self) {
        let now = Instant::now();
        self.by_key.borrow_mut().retain(|_, cluster| {
            let endpoints = cluster.endpoints.borrow();
            if cluster.marks.get() {
                cluster.settle(&endpoints, now);
            }
            let policy = cluster.policy();
            endpoints.iter().for_each(|e| e.sweep(now, &policy));
            cluster.metrics.show(Some(&cluster.breaker.open(&policy.circuit_breaker)));
            if let Some(left) = cluster.budget.borrow().as_ref().and_then(|budget| budget.left(now)) {
                levels::budget_left(&cluster.budget_left, &self.registry, &cluster.shared().service, left);
            }
            Rc::strong_count(cluster) > 1
        });
    }
}
