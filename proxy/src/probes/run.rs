//! Making the checks: each at most once at a time, within its timeout.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use ::http::HeaderValue;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use leno_runtime::metrics::{Counter, Registry};

use super::connect::{Target, connect};
use super::{Reason, grpc, http};
use crate::settings::{Action, Probe, Probes};

type Verdict = Result<(), Arc<str>>;

/// Every check of the app, ready to be made.
#[derive(Debug, Clone)]
pub struct Checks(Arc<BTreeMap<String, Arc<Check>>>);

struct Check {
    name: String,
    probe: Probe,
    /// The workload's own address.
    own: String,
    /// The one that is being made; whoever asks meanwhile gets its verdict.
    running: Mutex<Option<Shared<BoxFuture<'static, Verdict>>>>,
    /// What was said last, so that the log tells changes and no repetition.
    last: Mutex<Option<Verdict>>,
    passed: Counter,
    failed: Counter,
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Check").field("name", &self.name).field("probe", &self.probe).finish_non_exhaustive()
    }
}

impl Checks {
    /// The checks of these probes against the workload's own address, unless a probe names another.
    pub fn new(probes: Probes, own: IpAddr, registry: &Registry) -> Self {
        let counter = |name: &str, result: &str| {
            let labels = &[("probe", name), ("result", result)];
            registry.counter("leno_probes_total", labels)
        };
        let check = |(name, probe): (String, Probe)| {
            let (passed, failed) = (counter(&name, "passed"), counter(&name, "failed"));
            let check = Check {
                name: name.clone(),
                probe,
                own: own.to_string(),
                running: Mutex::default(),
                last: Mutex::default(),
                passed,
                failed,
            };
            (name, Arc::new(check))
        };
        Self(Arc::new(probes.0.into_iter().map(check).collect()))
    }

    /// Makes the check `CONTAINER/KIND`. None: there is none of that name.
    pub(super) async fn make(&self, name: &str, agent: HeaderValue) -> Option<Verdict> {
        let check = self.0.get(name)?.clone();
        Some(check.verdict(agent).await)
    }
}

impl Check {
    async fn verdict(self: Arc<Self>, agent: HeaderValue) -> Verdict {
        let shared = {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            match running.as_ref().filter(|shared| shared.peek().is_none()) {
                Some(shared) => shared.clone(),
                None => {
                    // A task of its own, so that it ends even when everybody who asked has gone.
                    let task = tokio::spawn(self.clone().once(agent));
                    let lost = || Err(Arc::from("the check itself failed"));
                    let shared = async move { task.await.unwrap_or_else(|_| lost()) }.boxed().shared();
                    *running = Some(shared.clone());
                    shared
                }
            }
        };
        shared.await
    }

    async fn once(self: Arc<Self>, agent: HeaderValue) -> Verdict {
        let timeout = self.probe.timeout;
        let made = tokio::time::timeout(timeout, self.act(&agent)).await;
        let verdict = match made {
            Ok(verdict) => verdict.map_err(Arc::from),
            Err(_) => Err(Arc::from(format!("no answer within {} s", timeout.as_secs()))),
        };
        match &verdict {
            Ok(()) => self.passed.inc(),
            Err(_) => self.failed.inc(),
        }
        let before = self.last.lock().unwrap_or_else(PoisonError::into_inner).replace(verdict.clone());
        if before.as_ref() != Some(&verdict) {
            match &verdict {
                Ok(()) => tracing::info!(probe = self.name, "the app's check passes"),
                Err(reason) => tracing::warn!(probe = self.name, %reason, "the app's check fails"),
            }
        }
        verdict
    }

    async fn act(&self, agent: &HeaderValue) -> Result<(), Reason> {
        match &self.probe.action {
            Action::Http(get) => http::check(get, &self.own, agent).await,
            Action::Tcp { host, port } => {
                let host = host.clone().unwrap_or_else(|| self.own.clone());
                connect(&Target { host, port: *port }).await.map(drop)
            }
            Action::Grpc { port, service } => {
                grpc::check(&Target { host: self.own.clone(), port: *port }, service, agent).await
            }
        }
    }
}
