//! The entries of the registry: a pure state machine, with the time given from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use leno_proto::WorkloadState;
use tokio::time::Instant;

use super::{Live, Refused};
use crate::model::{Name, Workload};

/// Most sidecars at once under one name: it should be one.
const MOST_HOLDERS: usize = 16;

struct Holder {
    /// Zero for what an earlier life left.
    lease: u64,
    /// None while it drains: it holds its lease, but gets no traffic.
    workload: Option<Arc<Workload>>,
}

struct Entry {
    /// Whose sessions hold the name, the newest last; the last one alone also after its lease was dropped. It is one, unless
    /// several sidecars were given one name: then the newest that does not drain counts, and the one before when it goes.
    holders: Vec<Holder>,
    /// Who registered it.
    identity: Option<String>,
    /// Set while no session holds it.
    expires: Option<Instant>,
}

impl Entry {
    fn workload(&self) -> Option<&Arc<Workload>> {
        self.holders.iter().rev().find_map(|holder| holder.workload.as_ref())
    }

    fn workload_mut(&mut self) -> Option<&mut Arc<Workload>> {
        self.holders.iter_mut().rev().find_map(|holder| holder.workload.as_mut())
    }
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
        let holders = vec![Holder { lease: 0, workload: Some(Arc::new(workload)) }];
        self.by_name.insert(name, Entry { holders, identity, expires: Some(until) });
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
        let place = (workload.address, workload.mesh_port);
        let new = Holder { lease, workload: stateful(workload, state) };
        let mut entry = Entry { holders: Vec::new(), identity, expires: None };
        if let Some(old) = self.by_name.remove(&name) {
            self.forget_expiry(&name, old.expires);
            let before = old.workload().cloned();
            if old.expires.is_none() {
                entry.holders = old.holders;
                // From the same place it is the same sidecar again, before its old connection was found dead.
                let other = |w: &Arc<Workload>| (w.address, w.mesh_port) != place;
                entry.holders.retain(|holder| holder.workload.as_ref().is_some_and(other));
                warn_of_two(&entry, &name);
                if entry.holders.len() >= MOST_HOLDERS {
                    entry.holders.remove(0);
                }
            }
            entry.holders.push(new);
            self.place(name, entry, before);
        } else {
            entry.holders.push(new);
            self.place(name, entry, None);
        }
        Ok(lease)
    }

    /// Sets an entry, and notes what is to be published and written, unless nothing changed: a sidecar that only came back,
    /// with a new certificate for example, is news to nobody.
    fn place(&mut self, name: Name, mut entry: Entry, before: Option<Arc<Workload>>) {
        if entry.workload() != before.as_ref() {
            self.unpublished = true;
            self.unsaved.insert(name.clone());
        } else if let (Some(now), Some(before)) = (entry.workload_mut(), before) {
            *now = before;
        }
        self.by_name.insert(name, entry);
    }

    /// Does nothing when the lease holds the name no more.
    pub(super) fn update(&mut self, lease: u64, workload: Workload, state: WorkloadState) {
        let name = workload.name.clone();
        let Some(mut entry) = self.by_name.remove(&name) else { return };
        let before = entry.workload().cloned();
        if let Some(holder) = entry.holders.iter_mut().find(|holder| holder.lease == lease) {
            holder.workload = stateful(workload, state);
        }
        self.place(name, entry, before);
    }

    /// The session of a lease is gone. One that drained does not come back, so it goes at once; so does one of several,
    /// since the name is not without a sidecar then.
    pub(super) fn release(&mut self, name: &Name, lease: u64, until: Instant) {
        let Some(mut entry) = self.by_name.remove(name) else { return };
        let before = entry.workload().cloned();
        let Some(at) = entry.holders.iter().position(|holder| holder.lease == lease) else {
            return self.place(name.clone(), entry, before);
        };
        if entry.holders.len() > 1 {
            entry.holders.remove(at);
        } else if before.is_none() {
            return;
        } else {
            entry.expires = Some(until);
            self.expiries.insert((until, name.clone()));
        }
        self.place(name.clone(), entry, before);
    }

    /// Takes out the workloads that are refused now, whatever their sessions do; gives the names.
    pub(super) fn evict(&mut self, refused: impl Fn(&Workload) -> bool) -> Vec<Name> {
        let holds = |entry: &Entry| entry.holders.iter().any(|h| h.workload.as_ref().is_some_and(|w| refused(w)));
        let names = self.by_name.iter().filter(|(_, entry)| holds(entry)).map(|(name, _)| name.clone());
        let names: Vec<Name> = names.collect();
        for name in &names {
            let Some(mut entry) = self.by_name.remove(name) else { continue };
            let before = entry.workload().cloned();
            entry.holders.retain(|holder| holder.workload.as_ref().is_none_or(|w| !refused(w)));
            if entry.holders.is_empty() {
                self.forget_expiry(name, entry.expires);
                self.unsaved.insert(name.clone());
                self.unpublished = true;
            } else {
                self.place(name.clone(), entry, before);
            }
        }
        names
    }

    /// The sidecars that hold a name, without those that drain.
    pub(super) fn holders(&self, name: &Name) -> Vec<Arc<Workload>> {
        let entry = self.by_name.get(name);
        entry.into_iter().flat_map(|entry| &entry.holders).filter_map(|holder| holder.workload.clone()).collect()
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
        self.by_name.iter().filter_map(|(name, entry)| Some((name.clone(), entry.workload()?.clone()))).collect()
    }

    /// What is alive, when that is news since the last call.
    pub(super) fn take_unpublished(&mut self) -> Option<Live> {
        std::mem::take(&mut self.unpublished).then(|| self.live())
    }

    pub(super) fn is_alive(&self, name: &Name) -> bool {
        self.by_name.get(name).is_some_and(|entry| entry.workload().is_some())
    }

    /// What has changed since the last call: the present workload, or none when it is gone.
    pub(super) fn take_unsaved(&mut self) -> Vec<(Name, Option<Arc<Workload>>)> {
        let names = std::mem::take(&mut self.unsaved);
        let present = |name: &Name| self.by_name.get(name).and_then(|entry| entry.workload().cloned());
        names.into_iter().map(|name| (name.clone(), present(&name))).collect()
    }

    fn forget_expiry(&mut self, name: &Name, expires: Option<Instant>) {
        if let Some(time) = expires {
            self.expiries.remove(&(time, name.clone()));
        }
    }
}

fn warn_of_two(entry: &Entry, name: &Name) {
    if let Some(held) = entry.workload() {
        let held_by = format!("{}:{}", held.address, held.mesh_port.unwrap_or_default());
        tracing::warn!(workload = %name, %held_by, "another sidecar took over the name; give each its own --name and --state-dir");
    }
}

fn stateful(workload: Workload, state: WorkloadState) -> Option<Arc<Workload>> {
    match state {
        WorkloadState::Draining => None,
        WorkloadState::Ready => Some(Arc::new(Workload { healthy: true, ..workload })),
        WorkloadState::Unhealthy => Some(Arc::new(Workload { healthy: false, ..workload })),
    }
}
