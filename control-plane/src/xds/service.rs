//! The aggregated discovery service: who may open a stream, and the task behind it.

use std::sync::Arc;

use leno_proto::discovery::aggregated_discovery_service_server::AggregatedDiscoveryService;
use leno_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use leno_runtime::drain::DrainWatch;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument as _;

use super::metrics::StreamMetrics;
use super::session::Opening;
use super::{Parts, Sessions, identity};
use crate::ca::{Refusal, Refusals};
use crate::discovery::World;
use crate::model::Revocations;
use crate::registry::{Refused, Registry};

/// Messages between a session and its connection; past these the session waits and what is new piles up as names only.
const OUTBOX: usize = 2;

/// What sessions share.
#[derive(Clone)]
pub(super) struct Discovery {
    pub(super) registry: Registry,
    pub(super) worlds: watch::Receiver<Arc<World>>,
    pub(super) sessions: Sessions,
    pub(super) metrics: StreamMetrics,
    pub(super) drain: DrainWatch,
    pub(super) revocations: watch::Receiver<Arc<Revocations>>,
    refusals: Refusals,
}

impl Discovery {
    pub(super) fn new(parts: &Parts, drain: DrainWatch) -> Self {
        Self {
            registry: parts.registry.clone(),
            worlds: parts.worlds.clone(),
            sessions: parts.sessions.clone(),
            metrics: StreamMetrics::new(&parts.metrics),
            drain,
            revocations: parts.revocations.clone(),
            refusals: parts.refusals.clone(),
        }
    }

    /// A registration that is not taken, as its stream is told. One that names another identity counts as a refused one.
    pub(super) fn refused(&self, why: &Refused, who: impl std::fmt::Display) -> Status {
        match why {
            Refused::NotProven { said, proven } => {
                let refusal = Refusal::WrongIdentity { asked: said.clone(), proven: proven.clone() };
                self.refusals.record(&refusal, who);
                refusal.to_status()
            }
            Refused::Invalid(_) => Status::invalid_argument(why.to_string()),
            Refused::Taken { .. } => Status::already_exists(why.to_string()),
            Refused::Full(_) => Status::resource_exhausted(why.to_string()),
        }
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Discovery {
    type DeltaAggregatedResourcesStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let peer = identity::peer(&request)?;
        let Some(certificate) = peer.certificate.clone() else {
            self.refusals.record(&Refusal::NoCertificate, peer.address);
            return Err(Refusal::NoCertificate.to_status());
        };
        if let Err(refusal) = certificate.stands(&self.revocations.borrow()) {
            self.refusals.record(&refusal, peer.address);
            return Err(refusal.to_status());
        }
        let (responses, stream) = mpsc::channel(OUTBOX);
        let span = tracing::info_span!("session", identity = %certificate.id, peer = %peer.address);
        let opening = Opening {
            shared: self.clone(),
            certificate,
            closer: peer.closer,
            requests: request.into_inner(),
            responses,
        };
        tokio::spawn(opening.run().instrument(span));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}
