//! What the control thread tells the workers (snapshots), and what they ask of it (demands). Reader and writer are different
//! types, so that a worker cannot publish.

pub mod demand;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::model::Snapshot;

#[derive(Debug)]
struct Shared {
    snapshot: ArcSwap<Snapshot>,
    /// Workers compare it once a request; only a change makes them look at the snapshot.
    version: AtomicU64,
    changed: watch::Sender<u64>,
    /// The control plane does not answer, so there is no use in waiting for it.
    away: AtomicBool,
}

/// Publishes snapshots. There is one.
#[derive(Debug)]
pub struct Writer(Arc<Shared>);

/// Reads them. Each worker has one.
#[derive(Debug, Clone)]
pub struct Reader(Arc<Shared>);

/// A writer and a reader that start empty.
pub fn channel() -> (Writer, Reader) {
    let shared = Arc::new(Shared {
        snapshot: ArcSwap::default(),
        version: AtomicU64::new(0),
        changed: watch::Sender::new(0),
        away: AtomicBool::new(false),
    });
    (Writer(shared.clone()), Reader(shared))
}

impl Writer {
    /// Puts a snapshot in force: every request that starts after this call returns sees it.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        self.0.snapshot.store(snapshot);
        let version = self.0.version.fetch_add(1, Ordering::Release) + 1;
        self.0.changed.send_replace(version);
    }
}

impl Writer {
    /// Whether the control plane can be asked.
    pub fn set_away(&self, away: bool) {
        self.0.away.store(away, Ordering::Relaxed);
    }
}

impl Reader {
    /// True while the control plane does not answer: what is not known now will not be known soon.
    pub fn away(&self) -> bool {
        self.0.away.load(Ordering::Relaxed)
    }

    /// Grows with each snapshot.
    pub fn version(&self) -> u64 {
        self.0.version.load(Ordering::Acquire)
    }

    /// The snapshot in force.
    pub fn current(&self) -> Arc<Snapshot> {
        self.0.snapshot.load_full()
    }

    /// Comes back once the version is no longer `seen`.
    pub async fn changed(&self, seen: u64) {
        let mut changed = self.0.changed.subscribe();
        // The sender lives in the shared state, so this cannot fail while we wait.
        let _ = changed.wait_for(|version| *version != seen).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_published_snapshot_is_seen_and_wakes_whoever_waits() {
        let (writer, reader) = channel();
        let waiter = tokio::spawn({
            let reader = reader.clone();
            async move { reader.changed(0).await }
        });
        let mut snapshot = Snapshot::default();
        snapshot.services.insert("default/web".into(), None);
        writer.publish(Arc::new(snapshot));
        waiter.await.unwrap();
        assert_eq!(reader.version(), 1);
        assert!(reader.current().services.contains_key("default/web"));
    }
}
