//! What is in Secrets, at rest: AES-256-GCM under a key that lies in a file of its own, so that neither a copy of the database
//! nor a look into it tells anything. The name of the object is authenticated, so that no value can be put under another name.

use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use aes_gcm::aead::rand_core::RngCore;
use aes_gcm::aead::{Aead, KeyInit, OsRng, Payload};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use leno_certs::Zeroizing;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::StoreError;

const KEY_FILE: &str = "secrets.key";
const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;
/// Begins what stands in place of `data`, which is never a text otherwise.
const SEALED: &str = "sealed:v1:";

/// Encrypts and decrypts what is in Secrets.
pub(super) struct Sealer {
    cipher: Aes256Gcm,
    /// Of the key, for fingerprints that say nothing without it.
    salt: [u8; 32],
}

impl Sealer {
    /// Takes up the key of a state folder, or makes one. A key that is lost is made anew, and what was sealed with it has to be
    /// applied again.
    pub(super) fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let path = state_dir.join(KEY_FILE);
        let key = match read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(&path),
            found => found,
        };
        let key = key.map_err(|cause| StoreError::Folder { path, cause })?;
        let salt = Sha256::digest([b"fingerprint".as_slice(), &*key].concat()).into();
        Ok(Self { cipher: Aes256Gcm::new(Key::<Aes256Gcm>::from_slice(&key)), salt })
    }

    /// An object as it is stored under `key`.
    pub(super) fn sealed(&self, key: &str, value: &Value) -> Result<Value, StoreError> {
        let mut value = value.clone();
        if !is_secret(&value) || !value.get("data").is_some_and(Value::is_object) {
            return Ok(value);
        }
        let failed = |why: String| StoreError::Record { what: key.to_owned(), why };
        let plain = serde_json::to_vec(&value["data"]).map(Zeroizing::new).map_err(|why| failed(why.to_string()))?;
        let mut nonce = [0; NONCE_BYTES];
        OsRng.fill_bytes(&mut nonce);
        let payload = Payload { msg: &plain, aad: key.as_bytes() };
        let sealed = self.cipher.encrypt(&Nonce::from(nonce), payload);
        let sealed = sealed.map_err(|_| failed("it cannot be encrypted".to_owned()))?;
        value["data"] = Value::String(format!("{SEALED}{}", STANDARD.encode([nonce.as_slice(), &sealed].concat())));
        Ok(value)
    }

    /// An object as it was written.
    pub(super) fn opened(&self, key: &str, value: &Value) -> Result<Value, StoreError> {
        let mut value = value.clone();
        let text = value.get("data").and_then(Value::as_str).and_then(|text| text.strip_prefix(SEALED));
        let Some(text) = text.filter(|_| is_secret(&value)) else { return Ok(value) };
        let data = self.decrypt(key, text).ok_or_else(|| StoreError::Record {
            what: key.to_owned(),
            why: format!("it does not open with {KEY_FILE}; put that file back, or apply the Secret again"),
        })?;
        value["data"] = data;
        Ok(value)
    }

    fn decrypt(&self, key: &str, text: &str) -> Option<Value> {
        let bytes = STANDARD.decode(text).ok()?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_BYTES)?;
        let nonce: [u8; NONCE_BYTES] = nonce.try_into().ok()?;
        let payload = Payload { msg: sealed, aad: key.as_bytes() };
        let plain = self.cipher.decrypt(&Nonce::from(nonce), payload).map(Zeroizing::new).ok()?;
        serde_json::from_slice(&plain).ok()
    }

    /// What tells two versions of an object apart; a Secret's says nothing to who does not have the key.
    pub(super) fn fingerprint(&self, value: &Value) -> String {
        let mut hash = Sha256::new();
        if is_secret(value) {
            hash.update(self.salt);
        }
        hash.update(value.to_string().as_bytes());
        hex::encode(hash.finalize())
    }
}

fn is_secret(value: &Value) -> bool {
    value.get("kind").and_then(Value::as_str) == Some("Secret")
}

fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = std::fs::File::open(path)?;
    let mode = file.metadata()?.permissions().mode();
    if mode & 0o077 != 0 {
        let why = format!("others may read it (mode {:o}); `chmod 600` it", mode & 0o777);
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    let mut key = Zeroizing::new(Vec::with_capacity(KEY_BYTES + 1));
    file.take(KEY_BYTES as u64 + 1).read_to_end(&mut key)?;
    if key.len() != KEY_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it does not have {KEY_BYTES} bytes")));
    }
    Ok(key)
}

/// Written beside and put in its place whole, so that a crash leaves no half of a key.
fn make(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut key = Zeroizing::new(vec![0; KEY_BYTES]);
    OsRng.fill_bytes(&mut key);
    let partial = path.with_extension("key.new");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    file.write_all(&key)?;
    file.sync_all()?;
    std::fs::rename(&partial, path)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_secret_is_sealed_under_its_name_and_opens_with_its_key_alone() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let sealer = Sealer::open(dir.path()).unwrap();
        let secret = json!({"kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "aHVudGVyMg=="}});
        let sealed = sealer.sealed("Secret/d/s", &secret).unwrap();
        assert!(sealed["data"].is_string() && !sealed.to_string().contains("aHVudGVyMg"));
        assert_ne!(sealed, sealer.sealed("Secret/d/s", &secret).unwrap(), "a nonce is never used twice");
        assert_eq!(Sealer::open(dir.path()).unwrap().opened("Secret/d/s", &sealed).unwrap(), secret);
        assert!(sealer.opened("Secret/d/t", &sealed).is_err());
        assert!(Sealer::open(other.path()).unwrap().opened("Secret/d/s", &sealed).is_err());
        let map = json!({"kind": "ConfigMap", "data": {"a": "b"}});
        assert_eq!(sealer.sealed("ConfigMap/d/m", &map).unwrap(), map);
    }

    #[test]
    fn a_key_that_others_may_read_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        Sealer::open(dir.path()).unwrap();
        let path = dir.path().join(KEY_FILE);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Sealer::open(dir.path()).is_err());
    }
}
