//! The limits that a shell gives a process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A connection is a file, and shells give a process 1,024 of them; up to the hard limit it may take them itself.
pub fn allow_many_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}
