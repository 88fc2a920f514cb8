//! BackendTLSPolicy: backends without a sidecar that speak TLS themselves.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use leno_tests::{Mesh, wait};
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::support::*;

/// An HTTPS app. It tells the server name that it was called by, the version and whether a client certificate was shown; what is not TLS is closed.
async fn secure(pair: &Pair, clients: Option<&Ca>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from(ca.der.clone())).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key = PrivateKeyDer::try_from(pair.key.clone()).unwrap();
    let mut config = builder.with_single_cert(vec![CertificateDer::from(pair.chain.clone())], key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let tls = stream.get_ref().1;
                let shown = tls.peer_certificates().map_or(0, <[_]>::len);
                let name = tls.server_name().unwrap_or("none").to_owned();
                let service = service_fn(move |request: Request<Incoming>| {
                    let text = format!("{name} {:?} {shown}", request.version());
                    async move { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text)))) }
                });
                let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    addr
}

fn policy(service: &str, validation: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {{name: {service}, namespace: default}}\nspec:\n  \
         targetRefs: [{{group: \"\", kind: Service, name: {service}}}]\n  validation:\n{validation}---\n"
    )
}

const ROOTS: &str = "    caCertificateRefs: [{group: \"\", kind: ConfigMap, name: backends}]\n";

fn validation(hostname: &str) -> String {
    format!("    hostname: {hostname}\n{ROOTS}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_is_spoken_to_over_tls_verified_and_never_in_the_clear() {
    let (mesh, ca) = (Mesh::start().await, Ca::new());
    let own = ca.pair(&["abc.example.com"]);
    let app = secure(&own, None).await;
    let mut yaml = ca.config_map("backends") + &gateway(&["{name: http, port: 80, protocol: HTTP}"], "");
    let uri = "    subjectAltNames: [{type: Hostname, hostname: abc.example.com}]\n";
    let other = "    subjectAltNames: [{type: Hostname, hostname: other.example.com}]\n";
    let missing =
        "    hostname: abc.example.com\n    caCertificateRefs: [{group: \"\", kind: ConfigMap, name: nowhere}]\n";
    for (name, validation) in [
        ("good", validation("abc.example.com")),
        ("mismatch", validation("def.example.com")),
        ("named", validation("def.example.com") + uri),
        ("misnamed", validation("abc.example.com") + other),
        ("invalid", missing.to_owned()),
    ] {
        yaml += &outside(name, app);
        yaml += &policy(name, &validation);
        yaml += &route(name, "", &[], &path(&format!("/{name}")), name);
    }
    yaml += &outside("plain", app);
    yaml += &route("plain", "", &[], &path("/plain"), "plain");
    mesh.apply(&yaml).await;
    let edge = edge(&mesh, &[80]).await;
    let at = edge.gateway(80);
    assert_eq!(answers(at, "a", "/good", 200).await.text(), "abc.example.com HTTP/1.1 0");
    assert_eq!(answers(at, "a", "/named", 200).await.text(), "def.example.com HTTP/1.1 0");
    for (path, reason) in
        [("/mismatch", "backend_tls_failed"), ("/misnamed", "backend_tls_failed"), ("/invalid", "backend_tls_invalid")]
    {
        let reply = get(at, "a", path).await.unwrap();
        assert_eq!((reply.status, reply.reason()), (503, Some(reason)), "{path}");
    }
    assert!(get(at, "a", "/plain").await.unwrap().status >= 502, "without a policy it is plaintext");
    // HTTP/2 where the Service says so.
    let h2 =
        outside("good", app).replace("name: main, port: 80", "name: main, appProtocol: kubernetes.io/h2c, port: 80");
    mesh.apply(&h2).await;
    wait::eventually("HTTP/2 over TLS", wait::DEADLINE, || async {
        let reply = get(at, "a", "/good").await.ok()?;
        (reply.text() == "abc.example.com HTTP/2.0 0").then_some(())
    })
    .await;
    // An app's sidecar holds it, too.
    let frontend = mesh.sidecar("frontend", "frontend").await.start().await;
    let reply = frontend.get("http://named/").await.unwrap();
    assert_eq!((reply.status, reply.text().as_str()), (200, "def.example.com HTTP/1.1 0"));
    assert_eq!(frontend.get("http://invalid/").await.unwrap().reason(), Some("backend_tls_invalid"));
    // The policy goes, and with it TLS; it comes back, and so does TLS.
    mesh.leno(&["delete", "backendtlspolicy", "named"]).await;
    wait::eventually("plaintext again", wait::DEADLINE, || async {
        (get(at, "a", "/named").await.ok()?.status != 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateways_client_certificate_is_shown_to_its_backends() {
    let (mesh, ca) = (Mesh::start().await, Ca::new());
    let app = secure(&ca.pair(&["abc.example.com"]), Some(&ca)).await;
    let shown = "  tls: {backend: {clientCertificateRef: {name: own}}}\n";
    let http = ["{name: http, port: 80, protocol: HTTP}"];
    let yaml = ca.config_map("backends")
        + &ca.pair(&["client.example.com"]).secret("own")
        + &outside("web", app)
        + &policy("web", &validation("abc.example.com"))
        + &gateway(&http, shown)
        + &route("web", "", &[], "", "web");
    mesh.apply(&yaml).await;
    let edge = edge(&mesh, &[80]).await;
    assert_eq!(answers(edge.gateway(80), "a", "/", 200).await.text(), "abc.example.com HTTP/1.1 1");
    mesh.apply(&gateway(&http, "")).await;
    wait::eventually("nobody without a certificate", wait::DEADLINE, || async {
        (get(edge.gateway(80), "a", "/").await.ok()?.status >= 502).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_is_not_dialled_without_the_client_certificate_that_the_gateway_asks_for() {
    let (mesh, ca) = (Mesh::start().await, Ca::new());
    // Nobody ever accepts: a connection would wait in its queue.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    silent.set_nonblocking(true).unwrap();
    let shown = "  tls: {backend: {clientCertificateRef: {name: own}}}\n";
    let yaml = ca.config_map("backends")
        + &outside("web", silent.local_addr().unwrap())
        + &policy("web", &validation("abc.example.com"))
        + &gateway(&["{name: http, port: 80, protocol: HTTP}"], shown)
        + &route("web", "", &[], "", "web");
    mesh.apply(&yaml).await;
    let edge = edge(&mesh, &[80]).await;
    let reply = answers(edge.gateway(80), "a", "/", 503).await;
    assert_eq!(reply.reason(), Some("backend_tls_invalid"));
    let dialled = silent.accept().map(|(_, from)| from).map_err(|error| error.kind());
    assert_eq!(dialled, Err(std::io::ErrorKind::WouldBlock));
    let output = mesh.leno(&["get", "gateway", "edge", "-o", "json"]).await;
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("InvalidClientCertificateRef"), "{told}");
    // Once it is there the backend is dialled.
    mesh.apply(&ca.pair(&["client.example.com"]).secret("own")).await;
    let at = edge.gateway(80);
    let asking = tokio::spawn(async move { get(at, "a", "/").await });
    wait::eventually("it is dialled", wait::DEADLINE, || async {
        let _ = tokio::time::timeout(std::time::Duration::from_millis(50), get(at, "a", "/")).await;
        silent.accept().ok().map(|_| ())
    })
    .await;
    asking.abort();
}
