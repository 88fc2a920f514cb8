//! The Reports service: what sidecars tell of the traffic that they see.

use std::sync::Arc;

use leno_proto::v1::reports_server::Reports;
use leno_proto::v1::{EdgeReport, ReportTaken};
use time::OffsetDateTime;
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use super::{Parts, identity};
use crate::ca::{Refusal, Refusals};
use crate::model::{Name, Revocations};
use crate::observed::Observed;
use crate::registry::Live;

pub(super) struct ReportsService {
    observed: Observed,
    live: watch::Receiver<Arc<Live>>,
    revocations: watch::Receiver<Arc<Revocations>>,
    refusals: Refusals,
}

impl ReportsService {
    pub(super) fn new(parts: &Parts) -> Self {
        let (observed, refusals) = (parts.observed.clone(), parts.refusals.clone());
        let revocations = parts.revocations.clone();
        Self { observed, live: parts.registry.subscribe(), revocations, refusals }
    }
}

#[tonic::async_trait]
impl Reports for ReportsService {
    /// A workload speaks for itself alone: the one of that name has to have the caller's identity.
    async fn report(&self, request: Request<EdgeReport>) -> Result<Response<ReportTaken>, Status> {
        let peer = identity::peer(&request)?;
        let Some(certificate) = peer.certificate else {
            self.refusals.record(&Refusal::NoCertificate, peer.address);
            return Err(Refusal::NoCertificate.to_status());
        };
        if let Err(refusal) = certificate.stands(&self.revocations.borrow()) {
            self.refusals.record(&refusal, peer.address);
            return Err(refusal.to_status());
        }
        let report = request.into_inner();
        let name = Name::new(certificate.id.namespace(), &report.workload);
        let workload = self.live.borrow().get(&name).cloned();
        let own = workload.filter(|workload| workload.identity.as_deref() == Some(certificate.id.as_str()));
        let workload = own.ok_or_else(|| Status::failed_precondition("register the workload first"))?;
        self.observed.take(&workload, report, OffsetDateTime::now_utc()).map_err(Status::invalid_argument)?;
        Ok(Response::new(ReportTaken {}))
    }
}
