//! Where the attacks take place: a frontend's, a web app's and a Gateway's sidecar, and a peer with a certificate of the mesh.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use futures_util::future::join_all;
use leno_certs::tls;
use leno_tests::load::Running;
use leno_tests::mesh::service;
use leno_tests::{Load, Mesh, Sidecar, light, tools};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::app::RawApp;
use crate::ingress::support::{Ca, Tls, edge, gateway, route};

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
    /// Its port for the one service.
    Upstream,
    /// The mesh port of the web app's sidecar, as a peer would.
    Inbound,
    /// The Gateway's HTTP port, as any stranger.
    EdgeHttp,
    /// Its HTTPS port.
    EdgeTls,
}

/// Everywhere.
pub const ALL: [Role; 5] = [Role::Outbound, Role::Upstream, Role::Inbound, Role::EdgeHttp, Role::EdgeTls];
/// Where HTTP/1 is spoken; between sidecars there is HTTP/2 alone.
pub const HTTP1: [Role; 4] = [Role::Outbound, Role::Upstream, Role::EdgeHttp, Role::EdgeTls];

/// Tries the same at several places at once, so that what waits for a timeout does it once.
pub async fn at_each(roles: &[Role], attack: impl AsyncFn(Role)) {
    join_all(roles.iter().map(|role| attack(*role))).await;
}

pub struct Field {
    pub frontend: Sidecar,
    pub web: Sidecar,
    pub edge: Sidecar,
    pub app: RawApp,
    peer: light::Light,
    ca: Ca,
    _mesh: Mesh,
    before: Vec<u64>,
    bystanders: Vec<Running>,
}

impl Field {
    pub async fn start() -> Self {
        let (mesh, ca) = (Mesh::start().await, Ca::new());
        let https = "{name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: web}]}}";
        let listeners = gateway(&["{name: http, port: 80, protocol: HTTP}", https], "");
        let yaml = service("web", "app: web", 80, "http")
            + &ca.pair(&["web"]).secret("web")
            + &listeners
            + &route("web", "", &["web"], "", "web");
        mesh.apply(&yaml).await;
        let app = RawApp::start().await;
        let web = mesh.sidecar("web", "web").await.port("http", app.addr()).start().await;
        let frontend = mesh.sidecar("frontend", "frontend").await.upstream("web:80").start().await;
        let edge = edge(&mesh, &[80, 443]).await;
        mesh.connected(3).await;
        mesh.reachable(&frontend, "http://web/").await;
        let token = mesh.control_plane.api().token("default", "mallory", 60).await.unwrap();
        let peer = light::join(mesh.control_plane.xds(), "cluster.local", "mallory", &token).await.unwrap();
        Tls::new(&ca).answers(edge.gateway(443), "web", "/", 200).await;
        let (before, bystanders) = (Vec::new(), Vec::new());
        let mut field = Self { frontend, web, edge, app, peer, ca, _mesh: mesh, before, bystanders };
        // What is there once everything has been used; then bystanders, who must not notice anything.
        let load = |field: &Self, role| Load::new(field.port(role), "http://web/bystander").clients(2);
        for role in [Role::Outbound, Role::EdgeHttp] {
            load(&field, role).limit(100).run().await.assert_no_failure();
        }
        field.before = field.memory();
        for role in [Role::Outbound, Role::EdgeHttp] {
            field.bystanders.push(load(&field, role).pause(Duration::from_millis(5)).start());
        }
        field
    }

    fn memory(&mut self) -> Vec<u64> {
        let sidecars = [&mut self.frontend, &mut self.web, &mut self.edge];
        sidecars.into_iter().map(|sidecar| sidecar.process().memory()).collect()
    }

    /// The sidecar that has the port.
    pub fn sidecar(&mut self, role: Role) -> &mut Sidecar {
        match role {
            Role::Outbound | Role::Upstream => &mut self.frontend,
            Role::Inbound => &mut self.web,
            Role::EdgeHttp | Role::EdgeTls => &mut self.edge,
        }
    }

    pub fn port(&self, role: Role) -> SocketAddr {
        match role {
            Role::Outbound => self.frontend.http_proxy(),
            Role::Upstream => self.frontend.upstream("web:80"),
            Role::Inbound => self.web.mesh(),
            Role::EdgeHttp => self.edge.gateway(80),
            Role::EdgeTls => self.edge.gateway(443),
        }
    }

    /// A connection for HTTP/2, over TLS where that is needed; to the mesh port with the peer's certificate.
    pub async fn connect(&self, role: Role) -> Box<dyn Io> {
        self.speaking(role, "h2").await
    }

    /// A connection for HTTP/1.
    pub async fn connect_http1(&self, role: Role) -> Box<dyn Io> {
        self.speaking(role, "http/1.1").await
    }

    async fn speaking(&self, role: Role, alpn: &str) -> Box<dyn Io> {
        self.try_connect(role, alpn).await.unwrap_or_else(|error| panic!("{role:?}: {error:#}"))
    }

    /// A connection, if there is one to be had.
    pub async fn try_connect(&self, role: Role, alpn: &str) -> Result<Box<dyn Io>> {
        if role == Role::EdgeTls {
            return Ok(Box::new(Tls::new(&self.ca).alpn(&[alpn]).connect(self.port(role), "web").await?));
        }
        let stream = TcpStream::connect(self.port(role)).await?;
        stream.set_nodelay(true)?;
        if role != Role::Inbound {
            return Ok(Box::new(stream));
        }
        let config = tls::mesh_client(&self.peer.identity, &self.peer.bundle, &[b"h2"])?;
        let name = ServerName::try_from("http.h1.leno.internal")?;
        Ok(Box::new(TlsConnector::from(Arc::new(config)).connect(name, stream).await?))
    }

    /// Everything that a client gets which sends this as HTTP/1; the connection must be closed then.
    pub async fn answers(&self, role: Role, sent: &[u8]) -> String {
        let mut stream = self.connect_http1(role).await;
        // It may be closed before all of it is taken.
        let _ = async { stream.write_all(sent).await.is_ok() && stream.flush().await.is_ok() }.await;
        let mut got = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut got)).await;
        let got = String::from_utf8_lossy(&got).into_owned();
        assert!(read.is_ok(), "{role:?}: the connection is not closed: {} {got:?}", sent.escape_ascii());
        got
    }

    /// Nobody was harmed: the bystanders had all of their answers, the sidecars live and are as small as before.
    pub async fn unharmed(mut self, what: &str) {
        for bystander in std::mem::take(&mut self.bystanders) {
            bystander.more(50).await;
            let report = bystander.stop().await;
            report.assert_no_failure();
            assert!(report.slowest() < Duration::from_secs(5), "{what}: a bystander waited {:?}", report.slowest());
        }
        let after = self.memory();
        let mb = |memory: &[u64]| {
            memory.iter().map(|bytes| format!("{:.1}", *bytes as f64 / 1e6)).collect::<Vec<_>>().join(", ")
        };
        let (before, now) = (mb(&self.before), mb(&after));
        tools::note(&format!("FIGURE attack {what}: MB of frontend, web and Gateway {before}; after {now}"));
        for (before, after) in self.before.iter().zip(after) {
            assert!(after < before + GROWTH, "{what}: memory grew from {before} to {after} bytes");
        }
        for sidecar in [&mut self.frontend, &mut self.web, &mut self.edge] {
            sidecar.process().assert_running();
            assert!(!sidecar.log().contains("panicked"), "{what}: {}", sidecar.process().tail());
        }
    }
}
