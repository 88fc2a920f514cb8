//! How a sidecar checks its own app.

use std::collections::BTreeMap;
use std::time::Duration;

use leno_proto::v1;

/// Most checks of a namespace that are read.
const MOST_CHECKS: usize = 1000;

/// One check of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// NAMESPACE/NAME of the service that asks for it.
    pub service: String,
    /// It is meant for the workloads that have each of these labels.
    pub selector: BTreeMap<String, String>,
    /// The app's port, by name or number.
    pub target: String,
    /// Between the beginnings of two checks.
    pub interval: Duration,
    /// How long one may take.
    pub timeout: Duration,
    /// Passed ones in a row after which the app is healthy again.
    pub healthy_threshold: u32,
    /// Failed ones in a row after which it is not.
    pub unhealthy_threshold: u32,
    /// What is done.
    pub kind: ProbeKind,
}

/// What a check does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeKind {
    /// GET is answered with one of these statuses; without any, with 200 to 399.
    Http {
        /// Path and query.
        path: String,
        /// Value of Host; empty: the address.
        host: String,
        /// Those that are expected.
        statuses: Vec<u16>,
    },
    /// The port takes a connection.
    Tcp,
    /// The gRPC health protocol says SERVING.
    Grpc {
        /// Which service is asked about.
        service: String,
    },
}

impl HealthCheck {
    /// Whether it is meant for a workload with these labels.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        !self.selector.is_empty() && self.selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

/// Wire to model. A check of a kind that this sidecar does not know cannot be made, and says nothing of the app.
pub(super) fn health_checks(wire: &[v1::HealthCheck]) -> Vec<HealthCheck> {
    wire.iter().take(MOST_CHECKS).filter_map(health_check).collect()
}

fn health_check(wire: &v1::HealthCheck) -> Option<HealthCheck> {
    use v1::health_check::Check;
    let kind = match &wire.check {
        Some(Check::Http(http)) => ProbeKind::Http {
            path: http.path.clone(),
            host: http.host.clone(),
            statuses: http.statuses.iter().filter_map(|status| u16::try_from(*status).ok()).collect(),
        },
        Some(Check::Tcp(_)) => ProbeKind::Tcp,
        Some(Check::Grpc(grpc)) => ProbeKind::Grpc { service: grpc.service.clone() },
        None => {
            tracing::warn!(service = wire.service, "a health check is of a kind that this sidecar does not know");
            return None;
        }
    };
    // Whatever comes, the app is not asked more than ten times a second.
    let time = |ms: u32| Duration::from_millis(ms.max(100).into());
    Some(HealthCheck {
        service: wire.service.clone(),
        selector: wire.selector.clone(),
        target: wire.target.clone(),
        interval: time(wire.interval_ms),
        timeout: time(wire.timeout_ms),
        healthy_threshold: wire.healthy_threshold.max(1),
        unhealthy_threshold: wire.unhealthy_threshold.max(1),
        kind,
    })
}
