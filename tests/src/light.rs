//! A light client of the control plane: it joins, renews and speaks the real stream, but carries no traffic.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use hyper_util::rt::TokioIo;
use leno_certs::{Identity, Key, SpiffeId, TrustBundle, csr, tls};
use leno_proto::Registration;
use leno_proto::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use leno_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use leno_proto::v1::identity_client::IdentityClient;
use leno_proto::v1::{JoinRequest, RenewRequest, SignedIdentity};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use tower::service_fn;

/// Requests that a client may have queued on its stream.
const QUEUE: usize = 64;

/// The application protocol of gRPC.
const H2: &[&[u8]] = &[b"h2"];

/// A gRPC channel to `addr` over TLS with `config`.
pub async fn channel(addr: SocketAddr, config: ClientConfig) -> Result<Channel> {
    let tls = TlsConnector::from(Arc::new(config));
    let connector = service_fn(move |_| {
        let tls = tls.clone();
        async move {
            let stream = TcpStream::connect(addr).await?;
            let stream = tls.connect(ServerName::from(addr.ip()), stream).await?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    let endpoint = Endpoint::from_shared(format!("http://{addr}"))?;
    endpoint.connect_with_connector(connector).await.context("a TLS connection to the control plane")
}

/// The parts of a join token, `leno1.ID.SECRET.HASH`.
#[derive(Debug, Clone)]
pub struct Token {
    /// Its public name.
    pub id: String,
    /// What only its holder knows.
    pub secret: String,
    /// SHA-256 of the root certificate.
    pub root_hash: [u8; 32],
}

impl Token {
    /// Takes a token apart.
    pub fn parse(text: &str) -> Result<Self> {
        let [version, id, secret, hash] = text.split('.').collect::<Vec<_>>()[..] else {
            bail!("a token has four parts");
        };
        anyhow::ensure!(version == "leno1", "unknown version {version}");
        let root_hash = hex::decode(hash)?.try_into().ok().context("the hash has 32 bytes")?;
        Ok(Self { id: id.to_owned(), secret: secret.to_owned(), root_hash })
    }

    /// The same token with another secret of the right form.
    pub fn forged(&self) -> String {
        let secret: [u8; 32] = std::array::from_fn(|_| fastrand::u8(..));
        let secret = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(secret);
        format!("leno1.{}.{secret}.{}", self.id, hex::encode(self.root_hash))
    }
}

/// Asks for a certificate with `token` (sent as it is) and a CSR in DER.
pub async fn join_raw(
    xds: SocketAddr,
    root_hash: [u8; 32],
    token: &str,
    csr: Vec<u8>,
) -> Result<SignedIdentity, Status> {
    let channel = match tls::pinned_client(root_hash, H2) {
        Ok(config) => channel(xds, config).await,
        Err(error) => Err(error.into()),
    };
    let channel = channel.map_err(|error| Status::unavailable(format!("{error:#}")))?;
    let request = JoinRequest { token: token.to_owned(), csr, ..JoinRequest::default() };
    Ok(IdentityClient::new(channel).join(request).await?.into_inner())
}

/// Asks for a certificate with the token of a service account and a CSR in DER.
pub async fn join_by_service_account(
    xds: SocketAddr,
    root_hash: [u8; 32],
    token: &str,
    csr: Vec<u8>,
) -> Result<SignedIdentity, Status> {
    let channel = match tls::pinned_client(root_hash, H2) {
        Ok(config) => channel(xds, config).await,
        Err(error) => Err(error.into()),
    };
    let channel = channel.map_err(|error| Status::unavailable(format!("{error:#}")))?;
    let request = JoinRequest { csr, service_account_token: token.to_owned(), ..JoinRequest::default() };
    Ok(IdentityClient::new(channel).join(request).await?.into_inner())
}

/// Joins as `service_account` of namespace `default` with `token`.
pub async fn join(xds: SocketAddr, trust_domain: &str, service_account: &str, token: &str) -> Result<Light> {
    let id = SpiffeId::new(trust_domain, "default", service_account)?;
    let key = Key::generate()?;
    let csr = csr::create(&key, &id)?;
    let signed = join_raw(xds, Token::parse(token)?.root_hash, token, csr).await?;
    let bundle = TrustBundle::new(signed.trust_domain, signed.roots);
    Ok(Light { xds, identity: Identity::new(signed.chain, key)?, bundle })
}

/// A joined client.
pub struct Light {
    xds: SocketAddr,
    /// Its certificate.
    pub identity: Identity,
    /// The roots it trusts.
    pub bundle: TrustBundle,
}

impl Light {
    /// A client with another certificate than the control plane gave.
    pub fn with(xds: SocketAddr, identity: Identity, bundle: TrustBundle) -> Self {
        Self { xds, identity, bundle }
    }

    /// A gRPC channel with its certificate.
    pub async fn channel(&self) -> Result<Channel> {
        channel(self.xds, tls::mesh_client(&self.identity, &self.bundle, H2)?).await
    }

    /// Asks for a new certificate with `csr` in DER.
    pub async fn renew_raw(&self, csr: Vec<u8>) -> Result<SignedIdentity, Status> {
        let channel = self.channel().await.map_err(|error| Status::unavailable(format!("{error:#}")))?;
        Ok(IdentityClient::new(channel).renew(RenewRequest { csr }).await?.into_inner())
    }

    /// Opens a stream and registers.
    pub async fn stream(&self, registration: &Registration) -> Result<Stream, Status> {
        let channel = self.channel().await.map_err(|error| Status::unavailable(format!("{error:#}")))?;
        let (requests, queue) = mpsc::channel(QUEUE);
        let first = DeltaDiscoveryRequest {
            node: Some(registration.to_node()),
            type_url: leno_proto::resource::REGISTRATION_URL.to_owned(),
            ..Default::default()
        };
        requests.try_send(first).expect("the queue is empty");
        let mut client = AggregatedDiscoveryServiceClient::new(channel);
        let answers = client.delta_aggregated_resources(Request::new(ReceiverStream::new(queue))).await?.into_inner();
        Ok(Stream { requests, answers })
    }
}

/// One delta stream.
pub struct Stream {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    answers: Streaming<DeltaDiscoveryResponse>,
}

impl Stream {
    /// Subscribes to `names` of a type.
    pub async fn subscribe(&self, type_url: &str, names: &[&str]) -> Result<()> {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let request = DeltaDiscoveryRequest {
            type_url: type_url.to_owned(),
            resource_names_subscribe: names,
            ..Default::default()
        };
        self.requests.send(request).await.context("the stream has ended")
    }

    /// The next answer, not yet acknowledged.
    pub async fn next(&mut self) -> Result<DeltaDiscoveryResponse, Status> {
        self.answers.message().await?.ok_or_else(|| Status::cancelled("the stream has ended"))
    }

    /// Acknowledges an answer.
    pub async fn ack(&self, answer: &DeltaDiscoveryResponse) -> Result<()> {
        self.answer(answer, None).await
    }

    /// Refuses an answer with `reason`.
    pub async fn nack(&self, answer: &DeltaDiscoveryResponse, reason: &str) -> Result<()> {
        let status = leno_proto::discovery::Status { code: 3, message: reason.to_owned(), ..Default::default() };
        self.answer(answer, Some(status)).await
    }

    async fn answer(
        &self,
        answer: &DeltaDiscoveryResponse,
        error_detail: Option<leno_proto::discovery::Status>,
    ) -> Result<()> {
        let request = DeltaDiscoveryRequest {
            type_url: answer.type_url.clone(),
            response_nonce: answer.nonce.clone(),
            error_detail,
            ..Default::default()
        };
        self.requests.send(request).await.context("the stream has ended")
    }
}
