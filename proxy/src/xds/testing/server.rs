//! The sockets of the test's control plane.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::Stream;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use leno_certs::{Authority, JoinSecret, SpiffeId, tls, verify};
use leno_proto::discovery::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use leno_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use leno_proto::resource::REGISTRATION_URL;
use leno_proto::v1::identity_client::IdentityClient;
use leno_proto::v1::identity_server::{Identity as IdentityService, IdentityServer};
use leno_proto::v1::{JoinRequest, ProveRequest, RenewRequest, RootProof, SignedIdentity};
use time::OffsetDateTime;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tower::Service;

use super::{Live, Proofs, Seen, World, bundle, identity, sign};
use crate::settings::HostPort;
use crate::xds::connect;

type Peer = Option<(SpiffeId, OffsetDateTime)>;

#[derive(Clone)]
struct Served {
    authority: Arc<Authority>,
    world: Arc<Mutex<World>>,
}

/// Serves until the task is aborted; then all connections are gone, too.
pub(super) fn serve(
    listener: TcpListener,
    authority: Arc<Authority>,
    name: (&str, &str),
    world: Arc<Mutex<World>>,
) -> JoinHandle<()> {
    let own = identity(&authority, name.0, name.1, Duration::from_secs(3600));
    let config = tls::optional_client_server(&own, &bundle(&authority), &[b"h2"]).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let served = Served { authority, world };
    tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((tcp, _)) = listener.accept().await {
            connections.spawn(connection(tcp, acceptor.clone(), served.clone()));
        }
    })
}

async fn connection(tcp: TcpStream, acceptor: TlsAcceptor, served: Served) {
    let Ok(stream) = acceptor.accept(tcp).await else { return };
    let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let peer: Peer = leaf.map(|leaf| (verify::peer_id(leaf).unwrap(), verify::not_after(leaf).unwrap()));
    let service = hyper::service::service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer.clone());
        let mut ads = AggregatedDiscoveryServiceServer::new(served.clone());
        let mut identity = IdentityServer::new(served.clone());
        async move {
            if request.uri().path().starts_with("/leno.v1.Identity/") {
                identity.call(request).await
            } else {
                ads.call(request).await
            }
        }
    });
    let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Served {
    type DeltaAggregatedResourcesStream = Pin<Box<dyn Stream<Item = Result<DeltaDiscoveryResponse, Status>> + Send>>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let peer = request
            .extensions()
            .get::<Peer>()
            .cloned()
            .flatten()
            .ok_or_else(|| Status::unauthenticated("no_certificate"))?;
        let mut requests = request.into_inner();
        let (sender, responses) = mpsc::channel(64);
        let number = {
            let mut world = self.world.lock().unwrap();
            if let Some(status) = &world.refuse {
                return Err(status.clone());
            }
            world.clients.push(peer);
            world.streams += 1;
            world.live.push(Live { sender, subscribed: Default::default() });
            world.streams
        };
        let world = self.world.clone();
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                take(&mut world.lock().unwrap(), number, request);
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(responses))))
    }
}

/// Answers a subscription: each name that is new and not held in this version, in one response.
fn take(world: &mut World, stream: usize, request: DeltaDiscoveryRequest) {
    world.seen.push(Seen { stream, request: request.clone() });
    let subscribes = request.response_nonce.is_empty() && request.type_url != REGISTRATION_URL;
    let (true, Some(live)) = (subscribes, world.live.last_mut()) else { return };
    let key = |name: &String| (request.type_url.clone(), name.clone());
    live.subscribed.extend(request.resource_names_subscribe.iter().map(key));
    for name in &request.resource_names_unsubscribe {
        live.subscribed.remove(&key(name));
    }
    let sender = live.sender.clone();
    let held = &request.initial_resource_versions;
    let current =
        |name: &&String| world.resources.get(&key(name)).is_none_or(|(version, _)| held.get(*name) != Some(version));
    let names: Vec<String> = request.resource_names_subscribe.iter().filter(current).cloned().collect();
    if !names.is_empty() {
        let response = world.answer(&request.type_url, &names);
        let _ = sender.try_send(Ok(response));
    }
}

async fn relay(real: std::net::SocketAddr, request: ProveRequest) -> Result<RootProof, Status> {
    let real = HostPort { host: real.ip().to_string(), port: real.port() };
    let link = connect::connect(&real, tls::unproven_client(connect::ALPN).unwrap()).await.unwrap();
    Ok(IdentityClient::new(link.channel).prove(request).await?.into_inner())
}

impl Served {
    fn secret(&self, id: &str) -> Result<JoinSecret, Status> {
        let world = self.world.lock().unwrap();
        let mut secrets = world.secrets.iter().map(|text| JoinSecret::parse(text).unwrap());
        secrets.find(|secret| secret.id() == id).ok_or_else(|| Status::unauthenticated("secret_unknown: not known"))
    }
}

#[tonic::async_trait]
impl IdentityService for Served {
    async fn prove(&self, request: Request<ProveRequest>) -> Result<Response<RootProof>, Status> {
        let request = request.into_inner();
        let proofs = self.world.lock().unwrap().proofs.clone();
        let proof = match proofs {
            Proofs::Replay(proof) => proof,
            Proofs::Relay(real) => relay(real, request).await?,
            Proofs::Honest => {
                let secret = self.secret(&request.secret_id)?;
                let root = bundle(&self.authority).root_hash();
                let mac = secret.prove_root(&request.nonce.try_into().unwrap(), &root);
                RootProof { root_sha256: root.to_vec(), mac }
            }
        };
        self.world.lock().unwrap().proven.push(proof.clone());
        Ok(Response::new(proof))
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<SignedIdentity>, Status> {
        let request = request.into_inner();
        let life = Duration::from_secs(3600);
        if let Some(proof) = &request.secret {
            if !self.secret(&proof.secret_id)?.request_is_proven(&request.csr, &proof.mac) {
                return Err(Status::unauthenticated("secret_wrong: another secret"));
            }
            return sign(&self.authority, &request.csr, OffsetDateTime::now_utc(), life).map(Response::new);
        }
        if !self.world.lock().unwrap().tokens.remove(&request.token) {
            return Err(Status::unauthenticated("token_used: this token was used before"));
        }
        sign(&self.authority, &request.csr, OffsetDateTime::now_utc(), life).map(Response::new)
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<SignedIdentity>, Status> {
        request
            .extensions()
            .get::<Peer>()
            .cloned()
            .flatten()
            .ok_or_else(|| Status::unauthenticated("no_certificate"))?;
        self.world.lock().unwrap().renewals += 1;
        let life = Duration::from_secs(7200);
        sign(&self.authority, &request.into_inner().csr, OffsetDateTime::now_utc(), life).map(Response::new)
    }
}
