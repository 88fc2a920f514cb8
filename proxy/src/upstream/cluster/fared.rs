//! What attempts say of endpoints, and who is ejected for it.

use tokio::time::Instant;

use super::super::LocalEndpoint;
use super::LocalCluster;
use crate::model::BalancePolicy;
use crate::resilience::outlier::{Thresholds, Verdict};
use crate::resilience::rates::{self, Limits};

impl LocalCluster {
    /// When an attempt begins, if somebody wants to know; else it is not looked at.
    pub fn clock(&self) -> Option<Instant> {
        self.measures.get().then(Instant::now)
    }

    /// An attempt on an endpoint ended that began at [`Self::clock`].
    pub fn record(&self, endpoint: &LocalEndpoint, verdict: Verdict, began: Option<Instant>) {
        if let Some(began) = began {
            self.measure(endpoint, verdict, began);
        }
        if verdict == Verdict::Good {
            return endpoint.outlier.succeeded();
        }
        let policy = self.policy();
        let enough = Thresholds { failures: policy.consecutive_failures, gateway: policy.balancing.gateway_failures };
        if endpoint.outlier.failed(verdict == Verdict::Gateway, enough) {
            self.eject(endpoint, "it kept failing");
        }
    }

    /// An attempt was answered whose answer has to be whole in time: the time counts, and how it fared is recorded then.
    pub fn answers(&self, endpoint: &LocalEndpoint, began: Option<Instant>) {
        if let Some(began) = began {
            self.measure(endpoint, Verdict::Good, began);
        }
    }

    fn measure(&self, endpoint: &LocalEndpoint, verdict: Verdict, began: Instant) {
        let now = Instant::now();
        let took = now.saturating_duration_since(began);
        let policy = self.policy();
        let balancing = &policy.balancing;
        if balancing.policy == BalancePolicy::PeakEwma {
            endpoint.ewma.observe(took, now);
        }
        if balancing.success_rate_percent == 0 && balancing.latency_factor == 0 {
            return;
        }
        endpoint.rate.add(verdict == Verdict::Good, took);
        if now.saturating_duration_since(self.judged.get()) < balancing.interval {
            return;
        }
        self.judged.set(now);
        let limits = Limits {
            minimum_requests: balancing.minimum_requests,
            success_rate_percent: balancing.success_rate_percent,
            latency_factor: balancing.latency_factor,
        };
        let endpoints = self.endpoints.borrow().clone();
        for index in rates::outliers(endpoints.iter().map(|endpoint| &endpoint.rate), limits) {
            if !endpoints[index].outlier.holds_ejection() {
                self.eject(&endpoints[index], "it did worse than the others");
            }
        }
    }

    /// Within the share that may be ejected, and never the last one that there is.
    fn eject(&self, endpoint: &LocalEndpoint, why: &str) {
        let (policy, now) = (self.policy(), Instant::now());
        let endpoints = self.endpoints.borrow();
        let most = endpoints.len() * policy.max_ejected_percent as usize / 100;
        let another = endpoints.iter().any(|other| other.is_usable(now) && !std::ptr::eq(&**other, endpoint));
        if self.ejected.get() >= most || !another {
            return;
        }
        endpoint.outlier.eject(policy.ejection, now);
        self.ejected.set(self.ejected.get() + 1);
        self.metrics.ejections.inc();
        self.metrics.ejected.add(1.0);
        self.look(&endpoints);
        tracing::warn!(workload = endpoint.endpoint.workload, address = %endpoint.endpoint.address, why, "endpoint ejected");
    }
}
