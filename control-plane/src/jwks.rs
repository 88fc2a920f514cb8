//! The public keys of issuers, fetched from URLs: of a cluster's service accounts, and of the providers whose tokens AuthorizationPolicies
//! look at. Only the control plane fetches, so no sidecar can be made to ask for something.
//!
//! A set is fetched anew every five minutes, and at once when somebody meets a key that is not in it, but not more often than every ten
//! seconds. While it cannot be fetched the last one holds, over a restart too; after a day without an answer it is withdrawn, and then
//! no token of that issuer is right. A set that was never fetched has no keys.

mod held;
/// Who signs tokens in tests.
#[cfg(test)]
#[path = "../../certs/src/jwt/issuer.rs"]
pub(crate) mod issuer;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use leno_certs::jwt::{KeySet, MOST_KEY_SET_BYTES};
use leno_runtime::drain::DrainWatch;
use leno_runtime::metrics::{Counter, Registry as Metrics};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::fetch::{self, Server, Trust};
use crate::model::{Committed, HttpsUrl, Mesh};
use crate::store::WeakStore;
use held::{Held, Remembered};

/// How old a set may be before it is fetched again.
const REFRESH: Duration = Duration::from_secs(300);
/// How long a set holds that cannot be fetched any more, in seconds.
const MOST_STALE: i64 = 24 * 3600;
/// A key that is not known makes a set be fetched again, but not more often than this: anybody can name such a key.
const LEAST_BETWEEN: Duration = Duration::from_secs(10);
/// After a failure, doubling from the first to the last.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);
/// Most URLs that are fetched; more are named in the log.
pub const MOST_URLS: usize = 64;

/// A set that can be used, and as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    pub json: Arc<str>,
    pub set: Arc<KeySet>,
}

/// The sets that hold now, by URL.
pub type Published = BTreeMap<HttpsUrl, Keys>;

/// Keeps the sets; clones share them.
#[derive(Clone)]
pub struct Keyring(Arc<Inner>);

struct Inner {
    trust: Trust,
    /// Wanted whatever the configuration says.
    always: Option<HttpsUrl>,
    published: watch::Sender<Arc<Published>>,
    /// Grows with each attempt that has ended, so that who waits for one knows.
    attempts: watch::Sender<u64>,
    /// URLs of which a key was not known.
    asked: std::sync::Mutex<BTreeSet<HttpsUrl>>,
    asking: Notify,
    fetched: Counter,
    failed: Counter,
}

type Fetched = (HttpsUrl, Result<(String, KeySet), String>);
type Fetching = Pin<Box<dyn Future<Output = Fetched> + Send>>;

/// What is known of one URL.
struct Entry {
    held: Option<Held>,
    due: Instant,
    begun: Option<Instant>,
    in_flight: bool,
    retry: Duration,
}

impl Keyring {
    /// Nothing is fetched before [`Self::run`] does. `always` is one that is wanted whatever the configuration says.
    pub fn new(trust: Trust, always: Option<HttpsUrl>, metrics: &Metrics) -> Self {
        let counter = |result| metrics.counter("leno_jwks_fetches_total", &[("result", result)]);
        Self(Arc::new(Inner {
            trust,
            always,
            published: watch::Sender::default(),
            attempts: watch::Sender::default(),
            asked: Default::default(),
            asking: Notify::new(),
            fetched: counter("ok"),
            failed: counter("failed"),
        }))
    }

    /// Takes up what an earlier life fetched, so that nobody is refused because the control plane was started again. Blocks on the disk.
    pub fn restore(&self, store: &WeakStore) {
        let kept = Remembered::load(store).all(held::unix_now().saturating_sub(MOST_STALE));
        let keys = |held: Held| Keys { json: held.json, set: held.set };
        let kept: Published = kept.into_iter().map(|(url, held)| (url, keys(held))).collect();
        self.0.published.send_replace(Arc::new(kept));
    }

    /// The sets, now and after every change.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Published>> {
        self.0.published.subscribe()
    }

    /// The keys of a URL; None: there are none that hold.
    pub fn keys(&self, url: &HttpsUrl) -> Option<Keys> {
        self.0.published.borrow().get(url).cloned()
    }

    /// Asks again, since a key was not known, and waits for the answer; not longer than `most`.
    pub async fn ask_again(&self, url: &HttpsUrl, most: Duration) {
        let mut attempts = self.0.attempts.subscribe();
        attempts.mark_unchanged();
        {
            let mut asked = self.0.asked.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if asked.len() < MOST_URLS {
                asked.insert(url.clone());
            }
        }
        self.0.asking.notify_one();
        let _ = tokio::time::timeout(most, attempts.changed()).await;
    }

    /// Fetches until the control plane drains. `store` remembers the sets over a restart.
    pub async fn run(self, store: WeakStore, committed: watch::Receiver<Arc<Committed>>, drain: DrainWatch) {
        let remembered = Remembered::load(&store);
        let trust = self.0.trust.clone();
        let fetch = move |url: HttpsUrl| -> Fetching {
            let trust = trust.clone();
            Box::pin(async move {
                let fetched = fetch_set(&url, &trust).await;
                (url, fetched)
            })
        };
        self.keep(remembered, Some(store), committed, drain, fetch).await;
    }

    async fn keep(
        self,
        mut remembered: Remembered,
        store: Option<WeakStore>,
        mut committed: watch::Receiver<Arc<Committed>>,
        drain: DrainWatch,
        fetch: impl Fn(HttpsUrl) -> Fetching,
    ) {
        let mut entries: BTreeMap<HttpsUrl, Entry> = BTreeMap::new();
        let mut fetching: JoinSet<Fetched> = JoinSet::new();
        loop {
            let mesh = committed.borrow_and_update().mesh.clone();
            self.want(&mut entries, &mesh, &mut remembered);
            self.take_asked(&mut entries);
            begin(&mut entries, &mut fetching, &fetch);
            self.publish(&mut entries, held::unix_now());
            let next = entries.values().filter(|entry| !entry.in_flight).map(|entry| entry.due).min();
            let next = next.unwrap_or_else(|| Instant::now() + REFRESH);
            tokio::select! {
                changed = committed.changed() => if changed.is_err() { return },
                () = self.0.asking.notified() => {}
                () = tokio::time::sleep_until(next) => {}
                Some(ended) = fetching.join_next(), if !fetching.is_empty() => {
                    if let Ok((url, result)) = ended && self.ended(&mut entries, url, result) {
                        self.publish(&mut entries, held::unix_now());
                        held::save(store.as_ref(), &entries.iter().filter_map(|(url, e)| Some((url, e.held.as_ref()?))).collect());
                    }
                    self.0.attempts.send_modify(|n| *n += 1);
                }
                () = drain.signaled() => return,
            }
        }
    }

    /// Takes up what the configuration names, and forgets what it does not name any more.
    fn want(&self, entries: &mut BTreeMap<HttpsUrl, Entry>, mesh: &Mesh, remembered: &mut Remembered) {
        let named = mesh.jwks_urls();
        let wanted: BTreeSet<&HttpsUrl> = self.0.always.iter().chain(named).take(MOST_URLS).collect();
        entries.retain(|url, _| wanted.contains(url));
        for url in wanted {
            entries.entry(url.clone()).or_insert_with(|| Entry {
                held: remembered.take(url),
                due: Instant::now(),
                begun: None,
                in_flight: false,
                retry: FIRST_RETRY,
            });
        }
    }

    fn take_asked(&self, entries: &mut BTreeMap<HttpsUrl, Entry>) {
        let asked = std::mem::take(&mut *self.0.asked.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        for url in asked {
            if let Some(entry) = entries.get_mut(&url) {
                let earliest = entry.begun.map_or_else(Instant::now, |begun| begun + LEAST_BETWEEN);
                entry.due = entry.due.min(earliest);
            }
        }
    }

    /// Whether there is a set that was not there before.
    fn ended(
        &self,
        entries: &mut BTreeMap<HttpsUrl, Entry>,
        url: HttpsUrl,
        result: Result<(String, KeySet), String>,
    ) -> bool {
        let Some(entry) = entries.get_mut(&url) else { return false };
        entry.in_flight = false;
        match result {
            Ok((json, set)) => {
                self.0.fetched.inc();
                if entry.held.is_none() || entry.retry != FIRST_RETRY {
                    tracing::info!(%url, keys = set.len(), "the keys of an issuer were fetched");
                }
                entry.held = Some(Held { json: json.into(), set: Arc::new(set), fetched: held::unix_now() });
                (entry.due, entry.retry) = (Instant::now() + REFRESH, FIRST_RETRY);
                true
            }
            Err(why) => {
                self.0.failed.inc();
                if entry.retry == FIRST_RETRY || entry.retry == LAST_RETRY {
                    tracing::warn!(%url, "the keys of an issuer cannot be fetched: {why}");
                }
                entry.due = Instant::now() + entry.retry;
                entry.retry = (entry.retry * 2).min(LAST_RETRY);
                false
            }
        }
    }

    /// What is too old is withdrawn here, so that nothing holds for ever because nobody answers.
    fn publish(&self, entries: &mut BTreeMap<HttpsUrl, Entry>, now: i64) {
        for (url, entry) in entries.iter_mut() {
            if entry.held.as_ref().is_some_and(|held| now.saturating_sub(held.fetched) > MOST_STALE) {
                tracing::error!(%url, "the keys of an issuer could not be fetched for a day; its tokens are refused from now on");
                entry.held = None;
            }
        }
        let holding = entries.iter().filter_map(|(url, entry)| {
            let held = entry.held.as_ref()?;
            Some((url.clone(), Keys { json: held.json.clone(), set: held.set.clone() }))
        });
        let holding: Published = holding.collect();
        self.0.published.send_if_modified(|published| {
            let changed = **published != holding;
            if changed {
                *published = Arc::new(holding);
            }
            changed
        });
    }
}

/// The set, as it came, and what it means.
async fn fetch_set(url: &HttpsUrl, trust: &Trust) -> Result<(String, KeySet), String> {
    let accept = "application/jwk-set+json, application/json";
    let bytes = fetch::get(url, Server::Web(trust), accept, MOST_KEY_SET_BYTES).await?;
    let keys = KeySet::parse(&bytes).map_err(|why| why.to_string())?;
    Ok((String::from_utf8_lossy(&bytes).into_owned(), keys))
}

fn begin(
    entries: &mut BTreeMap<HttpsUrl, Entry>,
    fetching: &mut JoinSet<Fetched>,
    fetch: &impl Fn(HttpsUrl) -> Fetching,
) {
    let now = Instant::now();
    for (url, entry) in entries.iter_mut().filter(|(_, entry)| !entry.in_flight && entry.due <= now) {
        (entry.in_flight, entry.begun) = (true, Some(now));
        fetching.spawn(fetch(url.clone()));
    }
}
