//! What was fetched, as it is kept over a restart.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use super::{Domain, MOST_DOMAINS};
use crate::model::FederatedTrustDomain;
use crate::store::WeakStore;

/// Name of the record in the store.
const NAME: &str = "federation";

/// By trust domain.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Kept(BTreeMap<String, Record>);

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    /// Of the object that it was fetched for: another one begins anew.
    object: String,
    /// Base64 of DER.
    roots: Vec<String>,
    /// Seconds since 1970.
    fetched: i64,
}

impl Kept {
    pub(super) fn load(store: &WeakStore) -> Self {
        let record = store.upgrade().and_then(|store| store.blob(NAME).ok().flatten());
        record.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// What was fetched for this object.
    pub(super) fn take(&mut self, name: &str, spec: &FederatedTrustDomain) -> Option<Domain> {
        let record = self.0.remove(name).filter(|record| record.object == hash(spec))?;
        let roots: Option<Vec<Vec<u8>>> = record.roots.iter().map(|root| STANDARD.decode(root).ok()).collect();
        let fetched = OffsetDateTime::from_unix_timestamp(record.fetched).ok();
        Some(Domain { roots: roots?.into(), fetched, problem: None })
    }
}

/// It is small and rare; what is lost is fetched again, or is what the object holds. Domains that are gone are not kept for ever.
pub(super) fn save(store: &WeakStore, name: &str, spec: &FederatedTrustDomain, domain: &Domain) {
    let Some(store) = store.upgrade() else { return };
    let record = Record {
        object: hash(spec),
        roots: domain.roots.iter().map(|root| STANDARD.encode(root)).collect(),
        fetched: domain.fetched.map_or(0, OffsetDateTime::unix_timestamp),
    };
    let name = name.to_owned();
    tokio::task::spawn_blocking(move || {
        let mut kept = Kept::load(&store.downgrade());
        kept.0.retain(|name, _| store.committed().mesh.federated_trust_domains.contains_key(name));
        if kept.0.len() < MOST_DOMAINS || kept.0.contains_key(&name) {
            kept.0.insert(name, record);
        }
        let Ok(bytes) = serde_json::to_vec(&kept) else { return };
        if let Err(error) = store.set_blob(NAME, &bytes) {
            tracing::warn!(%error, "the roots of federated domains cannot be kept for the next start");
        }
    });
}

/// Changes with everything that an object says.
fn hash(spec: &FederatedTrustDomain) -> String {
    let mut hash = Sha256::new();
    let endpoint = spec.endpoint.as_ref();
    hash.update(endpoint.map_or("", |endpoint| endpoint.url.as_str()));
    hash.update([0]);
    hash.update(endpoint.and_then(|endpoint| endpoint.id.as_ref()).map_or("", |id| id.as_str()));
    for root in spec.roots.iter().flat_map(|roots| roots.iter()) {
        hash.update([0]);
        hash.update(Sha256::digest(root));
    }
    hex::encode(hash.finalize())
}
