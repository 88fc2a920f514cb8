//! The open database file.
//!
//! After an error of the disk (a full one is enough) redb refuses every write until its file is opened anew. Nobody should
//! have to restart the control plane because a disk was full for a moment, so the next write does that.

use std::path::PathBuf;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use redb::{Database, ReadTransaction, ReadableDatabase, StorageError, TransactionError, WriteTransaction};

use super::{StoreError, open};

pub(super) struct Handle {
    state_dir: PathBuf,
    /// None after it failed and could not be opened again.
    db: RwLock<Option<Database>>,
}

impl Handle {
    pub(super) fn new(state_dir: PathBuf, db: Database) -> Self {
        Self { state_dir, db: RwLock::new(Some(db)) }
    }

    pub(super) fn begin_read(&self) -> Result<ReadTransaction, StoreError> {
        if self.db().is_none() {
            self.reopen()?;
        }
        Ok(self.db().as_ref().ok_or_else(closed)?.begin_read()?)
    }

    /// Only the holder of `writer` calls this.
    pub(super) fn begin_write(&self) -> Result<WriteTransaction, StoreError> {
        match self.db().as_ref().map(Database::begin_write) {
            None | Some(Err(TransactionError::Storage(StorageError::PreviousIo))) => {}
            Some(begun) => return Ok(begun?),
        }
        self.reopen()?;
        Ok(self.db().as_ref().ok_or_else(closed)?.begin_write()?)
    }

    /// What the disk of the state folder has left, in bytes. None: it does not say.
    pub(super) fn free_bytes(&self) -> Option<u64> {
        let disk = rustix::fs::statvfs(&self.state_dir).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// The old one has to let go of the file's lock first.
    fn reopen(&self) -> Result<(), StoreError> {
        let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
        drop(db.take());
        *db = Some(open::again(&self.state_dir)?);
        tracing::warn!("the store was opened again after an error of the disk");
        Ok(())
    }

    fn db(&self) -> RwLockReadGuard<'_, Option<Database>> {
        self.db.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn closed() -> StoreError {
    StoreError::Disk("it could not be opened again after an error".to_owned())
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use redb::backends::InMemoryBackend;
    use redb::{Builder, StorageBackend};

    use super::*;
    use crate::store::tables::{self, BLOBS};

    /// A disk that is full as long as the flag is set.
    #[derive(Debug)]
    struct Disk(InMemoryBackend, Arc<AtomicBool>);

    impl Disk {
        fn room(&self) -> io::Result<()> {
            if self.1.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }
    }

    impl StorageBackend for Disk {
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }
        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.0.read(offset, out)
        }
        fn set_len(&self, len: u64) -> io::Result<()> {
            self.room().and_then(|()| self.0.set_len(len))
        }
        fn sync_data(&self) -> io::Result<()> {
            self.room().and_then(|()| self.0.sync_data())
        }
        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.room().and_then(|()| self.0.write(offset, data))
        }
    }

    #[test]
    fn a_disk_that_was_full_for_a_moment_costs_no_restart() {
        let dir = tempfile::tempdir().unwrap();
        drop(open::database(dir.path()).unwrap());
        let full = Arc::new(AtomicBool::new(false));
        let disk = Disk(InMemoryBackend::new(), full.clone());
        let db = Builder::new().create_with_backend(disk).unwrap();
        tables::create(&db).unwrap();
        let handle = Handle::new(dir.path().to_owned(), db);
        full.store(true, Ordering::SeqCst);
        let write = |bytes: &[u8]| {
            let transaction = handle.begin_write()?;
            transaction.open_table(BLOBS)?.insert("a", bytes)?;
            transaction.commit().map_err(StoreError::from)
        };
        assert!(write(b"lost").is_err());
        write(b"kept").unwrap();
        let table = handle.begin_read().unwrap().open_table(BLOBS).unwrap();
        assert_eq!(table.get("a").unwrap().unwrap().value(), b"kept");
    }
}
