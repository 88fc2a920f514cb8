//! The audit log in the store. An entry is written in the transaction of what it says, so there is never one without the other: what
//! cannot be noted is not done, and a crash leaves no half of an entry.

use redb::{ReadableTable, ReadableTableMetadata, Table, WriteTransaction};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::tables::{AUDIT, BLOBS, decode, encode};
use super::{Store, StoreError, blocking};
use crate::model::audit::{Entry, Event, Head, rotation};

/// Most entries that are kept.
pub const MOST_ENTRIES: u64 = 100_000;
/// The oldest go so many at a time, and an entry says so.
const SEGMENT: u64 = 10_000;
/// Most entries of one answer.
pub const MOST_OF_A_PAGE: usize = 5_000;
/// Name of the blob that holds the head, so that the end of the log is known apart from its entries.
const HEAD: &str = "audit-head";

/// Some entries, and where the log ends.
#[derive(Debug, Clone)]
pub struct Page {
    pub entries: Vec<Entry>,
    pub head: Head,
}

impl Store {
    /// Notes something that changes nothing in the store itself.
    ///
    /// # Errors
    /// The disk fails; then it must not be done.
    pub async fn note(&self, event: Event) -> Result<(), StoreError> {
        let store = self.clone();
        blocking(move || store.note_now(&event)).await
    }

    /// As [`Self::note`]; blocks on the disk.
    ///
    /// # Errors
    /// As there.
    pub fn note_now(&self, event: &Event) -> Result<(), StoreError> {
        let (_writer, transaction) = self.0.write()?;
        append(&transaction, event)?;
        transaction.commit()?;
        Ok(())
    }

    /// The entries after a number, oldest first; without one the newest. At most [`MOST_OF_A_PAGE`]. Blocks on the disk.
    ///
    /// # Errors
    /// The disk fails.
    pub fn audit(&self, after: Option<u64>, limit: usize) -> Result<Page, StoreError> {
        let transaction = self.0.db.begin_read()?;
        let head = head(transaction.open_table(BLOBS)?.get(HEAD)?.map(|found| found.value().to_vec()))?;
        let limit = limit.min(MOST_OF_A_PAGE);
        let after = after.unwrap_or_else(|| head.seq.saturating_sub(limit as u64));
        let table = transaction.open_table(AUDIT)?;
        let entries = table.range(after.saturating_add(1)..)?.take(limit);
        let entries = entries.map(|entry| decode("an audit entry", entry?.1.value()));
        Ok(Page { entries: entries.collect::<Result<_, StoreError>>()?, head })
    }
}

fn head(bytes: Option<Vec<u8>>) -> Result<Head, StoreError> {
    bytes.map_or_else(|| Ok(Head::default()), |bytes| decode("the audit log's head", &bytes))
}

/// Puts an entry at the end of the log, in the transaction of what it says.
pub(super) fn append(transaction: &WriteTransaction, event: &Event) -> Result<(), StoreError> {
    bounded(transaction, event, MOST_ENTRIES, SEGMENT)
}

fn bounded(transaction: &WriteTransaction, event: &Event, most: u64, segment: u64) -> Result<(), StoreError> {
    let mut blobs = transaction.open_table(BLOBS)?;
    let mut head = head(blobs.get(HEAD)?.map(|found| found.value().to_vec()))?;
    let mut table = transaction.open_table(AUDIT)?;
    head = put(&mut table, &head, event)?;
    let first = table.first()?.map_or(0, |(seq, _)| seq.value());
    if table.len()? > most {
        let last = first + segment - 1;
        table.retain_in(..=last, |_, _| false)?;
        head = put(&mut table, &head, &rotation(last))?;
    }
    blobs.insert(HEAD, encode("the audit log's head", &head)?.as_slice())?;
    Ok(())
}

fn put(table: &mut Table<'_, u64, &'static [u8]>, head: &Head, event: &Event) -> Result<Head, StoreError> {
    let now = OffsetDateTime::now_utc();
    let time = now.replace_nanosecond(u32::from(now.millisecond()) * 1_000_000).unwrap_or(now);
    let entry = head.next(event, time.format(&Rfc3339).unwrap_or_default());
    table.insert(entry.seq, encode("an audit entry", &entry)?.as_slice())?;
    Ok(entry.head())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::audit::Verifier;

    fn verified(store: &Store) -> (u64, Head) {
        let (mut verifier, mut after) = (Verifier::default(), 0);
        loop {
            let page = store.audit(Some(after), 7).unwrap();
            let Some(last) = page.entries.last() else { return verifier.finish(Some(&page.head)).unwrap() };
            after = last.seq;
            page.entries.iter().for_each(|entry| verifier.next(entry).unwrap());
        }
    }

    #[test]
    fn the_log_survives_and_its_oldest_entries_go_by_segments_without_breaking_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let event = Event::done(&"admin".into(), "apply", "x");
        for _ in 0..25 {
            let (_writer, transaction) = store.0.write().unwrap();
            bounded(&transaction, &event, 20, 10).unwrap();
            transaction.commit().unwrap();
        }
        let (first, head) = verified(&store);
        assert_eq!((first, head.seq), (11, 26), "25 entries and one of the rotation; ten are gone");
        drop(store);
        let store = Store::open(dir.path()).unwrap();
        store.note_now(&event).unwrap();
        assert_eq!(verified(&store).1.seq, 27);
        let newest = store.audit(None, 3).unwrap().entries;
        assert_eq!(newest.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [25, 26, 27]);
    }

    #[test]
    fn what_is_aborted_is_not_noted() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (writer, transaction) = store.0.write().unwrap();
        append(&transaction, &Event::done(&"admin".into(), "apply", "x")).unwrap();
        transaction.abort().unwrap();
        drop(writer);
        assert_eq!(verified(&store).1.seq, 0);
    }
}
