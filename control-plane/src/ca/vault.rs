//! What opens the keys at rest: a passphrase, or a key file in the state folder.

use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aes_gcm::aead::OsRng;
use aes_gcm::aead::rand_core::RngCore;
use leno_certs::{Key, Zeroizing};

use super::OpenError;
use super::root::Passphrase;
use super::seal::{OpenedBy, Sealed};

pub(super) const KEY_FILE: &str = "ca.key";
const KEY_BYTES: usize = 32;

/// Opens and seals keys. It holds the secret for as long as the process runs, as that holds the key itself.
pub struct Vault {
    opened_by: OpenedBy,
    secret: Zeroizing<Vec<u8>>,
    file: PathBuf,
}

impl Vault {
    /// The secret that was given, or that of the key file.
    pub(super) fn open(state_dir: &Path, given: &Passphrase) -> Result<Self, OpenError> {
        let file = state_dir.join(KEY_FILE);
        let (opened_by, secret) = match given {
            Some(passphrase) => (OpenedBy::Passphrase, Zeroizing::new(passphrase.as_bytes().to_vec())),
            None => {
                let secret = read_key_file(&file).map_err(|why| OpenError::KeyFile(file.clone(), why))?;
                (OpenedBy::KeyFile, secret)
            }
        };
        Ok(Self { opened_by, secret, file })
    }

    /// The secret that was given, or a new key file.
    pub(super) fn make(state_dir: &Path, given: &Passphrase) -> Result<Self, OpenError> {
        if given.is_none() {
            let file = state_dir.join(KEY_FILE);
            make_key_file(&file).map_err(|why| OpenError::KeyFile(file.clone(), why))?;
        }
        Self::open(state_dir, given)
    }

    /// Seals a key together with the certificate that it belongs to.
    pub(super) fn seal(&self, certificate: &[u8], key: &[u8]) -> Result<Sealed, OpenError> {
        Sealed::seal(&self.secret, self.opened_by, certificate, key)
            .map_err(|_| OpenError::Damaged("it cannot be encrypted".to_owned()))
    }

    /// Gives the key back of what was sealed with this certificate.
    pub(super) fn unseal(&self, sealed: &Sealed, certificate: &[u8]) -> Result<Key, OpenError> {
        let opened = sealed.open(&self.secret).map_err(|_| match self.opened_by {
            OpenedBy::Passphrase => OpenError::WrongPassphrase,
            OpenedBy::KeyFile => OpenError::WrongKeyFile(self.file.clone()),
        });
        let (root, key) = opened?;
        if root != certificate {
            return Err(OpenError::Damaged("a key in it belongs to another certificate".to_owned()));
        }
        Key::from_pkcs8(&key).map_err(OpenError::Certificate)
    }
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
fn make_key_file(path: &Path) -> io::Result<()> {
    let mut secret = Zeroizing::new(vec![0; KEY_BYTES]);
    OsRng.fill_bytes(&mut secret);
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    file.write_all(&secret)?;
    file.sync_all()
}
