//! Join tokens: `leno1.<id: 16 hex>.<secret: 32 bytes, base64url>.<SHA-256 of the root, hex>`.
//!
//! The hash of the root travels in the token, so that a sidecar knows from the first byte on whom it talks to. The store
//! keeps the hash of the secret alone, so that who reads the store cannot join.

use std::fmt;
use std::time::Duration;

use aes_gcm::aead::OsRng;
use aes_gcm::aead::rand_core::RngCore;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use leno_certs::{CONTROL_PLANE_NAMESPACE, SpiffeId, TrustBundle, Zeroizing};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::model::audit::Actor;
use crate::store::{Store, StoreError, TokenRecord};

/// Longest life of a token.
pub const MOST_TOKEN_TTL: Duration = Duration::from_secs(30 * 24 * 3600);
const PREFIX: &str = "leno1";
/// Longest text that is looked at; a token has 130 bytes.
const MOST_BYTES: usize = 256;

/// A token that was just made.
pub struct NewToken {
    /// By which it is revoked; its second part.
    pub id: String,
    /// The token itself; shown once and kept nowhere.
    pub token: Zeroizing<String>,
    /// Until when it can be redeemed.
    pub expires: OffsetDateTime,
}

/// Why no token was made.
#[derive(Debug)]
pub enum TokenError {
    /// Its life is not between one second and 30 days.
    Ttl(Duration),
    /// Nobody but the control plane itself may have an identity of its namespace.
    Reserved,
    /// The identity is of another trust domain.
    TrustDomain { theirs: String, ours: String },
    /// It cannot be kept.
    Store(StoreError),
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ttl(ttl) => write!(f, "a token lives between 1 second and 30 days, not {} seconds", ttl.as_secs()),
            Self::Reserved => write!(f, "the namespace {CONTROL_PLANE_NAMESPACE} is the control plane's own"),
            Self::TrustDomain { theirs, ours } => write!(f, "the identity is of {theirs}, this mesh is {ours}"),
            Self::Store(why) => write!(f, "the token cannot be kept: {why}"),
        }
    }
}

impl std::error::Error for TokenError {}

pub(super) fn create(
    store: &Store,
    bundle: &TrustBundle,
    id: &SpiffeId,
    ttl: Duration,
    now: OffsetDateTime,
    by: &Actor,
) -> Result<NewToken, TokenError> {
    if ttl < Duration::from_secs(1) || ttl > MOST_TOKEN_TTL {
        return Err(TokenError::Ttl(ttl));
    }
    if id.namespace() == CONTROL_PLANE_NAMESPACE {
        return Err(TokenError::Reserved);
    }
    if id.trust_domain() != bundle.trust_domain {
        let (theirs, ours) = (id.trust_domain().to_owned(), bundle.trust_domain.clone());
        return Err(TokenError::TrustDomain { theirs, ours });
    }
    let mut secret = Zeroizing::new([0; 32]);
    OsRng.fill_bytes(&mut *secret);
    let token = Token { id: new_id(), secret, root_sha256: bundle.root_hash() };
    let expires = now + ttl;
    let record = TokenRecord::new(id.to_string(), token.secret_sha256(), now, expires);
    store.insert_token(&token.id, &record, by).map_err(TokenError::Store)?;
    Ok(NewToken { token: token.to_text(), id: token.id, expires })
}

/// A random name for what is kept: 16 hex digits.
pub fn new_id() -> String {
    let mut name = [0; 8];
    OsRng.fill_bytes(&mut name);
    hex::encode(name)
}

/// A token taken apart.
pub(super) struct Token {
    pub(super) id: String,
    secret: Zeroizing<[u8; 32]>,
    pub(super) root_sha256: [u8; 32],
}

/// What the tokens of sidecars and of users have in common: 16 hex digits and 32 bytes.
pub(super) fn id_and_secret(id: &str, secret: &str) -> Option<(String, Zeroizing<[u8; 32]>)> {
    if id.len() != 16 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let decoded = Zeroizing::new(URL_SAFE_NO_PAD.decode(secret).ok()?);
    let mut secret = Zeroizing::new([0; 32]);
    if decoded.len() != secret.len() {
        return None;
    }
    secret.copy_from_slice(&decoded);
    Some((id.to_ascii_lowercase(), secret))
}

impl Token {
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.len() > MOST_BYTES {
            return None;
        }
        let parts: Vec<&str> = text.trim().split('.').collect();
        let [PREFIX, id, secret, root] = parts[..] else { return None };
        let (id, secret) = id_and_secret(id, secret)?;
        let mut root_sha256 = [0; 32];
        hex::decode_to_slice(root, &mut root_sha256).ok()?;
        Some(Self { id, secret, root_sha256 })
    }

    pub(super) fn secret_sha256(&self) -> [u8; 32] {
        Sha256::digest(*self.secret).into()
    }

    fn to_text(&self) -> Zeroizing<String> {
        let secret = Zeroizing::new(URL_SAFE_NO_PAD.encode(*self.secret));
        Zeroizing::new(format!("{PREFIX}.{}.{}.{}", self.id, *secret, hex::encode(self.root_sha256)))
    }
}
