//! Gateways, certificates and clients for the tests of ingress.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine as _;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use leno_tests::{HttpApp, Mesh, ProxyConnection, Reply, Sidecar, client, wait};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

pub const PATIENCE: Duration = Duration::from_secs(20);

pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

/// The Gateway `edge`; `listeners` are lines of YAML, and `more` stands in its spec.
pub fn gateway(listeners: &[&str], more: &str) -> String {
    let listeners: String = listeners.iter().map(|listener| format!("  - {listener}\n")).collect();
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: edge, namespace: default}}\nspec:\n  \
         gatewayClassName: leno\n{more}  listeners:\n{listeners}---\n"
    )
}

/// A route of the Gateway `edge`, to port 80 of `to`; `section` may be empty, `more` stands in its rule.
pub fn route(name: &str, section: &str, hostnames: &[&str], more: &str, to: &str) -> String {
    let section = if section.is_empty() { String::new() } else { format!(", sectionName: {section}") };
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  \
         parentRefs: [{{name: edge{section}}}]\n  hostnames: {hostnames:?}\n  rules:\n  - backendRefs: [{{name: {to}, port: 80}}]\n{more}---\n"
    )
}

/// `matches` for a route of one path prefix.
pub fn path(prefix: &str) -> String {
    format!("    matches: [{{path: {{type: PathPrefix, value: {prefix}}}}}]\n")
}

/// A Service `name` on port 80 with one workload that has no sidecar.
pub fn outside(name: &str, app: SocketAddr) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  selector: {{app: {name}}}\n  \
         ports: [{{name: main, port: 80, targetPort: main}}]\n---\napiVersion: leno.dev/v1alpha1\nkind: Workload\n\
         metadata: {{name: {name}-1, namespace: default, labels: {{app: {name}}}}}\nspec: {{address: {}, ports: {{main: {}}}}}\n---\n",
        app.ip(),
        app.port()
    )
}

/// Apps without sidecars, each with a Service of its name.
pub async fn apps<const N: usize>(mesh: &Mesh, names: [&str; N]) -> [HttpApp; N] {
    let mut apps = Vec::new();
    for name in names {
        let app = HttpApp::start(name).await;
        mesh.apply(&outside(name, app.addr())).await;
        apps.push(app);
    }
    apps.try_into().ok().expect("as many as names")
}

/// The sidecar that serves `edge` on these ports.
pub async fn edge(mesh: &Mesh, ports: &[u16]) -> Sidecar {
    let places: Vec<String> = ports.iter().map(|port| format!("--gateway-listen={port}=127.0.0.1:0")).collect();
    let places: Vec<&str> = places.iter().map(String::as_str).collect();
    mesh.sidecar("edge", "edge").await.args(&["--gateway", "edge"]).args(&places).start().await
}

/// GET of `path` from `host` at `at`.
pub async fn get(at: SocketAddr, host: &str, path: &str) -> Result<Reply> {
    let request = Request::get(path).header("host", host).body(Full::new(Bytes::new()))?;
    client::send(at, request).await
}

/// Asks until the status is right.
pub async fn answers(at: SocketAddr, host: &str, path: &str, status: u16) -> Reply {
    wait::eventually(&format!("{status} for {host}{path}"), wait::DEADLINE, || async {
        get(at, host, path).await.ok().filter(|reply| reply.status == status)
    })
    .await
}

/// Asks each host and path once; all the wrong answers are told. An expectation is the app's name or a status.
pub async fn expect(at: SocketAddr, cases: &[(&str, &str, &str)]) {
    let mut wrong = Vec::new();
    for (host, path, expected) in cases {
        let reply = get(at, host, path).await.unwrap();
        let got = if reply.status == 200 { reply.text() } else { reply.status.to_string() };
        if got != *expected {
            wrong.push(format!("{host}{path}: {got} and not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// An authority of somebody's own.
pub struct Ca {
    pub der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate of it.
#[derive(Clone)]
pub struct Pair {
    pub chain: Vec<u8>,
    pub key: Vec<u8>,
}

impl Ca {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // Another name than its certificates have: to OpenSSL one that is issued by its own name is self-signed.
        params.distinguished_name.push(DnType::CommonName, "the authority of a test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { der, issuer: Issuer::new(params, key) }
    }

    pub fn pair(&self, names: &[&str]) -> Pair {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let signed = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        Pair { chain: signed.der().to_vec(), key: key.serialize_der() }
    }

    /// The ConfigMap `name` with its root.
    pub fn config_map(&self, name: &str) -> String {
        let text = pem("CERTIFICATE", &self.der).replace('\n', "\n    ");
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: default}}\ndata:\n  ca.crt: |\n    {text}\n---\n"
        )
    }
}

impl Pair {
    /// The Secret `name` with it.
    pub fn secret(&self, name: &str) -> String {
        let encode = |text: String| base64::engine::general_purpose::STANDARD.encode(text);
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: default}}\ntype: kubernetes.io/tls\n\
             data: {{tls.crt: {}, tls.key: {}}}\n---\n",
            encode(pem("CERTIFICATE", &self.chain)),
            encode(pem("PRIVATE KEY", &self.key)),
        )
    }
}

pub fn pem(tag: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {tag}-----\n{}\n-----END {tag}-----\n", lines.join("\n"))
}

/// How a client speaks TLS.
#[derive(Clone)]
pub struct Tls {
    pub config: ClientConfig,
}

impl Tls {
    /// It trusts this authority.
    pub fn new(ca: &Ca) -> Self {
        Self::with(ca, None)
    }

    /// It shows a certificate.
    pub fn with(ca: &Ca, own: Option<&Pair>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(ca.der.clone())).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let key = PrivateKeyDer::try_from(own.key.clone()).unwrap();
                builder.with_client_auth_cert(vec![CertificateDer::from(own.chain.clone())], key).unwrap()
            }
        };
        Self { config }
    }

    pub fn alpn(mut self, protocols: &[&str]) -> Self {
        self.config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }

    /// Connects and shakes hands.
    pub async fn connect(&self, at: SocketAddr, name: &str) -> Result<TlsStream<TcpStream>> {
        self.over(TcpStream::connect(at).await?, name).await
    }

    /// Shakes hands on a connection.
    pub async fn over(&self, stream: TcpStream, name: &str) -> Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(name.to_owned())?;
        let shaken = TlsConnector::from(Arc::new(self.config.clone())).connect(name, stream);
        Ok(tokio::time::timeout(PATIENCE, shaken).await.context("a handshake in time")??)
    }

    /// GET over HTTP/1.1, of a host that may be another than the server name.
    pub async fn get(&self, at: SocketAddr, name: &str, host: &str, path: &str) -> Result<Reply> {
        let request = Request::get(path).header("host", host).body(Full::new(Bytes::new()))?;
        ProxyConnection::over_io(self.connect(at, name).await?).await?.send(request).await
    }

    /// [`Self::get`] until the status is right.
    pub async fn answers(&self, at: SocketAddr, host: &str, path: &str, status: u16) -> Reply {
        wait::eventually(&format!("{status} for https://{host}{path}"), wait::DEADLINE, || async {
            self.get(at, host, host, path).await.ok().filter(|reply| reply.status == status)
        })
        .await
    }
}

/// GET over an HTTP/2 connection that is already there.
pub async fn get_http2(sender: &mut http2::SendRequest<Full<Bytes>>, uri: &str) -> Result<(u16, Bytes)> {
    let request = Request::get(uri).body(Full::new(Bytes::new()))?;
    let response = tokio::time::timeout(PATIENCE, sender.send_request(request)).await.context("in time")??;
    let status = response.status().as_u16();
    Ok((status, response.into_body().collect().await?.to_bytes()))
}

/// Speaks HTTP/2 on a connection.
pub async fn http2<I>(io: I) -> Result<http2::SendRequest<Full<Bytes>>>
where
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// A server of TLS that says its name to whoever shakes hands, and closes.
pub async fn tls_greeter(name: &'static str, pair: &Pair) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tls_greeter_on(listener, name, pair);
    addr
}

/// The same on a listener that is there.
pub fn tls_greeter_on(listener: TcpListener, name: &'static str, pair: &Pair) {
    let key = PrivateKeyDer::try_from(pair.key.clone()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(pair.chain.clone())], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let _ = stream.write_all(name.as_bytes()).await;
                let _ = stream.shutdown().await;
            });
        }
    });
}
