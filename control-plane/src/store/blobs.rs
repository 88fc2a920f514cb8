//! Small records of other modules: the CA, the admin's token, the registered workloads.

use redb::{ReadableTable, ReadableTableMetadata};

use super::revision::{Cause, Edit};
use super::tables::{BLOBS, WORKLOADS, decode, encode};
use super::{Store, StoreError, blocking, revocations};
use crate::model::audit::Actor;
use crate::model::{Name, Workload};

const AUTHORITY: &str = "authority";
/// Largest blob.
const MOST_BYTES: usize = 1 << 20;
/// Most registered workloads that are kept; the registry has a bound of its own.
const MOST_WORKLOADS: u64 = 100_000;

impl Store {
    /// The record of the CA, as the `ca` module wrote it. Blocks on the disk.
    ///
    /// # Errors
    /// The disk fails.
    pub fn authority(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.blob(AUTHORITY)
    }

    /// Keeps the record of the CA. Blocks on the disk.
    ///
    /// # Errors
    /// The disk fails.
    pub fn set_authority(&self, record: &[u8]) -> Result<(), StoreError> {
        self.set_blob(AUTHORITY, record)
    }

    /// Replaces the record of the CA as a revision of its own, durable when this returns; gives the revision. `publish` is called before that
    /// is seen by anybody.
    ///
    /// # Errors
    /// The disk fails; nothing is changed then.
    pub async fn change_authority(
        &self,
        record: Vec<u8>,
        actor: &Actor,
        action: &'static str,
        message: String,
        publish: impl FnOnce(u64) + Send + 'static,
    ) -> Result<u64, StoreError> {
        let (inner, actor) = (self.0.clone(), actor.clone());
        let change = move || {
            let (_writer, transaction) = inner.write()?;
            transaction.open_table(BLOBS)?.insert(AUTHORITY, record.as_slice())?;
            let edit = Edit::begin(&inner.committed.borrow(), &inner.sealer);
            let revision = inner.committed.borrow().revision + 1;
            let cause = Cause { actor: &actor, action, message: &message };
            Ok(inner.commit_and(transaction, edit, &cause, || publish(revision))?.revision)
        };
        blocking(change).await
    }

    /// A record by its name. Blocks on the disk.
    ///
    /// # Errors
    /// The disk fails.
    pub fn blob(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let table = self.0.db.begin_read()?.open_table(BLOBS)?;
        Ok(table.get(name)?.map(|found| found.value().to_vec()))
    }

    /// Keeps a record under a name. Blocks on the disk.
    ///
    /// # Errors
    /// It is larger than 1 MiB, or the disk fails.
    pub fn set_blob(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        if bytes.len() > MOST_BYTES {
            return Err(StoreError::Full { what: "bytes in one record", most: MOST_BYTES });
        }
        let (_writer, transaction) = self.0.write()?;
        transaction.open_table(BLOBS)?.insert(name, bytes)?;
        transaction.commit()?;
        Ok(())
    }

    /// Keeps a registered workload. Blocks on the disk.
    ///
    /// # Errors
    /// There are too many, or the disk fails.
    pub fn put_workload(&self, workload: &Workload) -> Result<(), StoreError> {
        let (_writer, transaction) = self.0.write()?;
        {
            let mut table = transaction.open_table(WORKLOADS)?;
            let name = workload.name.to_string();
            if table.len()? >= MOST_WORKLOADS && table.get(name.as_str())?.is_none() {
                return Err(StoreError::Full { what: "workloads", most: MOST_WORKLOADS as usize });
            }
            table.insert(name.as_str(), encode(&name, workload)?.as_slice())?;
            revocations::remember(&transaction, workload)?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Forgets a registered workload. Blocks on the disk.
    ///
    /// # Errors
    /// The disk fails.
    pub fn delete_workload(&self, name: &Name) -> Result<(), StoreError> {
        let (_writer, transaction) = self.0.write()?;
        transaction.open_table(WORKLOADS)?.remove(name.to_string().as_str())?;
        transaction.commit()?;
        Ok(())
    }

    /// The registered workloads that were kept. One that cannot be read is left out: it registers again. Blocks on
    /// the disk.
    pub fn workloads(&self) -> Vec<Workload> {
        self.read_workloads().unwrap_or_else(|error| {
            tracing::error!(%error, "the registered workloads cannot be read; they register again");
            Vec::new()
        })
    }

    fn read_workloads(&self) -> Result<Vec<Workload>, StoreError> {
        let table = self.0.db.begin_read()?.open_table(WORKLOADS)?;
        let mut found = Vec::new();
        for entry in table.iter()? {
            let (name, record) = entry?;
            match decode(name.value(), record.value()) {
                Ok(workload) => found.push(workload),
                Err(error) => tracing::warn!(%error, "a registered workload is forgotten"),
            }
        }
        Ok(found)
    }
}
