//! The tables of the file and the records in them. Records are JSON: they are few and small, and a person can read
//! them.

use redb::{Database, TableDefinition};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::StoreError;
use crate::model::{Kind, ObjectKey};

/// Object key to [`ObjectRecord`].
pub(super) const OBJECTS: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("objects");
/// Number to [`RevisionRecord`]; only the oldest are ever removed.
pub(super) const REVISIONS: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("revisions");
/// Object key to [`FileRecord`].
pub(super) const FILES: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("files");
/// Token id to `TokenRecord`.
pub(super) const TOKENS: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("tokens");
/// Fingerprint of a service-account token, in hex, to `ShownToken`.
pub(super) const SHOWN_TOKENS: TableDefinition<'static, &'static str, &'static [u8]> =
    TableDefinition::new("shown_tokens");
/// NAMESPACE/NAME to the registered workload.
pub(super) const WORKLOADS: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("workloads");
/// Object key to since when its conditions are so, as `api` wrote it.
pub(super) const STATUS_TIMES: TableDefinition<'static, &'static str, &'static [u8]> =
    TableDefinition::new("status_times");
/// NAMESPACE/NAME/LINEAGE to [`InstanceRecord`].
pub(super) const INSTANCES: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("instances");
/// Id to `model::Revocation`.
pub(super) const REVOCATIONS: TableDefinition<'static, &'static str, &'static [u8]> =
    TableDefinition::new("revocations");
/// Number to `model::audit::Entry`; only the oldest are ever removed.
pub(super) const AUDIT: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("audit");
/// Id to `UserRecord`.
pub(super) const USERS: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("users");
/// Single records of other modules, by name.
pub(super) const BLOBS: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("blobs");

/// Makes every table, so that reading one never fails because nothing was written yet.
pub(super) fn create(db: &Database) -> Result<(), StoreError> {
    let transaction = db.begin_write()?;
    let tables = [OBJECTS, FILES, TOKENS, SHOWN_TOKENS, WORKLOADS, STATUS_TIMES, BLOBS, INSTANCES, REVOCATIONS, USERS];
    for table in tables {
        transaction.open_table(table)?;
    }
    transaction.open_table(REVISIONS)?;
    transaction.open_table(AUDIT)?;
    transaction.commit()?;
    Ok(())
}

/// An object as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ObjectRecord {
    /// As the user wrote it.
    pub value: Value,
    /// When an object of this name was first stored, seconds since 1970.
    pub created: i64,
    /// Counts the changes of the object, from 1.
    pub generation: u64,
}

/// One line of the log.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RevisionRecord {
    /// Seconds since 1970.
    pub time: i64,
    pub actor: String,
    pub message: String,
    pub changes: Vec<ChangeRecord>,
}

/// One object's part in a revision.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ChangeRecord {
    pub key: String,
    /// None: it was made.
    pub before: Option<ObjectRecord>,
    /// None: it was deleted.
    pub after: Option<ObjectRecord>,
}

/// A sidecar that has registered under a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceRecord {
    /// As its certificates say it.
    pub lineage: String,
    /// Its SPIFFE ID.
    pub identity: String,
    /// Seconds since 1970.
    pub seen_unix: i64,
}

/// What the configuration folder last said of an object.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct FileRecord {
    /// SHA-256 of the object as it was written, in hex.
    pub hash: String,
    pub file: String,
}

/// The text under which an object is stored, `KIND/NAMESPACE/NAME`; no part can hold a slash.
pub(super) fn key_text(key: &ObjectKey) -> String {
    format!("{}/{}/{}", key.kind, key.name.namespace, key.name.name)
}

pub(super) fn parse_key(text: &str) -> Option<ObjectKey> {
    let mut parts = text.splitn(3, '/');
    let kind = Kind::from_exact(parts.next()?)?;
    Some(ObjectKey::new(kind, parts.next()?, parts.next()?))
}

pub(super) fn encode<T: Serialize>(what: &str, record: &T) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(record).map_err(|error| StoreError::Record { what: what.to_owned(), why: error.to_string() })
}

pub(super) fn decode<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(|error| StoreError::Record { what: what.to_owned(), why: error.to_string() })
}
