//! What one worker serves, from its listeners down.

use std::rc::Rc;
use std::time::Duration;

use leno_runtime::drain::{self, DrainWatch};

use super::gateway::Serving;
use super::workers::Worker;
use crate::http::{AppPort, AppPorts, Authorizer, Gate, Inbound, Outbound, Server};
use crate::listener::{
    CaptureListener, Forwarder, InboundListener, LocalListener, MeshListener, ProxyListener, accept_loop,
};
use crate::routing::{Router, ServiceAddress, parse_authority};
use crate::settings::{OwnPorts, PortSpec, UpstreamSpec};
use crate::telemetry::{Direction, Metrics, ServiceMetrics};
use crate::upstream::{Clusters, Dialer};

/// Between two rounds of housekeeping.
const SWEEP: Duration = Duration::from_secs(5);
/// After the mesh was told that this sidecar drains: how long requests are still taken, since the news takes a moment to
/// reach everybody.
const LINGER: Duration = Duration::from_millis(500);

/// The name under which connections out of the mesh are counted; no service can have it.
const OUTSIDE: &str = "outside";

impl Worker {
    /// Serves until the drain, and then until every connection has ended.
    pub(super) async fn serve(self) {
        let (stop, stopping) = drain::channel();
        let registry = &self.registry;
        let metrics = Rc::new(Metrics::new(registry));
        let clusters = Clusters::new(registry.clone(), self.locality.clone()).of_workers(self.workers);
        let clusters = Rc::new(clusters);
        let (reader, demands) = (self.reader.clone(), self.demands.clone());
        let router = Router::new(self.namespace.clone(), reader, demands, clusters.clone(), self.workers);
        let dialer = Rc::new(Dialer::new(self.tls.clone()));
        let outbound = Rc::new(Outbound::new(
            router.clone(),
            dialer.clone(),
            metrics.clone(),
            self.observer.clone(),
            stopping.clone(),
        ));
        let own = OwnPorts::new(self.own_ports);
        let app = Rc::new(ServiceMetrics::new(registry, Direction::Inbound, &self.service));
        let named = app_ports(&self.ports, &app);
        let ports = Rc::new(match &self.capture {
            Some(_) => AppPorts::any(named, own.clone(), app.clone()),
            None => AppPorts::named(named),
        });

        let gate =
            Gate::new(self.service.clone(), self.labels.clone(), self.reader.clone(), self.rates.clone(), self.workers);
        let authorizer =
            Authorizer::new(self.reader.clone(), self.labels.clone(), self.tls.trust_domain(), registry.clone());
        let inbound = Rc::new(Inbound::new(metrics.clone(), authorizer, gate, self.edges, self.observer.clone()));
        let peers =
            Server::for_peers(stopping.clone()).counting(metrics.clone(), Direction::Inbound, self.observer.clone());
        let mesh = MeshListener::new(self.tls.clone(), ports.clone(), inbound.clone(), peers, metrics.clone());
        spawn_listener(self.mesh, &stopping, move |stream, from| mesh.clone().serve(stream, from));

        let server = Server::new(stopping.clone())
            .counting(metrics.clone(), Direction::Outbound, self.observer.clone())
            .aging(self.age);
        let passing = Rc::new(Dialer::passing(self.tls.clone()));
        let forwarder = Rc::new(Forwarder { dialer, passing, outbound, server, metrics: metrics.clone() });
        let proxy = ProxyListener::new(self.namespace.clone(), router.clone(), forwarder.clone());
        match self.capture {
            None => spawn_listener(self.http_proxy, &stopping, move |stream, _| proxy.clone().serve(stream)),
            Some(captured) => {
                let outside = Rc::new(ServiceMetrics::new(registry, Direction::Outbound, OUTSIDE));
                let (router, forwarder) = (router.clone(), forwarder.clone());
                let capture = CaptureListener { router, forwarder, proxy, own: own.clone(), outside };
                let sockets = [Some(self.http_proxy), captured.outbound_v6];
                for socket in sockets.into_iter().flatten() {
                    let capture = capture.clone();
                    spawn_listener(socket, &stopping, move |stream, from| capture.clone().serve(stream, from));
                }
                let app = app.clone();
                let inbound = InboundListener { own, gate: inbound, metrics, app };
                spawn_listener(captured.inbound, &stopping, move |stream, from| inbound.clone().serve(stream, from));
            }
        }

        for (spec, socket) in self.upstreams {
            let Some(address) = address_of(&spec, &self.namespace) else { continue };
            let (router, forwarder) = (router.clone(), forwarder.clone());
            let local = LocalListener { address: Rc::new(address), router, forwarder };
            spawn_listener(socket, &stopping, move |stream, _| local.clone().serve(stream));
        }
        if let Some(events) = self.port_events {
            let (router, forwarder, stopping) = (router.clone(), forwarder.clone(), stopping.clone());
            tokio::task::spawn_local(
                Serving { router, forwarder, observer: self.observer, age: self.age, stopping }.run(events),
            );
        }
        drop((stopping, forwarder));

        let housekeeping = async {
            loop {
                tokio::time::sleep(SWEEP).await;
                router.sweep();
                clusters.sweep();
                ports.sweep();
                app.show(None);
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

fn app_ports(specs: &[PortSpec], metrics: &Rc<ServiceMetrics>) -> Vec<Rc<AppPort>> {
    specs.iter().map(|spec| AppPort::new(spec.name.clone(), spec.host.clone(), spec.port, metrics.clone())).collect()
}

fn address_of(spec: &UpstreamSpec, namespace: &str) -> Option<ServiceAddress> {
    parse_authority(&spec.asked(), namespace)
}
