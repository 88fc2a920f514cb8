//! The clusters of one worker. A cluster keeps its endpoints' connections and history when the control plane changes it.

use std::cell::{Cell, Ref, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use leno_runtime::metrics::Registry;
use tokio::time::Instant;

use super::LocalEndpoint;
use crate::balance;
use crate::model::{Cluster, Policy};
use crate::telemetry::{Direction, ServiceMetrics};

/// One service port's endpoints, for one worker.
#[derive(Debug)]
pub struct LocalCluster {
    shared: RefCell<Arc<Cluster>>,
    endpoints: RefCell<Vec<Rc<LocalEndpoint>>>,
    /// Endpoints that are ejected or excluded, or were when last looked at; zero lets the balancer take its short way.
    ejected: Cell<usize>,
    /// What is counted for the service.
    pub metrics: Rc<ServiceMetrics>,
}

impl LocalCluster {
    fn new(shared: Arc<Cluster>, metrics: Rc<ServiceMetrics>) -> Rc<Self> {
        let endpoints = shared.endpoints.iter().map(|e| LocalEndpoint::new(e.clone())).collect();
        Rc::new(Self {
            shared: RefCell::new(shared),
            endpoints: RefCell::new(endpoints),
            ejected: Cell::new(0),
            metrics,
        })
    }

    /// What the control plane says of it.
    pub fn shared(&self) -> Ref<'_, Arc<Cluster>> {
        self.shared.borrow()
    }

    /// Takes a newer version up; an endpoint that stays what it was keeps its connections and history.
    fn update(&self, newer: &Arc<Cluster>) {
        if Arc::ptr_eq(&self.shared.borrow(), newer) {
            return;
        }
        let same = self.shared.borrow().endpoints == newer.endpoints;
        *self.shared.borrow_mut() = newer.clone();
        if same {
            return;
        }
        let mut known: HashMap<_, _> =
            self.endpoints.take().into_iter().map(|local| (local.endpoint.clone(), local)).collect();
        let endpoints =
            newer.endpoints.iter().map(|e| known.remove(e).unwrap_or_else(|| LocalEndpoint::new(e.clone())));
        self.endpoints.replace(endpoints.collect());
        let gone = known.values().filter(|e| e.outlier.holds_ejection()).count();
        self.release(gone);
    }

    fn release(&self, ejections: usize) {
        self.ejected.set(self.ejected.get() - ejections.min(self.ejected.get()));
        self.metrics.ejected.add(-(ejections as f64));
    }

    /// Picks an endpoint, not one of `tried` while there is another. When all healthy ones are ejected or tried, any healthy
    /// one is taken: trying is better than failing for certain.
    pub fn pick(&self, tried: &[Rc<LocalEndpoint>]) -> Option<Rc<LocalEndpoint>> {
        let endpoints = self.endpoints.borrow();
        let random = |n: usize| fastrand::usize(..n);
        if tried.is_empty() && self.ejected.get() == 0 {
            return balance::pick(&endpoints, random).map(|i| endpoints[i].clone());
        }
        self.expire(&endpoints);
        let now = Instant::now();
        // Neither ejected nor tried; else not tried; else any.
        let picked = [(true, true), (false, true), (false, false)].iter().find_map(|(not_ejected, not_tried)| {
            endpoints.iter().for_each(|e| {
                let tried = || tried.iter().any(|t| Rc::ptr_eq(t, e));
                e.exclude(*not_ejected && e.outlier.is_ejected(now) || *not_tried && tried());
            });
            balance::pick(&endpoints, random)
        });
        endpoints.iter().for_each(|e| e.exclude(false));
        picked.map(|i| endpoints[i].clone())
    }

    fn expire(&self, endpoints: &[Rc<LocalEndpoint>]) {
        let now = Instant::now();
        let over = endpoints.iter().filter(|e| e.outlier.expire(now)).count();
        if over != 0 {
            self.release(over);
        }
    }

    /// An attempt on an endpoint ended.
    pub fn record(&self, endpoint: &LocalEndpoint, ok: bool) {
        if ok {
            return endpoint.outlier.succeeded();
        }
        let policy = self.policy();
        if !endpoint.outlier.failed(policy.consecutive_failures) {
            return;
        }
        let most = self.endpoints.borrow().len() * policy.max_ejected_percent as usize / 100;
        if self.ejected.get() >= most {
            return;
        }
        endpoint.outlier.eject(policy.ejection, Instant::now());
        self.ejected.set(self.ejected.get() + 1);
        self.metrics.ejections.inc();
        self.metrics.ejected.add(1.0);
        tracing::warn!(workload = endpoint.endpoint.workload, address = %endpoint.endpoint.address, "endpoint ejected, it kept failing");
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
    by_key: RefCell<HashMap<Key, Rc<LocalCluster>>>,
}

impl Clusters {
    /// None yet.
    pub fn new(registry: Registry) -> Self {
        Self { registry, by_key: RefCell::default() }
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
        let made = LocalCluster::new(shared.clone(), metrics);
        by_key.insert(key, made.clone());
        made
    }

    /// Housekeeping, every few seconds: lets go of clusters that no destination uses any more, ends ejections, closes idle
    /// connections.
    pub fn sweep(&self) {
        let now = Instant::now();
        self.by_key.borrow_mut().retain(|_, cluster| {
            let endpoints = cluster.endpoints.borrow();
            cluster.expire(&endpoints);
            let policy = cluster.policy();
            endpoints.iter().for_each(|e| e.sweep(now, &policy));
            Rc::strong_count(cluster) > 1
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AppProtocol, Endpoint, Peer};

    fn cluster(addresses: &[&str]) -> Arc<Cluster> {
        let endpoint = |a: &&str| {
            let address = a.parse().unwrap();
            Arc::new(Endpoint { workload: (*a).to_owned(), address, peer: Peer::App, healthy: true })
        };
        Arc::new(Cluster {
            service: "default/web".into(),
            port: 80,
            pinned: None,
            protocol: AppProtocol::Http1,
            policy: Arc::default(),
            endpoints: addresses.iter().map(endpoint).collect(),
        })
    }

    #[test]
    fn an_endpoint_that_stays_keeps_its_history() {
        let clusters = Clusters::new(Registry::new());
        let local = clusters.local(&cluster(&["1.1.1.1:1", "1.1.1.2:1"]));
        let kept = local.endpoints.borrow()[1].clone();
        let again = clusters.local(&cluster(&["1.1.1.2:1", "1.1.1.3:1"]));
        assert!(Rc::ptr_eq(&local, &again));
        assert!(Rc::ptr_eq(&kept, &local.endpoints.borrow()[0]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_endpoint_is_ejected_and_comes_back_and_never_all_of_them() {
        let clusters = Clusters::new(Registry::new());
        let local = clusters.local(&cluster(&["1.1.1.1:1", "1.1.1.2:1"]));
        let both = local.endpoints.borrow().clone();
        for endpoint in &both {
            (0..5).for_each(|_| local.record(endpoint, false));
        }
        assert!(both[0].outlier.is_ejected(Instant::now()) && !both[1].outlier.is_ejected(Instant::now()));
        assert!((0..50).all(|_| Rc::ptr_eq(&local.pick(&[]).unwrap(), &both[1])));
        // The other one was tried already: an ejected one is better than none.
        assert!(Rc::ptr_eq(&local.pick(&[both[1].clone()]).unwrap(), &both[0]));
        tokio::time::advance(std::time::Duration::from_secs(11)).await;
        assert!((0..200).any(|_| Rc::ptr_eq(&local.pick(&[]).unwrap(), &both[0])));
        assert_eq!(local.metrics.ejected.get(), 0.0);
    }

    #[test]
    fn an_endpoint_that_was_tried_is_not_tried_again_while_there_is_another() {
        let clusters = Clusters::new(Registry::new());
        let local = clusters.local(&cluster(&["1.1.1.1:1", "1.1.1.2:1", "1.1.1.3:1"]));
        let all = local.endpoints.borrow().clone();
        let tried = [all[0].clone(), all[2].clone()];
        assert!((0..50).all(|_| Rc::ptr_eq(&local.pick(&tried).unwrap(), &all[1])));
        assert!(clusters.local(&cluster(&[])).pick(&[]).is_none());
    }
}
