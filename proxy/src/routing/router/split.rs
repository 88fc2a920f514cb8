//! A rule's backends, for one worker: which one a request goes to.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use leno_runtime::metrics::{Counter, Histogram, Registry};

use crate::balance::arms;
use crate::error::Reason;
use crate::model::{Cluster, HttpRule, Policy, mix};
use crate::telemetry::{CLASSES, MirrorMetrics, ServiceMetrics, class};
use crate::upstream::LocalCluster;

/// A rule with its weighted backends.
#[derive(Debug)]
pub struct Split {
    /// None: no route, the service's own endpoints.
    pub rule: Option<Arc<HttpRule>>,
    pub(super) backends: Vec<(u32, LocalTarget)>,
    pub(super) total: u32,
    /// Set where a request's hash decides among the backends: by what it is hashed.
    pub sticky: Option<Arc<Policy>>,
    /// What its filters mirror to.
    pub(super) mirrors: Vec<MirrorTarget>,
    /// Requests that it answered, by the class of their status; made with the first of each.
    pub(super) answered: OnceCell<Answered>,
}

/// What is counted of a rule.
#[derive(Debug)]
pub(super) struct Answered {
    by_class: [OnceCell<Counter>; CLASSES.len()],
    first_byte: Histogram,
    retries: Counter,
}

/// A service that requests are mirrored to.
#[derive(Debug)]
pub struct MirrorTarget {
    pub(super) shared: Arc<Cluster>,
    /// Its endpoints.
    pub cluster: Rc<LocalCluster>,
    /// What is counted of the copies.
    pub metrics: Rc<MirrorMetrics>,
}

#[derive(Debug)]
pub(super) enum LocalTarget {
    Cluster(Rc<LocalCluster>),
    Invalid,
}

impl Split {
    /// Counts a request for its rule, as its answer begins. Without one there is nothing to be counted that the service does not count.
    pub fn answered(&self, registry: &Registry, status: u16, took: Duration, retries: u32) {
        let Some(rule) = &self.rule else { return };
        let labels = [("route", rule.route.as_str()), ("rule", rule.name.as_str())];
        let answered = self.answered.get_or_init(|| Answered {
            by_class: Default::default(),
            first_byte: registry.histogram("leno_route_first_byte_seconds", &labels),
            retries: registry.counter("leno_route_retries_total", &labels),
        });
        let class = class(status);
        let counter = answered.by_class[class].get_or_init(|| {
            let [route, rule] = labels;
            registry.counter("leno_route_requests_total", &[route, rule, ("class", CLASSES[class])])
        });
        counter.inc();
        answered.first_byte.observe(took);
        if retries > 0 {
            answered.retries.add(retries.into());
        }
    }

    /// What is counted for the first service that it mirrors to.
    pub fn mirrored(&self) -> Option<&Rc<ServiceMetrics>> {
        self.mirrors.first().map(|mirror| &mirror.cluster.metrics)
    }

    /// What one of its filters mirrors to.
    pub fn mirror(&self, shared: &Arc<Cluster>) -> Option<&MirrorTarget> {
        self.mirrors.iter().find(|mirror| Arc::ptr_eq(&mirror.shared, shared))
    }

    /// Draws a backend by weight; gives its index among the rule's backends too.
    ///
    /// # Errors
    /// The weights are all zero, or the drawn reference is not valid.
    pub fn draw(&self) -> Result<(usize, &Rc<LocalCluster>), Reason> {
        if self.total == 0 {
            return Err(Reason::NoBackend);
        }
        let mut at = if self.backends.len() == 1 { 0 } else { fastrand::u32(..self.total) };
        for (index, (weight, _)) in self.backends.iter().enumerate() {
            if at < *weight {
                return self.at(index);
            }
            at -= weight;
        }
        Err(Reason::NoBackend)
    }

    /// As [`Self::draw`], where a request's hash decides: with other weights only those move that have to.
    ///
    /// # Errors
    /// As [`Self::draw`].
    pub fn draw_by(&self, key: u64) -> Result<(usize, &Rc<LocalCluster>), Reason> {
        let arms = self.backends.iter().enumerate().map(|(index, (weight, target))| match target {
            LocalTarget::Cluster(cluster) => (cluster.id, *weight),
            LocalTarget::Invalid => (mix(index as u64), *weight),
        });
        // The key picks the endpoint, too: the two must have nothing to do with each other.
        self.at(arms::arm(mix(key), arms).ok_or(Reason::NoBackend)?)
    }

    /// The backend of this identity, whatever its weight: a session lasts beyond it (GEP-1619).
    pub fn backend(&self, id: u64) -> Option<(usize, &Rc<LocalCluster>)> {
        self.backends.iter().enumerate().find_map(|(index, (_, target))| match target {
            LocalTarget::Cluster(cluster) if cluster.id == id => Some((index, cluster)),
            _ => None,
        })
    }

    fn at(&self, index: usize) -> Result<(usize, &Rc<LocalCluster>), Reason> {
        match self.backends.get(index) {
            Some((_, LocalTarget::Cluster(cluster))) => Ok((index, cluster)),
            Some((_, LocalTarget::Invalid)) => Err(Reason::InvalidBackend),
            None => Err(Reason::NoBackend),
        }
    }
}
