//! The log: every change of objects is a numbered revision, kept with what was before and after.

use std::sync::Arc;

use redb::{ReadableTable, ReadableTableMetadata, Table, WriteTransaction};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::objects::revalidate;
use super::seal::Sealer;
use super::tables::{
    ChangeRecord, OBJECTS, ObjectRecord, REVISIONS, RevisionRecord, STATUS_TIMES, decode, encode, key_text, parse_key,
};
use super::{Inner, Store, StoreError, audit, blocking, unix_now};
use crate::model::audit::{Actor, Event};
use crate::model::{Action, Change, Committed, Mesh, ObjectKey};
use crate::validate::{self, Valid};

/// Most revisions that are kept; the oldest go first.
pub(super) const MOST_REVISIONS: u64 = 10_000;
/// Most objects of a mesh.
const MOST_OBJECTS: usize = 50_000;
/// Longest text of who and why.
const MOST_TEXT: usize = 500;

/// Changes that are made together or not at all.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    pub upserts: Vec<Valid>,
    pub deletes: Vec<ObjectKey>,
    /// Who.
    pub actor: Actor,
    /// Why; may be empty.
    pub message: String,
    /// Only say what would change.
    pub dry_run: bool,
}

/// What came of a batch.
#[derive(Debug, Clone)]
pub struct Applied {
    /// The revision that is in force now: a new one only when something changed.
    pub revision: u64,
    /// One for each object of the batch, those that are unchanged included; none for a deletion of what is not there.
    pub changes: Vec<Change>,
    /// The mesh after the batch, also of a dry run.
    pub mesh: Arc<Mesh>,
}

impl Applied {
    /// Whether anything changed.
    pub fn is_changed(&self) -> bool {
        self.changes.iter().any(|change| change.action != Action::Unchanged)
    }
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    pub revision: u64,
    /// RFC 3339.
    pub time: String,
    pub actor: String,
    pub message: String,
    pub changes: Vec<Change>,
}

impl Store {
    /// Makes a batch a revision, durable when this returns.
    ///
    /// # Errors
    /// The disk fails or a bound is met; nothing is changed then.
    pub async fn apply(&self, batch: Batch) -> Result<Applied, StoreError> {
        let inner = self.0.clone();
        blocking(move || inner.apply(batch)).await
    }

    /// The newest revisions, newest first. Blocks on the disk.
    ///
    /// # Errors
    /// The disk fails.
    pub fn history(&self, limit: usize) -> Result<Vec<Revision>, StoreError> {
        let table = self.0.db.begin_read()?.open_table(REVISIONS)?;
        let mut found = Vec::new();
        for entry in table.iter()?.rev().take(limit) {
            let (number, record) = entry?;
            let number = number.value();
            let record: RevisionRecord = decode(&format!("revision {number}"), record.value())?;
            found.push(Revision {
                revision: number,
                time: rfc3339(record.time),
                actor: record.actor,
                message: record.message,
                changes: record.changes.iter().filter_map(ChangeRecord::change).collect(),
            });
        }
        Ok(found)
    }

    /// Makes a new revision whose objects are those of an older one; none when they are already.
    ///
    /// # Errors
    /// The revision is not kept, the disk fails, or an object of then is not valid now.
    pub async fn rollback(&self, revision: u64, actor: &Actor) -> Result<Applied, StoreError> {
        let (inner, actor) = (self.0.clone(), actor.clone());
        blocking(move || inner.rollback(revision, &actor)).await
    }
}

impl Inner {
    fn apply(&self, batch: Batch) -> Result<Applied, StoreError> {
        let (_writer, transaction) = self.write()?;
        let mut edit = Edit::begin(&self.committed.borrow(), &self.sealer);
        {
            let mut objects = transaction.open_table(OBJECTS)?;
            for valid in &batch.upserts {
                edit.upsert(&mut objects, valid)?;
            }
            for key in &batch.deletes {
                edit.delete(&mut objects, key)?;
            }
        }
        if batch.dry_run || edit.log.is_empty() {
            transaction.abort()?;
            return Ok(edit.applied());
        }
        let action = if batch.upserts.is_empty() { "delete" } else { "apply" };
        self.commit(transaction, edit, &Cause { actor: &batch.actor, action, message: &batch.message })
    }

    /// Logs an edit, commits it, and then publishes it. The caller holds `writer`.
    pub(super) fn commit(
        &self,
        transaction: WriteTransaction,
        edit: Edit,
        cause: &Cause<'_>,
    ) -> Result<Applied, StoreError> {
        self.commit_and(transaction, edit, cause, || ())
    }

    /// As [`Self::commit`]; `before` is done between the commit and the publication.
    pub(super) fn commit_and(
        &self,
        transaction: WriteTransaction,
        mut edit: Edit,
        cause: &Cause<'_>,
        before: impl FnOnce(),
    ) -> Result<Applied, StoreError> {
        edit.revision += 1;
        let record = RevisionRecord {
            time: unix_now(),
            actor: clip(&cause.actor.name),
            message: clip(cause.message),
            changes: std::mem::take(&mut edit.log),
        };
        {
            let mut revisions = transaction.open_table(REVISIONS)?;
            revisions.insert(edit.revision, encode("the revision", &record)?.as_slice())?;
            while revisions.len()? > MOST_REVISIONS {
                revisions.pop_first()?;
            }
            // One that is made anew under the name begins anew.
            let mut times = transaction.open_table(STATUS_TIMES)?;
            for change in record.changes.iter().filter(|change| change.after.is_none()) {
                times.remove(change.key.as_str())?;
            }
        }
        audit::append(&transaction, &cause.event(&record, edit.revision))?;
        transaction.commit()?;
        before();
        let applied = edit.applied();
        self.committed.send_replace(Arc::new(Committed { revision: applied.revision, mesh: applied.mesh.clone() }));
        Ok(applied)
    }

    fn rollback(&self, asked: u64, actor: &Actor) -> Result<Applied, StoreError> {
        let (_writer, transaction) = self.write()?;
        let mut edit = Edit::begin(&self.committed.borrow(), &self.sealer);
        {
            let revisions = transaction.open_table(REVISIONS)?;
            let oldest = revisions.first()?.map_or(0, |(number, _)| number.value());
            let newest = edit.revision;
            if asked == 0 || asked < oldest || asked > newest {
                return Err(StoreError::UnknownRevision { asked, oldest, newest });
            }
            let mut objects = transaction.open_table(OBJECTS)?;
            for (key, record) in undone(&revisions, asked)? {
                edit.restore(&mut objects, &key, record)?;
            }
        }
        if edit.log.is_empty() {
            transaction.abort()?;
            return Ok(edit.applied());
        }
        let message = format!("rollback to revision {asked}");
        self.commit(transaction, edit, &Cause { actor, action: "rollback", message: &message })
    }
}

/// Who makes a revision, and why.
pub(super) struct Cause<'a> {
    pub(super) actor: &'a Actor,
    /// As the audit log names it.
    pub(super) action: &'a str,
    pub(super) message: &'a str,
}

impl Cause<'_> {
    fn event(&self, record: &RevisionRecord, revision: u64) -> Event {
        let changes = record.changes.iter().map(|change| {
            let did = match (&change.before, &change.after) {
                (None, _) => "created",
                (Some(_), Some(_)) => "configured",
                (Some(_), None) => "deleted",
            };
            format!("{} {did}", change.key)
        });
        Event {
            actor: self.actor.clone(),
            action: self.action.to_owned(),
            what: changes.collect(),
            revision,
            result: "done".to_owned(),
            detail: self.message.to_owned(),
        }
    }
}

/// The objects that have changed since a revision, as they were then.
fn undone(
    revisions: &impl ReadableTable<u64, &'static [u8]>,
    since: u64,
) -> Result<Vec<(String, Option<ObjectRecord>)>, StoreError> {
    // The first change after the revision holds the state of it.
    let mut then = std::collections::BTreeMap::new();
    for entry in revisions.range(since + 1..)? {
        let (number, record) = entry?;
        let record: RevisionRecord = decode(&format!("revision {}", number.value()), record.value())?;
        for change in record.changes {
            then.entry(change.key).or_insert(change.before);
        }
    }
    Ok(then.into_iter().collect())
}

type Objects<'a> = Table<'a, &'static str, &'static [u8]>;

/// A revision in the making.
pub(super) struct Edit {
    revision: u64,
    mesh: Mesh,
    changes: Vec<Change>,
    pub(super) log: Vec<ChangeRecord>,
    now: i64,
    sealer: Arc<Sealer>,
}

impl Edit {
    pub(super) fn begin(committed: &Committed, sealer: &Arc<Sealer>) -> Self {
        let mesh = (*committed.mesh).clone();
        Self {
            revision: committed.revision,
            mesh,
            changes: Vec::new(),
            log: Vec::new(),
            now: unix_now(),
            sealer: sealer.clone(),
        }
    }

    /// What came of it, when nothing more is to be logged.
    pub(super) fn applied(self) -> Applied {
        Applied { revision: self.revision, changes: self.changes, mesh: Arc::new(self.mesh) }
    }

    pub(super) fn upsert(&mut self, objects: &mut Objects<'_>, valid: &Valid) -> Result<(), StoreError> {
        let key = key_text(valid.key());
        let before = get(objects, &key)?;
        // One that does not open any more is written anew.
        let same =
            |record: &ObjectRecord| self.sealer.opened(&key, &record.value).is_ok_and(|value| value == *valid.value());
        if before.as_ref().is_some_and(same) {
            self.changes.push(change(Action::Unchanged, valid.key()));
            return Ok(());
        }
        let after = ObjectRecord {
            value: self.sealer.sealed(&key, valid.value())?,
            created: before.as_ref().map_or(self.now, |record| record.created),
            generation: before.as_ref().map_or(0, |record| record.generation) + 1,
        };
        self.put(objects, valid, before, after)
    }

    fn put(
        &mut self,
        objects: &mut Objects<'_>,
        valid: &Valid,
        before: Option<ObjectRecord>,
        after: ObjectRecord,
    ) -> Result<(), StoreError> {
        let key = key_text(valid.key());
        if before.is_none() && objects.len()? >= MOST_OBJECTS as u64 {
            return Err(StoreError::Full { what: "objects", most: MOST_OBJECTS });
        }
        objects.insert(key.as_str(), encode(&key, &after)?.as_slice())?;
        valid.put_into(&mut self.mesh, after.created);
        let action = if before.is_some() { Action::Configured } else { Action::Created };
        self.changes.push(change(action, valid.key()));
        self.log.push(ChangeRecord { key, before, after: Some(after) });
        Ok(())
    }

    /// What is not there is passed by.
    pub(super) fn delete(&mut self, objects: &mut Objects<'_>, key: &ObjectKey) -> Result<(), StoreError> {
        let text = key_text(key);
        let Some(before) = get(objects, &text)? else { return Ok(()) };
        objects.remove(text.as_str())?;
        validate::remove_from(&mut self.mesh, key);
        self.changes.push(change(Action::Deleted, key));
        self.log.push(ChangeRecord { key: text, before: Some(before), after: None });
        Ok(())
    }

    fn restore(&mut self, objects: &mut Objects<'_>, key: &str, then: Option<ObjectRecord>) -> Result<(), StoreError> {
        let before = get(objects, key)?;
        match then {
            Some(then) => {
                let value = self.sealer.opened(key, &then.value)?;
                let same = |now: &ObjectRecord| self.sealer.opened(key, &now.value).is_ok_and(|now| now == value);
                if before.as_ref().is_some_and(same) {
                    return Ok(());
                }
                let valid = revalidate(key, &value).map_err(|problems| StoreError::Invalid {
                    object: key.to_owned(),
                    why: problems.first().map(ToString::to_string).unwrap_or_default(),
                })?;
                let generation = before.as_ref().map_or(then.generation, |now| now.generation) + 1;
                self.put(objects, &valid, before, ObjectRecord { generation, ..then })
            }
            None => match parse_key(key) {
                Some(key) => self.delete(objects, &key),
                None => Ok(()),
            },
        }
    }
}

impl ChangeRecord {
    fn change(&self) -> Option<Change> {
        let action = match (&self.before, &self.after) {
            (None, _) => Action::Created,
            (Some(_), Some(_)) => Action::Configured,
            (Some(_), None) => Action::Deleted,
        };
        parse_key(&self.key).map(|key| change(action, &key))
    }
}

fn get(objects: &Objects<'_>, key: &str) -> Result<Option<ObjectRecord>, StoreError> {
    objects.get(key)?.map(|found| decode(key, found.value())).transpose()
}

fn change(action: Action, key: &ObjectKey) -> Change {
    let (namespace, name) = (key.name.namespace.clone(), key.name.name.clone());
    Change { action, kind: key.kind.to_string(), namespace, name }
}

fn clip(text: &str) -> String {
    text.chars().take(MOST_TEXT).collect()
}

fn rfc3339(unix: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(unix).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    time.format(&Rfc3339).unwrap_or_default()
}
