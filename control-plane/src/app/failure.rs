//! Errors of the parts as the one line that a person reads, with the exit code.

use std::io;
use std::path::Path;

use leno_runtime::failure::{Failure, exit};

use crate::ca::OpenError;
use crate::store::StoreError;

/// The store's own messages say what to do after a semicolon.
pub(super) fn of_store(why: &StoreError) -> Failure {
    let code = match why {
        StoreError::InUse { .. } => exit::UNAVAILABLE,
        _ => exit::CANNOT_CREATE,
    };
    let text = why.to_string();
    match text.split_once("; ") {
        Some((what, todo)) => Failure::new(code, what, todo),
        None => Failure::new(code, text, "look at the disk and the permissions of the state folder"),
    }
}

pub(super) fn of_ca(why: &OpenError) -> Failure {
    let (code, todo) = match why {
        OpenError::Store(why) => return of_store(why),
        OpenError::WrongPassphrase => {
            (exit::CONFIG, "give the one it was encrypted with, by LENO_CA_PASSPHRASE or --ca-passphrase-file")
        }
        OpenError::PassphraseNeeded => (exit::CONFIG, "give it by LENO_CA_PASSPHRASE or --ca-passphrase-file"),
        OpenError::PassphraseNotUsed => (exit::CONFIG, "start without LENO_CA_PASSPHRASE and --ca-passphrase-file"),
        OpenError::TrustDomain { .. } => (
            exit::CONFIG,
            "start with that --trust-domain, or give another --state-dir: a trust domain is fixed at the first start",
        ),
        OpenError::WrongKeyFile(_) | OpenError::KeyFile(..) => {
            (exit::CANNOT_CREATE, "put back the ca.key that was made together with this state folder")
        }
        OpenError::Emptied(_) => (
            exit::CANNOT_CREATE,
            "put back a copy of leno.redb, or start a new mesh in another --state-dir: the sidecars of the old one will not trust it",
        ),
        OpenError::Damaged(_) | OpenError::Certificate(_) => {
            (exit::CANNOT_CREATE, "put back a copy of the state folder, or start anew in another --state-dir")
        }
    };
    Failure::new(code, why.to_string(), todo)
}

pub(super) fn of_context(state_dir: &Path, why: &io::Error) -> Failure {
    let what = format!("cannot write {}: {why}", state_dir.join("admin.yaml").display());
    Failure::new(
        exit::CANNOT_CREATE,
        what,
        "make the state folder writable for this user, or choose another with --state-dir",
    )
}
