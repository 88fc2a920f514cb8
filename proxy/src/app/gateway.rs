//! The ports of the Gateway. They follow its listeners: what appears is bound, what goes is closed once its connections have
//! ended. The control thread binds, so that a port is taken by all workers or by none; the workers serve.

use std::collections::{BTreeMap, HashMap};
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use leno_proto::{GatewayPort, GatewayPorts};
use leno_runtime::drain::{self, Drain, DrainWatch};
use leno_runtime::failure::Failure;
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Shared;
use super::bind::shared;
use crate::http::Server;
use crate::listener::{Forwarder, GatewayListener, accept_loop};
use crate::routing::Router;
use crate::settings::{GatewaySettings, MOST_GATEWAY_PORTS};
use crate::state::Reader;
use crate::telemetry::{Direction, Observer};
use crate::xds::client::Handle;

/// How long the ready line waits for what the control plane says of the Gateway.
const SETTLE: Duration = Duration::from_secs(5);
/// A port that could not be bound is tried again after this.
const AGAIN: Duration = Duration::from_secs(5);
/// Changes of ports that a worker has not looked at yet.
const MOST_EVENTS: usize = 4 * MOST_GATEWAY_PORTS;

/// What a worker is told.
#[derive(Debug)]
pub(super) enum PortEvent {
    Open(u16, TcpListener),
    Close(u16),
}

/// A worker's end.
pub(super) type PortEvents = mpsc::Receiver<PortEvent>;

/// The ports of a Gateway that are bound.
#[derive(Debug)]
pub(super) struct Ports {
    asked: BTreeMap<u16, String>,
    bound: BTreeMap<u16, SocketAddr>,
    workers: Vec<mpsc::Sender<PortEvent>>,
    /// Ports that could not be bound, so that it is told once.
    failed: BTreeMap<u16, String>,
}

/// Binds what the flags ask for, whatever the Gateway is going to say.
pub(super) fn bind(settings: &GatewaySettings, workers: usize) -> Result<Vec<(u16, Shared)>, Failure> {
    let each = settings.listen.iter();
    each.map(|(port, addr)| Ok((*port, shared(addr, "--gateway-listen", workers)?))).collect()
}

impl Ports {
    /// The ports that are bound already, and an end for each worker.
    pub fn new(settings: &GatewaySettings, bound: Vec<(u16, Shared)>, workers: usize) -> (Self, Vec<PortEvents>) {
        let (senders, events): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::channel(MOST_EVENTS)).unzip();
        let mut this =
            Self { asked: settings.listen.clone(), bound: BTreeMap::new(), workers: senders, failed: BTreeMap::new() };
        for (port, shared) in bound {
            this.open(port, shared);
        }
        (this, events)
    }

    fn open(&mut self, port: u16, shared: Shared) {
        self.bound.insert(port, shared.addr);
        for (worker, socket) in self.workers.iter().zip(shared.sockets) {
            if worker.try_send(PortEvent::Open(port, socket)).is_err() {
                tracing::error!(port, "a worker does not take the gateway's port");
            }
        }
    }

    /// Where they are bound, for the ready line.
    pub fn ready(&self) -> Value {
        let each = self.bound.iter().map(|(port, addr)| (port.to_string(), Value::from(addr.to_string())));
        Value::Object(each.collect::<Map<_, _>>())
    }

    /// What became of each, for the control plane.
    fn report(&self) -> GatewayPorts {
        let bound = self.bound.iter().map(|(port, addr)| (*port, GatewayPort::Bound(addr.ip().to_canonical())));
        let failed = self.failed.iter().map(|(port, why)| (*port, GatewayPort::failed(why)));
        bound.chain(failed).take(MOST_GATEWAY_PORTS).collect()
    }

    /// Waits, not for long, for what the control plane says of the Gateway, and binds its ports.
    pub async fn settle(&mut self, reader: &Reader, told: &Handle) {
        let deadline = Instant::now() + SETTLE;
        loop {
            let version = reader.version();
            if reader.current().gateway.is_some() {
                break;
            }
            if tokio::time::timeout_at(deadline, reader.changed(version)).await.is_err() {
                tracing::warn!("nothing is known of the Gateway yet; its ports follow");
                break;
            }
        }
        self.follow_once(reader);
        told.gateway_ports(self.report());
    }

    /// Follows the Gateway until it is dropped.
    pub async fn follow(mut self, reader: Reader, told: Handle) {
        loop {
            let version = reader.version();
            self.follow_once(&reader);
            told.gateway_ports(self.report());
            if self.failed.is_empty() {
                reader.changed(version).await;
            } else {
                let _ = tokio::time::timeout(AGAIN, reader.changed(version)).await;
            }
        }
    }

    fn follow_once(&mut self, reader: &Reader) {
        // Nothing is closed because nothing is known.
        let snapshot = reader.current();
        let Some(gateway) = &snapshot.gateway else { return };
        let has = |port: &u16| gateway.as_ref().is_some_and(|gateway| gateway.ports.contains_key(port));
        let gone: Vec<u16> = self.bound.keys().copied().filter(|p| !self.asked.contains_key(p) && !has(p)).collect();
        for port in gone {
            tracing::info!(port, "the gateway's port is closed");
            self.bound.remove(&port);
            for worker in &self.workers {
                if worker.try_send(PortEvent::Close(port)).is_err() {
                    tracing::error!(port, "a worker does not close the gateway's port");
                }
            }
        }
        self.failed.retain(|port, _| has(port));
        let wanted = gateway.iter().flat_map(|gateway| gateway.ports.keys().copied());
        for port in wanted.collect::<Vec<_>>() {
            if !self.bound.contains_key(&port) {
                self.try_open(port);
            }
        }
    }

    fn try_open(&mut self, port: u16) {
        let bound = match self.bound.len() < MOST_GATEWAY_PORTS {
            true => shared(&format!(":{port}"), "--gateway-listen", self.workers.len()).map_err(|f| f.to_string()),
            false => Err(format!("a sidecar serves at most {MOST_GATEWAY_PORTS} ports")),
        };
        match bound {
            Ok(shared) => {
                tracing::info!(port, addr = %shared.addr, "the gateway's port is open");
                self.failed.remove(&port);
                self.open(port, shared);
            }
            Err(why) => {
                if self.failed.get(&port) != Some(&why) {
                    tracing::error!(port, %why, "the gateway's port cannot be opened");
                }
                self.failed.insert(port, why);
            }
        }
    }
}

/// What a worker serves its ports with.
pub(super) struct Serving {
    pub router: Rc<Router>,
    /// Of which each port has a copy whose connections end with the port.
    pub forwarder: Rc<Forwarder>,
    /// Where refused requests are told.
    pub observer: Observer,
    /// How old an HTTP/2 connection of a client gets.
    pub age: Option<Duration>,
    pub stopping: DrainWatch,
}

impl Serving {
    /// Opens and closes ports as told, and closes all when the sidecar drains.
    pub async fn run(self, mut events: PortEvents) {
        let _guard = self.stopping.guard();
        let mut open: HashMap<u16, Drain> = HashMap::new();
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                () = self.stopping.signaled() => break,
            };
            match event {
                Some(PortEvent::Open(port, socket)) => {
                    let (drain, watch) = drain::channel();
                    self.serve(port, socket, watch);
                    if let Some(before) = open.insert(port, drain) {
                        self.close(before);
                    }
                }
                Some(PortEvent::Close(port)) => {
                    if let Some(drain) = open.remove(&port) {
                        self.close(drain);
                    }
                }
                // The control thread ends: so does everything, in a moment.
                None => self.stopping.signaled().await,
            }
        }
        open.values().for_each(Drain::start);
        for drain in open.into_values() {
            drain.drain(Duration::MAX).await;
        }
    }

    fn serve(&self, port: u16, socket: TcpListener, watch: DrainWatch) {
        let metrics = self.forwarder.metrics.clone();
        let server = Server::for_strangers(watch.clone(), &metrics).counting(
            metrics,
            Direction::Outbound,
            self.observer.clone(),
        );
        let forwarder = self.forwarder.with(server.aging(self.age));
        let listener = GatewayListener::new(port, self.router.clone(), forwarder);
        tokio::task::spawn_local(accept_loop(socket, watch, move |stream, from| listener.clone().serve(stream, from)));
    }

    fn close(&self, drain: Drain) {
        drain.start();
        let guard = self.stopping.guard();
        tokio::task::spawn_local(async move {
            drain.drain(Duration::MAX).await;
            drop(guard);
        });
    }
}
