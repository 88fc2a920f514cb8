//! Opening the root: made at the first start, taken up at every later one.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aes_gcm::aead::OsRng;
use aes_gcm::aead::rand_core::RngCore;
use leno_certs::{Authority, CertError, Key, Zeroizing};
use time::OffsetDateTime;

use super::ROOT_LIFE;
use super::seal::{OpenedBy, Sealed};
use crate::store::{Store, StoreError};

/// What the user gave to open the root's key with; none: the key file in the state folder does.
pub type Passphrase = Option<Zeroizing<String>>;

const KEY_FILE: &str = "ca.key";
const KEY_BYTES: usize = 32;

/// Why the root could not be opened.
#[derive(Debug)]
pub enum OpenError {
    /// The passphrase is not the one that the key was encrypted with.
    WrongPassphrase,
    /// The key was encrypted with a passphrase, and none was given.
    PassphraseNeeded,
    /// A passphrase was given, but the key was encrypted with the key file.
    PassphraseNotUsed,
    /// The key file is not the one that the key was encrypted with.
    WrongKeyFile(PathBuf),
    /// The key file cannot be read or made.
    KeyFile(PathBuf, io::Error),
    /// The state belongs to another trust domain.
    TrustDomain { kept: String, asked: String },
    /// The folder was in use, but its store holds no root.
    Emptied(PathBuf),
    /// The record in the store is no such record.
    Damaged(String),
    /// A certificate or key could not be made.
    Certificate(CertError),
    /// The store failed.
    Store(StoreError),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongPassphrase => write!(f, "the passphrase does not open the CA key"),
            Self::PassphraseNeeded => write!(f, "the CA key is encrypted with a passphrase, and none was given"),
            Self::PassphraseNotUsed => {
                write!(
                    f,
                    "a passphrase was given, but the CA key is encrypted with the file {KEY_FILE} of the state folder"
                )
            }
            Self::WrongKeyFile(path) => write!(f, "{} does not open the CA key", path.display()),
            Self::KeyFile(path, why) => write!(f, "{}: {why}", path.display()),
            Self::TrustDomain { kept, asked } => {
                write!(f, "the state folder belongs to the trust domain {kept}, but {asked} was asked for")
            }
            Self::Emptied(folder) => {
                write!(f, "the store in {} is empty, though the folder has served a mesh before", folder.display())
            }
            Self::Damaged(why) => write!(f, "the CA record in the store is damaged: {why}"),
            Self::Certificate(why) => write!(f, "the root certificate: {why}"),
            Self::Store(why) => write!(f, "{why}"),
        }
    }
}

impl std::error::Error for OpenError {}

/// Opens the root of the store, or makes one at the first start. Derives a key, so it takes a moment.
///
/// # Errors
/// See [`OpenError`]; nothing is ever made anew in place of what cannot be opened.
pub fn open(
    store: &Store,
    state_dir: &Path,
    trust_domain: &str,
    passphrase: &Passphrase,
    now: OffsetDateTime,
) -> Result<Authority, OpenError> {
    let key_file = state_dir.join(KEY_FILE);
    match store.authority().map_err(OpenError::Store)? {
        Some(record) => take_up(&record, &key_file, trust_domain, passphrase),
        // The context is written after the root was stored, so where it lies a root was lost, and with a new one every sidecar
        // would be a stranger.
        None if state_dir.join(super::context::FILE).exists() => Err(OpenError::Emptied(state_dir.to_owned())),
        None => make(store, &key_file, trust_domain, passphrase, now),
    }
}

fn take_up(record: &[u8], key_file: &Path, trust_domain: &str, given: &Passphrase) -> Result<Authority, OpenError> {
    let sealed: Sealed = serde_json::from_slice(record).map_err(|why| OpenError::Damaged(why.to_string()))?;
    let (root, key) = match (sealed.opened_by, given) {
        (OpenedBy::Passphrase, Some(passphrase)) => {
            sealed.open(passphrase.as_bytes()).map_err(|_| OpenError::WrongPassphrase)?
        }
        (OpenedBy::Passphrase, None) => return Err(OpenError::PassphraseNeeded),
        (OpenedBy::KeyFile, Some(_)) => return Err(OpenError::PassphraseNotUsed),
        (OpenedBy::KeyFile, None) => {
            let secret = read_key_file(key_file).map_err(|why| OpenError::KeyFile(key_file.to_owned(), why))?;
            sealed.open(&secret).map_err(|_| OpenError::WrongKeyFile(key_file.to_owned()))?
        }
    };
    let key = Key::from_pkcs8(&key).map_err(OpenError::Certificate)?;
    let authority = Authority::from_parts(&root, key).map_err(OpenError::Certificate)?;
    if authority.trust_domain() != trust_domain {
        let (kept, asked) = (authority.trust_domain().to_owned(), trust_domain.to_owned());
        return Err(OpenError::TrustDomain { kept, asked });
    }
    Ok(authority)
}

fn make(
    store: &Store,
    key_file: &Path,
    trust_domain: &str,
    given: &Passphrase,
    now: OffsetDateTime,
) -> Result<Authority, OpenError> {
    // An hour early, so that a peer whose clock is behind can verify the first leaf.
    let authority =
        Authority::generate(trust_domain, now - time::Duration::HOUR, ROOT_LIFE).map_err(OpenError::Certificate)?;
    let (opened_by, secret) = match given {
        Some(passphrase) => (OpenedBy::Passphrase, Zeroizing::new(passphrase.as_bytes().to_vec())),
        None => {
            let secret = make_key_file(key_file).map_err(|why| OpenError::KeyFile(key_file.to_owned(), why))?;
            (OpenedBy::KeyFile, secret)
        }
    };
    let sealed = Sealed::seal(&secret, opened_by, authority.root_der(), &authority.key_pkcs8())
        .map_err(|_| OpenError::Damaged("it cannot be encrypted".to_owned()))?;
    let record = serde_json::to_vec(&sealed).map_err(|why| OpenError::Damaged(why.to_string()))?;
    store.set_authority(&record).map_err(OpenError::Store)?;
    Ok(authority)
}

fn read_key_file(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = std::fs::File::open(path)?;
    let mode = file.metadata()?.permissions().mode();
    if mode & 0o077 != 0 {
        let why = format!("others may read it (mode {:o}); `chmod 600` it", mode & 0o777);
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    let mut secret = Zeroizing::new(Vec::with_capacity(KEY_BYTES + 1));
    file.take(KEY_BYTES as u64 + 1).read_to_end(&mut secret)?;
    if secret.len() != KEY_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it does not have {KEY_BYTES} bytes")));
    }
    Ok(secret)
}

/// A crash between this and the commit of the record leaves a key file that opens nothing; the next start replaces it.
fn make_key_file(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut secret = Zeroizing::new(vec![0; KEY_BYTES]);
    OsRng.fill_bytes(&mut secret);
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    file.write_all(&secret)?;
    file.sync_all()?;
    Ok(secret)
}
