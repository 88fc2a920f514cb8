//! What the admin port shows of the whole.

use std::sync::Arc;

use leno_runtime::drain::DrainWatch;
use leno_runtime::metrics::Registry as Metrics;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::config::Problem;
use crate::discovery::ResourceType;
use crate::model::Committed;
use crate::xds::Parts;

/// Keeps the metrics of the configuration up to date until the control plane drains. `last` is the revision that the store
/// was opened with.
pub(super) async fn run(
    metrics: Metrics,
    mut committed: watch::Receiver<Arc<Committed>>,
    mut last: u64,
    problems: Option<watch::Receiver<Arc<Vec<Problem>>>>,
    drain: DrainWatch,
) {
    let revision = metrics.gauge("leno_revision", &[]);
    let commits = metrics.counter("leno_store_commits_total", &[]);
    let refused = metrics.gauge("leno_config_problems", &[]);
    // Without a folder there is a channel on which nothing comes.
    let (silent, nothing) = watch::channel(Arc::new(Vec::new()));
    let mut problems = problems.unwrap_or(nothing);
    loop {
        let now = committed.borrow_and_update().revision;
        commits.add(now.saturating_sub(last));
        last = now;
        revision.set(now as f64);
        refused.set(problems.borrow_and_update().iter().filter(|problem| problem.is_error()).count() as f64);
        let open = tokio::select! {
            open = committed.changed() => open.is_ok(),
            open = problems.changed() => open.is_ok(),
            () = drain.signaled() => false,
        };
        if !open {
            break;
        }
    }
    drop(silent);
}

/// `/config_dump`: revision, how many resources of each type, live workloads, and every sidecar's state. No secret is in any
/// of these.
pub(super) fn config_dump(parts: &Parts) -> Arc<dyn Fn() -> Value + Send + Sync> {
    let (worlds, sessions, registry) = (parts.worlds.clone(), parts.sessions.clone(), parts.registry.clone());
    let trust_domain = parts.authority.trust_domain().to_owned();
    Arc::new(move || {
        let world = worlds.borrow().clone();
        let resources: Map<String, Value> = ResourceType::ALL
            .into_iter()
            .map(|kind| (kind.label().to_owned(), Value::from(world.count(kind))))
            .collect();
        let workloads: Vec<Value> = registry
            .live()
            .values()
            .map(|w| {
                json!({
                    "workload": w.name.to_string(), "address": w.address, "meshPort": w.mesh_port, "identity": w.identity,
                    "labels": w.labels, "ports": w.ports, "healthy": w.healthy,
                })
            })
            .collect();
        json!({
            "trustDomain": trust_domain,
            "revision": world.revision,
            "resources": resources,
            "workloads": workloads,
            "sidecars": sessions.status(),
        })
    })
}
