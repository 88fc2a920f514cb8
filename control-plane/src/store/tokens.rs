//! Join tokens: only the hash of a secret is kept, and a token is good once.

use redb::{ReadableTable, ReadableTableMetadata, Table};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use time::OffsetDateTime;

use super::tables::{TOKENS, decode, encode};
use super::{Store, StoreError, audit};
use crate::model::audit::{Actor, Event};

/// Most tokens that are kept, used ones included.
pub const MOST_TOKENS: usize = 10_000;
/// A token is remembered for this long after its end, so that a late caller learns that it has expired, and not that
/// it never was. Seconds.
const REMEMBERED: i64 = 24 * 3600;

/// What is kept of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// The SPIFFE ID that it is bound to.
    pub identity: String,
    /// Hash of its secret.
    pub secret_sha256: [u8; 32],
    /// Seconds since 1970.
    pub created_unix: i64,
    /// Seconds since 1970; it is good until then.
    pub expires_unix: i64,
    /// Whether it was redeemed.
    pub used: bool,
    /// Whether it was made void.
    #[serde(default)]
    pub revoked: bool,
}

impl TokenRecord {
    /// The record of a new token.
    pub fn new(identity: String, secret_sha256: [u8; 32], created: OffsetDateTime, expires: OffsetDateTime) -> Self {
        let (created_unix, expires_unix) = (created.unix_timestamp(), expires.unix_timestamp());
        Self { identity, secret_sha256, created_unix, expires_unix, used: false, revoked: false }
    }
}

/// Why a token is refused.
#[derive(Debug)]
pub enum TokenRefusal {
    /// It was never made, or its secret is wrong.
    Unknown,
    /// It was redeemed before.
    Used,
    /// Its time is over.
    Expired,
    /// It was made void.
    Revoked,
    /// The store failed; the token may still be good.
    Store(StoreError),
}

impl<E: Into<StoreError>> From<E> for TokenRefusal {
    fn from(error: E) -> Self {
        Self::Store(error.into())
    }
}

impl Store {
    /// Keeps a new token. Blocks on the disk.
    ///
    /// # Errors
    /// There are too many that are not over, or the disk fails.
    pub fn insert_token(&self, id: &str, record: &TokenRecord, actor: &Actor) -> Result<(), StoreError> {
        let (_writer, transaction) = self.0.write()?;
        {
            let mut tokens = transaction.open_table(TOKENS)?;
            if tokens.len()? >= MOST_TOKENS as u64 {
                purge(&mut tokens, record.created_unix - REMEMBERED)?;
            }
            if tokens.len()? >= MOST_TOKENS as u64 {
                purge(&mut tokens, record.created_unix)?;
            }
            if tokens.len()? >= MOST_TOKENS as u64 {
                return Err(StoreError::Full { what: "tokens", most: MOST_TOKENS });
            }
            tokens.insert(id, encode("the token", record)?.as_slice())?;
        }
        let what = format!("join token {id} for {}", record.identity);
        audit::append(&transaction, &Event::done(actor, "token.create", what))?;
        transaction.commit()?;
        Ok(())
    }

    /// Every token that is remembered, by its id. Blocks on the disk.
    ///
    /// # Errors
    /// The disk fails.
    pub fn tokens(&self) -> Result<Vec<(String, TokenRecord)>, StoreError> {
        let table = self.0.db.begin_read()?.open_table(TOKENS)?;
        let mut found = Vec::new();
        for entry in table.iter()? {
            let (id, record) = entry?;
            found.push((id.value().to_owned(), decode("a token", record.value())?));
        }
        Ok(found)
    }

    /// Redeems a token: it is marked as used on the disk before this returns, so no crash makes it good again. Blocks
    /// on the disk. A wrong secret spends nothing, else whoever has seen an id could spend it.
    ///
    /// # Errors
    /// The token is not good, or the disk fails.
    pub fn consume_token(
        &self,
        id: &str,
        secret_sha256: [u8; 32],
        now: OffsetDateTime,
        address: &str,
    ) -> Result<TokenRecord, TokenRefusal> {
        let (_writer, transaction) = self.0.write()?;
        let record = {
            let mut tokens = transaction.open_table(TOKENS)?;
            let found = tokens.get(id)?.map(|found| decode::<TokenRecord>("a token", found.value())).transpose()?;
            let mut record = found.ok_or(TokenRefusal::Unknown)?;
            if !bool::from(record.secret_sha256.ct_eq(&secret_sha256)) {
                return Err(TokenRefusal::Unknown);
            }
            if record.revoked {
                return Err(TokenRefusal::Revoked);
            }
            if record.used {
                return Err(TokenRefusal::Used);
            }
            if record.expires_unix <= now.unix_timestamp() {
                return Err(TokenRefusal::Expired);
            }
            record.used = true;
            tokens.insert(id, encode("the token", &record)?.as_slice())?;
            record
        };
        let actor = Actor { address: address.to_owned(), ..Actor::from(record.identity.as_str()) };
        audit::append(&transaction, &Event::done(&actor, "join", format!("join token {id}")))?;
        transaction.commit()?;
        Ok(record)
    }
}

/// Forgets the tokens whose time was over before `then`.
fn purge(tokens: &mut Table<'_, &'static str, &'static [u8]>, then: i64) -> Result<(), StoreError> {
    // A record that cannot be read is of no use to anybody.
    tokens
        .retain(|_, record| decode::<TokenRecord>("a token", record).is_ok_and(|record| record.expires_unix > then))?;
    Ok(())
}
