//! The endpoints of a cluster in groups of equal distance, each with what its policy needs to pick one.

use std::cell::Cell;
use std::rc::Rc;

use tokio::time::Instant;

use super::super::LocalEndpoint;
use crate::balance::maglev::Maglev;
use crate::balance::ring::Ring;
use crate::balance::{self, Candidate, nearness};
use crate::model::{BalancePolicy, Balancing, Cluster, Locality};

/// The nearest first. None is empty.
#[derive(Debug, Default)]
pub(super) struct Tiers(Vec<Tier>);

#[derive(Debug)]
struct Tier {
    endpoints: Vec<Rc<LocalEndpoint>>,
    ids: Vec<u64>,
    table: Table,
    /// The last one that had its turn.
    last: Cell<usize>,
    /// Healthy ones, while nothing is marked.
    healthy: usize,
}

/// Made when the endpoints change, never for a request.
#[derive(Debug)]
enum Table {
    None,
    Ring(Ring),
    Maglev(Maglev),
}

impl Tiers {
    /// What a policy needs that is not the default; the default needs nothing.
    pub(super) fn new(shared: &Cluster, own: &Locality, endpoints: &[Rc<LocalEndpoint>], before: &Self) -> Self {
        let balancing = &shared.policy.balancing;
        if balancing.policy == BalancePolicy::LeastRequest && !balancing.prefer_close {
            return Self::default();
        }
        let mut groups: [Vec<Rc<LocalEndpoint>>; 3] = Default::default();
        for (said, local) in shared.endpoints.iter().zip(endpoints) {
            let far = if balancing.prefer_close { nearness::distance(own, &said.locality) } else { 0 };
            groups[far].push(local.clone());
        }
        let tiers = groups.into_iter().filter(|group| !group.is_empty());
        Self(tiers.map(|endpoints| Tier::new(endpoints, balancing, &before.0)).collect())
    }

    /// Whether there is nothing but the default to be done.
    pub(super) fn are_plain(&self) -> bool {
        self.0.is_empty()
    }

    /// Picks an eligible endpoint. `marked`: some are marked for this one look.
    pub(super) fn pick(&self, policy: &Balancing, key: Option<u64>, marked: bool) -> Option<Rc<LocalEndpoint>> {
        let first = match &self.0[..] {
            [] | [_] => 0,
            many => {
                let groups = many.iter().map(|tier| (tier.eligible(marked), tier.endpoints.len()));
                match key {
                    Some(key) => nearness::group(groups, nearness::by_key(key))?,
                    None => nearness::group(groups, |n| fastrand::usize(..n))?,
                }
            }
        };
        self.0.get(first)?.pick(policy.policy, key)
    }
}

impl Tier {
    fn new(endpoints: Vec<Rc<LocalEndpoint>>, balancing: &Balancing, before: &[Self]) -> Self {
        let ids: Vec<u64> = endpoints.iter().map(|endpoint| endpoint.id).collect();
        let table = match balancing.policy {
            BalancePolicy::RingHash => Table::Ring(Ring::new(&ids)),
            BalancePolicy::Maglev => Table::Maglev(Maglev::new(&ids)),
            _ => Table::None,
        };
        let healthy = endpoints.iter().filter(|endpoint| endpoint.is_healthy()).count();
        // Begun anywhere, so that many clients do not go round in step.
        let last = before.first().map_or_else(|| fastrand::usize(..endpoints.len().max(1)), |tier| tier.last.get());
        Self { last: Cell::new(last), healthy, endpoints, ids, table }
    }

    fn eligible(&self, marked: bool) -> usize {
        if !marked {
            return self.healthy;
        }
        self.endpoints.iter().filter(|endpoint| endpoint.is_eligible()).count()
    }

    fn pick(&self, policy: BalancePolicy, key: Option<u64>) -> Option<Rc<LocalEndpoint>> {
        let (all, random) = (&self.endpoints[..], |n: usize| fastrand::usize(..n));
        let eligible = |i: usize| all[i].is_eligible();
        let picked = match (policy, &self.table, key) {
            (BalancePolicy::RoundRobin, _, _) => balance::next(all, &self.last),
            (BalancePolicy::Random, _, _) => balance::any(all, random),
            (BalancePolicy::PeakEwma, _, _) => {
                let now = Instant::now();
                balance::pick_by(all, random, |endpoint| endpoint.ewma.cost(endpoint.load(), now))
            }
            (_, Table::Ring(ring), Some(key)) => ring.pick(key, &self.ids, eligible),
            (_, Table::Maglev(table), Some(key)) => table.pick(key, &self.ids, eligible),
            // A request without a key is balanced as any other.
            _ => balance::pick(all, random),
        };
        picked.map(|i| all[i].clone())
    }
}
