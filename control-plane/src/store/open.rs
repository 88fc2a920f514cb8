//! Opening the file, and saying clearly why it cannot be.

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use redb::{Builder, Database, DatabaseError, StorageError};

use super::StoreError;
use super::tables;

const FILE: &str = "leno.redb";
/// The whole state of a mesh of thousands of objects is a few MiB.
const CACHE_BYTES: usize = 16 << 20;

/// Opens STATE_DIR/leno.redb. The folder is made 0700 when it is missing; one that is there keeps its mode, since it
/// may be shared. The file is 0600 in any case.
pub(super) fn database(dir: &Path) -> Result<Database, StoreError> {
    let path = dir.join(FILE);
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|cause| folder(dir, cause))?;
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(|cause| folder(dir, cause))?;
    file.set_permissions(Permissions::from_mode(0o600)).map_err(|cause| folder(dir, cause))?;
    drop(file);
    let db = builder().create(&path).map_err(|error| explain(dir, path, error))?;
    tables::create(&db)?;
    Ok(db)
}

/// Opens the file of a store that was open before, and never makes a new one.
pub(super) fn again(dir: &Path) -> Result<Database, StoreError> {
    let path = dir.join(FILE);
    builder().open(&path).map_err(|error| explain(dir, path, error))
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    // A damaged file is refused at the start instead of being found out in the middle of the night.
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

fn folder(dir: &Path, cause: io::Error) -> StoreError {
    StoreError::Folder { path: dir.to_owned(), cause }
}

fn explain(dir: &Path, path: PathBuf, error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => StoreError::InUse { path },
        DatabaseError::Storage(StorageError::Io(cause))
            if !matches!(cause.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
        {
            folder(dir, cause)
        }
        other => StoreError::Damaged { path, why: other.to_string() },
    }
}
