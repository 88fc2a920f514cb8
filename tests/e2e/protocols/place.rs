//! The three servers, each behind a sidecar of its own and each without one.

use std::net::SocketAddr;

use leno_tests::mesh::service;
use leno_tests::{Mesh, Sidecar};

use super::server::{self, ALL, Speaks};

pub struct Place {
    pub mesh: Mesh,
    pub frontend: Sidecar,
    _servers: Vec<Sidecar>,
}

/// The service of a server. Through a pair of sidecars, or through one.
pub fn host(speaks: Speaks, pair: bool) -> String {
    let name = match speaks {
        Speaks::Old => "old",
        Speaks::One => "one",
        Speaks::Two => "two",
    };
    if pair { name.to_owned() } else { format!("plain-{name}") }
}

fn port(speaks: Speaks) -> &'static str {
    if speaks == Speaks::Two { "h2c" } else { "http" }
}

impl Place {
    pub async fn start() -> Self {
        let mesh = Mesh::start().await;
        let mut objects = String::new();
        let mut servers: Vec<(Speaks, SocketAddr)> = Vec::new();
        for speaks in ALL {
            let addr = server::start(speaks).await;
            servers.push((speaks, addr));
            for pair in [false, true] {
                let name = host(speaks, pair);
                objects += &service(&name, &format!("app: {name}"), 80, port(speaks));
            }
            objects += &workload(&host(speaks, false), port(speaks), addr);
        }
        mesh.apply(&objects).await;
        let mut sidecars = Vec::new();
        for (speaks, addr) in servers {
            let name = host(speaks, true);
            sidecars.push(mesh.sidecar(&name, &name).await.port(port(speaks), addr).start().await);
        }
        let frontend = mesh.sidecar("frontend", "frontend").await.start().await;
        mesh.connected(sidecars.len() + 1).await;
        for (speaks, pair) in every() {
            mesh.reachable(&frontend, &format!("http://{}/unknown", host(speaks, pair))).await;
        }
        Self { mesh, frontend, _servers: sidecars }
    }
}

/// Every server, through one sidecar and through a pair.
pub fn every() -> impl Iterator<Item = (Speaks, bool)> {
    ALL.into_iter().flat_map(|speaks| [(speaks, false), (speaks, true)])
}

/// An instance without a sidecar, of the app of its name.
pub fn workload(name: &str, port: &str, addr: SocketAddr) -> String {
    format!(
        "apiVersion: leno.dev/v1alpha1\nkind: Workload\nmetadata: {{name: {name}, namespace: default, labels: {{app: {name}}}}}\n\
         spec: {{address: {}, ports: {{{port}: {}}}}}\n---\n",
        addr.ip(),
        addr.port()
    )
}
