//! The last good snapshot on disk: `STATE_DIR/snapshot.bin`. A sidecar that starts while the control plane is away serves
//! from it, and one that starts beside a control plane is not sent again what it holds.
//!
//! Form: 8 bytes `LENOSNAP`, version (u32), length of the body (u64), SHA-256 of the body, body (protobuf); numbers are big
//! endian. The trust bundle is not in it: it belongs to the identity and is saved there.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use leno_runtime::metrics::Gauge;
use prost::Message;
use prost_types::Any;
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::files;
use super::held::{self, Held, Raw};
use crate::model::Demand;

/// Largest file that is written or read, in bytes.
const MOST_BYTES: usize = 64 * 1024 * 1024;
const MAGIC: &[u8; 8] = b"LENOSNAP";
const VERSION: u32 = 1;
const HEADER: usize = 8 + 4 + 8 + 32;
/// Longest time between two writes while changes keep coming.
const MOST_PAUSE: Duration = Duration::from_secs(1);
/// Time between the first two. It doubles with each write: a sidecar that is killed in its first second has what it was sent.
const FIRST_PAUSE: Duration = Duration::from_millis(20);

#[derive(Clone, PartialEq, Message)]
struct Body {
    /// SPIFFE ID of the sidecar: what its neighbour may see is none of its business.
    #[prost(string, tag = "1")]
    identity: String,
    #[prost(message, repeated, tag = "2")]
    resources: Vec<Entry>,
    /// Names that do not exist; without versions and contents.
    #[prost(message, repeated, tag = "3")]
    absent: Vec<Entry>,
    #[prost(string, repeated, tag = "4")]
    services: Vec<String>,
    #[prost(string, repeated, tag = "5")]
    addresses: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    version: String,
    #[prost(bytes = "vec", tag = "4")]
    value: Vec<u8>,
}

/// What was in force when the sidecar last ran.
#[derive(Debug, Clone, Default)]
pub(super) struct Saved {
    pub held: Held,
    pub demanded: Vec<Demand>,
}

fn encode(identity: &str, saved: &Saved) -> Vec<u8> {
    let entry = |(key, raw): (&held::Key, &Raw)| Entry {
        type_url: key.0.to_owned(),
        name: key.1.clone(),
        version: raw.version.clone(),
        value: raw.any.value.clone(),
    };
    let mut body = Body { identity: identity.to_owned(), ..Body::default() };
    body.resources = saved.held.iter().map(entry).collect();
    body.absent = saved
        .held
        .absent()
        .map(|(url, name)| Entry { type_url: (*url).to_owned(), name: name.clone(), ..Entry::default() })
        .collect();
    for demand in &saved.demanded {
        match demand {
            Demand::Service(name) => body.services.push(name.clone()),
            Demand::Address(addr) => body.addresses.push(addr.clone()),
            // The command line says it anew.
            Demand::Gateway(_) => {}
        }
    }
    let body = body.encode_to_vec();
    let mut file = Vec::with_capacity(HEADER + body.len());
    file.extend_from_slice(MAGIC);
    file.extend_from_slice(&VERSION.to_be_bytes());
    file.extend_from_slice(&(body.len() as u64).to_be_bytes());
    file.extend_from_slice(&Sha256::digest(&body));
    file.extend_from_slice(&body);
    file
}

fn decode(identity: &str, file: &[u8]) -> Result<Saved, String> {
    let (header, body) = file.split_at_checked(HEADER).ok_or("it is too short")?;
    let (magic, rest) = header.split_at(8);
    let (version, rest) = rest.split_at(4);
    let (length, digest) = rest.split_at(8);
    if magic != MAGIC {
        return Err("it is no snapshot".to_owned());
    }
    if version != VERSION.to_be_bytes() {
        return Err("it was written by another version of leno-proxy".to_owned());
    }
    if length != (body.len() as u64).to_be_bytes() || digest != Sha256::digest(body).as_slice() {
        return Err("its checksum is wrong".to_owned());
    }
    let body = Body::decode(body).map_err(|why| why.to_string())?;
    if body.identity != identity {
        return Err(format!("it is of {}", body.identity));
    }
    let mut saved = Saved::default();
    for entry in body.resources {
        let Some(url) = held::known_type(&entry.type_url) else { continue };
        let any = Arc::new(Any { type_url: entry.type_url, value: entry.value });
        saved.held.insert((url, entry.name), Raw { version: entry.version, any });
    }
    for entry in body.absent {
        if let Some(url) = held::known_type(&entry.type_url) {
            saved.held.set_absent((url, entry.name));
        }
    }
    saved.demanded.extend(body.services.into_iter().map(Demand::Service));
    saved.demanded.extend(body.addresses.into_iter().map(Demand::Address));
    Ok(saved)
}

/// Reads the snapshot of this identity. A file that is damaged, too large or of somebody else is told in the log and
/// otherwise as good as none: the control plane sends everything again.
pub(super) fn load(path: &Path, identity: &str) -> Option<Saved> {
    let result = match files::read(path, MOST_BYTES as u64) {
        Ok(None) => return None,
        Ok(Some(file)) => decode(identity, &file),
        Err(why) => Err(why.to_string()),
    };
    match result {
        Ok(saved) => Some(saved),
        Err(reason) => {
            tracing::warn!(%reason, path = %path.display(), "the saved snapshot is not used");
            None
        }
    }
}

/// Where the snapshot is.
pub(super) fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("snapshot.bin")
}

/// Writes snapshots on a thread of its own, since fsync may take long: soon after a quiet time, and at most one a second when
/// changes keep coming.
pub(super) struct Saver {
    path: PathBuf,
    identity: String,
    /// Changes since what was last written, or is being written.
    changes: u32,
    /// All of those that are not on the disk.
    unsaved: Gauge,
    pause: Duration,
    next: Instant,
    /// Gives what it could not write.
    writing: Option<JoinHandle<u32>>,
}

impl Saver {
    pub fn new(path: PathBuf, identity: String, unsaved: Gauge) -> Self {
        Self { path, identity, changes: 0, unsaved, pause: FIRST_PAUSE, next: Instant::now(), writing: None }
    }

    /// Something changed.
    pub fn touch(&mut self) {
        self.changes = self.changes.saturating_add(1);
        self.unsaved.add(1.0);
    }

    /// Comes back when it is time to write; never while there is nothing to write. May be dropped and asked again.
    pub async fn due(&mut self) {
        if self.changes == 0 {
            return std::future::pending().await;
        }
        self.written().await;
        tokio::time::sleep_until(self.next).await;
    }

    /// Waits for what is being written. What failed is no reason to try again before the next change, which brings all of it.
    async fn written(&mut self) {
        if let Some(writing) = &mut self.writing {
            let failed = writing.await.unwrap_or_default();
            self.changes = self.changes.saturating_add(failed);
            self.writing = None;
        }
    }

    /// Starts writing. The one before has ended, as [`Self::due`] waited for it.
    pub fn start(&mut self, saved: Saved) {
        let (now, changes) = (Instant::now(), std::mem::take(&mut self.changes));
        let quiet = now.saturating_duration_since(self.next) >= MOST_PAUSE;
        self.pause = if quiet { FIRST_PAUSE } else { (self.pause * 2).min(MOST_PAUSE) };
        self.next = now + self.pause;
        let (path, identity, unsaved) = (self.path.clone(), self.identity.clone(), self.unsaved.clone());
        self.writing = Some(tokio::task::spawn_blocking(move || {
            if !write(&path, &identity, &saved) {
                return changes;
            }
            unsaved.add(-f64::from(changes));
            0
        }));
    }

    /// Writes what is left, at the end of the process.
    pub async fn finish(&mut self, saved: impl FnOnce() -> Saved) {
        self.written().await;
        if self.changes > 0 {
            self.start(saved());
            self.written().await;
        }
    }
}

/// Whether it is on the disk.
fn write(path: &Path, identity: &str, saved: &Saved) -> bool {
    let file = encode(identity, saved);
    if file.len() > MOST_BYTES {
        tracing::warn!(
            bytes = file.len(),
            most = MOST_BYTES,
            "the snapshot is too large to be saved; the one before is kept"
        );
        return false;
    }
    if let Err(error) = files::replace(path, &file) {
        tracing::warn!(%error, path = %path.display(), "the snapshot could not be saved");
        return false;
    }
    true
}

#[cfg(test)]
mod tests;
