//! The threads that carry traffic: one `current_thread` runtime each, with listeners of its own. Nothing of a request is
//! shared between them.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use leno_runtime::drain::{self, Drain, DrainWatch};
use leno_runtime::failure::{Failure, exit};
use leno_runtime::metrics::Registry;

use super::gateway::PortEvents;
use super::{Capture, Shared};
use crate::model::Locality;
use crate::resilience::rate_limit;
use crate::settings::{PortSpec, Settings, UpstreamSpec};
use crate::state::Reader;
use crate::state::demand::Demands;
use crate::telemetry::{Edges, Observer};
use crate::tls::MeshTls;

/// What all workers are made of.
pub struct Parts<'a> {
    /// The command line.
    pub settings: &'a Settings,
    /// Sockets for other sidecars, one for each worker.
    pub mesh: Shared,
    /// Sockets for the app's HTTP, one for each worker.
    pub http_proxy: Shared,
    /// Sockets for redirected traffic, one of each kind for each worker.
    pub capture: Option<Capture>,
    /// Sockets that lead to one service each, one for each worker.
    pub upstreams: Vec<(UpstreamSpec, Shared)>,
    /// News of the Gateway's ports, for each worker; none without a Gateway.
    pub(super) port_events: Vec<PortEvents>,
    /// Configurations for both ends.
    pub tls: MeshTls,
    /// Where snapshots come from.
    pub reader: Reader,
    /// Where destinations are asked for.
    pub demands: Demands,
    /// Where everything is counted.
    pub registry: Registry,
    /// Where callers are counted.
    pub edges: Edges,
    /// What becomes known of requests.
    pub observer: Observer,
}

/// The running threads.
pub struct Workers {
    drain: Drain,
    threads: Vec<JoinHandle<()>>,
}

/// What one worker has to itself.
pub(super) struct Worker {
    /// For the thread's name.
    index: usize,
    /// How many there are.
    pub(super) workers: usize,
    pub(super) namespace: String,
    /// NAMESPACE/NAME of the service that the local app is an instance of.
    pub(super) service: String,
    pub(super) ports: Vec<PortSpec>,
    /// Of the workload.
    pub(super) labels: BTreeMap<String, String>,
    /// Where this sidecar stands.
    pub(super) locality: Locality,
    pub(super) mesh: TcpListener,
    pub(super) http_proxy: TcpListener,
    pub(super) capture: Option<Captured>,
    /// Ports on which this sidecar itself listens.
    pub(super) own_ports: Vec<u16>,
    pub(super) upstreams: Vec<(UpstreamSpec, TcpListener)>,
    pub(super) port_events: Option<PortEvents>,
    pub(super) tls: MeshTls,
    pub(super) reader: Reader,
    pub(super) demands: Demands,
    pub(super) registry: Registry,
    pub(super) edges: Edges,
    pub(super) observer: Observer,
    /// How old an HTTP/2 connection of a client gets.
    pub(super) age: Option<Duration>,
    /// The rate limits' buckets, of all workers.
    pub(super) rates: Arc<rate_limit::Table>,
    pub(super) drain: DrainWatch,
}

/// A worker's sockets for redirected traffic.
pub(super) struct Captured {
    pub(super) outbound_v6: Option<TcpListener>,
    pub(super) inbound: TcpListener,
}

/// Starts the threads. They serve at once.
///
/// # Errors
/// The system gives no thread.
pub fn start(parts: Parts<'_>) -> Result<Workers, Failure> {
    let (drain, watch) = drain::channel();
    let threads = split(parts, &watch).into_iter().map(spawn).collect::<Result<_, _>>()?;
    Ok(Workers { drain, threads })
}

/// Deals out the sockets.
fn split(parts: Parts<'_>, drain: &DrainWatch) -> Vec<Worker> {
    let Parts {
        settings,
        mesh,
        http_proxy,
        capture,
        upstreams,
        port_events,
        tls,
        reader,
        demands,
        registry,
        edges,
        observer,
    } = parts;
    let mut port_events = port_events.into_iter();
    let rates = Arc::new(rate_limit::Table::default());
    let own_ports = own_ports(settings, &mesh, &http_proxy, capture.as_ref());
    let mut capture = capture.map(|capture| {
        (capture.outbound_v6.map(|shared| shared.sockets.into_iter()), capture.inbound.sockets.into_iter())
    });
    let mut upstreams: Vec<_> =
        upstreams.into_iter().map(|(spec, shared)| (spec, shared.sockets.into_iter())).collect();
    let sockets = mesh.sockets.into_iter().zip(http_proxy.sockets);
    let worker = |(index, (mesh, http_proxy))| Worker {
        index,
        workers: settings.workers,
        namespace: settings.namespace.clone(),
        service: format!("{}/{}", settings.namespace, settings.service),
        ports: settings.ports.clone(),
        labels: settings.labels.clone(),
        locality: Locality::of(&settings.labels),
        mesh,
        http_proxy,
        capture: capture.as_mut().and_then(|(outbound_v6, inbound)| {
            let outbound_v6 = outbound_v6.as_mut().and_then(Iterator::next);
            Some(Captured { outbound_v6, inbound: inbound.next()? })
        }),
        own_ports: own_ports.clone(),
        upstreams: upstreams.iter_mut().filter_map(|(spec, sockets)| Some((spec.clone(), sockets.next()?))).collect(),
        port_events: port_events.next(),
        tls: tls.clone(),
        reader: reader.clone(),
        demands: demands.clone(),
        registry: registry.clone(),
        edges: edges.clone(),
        observer: observer.clone(),
        age: settings.max_connection_age,
        rates: rates.clone(),
        drain: drain.clone(),
    };
    sockets.enumerate().map(worker).collect()
}

fn own_ports(settings: &Settings, mesh: &Shared, http_proxy: &Shared, capture: Option<&Capture>) -> Vec<u16> {
    let configured = settings.interception.iter().flat_map(|interception| {
        let to = &interception.redirection;
        [Some(to.outbound_port), Some(to.inbound_port), Some(to.mesh_port), Some(to.health_port), to.dns_port]
    });
    let bound = [Some(mesh.addr.port()), Some(http_proxy.addr.port()), capture.map(|c| c.inbound.addr.port())];
    configured.chain(bound).flatten().collect()
}

fn spawn(worker: Worker) -> Result<JoinHandle<()>, Failure> {
    let refused = |why: std::io::Error| {
        Failure::new(
            exit::UNAVAILABLE,
            format!("a worker thread cannot start: {why}"),
            "look at `ulimit -a`, or give fewer --workers",
        )
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(refused)?;
    let name = format!("worker-{}", worker.index);
    let run = move || tokio::task::LocalSet::new().block_on(&runtime, worker.serve());
    std::thread::Builder::new().name(name).spawn(run).map_err(refused)
}

impl Workers {
    /// No new connections; open ones may end within the deadline.
    pub async fn drain(self, deadline: Duration) {
        if !self.drain.drain(deadline).await {
            tracing::warn!("the drain timeout has passed; what is still open is cut");
        }
        // The threads end by themselves; one that is stuck does not keep the process.
        drop(self.threads);
    }
}
