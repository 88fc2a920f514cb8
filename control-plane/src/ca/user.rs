//! What a user of the REST API calls with: `leno-user.<id: 16 hex>.<secret: 32 bytes, base64url>`. The store keeps the hash of the secret
//! alone.

use aes_gcm::aead::OsRng;
use aes_gcm::aead::rand_core::RngCore;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use leno_certs::Zeroizing;
use sha2::{Digest, Sha256};

use super::token::{id_and_secret, new_id};

const PREFIX: &str = "leno-user";
/// Longest text that is looked at; a token has 70 bytes.
const MOST_BYTES: usize = 128;

/// The token of a user. It has no `Debug`, so that it cannot end up in a log.
pub struct UserToken {
    /// Its public part.
    pub id: String,
    secret: Zeroizing<[u8; 32]>,
}

impl UserToken {
    /// A new random one.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        let mut secret = Zeroizing::new([0; 32]);
        OsRng.fill_bytes(&mut *secret);
        Self { id: new_id(), secret }
    }

    /// Takes a token apart; none when it is none.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > MOST_BYTES {
            return None;
        }
        let mut parts = text.split('.');
        let (Some(PREFIX), Some(id), Some(secret), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return None;
        };
        let (id, secret) = id_and_secret(id, secret)?;
        Some(Self { id, secret })
    }

    /// What the store keeps of the secret.
    pub fn secret_sha256(&self) -> [u8; 32] {
        Sha256::digest(*self.secret).into()
    }

    /// The token as it is shown.
    pub fn to_text(&self) -> Zeroizing<String> {
        let secret = Zeroizing::new(URL_SAFE_NO_PAD.encode(*self.secret));
        Zeroizing::new(format!("{PREFIX}.{}.{}", self.id, *secret))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_shown_and_nothing_else_is_one() {
        let token = UserToken::new();
        let text = token.to_text();
        let read = UserToken::parse(&text).unwrap();
        assert_eq!((&read.id, read.secret_sha256()), (&token.id, token.secret_sha256()));
        let long = format!("{}.x", *text);
        for wrong in ["", "leno-user", "leno-user.0.x", &text[1..], &text[..text.len() - 4], long.as_str()] {
            assert!(UserToken::parse(wrong).is_none(), "{wrong}");
        }
    }
}
