//! Join secrets of `--join-secrets DIR`: a file an identity, named NAMESPACE.SERVICE-ACCOUNT, with the text of a
//! [`JoinSecret`]. The folder may hold other files, as `/run/secrets` of a container does.
//!
//! Which file holds which id is remembered; the secret itself is read again for each proof. So a file that was removed or
//! replaced counts from the next proof on, and no secret stays in memory.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use leno_certs::{CONTROL_PLANE_NAMESPACE, JoinSecret, SpiffeId, Zeroizing};

use super::Refusal;

/// Most files of the folder that are looked at.
const MOST_FILES: usize = 10_000;
/// Longest file that is read, in bytes; a secret has 66.
const MOST_BYTES: u64 = 1024;
/// An id that is not known makes the folder be read again, but not more often than this while nothing was added to it or
/// removed: callers need not prove anything to ask for one.
const LEAST_BETWEEN_SCANS: Duration = Duration::from_millis(500);
/// File systems note a change no more exactly than to some milliseconds: two that are closer than this may look like one.
const TICK: Duration = Duration::from_millis(100);

/// The secrets of a folder.
pub struct JoinSecrets {
    dir: PathBuf,
    trust_domain: String,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    by_id: HashMap<String, Found>,
    /// What was wrong at the last look, so that each is said once.
    problems: BTreeSet<String>,
    scanned: Option<Instant>,
    /// When the folder had last been changed as of the last look; none if that was too short before it to tell.
    changed: Option<SystemTime>,
}

#[derive(Clone)]
struct Found {
    path: PathBuf,
    identity: SpiffeId,
}

impl JoinSecrets {
    /// Reads the folder. What is wrong with single files is logged and stands in nobody's way.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn open(dir: &Path, trust_domain: &str) -> io::Result<Self> {
        let this =
            Self { dir: dir.to_owned(), trust_domain: trust_domain.to_owned(), known: Mutex::new(Known::default()) };
        this.scan(&mut this.known())?;
        Ok(this)
    }

    /// The secret of this id, and whose it is. Reads its file.
    ///
    /// # Errors
    /// There is none, now.
    pub(super) fn find(&self, id: &str) -> Result<(JoinSecret, SpiffeId), Refusal> {
        if let Some(found) = self.read_known(id) {
            return Ok(found);
        }
        let mut known = self.known();
        let stale = known.changed.is_none() || known.changed != changed(&self.dir);
        if (stale || known.scanned.is_none_or(|at| at.elapsed() >= LEAST_BETWEEN_SCANS))
            && let Err(error) = self.scan(&mut known)
        {
            tracing::error!(%error, folder = %self.dir.display(), "--join-secrets cannot be read");
        }
        drop(known);
        self.read_known(id).ok_or(Refusal::SecretUnknown)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_known(&self, id: &str) -> Option<(JoinSecret, SpiffeId)> {
        let found = self.known().by_id.get(id).cloned()?;
        match read(&found.path) {
            Ok(Some(secret)) if secret.id() == id => Some((secret, found.identity)),
            _ => None,
        }
    }

    fn scan(&self, known: &mut Known) -> io::Result<()> {
        known.scanned = Some(Instant::now());
        known.changed = changed(&self.dir).filter(|at| at.elapsed().is_ok_and(|ago| ago > TICK));
        known.by_id.clear();
        let mut problems = BTreeSet::new();
        for path in files(&self.dir, &mut problems)? {
            match self.look_at(&path) {
                Ok(None) => {}
                Ok(Some((secret, identity))) => {
                    let taken = known.by_id.get(secret.id()).map(|other| other.path.display().to_string());
                    match taken {
                        Some(other) => drop(problems.insert(format!(
                            "{}: {other} holds a secret of the same id; make a new one for one of them",
                            path.display()
                        ))),
                        None => drop(known.by_id.insert(secret.id().to_owned(), Found { path, identity })),
                    }
                }
                Err(why) => drop(problems.insert(format!("{}: {why}", path.display()))),
            }
        }
        for new in problems.difference(&known.problems) {
            tracing::warn!("join secret refused: {new}");
        }
        known.problems = problems;
        Ok(())
    }

    /// `None`: it is a file for somebody else.
    fn look_at(&self, path: &Path) -> Result<Option<(JoinSecret, SpiffeId)>, String> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some((namespace, account)) = name.split_once('.').filter(|(namespace, _)| !namespace.is_empty()) else {
            return Ok(None);
        };
        let Some(secret) = read(path)? else { return Ok(None) };
        if namespace == CONTROL_PLANE_NAMESPACE {
            return Err(format!("the namespace {CONTROL_PLANE_NAMESPACE} is the control plane's own"));
        }
        let identity = SpiffeId::new(&self.trust_domain, namespace, account)
            .map_err(|why| format!("the name must be NAMESPACE.SERVICE-ACCOUNT: {why}"))?;
        Ok(Some((secret, identity)))
    }
}

/// When a file was last added to the folder or removed from it.
fn changed(dir: &Path) -> Option<SystemTime> {
    fs::metadata(dir).and_then(|folder| folder.modified()).ok()
}

/// The folder's files in the order of their names, so that of two with one id it is always the same one that counts.
fn files(dir: &Path, problems: &mut BTreeSet<String>) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        if files.len() == MOST_FILES {
            problems.insert(format!("{}: more than {MOST_FILES} files; the rest is not looked at", dir.display()));
            break;
        }
        files.push(entry?.path());
    }
    files.sort();
    Ok(files)
}

/// `None`: the file does not mean to be a join secret. The error never repeats what the file says.
fn read(path: &Path) -> Result<Option<JoinSecret>, String> {
    let failed = |why: io::Error| format!("cannot be read: {why}");
    // A pipe would be waited for.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Ok(None);
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(MOST_BYTES as usize));
    fs::File::open(path).map_err(failed)?.take(MOST_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    let Ok(text) = std::str::from_utf8(&bytes) else { return Ok(None) };
    if !JoinSecret::is_meant_by(text) {
        return Ok(None);
    }
    JoinSecret::parse(text).map(Some).map_err(|why| format!("is no join secret: {why}; `leno inject` makes one"))
}

#[cfg(test)]
mod tests;
