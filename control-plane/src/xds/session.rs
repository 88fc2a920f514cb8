//! One sidecar's stream: a task that reads its requests, watches the world, and sends what is new to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use leno_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};
use leno_proto::resource::REGISTRATION_URL;
use leno_proto::{Registration, WorkloadState};
use time::OffsetDateTime;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::convert;
use super::metrics::{StreamMetrics, Unanswered};
use super::service::Discovery;
use super::sessions::{Session as Entry, State};
use super::subscriptions::Subscriptions;
use crate::ca::{PeerCertificate, Refusal};
use crate::discovery::{Client, ResourceType, World};
use crate::registry::Lease;

/// The first request has to come in this time.
const FIRST_IN: Duration = Duration::from_secs(10);
/// A peer that takes nothing for this long is cut off.
const STUCK_AFTER: Duration = Duration::from_secs(if cfg!(test) { 3 } else { 30 });
/// A sidecar opens with one request a type, and one of these two, which every sidecar subscribes, is the last.
const OPENED_BY: [ResourceType; 2] = [ResourceType::SidecarConfig, ResourceType::TrustBundle];
/// Until then, or so long, it does not count as holding a revision: it may be about to say that it holds something old.
const OPENS_IN: Duration = Duration::from_secs(1);

/// Longest version of a sidecar that is shown, in characters.
const MOST_VERSION: usize = 64;

type Responses = mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>;

/// A stream whose first request has not been read.
pub(super) struct Opening {
    pub(super) shared: Discovery,
    pub(super) certificate: PeerCertificate,
    pub(super) closer: CancellationToken,
    pub(super) requests: Streaming<DeltaDiscoveryRequest>,
    pub(super) responses: Responses,
}

impl Opening {
    /// Serves the stream to its end.
    pub(super) async fn run(mut self) {
        let _guard = self.shared.drain.guard();
        let responses = self.responses.clone();
        let first = match timeout(FIRST_IN, self.requests.message()).await {
            Ok(Ok(Some(first))) => first,
            Ok(Ok(None) | Err(_)) => return,
            Err(_) => return refuse(&responses, Status::deadline_exceeded("no request came")),
        };
        match self.open(first) {
            Ok(session) => session.run().await,
            Err(status) => {
                tracing::warn!(code = ?status.code(), "the stream was refused: {}", status.message());
                refuse(&responses, status);
            }
        }
    }

    fn open(self, mut first: DeltaDiscoveryRequest) -> Result<Session, Status> {
        let node = first.node.take().ok_or_else(|| Status::invalid_argument("the first request has no node"))?;
        let registration = read_node(&node)?;
        let lease = self.shared.registry.register(&registration, &self.certificate.id, self.certificate.lineage);
        let lease = lease.map_err(|why| self.shared.refused(&why, &self.certificate.id))?;
        let mut worlds = self.shared.worlds.clone();
        let world = worlds.borrow_and_update().clone();
        let entry = self.shared.sessions.enter(State {
            name: lease.name().clone(),
            identity: self.certificate.id.to_string(),
            address: mesh_address(&registration),
            state: registration.state,
            version: convert::printable(&registration.version, MOST_VERSION),
            certificate_expires: self.certificate.not_after,
            signed_by: self.certificate.signed_by.clone(),
            acked: 0,
            waits: true,
            nack: None,
            subscriptions: 0,
            resources_sent: 0,
            gateways: Vec::new(),
            gateway_ports: convert::bound_ports(&registration),
        });
        tracing::info!(workload = %lease.name(), state = registration.state.as_str(), "sidecar connected");
        self.shared.metrics.connected(1.0);
        let client = Client { namespace: lease.name().namespace.clone(), identity: self.certificate.id.to_string() };
        let mut session = Session {
            subscriptions: Subscriptions::new(client, world),
            lease,
            entry,
            metrics: self.shared.metrics.clone(),
            unanswered: self.shared.metrics.unanswered(),
            worlds,
            requests: self.requests,
            responses: self.responses,
            closer: self.closer,
            opened: false,
            progress: Instant::now(),
            expires: expiry(self.certificate.not_after),
            certificate: self.certificate,
            shared: self.shared,
        };
        session.take_up(first)?;
        Ok(session)
    }
}

/// An open stream of a registered sidecar.
struct Session {
    shared: Discovery,
    lease: Lease,
    entry: Entry,
    metrics: StreamMetrics,
    unanswered: Unanswered,
    subscriptions: Subscriptions,
    worlds: watch::Receiver<Arc<World>>,
    requests: Streaming<DeltaDiscoveryRequest>,
    responses: Responses,
    closer: CancellationToken,
    /// It has said what it holds.
    opened: bool,
    /// When the peer last took something, or had nothing to take.
    progress: Instant,
    expires: Option<Instant>,
    certificate: PeerCertificate,
}

impl Session {
    async fn run(mut self) {
        let end = self.serve().await;
        match end {
            Ok(why) => tracing::info!(workload = %self.lease.name(), "sidecar disconnected: {why}"),
            Err(status) => {
                tracing::warn!(workload = %self.lease.name(), code = ?status.code(), "stream ended: {}", status.message());
                refuse(&self.responses, status);
            }
        }
    }

    /// Until the stream ends: why it did, or with what it is to be ended.
    async fn serve(&mut self) -> Result<&'static str, Status> {
        let opens_at = Instant::now() + OPENS_IN;
        let responses = self.responses.clone();
        let drain = self.shared.drain.clone();
        let certificate = self.certificate.clone();
        let mut revocations = self.shared.revocations.clone();
        loop {
            let sends = self.subscriptions.wants_to_send();
            if !sends {
                self.progress = Instant::now();
            }
            let (stuck_at, expires) = (self.progress + STUCK_AFTER, self.expires);
            tokio::select! {
                request = self.requests.message() => match request {
                    Ok(Some(request)) => self.take_up(request)?,
                    Ok(None) => return Ok("it closed the stream"),
                    Err(_) => return Ok("the connection is gone"),
                },
                changed = self.worlds.changed() => {
                    changed.map_err(|_| Status::unavailable("the control plane is going down"))?;
                    let world = self.worlds.borrow_and_update().clone();
                    self.subscriptions.observe(world);
                }
                permit = responses.reserve(), if sends => match permit {
                    Ok(permit) => {
                        self.progress = Instant::now();
                        if let Some(outgoing) = self.subscriptions.next() {
                            self.metrics.pushed(outgoing.kind, outgoing.resources.len());
                            permit.send(Ok(convert::response(outgoing)));
                        }
                    }
                    Err(_) => return Ok("the connection is gone"),
                },
                () = sleep_until(stuck_at), if sends => {
                    self.closer.cancel();
                    return Err(Status::aborted("the sidecar takes nothing, its connection is closed"));
                }
                // It looks at once, so whoever registered while it was being revoked is found, too.
                revoked = revocations.wait_for(|all| certificate.stands(all).is_err()) => {
                    let all = revoked.map_err(|_| Status::unavailable("the control plane is going down"))?.clone();
                    self.shared.registry.evict(&all);
                    return Err(Refusal::Revoked.to_status());
                }
                () = sleep_until(opens_at), if !self.opened => self.opened = true,
                () = responses.closed() => return Ok("the connection is gone"),
                () = drain.signaled() => return Err(Status::unavailable("the control plane is going down")),
                () = at(expires) => {
                    self.expires = None;
                    tracing::warn!(workload = %self.lease.name(), "its certificate has expired; the stream stays until it reconnects");
                }
            }
            self.report();
        }
    }

    fn take_up(&mut self, message: DeltaDiscoveryRequest) -> Result<(), Status> {
        if message.type_url == REGISTRATION_URL {
            return match &message.node {
                Some(node) => self.register(node),
                // The first request of a stream, whose node was read already.
                None => Ok(()),
            };
        }
        let type_url = message.type_url.clone();
        let Some(request) = convert::request(message) else {
            tracing::debug!(%type_url, "a type that is not served was asked for");
            return Ok(());
        };
        if let Some(reason) = request.answer.as_ref().and_then(|answer| answer.refused.as_ref()) {
            self.metrics.nacked();
            tracing::warn!(workload = %self.lease.name(), kind = request.kind.label(), reason, "NACK");
        }
        self.subscriptions.request(request).map_err(|why| Status::resource_exhausted(why.to_string()))?;
        if let Some(after) = self.subscriptions.answered_after.take() {
            self.metrics.answered(after);
        }
        self.opened |= OPENED_BY.iter().all(|kind| self.subscriptions.has_begun(*kind));
        self.report();
        Ok(())
    }

    fn register(&mut self, node: &Node) -> Result<(), Status> {
        let registration = read_node(node)?;
        self.lease.update(&registration).map_err(|why| self.shared.refused(&why, self.lease.name()))?;
        if registration.state == WorkloadState::Draining {
            tracing::info!(workload = %self.lease.name(), "sidecar drains");
        }
        self.entry.update(|state| {
            state.state = registration.state;
            state.address = mesh_address(&registration);
            state.gateway_ports = convert::bound_ports(&registration);
        });
        Ok(())
    }

    /// Shows the present state to whoever waits for it.
    fn report(&mut self) {
        self.unanswered.set(self.subscriptions.in_flight());
        let subscriptions = &self.subscriptions;
        let nack = subscriptions.refused();
        self.entry.update(|state| {
            state.acked = if self.opened { subscriptions.acked() } else { 0 };
            state.waits = subscriptions.waits();
            state.nack = nack;
            state.subscriptions = subscriptions.names();
            state.resources_sent = subscriptions.resources_sent();
            state.gateways = subscriptions.gateways();
        });
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.metrics.connected(-1.0);
    }
}

/// Ends a stream with a status, if the peer still takes one.
fn refuse(responses: &Responses, status: Status) {
    let _ = responses.try_send(Err(status));
}

fn read_node(node: &Node) -> Result<Registration, Status> {
    Registration::from_node(node).map_err(|why| Status::invalid_argument(why.to_string()))
}

fn mesh_address(registration: &Registration) -> String {
    match registration.address.parse() {
        Ok(ip) => SocketAddr::new(ip, registration.mesh_port).to_string(),
        Err(_) => registration.address.clone(),
    }
}

fn expiry(not_after: OffsetDateTime) -> Option<Instant> {
    let left = Duration::try_from(not_after - OffsetDateTime::now_utc()).unwrap_or_default();
    Instant::now().checked_add(left)
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
