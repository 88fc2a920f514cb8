//! Reading objects, and the mesh that they make.

use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable};
use serde_json::Value;

use super::seal::Sealer;
use super::tables::{OBJECTS, ObjectRecord, REVISIONS, decode, key_text};
use super::{Store, StoreError};
use crate::config::{Object, Problem};
use crate::model::{Committed, Kind, Mesh, ObjectKey};
use crate::validate::{self, Valid};

impl Store {
    /// One object as it was written. Blocks on the disk.
    ///
    /// # Errors
    /// The disk fails.
    pub fn object(&self, key: &ObjectKey) -> Result<Option<Value>, StoreError> {
        let text = key_text(key);
        let table = self.0.db.begin_read()?.open_table(OBJECTS)?;
        let record = table.get(text.as_str())?.map(|found| decode::<ObjectRecord>(&text, found.value())).transpose()?;
        record.map(|record| self.shown(&text, record)).transpose()
    }

    /// The objects of a kind, of one namespace or of all, in the order of their names. Blocks on the disk.
    ///
    /// # Errors
    /// The disk fails.
    pub fn objects(&self, kind: Kind, namespace: Option<&str>) -> Result<Vec<Value>, StoreError> {
        let prefix = match namespace.filter(|_| kind.namespaced()) {
            Some(namespace) => format!("{kind}/{namespace}/"),
            None => format!("{kind}/"),
        };
        let table = self.0.db.begin_read()?.open_table(OBJECTS)?;
        let mut found = Vec::new();
        for entry in table.range(prefix.as_str()..)? {
            let (key, value) = entry?;
            if !key.value().starts_with(&prefix) {
                break;
            }
            found.push(self.shown(key.value(), decode(key.value(), value.value())?)?);
        }
        Ok(found)
    }

    /// As it was written, and with the number of its changes, which `status` refers to.
    fn shown(&self, key: &str, record: ObjectRecord) -> Result<Value, StoreError> {
        let mut value = self.0.sealer.opened(key, &record.value)?;
        if let Some(Value::Object(metadata)) = value.get_mut("metadata") {
            metadata.insert("generation".to_owned(), record.generation.into());
        }
        Ok(value)
    }
}

/// The stored objects as a mesh. What is no longer valid is left out and named: the rest has to go on.
pub(super) fn load(db: &Database, sealer: &Sealer) -> Result<(Committed, Vec<Problem>), StoreError> {
    let transaction = db.begin_read()?;
    let revision = transaction.open_table(REVISIONS)?.last()?.map_or(0, |(number, _)| number.value());
    let mut mesh = Mesh::default();
    let mut refused = Vec::new();
    for entry in transaction.open_table(OBJECTS)?.iter()? {
        let (key, value) = entry?;
        let record: ObjectRecord = decode(key.value(), value.value())?;
        let value = match sealer.opened(key.value(), &record.value) {
            Ok(value) => value,
            Err(why) => {
                refused.push(Problem::of_file("the store", why.to_string(), "what refers to it does without"));
                continue;
            }
        };
        match revalidate(key.value(), &value) {
            Ok(valid) => valid.put_into(&mut mesh, record.created),
            Err(problems) => refused.extend(problems),
        }
    }
    Ok((Committed { revision, mesh: Arc::new(mesh) }, refused))
}

/// Checks an object that was stored before.
pub(super) fn revalidate(key: &str, value: &Value) -> Result<Valid, Vec<Problem>> {
    let object = Object::from_stored(value);
    let object =
        object.ok_or_else(|| vec![Problem::of_file("the store", format!("{key} is no object"), "apply it again")])?;
    validate::object(object)
        .map(|(valid, _)| valid)
        .map_err(|problems| problems.into_iter().filter(Problem::is_error).collect())
}
