//! Opening the root: made at the first start, taken up at every later one.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use leno_certs::{Authority, CertError, Signer, Zeroizing};
use time::OffsetDateTime;

use super::ROOT_LIFE;
use super::record::{Kept, KeptKey, Origin, Record, decode, encode};
use super::seal::OpenedBy;
use super::signer::SocketSigner;
use super::vault::{KEY_FILE, Vault};
use crate::store::{Store, StoreError};

/// What the user gave to open the root's key with; none: the key file in the state folder does.
pub type Passphrase = Option<Zeroizing<String>>;

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

/// Opens the authority of the store, or makes one at the first start. Derives keys, so it takes a moment.
///
/// # Errors
/// See [`OpenError`]; nothing is ever made anew in place of what cannot be opened.
pub fn open(
    store: &Store,
    state_dir: &Path,
    trust_domain: &str,
    passphrase: &Passphrase,
    now: OffsetDateTime,
) -> Result<Opened, OpenError> {
    match store.authority().map_err(OpenError::Store)? {
        Some(record) => take_up(&record, state_dir, trust_domain, passphrase),
        // The context is written after the root was stored, so where it lies a root was lost, and with a new one every sidecar
        // would be a stranger.
        None if state_dir.join(super::context::FILE).exists() => Err(OpenError::Emptied(state_dir.to_owned())),
        None => make(store, state_dir, trust_domain, passphrase, now),
    }
}

fn take_up(record: &[u8], state_dir: &Path, trust_domain: &str, given: &Passphrase) -> Result<Opened, OpenError> {
    let record = Record::read(record).map_err(OpenError::Damaged)?;
    let sealed = |kept: &Kept| match &kept.key {
        KeptKey::Sealed(sealed) => Some(sealed.opened_by),
        KeptKey::Signer(_) => None,
    };
    let by = sealed(&record.current).or_else(|| record.other.as_ref().and_then(sealed));
    match (by, given) {
        (Some(OpenedBy::Passphrase), None) => return Err(OpenError::PassphraseNeeded),
        (Some(OpenedBy::KeyFile), Some(_)) => return Err(OpenError::PassphraseNotUsed),
        _ => {}
    }
    let vault = Vault::open(state_dir, given)?;
    let opened = Opened::of(record, vault, trust_domain)?;
    Ok(opened)
}

fn make(
    store: &Store,
    state_dir: &Path,
    trust_domain: &str,
    given: &Passphrase,
    now: OffsetDateTime,
) -> Result<Opened, OpenError> {
    let vault = Vault::make(state_dir, given)?;
    let (current, _) = generate(&vault, trust_domain, now)?;
    let record = Record::begin(current, now.unix_timestamp());
    store.set_authority(&record.write().map_err(OpenError::Damaged)?).map_err(OpenError::Store)?;
    Opened::of(record, vault, trust_domain)
}

/// A new root, sealed.
pub(super) fn generate(vault: &Vault, trust_domain: &str, now: OffsetDateTime) -> Result<(Kept, Authority), OpenError> {
    // An hour early, so that a peer whose clock is behind can verify the first leaf.
    let authority =
        Authority::generate(trust_domain, now - time::Duration::HOUR, ROOT_LIFE).map_err(OpenError::Certificate)?;
    let kept = keep(vault, &authority, None, Origin::Generated)?;
    Ok((kept, authority))
}

/// What is kept of an authority; `signer` is the socket of who holds its key.
pub(super) fn keep(
    vault: &Vault,
    authority: &Authority,
    signer: Option<PathBuf>,
    origin: Origin,
) -> Result<Kept, OpenError> {
    let chain: Vec<&[u8]> = authority.intermediates().iter().map(Vec::as_slice).chain([authority.root_der()]).collect();
    let key = match (signer, authority.key_pkcs8()) {
        (Some(socket), _) => KeptKey::Signer(socket),
        (None, Some(key)) => KeptKey::Sealed(vault.seal(chain[0], &key)?),
        (None, None) => return Err(OpenError::Damaged("the key of the authority is not at hand".to_owned())),
    };
    Ok(Kept { chain: chain.into_iter().map(encode).collect(), key, vouched: Vec::new(), origin })
}

/// The authorities that were opened, with what they are kept as.
pub struct Opened {
    pub(super) record: Record,
    pub(super) current: Arc<Authority>,
    pub(super) other: Option<Arc<Authority>>,
    pub(super) vault: Arc<Vault>,
}

impl Opened {
    fn of(record: Record, vault: Vault, trust_domain: &str) -> Result<Self, OpenError> {
        let current = Arc::new(restore(&record.current, &vault, trust_domain)?);
        let other = record.other.as_ref().map(|kept| restore(kept, &vault, trust_domain)).transpose()?.map(Arc::new);
        Ok(Self { record, current, other, vault: Arc::new(vault) })
    }

    /// Who signs.
    pub fn authority(&self) -> &Authority {
        &self.current
    }
}

fn restore(kept: &Kept, vault: &Vault, trust_domain: &str) -> Result<Authority, OpenError> {
    let chain: Result<Vec<Vec<u8>>, String> = kept.chain.iter().map(|text| decode(text)).collect();
    let chain = chain.map_err(OpenError::Damaged)?;
    let issuer = chain.first().ok_or_else(|| OpenError::Damaged("an authority in it has no certificate".to_owned()))?;
    let signer = match &kept.key {
        KeptKey::Sealed(sealed) => Signer::Here(vault.unseal(sealed, issuer)?),
        KeptKey::Signer(socket) => {
            Signer::remote(issuer, Arc::new(SocketSigner::new(socket.clone()))).map_err(OpenError::Certificate)?
        }
    };
    if kept.origin == Origin::Imported {
        return Authority::restore(chain, signer, trust_domain).map_err(OpenError::Certificate);
    }
    let Signer::Here(key) = signer else {
        return Err(OpenError::Damaged("a root of our own is held by somebody else".to_owned()));
    };
    let authority = Authority::from_parts(issuer, key).map_err(OpenError::Certificate)?;
    if authority.trust_domain() != trust_domain {
        let (kept, asked) = (authority.trust_domain().to_owned(), trust_domain.to_owned());
        return Err(OpenError::TrustDomain { kept, asked });
    }
    Ok(authority)
}
