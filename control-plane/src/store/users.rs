//! Users of the REST API: only the hash of a user's secret is kept.

use redb::{ReadableTable, ReadableTableMetadata};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::tables::{USERS, decode, encode};
use super::{Store, StoreError, audit, blocking};
use crate::model::Role;
use crate::model::audit::{Actor, Event};

/// Most users.
pub const MOST_USERS: usize = 1_000;

/// What is kept of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRecord {
    pub name: String,
    pub role: Role,
    /// SHA-256 of its secret, which has 256 random bits: nothing slower is needed to keep it from being guessed.
    pub secret_sha256: [u8; 32],
    /// Who made it.
    pub by: String,
    /// Seconds since 1970.
    pub created_unix: i64,
    /// Seconds since 1970; none: until it is revoked.
    pub expires_unix: Option<i64>,
}

impl Store {
    /// Keeps a new user; false when there is one of that name already, unless its time is over.
    ///
    /// # Errors
    /// There are too many, or the disk fails.
    pub async fn insert_user(&self, id: String, record: UserRecord, actor: &Actor) -> Result<bool, StoreError> {
        let (store, actor) = (self.clone(), actor.clone());
        blocking(move || store.insert_user_now(&id, &record, &actor)).await
    }

    fn insert_user_now(&self, id: &str, record: &UserRecord, actor: &Actor) -> Result<bool, StoreError> {
        let (_writer, transaction) = self.0.write()?;
        {
            let mut users = transaction.open_table(USERS)?;
            users.retain(|_, kept| {
                decode::<UserRecord>("a user", kept).map_or(true, |kept| !kept.is_over(record.created_unix))
            })?;
            for entry in users.iter()? {
                if decode::<UserRecord>("a user", entry?.1.value())?.name == record.name {
                    return Ok(false);
                }
            }
            if users.len()? >= MOST_USERS as u64 {
                return Err(StoreError::Full { what: "users", most: MOST_USERS });
            }
            users.insert(id, encode("the user", record)?.as_slice())?;
        }
        let what = format!("user {} with the role {}", record.name, record.role);
        audit::append(&transaction, &Event { detail: format!("id {id}"), ..Event::done(actor, "user.create", what) })?;
        transaction.commit()?;
        Ok(true)
    }

    /// Revokes a user by its name; false when there is none.
    ///
    /// # Errors
    /// The disk fails.
    pub async fn remove_user(&self, name: &str, reason: &str, actor: &Actor) -> Result<bool, StoreError> {
        let (store, name, reason, actor) = (self.clone(), name.to_owned(), reason.to_owned(), actor.clone());
        blocking(move || store.remove_user_now(&name, reason, &actor)).await
    }

    fn remove_user_now(&self, name: &str, reason: String, actor: &Actor) -> Result<bool, StoreError> {
        let (_writer, transaction) = self.0.write()?;
        let found = {
            let mut users = transaction.open_table(USERS)?;
            let before = users.len()?;
            users.retain(|_, kept| decode::<UserRecord>("a user", kept).map_or(true, |kept| kept.name != name))?;
            users.len()? < before
        };
        if !found {
            transaction.abort()?;
            return Ok(false);
        }
        let event = Event { detail: reason, ..Event::done(actor, "user.revoke", format!("user {name}")) };
        audit::append(&transaction, &event)?;
        transaction.commit()?;
        Ok(true)
    }

    /// The user that shows this secret, if its time is not over. Blocks on the disk.
    ///
    /// # Errors
    /// The disk fails.
    pub fn user(&self, id: &str, secret_sha256: [u8; 32], now_unix: i64) -> Result<Option<UserRecord>, StoreError> {
        let table = self.0.db.begin_read()?.open_table(USERS)?;
        let found = table.get(id)?.map(|found| decode::<UserRecord>("a user", found.value())).transpose()?;
        Ok(found.filter(|user| bool::from(user.secret_sha256.ct_eq(&secret_sha256)) && !user.is_over(now_unix)))
    }

    /// All users with their ids. Blocks on the disk.
    ///
    /// # Errors
    /// The disk fails.
    pub fn users(&self) -> Result<Vec<(String, UserRecord)>, StoreError> {
        let table = self.0.db.begin_read()?.open_table(USERS)?;
        let mut found = Vec::new();
        for entry in table.iter()? {
            let (id, record) = entry?;
            found.push((id.value().to_owned(), decode("a user", record.value())?));
        }
        Ok(found)
    }
}

impl UserRecord {
    /// Whether its time is over.
    pub fn is_over(&self, now_unix: i64) -> bool {
        self.expires_unix.is_some_and(|end| end <= now_unix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, expires_unix: Option<i64>, created_unix: i64) -> UserRecord {
        let (name, by) = (name.to_owned(), "admin".to_owned());
        UserRecord { name, role: Role::Viewer, secret_sha256: [7; 32], by, created_unix, expires_unix }
    }

    #[tokio::test]
    async fn a_user_is_good_by_its_secret_until_its_end_and_its_name_is_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let admin = Actor::from("admin");
        assert!(store.insert_user("1".into(), user("eve", Some(100), 0), &admin).await.unwrap());
        assert!(!store.insert_user("2".into(), user("eve", None, 50), &admin).await.unwrap(), "the name is taken");
        assert!(store.user("1", [7; 32], 99).unwrap().is_some());
        for (id, secret, now) in [("1", [8; 32], 99), ("1", [7; 32], 100), ("2", [7; 32], 99)] {
            assert!(store.user(id, secret, now).unwrap().is_none(), "{id} {now}");
        }
        assert!(store.insert_user("3".into(), user("eve", None, 100), &admin).await.unwrap(), "the first is over");
        assert_eq!(store.users().unwrap().len(), 1);
        assert!(store.remove_user("eve", "left", &admin).await.unwrap());
        assert!(!store.remove_user("eve", "left", &admin).await.unwrap());
        let actions: Vec<_> = store.audit(None, 9).unwrap().entries.into_iter().map(|e| e.action).collect();
        assert_eq!(actions, ["user.create", "user.create", "user.revoke"]);
    }
}
