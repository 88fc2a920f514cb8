//! Somebody who is not of the mesh and finds a mesh port.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::INTRUDER_PATH;

const PATIENCE: Duration = Duration::from_secs(5);

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The sidecar closed the connection without an answer; how it did that.
    Refused(String),
    /// Something was answered, or the connection was left open: it should not have been.
    Taken(String),
}

/// Sends a plaintext HTTP request to a mesh port.
pub async fn plaintext(mesh: SocketAddr) -> Outcome {
    let attempt = async {
        let stream = TcpStream::connect(mesh).await.map_err(|e| e.to_string())?;
        ask(stream).await
    };
    judge(timeout(PATIENCE, attempt).await.ok())
}

/// Sends the same request over TLS, without a certificate. It takes any server: an intruder does not care.
pub async fn without_certificate(mesh: SocketAddr) -> Outcome {
    let attempt = async {
        let tls = TlsConnector::from(Arc::new(config().map_err(|e| e.to_string())?));
        let stream = TcpStream::connect(mesh).await.map_err(|e| e.to_string())?;
        let stream = tls.connect(ServerName::from(mesh.ip()), stream).await.map_err(|e| e.to_string())?;
        ask(stream).await
    };
    judge(timeout(PATIENCE, attempt).await.ok())
}

/// Ok: what was answered, until the other end closed. Err: how the connection broke.
async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<Vec<u8>, String> {
    let request = format!("GET {INTRUDER_PATH} HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|e| e.to_string())?;
    stream.flush().await.map_err(|e| e.to_string())?;
    let mut answer = Vec::new();
    match stream.take(4096).read_to_end(&mut answer).await {
        Ok(_) => Ok(answer),
        // What came before the break counts.
        Err(_) if !answer.is_empty() => Ok(answer),
        Err(e) => Err(e.to_string()),
    }
}

/// A TLS alert (RFC 8446 6: record type 21) is a refusal, also to someone who spoke plaintext.
fn judge(answer: Option<Result<Vec<u8>, String>>) -> Outcome {
    match answer {
        None => Outcome::Taken(format!("left open for {} s", PATIENCE.as_secs())),
        Some(Err(how)) => Outcome::Refused(how),
        Some(Ok(bytes)) if bytes.is_empty() => Outcome::Refused("closed without an answer".to_owned()),
        Some(Ok(bytes)) if bytes[0] == 21 && bytes.len() <= 7 => Outcome::Refused("closed with a TLS alert".to_owned()),
        Some(Ok(bytes)) => Outcome::Taken(format!("{} bytes answered", bytes.len())),
    }
}

fn config() -> Result<ClientConfig, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Takes every certificate. Only the intruder uses it, who sends nothing that anyone may not see.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_silence_an_alert_or_a_break_is_a_refusal() {
        let refused = [Some(Ok(vec![])), Some(Err("reset".into())), Some(Ok(vec![21, 3, 3, 0, 2, 2, 80]))];
        assert!(refused.into_iter().all(|a| matches!(judge(a), Outcome::Refused(_))));
        let taken = [None, Some(Ok(b"HTTP/1.1 403 Forbidden".to_vec())), Some(Ok(vec![22, 3, 3]))];
        assert!(taken.into_iter().all(|a| matches!(judge(a), Outcome::Taken(_))));
    }
}
