//! The health port before real apps, good ones and bad ones.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ::http::{Request, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use leno_runtime::drain;
use leno_runtime::metrics::Registry;
use leno_runtime::ready::Readiness;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{Checks, Health, serve};
use crate::settings::Probes;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A health port for one probe of the container `app`, given as the JSON of its action.
struct Port {
    addr: SocketAddr,
    registry: Registry,
    readiness: Readiness,
    _drain: drain::Drain,
}

impl Port {
    fn of(action: &str) -> Self {
        Self::with(&format!(r#"{{"app/liveness":{{"timeoutSeconds":2,{action}}}}}"#))
    }

    fn with(probes: &str) -> Self {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let addr = socket.local_addr().unwrap();
        let (registry, readiness) = (Registry::new(), Readiness::new());
        let checks = Checks::new(Probes::parse(probes).unwrap(), LOOPBACK, &registry);
        let (stop, watch) = drain::channel();
        tokio::spawn(serve(socket, Health { checks, readiness: readiness.clone() }, watch));
        Self { addr, registry, readiness, _drain: stop }
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let stream = TcpStream::connect(self.addr).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get(path).header("host", "pod").header("user-agent", "kube-probe/1.34");
        let response = sender.send_request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// The verdict of the one probe.
    async fn verdict(&self) -> (u16, String) {
        self.get("/probe/app/liveness").await
    }
}

type Answer = Response<Full<Bytes>>;

/// An HTTP app; it lives as long as the test's runtime.
async fn http_app(answer: impl Fn(Request<Incoming>) -> Answer + Clone + Send + 'static) -> u16 {
    let (listener, port) = listener().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            let service = service_fn(move |request| {
                let response = answer(request);
                async move { Ok::<_, Infallible>(response) }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    port
}

fn status(code: u16) -> Answer {
    Response::builder().status(code).body(Full::new(Bytes::from_static(b"body"))).unwrap()
}

#[tokio::test]
async fn an_http_check_asks_as_kubelet_does_and_tells_the_status() {
    let port = http_app(|request| {
        let header = |name: &str| request.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
        let asked = request.uri().path_and_query().unwrap().as_str() == "/healthz?full=1"
            && header("user-agent").as_deref() == Some("kube-probe/1.34")
            && header("x-token").as_deref() == Some("a b")
            && header("host").as_deref() == Some("app.example")
            && header("accept").as_deref() == Some("*/*");
        status(if asked { 204 } else { 400 })
    })
    .await;
    let action = format!(
        r#""httpGet":{{"path":"/healthz?full=1","port":{port},"httpHeaders":[{{"name":"X-Token","value":"a b"}},{{"name":"Host","value":"app.example"}}]}}"#
    );
    let health = Port::of(&action);
    assert_eq!(health.verdict().await, (200, "ok\n".to_owned()));
    assert!(health.registry.render().contains(r#"leno_probes_total{probe="app/liveness",result="passed"} 1"#));

    let missing = http_app(|_| status(404)).await;
    let (code, reason) = Port::of(&format!(r#""httpGet":{{"path":"/x","port":{missing}}}"#)).verdict().await;
    assert_eq!(code, 503);
    assert!(reason.contains(&format!("GET /x on 127.0.0.1:{missing} was answered with 404")), "{reason}");
}

#[tokio::test]
async fn redirects_on_the_same_host_decide_and_those_to_another_do_not() {
    let port = http_app(|request| {
        let to = |location: &str| Response::builder().status(302).header("location", location).body(Full::default());
        match request.uri().path() {
            "/good" => to("/fine").unwrap(),
            "/bad" => to("broken").unwrap(),
            "/away" => to("http://elsewhere.example/").unwrap(),
            "/circle" => to("/circle").unwrap(),
            "/fine" => status(200),
            _ => status(500),
        }
    })
    .await;
    for (path, code) in [("/good", 200), ("/bad", 503), ("/away", 200), ("/circle", 503)] {
        let health = Port::of(&format!(r#""httpGet":{{"path":"{path}","port":{port}}}"#));
        assert_eq!(health.verdict().await.0, code, "{path}");
    }
}

#[tokio::test]
async fn an_https_app_with_a_certificate_of_its_own_passes_with_tls_1_3_and_1_2() {
    let key = rcgen::generate_simple_self_signed(vec!["whoever.example".to_owned()]).unwrap();
    let der = rustls_pki_types::PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into());
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![key.cert.der().clone()], der.clone_key())
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let (listener, port) = listener().await;
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service_fn(|_| async { Ok::<_, Infallible>(status(200)) });
            let stream = TokioIo::new(acceptor.accept(stream).await.unwrap());
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await;
        });
        let health = Port::of(&format!(r#""httpGet":{{"port":{port},"scheme":"HTTPS"}}"#));
        assert_eq!(health.verdict().await, (200, "ok\n".to_owned()), "{version:?}");
    }
    let plain = http_app(|_| status(200)).await;
    let (code, reason) = Port::of(&format!(r#""httpGet":{{"port":{plain},"scheme":"HTTPS"}}"#)).verdict().await;
    assert!(code == 503 && reason.contains("TLS"), "{reason}");
}

#[tokio::test]
async fn a_tcp_check_needs_a_port_that_takes_connections() {
    let (held, port) = listener().await;
    assert_eq!(Port::of(&format!(r#""tcpSocket":{{"port":{port}}}"#)).verdict().await.0, 200);
    let by_name = Port::of(&format!(r#""tcpSocket":{{"port":{port},"host":"localhost"}}"#));
    assert_eq!(by_name.verdict().await.0, 200);
    drop(held);
    let (code, reason) = Port::of(&format!(r#""tcpSocket":{{"port":{port}}}"#)).verdict().await;
    assert!(code == 503 && reason.contains(&format!("127.0.0.1:{port} takes no connection")), "{reason}");
}

#[tokio::test]
async fn a_grpc_check_follows_the_health_service() {
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter.set_service_status("shop.Cart", tonic_health::ServingStatus::Serving).await;
    reporter.set_service_status("shop.Bills", tonic_health::ServingStatus::NotServing).await;
    let (listener, port) = listener().await;
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
    for (name, code, word) in [
        ("", 200, "ok"),
        ("shop.Cart", 200, "ok"),
        ("shop.Bills", 503, "shop.Bills on 127.0.0.1"),
        ("shop.Nothing", 503, "does not know the service shop.Nothing"),
    ] {
        let health = Port::of(&format!(r#""grpc":{{"port":{port},"service":"{name}"}}"#));
        let (got, reason) = health.verdict().await;
        assert!(got == code && reason.contains(word), "{name}: {got} {reason}");
    }
    // A server without the health service, and one that speaks no HTTP/2.
    let http1 = http_app(|_| status(200)).await;
    assert_eq!(Port::of(&format!(r#""grpc":{{"port":{http1}}}"#)).verdict().await.0, 503);
}

#[tokio::test]
async fn an_app_that_hangs_or_resets_fails_within_the_timeout() {
    let (hanging, port) = listener().await;
    for action in [
        format!(r#""httpGet":{{"port":{port}}}"#),
        format!(r#""httpGet":{{"port":{port},"scheme":"HTTPS"}}"#),
        format!(r#""grpc":{{"port":{port}}}"#),
    ] {
        let started = Instant::now();
        let (code, reason) = Port::of(&action).verdict().await;
        assert!(code == 503 && reason.contains("no answer within 2 s"), "{reason}");
        assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    }
    drop(hanging);

    let (resetting, port) = listener().await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = resetting.accept().await {
            let _ = stream.read_u8().await;
            let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
    });
    let (code, reason) = Port::of(&format!(r#""httpGet":{{"port":{port}}}"#)).verdict().await;
    assert!(code == 503 && reason.contains(&format!("127.0.0.1:{port} broke off")), "{reason}");
}

#[tokio::test]
async fn a_body_that_never_ends_fails_and_one_that_is_large_does_not() {
    let (listener, port) = listener().await;
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nsome").await;
            held.push(stream);
        }
    });
    let (code, reason) = Port::of(&format!(r#""httpGet":{{"port":{port}}}"#)).verdict().await;
    assert!(code == 503 && reason.contains("no answer within"), "{reason}");
    let large = http_app(|_| Response::new(Full::new(Bytes::from(vec![b'x'; 1 << 20])))).await;
    assert_eq!(Port::of(&format!(r#""httpGet":{{"port":{large}}}"#)).verdict().await.0, 200);
}

#[tokio::test]
async fn many_who_ask_at_once_share_one_check() {
    let (listener, port) = listener().await;
    let connections = Arc::new(AtomicUsize::new(0));
    let (release, released) = tokio::sync::watch::channel(false);
    let counted = connections.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let mut released = released.clone();
            tokio::spawn(async move {
                let mut head = [0; 1024];
                let _ = stream.read(&mut head).await;
                let _ = released.wait_for(|on| *on).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            });
        }
    });
    let health =
        Arc::new(Port::with(&format!(r#"{{"app/liveness":{{"timeoutSeconds":30,"httpGet":{{"port":{port}}}}}}}"#)));
    let first = tokio::spawn({
        let health = health.clone();
        async move { health.verdict().await.0 }
    });
    while connections.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let others: Vec<_> = (0..8)
        .map(|_| {
            let health = health.clone();
            tokio::spawn(async move { health.verdict().await.0 })
        })
        .collect();
    // A different check is not held up by it, and shows that the eight have been accepted before it.
    assert_eq!(health.get("/ready").await.0, 200);
    release.send_replace(true);
    assert_eq!(first.await.unwrap(), 200);
    for other in others {
        assert_eq!(other.await.unwrap(), 200);
    }
    assert!(connections.load(Ordering::SeqCst) < 9, "every one of them asked the app");
}

#[tokio::test]
async fn what_is_no_check_is_answered_without_asking_the_app() {
    let health = Port::with("{}");
    let token = health.readiness.token("control plane");
    let (code, body) = health.get("/ready").await;
    assert!(code == 503 && body.contains("control plane"), "{body}");
    token.done();
    assert_eq!(health.get("/ready").await.0, 200);
    for path in ["/", "/probe/", "/probe/app/liveness", "/probe/app/preStop", "/metrics", "/config_dump"] {
        assert_eq!(health.get(path).await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn one_stranger_cannot_hold_every_connection() {
    use super::places::MOST_FROM_ONE;
    let health = Port::with("{}");
    let mut held = Vec::new();
    for _ in 0..MOST_FROM_ONE {
        held.push(TcpStream::connect(health.addr).await.unwrap());
    }
    let mut more = TcpStream::connect(health.addr).await.unwrap();
    let mut byte = [0; 1];
    assert!(matches!(more.read(&mut byte).await, Ok(0) | Err(_)), "a connection over the bound was kept");
    // Somebody from another address is still served.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = socket.connect(health.addr).await.unwrap();
    other.write_all(b"GET /ready HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    other.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}
