//! The registry: which workloads are alive. Sessions feed it; discovery reads it.
//!
//! A workload is alive while a session holds its [`Lease`], and for a grace period after, so that a short loss of the
//! connection moves no traffic. Who says that it drains is out at once. What is alive is written to the store, and counts as
//! alive for one grace period after the control plane starts again.

mod check;
mod entries;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use leno_certs::{Lineage, SpiffeId};
use leno_proto::Registration;
use leno_runtime::drain::DrainWatch;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

pub use check::Refused;
use entries::Entries;

use crate::model::{Name, Revocations, Workload};
use crate::store::Store;

/// Most workloads that are alive at a time.
pub const MOST_WORKLOADS: usize = 20_000;

/// The registry publishes at most this often; changes in between go out together. Short against what a connection takes.
const PAUSE: Duration = Duration::from_millis(5);

/// The workloads that are alive, by name.
pub type Live = BTreeMap<Name, Arc<Workload>>;

/// A handle to the registry; clones share it.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    entries: Mutex<Entries>,
    grace: Duration,
    store: Store,
    live: watch::Sender<Arc<Live>>,
    changed: Notify,
    unsaved: Notify,
}

impl Registry {
    /// The registry as the last life of the control plane left it; each workload of that has one grace period to come back.
    pub fn restore(store: Store, grace: Duration) -> Self {
        let until = Instant::now() + grace;
        let mut entries = Entries::new(MOST_WORKLOADS);
        let revocations = store.revocations().borrow().clone();
        for workload in store.workloads().into_iter().filter(|workload| !is_revoked(workload, &revocations)) {
            entries.restore(workload, until);
        }
        let live = watch::Sender::new(Arc::new(entries.live()));
        let entries = Mutex::new(entries);
        Self(Arc::new(Inner { entries, grace, store, live, changed: Notify::new(), unsaved: Notify::new() }))
    }

    /// Registers a workload for the holder of a proven identity. A newer registration of the same name takes over: it is
    /// the same sidecar after a reconnect, before the old connection was found dead.
    ///
    /// # Errors
    /// It names another identity than the proven one, its fields have no meaning, or the registry is full.
    pub fn register(
        &self,
        registration: &Registration,
        proven: &SpiffeId,
        lineage: Option<Lineage>,
    ) -> Result<Lease, Refused> {
        let workload = check::workload(registration, proven, lineage)?;
        let name = workload.name.clone();
        let id = self.entries().register(workload, registration.state)?;
        self.wake();
        Ok(Lease { registry: self.clone(), proven: proven.clone(), lineage, name, id })
    }

    /// Takes those out at once who were revoked.
    pub fn evict(&self, revocations: &Revocations) {
        let gone = self.entries().evict(|workload| is_revoked(workload, revocations));
        for name in &gone {
            tracing::warn!(workload = %name, "revoked, removed");
        }
        if !gone.is_empty() {
            self.wake();
        }
    }

    /// The sidecars that hold a name now.
    pub fn holders(&self, name: &Name) -> Vec<Arc<Workload>> {
        self.entries().holders(name)
    }

    /// The workloads that are alive; changes whenever one comes, goes or changes.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Live>> {
        self.0.live.subscribe()
    }

    /// The workloads that are alive now, not waiting for the next publication.
    pub fn live(&self) -> Live {
        self.entries().live()
    }

    /// Whether a workload is alive: connected, or gone for less than the grace period.
    pub fn is_alive(&self, name: &Name) -> bool {
        self.entries().is_alive(name)
    }

    /// Publishes changes and ends what is gone for too long, until the control plane drains. What is still alive then stays
    /// in the store for the next life.
    pub async fn run(self, drain: DrainWatch) {
        let saver = tokio::spawn(self.clone().save(drain.clone()));
        let mut revocations = self.0.store.revocations();
        while !drain.is_signaled() {
            let next = self.entries().next_expiry();
            tokio::select! {
                () = self.0.changed.notified() => {}
                () = at(next) => {
                    for name in self.entries().expire(Instant::now()) {
                        tracing::info!(workload = %name, "gone for longer than the grace period, removed");
                    }
                    self.0.unsaved.notify_one();
                }
                // The store lives in this registry, so this is a change.
                _ = revocations.changed() => {
                    let now = revocations.borrow_and_update().clone();
                    self.evict(&now);
                }
                () = drain.signaled() => {}
            }
            let news = self.entries().take_unpublished();
            if let Some(live) = news {
                self.0.live.send_replace(Arc::new(live));
                tokio::time::sleep(PAUSE).await;
            }
        }
        let _ = saver.await;
    }

    /// Writes changes to the store, apart from the publication, which does not wait for a disk. A crash in between costs
    /// no more than the grace period of the workload that changed last.
    async fn save(self, drain: DrainWatch) {
        let _guard = drain.guard();
        loop {
            let ends = drain.is_signaled();
            let changes = self.entries().take_unsaved();
            if !changes.is_empty() {
                let store = self.0.store.clone();
                let write = move || {
                    for (name, workload) in changes {
                        let written = match workload {
                            Some(workload) => store.put_workload(&workload),
                            None => store.delete_workload(&name),
                        };
                        if let Err(error) = written {
                            tracing::error!(workload = %name, %error, "the registry cannot be saved");
                        }
                    }
                };
                let _ = tokio::task::spawn_blocking(write).await;
            }
            if ends {
                return;
            }
            tokio::select! {
                () = self.0.unsaved.notified() => {}
                () = drain.signaled() => {}
            }
        }
    }

    fn wake(&self) {
        self.0.changed.notify_one();
        self.0.unsaved.notify_one();
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_revoked(workload: &Workload, revocations: &Revocations) -> bool {
    workload.identity.as_ref().is_some_and(|identity| revocations.refuse(identity, workload.lineage.as_ref()))
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Keeps a workload alive. Dropping it starts the grace period, unless a newer lease has taken over.
pub struct Lease {
    registry: Registry,
    proven: SpiffeId,
    lineage: Option<Lineage>,
    name: Name,
    id: u64,
}

impl Lease {
    /// Whose lease it is.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Takes up a changed registration of the same workload.
    ///
    /// # Errors
    /// As [`Registry::register`], or it names another workload. The one before stays.
    pub fn update(&self, registration: &Registration) -> Result<(), Refused> {
        let workload = check::workload(registration, &self.proven, self.lineage)?;
        if workload.name != self.name {
            return Err(Refused::Invalid(format!(
                "the stream belongs to the workload {}, it cannot become {}",
                self.name, workload.name
            )));
        }
        self.registry.entries().update(self.id, workload, registration.state);
        self.registry.wake();
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let until = Instant::now() + self.registry.0.grace;
        self.registry.entries().release(&self.name, self.id, until);
        self.registry.wake();
    }
}

#[cfg(test)]
mod tests;
