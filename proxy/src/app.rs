//! The sidecar put together: build (take the ports, get the identity) → [`Bound`] → run. The only module that knows all
//! others.
//!
//! Threads: the main thread is the control thread (stream, renewal, disk, admin port); `--workers` threads carry traffic.
//! From the control thread to the workers go snapshots and TLS configurations, back go demands and metrics.

mod bind;
mod gateway;
mod observing;
mod serve;
mod workers;

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};

use leno_runtime::drain::{self, Drain};
use leno_runtime::failure::{Failure, exit};
use leno_runtime::metrics::Registry;
use leno_runtime::ready::{Readiness, ReadyToken};
use leno_runtime::{admin as admin_port, announce};
use serde_json::{Map, Value};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::settings::{Settings, StateDir};
use crate::telemetry::access_log::LogFile;
use crate::telemetry::edges::Called;
use crate::telemetry::names::METRICS;
use crate::telemetry::{Edges, Memory};
use crate::tls::MeshTls;
use crate::xds::client::{Client, Handle, Parts, Registrant};
use crate::xds::identity::{self, Credentials, RenewRpc};
use crate::xds::metrics::XdsMetrics;
use crate::{admin, dns, probes, state, xds};

use self::observing::Observing;

pub use bind::{Capture, Listeners, Shared};
pub use observing::open_log;

/// A sidecar whose ports are taken and whose identity is there.
pub struct Bound {
    settings: Settings,
    /// Its lock is held as long as the sidecar lives.
    state_dir: StateDir,
    workload: String,
    listeners: Listeners,
    identity: identity::Current,
    clock: xds::Clock,
    access_log: LogFile,
}

/// Takes the ports and gets the identity: from the state folder, or from the control plane by the join token.
///
/// # Errors
/// What cannot be had, with what to do; the exit code is in it.
pub async fn build(settings: Settings, access_log: LogFile) -> Result<Bound, Failure> {
    let state_dir = StateDir::open(&settings.state_dir)?;
    let workload = state_dir.workload_name(&settings)?;
    let listeners = Listeners::bind(&settings)?;
    let clock = xds::system_clock();
    let identity = identity::obtain(&settings, state_dir.path(), &clock).await?;
    Ok(Bound { settings, state_dir, workload, listeners, identity, clock, access_log })
}

/// The tasks of the control thread.
struct Control {
    handle: Handle,
    client: JoinHandle<()>,
    stop: Drain,
    renewal: JoinHandle<()>,
}

impl Bound {
    /// Serves until `shutdown`, then drains.
    ///
    /// # Errors
    /// A first start that does not reach its control plane, or a worker that cannot start.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), Failure> {
        let Self { settings, state_dir, workload, listeners, identity, clock, access_log } = self;
        let readiness = Readiness::new();
        let serving = readiness.token("listeners");
        let stream = readiness.token("control plane");
        let registry = Registry::of(METRICS);
        let tls = MeshTls::new(&identity.identity, &identity.bundle).map_err(|why| {
            Failure::new(
                exit::CONFIG,
                format!("the identity cannot be used: {why}"),
                "delete it and join anew with a token",
            )
        })?;
        let metrics = XdsMetrics::new(&registry);
        let credentials = Credentials::new(identity, tls.clone(), state_dir.path(), metrics.clone());
        let registrant = Registrant::new(&settings, workload, listeners.mesh.addr);
        let workload = registrant.workload();
        let (writer, reader) = state::channel();
        let memory = Memory::default();
        let (demands, demand_receiver) = state::demand::channel();
        let mut ready_line = ready_line(&listeners);
        let Listeners { mesh, http_proxy, mut capture, upstreams, gateway, admin: admin_listener, health } = listeners;
        let (mut ports, port_events) =
            settings.gateway.as_ref().map(|served| gateway::Ports::new(served, gateway, settings.workers)).unzip();
        let dns = capture.as_mut().and_then(|capture| capture.dns.take());

        let parts = Parts {
            control_plane: settings.control_plane.clone(),
            registrant,
            credentials: credentials.clone(),
            writer,
            demands: demand_receiver,
            state_dir: state_dir.path().to_owned(),
            metrics,
            memory: memory.clone(),
            clock: clock.clone(),
        };
        let control = Control::start(parts, &settings, &credentials, clock);
        let checking = {
            let handle = control.handle.clone();
            let tell = move |healthy| handle.healthy(healthy);
            tokio::spawn(probes::watch(reader.clone(), probes::App::of(&settings), registry.clone(), tell))
        };
        let edges = known_as(&settings, &credentials, &workload, &registry);
        let channel = control.handle.channel();
        let reporting = xds::reports::run(edges.clone(), registry.clone(), workload.clone(), channel);
        let reporting = tokio::spawn(reporting);
        let observing = Observing::start(&settings.observe, access_log, memory, &credentials, &workload, &registry);
        let answering = xds::questions::run(observing.asked(), workload.clone(), control.handle.channel());
        let answering = tokio::spawn(answering);
        let (admin_drain, admin_watch) = drain::channel();
        let dns_watch = admin_watch.clone();
        if let Some(listener) = health {
            tokio::spawn(probes::serve(listener, health_of(&settings, &readiness, &registry), admin_watch.clone()));
        }
        let dump = admin::admin(workload, readiness, registry.clone(), credentials, control.handle.clone(), Vec::new());
        let admin_task = tokio::spawn(admin_port::serve(admin_listener, dump, admin_watch));

        if let Some(dns) = dns {
            let parts = dns::Parts {
                namespace: settings.namespace.clone(),
                reader: reader.clone(),
                demands: demands.clone(),
                registry: registry.clone(),
            };
            tokio::spawn(dns::serve(dns, parts, dns_watch));
        }
        let workers = workers::start(workers::Parts {
            settings: &settings,
            mesh,
            http_proxy,
            capture,
            upstreams,
            port_events: port_events.unwrap_or_default(),
            tls,
            reader: reader.clone(),
            demands,
            registry,
            edges,
            observer: observing.observer.clone(),
        })?;
        serving.done();
        tokio::pin!(shutdown);
        let came_up = tokio::select! {
            result = control.first_answer(&settings, stream) => result.map(|()| true),
            () = &mut shutdown => Ok(false),
        };
        if let Ok(true) = came_up {
            if let Some(ports) = &mut ports {
                ports.settle(&reader, &control.handle).await;
                ready_line.push(("gateway", ports.ready()));
            }
            announce::ready(settings.output, &ready_line);
            let follow = async {
                match ports {
                    Some(ports) => ports.follow(reader, control.handle.clone()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown => {}
                () = follow => {}
            }
        }
        tracing::info!("draining");
        checking.abort();
        reporting.abort();
        answering.abort();
        // First the mesh is told, so that nobody begins anything new here; then what was begun ends.
        control.handle.draining();
        workers.drain(settings.drain_timeout).await;
        control.end().await;
        observing.end().await;
        admin_drain.start();
        admin_task.abort();
        came_up.map(|_| ())
    }
}

impl Control {
    fn start(parts: Parts, settings: &Settings, credentials: &Credentials, clock: xds::Clock) -> Self {
        let (client, handle) = Client::new(parts);
        let (stop, stopped) = drain::channel();
        let rpc = RenewRpc { settings: std::sync::Arc::new(settings.clone()), credentials: credentials.clone() };
        Self {
            handle,
            client: tokio::spawn(client.run(stopped)),
            stop,
            renewal: tokio::spawn(identity::keep_fresh(credentials.clone(), clock, rpc, fastrand::f64)),
        }
    }

    /// Waits until there is something in force: the disk snapshot, or the control plane's first answer.
    async fn first_answer(&self, settings: &Settings, token: ReadyToken) -> Result<(), Failure> {
        if !self.handle.restored {
            let deadline = Instant::now() + settings.join_timeout;
            self.handle.first_answer(settings, deadline).await?;
        }
        token.done();
        Ok(())
    }

    /// Ends the stream last, so that the control plane saw the drain and the disk has the last word.
    async fn end(self) {
        self.renewal.abort();
        self.stop.start();
        if let Err(error) = self.client.await {
            tracing::error!(%error, "the control plane's client failed");
        }
    }
}

/// What kubelet is answered from. The app is asked where the workload is reached, as kubelet itself would ask it.
/// Says in the metrics whose sidecar this is, and counts who calls the app.
fn known_as(settings: &Settings, credentials: &Credentials, workload: &str, registry: &Registry) -> Edges {
    let (id, version) = (credentials.id(), settings.labels.get("version").cloned().unwrap_or_default());
    let labels = [
        ("service_name", id.service_account()),
        ("service_namespace", &settings.namespace),
        ("service_version", &version),
        ("service_instance_id", workload.rsplit('/').next().unwrap_or_default()),
    ];
    registry.gauge("target_info", &labels).set(1.0);
    let service = format!("{}/{}", settings.namespace, settings.service);
    Edges::of_app(Called { registry: registry.clone(), service, version })
}

fn health_of(settings: &Settings, readiness: &Readiness, registry: &Registry) -> probes::Health {
    let own = settings.advertise_addr.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let checks = probes::Checks::new(settings.probes.clone().unwrap_or_default(), own, registry);
    probes::Health { checks, readiness: readiness.clone() }
}

/// The fields of the ready line, as the contract has them.
fn ready_line(listeners: &Listeners) -> Vec<(&'static str, Value)> {
    let text = |addr: std::net::SocketAddr| Value::from(addr.to_string());
    let upstreams = listeners.upstreams.iter().map(|(spec, shared)| (spec.asked(), text(shared.addr)));
    let admin = listeners.admin.local_addr().map(text).unwrap_or_default();
    let mut line = vec![
        ("mesh", text(listeners.mesh.addr)),
        ("http_proxy", text(listeners.http_proxy.addr)),
        ("admin", admin),
        ("upstreams", Value::Object(upstreams.collect::<Map<_, _>>())),
    ];
    if let Some(capture) = &listeners.capture {
        line.push(("inbound", text(capture.inbound.addr)));
        line.extend(capture.dns.as_ref().map(|dns| ("dns", text(dns.addr))));
    }
    line.extend(listeners.health.as_ref().and_then(|h| h.local_addr().ok()).map(|addr| ("health", text(addr))));
    line
}
