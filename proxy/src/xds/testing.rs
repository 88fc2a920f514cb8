//! A small control plane for tests: Delta ADS and the identity service over real TLS, in this process. It answers
//! subscriptions from a world that the test sets, keeps every request for the test to look at, and can be stopped and
//! started on its port.

mod server;
mod sidecar;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use clap::Parser;
use leno_certs::{
    Authority, CONTROL_PLANE_ACCOUNT, CONTROL_PLANE_NAMESPACE, Identity, Key, SpiffeId, TrustBundle, csr,
};
use leno_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource as Wire};
use leno_proto::resource::{Resource, SELF};
use leno_proto::v1::{self, SignedIdentity};
use prost_types::Any;
use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::Status;

use super::identity::{Credentials, Current};
use super::metrics::XdsMetrics;
use crate::settings::{Args, Settings};
use crate::tls::MeshTls;

pub use sidecar::{Sidecar, has, mesh_of_web};

pub const DOMAIN: &str = "cluster.local";

pub fn authority() -> Arc<Authority> {
    let now = OffsetDateTime::now_utc();
    Arc::new(Authority::generate(DOMAIN, now - Duration::from_secs(60), Duration::from_secs(86_400)).unwrap())
}

pub fn bundle(authority: &Authority) -> TrustBundle {
    TrustBundle::new(authority.trust_domain(), vec![authority.root_der().to_vec()])
}

/// A leaf of this authority that is valid for `life` from now on.
pub fn identity(authority: &Authority, namespace: &str, account: &str, life: Duration) -> Identity {
    let id = SpiffeId::new(authority.trust_domain(), namespace, account).unwrap();
    let key = Key::generate().unwrap();
    let now = OffsetDateTime::now_utc();
    let leaf = authority.issue(&key, &id, &["127.0.0.1".to_owned()], now, now + life).unwrap();
    Identity::new(vec![leaf, authority.root_der().to_vec()], key).unwrap()
}

/// The identity of `web` in `default`, in force, in this folder.
pub fn credentials(authority: &Authority, folder: &std::path::Path) -> Credentials {
    let identity = identity(authority, "default", "web", Duration::from_secs(3600));
    let bundle = bundle(authority);
    let tls = MeshTls::new(&identity, &bundle).unwrap();
    let metrics = XdsMetrics::new(&leno_runtime::metrics::Registry::new());
    Credentials::new(Current::fresh(identity, bundle), tls, folder, metrics)
}

/// Settings of `web` for this control plane.
pub fn settings(control_plane: SocketAddr, folder: &std::path::Path, extra: &[&str]) -> Settings {
    let (addr, folder) = (control_plane.to_string(), folder.display().to_string());
    let base = ["leno-proxy", "--control-plane", &addr, "--service", "web", "--state-dir", &folder, "--name", "web-1"];
    Settings::try_from(Args::try_parse_from(base.iter().chain(extra)).unwrap()).unwrap()
}

/// Polls until the condition gives something, and fails the test after 20 s.
pub async fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(std::time::Instant::now() < deadline, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub fn service(name: &str, routes: &[&str]) -> v1::Service {
    let (namespace, short) = name.split_once('/').unwrap();
    let routes = routes.iter().map(|route| (*route).to_owned()).collect();
    let port = v1::ServicePort { number: 80, http_routes: routes, ..Default::default() };
    v1::Service { namespace: namespace.into(), name: short.into(), ports: vec![port], ..v1::Service::default() }
}

pub fn route(backend: &str) -> v1::HttpRoute {
    let backends = vec![v1::Backend { service: backend.into(), port: 80, weight: 1, ..Default::default() }];
    let matches = vec![v1::HttpMatch::default()];
    let rules = vec![v1::HttpRule { matches, backends, ..Default::default() }];
    v1::HttpRoute { namespace: "default".into(), name: "web".into(), rules, ..Default::default() }
}

/// A resource as it travels, with a version that follows from its content.
pub fn wire(name: &str, resource: &impl Resource) -> Wire {
    let any = resource.to_any();
    let version = any.value.iter().fold(0u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    Wire { version: format!("{version:x}"), resource: Some(any), name: name.to_owned() }
}

pub fn response(nonce: &str, resources: Vec<Wire>) -> DeltaDiscoveryResponse {
    let type_url =
        resources.first().and_then(|wire| wire.resource.as_ref()).map(|any| any.type_url.clone()).unwrap_or_default();
    DeltaDiscoveryResponse { resources, type_url, nonce: nonce.to_owned(), ..Default::default() }
}

/// One request that the server saw, and on which of its streams.
#[derive(Debug, Clone)]
pub struct Seen {
    pub stream: usize,
    pub request: DeltaDiscoveryRequest,
}

/// What the server knows. `refuse` ends every stream with that status.
#[derive(Default)]
pub struct World {
    resources: BTreeMap<(String, String), (String, Any)>,
    pub seen: Vec<Seen>,
    streams: usize,
    nonces: usize,
    /// Resources sent so far, without counting what every sidecar gets.
    pub sent: usize,
    live: Vec<Live>,
    pub refuse: Option<Status>,
    /// Identities of the clients that opened a stream, with the end of their certificate.
    pub clients: Vec<(SpiffeId, OffsetDateTime)>,
    pub tokens: BTreeSet<String>,
    pub renewals: usize,
    /// Join secrets of `default/web`, as text.
    pub secrets: BTreeSet<String>,
    /// What is answered to `Prove` instead of the truth.
    pub proofs: Proofs,
    /// The proofs that were given.
    pub proven: Vec<v1::RootProof>,
}

/// How the server answers who asks for a proof.
#[derive(Default, Clone)]
pub enum Proofs {
    #[default]
    Honest,
    /// With one that was heard before.
    Replay(v1::RootProof),
    /// With what the server at that address says, as a man in the middle would.
    Relay(SocketAddr),
}

struct Live {
    sender: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
    subscribed: BTreeSet<(String, String)>,
}

/// Handle of the test.
pub struct ControlPlane {
    pub authority: Arc<Authority>,
    pub addr: SocketAddr,
    world: Arc<Mutex<World>>,
    task: Option<JoinHandle<()>>,
}

impl ControlPlane {
    pub async fn start() -> Self {
        Self::start_as(authority(), CONTROL_PLANE_NAMESPACE, CONTROL_PLANE_ACCOUNT).await
    }

    /// Starts with a chosen authority, and as a chosen identity of it.
    pub async fn start_as(authority: Arc<Authority>, namespace: &str, account: &str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let world = Arc::new(Mutex::new(World::default()));
        let task = server::serve(listener, authority.clone(), (namespace, account), world.clone());
        let this = Self { authority, addr, world, task: Some(task) };
        this.set(
            DOMAIN,
            &v1::TrustBundle {
                trust_domain: DOMAIN.into(),
                roots: vec![this.authority.root_der().to_vec()],
                ..Default::default()
            },
        );
        this.set(SELF, &v1::SidecarConfig { renew_generation: 1, ..v1::SidecarConfig::default() });
        this
    }

    /// As `kill -9`: every connection is gone at once. What it knows is kept, as on disk.
    pub async fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
        self.world().live.clear();
    }

    pub async fn start_again(&mut self) {
        let listener = tokio::net::TcpListener::bind(self.addr).await.unwrap();
        let name = (CONTROL_PLANE_NAMESPACE, CONTROL_PLANE_ACCOUNT);
        self.task = Some(server::serve(listener, self.authority.clone(), name, self.world.clone()));
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// Sets a resource, and pushes it to who subscribed it.
    pub fn set<R: Resource>(&self, name: &str, resource: &R) {
        let wire = wire(name, resource);
        let any = wire.resource.unwrap();
        let key = (any.type_url.clone(), name.to_owned());
        let mut world = self.world();
        world.resources.insert(key.clone(), (wire.version, any));
        world.push(&key);
    }

    /// Takes a resource away.
    pub fn unset<R: Resource>(&self, name: &str) {
        let key = (R::TYPE_URL.to_owned(), name.to_owned());
        let mut world = self.world();
        world.resources.remove(&key);
        world.push(&key);
    }

    /// A join token that is good once.
    pub fn token(&self) -> String {
        let mut world = self.world();
        let token = format!(
            "leno1.{:016x}.c2VjcmV0.{}",
            world.tokens.len(),
            super::token::hex(&bundle(&self.authority).root_hash())
        );
        world.tokens.insert(token.clone());
        token
    }

    /// Waits for a request that fits.
    pub async fn request(&self, what: &str, fits: impl Fn(&Seen) -> bool) -> Seen {
        eventually(what, || self.world().seen.iter().find(|seen| fits(seen)).cloned()).await
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl World {
    /// Responses sent so far.
    pub fn responses(&self) -> usize {
        self.nonces
    }

    /// One response about these names.
    fn answer(&mut self, type_url: &str, names: &[String]) -> DeltaDiscoveryResponse {
        self.nonces += 1;
        let mut response = DeltaDiscoveryResponse {
            type_url: type_url.to_owned(),
            nonce: format!("n{}", self.nonces),
            ..Default::default()
        };
        for name in names {
            match self.resources.get(&(type_url.to_owned(), name.clone())) {
                Some((version, any)) => response.resources.push(Wire {
                    version: version.clone(),
                    resource: Some(any.clone()),
                    name: name.clone(),
                }),
                None => response.removed_resources.push(name.clone()),
            }
        }
        if name_is_the_apps(type_url) {
            self.sent += response.resources.len();
        }
        response
    }

    fn push(&mut self, key: &(String, String)) {
        let to: Vec<_> =
            self.live.iter().filter(|live| live.subscribed.contains(key)).map(|live| live.sender.clone()).collect();
        for sender in to {
            let response = self.answer(&key.0, std::slice::from_ref(&key.1));
            let _ = sender.try_send(Ok(response));
        }
    }
}

fn name_is_the_apps(type_url: &str) -> bool {
    ![v1::TrustBundle::TYPE_URL, v1::SidecarConfig::TYPE_URL, v1::Revocations::TYPE_URL].contains(&type_url)
}

/// Signs as the control plane does.
pub fn sign(
    authority: &Authority,
    request: &[u8],
    not_before: OffsetDateTime,
    life: Duration,
) -> Result<SignedIdentity, Status> {
    let csr = csr::Csr::from_der(request).map_err(|why| Status::invalid_argument(format!("csr_invalid: {why}")))?;
    let leaf = authority
        .sign(&csr, csr.requested(), &leno_certs::Lineage::begin(None).unwrap(), not_before, not_before + life)
        .unwrap();
    Ok(SignedIdentity {
        chain: vec![leaf],
        roots: vec![authority.root_der().to_vec()],
        trust_domain: authority.trust_domain().to_owned(),
        not_before: not_before.unix_timestamp(),
        not_after: (not_before + life).unix_timestamp(),
    })
}
