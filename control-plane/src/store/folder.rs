//! The configuration folder into the store.
//!
//! For each object of a file the hash of what was last applied is kept. So a restart with an unchanged folder changes
//! nothing, also when `leno apply` has changed the object since; a file that changes wins again. An object goes when
//! it is in no file any more, but never because its file cannot be read just now.

use std::collections::{BTreeMap, BTreeSet};

use redb::ReadableTable;

use super::revision::{Cause, Edit};
use super::tables::{FILES, FileRecord, OBJECTS, decode, encode, key_text, parse_key};
use super::{Applied, Inner, Store, StoreError, blocking};
use crate::config::{Folder, Problem};
use crate::validate::{self, Checked};

/// Who the log says it was.
const ACTOR: &str = "config-dir";

/// What came of a folder.
#[derive(Debug)]
pub struct FolderApplied {
    pub applied: Applied,
    /// Every problem and warning of the folder.
    pub problems: Vec<Problem>,
}

impl Store {
    /// Makes the objects of a folder the store's.
    ///
    /// # Errors
    /// The disk fails or a bound is met; nothing is changed then.
    pub async fn sync_folder(&self, folder: Folder) -> Result<FolderApplied, StoreError> {
        let inner = self.0.clone();
        blocking(move || inner.sync_folder(folder)).await
    }
}

impl Inner {
    fn sync_folder(&self, folder: Folder) -> Result<FolderApplied, StoreError> {
        let unseen = Unseen::of(&folder);
        let mut problems = folder.problems;
        let mut objects = Vec::new();
        for (_, parsed) in folder.files {
            problems.extend(parsed.problems);
            objects.extend(parsed.objects);
        }
        let checked = validate::batch(objects);
        let applied = self.sync(&checked, &unseen)?;
        problems.extend(checked.problems);
        problems.extend(validate::warnings(&applied.mesh, &checked.valid));
        Ok(FolderApplied { applied, problems })
    }

    fn sync(&self, checked: &Checked, unseen: &Unseen) -> Result<Applied, StoreError> {
        let (_writer, transaction) = self.write()?;
        let mut edit = Edit::begin(&self.committed.borrow(), &self.sealer);
        let mut noted = false;
        {
            let mut files = transaction.open_table(FILES)?;
            let mut objects = transaction.open_table(OBJECTS)?;
            let mut known: BTreeMap<String, FileRecord> = BTreeMap::new();
            for entry in files.iter()? {
                let (key, record) = entry?;
                known.insert(key.value().to_owned(), decode(key.value(), record.value())?);
            }
            let mut present: BTreeSet<String> = checked.refused.iter().map(key_text).collect();
            for valid in &checked.valid {
                let key = key_text(valid.key());
                let record = FileRecord { hash: self.sealer.fingerprint(valid.value()), file: valid.file().to_owned() };
                let last = known.get(&key);
                if last.is_none_or(|last| last.hash != record.hash) {
                    edit.upsert(&mut objects, valid)?;
                }
                if last != Some(&record) {
                    files.insert(key.as_str(), encode(&key, &record)?.as_slice())?;
                    noted = true;
                }
                present.insert(key);
            }
            for (key, record) in known {
                if present.contains(&key) || unseen.may_hold(&record.file) {
                    continue;
                }
                files.remove(key.as_str())?;
                noted = true;
                if let Some(key) = parse_key(&key) {
                    edit.delete(&mut objects, &key)?;
                }
            }
        }
        if !edit.log.is_empty() {
            let cause = Cause { actor: &ACTOR.into(), action: "apply", message: "" };
            return self.commit(transaction, edit, &cause);
        }
        if noted {
            transaction.commit()?
        } else {
            transaction.abort()?
        }
        Ok(edit.applied())
    }
}

/// What could not be read, so that objects which are not seen may still be there.
struct Unseen {
    everything: bool,
    paths: Vec<String>,
}

impl Unseen {
    fn of(folder: &Folder) -> Self {
        let files = folder.files.iter().filter(|(_, parsed)| !parsed.problems.is_empty()).map(|(name, _)| name);
        let paths = folder.problems.iter().map(|problem| &problem.file).chain(files).cloned().collect();
        Self { everything: folder.truncated, paths }
    }

    fn may_hold(&self, file: &str) -> bool {
        let below = |path: &String| {
            file.strip_prefix(path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.everything || self.paths.iter().any(below)
    }
}
