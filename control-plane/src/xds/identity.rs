//! The Identity service: join with a token, renew with a certificate.

use std::sync::Arc;

use leno_proto::v1::identity_server::Identity;
use leno_proto::v1::{JoinRequest, RenewRequest, SignedIdentity};
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::connection::Peer;
use crate::ca::{CertificateAuthority, JoinLimit, Refusal, Refusals, Signed};

/// Joins that wait for the disk at a time.
const MOST_JOINING: usize = 32;

pub(super) struct IdentityService {
    authority: CertificateAuthority,
    refusals: Refusals,
    limit: JoinLimit,
    joining: Arc<Semaphore>,
}

impl IdentityService {
    pub(super) fn new(authority: CertificateAuthority, refusals: Refusals) -> Self {
        Self { authority, refusals, limit: JoinLimit::default(), joining: Arc::new(Semaphore::new(MOST_JOINING)) }
    }

    async fn try_join(&self, peer: &Peer, request: JoinRequest) -> Result<Signed, Refusal> {
        if !self.limit.admit(peer.address.ip(), Instant::now()) {
            return Err(Refusal::TooMany);
        }
        let _turn = self.joining.acquire().await;
        let authority = self.authority.clone();
        // Redeeming a token is a write to the disk.
        let join = move || authority.join(&request.token, &request.csr, OffsetDateTime::now_utc());
        tokio::task::spawn_blocking(join).await.map_err(|why| Refusal::Internal(why.to_string()))?
    }

    fn try_renew(&self, peer: &Peer, request: &RenewRequest) -> Result<Signed, Refusal> {
        let certificate = peer.certificate.as_ref().ok_or(Refusal::NoCertificate)?;
        self.authority.renew(certificate, &request.csr, OffsetDateTime::now_utc())
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
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<SignedIdentity>, Status> {
        let peer = peer(&request)?;
        let signed = self.try_join(&peer, request.into_inner()).await;
        self.answer(&peer, "join", signed)
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<SignedIdentity>, Status> {
        let peer = peer(&request)?;
        let signed = self.try_renew(&peer, request.get_ref());
        self.answer(&peer, "renew", signed)
    }
}
