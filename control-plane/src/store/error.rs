//! What can go wrong with the store.

use std::fmt;
use std::path::PathBuf;

/// Why the store did not do it.
#[derive(Debug)]
pub enum StoreError {
    /// The state folder cannot be made or written.
    Folder { path: PathBuf, cause: std::io::Error },
    /// Another process has the store open.
    InUse { path: PathBuf },
    /// The file is no store, or a damaged one.
    Damaged { path: PathBuf, why: String },
    /// A record in the store cannot be read.
    Record { what: String, why: String },
    /// The disk failed or is full; nothing was changed.
    Disk(String),
    /// There is room for no more of these; nothing was changed.
    Full { what: &'static str, most: usize },
    /// The revision is not kept: never made, or too old.
    UnknownRevision { asked: u64, oldest: u64, newest: u64 },
    /// An object of that revision is no longer valid.
    Invalid { object: String, why: String },
    /// The control plane stops.
    Interrupted(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder { path, cause } => write!(
                f,
                "cannot write to the state folder {}: {cause}; make it writable for this user, or choose another with --state-dir",
                path.display()
            ),
            Self::InUse { path } => write!(
                f,
                "{} is in use by another control plane; stop that one, or choose another folder with --state-dir",
                path.display()
            ),
            Self::Damaged { path, why } => write!(
                f,
                "{} cannot be opened: {why}; put back a copy of it, or move it away to start anew (every sidecar then needs a new token)",
                path.display()
            ),
            Self::Record { what, why } => write!(f, "the record of {what} in the store cannot be read: {why}"),
            Self::Disk(why) => write!(
                f,
                "the store cannot be written or read: {why}; nothing was changed: see that the disk of the state folder has room and works, then try again"
            ),
            Self::Full { what, most } => write!(f, "there are {most} {what} already, which is the bound; delete some"),
            Self::UnknownRevision { asked, oldest: 0, .. } => {
                write!(f, "there is no revision {asked}: nothing was ever changed")
            }
            Self::UnknownRevision { asked, oldest, newest } => {
                write!(f, "there is no revision {asked}; kept are {oldest} to {newest}")
            }
            Self::Invalid { object, why } => {
                write!(f, "{object} as of that revision is not valid in this version: {why}")
            }
            Self::Interrupted(why) => write!(f, "the change was interrupted: {why}"),
        }
    }
}

impl std::error::Error for StoreError {}

macro_rules! from_redb {
    ($($error:ty),*) => {
        $(impl From<$error> for StoreError {
            fn from(error: $error) -> Self {
                Self::Disk(error.to_string())
            }
        })*
    };
}

from_redb!(redb::TransactionError, redb::TableError, redb::StorageError, redb::CommitError, redb::SetDurabilityError);
