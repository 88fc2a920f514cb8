//! A control plane's xDS port in this process, and a light sidecar that speaks the real stream over real TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use leno_certs::{Identity, JoinSecret, Key, SpiffeId, csr, tls};
use leno_proto::Registration;
use leno_proto::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use leno_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Status as NackStatus};
use leno_proto::v1::identity_client::IdentityClient;
use leno_proto::v1::{JoinRequest, ProveRequest, RenewRequest, RootProof, SecretProof, SignedIdentity};
use leno_runtime::drain::{self, Drain};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use time::OffsetDateTime;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Status, Streaming};

use crate::ca::{self, CertificateAuthority, JoinSecrets, Refusals, ServerIdentity};
use crate::discovery::{self, Globals, ResourceType};
use crate::model::{AppProtocol, Committed, Mesh, Name, Service, ServicePort, TargetPort};
use crate::registry::Registry;
use crate::store::Store;
use crate::xds::{self, Parts, Sessions};

pub(super) const SOON: Duration = Duration::from_secs(10);

/// A served xDS port whose configuration is set by hand.
pub(super) struct Port {
    pub(super) address: SocketAddr,
    pub(super) parts: Parts,
    pub(super) drain: Option<Drain>,
    pub(super) globals: watch::Sender<Globals>,
    pub(super) serving: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
    committed: watch::Sender<Arc<Committed>>,
    pub(super) secrets_dir: tempfile::TempDir,
    _dir: tempfile::TempDir,
}

impl Port {
    pub(super) async fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let metrics = leno_runtime::metrics::Registry::new();
        let root = ca::open(&store, dir.path(), "cluster.local", &None, OffsetDateTime::now_utc()).unwrap();
        let authority = CertificateAuthority::new(store.clone(), root, Duration::from_secs(3600), &metrics);
        let listener = leno_runtime::listen::tcp("127.0.0.1:0", "--xds-addr", false).unwrap();
        let address = listener.local_addr().unwrap();
        let tls = ServerIdentity::new(authority.clone(), &[address], None).unwrap();
        let registry = Registry::restore(store.clone(), Duration::from_secs(2));
        let (drain, watch) = drain::channel();
        let committed = watch::Sender::new(Arc::new(Committed::default()));
        let bundle = authority.trust_bundle();
        let globals = Globals {
            trust_domain: bundle.trust_domain,
            roots: bundle.roots,
            federated: Default::default(),
            jwks: Default::default(),
            renew_generation: 0,
        };
        let globals = watch::Sender::new(globals);
        let worlds = discovery::spawn(
            Forgetful,
            committed.subscribe(),
            registry.subscribe(),
            globals.subscribe(),
            store.revocations(),
            watch.clone(),
        );
        let sessions = Sessions::new(registry.clone());
        let refusals = Refusals::new(&metrics);
        tokio::spawn(registry.clone().run(watch.clone()));
        let secrets_dir = tempfile::tempdir().unwrap();
        let secrets = Some(Arc::new(JoinSecrets::open(secrets_dir.path(), "cluster.local").unwrap()));
        let parts = Parts {
            authority,
            secrets,
            accounts: None,
            tls,
            registry,
            worlds,
            sessions,
            refusals,
            revocations: store.revocations(),
            observed: Default::default(),
            questions: Default::default(),
            metrics,
        };
        let serving = tokio::spawn(xds::serve(listener, parts.clone(), watch));
        Self { address, parts, drain: Some(drain), globals, serving, committed, secrets_dir, _dir: dir }
    }

    /// Puts Services with these names and ports in force; gives the revision.
    pub(super) fn commit(&self, services: &[(&str, u16)]) -> u64 {
        let mut mesh = Mesh::default();
        for (name, number) in services {
            let name = Name::new("default", *name);
            let target = TargetPort::Name("http".into());
            let ports = vec![ServicePort {
                name: String::new(),
                number: *number,
                target,
                protocol: AppProtocol::Detect,
                unfit: None,
            }];
            let selector = [("app".to_owned(), name.name.clone())].into();
            mesh.services.insert(name.clone(), Service { name, selector, ports, any_port: false, headless: false });
        }
        let revision = self.committed.borrow().revision + 1;
        self.committed.send_replace(Arc::new(Committed { revision, mesh: Arc::new(mesh) }));
        revision
    }

    pub(super) fn token(&self, id: &SpiffeId) -> String {
        let made =
            self.parts.authority.create_token(id, Duration::from_secs(60), OffsetDateTime::now_utc(), &"admin".into());
        made.unwrap().token.to_string()
    }

    pub(super) async fn join(&self, id: &SpiffeId) -> Arc<Identity> {
        let token = self.token(id);
        let (signed, key) = self.try_join(&token, id).await.unwrap();
        Arc::new(identity(signed, key))
    }

    pub(super) async fn try_join(&self, token: &str, id: &SpiffeId) -> Result<(SignedIdentity, Key), Status> {
        let root = self.parts.authority.trust_bundle().root_hash();
        let channel = connect(self.address, tls::pinned_client(root, &[b"h2"]).unwrap()).await;
        let key = Key::generate().unwrap();
        let request =
            JoinRequest { token: token.to_owned(), csr: csr::create(&key, id).unwrap(), ..JoinRequest::default() };
        Ok((IdentityClient::new(channel).join(request).await?.into_inner(), key))
    }

    /// As a sidecar that knows no root asks.
    pub(super) async fn prove(&self, secret_id: &str, nonce: &[u8]) -> Result<RootProof, Status> {
        let channel = connect(self.address, tls::unproven_client(&[b"h2"]).unwrap()).await;
        let request = ProveRequest { secret_id: secret_id.to_owned(), nonce: nonce.to_vec() };
        Ok(IdentityClient::new(channel).prove(request).await?.into_inner())
    }

    /// `token` is shown beside the proof; it should be empty.
    pub(super) async fn join_by_secret(
        &self,
        secret: &JoinSecret,
        id: &SpiffeId,
        token: &str,
    ) -> Result<SignedIdentity, Status> {
        let root = self.parts.authority.trust_bundle().root_hash();
        let channel = connect(self.address, tls::pinned_client(root, &[b"h2"]).unwrap()).await;
        let csr = csr::create(&Key::generate().unwrap(), id).unwrap();
        let secret = Some(SecretProof { secret_id: secret.id().to_owned(), mac: secret.prove_request(&csr) });
        let request = JoinRequest { token: token.to_owned(), csr, secret, ..JoinRequest::default() };
        Ok(IdentityClient::new(channel).join(request).await?.into_inner())
    }

    pub(super) async fn renew(&self, who: &Identity, id: &SpiffeId) -> Result<SignedIdentity, Status> {
        let request = RenewRequest { csr: csr::create(&Key::generate().unwrap(), id).unwrap() };
        Ok(IdentityClient::new(self.channel(who).await).renew(request).await?.into_inner())
    }

    pub(super) async fn channel(&self, who: &Identity) -> Channel {
        connect(self.address, tls::mesh_client(who, &self.parts.authority.trust_bundle(), &[b"h2"]).unwrap()).await
    }

    pub(super) async fn stream(&self, who: &Identity, registration: &Registration) -> Result<Stream, Status> {
        Stream::open(self.channel(who).await, registration).await
    }

    pub(super) async fn stream_with(
        &self,
        config: ClientConfig,
        registration: &Registration,
    ) -> Result<Stream, Status> {
        Stream::open(connect(self.address, config).await, registration).await
    }

    /// Waits until a metric has a value.
    pub(super) async fn counts(&self, line: &str) {
        eventually(line, || self.parts.metrics.render().lines().any(|l| l == line)).await;
    }
}

pub(super) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, wait).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

pub(super) fn identity(signed: SignedIdentity, key: Key) -> Identity {
    Identity::new(signed.chain, key).unwrap()
}

pub(super) fn web() -> SpiffeId {
    SpiffeId::new("cluster.local", "default", "web").unwrap()
}

pub(super) fn registration(name: &str) -> Registration {
    Registration {
        labels: [("app".to_owned(), "web".to_owned())].into(),
        ports: [("http".to_owned(), 8080)].into(),
        ..Registration::local(name, "default", "web", 15008)
    }
}

/// Two of a few services never want one virtual address.
struct Forgetful;

impl discovery::Record for Forgetful {
    fn load(&self) -> Option<Vec<u8>> {
        None
    }
    fn save(&self, _: &[u8]) {}
}

async fn connect(address: SocketAddr, config: ClientConfig) -> Channel {
    let connector = TlsConnector::from(Arc::new(config));
    let dial = tower::service_fn(move |_: Uri| {
        let connector = connector.clone();
        async move {
            let tcp = TcpStream::connect(address).await?;
            let name = ServerName::IpAddress(address.ip().into());
            Ok::<_, std::io::Error>(TokioIo::new(connector.connect(name, tcp).await?))
        }
    });
    Endpoint::from_static("http://control-plane").connect_with_connector_lazy(dial)
}

/// The sidecar's side of a stream.
pub(super) struct Stream {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl Stream {
    async fn open(channel: Channel, registration: &Registration) -> Result<Self, Status> {
        let (requests, outgoing) = mpsc::channel(64);
        let node = Some(registration.to_node());
        let type_url = leno_proto::resource::REGISTRATION_URL.to_owned();
        let first = DeltaDiscoveryRequest { node, type_url, ..DeltaDiscoveryRequest::default() };
        requests.send(first).await.unwrap();
        let mut client = AggregatedDiscoveryServiceClient::new(channel);
        let outgoing = tokio_stream::wrappers::ReceiverStream::new(outgoing);
        let responses = client.delta_aggregated_resources(outgoing).await?.into_inner();
        Ok(Self { requests, responses })
    }

    pub(super) async fn send(&self, request: DeltaDiscoveryRequest) {
        self.requests.send(request).await.unwrap();
    }

    pub(super) async fn subscribe(&self, kind: ResourceType, names: &[&str], held: &[(String, String)]) {
        let resource_names_subscribe = names.iter().map(ToString::to_string).collect();
        let initial_resource_versions = held.iter().cloned().collect();
        let type_url = kind.url().to_owned();
        self.send(DeltaDiscoveryRequest {
            type_url,
            resource_names_subscribe,
            initial_resource_versions,
            ..DeltaDiscoveryRequest::default()
        })
        .await;
    }

    pub(super) async fn register(&self, registration: &Registration) {
        let type_url = leno_proto::resource::REGISTRATION_URL.to_owned();
        let node = Some(registration.to_node());
        self.send(DeltaDiscoveryRequest { node, type_url, ..DeltaDiscoveryRequest::default() }).await;
    }

    /// The next message: what it brings as NAME=VERSION, what it removes, and its nonce.
    pub(super) async fn next(&mut self) -> Result<DeltaDiscoveryResponse, Status> {
        let next = tokio::time::timeout(SOON, self.responses.message()).await.expect("a message in time");
        next?.ok_or_else(|| Status::cancelled("the stream ended"))
    }

    pub(super) async fn answer(&self, response: &DeltaDiscoveryResponse, refused: Option<&str>) {
        let error_detail =
            refused.map(|reason| NackStatus { code: 3, message: reason.to_owned(), ..NackStatus::default() });
        let (type_url, response_nonce) = (response.type_url.clone(), response.nonce.clone());
        self.send(DeltaDiscoveryRequest { type_url, response_nonce, error_detail, ..DeltaDiscoveryRequest::default() })
            .await;
    }
}

pub(super) fn names(response: &DeltaDiscoveryResponse) -> Vec<&str> {
    response.resources.iter().map(|r| r.name.as_str()).collect()
}

pub(super) fn versions(response: &DeltaDiscoveryResponse) -> Vec<(String, String)> {
    response.resources.iter().map(|r| (r.name.clone(), r.version.clone())).collect()
}
