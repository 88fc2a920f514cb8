//! The client's half of the incremental xDS protocol, without input and output: what comes in are responses and demands,
//! what goes out are requests and assembled snapshots.
//!
//! Everything happens in turns: any number of [`Subscriber::receive`], [`Subscriber::want`] and [`Subscriber::idle`], then
//! one [`Subscriber::commit`], whose snapshot is published *before* its requests are sent. So an ACK always means 'in
//! force', and a burst of responses costs one assembly.

mod dump;
mod owed;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use leno_certs::{FederatedRoots, TrustBundle};
use leno_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node, Resource as Wire};
use leno_proto::resource::{Resource, SELF};
use leno_proto::v1;
use prost::Message;
use tokio::time::Instant;

use self::owed::{Answer, Owed};
use super::held::{Held, Key, Raw, known_type};
use super::identity::Credentials;
use super::snapshot::Saved;
use crate::model::{Assembled, Demand, Network, Resources, posture};
use crate::state::demand::MOST_DEMANDS;

const BUNDLE: &str = <v1::TrustBundle as Resource>::TYPE_URL;
const REVOCATIONS: &str = <v1::Revocations as Resource>::TYPE_URL;
const CONFIG: &str = <v1::SidecarConfig as Resource>::TYPE_URL;

/// What one turn leads to.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// To be published before anything is sent; `None` when nothing changed.
    pub assembled: Option<Assembled>,
    /// To be sent, in this order.
    pub requests: Vec<DeltaDiscoveryRequest>,
    /// How many responses were acknowledged in this turn.
    pub acked: usize,
    /// Reasons of the responses that were refused in this turn.
    pub nacked: Vec<String>,
}

/// What is demanded, what the server has said, and what it is owed.
pub struct Subscriber {
    credentials: Credentials,
    resources: Resources,
    held: Held,
    demanded: BTreeSet<Demand>,
    stream: Option<Stream>,
    changed: bool,
    /// Names that were answered in this turn.
    touched: BTreeSet<Key>,
    /// Destinations that the last assembly could not complete yet.
    incomplete: usize,
    /// What an earlier life was told of its namespace, until this one is told: an outage may outlast several lives.
    restored_config: Option<(Key, Raw)>,
}

/// What belongs to one stream and ends with it.
#[derive(Default)]
struct Stream {
    /// Sent with the first request only.
    node: Option<Node>,
    subscribed: BTreeMap<&'static str, BTreeSet<String>>,
    /// Subscribed and not yet answered; what every sidecar gets is left out.
    pending: BTreeSet<Key>,
    owed: Owed,
}

impl Subscriber {
    /// Nothing is known yet.
    pub fn new(credentials: Credentials) -> Self {
        Self {
            credentials,
            resources: Resources::default(),
            held: Held::default(),
            demanded: BTreeSet::new(),
            stream: None,
            changed: false,
            touched: BTreeSet::new(),
            incomplete: 0,
            restored_config: None,
        }
    }

    /// Takes what was saved on disk. A resource that cannot be used (the sidecar may have been replaced by an older one) is
    /// left out; the server sends it again.
    pub(super) fn restore(&mut self, saved: Saved) {
        for ((url, name), raw) in saved.held.iter() {
            // How the namespace treats outsiders holds in an outage, too. It is not held, so the server says it again, with its
            // word on renewal, which is old here.
            if *url == CONFIG {
                let _ = self.configure(&raw.any.value, false);
                self.restored_config = Some(((url, name.clone()), raw.clone()));
                continue;
            }
            match self.resources.upsert(name, &raw.any) {
                Ok(()) => self.held.insert((url, name.clone()), raw.clone()),
                Err(error) => tracing::warn!(%error, name, "a saved resource is left out"),
            }
        }
        for (url, name) in saved.held.absent() {
            self.resources.remove(url, name);
            self.held.set_absent((url, name.clone()));
        }
        self.demanded = saved.demanded.into_iter().take(MOST_DEMANDS).collect();
        self.changed = true;
    }

    /// What goes to disk: without the trust bundle and the revocations, which belong to the identity.
    pub(super) fn saved(&self) -> Saved {
        let mut held = self.held.clone();
        let own: Vec<Key> = held.keys().filter(|(url, _)| [BUNDLE, REVOCATIONS].contains(url)).cloned().collect();
        own.iter().for_each(|key| held.remove(key));
        if let Some((key, raw)) = &self.restored_config {
            held.insert(key.clone(), raw.clone());
        }
        Saved { held, demanded: self.demanded.iter().cloned().collect() }
    }

    /// A worker needs a destination. How many there may be is bounded by the table that the workers share.
    pub(super) fn want(&mut self, demand: Demand) {
        self.changed |= self.demanded.insert(demand);
    }

    /// No worker has used a destination for long.
    pub(super) fn idle(&mut self, demand: &Demand) {
        self.changed |= self.demanded.remove(demand);
    }

    /// Says which networks this machine is in, before anything is taken in that was sent or saved.
    pub(super) fn set_networks(&mut self, networks: Vec<Network>) {
        self.resources.set_networks(networks);
    }

    /// A new stream begins; the next [`Self::commit`] subscribes everything on it.
    pub(super) fn connected(&mut self, node: Node) {
        self.stream = Some(Stream { node: Some(node), ..Stream::default() });
    }

    /// The stream has ended. What it said stays in force; what it is owed is void, since nonces are a stream's own.
    pub(super) fn disconnected(&mut self) {
        self.stream = None;
    }

    /// Takes in one response: good resources are applied, bad ones noted for the NACK by name, with every reason.
    pub(super) fn receive(&mut self, response: DeltaDiscoveryResponse) {
        let Some(url) = known_type(&response.type_url) else {
            let reason = format!("type {:?} was never subscribed", response.type_url);
            self.owe(response.type_url, response.nonce, Answer::Nack(reason));
            return;
        };
        let mut reasons = Vec::new();
        for wire in response.resources {
            let key = (url, wire.name.clone());
            if !self.is_subscribed(&key) {
                // It crossed our unsubscription on the way. Taking it would leave it here for ever.
                continue;
            }
            if let Err(reason) = self.take(&key, wire) {
                reasons.push(format!("{}: {reason}", key.1));
            }
            self.answered(key);
        }
        for name in response.removed_resources {
            let key = (url, name);
            if self.is_subscribed(&key) {
                if !is_own(url) {
                    self.resources.remove(url, &key.1);
                }
                self.held.set_absent(key.clone());
                self.changed = true;
                self.answered(key);
            }
        }
        let answer = if reasons.is_empty() { Answer::Ack } else { Answer::Nack(reasons.join("; ")) };
        self.owe(response.type_url, response.nonce, answer);
    }

    fn is_subscribed(&self, (url, name): &Key) -> bool {
        self.stream.as_ref().and_then(|stream| stream.subscribed.get(url)).is_some_and(|names| names.contains(name))
    }

    fn answered(&mut self, key: Key) {
        if let Some(stream) = &mut self.stream {
            stream.pending.remove(&key);
        }
        self.touched.insert(key);
    }

    fn owe(&mut self, type_url: String, nonce: String, answer: Answer) {
        if let Some(stream) = &mut self.stream {
            stream.owed.add(type_url, nonce, answer);
        }
    }

    /// Applies one resource. On an error the version before it stays in force and held.
    fn take(&mut self, key: &Key, wire: Wire) -> Result<(), String> {
        let any = wire.resource.ok_or("it is empty")?;
        if any.type_url != key.0 {
            return Err(format!("it is of type {:?} in a response of type {:?}", any.type_url, key.0));
        }
        let raw = Raw { version: wire.version, any: Arc::new(any) };
        self.held.admits(key, &raw)?;
        match key.0 {
            BUNDLE => self.trust(&raw.any.value)?,
            REVOCATIONS => self.credentials.revoke(&raw.any.value)?,
            CONFIG => self.configure(&raw.any.value, true)?,
            _ => {
                self.resources.upsert(&key.1, &raw.any).map_err(|why| why.to_string())?;
                self.changed = true;
            }
        }
        self.held.insert(key.clone(), raw);
        Ok(())
    }

    fn trust(&self, value: &[u8]) -> Result<(), String> {
        let bundle = v1::TrustBundle::decode(value).map_err(|why| why.to_string())?;
        let federated = bundle.federated.into_iter();
        let federated =
            federated.map(|v1::FederatedRoots { trust_domain, roots }| FederatedRoots { trust_domain, roots });
        let (trust_domain, roots) = (bundle.trust_domain, bundle.roots);
        let bundle = TrustBundle { trust_domain, roots, federated: federated.collect() };
        self.credentials.replace_bundle(bundle).map_err(|why| why.to_string())
    }

    fn configure(&mut self, value: &[u8], live: bool) -> Result<(), String> {
        let config = v1::SidecarConfig::decode(value).map_err(|why| why.to_string())?;
        if live {
            self.restored_config = None;
            self.credentials.want_generation(config.renew_generation);
        }
        self.changed |= self.resources.set_posture(posture(&config).map_err(|why| why.to_string())?);
        Ok(())
    }

    /// Ends a turn.
    pub(super) fn commit(&mut self, now: Instant) -> Turn {
        let mut turn = Turn::default();
        let wanted = self.wanted();
        self.forget_all_but(&wanted);
        if std::mem::take(&mut self.changed) {
            let assembled = self.resources.assemble(&self.demanded);
            self.incomplete = assembled.incomplete;
            turn.assembled = Some(assembled);
        }
        let touched = std::mem::take(&mut self.touched);
        if let Some(stream) = &mut self.stream {
            let before = stream.pending.clone();
            stream.subscribe(&wanted, &self.held, &mut turn.requests);
            let caused: BTreeSet<Key> = stream.pending.difference(&before).cloned().collect();
            for due in stream.owed.due(now, &stream.pending, &touched, &caused) {
                match &due.error_detail {
                    None => turn.acked += 1,
                    Some(status) => turn.nacked.push(status.message.clone()),
                }
                turn.requests.push(due);
            }
            // A stream that has something to say for the first time says who it is.
            if let Some(first) = turn.requests.first_mut()
                && let Some(node) = stream.node.take()
            {
                first.node = Some(node);
            }
        }
        turn
    }

    /// Everything to be subscribed: what the demanded destinations lead to, and what every sidecar needs.
    fn wanted(&self) -> BTreeMap<&'static str, BTreeSet<String>> {
        let mut wanted: BTreeMap<&'static str, BTreeSet<String>> = BTreeMap::new();
        for (url, name) in self.resources.wanted(&self.demanded) {
            wanted.entry(url).or_default().insert(name);
        }
        for url in [BUNDLE, REVOCATIONS] {
            wanted.entry(url).or_default().insert(self.credentials.id().trust_domain().to_owned());
        }
        wanted.entry(CONFIG).or_default().insert(SELF.to_owned());
        wanted
    }

    fn forget_all_but(&mut self, wanted: &BTreeMap<&'static str, BTreeSet<String>>) {
        let is_wanted = |(url, name): &&Key| wanted.get(url).is_some_and(|names| names.contains(name));
        let gone: Vec<Key> = self.held.keys().filter(|key| !is_wanted(key)).cloned().collect();
        for key in gone {
            if !is_own(key.0) {
                self.resources.forget(key.0, &key.1);
            }
            self.held.remove(&key);
        }
    }

    /// When the next ACK that is held back must go out whatever happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.stream.as_ref().and_then(|stream| stream.owed.deadline())
    }

    /// Whether the server still waits for an answer of ours.
    pub(super) fn owes(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| !stream.owed.is_empty())
    }

    pub(super) fn destinations(&self) -> usize {
        self.demanded.len()
    }
}

fn is_own(url: &str) -> bool {
    [BUNDLE, CONFIG, REVOCATIONS].contains(&url)
}

impl Stream {
    /// Brings the server's idea of our subscriptions in line with `wanted`: one request per type that differs. The first
    /// request of a type says which versions are held already, so that none of them is sent again.
    fn subscribe(
        &mut self,
        wanted: &BTreeMap<&'static str, BTreeSet<String>>,
        held: &Held,
        requests: &mut Vec<DeltaDiscoveryRequest>,
    ) {
        let nothing = BTreeSet::new();
        let urls: BTreeSet<&'static str> = wanted.keys().chain(self.subscribed.keys()).copied().collect();
        let mut urls: Vec<&'static str> = urls.into_iter().collect();
        // What every sidecar gets comes last, SidecarConfig at the very end: once the server has read that, it knows
        // everything that is held, and so whether this sidecar is up to date.
        // And first of all who was revoked, so that nobody is reached or let in before that is known.
        urls.sort_by_key(|url| (*url != REVOCATIONS, *url == CONFIG, *url == BUNDLE));
        for url in urls {
            let names = wanted.get(url).unwrap_or(&nothing);
            let first = !self.subscribed.contains_key(url);
            let subscribed = self.subscribed.entry(url).or_default();
            let fresh: Vec<String> = names.difference(subscribed).cloned().collect();
            let gone: Vec<String> = subscribed.difference(names).cloned().collect();
            if fresh.is_empty() && gone.is_empty() {
                continue;
            }
            subscribed.clone_from(names);
            for name in &gone {
                self.pending.remove(&(url, name.clone()));
            }
            // What is held counts as answered: the server is silent about what has not changed. And no destination depends
            // on what every sidecar gets.
            let unknown = fresh.iter().map(|name| (url, name.clone())).filter(|key| !is_own(url) && !held.knows(key));
            self.pending.extend(unknown);
            requests.push(DeltaDiscoveryRequest {
                type_url: url.to_owned(),
                resource_names_subscribe: fresh,
                resource_names_unsubscribe: gone,
                initial_resource_versions: if first { held.versions(url) } else { BTreeMap::new() },
                ..DeltaDiscoveryRequest::default()
            });
        }
    }
}

#[cfg(test)]
mod tests;
