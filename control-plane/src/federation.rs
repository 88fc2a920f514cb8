//! Other meshes whose workloads are believed to be who they are: their roots, as FederatedTrustDomains say where to learn them.
//!
//! The roots of a domain are those that were fetched last, before that those which its object holds. They are fetched as often as their server
//! asks for, and while that cannot be done the last ones hold, over a restart too: a root has an end of its own, and who takes the
//! object away takes the trust away. An object that was changed begins anew with what it holds.

mod kept;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use leno_certs::bundle_document::{self, Document};
use leno_runtime::backoff::Backoff;
use leno_runtime::drain::DrainWatch;
use leno_runtime::metrics::Registry as Metrics;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::fetch::{self, Server, Trust};
use crate::model::{BundleEndpoint, Committed, FederatedTrustDomain};
use crate::store::WeakStore;
use kept::Kept;

/// Most domains; of more the first by name count, and the log says so.
pub const MOST_DOMAINS: usize = 32;
/// Between two fetches, where the server does not say; and the bounds of what it may say.
const USUAL: Duration = Duration::from_secs(300);
const LEAST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(3600);
/// After a failure, doubling from the first to the last.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);

type Fetching = Pin<Box<dyn Future<Output = Result<Document, String>> + Send>>;

/// What is known of each domain, by its name.
pub type Published = BTreeMap<String, Domain>;

/// What is known of a federated domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// Its roots, DER.
    pub roots: Arc<[Vec<u8>]>,
    /// When they were fetched; None: they are what the object holds.
    pub fetched: Option<OffsetDateTime>,
    /// Why the last attempt brought nothing.
    pub problem: Option<String>,
}

/// Keeps the roots; clones share them.
#[derive(Clone)]
pub struct Federation(Arc<Inner>);

struct Inner {
    /// Our own domain: an object of its name is not ours to believe.
    own: String,
    trust: Trust,
    /// The objects that [`Federation::restore`] took something up for.
    restored: Mutex<BTreeMap<String, FederatedTrustDomain>>,
    published: watch::Sender<Arc<Published>>,
    metrics: Metrics,
}

/// A domain that is followed.
struct Followed {
    spec: FederatedTrustDomain,
    /// None: there is nothing to fetch.
    task: Option<JoinHandle<()>>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.iter().for_each(JoinHandle::abort);
    }
}

impl Federation {
    /// Nothing is fetched before [`Self::run`] does. `own` is our trust domain; `trust` is how `https_web` endpoints are verified.
    pub fn new(own: &str, trust: Trust, metrics: Metrics) -> Self {
        let (restored, published) = (Mutex::default(), watch::Sender::default());
        Self(Arc::new(Inner { own: own.to_owned(), trust, restored, published, metrics }))
    }

    /// Takes up what an earlier life fetched, so that a restart is noticed by nobody. Blocks on the disk.
    pub fn restore(&self, store: &WeakStore, committed: &Committed) {
        let mut kept = Kept::load(store);
        let wanted = self.wanted(committed);
        let domains = wanted.iter();
        let known: Published =
            domains.filter_map(|(name, spec)| Some((name.clone(), begin(name, spec, &mut kept)?))).collect();
        self.0.published.send_replace(Arc::new(known));
        *self.0.restored.lock().unwrap_or_else(PoisonError::into_inner) = wanted;
    }

    /// The roots, now and after every change.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Published>> {
        self.0.published.subscribe()
    }

    /// What is known now.
    pub fn known(&self) -> Arc<Published> {
        self.0.published.borrow().clone()
    }

    /// Follows what the configuration names until the control plane drains. `store` remembers what is fetched.
    pub async fn run(self, store: WeakStore, mut committed: watch::Receiver<Arc<Committed>>, drain: DrainWatch) {
        let mut followed: BTreeMap<String, Followed> = BTreeMap::new();
        let mut restored = std::mem::take(&mut *self.0.restored.lock().unwrap_or_else(PoisonError::into_inner));
        loop {
            let wanted = self.wanted(&committed.borrow_and_update());
            followed.retain(|name, domain| wanted.get(name) == Some(&domain.spec));
            restored.retain(|name, spec| wanted.get(name) == Some(spec));
            self.0.published.send_if_modified(|published| {
                let gone = |name: &String| !followed.contains_key(name) && !restored.contains_key(name);
                let changed = published.keys().any(gone);
                if changed {
                    Arc::make_mut(published).retain(|name, _| !gone(name));
                }
                changed
            });
            for (name, spec) in wanted {
                followed.entry(name).or_insert_with_key(|name| {
                    let task = self.follow(name, &spec, restored.contains_key(name), &store);
                    Followed { spec, task }
                });
            }
            restored.clear();
            tokio::select! {
                changed = committed.changed() => if changed.is_err() { return },
                () = drain.signaled() => return,
            }
        }
    }

    fn wanted(&self, committed: &Committed) -> BTreeMap<String, FederatedTrustDomain> {
        let all = committed.mesh.federated_trust_domains.iter();
        let others: Vec<_> = all.filter(|(name, _)| **name != self.0.own).collect();
        if others.len() > MOST_DOMAINS {
            tracing::error!(
                domains = others.len(),
                most = MOST_DOMAINS,
                "only the first federated trust domains count"
            );
        }
        others.into_iter().take(MOST_DOMAINS).map(|(name, spec)| (name.clone(), spec.clone())).collect()
    }

    fn follow(
        &self,
        name: &str,
        spec: &FederatedTrustDomain,
        restored: bool,
        store: &WeakStore,
    ) -> Option<JoinHandle<()>> {
        if !restored && let Some(domain) = begin(name, spec, &mut Kept::default()) {
            self.put(name, domain);
        }
        let endpoint = spec.endpoint.clone()?;
        let trust = self.0.trust.clone();
        let fetch = move |roots: Arc<[Vec<u8>]>| -> Fetching {
            let (endpoint, trust) = (endpoint.clone(), trust.clone());
            Box::pin(async move { fetch_bundle(&endpoint, &roots, &trust).await })
        };
        let (kept_as, spec, store) = (name.to_owned(), spec.clone(), store.clone());
        let save = move |domain: &Domain| kept::save(&store, &kept_as, &spec, domain);
        Some(tokio::spawn(self.clone().keep(name.to_owned(), fetch, save)))
    }

    /// Fetches for ever.
    async fn keep(self, name: String, fetch: impl Fn(Arc<[Vec<u8>]>) -> Fetching, save: impl Fn(&Domain)) {
        let name = name.as_str();
        let counter = |result| {
            let labels = &[("trust_domain", name), ("result", result)];
            self.0.metrics.counter("leno_federation_fetches_total", labels)
        };
        let (fetched, failed) = (counter("ok"), counter("failed"));
        let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
        loop {
            let before = self.known().get(name).cloned();
            let roots = before.as_ref().map(|domain| domain.roots.clone()).unwrap_or_default();
            let wait = match fetch(roots.clone()).await {
                Ok(document) => {
                    fetched.inc();
                    if document.roots[..] != roots[..] {
                        tracing::info!(
                            trust_domain = name,
                            roots = document.roots.len(),
                            "the roots of a federated domain were fetched"
                        );
                    }
                    let now = Some(OffsetDateTime::now_utc());
                    let domain = Domain { roots: document.roots.into(), fetched: now, problem: None };
                    save(&domain);
                    self.put(name, domain);
                    backoff.reset();
                    document.refresh_hint.unwrap_or(USUAL).clamp(LEAST, MOST)
                }
                Err(why) => {
                    failed.inc();
                    if before.as_ref().is_none_or(|domain| domain.problem.as_ref() != Some(&why)) {
                        tracing::warn!(trust_domain = name, "the roots of a federated domain cannot be fetched: {why}");
                    }
                    let known = before.unwrap_or(Domain { roots, fetched: None, problem: None });
                    self.put(name, Domain { problem: Some(why), ..known });
                    backoff.next_delay()
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    fn put(&self, name: &str, domain: Domain) {
        self.0.published.send_if_modified(|published| {
            let changed = published.get(name) != Some(&domain);
            if changed {
                Arc::make_mut(published).insert(name.to_owned(), domain);
            }
            changed
        });
    }
}

/// What is known of a domain before anything is fetched; None: nothing.
fn begin(name: &str, spec: &FederatedTrustDomain, kept: &mut Kept) -> Option<Domain> {
    let written = || Some(Domain { roots: spec.roots.clone()?, fetched: None, problem: None });
    kept.take(name, spec).or_else(written)
}

async fn fetch_bundle(endpoint: &BundleEndpoint, roots: &[Vec<u8>], trust: &Trust) -> Result<Document, String> {
    let server = match &endpoint.id {
        Some(id) => Server::Spiffe { id, roots },
        None => Server::Web(trust),
    };
    let bytes = fetch::get(&endpoint.url, server, "application/json", bundle_document::MOST_BYTES).await?;
    Document::parse(&bytes).map_err(|why| why.to_string())
}
