//! What the rest of the process has of the client: its state, and a few words to say to it.

use std::sync::{Arc, Mutex};

use leno_proto::{GatewayPorts, WorkloadState};
use leno_runtime::failure::{Failure, exit};
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::transport::Channel;

use super::lock;
use super::registrant::Now;
use crate::settings::Settings;
use crate::xds::identity::unreachable;
use crate::xds::status::Status;
use crate::xds::subscriber::Subscriber;

/// What the rest of the process has of the client.
#[derive(Clone)]
pub struct Handle {
    pub(super) subscriber: Arc<Mutex<Subscriber>>,
    pub(super) now: watch::Sender<Now>,
    pub(super) status: watch::Receiver<Status>,
    pub(super) channel: watch::Receiver<Option<Channel>>,
    /// A snapshot was on disk, and is in force.
    pub restored: bool,
}

impl Handle {
    /// The workload gets no new requests from now on; told to the control plane at once. There is no way back.
    pub fn draining(&self) {
        self.now.send_modify(|now| now.state = WorkloadState::Draining);
    }

    /// Whether the app passes its health check.
    pub fn healthy(&self, healthy: bool) {
        let state = if healthy { WorkloadState::Ready } else { WorkloadState::Unhealthy };
        self.now.send_if_modified(|now| {
            let change = now.state != WorkloadState::Draining && now.state != state;
            if change {
                now.state = state;
            }
            change
        });
    }

    /// What became of the ports of the Gateway that is served; told to the control plane at once.
    pub fn gateway_ports(&self, ports: GatewayPorts) {
        self.now.send_if_modified(|now| {
            let ports = Some(ports);
            let change = now.gateway_ports != ports;
            now.gateway_ports = ports;
            change
        });
    }

    /// How the stream is doing.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Waits for the first answer of a first start.
    ///
    /// # Errors
    /// Until the deadline nobody answered, or the control plane refuses this identity.
    pub async fn first_answer(&self, settings: &Settings, deadline: Instant) -> Result<(), Failure> {
        let mut status = self.status.clone();
        let came = status.wait_for(|status| status.answered || status.refused.is_some());
        let seen = match tokio::time::timeout_at(deadline, came).await {
            Ok(Ok(seen)) => seen.clone(),
            Ok(Err(_)) | Err(_) => {
                let reason = self.status.borrow().last_error.clone();
                return Err(unreachable(settings, reason.as_deref().unwrap_or("no answer")));
            }
        };
        match seen.refused {
            Some(reason) if !seen.answered => Err(refused(settings, &reason)),
            _ => Ok(()),
        }
    }

    /// The connection of the stream, while there is one.
    pub fn channel(&self) -> watch::Receiver<Option<Channel>> {
        self.channel.clone()
    }

    /// Subscriptions and resources, for the admin port.
    pub fn dump(&self) -> serde_json::Value {
        lock(&self.subscriber).dump()
    }
}

fn refused(settings: &Settings, reason: &str) -> Failure {
    Failure::new(
        exit::DENIED,
        format!("the control plane at {} does not serve this sidecar: {reason}", settings.control_plane),
        "if it was set up anew, delete the state folder's identity and join with a new token",
    )
}
