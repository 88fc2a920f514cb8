//! Revocation: who was revoked is out of the mesh at once and stays out, and nobody else notices.

use std::sync::Arc;
use std::time::Duration;

use leno_certs::{Key, SpiffeId, csr, tls};
use leno_proto::Registration;
use leno_tests::light::{self, Light};
use leno_tests::mesh::service;
use leno_tests::raw::{RawApp, Step, answer};
use leno_tests::{HttpApp, Load, Mesh, Sidecar, TcpEcho, client, wait};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tonic::Code;

const AGREED: &str = "HTTP/1.1 101 Yes\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";

async fn ping(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"ping").await?;
    tokio::time::timeout(wait::DEADLINE, stream.read_exact(&mut [0; 4])).await??;
    Ok(())
}

/// A connection to the store that has echoed something.
async fn store(sidecar: &Sidecar) -> TcpStream {
    wait::eventually("the store answers", wait::DEADLINE, async || {
        let mut stream = TcpStream::connect(sidecar.upstream("store:7000")).await.ok()?;
        ping(&mut stream).await.ok().map(|()| stream)
    })
    .await
}

/// A connection on which `path` of Service `web` has begun its answer with this status.
async fn begun(sidecar: &Sidecar, path: &str, fields: &str, status: &str) -> TcpStream {
    wait::eventually("the answer has begun", wait::DEADLINE, async || {
        let mut stream = TcpStream::connect(sidecar.http_proxy()).await.ok()?;
        let request = format!("GET http://web{path} HTTP/1.1\r\nhost: web\r\n{fields}\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut begin = [0; 12];
        stream.read_exact(&mut begin).await.ok()?;
        (begin == format!("HTTP/1.1 {status}").as_bytes()).then_some(stream)
    })
    .await
}

/// Reads until the connection ends, which it must by itself.
async fn ends(what: &str, mut stream: TcpStream) {
    let ended = tokio::time::timeout(wait::DEADLINE, stream.read_to_end(&mut Vec::new())).await;
    ended.unwrap_or_else(|_| panic!("{what} goes on")).ok();
}

async fn said(sidecar: &Sidecar, uri: &str) -> (u16, Option<String>) {
    let reply = sidecar.get(uri).await.unwrap();
    (reply.status, reply.reason().map(str::to_owned))
}

async fn leno(mesh: &Mesh, args: &[&str]) -> String {
    let output = mesh.leno(args).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "leno {args:?}: {text} {}", String::from_utf8_lossy(&output.stderr));
    text
}

async fn refusals(mesh: &Mesh, reason: &str) -> f64 {
    mesh.control_plane.metrics().await.sum("leno_identity_refusals_total", &[("reason", reason)])
}

async fn named(mesh: &Mesh, name: &str, service: &str) -> leno_tests::SidecarBuilder {
    mesh.sidecar(name, service).await.args(&["--name", name])
}

/// The first revocation of the list.
async fn revocation(mesh: &Mesh) -> Value {
    let list = mesh.control_plane.api().get("/v1/revocations").await.unwrap();
    list["revocations"][0].clone()
}

async fn web_app() -> RawApp {
    RawApp::start(|_, seen| match seen.path.rsplit('/').next() {
        Some("agree") => vec![Step::Send(AGREED.into()), Step::Stall],
        Some("begin") => vec![Step::Send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart".into()), Step::Stall],
        _ => answer(200, "", "done"),
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_workload_is_shut_out_through_every_crash_and_its_sibling_does_not_notice() {
    let mut mesh = Mesh::start().await;
    let (app, echo) = (web_app().await, TcpEcho::start().await);
    let tcp = service("store", "app: store", 7000, "tcp").replace("port: 7000", "port: 7000, appProtocol: tcp");
    mesh.apply(&(service("web", "app: web", 80, "http") + &tcp)).await;
    let mut web = named(&mesh, "web-1", "web").await.port("http", app.addr()).start().await;
    let _store = named(&mesh, "store-1", "store").await.port("tcp", echo.addr()).start().await;
    let bad = named(&mesh, "front-1", "frontend").await.upstream("store:7000").start().await;
    let good = named(&mesh, "front-2", "frontend").await.upstream("store:7000").start().await;
    mesh.connected(4).await;
    mesh.reachable(&bad, "http://web/").await;
    mesh.reachable(&good, "http://web/").await;

    let load = Load::new(good.http_proxy(), "http://web/").clients(2).pause(Duration::from_millis(2)).start();
    let mut kept =
        (store(&good).await, begun(&good, "/agree", "connection: upgrade\r\nupgrade: websocket\r\n", "101").await);
    let bytes = store(&bad).await;
    let under_way = begun(&bad, "/begin", "", "200").await;
    let upgraded = begun(&bad, "/agree", "connection: upgrade\r\nupgrade: websocket\r\n", "101").await;

    let began = std::time::Instant::now();
    let done = leno(&mesh, &["revoke", "workload", "front-1", "--reason", "stolen"]).await;
    let known = began.elapsed();
    assert!(done.starts_with("workload default/front-1 is revoked ("), "{done}");
    assert!(done.contains("in force in 3 of 3 sidecars"), "the revoked one is not waited for: {done}");
    ends("its connection of bytes", bytes).await;
    ends("its request under way", under_way).await;
    ends("its upgraded connection", upgraded).await;
    let closed = began.elapsed().as_millis();
    leno_tests::tools::note(&format!(
        "FIGURE revocation: in force everywhere after {} ms, everything of it closed after {closed} ms, the command included",
        known.as_millis()
    ));
    assert_eq!(said(&bad, "http://web/").await, (403, Some("revoked".to_owned())));
    ends("a new connection of bytes", TcpStream::connect(bad.upstream("store:7000")).await.unwrap()).await;
    let refused = [("reason", "revoked")];
    assert!(web.metrics().await.sum("leno_tls_handshake_failures_total", &refused) > 0.0);
    assert!(web.metrics().await.sum("leno_failures_total", &refused) > 0.0);
    wait::eventually("its stream is refused", wait::DEADLINE, async || {
        (refusals(&mesh, "revoked").await > 0.0).then_some(())
    })
    .await;
    mesh.connected(3).await;
    assert!(!leno(&mesh, &["status"]).await.contains("front-1"), "it is no part of the mesh");

    ping(&mut kept.0).await.expect("the sibling's connection goes on");
    let idle = tokio::time::timeout(Duration::from_millis(100), kept.1.read_u8()).await;
    // The rest of the head may still come; an end would be an error.
    assert!(!matches!(idle, Ok(Err(_))), "the sibling's upgraded connection goes on");
    store(&good).await;
    load.stop().await.assert_no_failure();

    // The control plane and the server are killed; the server comes back alone.
    web.saved().await;
    mesh.control_plane.kill();
    web.kill();
    web.start_again().await;
    mesh.reachable(&good, "http://web/").await;
    assert_eq!(said(&bad, "http://web/").await, (403, Some("revoked".to_owned())));
    let known = web.state_dir().join("revocations.bin");
    assert!(known.exists());

    // The control plane comes back and knows it, too.
    mesh.control_plane.start_again().await;
    wait::eventually("its stream is refused again", wait::DEADLINE, async || {
        (refusals(&mesh, "revoked").await > 0.0).then_some(())
    })
    .await;
    let list = leno(&mesh, &["revoke", "list"]).await;
    assert!(list.contains("default/front-1") && list.contains("stolen"), "{list}");
    mesh.connected(3).await;

    let id = revocation(&mesh).await["id"].as_str().unwrap().to_owned();
    leno(&mesh, &["revoke", "undo", &id, "--reason", "found again"]).await;
    mesh.reachable(&bad, "http://web/").await;
    mesh.connected(4).await;
    let history = leno(&mesh, &["history"]).await;
    assert!(history.contains("stolen") && history.contains("found again"), "{history}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_server_gets_no_request_and_loses_what_is_open_to_it() {
    let mesh = Mesh::start().await;
    let (app, echo) = (HttpApp::start("web").await, TcpEcho::start().await);
    let tcp = service("store", "app: store", 7000, "tcp").replace("port: 7000", "port: 7000, appProtocol: tcp");
    mesh.apply(&(service("web", "app: web", 80, "http") + &tcp)).await;
    let mut web = named(&mesh, "web-1", "web").await.port("http", app.addr()).start().await;
    let _one = named(&mesh, "store-1", "store").await.port("tcp", echo.addr()).start().await;
    let frontend = named(&mesh, "front", "frontend").await.upstream("store:7000").start().await;
    mesh.connected(3).await;
    let open = store(&frontend).await;
    leno(&mesh, &["revoke", "workload", "store-1"]).await;
    ends("the connection to it", open).await;
    // It may be reset before it is known to be there.
    if let Ok(again) = TcpStream::connect(frontend.upstream("store:7000")).await {
        ends("a new one", again).await;
    }

    // A second store of the same identity serves at once.
    let _two = named(&mesh, "store-2", "store").await.port("tcp", echo.addr()).start().await;
    store(&frontend).await;

    // Somebody whose certificate is of the right identity, and was revoked, stands where the server was.
    mesh.reachable(&frontend, "http://web/").await;
    let token = mesh.control_plane.api().token("default", "web", 60).await.unwrap();
    let thief = light::join(mesh.control_plane.xds(), "cluster.local", "web", &token).await.unwrap();
    let held = register(&thief, "thief", "web").await;
    leno(&mesh, &["revoke", "workload", "thief"]).await;
    drop(held);
    let place = web.mesh();
    web.kill();
    let listener =
        wait::eventually("the port is free", wait::DEADLINE, async || TcpListener::bind(place).await.ok()).await;
    let acceptor = TlsAcceptor::from(Arc::new(tls::mesh_server(&thief.identity, &thief.bundle, &[b"h2"]).unwrap()));
    let impostor = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await?;
        tokio::time::timeout(Duration::from_secs(5), stream.read(&mut [0; 1024])).await.unwrap_or(Ok(0))
    };
    let (got, reply) = tokio::join!(impostor, client::get(frontend.http_proxy(), "http://web/secret"));
    let reply = reply.unwrap();
    assert_eq!((reply.status, reply.reason()), (503, Some("endpoint_revoked")), "{}", reply.text());
    assert!(matches!(got, Err(_) | Ok(0)), "it got {got:?} bytes");
}

/// Opens a stream under a name, and gives it once the control plane has answered on it.
async fn register(light: &Light, name: &str, account: &str) -> light::Stream {
    let mut stream = light.stream(&Registration::local(name, "default", account, 1)).await.unwrap();
    stream.subscribe("type.googleapis.com/leno.v1.TrustBundle", &["cluster.local"]).await.unwrap();
    stream.next().await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_identity_can_neither_join_nor_renew_nor_hold_a_stream_and_a_revoked_token_is_void() {
    let mesh = Mesh::start().await;
    let (xds, api) = (mesh.control_plane.xds(), mesh.control_plane.api());
    let token = async |account: &str| api.token("default", account, 600).await.unwrap();
    let join = async |account: &str, token: &str| light::join(xds, "cluster.local", account, token).await;

    let void = token("web").await;
    leno(&mesh, &["revoke", "token", void.split('.').nth(1).unwrap()]).await;
    let refused = join("web", &void).await.err().unwrap();
    assert!(format!("{refused:#}").contains("token_revoked"), "{refused:#}");
    assert!(leno(&mesh, &["token", "list"]).await.contains("revoked"));
    let again = mesh.leno(&["revoke", "token", &void]).await;
    assert!(!again.status.success(), "it is revoked already");

    let web = join("web", &token("web").await).await.unwrap();
    let mut stream = register(&web, "web-1", "web").await;
    let spare = token("web").await;
    let done = leno(&mesh, &["revoke", "identity", "default/web"]).await;
    assert!(done.contains("spiffe://cluster.local/ns/default/sa/web is revoked"), "{done}");
    let ended = loop {
        if let Err(status) = stream.next().await {
            break status;
        }
    };
    assert_eq!(ended.code(), Code::PermissionDenied, "{ended:?}");
    assert!(ended.message().starts_with("revoked: "), "{ended:?}");
    let csr = || {
        let id = SpiffeId::new("cluster.local", "default", "web").unwrap();
        csr::create(&Key::generate().unwrap(), &id).unwrap()
    };
    assert_eq!(web.renew_raw(csr()).await.unwrap_err().code(), Code::PermissionDenied);
    let opened = web.stream(&Registration::local("web-2", "default", "web", 1)).await;
    assert_eq!(opened.err().map(|status| status.code()), Some(Code::PermissionDenied));
    assert!(format!("{:#}", join("web", &spare).await.err().unwrap()).contains("revoked: "));
    assert!(join("store", &token("store").await).await.is_ok(), "others are not concerned");

    let id = revocation(&mesh).await["id"].as_str().unwrap().to_owned();
    leno(&mesh, &["revoke", "undo", &id]).await;
    web.renew_raw(csr()).await.expect("it may renew again");
    register(&web, "web-1", "web").await;
    for (args, said) in [
        (&["revoke", "workload", "nobody"][..], "no sidecar has registered"),
        (&["revoke", "identity", "leno-system/control-plane"], "none of this mesh's workloads"),
        (&["revoke", "identity", "web"], "SPIFFE ID"),
        (&["revoke", "undo", "0123456789abcdef"], "no such revocation"),
    ] {
        let output = mesh.leno(args).await;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(said), "{args:?}: {text}");
    }
}
