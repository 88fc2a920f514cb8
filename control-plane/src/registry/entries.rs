//! The entries of the registry: a pure state machine, with the time given from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use leno_proto::WorkloadState;
use tokio::time::Instant;

use super::{Live, Refused};
use crate::model::{Name, Workload};

struct Entry {
    /// The newest lease, also after it was dropped; zero for what an earlier life left.
    lease: u64,
    /// None while it drains: it holds its lease, but gets no traffic.
    workload: Option<Arc<Workload>>,
    /// Who registered it.
    identity: Option<String>,
    /// Set while no session holds it.
    expires: Option<Instant>,
}

pub(super) struct Entries {
    by_name: BTreeMap<Name, Entry>,
    expiries: BTreeSet<(Instant, Name)>,
    unsaved: BTreeSet<Name>,
    /// What is alive differs from what was published.
    unpublished: bool,
    last_lease: u64,
    most: usize,
}

impl Entries {
    pub(super) fn new(most: usize) -> Self {
        Self {
            by_name: BTreeMap::new(),
            expiries: BTreeSet::new(),
            unsaved: BTreeSet::new(),
            unpublished: true,
            last_lease: 0,
            most,
        }
    }

    pub(super) fn restore(&mut self, workload: Workload, until: Instant) {
        let name = workload.name.clone();
        self.expiries.insert((until, name.clone()));
        let identity = workload.identity.clone();
        self.by_name
            .insert(name, Entry { lease: 0, workload: Some(Arc::new(workload)), identity, expires: Some(until) });
    }

    /// Gives the number of the new lease.
    pub(super) fn register(&mut self, workload: Workload, state: WorkloadState) -> Result<u64, Refused> {
        let name = workload.name.clone();
        if self.by_name.len() >= self.most && !self.by_name.contains_key(&name) {
            return Err(Refused::Full(self.most));
        }
        // A name changes hands only when its holder is gone, else one workload of a namespace could push another out.
        if let Some(held) = self.by_name.get(&name).filter(|e| e.expires.is_none() && e.identity != workload.identity) {
            return Err(Refused::Taken { name, by: held.identity.clone().unwrap_or_default() });
        }
        self.last_lease += 1;
        let lease = self.last_lease;
        let identity = workload.identity.clone();
        let new = stateful(workload, state);
        let old = self.by_name.insert(name.clone(), Entry { lease, workload: new.clone(), identity, expires: None });
        self.forget_expiry(&name, old.as_ref().and_then(|old| old.expires));
        self.noted(name, old.and_then(|old| old.workload), new);
        Ok(lease)
    }

    /// Does nothing when a newer lease has taken over.
    pub(super) fn update(&mut self, lease: u64, workload: Workload, state: WorkloadState) {
        let name = workload.name.clone();
        if let Some(entry) = self.by_name.get_mut(&name).filter(|entry| entry.lease == lease) {
            let new = stateful(workload, state);
            let old = std::mem::replace(&mut entry.workload, new.clone());
            self.noted(name, old, new);
        }
    }

    /// Notes what is to be published and written, unless nothing changed: a sidecar that only came back, with a new
    /// certificate for example, is news to nobody.
    fn noted(&mut self, name: Name, old: Option<Arc<Workload>>, new: Option<Arc<Workload>>) {
        if old == new {
            if let (Some(entry), Some(old)) = (self.by_name.get_mut(&name), old) {
                entry.workload = Some(old);
            }
            return;
        }
        self.unpublished = true;
        self.unsaved.insert(name);
    }

    /// The session of a lease is gone. One that drained does not come back, so it goes at once.
    pub(super) fn release(&mut self, name: &Name, lease: u64, until: Instant) {
        let Some(entry) = self.by_name.get_mut(name).filter(|entry| entry.lease == lease) else { return };
        if entry.workload.is_none() {
            self.by_name.remove(name);
            return;
        }
        entry.expires = Some(until);
        self.expiries.insert((until, name.clone()));
    }

    /// Removes what is gone for too long; gives the names.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Name> {
        let mut gone = Vec::new();
        while self.expiries.first().is_some_and(|(time, _)| *time <= now) {
            if let Some((_, name)) = self.expiries.pop_first() {
                self.by_name.remove(&name);
                self.unsaved.insert(name.clone());
                self.unpublished = true;
                gone.push(name);
            }
        }
        gone
    }

    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.expiries.first().map(|(time, _)| *time)
    }

    pub(super) fn live(&self) -> Live {
        self.by_name.iter().filter_map(|(name, entry)| Some((name.clone(), entry.workload.clone()?))).collect()
    }

    /// What is alive, when that is news since the last call.
    pub(super) fn take_unpublished(&mut self) -> Option<Live> {
        std::mem::take(&mut self.unpublished).then(|| self.live())
    }

    pub(super) fn is_alive(&self, name: &Name) -> bool {
        self.by_name.get(name).is_some_and(|entry| entry.workload.is_some())
    }

    /// What has changed since the last call: the present workload, or none when it is gone.
    pub(super) fn take_unsaved(&mut self) -> Vec<(Name, Option<Arc<Workload>>)> {
        let names = std::mem::take(&mut self.unsaved);
        let present = |name: &Name| self.by_name.get(name).and_then(|entry| entry.workload.clone());
        names.into_iter().map(|name| (name.clone(), present(&name))).collect()
    }

    fn forget_expiry(&mut self, name: &Name, expires: Option<Instant>) {
        if let Some(time) = expires {
            self.expiries.remove(&(time, name.clone()));
        }
    }
}

fn stateful(workload: Workload, state: WorkloadState) -> Option<Arc<Workload>> {
    match state {
        WorkloadState::Draining => None,
        WorkloadState::Ready => Some(Arc::new(Workload { healthy: true, ..workload })),
        WorkloadState::Unhealthy => Some(Arc::new(Workload { healthy: false, ..workload })),
    }
}
