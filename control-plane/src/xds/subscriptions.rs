//! What one sidecar subscribed to, what it was sent, and what it has answered: a pure state machine.
//!
//! Names that may have changed are collected and looked at only when something can be sent, in the newest world of that
//! moment. So a sidecar that reads slowly skips states in between, and what is kept for it never grows past what it
//! subscribed to.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::discovery::{Client, Resource, ResourceType, Version, World};

/// Most names of one session.
pub(super) const MOST_NAMES: usize = 50_000;
/// Longest name, in bytes.
pub(super) const MOST_NAME_BYTES: usize = 512;
/// Messages that are sent and not answered; at this many a session waits.
pub(super) const MOST_IN_FLIGHT: usize = 1_000;
/// A message is closed at this size, in bytes, or after so many names.
const FULL_BYTES: usize = 1024 * 1024;
const FULL_NAMES: usize = 1_000;

/// A request of the stream.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) kind: ResourceType,
    pub(super) subscribe: Vec<String>,
    pub(super) unsubscribe: Vec<String>,
    /// What the sidecar holds from before, by name; read in the first request of a type only.
    pub(super) held: BTreeMap<String, String>,
    pub(super) answer: Option<Answer>,
}

/// What became of a message.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) nonce: u64,
    /// The reason of a NACK.
    pub(super) refused: Option<String>,
}

/// A message to send.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    pub(super) kind: ResourceType,
    pub(super) nonce: u64,
    pub(super) revision: u64,
    pub(super) resources: Vec<(Arc<str>, Arc<Resource>)>,
    pub(super) removed: Vec<Arc<str>>,
}

/// A message that was refused and has not been replaced by a better one yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) reason: String,
    pub(super) resources: Vec<String>,
    pub(super) revision: u64,
}

/// A sidecar that does what no sidecar of ours does; its stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Violation {
    LongName(usize),
    ManyNames,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LongName(bytes) => {
                write!(f, "a resource name has {bytes} bytes, at most {MOST_NAME_BYTES} are taken")
            }
            Self::ManyNames => write!(f, "a session may subscribe to {MOST_NAMES} names, and no more"),
        }
    }
}

/// What the sidecar was told of a name last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Absent,
    Version(Version),
}

#[derive(Debug, Default)]
struct OfType {
    names: HashMap<Arc<str>, Told>,
    /// The first request of the type has been read.
    begun: bool,
}

#[derive(Debug)]
struct InFlight {
    kind: ResourceType,
    names: Vec<Arc<str>>,
    revision: u64,
    sent: Instant,
}

/// The state of one session.
pub(super) struct Subscriptions {
    client: Client,
    world: Arc<World>,
    types: [OfType; ResourceType::ALL.len()],
    /// Names to look at, in sending order.
    pending: BTreeSet<(ResourceType, Arc<str>)>,
    in_flight: BTreeMap<u64, InFlight>,
    /// How long the message had been under way that was answered last; for whoever counts it, once.
    pub(super) answered_after: Option<Duration>,
    last_nonce: u64,
    /// A revision and the last message that it needed, oldest first; as many at most as messages in flight.
    checkpoints: VecDeque<(u64, u64)>,
    acked: u64,
    refused: HashMap<(ResourceType, Arc<str>), Arc<Refused>>,
    sent: u64,
}

impl Subscriptions {
    /// A session of a sidecar.
    pub(super) fn new(client: Client, world: Arc<World>) -> Self {
        let mut new = Self {
            client,
            world,
            types: Default::default(),
            pending: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            answered_after: None,
            last_nonce: 0,
            checkpoints: VecDeque::new(),
            acked: 0,
            refused: HashMap::new(),
            sent: 0,
        };
        new.settle();
        new
    }

    /// Takes up a request.
    pub(super) fn request(&mut self, request: Request) -> Result<(), Violation> {
        if let Some(answer) = request.answer {
            self.answered(answer);
        }
        let kind = request.kind;
        for name in &request.unsubscribe {
            self.unsubscribe(kind, name);
        }
        let first = !std::mem::replace(&mut self.of(kind).begun, true);
        for name in request.subscribe {
            let held = request.held.get(&name).filter(|_| first).and_then(|version| Version::from_hex(version));
            self.subscribe(kind, name, held)?;
        }
        self.settle();
        Ok(())
    }

    /// Takes up a newer world.
    pub(super) fn observe(&mut self, world: Arc<World>) {
        let before = std::mem::replace(&mut self.world, world.clone());
        match world.changed_since(before.sequence()) {
            Some(changes) => {
                for (kind, name) in changes {
                    if self.types[*kind as usize].names.contains_key(name) {
                        self.pending.insert((*kind, name.clone()));
                    }
                }
            }
            None => {
                for kind in ResourceType::ALL {
                    let names = self.types[kind as usize].names.keys();
                    self.pending.extend(names.map(|name| (kind, name.clone())));
                }
            }
        }
        self.settle();
    }

    /// Whether [`next`](Self::next) may have a message.
    pub(super) fn wants_to_send(&self) -> bool {
        !self.pending.is_empty() && self.in_flight.len() < MOST_IN_FLIGHT
    }

    /// The next message, of one type. None when nothing is new, or too much is unanswered.
    pub(super) fn next(&mut self) -> Option<Outgoing> {
        let mut outgoing: Option<Outgoing> = None;
        let mut bytes = 0;
        while self.wants_to_send() {
            let Some((kind, name)) = self.pending.first().cloned() else { break };
            if outgoing.as_ref().is_some_and(|o| o.kind != kind) {
                break;
            }
            self.pending.pop_first();
            let current = self.world.get(kind, &name, &self.client).cloned();
            let tell = current.as_ref().map_or(Told::Absent, |resource| Told::Version(resource.version));
            let Some(told) = self.types[kind as usize].names.get_mut(&name) else { continue };
            if *told == tell {
                continue;
            }
            *told = tell;
            let message = outgoing.get_or_insert_with(|| Outgoing {
                kind,
                nonce: self.last_nonce + 1,
                revision: self.world.revision,
                resources: Vec::new(),
                removed: Vec::new(),
            });
            match current {
                Some(resource) => {
                    bytes += resource.any.value.len() + name.len();
                    message.resources.push((name, resource));
                }
                None => message.removed.push(name),
            }
            if bytes >= FULL_BYTES || message.resources.len() + message.removed.len() >= FULL_NAMES {
                break;
            }
        }
        if let Some(message) = &outgoing {
            self.depart(message);
        }
        self.settle();
        outgoing
    }

    /// Messages that are sent and not answered.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// The newest revision of which everything that had to be sent was answered.
    pub(super) fn acked(&self) -> u64 {
        self.acked
    }

    /// Whether a message waits for its answer.
    pub(super) fn waits(&self) -> bool {
        !self.in_flight.is_empty() || !self.pending.is_empty()
    }

    /// The newest NACK that still stands.
    pub(super) fn refused(&self) -> Option<Arc<Refused>> {
        self.refused.values().max_by_key(|refused| refused.revision).cloned()
    }

    /// The Gateways that the sidecar holds, and the version that it has in force.
    pub(super) fn gateways(&self) -> Vec<(Arc<str>, Version)> {
        let kind = ResourceType::Gateway;
        let named = self.types[kind as usize].names.iter().filter_map(|(name, told)| match told {
            Told::Version(version) => Some((name.clone(), *version)),
            Told::Nothing | Told::Absent => None,
        });
        // One that is on its way or was refused is not in force.
        let open = |name: &Arc<str>| {
            self.refused.contains_key(&(kind, name.clone()))
                || self.in_flight.values().any(|message| message.kind == kind && message.names.contains(name))
        };
        named.filter(|(name, _)| !open(name)).collect()
    }

    /// How many names are subscribed.
    pub(super) fn names(&self) -> usize {
        self.types.iter().map(|of| of.names.len()).sum()
    }

    /// Whether any name of a type was asked for.
    pub(super) fn has_begun(&self, kind: ResourceType) -> bool {
        self.types[kind as usize].begun
    }

    /// How many resources were sent.
    pub(super) fn resources_sent(&self) -> u64 {
        self.sent
    }

    fn of(&mut self, kind: ResourceType) -> &mut OfType {
        &mut self.types[kind as usize]
    }

    /// A name that is subscribed again is sent again, as xDS has it: the sidecar may have dropped it.
    fn subscribe(&mut self, kind: ResourceType, name: String, held: Option<Version>) -> Result<(), Violation> {
        if name.len() > MOST_NAME_BYTES {
            return Err(Violation::LongName(name.len()));
        }
        if self.names() >= MOST_NAMES && !self.of(kind).names.contains_key(name.as_str()) {
            return Err(Violation::ManyNames);
        }
        let name: Arc<str> = name.into();
        self.of(kind).names.insert(name.clone(), held.map_or(Told::Nothing, Told::Version));
        self.pending.insert((kind, name));
        Ok(())
    }

    fn unsubscribe(&mut self, kind: ResourceType, name: &str) {
        if let Some((name, _)) = self.of(kind).names.remove_entry(name) {
            let key = (kind, name);
            self.pending.remove(&key);
            self.refused.remove(&key);
        }
    }

    /// An answer to a message that was never sent, or was answered before, says nothing.
    fn answered(&mut self, answer: Answer) {
        let Some(message) = self.in_flight.remove(&answer.nonce) else { return };
        self.answered_after = Some(message.sent.elapsed());
        let refused = answer.refused.map(|reason| {
            let resources = message.names.iter().map(ToString::to_string).collect();
            Arc::new(Refused { reason, resources, revision: message.revision })
        });
        for name in message.names {
            let key = (message.kind, name);
            match &refused {
                Some(refused) if self.types[key.0 as usize].names.contains_key(&key.1) => {
                    self.refused.insert(key, refused.clone());
                }
                _ => drop(self.refused.remove(&key)),
            }
        }
    }

    fn depart(&mut self, message: &Outgoing) {
        self.last_nonce = message.nonce;
        self.sent += message.resources.len() as u64;
        let names = message.resources.iter().map(|(name, _)| name).chain(&message.removed).cloned().collect();
        self.in_flight.insert(
            message.nonce,
            InFlight { kind: message.kind, names, revision: message.revision, sent: Instant::now() },
        );
    }

    /// Notes when all of a revision is on its way, and which revisions have arrived. Messages that follow at the same revision
    /// (a new subscription, an endpoint that moved) do not hold it up.
    fn settle(&mut self) {
        let revision = self.world.revision;
        if self.pending.is_empty() && self.acked < revision {
            let last = self.checkpoints.back().copied();
            if last.is_some_and(|(_, nonce)| nonce == self.last_nonce) {
                self.checkpoints.pop_back();
            }
            if last.is_none_or(|(at, nonce)| at != revision || nonce == self.last_nonce) {
                self.checkpoints.push_back((revision, self.last_nonce));
            }
            // Only a sidecar that leaves one message unanswered for ever gets here; the newer revisions imply the older.
            if self.checkpoints.len() > MOST_IN_FLIGHT {
                self.checkpoints.pop_front();
            }
        }
        self.arrive();
    }

    fn arrive(&mut self) {
        let unanswered = self.in_flight.first_key_value().map_or(u64::MAX, |(nonce, _)| *nonce);
        while let Some((revision, nonce)) = self.checkpoints.front().copied() {
            if nonce >= unanswered {
                break;
            }
            self.acked = self.acked.max(revision);
            self.checkpoints.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
