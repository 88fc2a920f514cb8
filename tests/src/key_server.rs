//! An issuer's web server: serves a key set over HTTPS, with a certificate of its own authority.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::PrivatePkcs8KeyDer;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// What the next requests are answered.
#[derive(Debug, Clone)]
pub enum Answers {
    /// A key set.
    Set(String),
    /// A redirect to another place.
    Redirect(String),
    /// A failure.
    Failure,
}

#[derive(Debug)]
struct Said {
    answers: Answers,
    requests: Vec<Option<String>>,
}

/// The server; it ends when it is dropped.
pub struct KeyServer {
    addr: SocketAddr,
    authority: String,
    said: Arc<Mutex<Said>>,
    task: JoinHandle<()>,
}

impl KeyServer {
    /// One that serves this set.
    pub async fn start(set: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let said = Arc::new(Mutex::new(Said { answers: Answers::Set(set.to_owned()), requests: Vec::new() }));
        let (authority, tls) = certificate();
        let task = tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(tls)), said.clone()));
        Self { addr, authority, said, task }
    }

    /// Where the set is.
    pub fn url(&self) -> String {
        format!("https://{}/jwks.json", self.addr)
    }

    /// Writes the certificate of its authority (PEM) to a file of `dir`, and gives its path.
    pub fn authority_in(&self, dir: &Path) -> String {
        let path = dir.join("jwks-ca.crt");
        std::fs::write(&path, &self.authority).expect("a file");
        path.to_str().expect("a path in UTF-8").to_owned()
    }

    /// Answers otherwise from now on.
    pub fn answer(&self, answers: Answers) {
        self.said.lock().expect("no panic").answers = answers;
    }

    /// The field Authorization of each request so far.
    pub fn requests(&self) -> Vec<Option<String>> {
        self.said.lock().expect("no panic").requests.clone()
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn certificate() -> (String, ServerConfig) {
    let root_key = KeyPair::generate().expect("a key");
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = root.self_signed(&root_key).expect("a root").pem();
    let key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).expect("names");
    let leaf = leaf.signed_by(&key, &Issuer::new(root, root_key)).expect("a leaf");
    let tls = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
        .expect("a certificate");
    (authority, tls)
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, said: Arc<Mutex<Said>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, said) = (tls.clone(), said.clone());
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(stream).await else { return };
            let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let shown = request.headers().get(header::AUTHORIZATION);
                let shown = shown.and_then(|value| value.to_str().ok()).map(str::to_owned);
                let mut said = said.lock().expect("no panic");
                said.requests.push(shown);
                let response = match &said.answers {
                    Answers::Set(set) => Response::new(Full::new(Bytes::from(set.clone()))),
                    Answers::Redirect(to) => {
                        let redirect = Response::builder().status(StatusCode::FOUND).header(header::LOCATION, to);
                        redirect.body(Full::default()).expect("a response")
                    }
                    Answers::Failure => {
                        let failure = Response::builder().status(StatusCode::SERVICE_UNAVAILABLE);
                        failure.body(Full::default()).expect("a response")
                    }
                };
                async move { Ok::<_, Infallible>(response) }
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
