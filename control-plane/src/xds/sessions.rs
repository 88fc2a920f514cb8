//! All sessions at a glance: who holds which revision, and waiting for all of them to hold one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use leno_proto::WorkloadState;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use super::subscriptions::Refused;
use crate::ca::Step;
use crate::discovery::Version;
use crate::model::{BoundPorts, Name, Workload};
use crate::registry::Registry;

/// Acknowledgements that come together are looked at together.
const TOGETHER: Duration = Duration::from_millis(2);

/// What a sidecar said to the newest messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Ack {
    Ack,
    Nack,
    Pending,
}

/// Why a sidecar refused something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Nack {
    pub reason: String,
    /// Names of the resources of the message that was refused.
    pub resources: Vec<String>,
    pub revision: u64,
}

/// One sidecar, connected or gone for less than the grace period.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SidecarStatus {
    /// NAMESPACE/NAME
    pub workload: String,
    pub identity: String,
    /// Of its mesh port.
    pub address: String,
    pub connected: bool,
    pub state: &'static str,
    /// The newest revision that it has in force.
    pub revision: u64,
    pub ack: Ack,
    pub nack: Option<Nack>,
    /// RFC 3339; none when it has not connected since the control plane started.
    pub certificate_expires: Option<String>,
    pub subscriptions: usize,
    pub resources_sent: u64,
    pub version: String,
}

/// A sidecar that refused the revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Nacked {
    pub sidecar: String,
    pub reason: String,
}

/// How a wait ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct WaitOutcome {
    /// Sidecars that the revision concerns.
    pub concerned: usize,
    /// Those that have it in force.
    pub acked: usize,
    /// Those that refused it.
    pub nacked: Vec<Nacked>,
    /// Those that had not answered when the time was over.
    pub missing: Vec<String>,
}

/// The state of one session, as the session itself keeps it up to date.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) name: Name,
    pub(super) identity: String,
    pub(super) address: String,
    pub(super) state: WorkloadState,
    pub(super) version: String,
    pub(super) certificate_expires: OffsetDateTime,
    /// Which authority has signed it.
    pub(super) signed_by: Option<Vec<u8>>,
    pub(super) acked: u64,
    pub(super) waits: bool,
    pub(super) nack: Option<Arc<Refused>>,
    pub(super) subscriptions: usize,
    pub(super) resources_sent: u64,
    pub(super) gateways: Vec<(Arc<str>, Version)>,
    /// What became of the ports of the Gateway that it serves; None: it does not say.
    pub(super) gateway_ports: Option<BoundPorts>,
}

#[derive(Default)]
struct Table {
    connected: BTreeMap<u64, State>,
    /// How many sessions a workload holds: two for a moment, when it came back before the old connection was found dead.
    by_name: BTreeMap<Name, BTreeSet<u64>>,
    /// The last state of those that are gone and still alive to the registry.
    gone: BTreeMap<Name, State>,
    last_id: u64,
}

struct Inner {
    table: Mutex<Table>,
    changed: watch::Sender<()>,
    registry: Registry,
}

/// A handle to the table of sessions; clones share it.
#[derive(Clone)]
pub struct Sessions(Arc<Inner>);

impl Sessions {
    /// No session yet.
    pub fn new(registry: Registry) -> Self {
        Self(Arc::new(Inner { table: Mutex::default(), changed: watch::Sender::new(()), registry }))
    }

    /// Every sidecar, sorted by its workload's name.
    pub fn status(&self) -> Vec<SidecarStatus> {
        let alive = self.0.registry.live();
        let mut table = self.table();
        table.gone.retain(|name, _| alive.contains_key(name));
        let mut all: Vec<SidecarStatus> = table.connected.values().map(|state| status(state, true)).collect();
        for (name, workload) in alive.iter().filter(|(name, _)| !table.by_name.contains_key(*name)) {
            all.push(match table.gone.get(name) {
                Some(state) => status(state, false),
                None => not_seen_yet(name, workload),
            });
        }
        drop(table);
        all.sort_by(|a, b| a.workload.cmp(&b.workload));
        all
    }

    /// The sidecars that have a Gateway in force in exactly this version, with what became of its ports.
    pub fn serving(&self, gateway: &Name, version: Version) -> Vec<(Name, Option<BoundPorts>)> {
        let text = gateway.to_string();
        let table = self.table();
        let holds = |state: &&State| state.gateways.iter().any(|(name, held)| **name == *text && *held == version);
        table.connected.values().filter(holds).map(|state| (state.name.clone(), state.gateway_ports.clone())).collect()
    }

    /// Whether a sidecar that was there before the control plane started may still come back.
    pub fn awaited(&self) -> bool {
        let alive = self.0.registry.live();
        let table = self.table();
        alive.keys().any(|name| !table.by_name.contains_key(name) && !table.gone.contains_key(name))
    }

    /// Who a rotation waits for: sidecars that are alive and have not done this step. One that drains is not waited for, and one that is
    /// away only until its grace period ends.
    pub fn behind(&self, step: &Step) -> Vec<String> {
        let alive = self.0.registry.live();
        let table = self.table();
        let done = |state: &&State| match step {
            Step::Idle => true,
            Step::Known { revision } => {
                state.acked >= *revision && state.nack.as_ref().is_none_or(|nack| nack.revision < *revision)
            }
            Step::Renewed { key_id, .. } => state.signed_by.as_ref() == Some(key_id),
        };
        let has_another = |workload: &Workload| match (step, &workload.lineage) {
            (Step::Renewed { others, .. }, Some(lineage)) => others.contains(&lineage.instance),
            _ => false,
        };
        let behind = alive.iter().filter_map(|(name, workload)| {
            let ids = table.by_name.get(name);
            let mut sessions = ids.into_iter().flatten().filter_map(|id| table.connected.get(id)).peekable();
            if sessions.peek().is_none() {
                return (*step != Step::Idle).then(|| format!("{name} (away)"));
            }
            let refused = sessions.clone().find_map(|state| state.nack.as_ref().map(|nack| nack.reason.clone()));
            let all = !has_another(workload) && sessions.all(|state| done(&state));
            (!all).then(|| refused.map_or_else(|| name.to_string(), |why| format!("{name} (refuses: {why})")))
        });
        behind.collect()
    }

    /// How many sidecars hold a stream.
    pub fn connected(&self) -> usize {
        self.table().connected.len()
    }

    /// Waits until every sidecar concerned has answered for a revision, or the time is over.
    ///
    /// Concerned is who is connected when the wait begins, and who was until less than the grace period ago, for it still
    /// carries traffic. One whose grace period ends meanwhile is no part of the mesh any more. One that connects later
    /// begins with the newest revision.
    pub async fn wait_for(&self, revision: u64, most: Duration) -> WaitOutcome {
        let deadline = Instant::now() + most;
        let mut changed = self.0.changed.subscribe();
        let mut live = self.0.registry.subscribe();
        let mut concerned: BTreeSet<Name> = self.0.registry.live().into_keys().collect();
        concerned.extend(self.table().by_name.keys().cloned());
        loop {
            changed.mark_unchanged();
            live.mark_unchanged();
            let outcome = self.outcome(revision, &concerned);
            if outcome.missing.is_empty() || Instant::now() >= deadline {
                return outcome;
            }
            let next = async {
                tokio::select! {
                    _ = changed.changed() => {}
                    _ = live.changed() => {}
                }
            };
            if timeout_at(deadline, next).await.is_ok() {
                sleep(TOGETHER).await;
            }
        }
    }

    fn outcome(&self, revision: u64, concerned: &BTreeSet<Name>) -> WaitOutcome {
        let mut outcome = WaitOutcome::default();
        let table = self.table();
        for name in concerned {
            let sessions = table.by_name.get(name).into_iter().flatten().filter_map(|id| table.connected.get(id));
            let sessions: Vec<&State> = sessions.collect();
            if sessions.is_empty() && !self.0.registry.is_alive(name) {
                continue;
            }
            outcome.concerned += 1;
            if sessions.is_empty() || sessions.iter().any(|state| state.acked < revision) {
                outcome.missing.push(name.to_string());
            } else if let Some(nack) = sessions.iter().filter_map(|s| s.nack.as_ref()).find(|n| n.revision >= revision)
            {
                outcome.nacked.push(Nacked { sidecar: name.to_string(), reason: nack.reason.clone() });
            } else {
                outcome.acked += 1;
            }
        }
        outcome
    }

    /// Enters a session.
    pub(super) fn enter(&self, state: State) -> Session {
        let mut table = self.table();
        table.last_id += 1;
        let id = table.last_id;
        table.gone.remove(&state.name);
        table.by_name.entry(state.name.clone()).or_default().insert(id);
        table.connected.insert(id, state);
        drop(table);
        self.0.changed.send_replace(());
        Session { sessions: self.clone(), id }
    }

    /// The registry's lock may be taken under this one, never the other way round.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session's entry. Dropping it says that the sidecar is gone.
pub(super) struct Session {
    sessions: Sessions,
    id: u64,
}

impl Session {
    pub(super) fn update(&self, change: impl FnOnce(&mut State)) {
        let mut table = self.sessions.table();
        if let Some(state) = table.connected.get_mut(&self.id) {
            let before = (state.acked, state.nack.as_ref().map(|n| n.revision));
            change(state);
            let news = before != (state.acked, state.nack.as_ref().map(|n| n.revision));
            drop(table);
            if news {
                self.sessions.0.changed.send_replace(());
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut table = self.sessions.table();
        let Some(state) = table.connected.remove(&self.id) else { return };
        if let Some(sessions) = table.by_name.get_mut(&state.name) {
            sessions.remove(&self.id);
            if sessions.is_empty() {
                table.by_name.remove(&state.name);
                if self.sessions.0.registry.is_alive(&state.name) {
                    table.gone.insert(state.name.clone(), state);
                }
            }
        }
        drop(table);
        self.sessions.0.changed.send_replace(());
    }
}

fn status(state: &State, connected: bool) -> SidecarStatus {
    let ack = match (&state.nack, state.waits) {
        (Some(_), _) => Ack::Nack,
        (None, true) => Ack::Pending,
        (None, false) => Ack::Ack,
    };
    SidecarStatus {
        workload: state.name.to_string(),
        identity: state.identity.clone(),
        address: state.address.clone(),
        connected,
        state: state.state.as_str(),
        revision: state.acked,
        ack,
        nack: state.nack.as_ref().map(|refused| Nack {
            reason: refused.reason.clone(),
            resources: refused.resources.clone(),
            revision: refused.revision,
        }),
        certificate_expires: state.certificate_expires.format(&Rfc3339).ok(),
        subscriptions: state.subscriptions,
        resources_sent: state.resources_sent,
        version: state.version.clone(),
    }
}

/// Alive from before the control plane started, and not connected since.
fn not_seen_yet(name: &Name, workload: &Workload) -> SidecarStatus {
    let state = if workload.healthy { WorkloadState::Ready } else { WorkloadState::Unhealthy };
    SidecarStatus {
        workload: name.to_string(),
        identity: workload.identity.clone().unwrap_or_default(),
        address: std::net::SocketAddr::new(workload.address, workload.mesh_port.unwrap_or_default()).to_string(),
        connected: false,
        state: state.as_str(),
        revision: 0,
        ack: Ack::Pending,
        nack: None,
        certificate_expires: None,
        subscriptions: 0,
        resources_sent: 0,
        version: String::new(),
    }
}
