//! One GET of a document that others serve: a set of keys, a trust bundle. The URL may have been written by somebody who may not reach
//! what the control plane reaches, so: `https` alone, no redirect is followed, nothing of the answer is shown to anybody, addresses
//! of the machine's own link are refused, and the address that was checked is the one that is dialled.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use leno_certs::tls::edge::{self, Backend};
use leno_certs::{SpiffeId, Zeroizing, tls, verify};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::model::HttpsUrl;

/// From the look-up of the name to the last byte.
const WITHIN: Duration = Duration::from_secs(10);
/// For one address of several.
const CONNECT: Duration = Duration::from_secs(3);
/// Longest file with a bearer token.
const MOST_TOKEN_BYTES: u64 = 16 * 1024;

/// How documents of the Web are fetched.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// Roots beside the system's, DER.
    pub roots: Arc<Vec<Vec<u8>>>,
    /// A URL that is asked with the bearer token of a file, which is read anew each time.
    pub bearer: Option<(HttpsUrl, PathBuf)>,
}

/// Who is believed to be the server of a URL.
#[derive(Debug, Clone, Copy)]
pub enum Server<'a> {
    /// Who has a certificate for its host.
    Web(&'a Trust),
    /// Who has this identity, by these roots (DER), whatever the host is called.
    Spiffe { id: &'a SpiffeId, roots: &'a [Vec<u8>] },
}

/// The document, of `most` bytes at most.
///
/// # Errors
/// Why there is none.
pub async fn get(url: &HttpsUrl, server: Server<'_>, accept: &'static str, most: usize) -> Result<Bytes, String> {
    tokio::time::timeout(WITHIN, one(url, server, accept, most))
        .await
        .map_err(|_| format!("no answer within {} s", WITHIN.as_secs()))?
}

async fn one(url: &HttpsUrl, server: Server<'_>, accept: &'static str, most: usize) -> Result<Bytes, String> {
    let request = request(url, server, accept).await?;
    let stream = open(url, server).await?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|why| format!("HTTP: {why}"))?;
    // It ends with the sender.
    let connection = tokio::spawn(connection);
    let answer = async {
        let response = sender.send_request(request).await.map_err(|why| format!("HTTP: {why}"))?;
        match response.status() {
            StatusCode::OK => {}
            status if status.is_redirection() => return Err(format!("it answered {status}; no redirect is followed")),
            status => return Err(format!("it answered {status}")),
        }
        let body = Limited::new(response.into_body(), most).collect().await;
        Ok(body.map_err(|_| format!("the answer broke off, or has more than {most} bytes"))?.to_bytes())
    };
    let answer = answer.await;
    connection.abort();
    answer
}

async fn request(url: &HttpsUrl, server: Server<'_>, accept: &'static str) -> Result<Request<Empty<Bytes>>, String> {
    let mut request = Request::get(url.path())
        .header(header::HOST, url.authority())
        .header(header::ACCEPT, accept)
        .header(header::USER_AGENT, concat!("leno/", env!("CARGO_PKG_VERSION")));
    let bearer_for = match server {
        Server::Web(trust) => trust.bearer.as_ref().filter(|(of, _)| of == url),
        Server::Spiffe { .. } => None,
    };
    if let Some((_, file)) = bearer_for {
        let token = bearer(file).await?;
        let mut value = header::HeaderValue::try_from(format!("Bearer {}", token.trim()))
            .map_err(|_| "the token for it is no text".to_owned())?;
        value.set_sensitive(true);
        request = request.header(header::AUTHORIZATION, value);
    }
    request.body(Empty::new()).map_err(|why| why.to_string())
}

async fn bearer(file: &std::path::Path) -> Result<Zeroizing<String>, String> {
    let failed = |why: std::io::Error| format!("the token for it, {}, cannot be read: {why}", file.display());
    if tokio::fs::metadata(file).await.map_err(failed)?.len() > MOST_TOKEN_BYTES {
        return Err(format!("the token for it, {}, is too long", file.display()));
    }
    tokio::fs::read_to_string(file).await.map(Zeroizing::new).map_err(failed)
}

async fn open(url: &HttpsUrl, server: Server<'_>) -> Result<TlsStream<TcpStream>, String> {
    let tls = match server {
        Server::Web(trust) => web(url, trust)?,
        Server::Spiffe { roots, .. } => {
            let config = tls::rooted_client(roots, &[b"http/1.1"]).map_err(|why| why.to_string())?;
            TlsConnector::from(Arc::new(config))
        }
    };
    let name = ServerName::try_from(url.host().to_owned()).map_err(|_| "its host is no name".to_owned())?;
    let tcp = connect(url).await?;
    let stream = tls.connect(name, tcp).await.map_err(|why| format!("TLS: {why}"))?;
    if let Server::Spiffe { id, .. } = server {
        let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).ok_or("it shows no certificate")?;
        let proven = verify::peer_id(leaf).map_err(|why| why.to_string())?;
        if proven != *id {
            return Err(format!("it is {proven}"));
        }
    }
    Ok(stream)
}

fn web(url: &HttpsUrl, trust: &Trust) -> Result<TlsConnector, String> {
    let roots: Vec<Vec<u8>> = leno_runtime::system_roots().iter().chain(trust.roots.iter()).cloned().collect();
    let backend = Backend { hostname: url.host(), roots: &roots, names: &[], client: None };
    let config = edge::backend_client(&backend, &[b"http/1.1"])
        .map_err(|why| format!("{why} (this machine may have no root certificates; --jwks-ca gives some)"))?;
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn connect(url: &HttpsUrl) -> Result<TcpStream, String> {
    let found = tokio::net::lookup_host((url.host(), url.port())).await.map_err(|why| why.to_string())?;
    let mut failed = "its name has no address".to_owned();
    for address in found.take(8) {
        if !may_be_asked(address) {
            failed = "its address is one of the machine's own link, which may not be asked".to_owned();
            continue;
        }
        match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(why)) => failed = why.to_string(),
            Err(_) => failed = "it does not accept connections in time".to_owned(),
        }
    }
    Err(failed)
}

/// Not so are link-local addresses, where clouds keep the credentials of machines, and what is no single machine.
fn may_be_asked(address: SocketAddr) -> bool {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => !ip.is_link_local() && !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast(),
        IpAddr::V6(ip) => !ip.is_unicast_link_local() && !ip.is_unspecified() && !ip.is_multicast(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_link_are_not_asked() {
        for no in [
            "169.254.169.254:443",
            "[::ffff:169.254.169.254]:443",
            "[fe80::1]:443",
            "0.0.0.0:1",
            "[::]:1",
            "224.0.0.1:1",
        ] {
            assert!(!may_be_asked(no.parse().unwrap()), "{no}");
        }
        for yes in ["10.0.0.1:443", "127.0.0.1:6443", "[fd00::1]:443", "93.184.216.34:443"] {
            assert!(may_be_asked(yes.parse().unwrap()), "{yes}");
        }
    }
}
