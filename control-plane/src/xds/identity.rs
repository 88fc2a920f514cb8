//! The Identity service: join with a token or a secret, renew with a certificate.

use std::sync::Arc;

use leno_proto::v1::identity_server::Identity;
use leno_proto::v1::{JoinRequest, ProveRequest, RenewRequest, RootProof, SignedIdentity};
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::Parts;
use super::connection::Peer;
use crate::ca::{CertificateAuthority, JoinLimit, JoinSecrets, Refusal, Refusals, ServiceAccounts, Signed};

/// Joins that wait for the disk at a time.
const MOST_JOINING: usize = 32;

pub(super) struct IdentityService {
    authority: CertificateAuthority,
    secrets: Option<Arc<JoinSecrets>>,
    accounts: Option<Arc<ServiceAccounts>>,
    refusals: Refusals,
    limit: JoinLimit,
    joining: Arc<Semaphore>,
}

impl IdentityService {
    pub(super) fn new(parts: &Parts) -> Self {
        Self {
            authority: parts.authority.clone(),
            secrets: parts.secrets.clone(),
            accounts: parts.accounts.clone(),
            refusals: parts.refusals.clone(),
            limit: JoinLimit::default(),
            joining: Arc::new(Semaphore::new(MOST_JOINING)),
        }
    }

    /// Runs what touches the disk, for as many callers at a time and as often for each as may.
    async fn with_turn<T: Send + 'static>(
        &self,
        peer: &Peer,
        work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        self.admit(peer)?;
        self.run(work).await
    }

    fn admit(&self, peer: &Peer) -> Result<(), Refusal> {
        if self.limit.admit(peer.address.ip(), Instant::now()) { Ok(()) } else { Err(Refusal::TooMany) }
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let _turn = self.joining.acquire().await;
        tokio::task::spawn_blocking(work).await.map_err(|why| Refusal::Internal(why.to_string()))?
    }

    async fn try_prove(&self, peer: &Peer, request: ProveRequest) -> Result<RootProof, Refusal> {
        let secrets = self.secrets.clone().ok_or(Refusal::SecretUnknown)?;
        let authority = self.authority.clone();
        let prove = move || authority.prove(&secrets, &request.secret_id, &request.nonce);
        let (root, mac) = self.with_turn(peer, prove).await?;
        Ok(RootProof { root_sha256: root.to_vec(), mac })
    }

    async fn try_join(&self, peer: &Peer, request: JoinRequest) -> Result<Signed, Refusal> {
        let (authority, secrets, now) = (self.authority.clone(), self.secrets.clone(), OffsetDateTime::now_utc());
        let JoinRequest { token, csr, secret, service_account_token } = request;
        if !service_account_token.is_empty() {
            if !token.is_empty() || secret.is_some() {
                return Err(Refusal::TokenMalformed);
            }
            return self.join_by_service_account(peer, &service_account_token, csr, now).await;
        }
        let address = peer.address.to_string();
        let join = move || match (secret, secrets) {
            (None, _) => authority.join(&token, &csr, now, &address),
            (Some(_), _) if !token.is_empty() => Err(Refusal::TokenMalformed),
            (Some(_), None) => Err(Refusal::SecretUnknown),
            (Some(proof), Some(secrets)) => {
                authority.join_by_secret(&secrets, &proof.secret_id, &proof.mac, &csr, now, &address)
            }
        };
        self.with_turn(peer, join).await
    }

    /// A token's signature is not verified before its address may try. It may have to wait for keys, so a turn at the disk comes after.
    async fn join_by_service_account(
        &self,
        peer: &Peer,
        token: &str,
        csr: Vec<u8>,
        now: OffsetDateTime,
    ) -> Result<Signed, Refusal> {
        let accounts = self.accounts.as_ref().ok_or(Refusal::JwtNotTaken)?;
        self.admit(peer)?;
        let proven = accounts.prove(token, now.unix_timestamp()).await?;
        let (authority, pod, address) = (self.authority.clone(), proven.pod.clone(), peer.address.to_string());
        let signed = self.run(move || authority.join_by_service_account(&proven, &csr, now, &address)).await?;
        tracing::info!(identity = %signed.id, pod = pod.as_deref().unwrap_or("none"), "a service account has joined");
        Ok(signed)
    }

    async fn try_renew(&self, peer: &Peer, request: RenewRequest) -> Result<Signed, Refusal> {
        let certificate = peer.certificate.clone().ok_or(Refusal::NoCertificate)?;
        let authority = self.authority.clone();
        // Somebody else may hold the key.
        self.run(move || authority.renew(&certificate, &request.csr, OffsetDateTime::now_utc())).await
    }

    fn answer(
        &self,
        peer: &Peer,
        how: &str,
        signed: Result<Signed, Refusal>,
    ) -> Result<Response<SignedIdentity>, Status> {
        match signed {
            Ok(signed) => {
                tracing::info!(identity = %signed.id, peer = %peer.address, expires = %signed.not_after, how, "leaf signed");
                Ok(Response::new(super::convert::signed_identity(signed, self.authority.trust_bundle())))
            }
            Err(refusal) => {
                self.refusals.record(&refusal, peer.address);
                Err(refusal.to_status())
            }
        }
    }
}

/// Who sent a request. Every connection of ours carries it.
pub(super) fn peer<T>(request: &Request<T>) -> Result<Peer, Status> {
    let peer = request.extensions().get::<Peer>().cloned();
    peer.ok_or_else(|| Status::internal("the connection is not known"))
}

#[tonic::async_trait]
impl Identity for IdentityService {
    async fn prove(&self, request: Request<ProveRequest>) -> Result<Response<RootProof>, Status> {
        let peer = peer(&request)?;
        self.try_prove(&peer, request.into_inner()).await.map(Response::new).map_err(|refusal| {
            self.refusals.record(&refusal, peer.address);
            refusal.to_status()
        })
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<SignedIdentity>, Status> {
        let peer = peer(&request)?;
        let how = match request.get_ref() {
            JoinRequest { secret: Some(_), .. } => "join_secret",
            JoinRequest { service_account_token, .. } if !service_account_token.is_empty() => "service_account",
            _ => "join",
        };
        let signed = self.try_join(&peer, request.into_inner()).await;
        self.answer(&peer, how, signed)
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<SignedIdentity>, Status> {
        let peer = peer(&request)?;
        let signed = self.try_renew(&peer, request.into_inner()).await;
        self.answer(&peer, "renew", signed)
    }
}
