//! The root's key at rest: AES-256-GCM under a key that argon2id derives (RFC 9106) from a passphrase or a key file.

use aes_gcm::aead::rand_core::RngCore;
use aes_gcm::aead::{Aead, KeyInit, OsRng, Payload};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use leno_certs::Zeroizing;
use serde::{Deserialize, Serialize};

/// One of OWASP's equal choices for argon2id, and the one that leaves the process small: 19 MiB, two passes, once a start.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// What a damaged record may ask for at most, so that it cannot take the machine's memory.
const MOST_MEMORY_KIB: u32 = 1024 * 1024;

/// What the secret is that opens the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum OpenedBy {
    Passphrase,
    KeyFile,
}

/// The root and its encrypted key as the store keeps them, JSON with base64 for bytes.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Sealed {
    version: u8,
    pub(super) opened_by: OpenedBy,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: String,
    nonce: String,
    key: String,
    root: String,
}

/// The record is damaged, or the secret is not the one that sealed it; the two cannot be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotOpened;

impl Sealed {
    /// Encrypts the key; the root is authenticated with it, so that no other can be put in its place.
    pub(super) fn seal(secret: &[u8], opened_by: OpenedBy, root: &[u8], key: &[u8]) -> Result<Self, NotOpened> {
        let (mut salt, mut nonce) = ([0; 16], [0; 12]);
        OsRng.fill_bytes(&mut salt);
        OsRng.fill_bytes(&mut nonce);
        let cipher = cipher(secret, &salt, MEMORY_KIB, PASSES, LANES)?;
        let sealed = cipher.encrypt(&Nonce::from(nonce), Payload { msg: key, aad: root }).map_err(|_| NotOpened)?;
        Ok(Self {
            version: 1,
            opened_by,
            memory_kib: MEMORY_KIB,
            passes: PASSES,
            lanes: LANES,
            salt: STANDARD.encode(salt),
            nonce: STANDARD.encode(nonce),
            key: STANDARD.encode(sealed),
            root: STANDARD.encode(root),
        })
    }

    /// The certificate that the key belongs to, base64.
    pub(super) fn root(&self) -> &str {
        &self.root
    }

    /// Gives the root and its key back.
    pub(super) fn open(&self, secret: &[u8]) -> Result<(Vec<u8>, Zeroizing<Vec<u8>>), NotOpened> {
        let decode = |text: &str| STANDARD.decode(text).map_err(|_| NotOpened);
        if self.version != 1 || self.memory_kib > MOST_MEMORY_KIB {
            return Err(NotOpened);
        }
        let nonce: [u8; 12] = decode(&self.nonce)?.try_into().map_err(|_| NotOpened)?;
        let (sealed, root) = (decode(&self.key)?, decode(&self.root)?);
        let cipher = cipher(secret, &decode(&self.salt)?, self.memory_kib, self.passes, self.lanes)?;
        let payload = Payload { msg: &sealed, aad: &root };
        let key = cipher.decrypt(&Nonce::from(nonce), payload).map_err(|_| NotOpened)?;
        Ok((root, Zeroizing::new(key)))
    }
}

fn cipher(secret: &[u8], salt: &[u8], memory: u32, passes: u32, lanes: u32) -> Result<Aes256Gcm, NotOpened> {
    let params = Params::new(memory, passes, lanes, Some(32)).map_err(|_| NotOpened)?;
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(secret, salt, &mut *key)
        .map_err(|_| NotOpened)?;
    Ok(Aes256Gcm::new(Key::<Aes256Gcm>::from_slice(&*key)))
}
