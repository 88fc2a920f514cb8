//! The xDS port: sidecars get their identity here, register, and hold the stream of their configuration.

mod accept;
mod classify;
mod connection;
mod convert;
mod identity;
mod metrics;
mod reports;
mod service;
mod session;
mod sessions;
mod subscriptions;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use leno_proto::discovery::aggregated_discovery_service_server::AggregatedDiscoveryServiceServer;
use leno_proto::v1::identity_server::IdentityServer;
use leno_proto::v1::reports_server::ReportsServer;
use leno_runtime::drain::DrainWatch;
use leno_runtime::metrics::Registry as Metrics;
use tokio::sync::watch;

pub use sessions::{Ack, Nack, Nacked, Sessions, SidecarStatus, WaitOutcome};

use crate::ca::{CertificateAuthority, JoinSecrets, Refusals, ServerIdentity, ServiceAccounts};
use crate::discovery::World;
use crate::model::Revocations;
use crate::observed::Observed;
use crate::questions::Questions;
use crate::registry::Registry;

/// Largest message that is taken from a sidecar, in bytes.
const MOST_REQUEST_BYTES: usize = 4 * 1024 * 1024;
/// Largest report, in bytes.
const MOST_REPORT_BYTES: usize = 1024 * 1024;
/// Largest message that is sent, in bytes: one resource may be that large; more than one goes in smaller messages.
const MOST_RESPONSE_BYTES: usize = 64 * 1024 * 1024;
/// Streams of one connection: the stream of the session and some calls beside it.
const MOST_STREAMS: u32 = 16;
/// A peer that is gone without a word is found after these two together.
const PING_EVERY: Duration = Duration::from_secs(15);
const PING_ANSWER: Duration = Duration::from_secs(10);

/// What the xDS port works with.
#[derive(Clone)]
pub struct Parts {
    pub authority: CertificateAuthority,
    /// None: nobody can join by a secret.
    pub secrets: Option<Arc<JoinSecrets>>,
    /// None: nobody can join by a service-account token.
    pub accounts: Option<Arc<ServiceAccounts>>,
    pub tls: Arc<ServerIdentity>,
    pub registry: Registry,
    pub worlds: watch::Receiver<Arc<World>>,
    pub sessions: Sessions,
    pub refusals: Refusals,
    /// Who calls whom.
    pub observed: Observed,
    /// What sidecars are asked.
    pub questions: Questions,
    pub revocations: watch::Receiver<Arc<Revocations>>,
    pub metrics: Metrics,
}

/// Serves until the control plane drains and every session has ended.
///
/// # Errors
/// The listener cannot be used at all. No peer and no failed accept ends the serving.
pub async fn serve(listener: TcpListener, parts: Parts, drain: DrainWatch) -> Result<(), tonic::transport::Error> {
    let discovery = service::Discovery::new(&parts, drain.clone());
    let discovery = AggregatedDiscoveryServiceServer::new(discovery)
        .max_decoding_message_size(MOST_REQUEST_BYTES)
        .max_encoding_message_size(MOST_RESPONSE_BYTES);
    let identity = identity::IdentityService::new(&parts);
    let identity = IdentityServer::new(identity).max_decoding_message_size(64 * 1024);
    let reports = ReportsServer::new(reports::ReportsService::new(&parts, drain.clone()));
    let reports = reports.max_decoding_message_size(MOST_REPORT_BYTES);
    let incoming = accept::incoming(listener, parts.tls, parts.refusals, drain.clone());
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_ANSWER))
        .max_concurrent_streams(MOST_STREAMS)
        .http2_max_header_list_size(16 * 1024)
        .add_service(discovery)
        .add_service(identity)
        .add_service(reports)
        .serve_with_incoming_shutdown(incoming, async move { drain.signaled().await })
        .await
}

#[cfg(test)]
mod tests;
