//! TLS to a backend that has no sidecar: the configurations that were made, one for each policy and for what is spoken inside.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use leno_certs::tls::edge::{self, Backend};
use leno_runtime::system_roots;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::connect::Io;
use crate::error::Reason;
use crate::model::{BackendTls, Endpoint};
use crate::tls::ReadAhead;

/// Configurations that are kept; more make the memory start anew.
const MOST_KEPT: usize = 1024;

/// What is spoken inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Inside {
    Http1,
    Http2,
    Opaque,
}

impl Inside {
    fn alpn(self) -> &'static [&'static [u8]] {
        match self {
            Self::Http1 => &[b"http/1.1"],
            Self::Http2 => &[b"h2"],
            Self::Opaque => &[],
        }
    }
}

/// A worker's configurations.
#[derive(Debug, Default)]
pub(super) struct BackendConfigs(RefCell<HashMap<ConfigKey, Arc<ClientConfig>>>);

/// The digest of a policy, and what is spoken inside.
type ConfigKey = ([u8; 32], Inside);

impl BackendConfigs {
    /// How an endpoint is spoken to. Where its policy cannot be met nobody is dialled, since plaintext would be a lie.
    pub fn of(&self, to: &Endpoint, tls: &BackendTls, inside: Inside) -> Result<Arc<ClientConfig>, Reason> {
        self.config(tls, inside).map_err(|why| {
            tracing::warn!(endpoint = %to.address, workload = to.workload, %why, "the BackendTLSPolicy cannot be met");
            Reason::BackendTlsInvalid
        })
    }

    /// Shakes hands as the policy says.
    pub async fn handshake(
        to: &Endpoint,
        tls: &BackendTls,
        config: Arc<ClientConfig>,
        stream: TcpStream,
    ) -> Result<Io, Reason> {
        let name = ServerName::try_from(tls.hostname.clone()).map_err(|_| Reason::BackendTlsInvalid)?;
        let stream = TlsConnector::from(config).connect(name, ReadAhead::new(stream)).await.map_err(|error| {
            tracing::warn!(endpoint = %to.address, workload = to.workload, %error, "TLS handshake with the backend failed");
            if error.kind() == io::ErrorKind::InvalidData { Reason::BackendTlsFailed } else { Reason::ConnectFailed }
        })?;
        tracing::info!(endpoint = %to.address, workload = to.workload, server = tls.hostname, "connected upstream over TLS");
        Ok(Io::Tls(Box::new(stream)))
    }

    fn config(&self, tls: &BackendTls, inside: Inside) -> Result<Arc<ClientConfig>, String> {
        if let Some(reason) = &tls.invalid {
            return Err(reason.clone());
        }
        if let Some(made) = self.0.borrow().get(&(tls.digest, inside)) {
            return Ok(made.clone());
        }
        let mut roots = tls.roots.clone();
        if tls.system_roots {
            roots.extend_from_slice(system_roots());
        }
        let backend =
            Backend { hostname: &tls.hostname, roots: &roots, names: &tls.names, client: tls.client.as_deref() };
        let made = edge::backend_client(&backend, inside.alpn()).map(Arc::new).map_err(|why| why.to_string())?;
        let mut all = self.0.borrow_mut();
        if all.len() >= MOST_KEPT {
            all.clear();
        }
        all.insert((tls.digest, inside), made.clone());
        Ok(made)
    }
}
