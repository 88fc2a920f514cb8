//! Which service-account tokens were shown, and by whose key: so that one that was stolen is of no use.

use redb::{ReadableTable, ReadableTableMetadata};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::tables::{SHOWN_TOKENS, decode, encode};
use super::{Store, StoreError};

/// Most tokens that are remembered at a time. Each is forgotten when it has expired.
pub const MOST_SHOWN: u64 = 100_000;

/// What is kept of a token that was shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownToken {
    /// SHA-256 of the public key that was signed for.
    pub key_sha256: [u8; 32],
    /// Seconds since 1970; nobody takes the token from then on.
    pub forget_unix: i64,
    /// Whose it was, for who reads the store.
    pub identity: String,
}

/// Whether a token may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Showing {
    /// It is the first time, or the same key again, as when an answer was lost.
    Fine,
    /// Another key used it before.
    OfAnother,
}

impl Store {
    /// Binds a token to a key: the first one that shows it. That is on the disk before this returns, so no crash makes the token good
    /// for another. Blocks on the disk.
    ///
    /// # Errors
    /// Too many tokens that have not expired were shown, or the disk fails.
    pub fn show_token(&self, fingerprint: &[u8; 32], shown: &ShownToken, now: i64) -> Result<Showing, StoreError> {
        let id = hex::encode(fingerprint);
        let (_writer, transaction) = self.0.write()?;
        {
            let mut table = transaction.open_table(SHOWN_TOKENS)?;
            let before = table.get(id.as_str())?.map(|found| decode::<ShownToken>("a shown token", found.value()));
            if let Some(before) = before.transpose()? {
                let same = bool::from(before.key_sha256.ct_eq(&shown.key_sha256));
                return Ok(if same { Showing::Fine } else { Showing::OfAnother });
            }
            if table.len()? >= MOST_SHOWN {
                table.retain(|_, record| {
                    // One that cannot be read may still be good.
                    decode::<ShownToken>("a shown token", record).map_or(true, |record| record.forget_unix > now)
                })?;
            }
            if table.len()? >= MOST_SHOWN {
                return Err(StoreError::Full { what: "service-account tokens", most: MOST_SHOWN as usize });
            }
            table.insert(id.as_str(), encode("the shown token", shown)?.as_slice())?;
        }
        transaction.commit()?;
        Ok(Showing::Fine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(key: u8) -> ShownToken {
        ShownToken { key_sha256: [key; 32], forget_unix: 100, identity: "spiffe://t/ns/a/sa/b".to_owned() }
    }

    #[test]
    fn a_token_is_its_first_keys_over_every_restart() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.show_token(&[1; 32], &shown(1), 0).unwrap(), Showing::Fine);
        assert_eq!(store.show_token(&[1; 32], &shown(1), 0).unwrap(), Showing::Fine, "the answer was lost");
        assert_eq!(store.show_token(&[1; 32], &shown(2), 0).unwrap(), Showing::OfAnother);
        drop(store);
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.show_token(&[1; 32], &shown(2), 0).unwrap(), Showing::OfAnother);
        assert_eq!(store.show_token(&[2; 32], &shown(2), 0).unwrap(), Showing::Fine, "another token");
    }

    #[test]
    fn of_too_many_tokens_those_that_expired_make_room_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        {
            // As that many joins would leave it, in one transaction.
            let (_writer, transaction) = store.0.write().unwrap();
            let mut table = transaction.open_table(SHOWN_TOKENS).unwrap();
            let record = encode("a token", &shown(1)).unwrap();
            for n in 0..MOST_SHOWN {
                table.insert(format!("{n:064x}").as_str(), record.as_slice()).unwrap();
            }
            drop(table);
            transaction.commit().unwrap();
        }
        let full = store.show_token(&[255; 32], &shown(2), 99);
        assert!(matches!(full, Err(StoreError::Full { .. })), "{full:?}");
        assert_eq!(store.show_token(&[0; 32], &shown(2), 99).unwrap(), Showing::OfAnother, "it is remembered");
        assert_eq!(store.show_token(&[255; 32], &shown(2), 100).unwrap(), Showing::Fine);
    }
}
