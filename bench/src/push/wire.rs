//! Sidecars without traffic: each is a connection of its own with mutual TLS and the real stream, which acknowledges whatever comes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http::request::Builder;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use leno_certs::{Identity, Key, SpiffeId, TrustBundle, csr, tls};
use leno_proto::Registration;
use leno_proto::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use leno_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use leno_proto::resource::{REGISTRATION_URL, Resource, SELF};
use leno_proto::v1::identity_client::IdentityClient;
use leno_proto::v1::{self, JoinRequest};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

/// Requests that wait for the network.
const QUEUE: usize = 64;
/// The bounds of the pause between two attempts to come back, at first and at most: as a sidecar's.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long any step may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at the status of all sidecars, which costs the control plane some time itself.
const LOOK: Duration = Duration::from_millis(50);
const H2: &[&[u8]] = &[b"h2"];

/// What happened to one of them.
#[derive(Debug, Clone, Copy)]
pub struct Acked {
    /// Which one.
    pub sidecar: usize,
    /// The type of what it acknowledged.
    pub type_url: &'static str,
    pub at: Instant,
}

/// The one identity that all share; the control plane tells workloads by their names.
pub struct Joined {
    xds: SocketAddr,
    tls: Arc<ClientConfig>,
    trust_domain: String,
    /// How many hold a stream.
    open: AtomicUsize,
    /// Handshakes that were begun, those that came to nothing included.
    shaken: Arc<AtomicUsize>,
}

/// Counts a stream for as long as it is there.
struct Open<'a>(&'a AtomicUsize);

impl<'a> Open<'a> {
    fn one_more(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn connect(
    addr: SocketAddr,
    tls: Arc<ClientConfig>,
    shaken: Option<Arc<AtomicUsize>>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(addr).await?;
    if let Some(shaken) = shaken {
        shaken.fetch_add(1, Ordering::Relaxed);
    }
    stream.set_nodelay(true)?;
    TlsConnector::from(tls).connect(ServerName::from(addr.ip()), stream).await
}

/// A connection for gRPC; each handshake is counted.
async fn channel(addr: SocketAddr, tls: Arc<ClientConfig>, shaken: &Arc<AtomicUsize>) -> Result<Channel> {
    let shaken = shaken.clone();
    let connector = tower::service_fn(move |_| {
        let connecting = connect(addr, tls.clone(), Some(shaken.clone()));
        async move { connecting.await.map(TokioIo::new) }
    });
    Ok(Endpoint::from_shared(format!("http://{addr}"))?.connect_with_connector(connector).await?)
}

fn root_hash(token: &str) -> Result<[u8; 32]> {
    let hash = token.rsplit('.').next().context("a token has a root's hash")?;
    hex::decode(hash)?.try_into().ok().context("a hash has 32 bytes")
}

impl Joined {
    /// Joins by a token for the service account `client` of the namespace `default`.
    pub async fn by(token: &str, xds: SocketAddr, trust_domain: &str) -> Result<Self> {
        let (key, id) = (Key::generate()?, SpiffeId::new(trust_domain, "default", "client")?);
        let request = JoinRequest { token: token.to_owned(), csr: csr::create(&key, &id)?, ..JoinRequest::default() };
        let pinned = Arc::new(tls::pinned_client(root_hash(token)?, H2)?);
        let shaken = Arc::<AtomicUsize>::default();
        let signed = IdentityClient::new(channel(xds, pinned, &shaken).await?).join(request).await?.into_inner();
        let bundle = TrustBundle::new(signed.trust_domain, signed.roots);
        let identity = Identity::new(signed.chain, key)?;
        let tls = Arc::new(tls::mesh_client(&identity, &bundle, H2)?);
        Ok(Self { xds, tls, trust_domain: trust_domain.to_owned(), open: AtomicUsize::new(0), shaken })
    }

    /// Connects, subscribes, and acknowledges; comes back when the stream ends, with the versions that it holds.
    pub async fn live(self: Arc<Self>, sidecar: usize, acked: UnboundedSender<Acked>) {
        let (mut held, mut pause) = (Held::default(), PAUSES.0);
        while !acked.is_closed() {
            let mut opened = false;
            // Whatever it was, a sidecar comes back.
            let _ = self.session(sidecar, &mut held, &acked, &mut opened).await;
            if opened {
                pause = PAUSES.0;
            }
            tokio::time::sleep(pause.mul_f64(fastrand::f64())).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Handshakes that all have begun, those that came to nothing included.
    pub fn shaken(&self) -> usize {
        self.shaken.load(Ordering::Relaxed)
    }

    fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Waits until so many hold a stream.
    pub async fn all_are_here(&self, sidecars: usize) -> Result<()> {
        let begun = Instant::now();
        while self.open() < sidecars {
            ensure!(begun.elapsed() < PATIENCE, "{} of {sidecars} sidecars are connected", self.open());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    async fn session(
        &self,
        sidecar: usize,
        held: &mut Held,
        acked: &UnboundedSender<Acked>,
        opened: &mut bool,
    ) -> Result<()> {
        let (requests, queue) = mpsc::channel(QUEUE);
        let registration = Registration {
            labels: [("app".to_owned(), "client".to_owned())].into(),
            ..Registration::local(&format!("client-{sidecar}"), "default", "client", 1)
        };
        let node = Some(registration.to_node());
        let first = DeltaDiscoveryRequest { node, type_url: REGISTRATION_URL.to_owned(), ..Default::default() };
        requests.send(first).await?;
        for (type_url, names) in self.wanted() {
            requests.send(held.subscription(type_url, &names)).await?;
        }
        let channel = channel(self.xds, self.tls.clone(), &self.shaken).await?;
        let mut client = AggregatedDiscoveryServiceClient::new(channel);
        let mut answers = client.delta_aggregated_resources(ReceiverStream::new(queue)).await?.into_inner();
        *opened = true;
        let _open = Open::one_more(&self.open);
        while let Some(answer) = answers.message().await? {
            let type_url = held.take(&answer, self.wanted().map(|(url, _)| url));
            let ack = DeltaDiscoveryRequest {
                type_url: answer.type_url,
                response_nonce: answer.nonce,
                ..DeltaDiscoveryRequest::default()
            };
            requests.send(ack).await?;
            let Some(type_url) = type_url else { continue };
            acked.send(Acked { sidecar, type_url, at: Instant::now() })?;
        }
        Ok(())
    }

    /// What an app with one routed destination makes its sidecar subscribe.
    fn wanted(&self) -> [(&'static str, Vec<String>); 6] {
        let services = || ["default/web", "default/web-v1", "default/web-v2"].map(str::to_owned).to_vec();
        [
            (v1::Revocations::TYPE_URL, vec![self.trust_domain.clone()]),
            (v1::Service::TYPE_URL, services()),
            (v1::Endpoints::TYPE_URL, services()),
            (v1::HttpRoute::TYPE_URL, vec!["HTTPRoute/default/web".to_owned()]),
            (v1::TrustBundle::TYPE_URL, vec![self.trust_domain.clone()]),
            (v1::SidecarConfig::TYPE_URL, vec![SELF.to_owned()]),
        ]
    }
}

/// Versions by type and name.
#[derive(Default)]
struct Held {
    of: BTreeMap<&'static str, BTreeMap<String, String>>,
}

impl Held {
    fn subscription(&self, type_url: &'static str, names: &[String]) -> DeltaDiscoveryRequest {
        DeltaDiscoveryRequest {
            type_url: type_url.to_owned(),
            resource_names_subscribe: names.to_vec(),
            initial_resource_versions: self.of.get(type_url).cloned().unwrap_or_default().into_iter().collect(),
            ..DeltaDiscoveryRequest::default()
        }
    }

    fn take(
        &mut self,
        answer: &DeltaDiscoveryResponse,
        types: impl IntoIterator<Item = &'static str>,
    ) -> Option<&'static str> {
        let type_url = types.into_iter().find(|known| *known == answer.type_url)?;
        let held = self.of.entry(type_url).or_default();
        held.extend(answer.resources.iter().map(|resource| (resource.name.clone(), resource.version.clone())));
        answer.removed_resources.iter().for_each(|name| drop(held.remove(name)));
        Some(type_url)
    }
}

/// The REST API, as an administrator.
pub struct Api {
    addr: SocketAddr,
    bearer: String,
    tls: Arc<ClientConfig>,
}

impl Api {
    /// By what stands in the administrator's context, and a token that carries the root's hash.
    pub fn new(context: &str, token: &str) -> Result<Self> {
        let line = |name: &str| context.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let addr = line("server: https://").context("a context has a server")?.parse()?;
        let bearer = line("token: ").context("a context has a token")?.to_owned();
        Ok(Self { addr, bearer, tls: Arc::new(tls::pinned_client(root_hash(token)?, &[b"http/1.1"])?) })
    }

    /// Applies objects, and says when that was asked for: from then on the control plane can begin to work.
    pub async fn apply(&self, yaml: &str) -> Result<Instant> {
        let body = json!({"files": [{"name": "change.yaml", "content": yaml}]}).to_string();
        let mut sender = self.sender().await?;
        let begun = Instant::now();
        self.ask(&mut sender, Request::post("/v1/apply"), body).await?;
        Ok(begun)
    }

    /// Waits until so many sidecars are there, and hold what the control plane has.
    pub async fn all_hold_the_revision(&self, sidecars: usize) -> Result<()> {
        let begun = Instant::now();
        let mut sender = self.sender().await?;
        loop {
            let status = self.ask(&mut sender, Request::get("/v1/status"), String::new()).await?;
            let revision = &status["controlPlane"]["revision"];
            let all = status["sidecars"].as_array().context("a status has sidecars")?;
            let good = all.iter().filter(|one| one["ack"] == "ACK" && &one["revision"] == revision).count();
            if good >= sidecars {
                return Ok(());
            }
            ensure!(begun.elapsed() < PATIENCE, "{good} of {sidecars} sidecars hold the revision {revision}");
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn sender(&self) -> Result<SendRequest<Full<Bytes>>> {
        let stream = connect(self.addr, self.tls.clone(), None).await?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // It ends with its sender.
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn ask(&self, sender: &mut SendRequest<Full<Bytes>>, request: Builder, body: String) -> Result<Value> {
        let request = request
            .header(header::HOST, self.addr.to_string())
            .header(header::AUTHORIZATION, format!("Bearer {}", self.bearer))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))?;
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let answer = response.into_body().collect().await?.to_bytes();
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        ensure!(status.is_success(), "the control plane answers {status}: {answer}");
        Ok(answer)
    }
}

/// Waits until so many sidecars have acknowledged something of this type after `since`; when each did.
pub async fn all_acked(
    acked: &mut mpsc::UnboundedReceiver<Acked>,
    sidecars: usize,
    type_url: &str,
    since: Instant,
) -> Result<Vec<Duration>> {
    let (mut seen, mut times) = (BTreeSet::new(), Vec::new());
    while times.len() < sidecars {
        let Ok(next) = tokio::time::timeout(PATIENCE, acked.recv()).await else {
            bail!("{} of {sidecars} sidecars have acknowledged", times.len());
        };
        let next = next.context("the sidecars are gone")?;
        if next.type_url == type_url && next.at >= since && seen.insert(next.sidecar) {
            times.push(next.at - since);
        }
    }
    times.sort_unstable();
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_named_when_a_sidecar_comes_back() {
        let mut held = Held::default();
        let resource = |name: &str, version: &str| leno_proto::discovery::Resource {
            name: name.to_owned(),
            version: version.to_owned(),
            ..Default::default()
        };
        let answer = |resources, removed: &[&str]| DeltaDiscoveryResponse {
            type_url: v1::Service::TYPE_URL.to_owned(),
            resources,
            removed_resources: removed.iter().map(|name| (*name).to_owned()).collect(),
            ..Default::default()
        };
        let types = [v1::Service::TYPE_URL];
        assert!(held.take(&answer(vec![resource("a", "1"), resource("b", "1")], &[]), types).is_some());
        assert!(held.take(&answer(vec![resource("a", "2")], &["b"]), types).is_some());
        assert!(held.take(&answer(vec![], &[]), [v1::Endpoints::TYPE_URL]).is_none());
        let again = held.subscription(v1::Service::TYPE_URL, &["a".to_owned()]);
        assert_eq!(again.initial_resource_versions.into_iter().collect::<Vec<_>>(), [("a".to_owned(), "2".to_owned())]);
    }
}
