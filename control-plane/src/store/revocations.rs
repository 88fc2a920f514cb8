//! Revocations. Each is a revision of its own, so that whoever waits for that revision waits for every sidecar to have it.

use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable, Table, WriteTransaction};
use tokio::sync::watch;

use super::revision::{Cause, Edit};
use super::tables::{INSTANCES, InstanceRecord, REVOCATIONS, TOKENS, decode, encode};
use super::{Inner, Store, StoreError, audit, blocking, unix_now};
use crate::model::audit::{Actor, Event};
use crate::model::{Name, Revocation, Revocations, Workload};

/// Most sidecars and identities that are revoked at a time.
pub const MOST_REVOKED: usize = 10_000;
/// Most sidecars that are remembered, those included that are gone.
const MOST_INSTANCES: usize = 50_000;
/// Most sidecars that are remembered under one name; the newest.
const MOST_OF_A_NAME: usize = 16;

impl Store {
    /// Who is revoked, now and after every change.
    pub fn revocations(&self) -> watch::Receiver<Arc<Revocations>> {
        self.0.revocations.subscribe()
    }

    /// Keeps a revocation; gives the revision that it is.
    ///
    /// # Errors
    /// There are too many, or the disk fails; nothing is changed then.
    pub async fn revoke(&self, revocation: Revocation, actor: &Actor) -> Result<u64, StoreError> {
        let (inner, actor) = (self.0.clone(), actor.clone());
        blocking(move || inner.revoke(&revocation, &actor)).await
    }

    /// Takes a revocation back; gives the revision that this is, or none when there is no such revocation.
    ///
    /// # Errors
    /// The disk fails; nothing is changed then.
    pub async fn undo_revocation(&self, id: &str, actor: &Actor, reason: &str) -> Result<Option<u64>, StoreError> {
        let (inner, id, actor, reason) = (self.0.clone(), id.to_owned(), actor.clone(), reason.to_owned());
        blocking(move || inner.undo(&id, &actor, &reason)).await
    }

    /// The sidecars that have registered under a name lately, those that are gone included. Blocks on the disk.
    ///
    /// # Errors
    /// The disk fails.
    pub fn instances(&self, name: &Name) -> Result<Vec<InstanceRecord>, StoreError> {
        let table = self.0.db.begin_read()?.open_table(INSTANCES)?;
        Ok(of_name(&table, name)?.into_iter().map(|(_, record)| record).collect())
    }

    /// Makes an unused join token void; false when there is none that could still be redeemed.
    ///
    /// # Errors
    /// The disk fails.
    pub fn revoke_token(&self, id: &str, actor: &Actor) -> Result<bool, StoreError> {
        let (_writer, transaction) = self.0.write()?;
        let voided = {
            let mut tokens = transaction.open_table(TOKENS)?;
            let found =
                tokens.get(id)?.map(|found| decode::<super::TokenRecord>("a token", found.value())).transpose()?;
            match found {
                Some(mut record) if !record.used && !record.revoked => {
                    record.revoked = true;
                    tokens.insert(id, encode("the token", &record)?.as_slice())?;
                    true
                }
                _ => false,
            }
        };
        if voided {
            audit::append(&transaction, &Event::done(actor, "token.revoke", format!("join token {id}")))?;
        }
        transaction.commit()?;
        Ok(voided)
    }
}

impl Inner {
    fn revoke(&self, revocation: &Revocation, actor: &Actor) -> Result<u64, StoreError> {
        let (_writer, transaction) = self.write()?;
        let revocations = {
            let mut table = transaction.open_table(REVOCATIONS)?;
            purge(&mut table, unix_now())?;
            table.insert(revocation.id.as_str(), encode("the revocation", revocation)?.as_slice())?;
            read(&table)?
        };
        if revocations.count() > MOST_REVOKED {
            return Err(StoreError::Full { what: "revocations", most: MOST_REVOKED });
        }
        let what = format!("revoke {}", text(revocation));
        let message = with_reason(what, &revocation.reason);
        self.publish(transaction, revocations, &Cause { actor, action: "revoke", message: &message })
    }

    fn undo(&self, id: &str, actor: &Actor, reason: &str) -> Result<Option<u64>, StoreError> {
        let (_writer, transaction) = self.write()?;
        let (gone, revocations) = {
            let mut table = transaction.open_table(REVOCATIONS)?;
            let gone =
                table.remove(id)?.map(|found| decode::<Revocation>("a revocation", found.value())).transpose()?;
            (gone, read(&table)?)
        };
        let Some(gone) = gone else {
            transaction.abort()?;
            return Ok(None);
        };
        let what = format!("undo the revocation {id} of {}", text(&gone));
        let message = with_reason(what, reason);
        self.publish(transaction, revocations, &Cause { actor, action: "revoke.undo", message: &message }).map(Some)
    }

    /// Published before the revision is: who sees the revision sees them.
    fn publish(
        &self,
        transaction: WriteTransaction,
        revocations: Revocations,
        cause: &Cause<'_>,
    ) -> Result<u64, StoreError> {
        let edit = Edit::begin(&self.committed.borrow(), &self.sealer);
        let before = || drop(self.revocations.send_replace(Arc::new(revocations)));
        Ok(self.commit_and(transaction, edit, cause, before)?.revision)
    }
}

fn with_reason(what: String, reason: &str) -> String {
    if reason.is_empty() { what } else { format!("{what}: {reason}") }
}

fn text(revocation: &Revocation) -> String {
    match &revocation.target {
        crate::model::Target::Workload { name, .. } => format!("workload {name}"),
        crate::model::Target::Identity(id) => id.clone(),
    }
}

/// What was revoked when the store was last open, without what has ended since.
pub(super) fn load(db: &Database) -> Result<Revocations, StoreError> {
    read(&db.begin_read()?.open_table(REVOCATIONS)?)
}

/// What has not ended. One that cannot be read is an error: to go on without it would let somebody in again.
fn read(table: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<Revocations, StoreError> {
    let (now, mut all) = (unix_now(), Vec::new());
    for entry in table.iter()? {
        let revocation: Revocation = decode("a revocation", entry?.1.value())?;
        all.extend(Some(revocation).filter(|r| r.expires_unix.is_none_or(|end| end > now)));
    }
    Ok(all.into_iter().collect())
}

fn purge(table: &mut Table<'_, &'static str, &'static [u8]>, now: i64) -> Result<(), StoreError> {
    let lives = |record: &[u8]| {
        decode::<Revocation>("a revocation", record).map_or(true, |r| r.expires_unix.is_none_or(|end| end > now))
    };
    table.retain(|_, record| lives(record))?;
    Ok(())
}

/// Remembers whose certificate a workload has registered with, in the transaction that keeps the workload.
pub(super) fn remember(transaction: &WriteTransaction, workload: &Workload) -> Result<(), StoreError> {
    use redb::ReadableTableMetadata as _;
    let (Some(lineage), Some(identity)) = (&workload.lineage, &workload.identity) else { return Ok(()) };
    let mut table = transaction.open_table(INSTANCES)?;
    let record = InstanceRecord { lineage: lineage.to_string(), identity: identity.clone(), seen_unix: unix_now() };
    let key = format!("{}/{lineage}", workload.name);
    table.insert(key.as_str(), encode("the instance", &record)?.as_slice())?;
    let mut held = of_name(&table, &workload.name)?;
    held.sort_by_key(|(_, record)| record.seen_unix);
    for (key, _) in held.iter().rev().skip(MOST_OF_A_NAME) {
        table.remove(key.as_str())?;
    }
    if table.len()? > MOST_INSTANCES as u64 {
        let mut all = Vec::new();
        for entry in table.iter()? {
            let (key, record) = entry?;
            let seen = decode::<InstanceRecord>("an instance", record.value()).map_or(0, |record| record.seen_unix);
            all.push((seen, key.value().to_owned()));
        }
        all.sort();
        // A tenth at a time, so that this is rare.
        for (_, key) in all.iter().take(MOST_INSTANCES / 10) {
            table.remove(key.as_str())?;
        }
    }
    Ok(())
}

fn of_name(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    name: &Name,
) -> Result<Vec<(String, InstanceRecord)>, StoreError> {
    let prefix = format!("{name}/");
    let mut found = Vec::new();
    for entry in table.range(prefix.as_str()..)? {
        let (key, record) = entry?;
        if !key.value().starts_with(&prefix) {
            break;
        }
        found.push((key.value().to_owned(), decode("an instance", record.value())?));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use leno_certs::Lineage;

    use super::*;
    use crate::model::Target;

    fn revocation(id: &str, target: Target, expires_unix: Option<i64>) -> Revocation {
        let (id, by) = (id.to_owned(), "admin".to_owned());
        Revocation { id, target, reason: "why".to_owned(), by, created_unix: 0, expires_unix }
    }

    fn identity(n: usize) -> Target {
        Target::Identity(format!("spiffe://cluster.local/ns/default/sa/w{n}"))
    }

    fn lineage(n: u64) -> Lineage {
        Lineage { instance: n.to_be_bytes(), origin: [0; 4] }
    }

    #[tokio::test]
    async fn a_revocation_is_a_revision_that_survives_and_is_taken_back_and_not_rolled_back() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let admin = Actor::from("admin");
        assert_eq!(store.revoke(revocation("a", identity(1), None), &admin).await.unwrap(), 1);
        let over = Some(unix_now() - 1);
        assert_eq!(store.revoke(revocation("b", identity(2), over), &admin).await.unwrap(), 2);
        assert_eq!(store.rollback(1, &admin).await.unwrap().revision, 2, "there is nothing of it to roll back");
        drop(store);
        let store = Store::open(dir.path()).unwrap();
        let now = store.revocations().borrow().clone();
        assert!(now.get("a").is_some() && now.get("b").is_none(), "one is over");
        assert_eq!(store.history(9).unwrap()[1].message, "revoke spiffe://cluster.local/ns/default/sa/w1: why");
        assert_eq!(store.undo_revocation("a", &admin, "because").await.unwrap(), Some(3));
        assert_eq!(store.undo_revocation("a", &admin, "because").await.unwrap(), None);
        assert_eq!(store.revocations().borrow().count(), 0);
        assert!(store.history(1).unwrap()[0].message.ends_with("because"));
    }

    #[tokio::test]
    async fn there_is_a_bound_and_what_is_over_makes_room() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let admin = Actor::from("admin");
        let many = |from: u64, n: u64| {
            let name = Name::new("default", "web");
            Target::Workload { name, lineages: (from..from + n).map(lineage).collect() }
        };
        let half = MOST_REVOKED as u64 / 2;
        store.revoke(revocation("a", many(0, half), Some(unix_now() + 2)), &admin).await.unwrap();
        store.revoke(revocation("b", many(half, half), None), &admin).await.unwrap();
        let full = store.revoke(revocation("c", identity(1), None), &admin).await.unwrap_err();
        assert!(matches!(full, StoreError::Full { most: MOST_REVOKED, .. }), "{full}");
        assert_eq!(store.revocations().borrow().count(), MOST_REVOKED, "nothing was changed");
        while unix_now() < store.revocations().borrow().get("a").unwrap().expires_unix.unwrap() {
            tokio::task::yield_now().await;
        }
        store.revoke(revocation("c", identity(1), None), &admin).await.unwrap();
        assert_eq!(store.revocations().borrow().count(), MOST_REVOKED / 2 + 1);
    }

    #[test]
    fn the_sidecars_of_a_name_are_remembered_when_they_are_gone_but_not_without_a_bound() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let workload = |name: &str, n: u64| Workload {
            name: Name::new("default", name),
            labels: Default::default(),
            address: "10.0.0.1".parse().unwrap(),
            mesh_port: Some(1),
            identity: Some("spiffe://cluster.local/ns/default/sa/web".to_owned()),
            ports: Default::default(),
            healthy: true,
            more_addresses: vec![],
            any_port: false,
            lineage: Some(lineage(n)),
        };
        for n in 0..2 * MOST_OF_A_NAME as u64 {
            store.put_workload(&workload("web-1", n)).unwrap();
        }
        store.put_workload(&workload("web-10", 99)).unwrap();
        store.delete_workload(&Name::new("default", "web-1")).unwrap();
        let held = store.instances(&Name::new("default", "web-1")).unwrap();
        assert_eq!(held.len(), MOST_OF_A_NAME);
        assert!(held.iter().all(|record| record.lineage != lineage(99).to_string()), "another name is another name");
    }
}
