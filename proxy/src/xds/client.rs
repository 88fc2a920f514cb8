//! The one task that talks with the control plane: it owns everything that is subscribed and is the only writer of snapshots.
//!
//! Connected or not, it takes demands, writes the disk snapshot and keeps what is in force; the connection comes and goes
//! around that.

mod handle;
mod registrant;

use std::error::Error;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use leno_certs::tls;
use leno_proto::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use leno_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use leno_proto::resource::REGISTRATION_URL;
use leno_runtime::backoff::Backoff;
use leno_runtime::drain::DrainWatch;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status as GrpcStatus, Streaming};

use super::connect::{self, ALPN};
use super::identity::{Credentials, Current, is_refusal};
use super::metrics::XdsMetrics;
use super::repeats::Repeats;
use super::snapshot::{self, Saver};
use super::status::{Nack, Status};
use super::subscriber::{Subscriber, Turn};
use super::{Clock, held};
use crate::settings::HostPort;
use crate::state::Writer;
use crate::state::demand::{DemandEvent, DemandReceiver};
use crate::telemetry::Memory;

pub use handle::Handle;
use registrant::Now;
pub use registrant::Registrant;

/// Requests that wait for the network. When they are more, the server does not read any more: the stream is given up.
const OUTGOING: usize = 1024;
/// Largest response that is taken, in bytes.
const MOST_RESPONSE: usize = 16 * 1024 * 1024;
/// How long the server may take to open the stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Responses and demands that are taken together into one turn.
const MOST_PER_TURN: usize = 64;

/// What the client is made of.
pub struct Parts {
    /// Where the control plane is.
    pub control_plane: HostPort,
    /// Who we are, as a workload.
    pub registrant: Registrant,
    /// Who we are, by certificate.
    pub credentials: Credentials,
    /// Where snapshots are published.
    pub writer: Writer,
    /// What the workers need.
    pub demands: DemandReceiver,
    /// Folder of the disk snapshot.
    pub state_dir: std::path::PathBuf,
    /// What is counted.
    pub metrics: XdsMetrics,
    /// Where it is noted which revision is held.
    pub memory: Memory,
    /// What time it is.
    pub clock: Clock,
}

/// The task, not started yet.
pub struct Client {
    parts: Parts,
    subscriber: Arc<Mutex<Subscriber>>,
    now: watch::Receiver<Now>,
    status: watch::Sender<Status>,
    channel: watch::Sender<Option<Channel>>,
    saver: Saver,
    outgoing: Option<mpsc::Sender<DeltaDiscoveryRequest>>,
    backoff: Backoff,
    repeats: Repeats,
}

/// Only the control thread takes this lock, and never across an await; it is there because the admin port's closure has to
/// be `Send`.
fn lock(subscriber: &Mutex<Subscriber>) -> MutexGuard<'_, Subscriber> {
    subscriber.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a stream ended.
enum Ended {
    /// On purpose, to come back with the new certificate.
    Renewed,
    /// By an error: ours, the network's or the server's.
    Error { reason: String, refused: bool },
}

impl From<String> for Ended {
    fn from(reason: String) -> Self {
        Self::Error { reason, refused: false }
    }
}

impl From<GrpcStatus> for Ended {
    fn from(status: GrpcStatus) -> Self {
        // A status that has a cause was made here, not by the server: the connection broke, and the deepest cause says how.
        let mut cause = status.source();
        while let Some(deeper) = cause.and_then(Error::source) {
            cause = Some(deeper);
        }
        match cause {
            Some(cause) => Self::from(format!("the connection broke: {cause}")),
            None => Self::Error {
                refused: is_refusal(status.code()),
                reason: format!("{}: {}", status.code(), status.message()),
            },
        }
    }
}

/// Something that happened here, not on the stream.
enum Local {
    Demand(DemandEvent),
    State,
    Save,
    AckDue,
}

impl Client {
    /// Reads the disk snapshot and puts it in force, so that traffic flows before the control plane is reached.
    pub fn new(parts: Parts) -> (Self, Handle) {
        let identity = parts.credentials.id().to_string();
        let path = snapshot::path(&parts.state_dir);
        let mut subscriber = Subscriber::new(parts.credentials.clone());
        subscriber.set_networks(registrant::networks());
        // Without the revocations of then, connections could be made that must not be: the control plane has to speak first.
        let saved = parts.credentials.knows_revocations().then(|| snapshot::load(&path, &identity)).flatten();
        let restored = saved.is_some();
        if let Some(saved) = saved {
            tracing::info!(
                resources = saved.held.iter().count(),
                destinations = saved.demanded.len(),
                "the last snapshot is in force"
            );
            parts.demands.restore(saved.demanded.iter().cloned());
            subscriber.restore(saved);
        }
        if let Some(gateway) = parts.registrant.demand() {
            subscriber.want(gateway);
        }
        let subscriber = Arc::new(Mutex::new(subscriber));
        let (now_sender, now) = watch::channel(Now::default());
        let (status, status_receiver) = watch::channel(Status::default());
        let (channel, channel_receiver) = watch::channel(None);
        let handle = Handle {
            subscriber: subscriber.clone(),
            now: now_sender,
            status: status_receiver,
            channel: channel_receiver,
            restored,
        };
        let saver = Saver::new(path, identity, parts.metrics.unsaved.clone());
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let mut client = Self {
            parts,
            subscriber,
            now,
            status,
            channel,
            saver,
            outgoing: None,
            backoff,
            repeats: Repeats::default(),
        };
        client.publish();
        (client, handle)
    }

    /// Runs until told to stop. The stream stays open while the workers drain: stop comes after them.
    pub async fn run(mut self, stop: DrainWatch) {
        loop {
            let ended = tokio::select! {
                ended = self.session() => ended,
                () = stop.signaled() => break,
            };
            self.disconnected(&ended);
            let wait = match ended {
                Ended::Renewed => Duration::ZERO,
                Ended::Error { .. } => self.backoff.next_delay(),
            };
            tokio::select! {
                () = self.alongside(tokio::time::sleep(wait)) => {}
                () = stop.signaled() => break,
            }
        }
        let subscriber = self.subscriber.clone();
        self.saver.finish(|| lock(&subscriber).saved()).await;
    }

    /// One connection and its stream, from dialling to the end.
    async fn session(&mut self) -> Ended {
        match self.stream().await {
            Ok(ended) | Err(ended) => ended,
        }
    }

    async fn stream(&mut self) -> Result<Ended, Ended> {
        let Current { identity, bundle, .. } = self.parts.credentials.current();
        let tls = tls::control_plane_client(&identity, &bundle, ALPN).map_err(|why| Ended::from(why.to_string()))?;
        let addr = self.parts.control_plane.clone();
        let link = self.alongside(async move { connect::connect(&addr, tls).await }).await;
        let link = link.map_err(|why| Ended::from(why.to_string()))?;

        let (sender, requests) = mpsc::channel(OUTGOING);
        self.outgoing = Some(sender);
        self.parts.registrant.reached_from(link.local);
        let node = self.parts.registrant.node(&self.now.borrow_and_update());
        lock(&self.subscriber).set_networks(registrant::networks());
        lock(&self.subscriber).connected(node);
        // The first requests are under way before the server has opened its side: that saves a round trip, and a server may
        // want to see who comes before it does.
        self.turn()?;
        let channel = link.channel;
        let mut client =
            AggregatedDiscoveryServiceClient::new(channel.clone()).max_decoding_message_size(MOST_RESPONSE);
        let open = async move { client.delta_aggregated_resources(ReceiverStream::new(requests)).await };
        let opened = self.alongside(tokio::time::timeout(OPEN_TIMEOUT, open)).await;
        let responses = opened
            .map_err(|_| Ended::from("the control plane did not open the stream in time".to_owned()))??
            .into_inner();
        if self.outgoing.is_none() {
            return Err(not_reading());
        }
        self.connected();
        self.channel.send_replace(Some(channel));
        self.converse(responses, &identity).await
    }

    /// Takes turns until the stream ends or the certificate it was opened with is not the current one any more.
    async fn converse(
        &mut self,
        mut responses: Streaming<DeltaDiscoveryResponse>,
        shown: &Arc<leno_certs::Identity>,
    ) -> Result<Ended, Ended> {
        let mut credentials = self.parts.credentials.watch();
        loop {
            tokio::select! {
                response = responses.message() => self.receive(response?)?,
                local = self.local() => self.take(local)?,
                // The sender lives in `credentials`: this is a change.
                _ = credentials.changed() => {}
            }
            // A burst is one turn: it is assembled and published once.
            for _ in 1..MOST_PER_TURN {
                match responses.message().now_or_never() {
                    Some(response) => self.receive(response?)?,
                    None => break,
                }
            }
            self.turn()?;
            // The server should see the new certificate, and forget the old one. What it waits for is answered before.
            if !Arc::ptr_eq(&credentials.borrow().identity, shown) && !lock(&self.subscriber).owes() {
                return Ok(Ended::Renewed);
            }
        }
    }

    /// Waits for `other` while demands are taken, workers are served and the disk is written.
    async fn alongside<F: Future>(&mut self, other: F) -> F::Output {
        let mut other = pin!(other);
        loop {
            tokio::select! {
                output = &mut other => return output,
                local = self.local() => {
                    // An overflow closes the queue, which `stream` sees once the stream is open.
                    let _ = self.take(local).and_then(|()| self.turn());
                }
            }
        }
    }

    /// The next thing that happens here. Dropping it loses nothing.
    async fn local(&mut self) -> Local {
        let ack_due = lock(&self.subscriber).deadline();
        let ack_due = async move {
            match ack_due {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = demanded(&mut self.parts.demands) => Local::Demand(event),
            () = changed(&mut self.now) => Local::State,
            () = self.saver.due() => Local::Save,
            () = ack_due => Local::AckDue,
        }
    }

    fn take(&mut self, local: Local) -> Result<(), Ended> {
        match local {
            Local::Demand(event) => {
                self.demand(event);
                // Requests of one page load come together: take them as one turn.
                for _ in 1..MOST_PER_TURN {
                    let Some(Some(event)) = self.parts.demands.recv().now_or_never() else { break };
                    self.demand(event);
                }
                Ok(())
            }
            Local::State => {
                let node = self.parts.registrant.node(&self.now.borrow());
                self.send(DeltaDiscoveryRequest {
                    node: Some(node),
                    type_url: REGISTRATION_URL.to_owned(),
                    ..Default::default()
                })
            }
            Local::Save => {
                let saved = lock(&self.subscriber).saved();
                self.saver.start(saved);
                Ok(())
            }
            // The turn that follows sends it.
            Local::AckDue => Ok(()),
        }
    }

    fn demand(&mut self, event: DemandEvent) {
        let mut subscriber = lock(&self.subscriber);
        match event {
            DemandEvent::Want(demand) => subscriber.want(demand),
            DemandEvent::Idle(demand) => subscriber.idle(&demand),
        }
        self.parts.metrics.destinations.set(subscriber.destinations() as f64);
    }

    fn receive(&mut self, response: Option<DeltaDiscoveryResponse>) -> Result<(), Ended> {
        let response = response.ok_or_else(|| Ended::from("the control plane ended the stream".to_owned()))?;
        if let Some(url) = held::known_type(&response.type_url) {
            self.parts.metrics.received(url, response.resources.len());
        }
        tracing::debug!(
            type_url = response.type_url,
            resources = response.resources.len(),
            removed = response.removed_resources.len(),
            nonce = response.nonce,
            "response"
        );
        if let Ok(revision) = response.system_version_info.parse() {
            self.parts.memory.saw_revision(revision);
            self.parts.metrics.revision.set(self.parts.memory.revision() as f64);
        }
        lock(&self.subscriber).receive(response);
        self.saver.touch();
        if !self.status.borrow().answered {
            // It answers: the next loss of the stream is a fresh one.
            self.status.send_modify(|status| status.answered = true);
        }
        self.backoff.reset();
        Ok(())
    }

    /// Ends a turn: publish, then send.
    fn turn(&mut self) -> Result<(), Ended> {
        let requests = self.publish();
        requests.into_iter().try_for_each(|request| self.send(request))
    }

    /// Assembles and publishes what changed; gives the requests that may be sent now.
    fn publish(&mut self) -> Vec<DeltaDiscoveryRequest> {
        let Turn { assembled, requests, acked, nacked } = lock(&self.subscriber).commit(Instant::now());
        if let Some(assembled) = assembled {
            self.parts.writer.publish(Arc::new(assembled.snapshot));
            self.saver.touch();
        }
        let now = (self.parts.clock)();
        if acked > 0 {
            self.parts.metrics.acked(now);
            self.status.send_modify(|status| status.last_ack = Some(now));
        }
        for reason in nacked {
            self.parts.metrics.nacks.inc();
            tracing::error!(%reason, "the control plane sent what cannot be used; the last good version stays in force");
            self.status.send_modify(|status| status.last_nack = Some(Nack { at: now, reason }));
        }
        requests
    }

    fn send(&mut self, request: DeltaDiscoveryRequest) -> Result<(), Ended> {
        match &self.outgoing {
            None => Ok(()),
            Some(outgoing) => {
                let sent = outgoing.try_send(request);
                if sent.is_err() {
                    // A request that is lost is a subscription that never comes: the whole stream is given up.
                    self.outgoing = None;
                }
                sent.map_err(|_| not_reading())
            }
        }
    }

    fn connected(&self) {
        self.parts.metrics.connected.set(1.0);
        self.parts.writer.set_away(false);
        let now = (self.parts.clock)();
        self.status.send_modify(|status| {
            status.connected = true;
            status.since = Some(now);
            status.last_error = None;
        });
        tracing::info!(control_plane = %self.parts.control_plane, "connected to the control plane");
    }

    fn disconnected(&mut self, ended: &Ended) {
        self.outgoing = None;
        self.channel.send_replace(None);
        lock(&self.subscriber).disconnected();
        self.parts.metrics.connected.set(0.0);
        let now = (self.parts.clock)();
        let was = self.status.borrow().connected;
        // One that was just lost may be back in a moment; one that could not be reached again is away.
        if !was && matches!(ended, Ended::Error { .. }) {
            self.parts.writer.set_away(true);
        }
        self.status.send_modify(|status| {
            if was || status.since.is_none() {
                status.since = Some(now);
            }
            status.connected = false;
            if let Ended::Error { reason, refused } = ended {
                status.last_error = Some(reason.clone());
                status.refused = refused.then(|| reason.clone());
            }
        });
        match ended {
            Ended::Renewed => tracing::info!("coming back to the control plane with the renewed certificate"),
            Ended::Error { reason, .. } if was => {
                tracing::warn!(%reason, "the stream to the control plane ended; what is in force stays, reconnecting");
            }
            Ended::Error { reason, .. } => {
                self.repeats.warn(reason, &self.parts.control_plane);
            }
        }
    }
}

fn not_reading() -> Ended {
    Ended::from("the control plane does not read what it is sent".to_owned())
}

/// The next demand; never once all workers are gone.
async fn demanded(demands: &mut DemandReceiver) -> DemandEvent {
    match demands.recv().await {
        Some(event) => event,
        None => std::future::pending().await,
    }
}

/// Comes back at each change; never once there can be none.
async fn changed<T>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests;
