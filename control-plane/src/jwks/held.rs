//! The sets as they are kept over a restart.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use leno_certs::jwt::KeySet;
use serde::{Deserialize, Serialize};

use crate::model::HttpsUrl;
use crate::store::WeakStore;

/// Name of the record in the store.
const NAME: &str = "jwks";
/// Longest record; sets that do not fit are fetched after a restart as at the first start.
const MOST_BYTES: usize = 900 * 1024;

/// A set that was fetched.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) json: Arc<str>,
    pub(super) set: Arc<KeySet>,
    /// Seconds since 1970.
    pub(super) fetched: i64,
}

/// What an earlier life fetched.
#[derive(Default)]
pub(super) struct Remembered(HashMap<String, Record>);

#[derive(Serialize, Deserialize)]
struct Record {
    json: String,
    fetched: i64,
}

impl Remembered {
    pub(super) fn load(store: &WeakStore) -> Self {
        let record = store.upgrade().and_then(|store| store.blob(NAME).ok().flatten());
        Self(record.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default())
    }

    /// Those that were fetched since then.
    pub(super) fn all(mut self, since: i64) -> Vec<(HttpsUrl, Held)> {
        let urls: Vec<HttpsUrl> = self.0.keys().filter_map(|url| HttpsUrl::parse(url).ok()).collect();
        let held = urls.into_iter().filter_map(|url| self.take(&url).map(|held| (url, held)));
        held.filter(|(_, held)| held.fetched >= since).collect()
    }

    /// What is remembered of a URL is good for one life, and as old as it is.
    pub(super) fn take(&mut self, url: &HttpsUrl) -> Option<Held> {
        let Record { json, fetched } = self.0.remove(url.as_str())?;
        let set = Arc::new(KeySet::parse(json.as_bytes()).ok()?);
        // A clock that was set back must not make it young for ever.
        Some(Held { json: json.into(), set, fetched: fetched.min(unix_now()) })
    }
}

/// Keeps them. It is small and rare, and a set that is lost is fetched again.
pub(super) fn save(store: Option<&WeakStore>, all: &BTreeMap<&HttpsUrl, &Held>) {
    let Some(store) = store.and_then(WeakStore::upgrade) else { return };
    let mut left = MOST_BYTES;
    let mut record = BTreeMap::new();
    for (url, held) in all {
        // Escaped, it is at most so long.
        let bytes = 2 * (held.json.len() + url.as_str().len()) + 64;
        if bytes <= left {
            left -= bytes;
            record.insert(url.as_str(), Record { json: held.json.to_string(), fetched: held.fetched });
        }
    }
    let Ok(bytes) = serde_json::to_vec(&record) else { return };
    tokio::task::spawn_blocking(move || {
        if let Err(error) = store.set_blob(NAME, &bytes) {
            tracing::warn!(%error, "the keys of issuers cannot be kept for the next start");
        }
    });
}

pub(super) fn unix_now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}
