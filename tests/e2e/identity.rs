//! Who cannot prove who he is gets nothing: refused, logged with the reason, and counted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use leno_certs::{Authority, Identity, Key, SpiffeId, TrustBundle, csr, tls};
use leno_proto::Registration;
use leno_tests::light::{self, Light, Token};
use leno_tests::mesh::service;
use leno_tests::{HttpApp, Mesh, Sidecar, wait};
use rustls_pki_types::ServerName;
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tonic::{Code, Status};

const TRUST_DOMAIN: &str = "cluster.local";

fn id(account: &str) -> SpiffeId {
    SpiffeId::new(TRUST_DOMAIN, "default", account).unwrap()
}

async fn refusals(mesh: &Mesh, reason: &str) -> f64 {
    mesh.control_plane.metrics().await.sum("leno_identity_refusals_total", &[("reason", reason)])
}

/// Runs `attempt`, which must be refused for one of `reasons`: counted once more, and in the log.
async fn refused<T>(mesh: &Mesh, reasons: &[&str], attempt: impl Future<Output = Result<T, Status>>) -> Status {
    let count = async || {
        let mut sum = 0.0;
        for reason in reasons {
            sum += refusals(mesh, reason).await;
        }
        sum
    };
    let (before, log_before) = (count().await, mesh.control_plane.log().len());
    let status = attempt.await.err().unwrap_or_else(|| panic!("not refused, though {reasons:?}"));
    wait::eventually(&format!("{reasons:?} is counted"), wait::DEADLINE, async || {
        (count().await > before).then_some(())
    })
    .await;
    wait::until(&format!("{reasons:?} is logged"), wait::DEADLINE, || {
        let log = mesh.control_plane.log();
        reasons.iter().any(|reason| log[log_before..].contains(reason))
    })
    .await;
    status
}

/// Sends `token` with a CSR for `account`.
async fn join(mesh: &Mesh, token: &str, account: &str) -> Result<leno_proto::v1::SignedIdentity, Status> {
    let csr = csr::create(&Key::generate().unwrap(), &id(account)).unwrap();
    let root = Token::parse(&mesh.control_plane.api().token("default", "any", 60).await.unwrap()).unwrap().root_hash;
    light::join_raw(mesh.control_plane.xds(), root, token, csr).await
}

fn registration(account: &str) -> Registration {
    Registration {
        labels: [("app".to_owned(), account.to_owned())].into(),
        ..Registration::local(account, "default", account, 1)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_reused_forged_and_foreign_tokens_are_refused_logged_and_counted() {
    let mesh = Mesh::start().await;
    let api = mesh.control_plane.api();

    let good = api.token("default", "web", 60).await.unwrap();
    join(&mesh, &good, "web").await.expect("a good token");
    let status = refused(&mesh, &["token_used"], join(&mesh, &good, "web")).await;
    assert!(status.message().starts_with("token_used"), "{status:?}");

    let expired = api.token("default", "web", 1).await.unwrap();
    let end = tokio::time::Instant::now() + Duration::from_secs(2);
    wait::until("the token has expired", wait::DEADLINE, || tokio::time::Instant::now() > end).await;
    refused(&mesh, &["token_expired"], join(&mesh, &expired, "web")).await;

    let token = api.token("default", "web", 60).await.unwrap();
    refused(&mesh, &["token_unknown"], join(&mesh, &Token::parse(&token).unwrap().forged(), "web")).await;
    for junk in ["", "leno1", "leno1.a.b.c", "\u{0}", &"x".repeat(1000)] {
        refused(&mesh, &["token_malformed"], join(&mesh, junk, "web")).await;
    }

    // A token's name is no secret: who only knows that cannot use it up.
    join(&mesh, &token, "web").await.expect("a token that somebody tried to forge");

    let foreign = api.token("default", "web", 60).await.unwrap();
    let status = refused(&mesh, &["wrong_identity"], join(&mesh, &foreign, "store")).await;
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");

    for secret in [good, expired, token, foreign] {
        let secret = secret.split('.').nth(2).unwrap().to_owned();
        assert!(!mesh.control_plane.log().contains(&secret), "a token's secret is in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_for_one_of_many_who_use_it_at_once() {
    let mesh = Mesh::start().await;
    let token = mesh.control_plane.api().token("default", "web", 60).await.unwrap();
    let all = futures_util::future::join_all((0..8).map(|_| join(&mesh, &token, "web"))).await;
    assert_eq!(all.iter().filter(|joined| joined.is_ok()).count(), 1, "{all:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signing_request_for_another_identity_is_refused_at_renewal() {
    let mesh = Mesh::start().await;
    let xds = mesh.control_plane.xds();
    let token = mesh.control_plane.api().token("default", "web", 60).await.unwrap();
    let light = light::join(xds, TRUST_DOMAIN, "web", &token).await.unwrap();

    let own = csr::create(&Key::generate().unwrap(), &id("web")).unwrap();
    light.renew_raw(own.clone()).await.expect("its own identity");
    let other = csr::create(&Key::generate().unwrap(), &id("store")).unwrap();
    refused(&mesh, &["wrong_identity"], light.renew_raw(other)).await;
    let mut broken = own;
    let last = broken.len() - 1;
    broken[last] ^= 1; // The request's own signature.
    refused(&mesh, &["csr_invalid"], light.renew_raw(broken)).await;
    refused(&mesh, &["csr_invalid"], light.renew_raw(vec![0x30; 64])).await;
    // A workload cannot register as another account than its certificate's.
    refused(&mesh, &["wrong_identity"], first_answer(&light, &registration("store"))).await;
}

/// Opens a stream, registers, and waits for the first answer.
async fn first_answer(light: &Light, registration: &Registration) -> Result<(), Status> {
    let mut stream = light.stream(registration).await?;
    // Subscribing fails only when the stream has ended, and then the next answer says why.
    let _ = stream.subscribe("type.googleapis.com/leno.v1.TrustBundle", &[TRUST_DOMAIN]).await;
    stream.next().await.map(drop)
}

/// A certificate for `web` in `trust_domain`, of an authority that nobody here trusts.
fn stranger(trust_domain: &str) -> (Identity, TrustBundle) {
    let now = OffsetDateTime::now_utc();
    let authority =
        Authority::generate(trust_domain, now - Duration::from_secs(60), Duration::from_secs(3600)).unwrap();
    let id = SpiffeId::new(trust_domain, "default", "web").unwrap();
    let key = Key::generate().unwrap();
    let leaf = authority.issue(&key, &id, &[], now - Duration::from_secs(60), now + Duration::from_secs(600)).unwrap();
    let identity = Identity::new(vec![leaf], key).unwrap();
    (identity, TrustBundle::new(trust_domain, vec![authority.root_der().to_vec()]))
}

/// A client whose leaf has expired; the mesh's leaves must be short-lived.
async fn expired_client(mesh: &Mesh) -> Light {
    let token = mesh.control_plane.api().token("default", "late", 60).await.unwrap();
    let light = light::join(mesh.control_plane.xds(), TRUST_DOMAIN, "late", &token).await.unwrap();
    let end = light.identity.not_after + Duration::from_secs(1);
    wait::until("the leaf has expired", Duration::from_secs(60), || OffsetDateTime::now_utc() > end).await;
    light
}

#[tokio::test(flavor = "multi_thread")]
async fn strange_and_expired_certificates_are_refused_by_the_control_plane() {
    let mesh = Mesh::start_with(&["--leaf-ttl", "5s"]).await;
    let xds = mesh.control_plane.xds();
    let token = mesh.control_plane.api().token("default", "web", 60).await.unwrap();
    let real = light::join(xds, TRUST_DOMAIN, "web", &token).await.unwrap();
    first_answer(&real, &registration("web")).await.expect("a real certificate");

    // The strangers trust the real root, so that nothing but their own certificate is in the way.
    for trust_domain in [TRUST_DOMAIN, "other.domain"] {
        let (identity, _) = stranger(trust_domain);
        let light = Light::with(xds, identity, real.bundle.clone());
        let reasons = ["certificate_untrusted", "wrong_trust_domain"];
        refused(&mesh, &reasons, first_answer(&light, &registration("web"))).await;
        let csr = csr::create(&Key::generate().unwrap(), &id("web")).unwrap();
        refused(&mesh, &reasons, light.renew_raw(csr)).await;
    }
    let late = expired_client(&mesh).await;
    refused(&mesh, &["certificate_expired"], first_answer(&late, &registration("late"))).await;
    let csr = csr::create(&Key::generate().unwrap(), &id("late")).unwrap();
    refused(&mesh, &["certificate_expired"], late.renew_raw(csr)).await;
    refused(&mesh, &["no_certificate"], without_certificate(&mesh)).await;
}

/// Opens a stream with no client certificate at all.
async fn without_certificate(mesh: &Mesh) -> Result<(), Status> {
    use leno_proto::discovery::DeltaDiscoveryRequest;
    use leno_proto::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
    let token = mesh.control_plane.api().token("default", "web", 60).await.unwrap();
    let config = tls::pinned_client(Token::parse(&token).unwrap().root_hash, &[b"h2"]).unwrap();
    let channel = light::channel(mesh.control_plane.xds(), config).await.expect("TLS without a certificate is let in");
    let first = DeltaDiscoveryRequest { node: Some(registration("web").to_node()), ..Default::default() };
    let requests = tokio_stream::iter([first]);
    let mut answers =
        AggregatedDiscoveryServiceClient::new(channel).delta_aggregated_resources(requests).await?.into_inner();
    answers.message().await?.map(drop).ok_or_else(|| Status::cancelled("ended"))
}

/// What a peer with `config` gets from a mesh port for the first bytes of HTTP/2: with TLS 1.3 a client learns only by
/// reading that its certificate was refused.
async fn knock(mesh_port: SocketAddr, config: rustls::ClientConfig) -> std::io::Result<usize> {
    let stream = TcpStream::connect(mesh_port).await?;
    let mut stream = TlsConnector::from(Arc::new(config)).connect(ServerName::from(mesh_port.ip()), stream).await?;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await?;
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut [0; 64])).await?;
    match read? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        n => Ok(n),
    }
}

async fn handshake_failures(sidecar: &Sidecar) -> f64 {
    sidecar.metrics().await.sum("leno_tls_handshake_failures_total", &[])
}

/// The mesh port must not answer, must count it and say in its log why.
async fn mesh_port_refuses(sidecar: &Sidecar, what: &str, words: &[&str], config: rustls::ClientConfig) {
    let (before, log_before) = (handshake_failures(sidecar).await, sidecar.log().len());
    let answer = knock(sidecar.mesh(), config).await;
    assert!(answer.is_err(), "{what} got {answer:?} from the mesh port");
    wait::eventually(&format!("{what} is counted"), wait::DEADLINE, async || {
        (handshake_failures(sidecar).await > before).then_some(())
    })
    .await;
    wait::until(&format!("{what} is logged with {words:?}"), wait::DEADLINE, || {
        let log = sidecar.log();
        words.iter().any(|word| log[log_before..].contains(word))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strange_and_expired_certificates_are_refused_by_a_sidecars_mesh_port() {
    let mesh = Mesh::start_with(&["--leaf-ttl", "5s"]).await;
    mesh.apply(&service("web", "app: web", 80, "http")).await;
    let app = HttpApp::start("web").await;
    let web = mesh.sidecar("web", "web").await.port("http", app.addr()).start().await;
    mesh.connected(1).await;
    const H2: &[&[u8]] = &[b"h2"];

    let late = expired_client(&mesh).await;
    let fresh = mesh.control_plane.api().token("default", "fresh", 60).await.unwrap();
    let fresh = light::join(mesh.control_plane.xds(), TRUST_DOMAIN, "fresh", &fresh).await.unwrap();
    let config = tls::mesh_client(&fresh.identity, &fresh.bundle, H2).unwrap();
    knock(web.mesh(), config).await.expect("a real certificate is let in");

    let config = tls::mesh_client(&late.identity, &late.bundle, H2).unwrap();
    mesh_port_refuses(&web, "an expired certificate", &["certificate_expired"], config).await;
    let untrusted = ["certificate_untrusted", "wrong_trust_domain"];
    for trust_domain in [TRUST_DOMAIN, "other.domain"] {
        let (identity, _) = stranger(trust_domain);
        let config = tls::mesh_client(&identity, &fresh.bundle, H2).unwrap();
        mesh_port_refuses(&web, &format!("another authority's {trust_domain}"), &untrusted, config).await;
    }
    let words = ["no_certificate", "tls_handshake"];
    mesh_port_refuses(&web, "a client without a certificate", &words, tls::unproven_client(H2).unwrap()).await;
    assert_eq!(app.count(), 0, "a request of somebody refused has reached the app");
}

#[tokio::test(flavor = "multi_thread")]
async fn plaintext_on_a_mesh_port_is_refused_and_never_reaches_the_app() {
    let mesh = Mesh::start().await;
    mesh.apply(&service("web", "app: web", 80, "http")).await;
    let app = HttpApp::start("web").await;
    let web = mesh.sidecar("web", "web").await.port("http", app.addr()).start().await;
    for request in ["GET / HTTP/1.1\r\nHost: web\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"] {
        let (before, log_before) = (handshake_failures(&web).await, web.log().len());
        let mut stream = TcpStream::connect(web.mesh()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A reset is as good an end as any.
        let _ =
            tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.expect("it is closed");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(!answer.contains("200 OK") && !answer.contains("web"), "{answer}");
        wait::eventually("plaintext is counted", wait::DEADLINE, async || {
            (handshake_failures(&web).await > before).then_some(())
        })
        .await;
        wait::until("plaintext is logged", wait::DEADLINE, || web.log()[log_before..].contains("not_tls")).await;
    }
    assert_eq!(app.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_a_strange_certificate_gets_no_request() {
    let mesh = Mesh::start().await;
    mesh.apply(&service("web", "app: web", 80, "http")).await;
    let app = HttpApp::start("web").await;
    let mut web = mesh.sidecar("web", "web").await.port("http", app.addr()).start().await;
    let frontend = mesh.sidecar("frontend", "frontend").await.start().await;
    mesh.connected(2).await;
    mesh.reachable(&frontend, "http://web/").await;

    // The real one dies, and before the mesh has noticed an impostor has taken its port.
    let mesh_port = web.mesh();
    web.kill();
    let listener =
        wait::eventually("the port is free", wait::DEADLINE, async || TcpListener::bind(mesh_port).await.ok()).await;
    let token = mesh.control_plane.api().token("default", "thief", 60).await.unwrap();
    let thief = light::join(mesh.control_plane.xds(), TRUST_DOMAIN, "thief", &token).await.unwrap();
    // One impostor has a certificate of his own authority, the other a good one for another account.
    for (identity, bundle) in [stranger(TRUST_DOMAIN), (thief.identity, thief.bundle)] {
        let server = tls::mesh_server(&identity, &bundle, &[b"h2"]).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let impostor = async {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = acceptor.accept(stream).await?;
            let mut request = [0; 1024];
            let n = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut request)).await.unwrap_or(Ok(0))?;
            Ok::<_, std::io::Error>(n)
        };
        let (got, reply) = tokio::join!(impostor, frontend.get("http://web/secret"));
        let reply = reply.expect("the sidecar answers itself");
        assert!(reply.status >= 500, "{} {}", reply.status, reply.text());
        assert!(reply.reason().is_some(), "the sidecar's own answer has no reason");
        assert!(matches!(got, Err(_) | Ok(0)), "the impostor got {got:?} bytes");
    }
}
