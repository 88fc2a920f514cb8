//! Where the attacks take place: a frontend's and a web app's sidecar, and a peer with a certificate of the mesh.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use leno_certs::tls;
use leno_tests::load::Running;
use leno_tests::mesh::service;
use leno_tests::{Load, Mesh, Sidecar, light, tools};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::app::RawApp;

/// What a sidecar may grow by under any attack: caches, pools and what allocators round up.
const GROWTH: u64 = 32 << 20;

/// A connection to whatever is attacked.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Whom an attacker attacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The proxy port of the frontend's sidecar, as its app would.
    Outbound,
    /// The mesh port of the web app's sidecar, as a peer would.
    Inbound,
}

pub const BOTH: [Role; 2] = [Role::Outbound, Role::Inbound];

pub struct Field {
    pub frontend: Sidecar,
    pub web: Sidecar,
    pub app: RawApp,
    peer: light::Light,
    _mesh: Mesh,
    before: [u64; 2],
    bystander: Option<Running>,
}

impl Field {
    pub async fn start() -> Self {
        let mesh = Mesh::start().await;
        mesh.apply(&service("web", "app: web", 80, "http")).await;
        let app = RawApp::start().await;
        let web = mesh.sidecar("web", "web").await.port("http", app.addr()).start().await;
        let frontend = mesh.sidecar("frontend", "frontend").await.upstream("web:80").start().await;
        mesh.connected(2).await;
        mesh.reachable(&frontend, "http://web/").await;
        let token = mesh.control_plane.api().token("default", "mallory", 60).await.unwrap();
        let peer = light::join(mesh.control_plane.xds(), "cluster.local", "mallory", &token).await.unwrap();
        let mut field = Self { frontend, web, app, peer, _mesh: mesh, before: [0; 2], bystander: None };
        // What is there once everything has been used; then a bystander, who must not notice anything.
        let warm = Load::new(field.frontend.http_proxy(), "http://web/bystander").clients(2).limit(100).run().await;
        warm.assert_no_failure();
        field.before = field.memory();
        let load = Load::new(field.frontend.http_proxy(), "http://web/bystander").clients(2);
        field.bystander = Some(load.pause(Duration::from_millis(5)).start());
        field
    }

    fn memory(&mut self) -> [u64; 2] {
        [self.frontend.process().memory(), self.web.process().memory()]
    }

    pub fn port(&self, role: Role) -> SocketAddr {
        match role {
            Role::Outbound => self.frontend.http_proxy(),
            Role::Inbound => self.web.mesh(),
        }
    }

    /// A connection for HTTP/2, over TLS with the peer's certificate where that is needed.
    pub async fn connect(&self, role: Role) -> Box<dyn Io> {
        let stream = TcpStream::connect(self.port(role)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        if role == Role::Outbound {
            return Box::new(stream);
        }
        let config = tls::mesh_client(&self.peer.identity, &self.peer.bundle, &[b"h2"]).unwrap();
        let name = ServerName::try_from("http.h1.leno.internal").unwrap();
        Box::new(TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap())
    }

    /// Nobody was harmed: the bystander had all of its answers, both sidecars live and are as small as before.
    pub async fn unharmed(mut self, what: &str) {
        let bystander = self.bystander.take().unwrap();
        bystander.more(50).await;
        let report = bystander.stop().await;
        report.assert_no_failure();
        assert!(report.slowest() < Duration::from_secs(5), "{what}: a bystander waited {:?}", report.slowest());
        let after = self.memory();
        let mb = |memory: [u64; 2]| memory.map(|bytes| format!("{:.1}", bytes as f64 / 1e6)).join(" and ");
        tools::note(&format!("FIGURE attack {what}: MB of both sidecars {}, after {}", mb(self.before), mb(after)));
        for (before, after) in self.before.iter().zip(after) {
            assert!(after < before + GROWTH, "{what}: memory grew from {before} to {after} bytes");
        }
        for sidecar in [&mut self.frontend, &mut self.web] {
            sidecar.process().assert_running();
            assert!(!sidecar.log().contains("panicked"), "{what}: {}", sidecar.process().tail());
        }
    }
}
