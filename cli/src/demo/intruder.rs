//! Somebody who is not of the mesh and finds a mesh port.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use leno_certs::tls;
use rustls_pki_types::ServerName;
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
        let config = tls::unproven_client(&[b"h2", b"http/1.1"]).map_err(|e| e.to_string())?;
        let tls = TlsConnector::from(Arc::new(config));
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
