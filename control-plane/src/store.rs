//! The state of the control plane: one database file, STATE_DIR/leno.redb.
//!
//! There is one writer at a time: whoever holds `writer`, from before its transaction begins until after what it
//! committed is published, so readers of [`Store::subscribe`] see the revisions in their order. Nothing is
//! acknowledged, and nothing is published, before its commit is on the disk (`Durability::Immediate`).

mod audit;
mod blobs;
mod error;
mod folder;
mod follow;
mod handle;
mod objects;
mod open;
mod revision;
mod revocations;
mod seal;
mod service_accounts;
mod tables;
mod times;
mod tokens;
mod trail;
mod users;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use redb::{Durability, WriteTransaction};
use tokio::sync::watch;

use crate::config::Problem;
use crate::model::{Committed, Revocations};

pub use audit::{MOST_ENTRIES, Page as AuditPage};
pub use error::StoreError;
pub use folder::FolderApplied;
pub use follow::Follower;
pub use revision::{Applied, Batch, Revision};
pub use revocations::MOST_REVOKED;
pub use service_accounts::{MOST_SHOWN, Showing, ShownToken};
pub use tables::InstanceRecord;
pub use tokens::{MOST_TOKENS, TokenRecord, TokenRefusal};
pub use trail::{Trail, Trailer};
pub use users::{MOST_USERS, UserRecord};

/// A handle on the store; cheap to clone. Reads and writes block on the disk except where they are `async`.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

/// A handle that does not keep the store open.
#[derive(Clone)]
pub struct WeakStore(Weak<Inner>);

impl WeakStore {
    /// The store, unless it was closed.
    pub fn upgrade(&self) -> Option<Store> {
        self.0.upgrade().map(Store)
    }
}

struct Inner {
    db: handle::Handle,
    /// Held by the one writer.
    writer: Mutex<()>,
    committed: watch::Sender<Arc<Committed>>,
    revocations: watch::Sender<Arc<Revocations>>,
    sealer: Arc<seal::Sealer>,
    /// Objects that were stored once and are no longer valid, as an older version may have left them.
    refused: Vec<Problem>,
}

impl Store {
    /// A handle for a task that may outlive whoever serves from the store.
    pub fn downgrade(&self) -> WeakStore {
        WeakStore(Arc::downgrade(&self.0))
    }

    /// What the disk of the state folder has left, in bytes. None: it does not say.
    pub fn free_bytes(&self) -> Option<u64> {
        self.0.db.free_bytes()
    }

    /// Opens the store of a state folder, which is made when it is not there.
    ///
    /// # Errors
    /// The folder cannot be made or written, another control plane has it open, or the file is damaged.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let db = open::database(state_dir)?;
        let sealer = Arc::new(seal::Sealer::open(state_dir)?);
        let (committed, refused) = objects::load(&db, &sealer)?;
        for problem in &refused {
            tracing::warn!(%problem, "a stored object is no longer valid and not in force");
        }
        let revocations = watch::Sender::new(Arc::new(revocations::load(&db)?));
        let committed = watch::Sender::new(Arc::new(committed));
        let db = handle::Handle::new(state_dir.to_owned(), db);
        Ok(Self(Arc::new(Inner { db, writer: Mutex::new(()), committed, revocations, sealer, refused })))
    }

    /// What is in force, now and after every commit.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Committed>> {
        self.0.committed.subscribe()
    }

    /// What is in force now.
    pub fn committed(&self) -> Arc<Committed> {
        self.0.committed.borrow().clone()
    }

    /// Objects that were stored once and are no longer valid.
    pub fn refused(&self) -> &[Problem] {
        &self.0.refused
    }
}

impl Inner {
    /// Begins the one write transaction; the guard is held until its result is published.
    fn write(&self) -> Result<(MutexGuard<'_, ()>, WriteTransaction), StoreError> {
        // A writer that panicked has aborted its transaction and published nothing.
        let guard = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut transaction = self.db.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        Ok((guard, transaction))
    }
}

/// Seconds since 1970.
fn unix_now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

/// Runs what blocks on the disk apart from the tasks that serve.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(StoreError::Interrupted(error.to_string())),
    }
}

#[cfg(test)]
mod tests;
