//! What one worker serves, from its listeners down.

use std::rc::Rc;
use std::time::Duration;

use leno_runtime::drain::{self, DrainWatch};
use leno_runtime::metrics::Registry;

use super::workers::Worker;
use crate::http::{AppPort, Inbound, Outbound, Server};
use crate::listener::{LocalListener, MeshListener, ProxyListener, accept_loop};
use crate::routing::{Router, ServiceAddress, parse_authority};
use crate::settings::{PortSpec, UpstreamSpec};
use crate::telemetry::{Direction, Metrics, ServiceMetrics};
use crate::upstream::{Clusters, Dialer};

/// Between two rounds of housekeeping.
const SWEEP: Duration = Duration::from_secs(5);
/// After the mesh was told that this sidecar drains: how long requests are still taken, since the news takes a moment to
/// reach everybody.
const LINGER: Duration = Duration::from_millis(500);

impl Worker {
    /// Serves until the drain, and then until every connection has ended.
    pub(super) async fn serve(self) {
        let (stop, stopping) = drain::channel();
        let registry = &self.registry;
        let metrics = Rc::new(Metrics::new(registry));
        let clusters = Rc::new(Clusters::new(registry.clone()));
        let (reader, demands) = (self.reader.clone(), self.demands.clone());
        let router = Router::new(self.namespace.clone(), reader, demands, clusters.clone(), self.workers);
        let dialer = Rc::new(Dialer::new(self.tls.clone()));
        let outbound = Rc::new(Outbound::new(router.clone(), dialer.clone(), metrics.clone()));
        let server = Server::new(stopping.clone());
        let ports = app_ports(&self.ports, &self.service, registry);

        let inbound = Rc::new(Inbound::new(metrics.clone()));
        let peers = Server::for_peers(stopping.clone());
        let mesh = MeshListener::new(self.tls.clone(), ports.clone(), inbound, peers, metrics.clone());
        spawn_listener(self.mesh, &stopping, move |stream, from| mesh.clone().serve(stream, from));

        let proxy = ProxyListener { outbound: outbound.clone(), server: server.clone() };
        spawn_listener(self.http_proxy, &stopping, move |stream, _| proxy.clone().serve(stream));

        for (spec, socket) in self.upstreams {
            let Some(address) = address_of(&spec, &self.namespace) else { continue };
            let local = LocalListener {
                address: Rc::new(address),
                router: router.clone(),
                dialer: dialer.clone(),
                outbound: outbound.clone(),
                server: server.clone(),
                metrics: metrics.clone(),
            };
            spawn_listener(socket, &stopping, move |stream, _| local.clone().serve(stream));
        }
        drop((stopping, server, outbound, dialer));

        let housekeeping = async {
            loop {
                tokio::time::sleep(SWEEP).await;
                router.sweep();
                clusters.sweep();
                ports.iter().for_each(|port| port.sweep());
            }
        };
        let until_drained = async {
            self.drain.signaled().await;
            tokio::time::sleep(LINGER).await;
            // The drain's own deadline stands above this one: the thread is left behind when it passes.
            stop.drain(Duration::MAX).await;
        };
        tokio::select! {
            () = housekeeping => {}
            () = until_drained => {}
        }
    }
}

fn spawn_listener<F>(
    socket: std::net::TcpListener,
    stopping: &DrainWatch,
    serve: impl Fn(tokio::net::TcpStream, std::net::SocketAddr) -> F + 'static,
) where
    F: Future<Output = ()> + 'static,
{
    let stopping = stopping.clone();
    tokio::task::spawn_local(async move { accept_loop(socket, stopping, serve).await });
}

fn app_ports(specs: &[PortSpec], service: &str, registry: &Registry) -> Vec<Rc<AppPort>> {
    let metrics = Rc::new(ServiceMetrics::new(registry, Direction::Inbound, service));
    specs.iter().map(|spec| AppPort::new(spec.name.clone(), spec.host.clone(), spec.port, metrics.clone())).collect()
}

fn address_of(spec: &UpstreamSpec, namespace: &str) -> Option<ServiceAddress> {
    parse_authority(&spec.asked(), namespace)
}
