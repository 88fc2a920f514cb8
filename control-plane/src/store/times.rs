//! Since when the conditions of objects are as they are. What stands in a record is its reader's alone; a record goes with its
//! object, so there are never more than objects.

use redb::ReadableTable;

use super::tables::{OBJECTS, STATUS_TIMES, key_text};
use super::{Store, StoreError};
use crate::model::ObjectKey;

impl Store {
    /// The records of some objects, in their order. Blocks on the disk.
    ///
    /// # Errors
    /// The disk fails.
    pub fn status_times(&self, keys: &[ObjectKey]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let table = self.0.db.begin_read()?.open_table(STATUS_TIMES)?;
        keys.iter().map(|key| Ok(table.get(key_text(key).as_str())?.map(|found| found.value().to_vec()))).collect()
    }

    /// Keeps records, each of an object that is still there. Blocks on the disk.
    ///
    /// # Errors
    /// The disk fails.
    pub fn set_status_times(&self, records: &[(ObjectKey, Vec<u8>)]) -> Result<(), StoreError> {
        let (_writer, transaction) = self.0.write()?;
        {
            let objects = transaction.open_table(OBJECTS)?;
            let mut table = transaction.open_table(STATUS_TIMES)?;
            for (key, record) in records {
                let key = key_text(key);
                if objects.get(key.as_str())?.is_some() {
                    table.insert(key.as_str(), record.as_slice())?;
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }
}
