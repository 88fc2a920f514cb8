//! The Reports service: what sidecars tell of the traffic that they see, and what they are asked about it.

use std::sync::Arc;
use std::time::Duration;

use leno_proto::v1::reports_server::Reports;
use leno_proto::v1::{Answer, EdgeReport, Question, ReportTaken};
use leno_runtime::drain::DrainWatch;
use time::OffsetDateTime;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Parts, identity};
use crate::ca::{PeerCertificate, Refusal, Refusals};
use crate::model::{Name, Revocations, Workload};
use crate::observed::Observed;
use crate::questions::Questions;
use crate::registry::Live;

/// How soon a call has to say whose it is.
const HELLO_IN: Duration = Duration::from_secs(10);

pub(super) struct ReportsService {
    observed: Observed,
    live: watch::Receiver<Arc<Live>>,
    revocations: watch::Receiver<Arc<Revocations>>,
    refusals: Refusals,
    questions: Questions,
    drain: DrainWatch,
}

impl ReportsService {
    pub(super) fn new(parts: &Parts, drain: DrainWatch) -> Self {
        let (observed, refusals) = (parts.observed.clone(), parts.refusals.clone());
        let (revocations, questions) = (parts.revocations.clone(), parts.questions.clone());
        Self { observed, live: parts.registry.subscribe(), revocations, refusals, questions, drain }
    }

    /// Who calls, by a certificate that stands.
    fn caller<T>(&self, request: &Request<T>) -> Result<PeerCertificate, Status> {
        let peer = identity::peer(request)?;
        let Some(certificate) = peer.certificate else {
            self.refusals.record(&Refusal::NoCertificate, peer.address);
            return Err(Refusal::NoCertificate.to_status());
        };
        if let Err(refusal) = certificate.stands(&self.revocations.borrow()) {
            self.refusals.record(&refusal, peer.address);
            return Err(refusal.to_status());
        }
        Ok(certificate)
    }

    /// A workload speaks for itself alone: the one of that name has to have the caller's identity.
    fn own(&self, certificate: &PeerCertificate, workload: &str) -> Result<Arc<Workload>, Status> {
        let name = Name::new(certificate.id.namespace(), workload);
        let workload = self.live.borrow().get(&name).cloned();
        let own = workload.filter(|workload| workload.identity.as_deref() == Some(certificate.id.as_str()));
        own.ok_or_else(|| Status::failed_precondition("register the workload first"))
    }
}

/// Comes back when the caller's certificate stands no more.
async fn revoked(certificate: &PeerCertificate, mut revocations: watch::Receiver<Arc<Revocations>>) {
    let _ = revocations.wait_for(|revocations| certificate.stands(revocations).is_err()).await;
}

#[tonic::async_trait]
impl Reports for ReportsService {
    async fn report(&self, request: Request<EdgeReport>) -> Result<Response<ReportTaken>, Status> {
        let certificate = self.caller(&request)?;
        let report = request.into_inner();
        let workload = self.own(&certificate, &report.workload)?;
        self.observed.take(&workload, report, OffsetDateTime::now_utc()).map_err(Status::invalid_argument)?;
        Ok(Response::new(ReportTaken {}))
    }

    type AskStream = ReceiverStream<Result<Question, Status>>;

    /// The first message says whose call it is; from then on questions go one way and answers the other, until either side ends it, the
    /// control plane drains, or the sidecar is revoked.
    async fn ask(&self, request: Request<Streaming<Answer>>) -> Result<Response<Self::AskStream>, Status> {
        let certificate = self.caller(&request)?;
        let mut answers = request.into_inner();
        let hello = tokio::time::timeout(HELLO_IN, answers.message()).await;
        let hello = hello.map_err(|_| Status::deadline_exceeded("nothing was said"))??;
        let hello = hello.ok_or_else(|| Status::invalid_argument("the first message says whose sidecar it is"))?;
        let workload = self.own(&certificate, &hello.workload)?;
        let mut call = self.questions.call(workload.name.clone());
        let (sender, questions) = mpsc::channel(1);
        let (drain, revocations) = (self.drain.clone(), self.revocations.clone());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    question = call.questions.recv() => {
                        let Some(question) = question else { return };
                        if sender.send(Ok(question)).await.is_err() {
                            return;
                        }
                    }
                    answer = answers.message() => match answer {
                        Ok(Some(answer)) => call.answered(answer.question, answer.requests, answer.missed),
                        _ => return,
                    },
                    () = sender.closed() => return,
                    () = drain.signaled() => return,
                    () = revoked(&certificate, revocations.clone()) => return,
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(questions)))
    }
}
