//! TLS as kubelet speaks it to an app: any certificate will do, since the check asks whether the app is well and not who it is.

use std::sync::Arc;

use leno_certs::tls::edge;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Reason;
use super::connect::Target;

/// Speaks TLS on a connection to `to`. A fresh configuration each time: checks are seconds apart, and no session is kept.
pub(super) async fn handshake(to: &Target, stream: TcpStream) -> Result<TlsStream<TcpStream>, Reason> {
    let failed = |why: String| format!("TLS with {to} failed: {why}");
    // Nothing secret is ever sent over it: a check sends what stands in the pod's specification.
    let config = edge::unproven_client().map_err(|why| failed(why.to_string()))?;
    let name = ServerName::try_from(to.host.clone()).map_err(|why| failed(why.to_string()))?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|why| failed(why.to_string()))
}
