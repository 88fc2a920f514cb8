//! Clocks that are set, and a control plane that is away for longer than a leaf lives: what fails, when, and how it says so.

use std::time::Duration;

use leno_certs::JoinSecret;
use leno_tests::clock::FakeClock;
use leno_tests::mesh::service;
use leno_tests::{HttpApp, Load, Mesh, Sidecar, TcpEcho, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const HOUR: i64 = 3600;

async fn ping(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"ping").await?;
    tokio::time::timeout(Duration::from_secs(5), stream.read_exact(&mut [0; 4])).await??;
    Ok(())
}

/// A caller and two servers that join by secrets, and so may join again; and another caller that has joined by a token.
struct Scene {
    mesh: Mesh,
    clock: FakeClock,
    frontend: Sidecar,
    web: Sidecar,
    store: Sidecar,
    once: Sidecar,
    _app: HttpApp,
    _echo: TcpEcho,
}

impl Scene {
    async fn start(args: &[&str]) -> Self {
        let secrets = tempfile::tempdir().unwrap().keep();
        for name in ["frontend", "web", "store"] {
            let secret = JoinSecret::generate().unwrap();
            std::fs::write(secrets.join(format!("default.{name}")), secret.to_text().as_bytes()).unwrap();
        }
        let args = [&["--join-secrets", secrets.to_str().unwrap()], args].concat();
        let (mesh, clock) = Mesh::start_with_clock(&args).await;
        let tcp = service("store", "app: store", 7000, "tcp").replace("port: 7000", "port: 7000, appProtocol: tcp");
        mesh.apply(&(service("web", "app: web", 80, "http") + &tcp)).await;
        let (app, echo) = (HttpApp::start("web").await, TcpEcho::start().await);
        let named =
            async |name: &str| mesh.sidecar(name, name).await.token_file(&secrets.join(format!("default.{name}")));
        let web = named("web").await.port("http", app.addr()).start().await;
        let store = named("store").await.port("tcp", echo.addr()).start().await;
        let frontend = named("frontend").await.upstream("store:7000").start().await;
        let once = mesh.sidecar("once", "once").await.start().await;
        mesh.connected(4).await;
        mesh.reachable(&frontend, "http://web/").await;
        mesh.reachable(&once, "http://web/").await;
        Self { mesh, clock, frontend, web, store, once, _app: app, _echo: echo }
    }

    /// A new connection, which needs a handshake with the leaves of the moment.
    async fn fresh(&self) -> std::io::Result<TcpStream> {
        let mut stream = TcpStream::connect(self.frontend.upstream("store:7000")).await?;
        ping(&mut stream).await?;
        Ok(stream)
    }

    async fn heals(&self, what: &str) -> TcpStream {
        wait::eventually(what, Duration::from_secs(60), async || self.fresh().await.ok()).await
    }
}

async fn renewed(sidecar: &Sidecar, result: &str) -> f64 {
    sidecar.metrics().await.sum("leno_certificate_renewals_total", &[("result", result)])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leap_within_the_life_of_a_leaf_is_noticed_by_nobody() {
    let scene = Scene::start(&[]).await;
    let load = Load::new(scene.frontend.http_proxy(), "http://web/").clients(2).pause(Duration::from_millis(3)).start();
    let mut kept = scene.fresh().await.unwrap();
    let log = scene.mesh.control_plane.log();
    let own = "the control plane's own certificate was renewed";
    let before = log.matches(own).count();
    // Half of a day's leaf and the tenth more that chance may add are 13.2 hours.
    scene.clock.set(14 * HOUR);
    wait::eventually("everybody has renewed", Duration::from_secs(60), async || {
        for sidecar in [&scene.frontend, &scene.web, &scene.store, &scene.once] {
            if renewed(sidecar, "ok").await < 1.0 {
                return None;
            }
        }
        (scene.mesh.control_plane.log().matches(own).count() > before).then_some(())
    })
    .await;
    scene.fresh().await.expect("a new connection");
    ping(&mut kept).await.expect("the one that was open");
    load.stop().await.assert_no_failure();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leap_of_a_day_forward_and_back_is_mended_by_whoever_may_join_again_and_the_others_say_what_to_do() {
    let scene = Scene::start(&[]).await;
    let mut kept = scene.fresh().await.unwrap();
    scene.clock.set(25 * HOUR);
    scene.heals("forward: new connections are carried again").await;
    ping(&mut kept).await.expect("what is open goes on");
    wait::until("who joined by a token says what to do", wait::DEADLINE, || {
        let log = scene.once.log();
        log.contains("the leaf certificate has expired; restart with a token of `leno token create`")
    })
    .await;
    let reply = scene.once.get("http://web/").await.unwrap();
    assert!(reply.status == 200 || reply.reason().is_some(), "{} {:?}", reply.status, reply.reason());
    assert!(scene.frontend.log().contains("the leaf certificate has expired; this sidecar has joined anew"));

    // Back: the leaves of a moment ago begin in the future.
    scene.clock.set(0);
    scene.heals("back: new connections are carried again").await;
    let log = scene.frontend.log();
    assert!(log.contains("the leaf certificate is not valid yet: the clock was set back"), "{log}");
    wait::eventually("all of the three are connected", Duration::from_secs(60), async || {
        let n = scene.mesh.control_plane.metrics().await.sum("leno_sidecars_connected", &[]);
        (n >= 3.0).then_some(())
    })
    .await;
    // And a token helps the one that had none left, too: its first leaf is valid again by this clock, or it joins anew.
    scene.mesh.reachable(&scene.frontend, "http://web/").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_control_plane_is_away_for_longer_than_a_leaf_lives_what_is_open_goes_on_and_heals_when_it_is_back() {
    let mut scene = Scene::start(&["--leaf-ttl", "10s"]).await;
    let mut kept = scene.fresh().await.unwrap();
    scene.mesh.control_plane.kill();
    scene.fresh().await.expect("new connections for as long as the leaves live");
    scene.mesh.reachable(&scene.frontend, "http://web/").await;
    wait::until("the leaves have expired", wait::DEADLINE, || {
        let expired = |sidecar: &Sidecar| sidecar.log().contains("the leaf certificate has expired");
        [&scene.frontend, &scene.store, &scene.once].into_iter().all(expired)
    })
    .await;
    // What fails: new connections, by the server's word. What does not: those that are open.
    assert!(scene.fresh().await.is_err());
    // It is counted when the connection is closed, which its client may see sooner.
    wait::eventually("it is counted, and why is in the log", wait::DEADLINE, async || {
        let failed = scene.frontend.metrics().await.sum("leno_failures_total", &[("reason", "tls_failed")]);
        (failed > 0.0 && scene.frontend.log().contains(r#""reason":"certificate_expired""#)).then_some(())
    })
    .await;
    ping(&mut kept).await.expect("the stream that is open goes on");
    assert_eq!(scene.frontend.get("http://web/").await.unwrap().status, 200, "over the connection that is open");

    scene.mesh.control_plane.start_again().await;
    scene.heals("it is back: new connections are carried again").await;
    ping(&mut kept).await.expect("the stream that was open all the time");
    assert!(scene.once.log().contains("restart with a token of `leno token create`"));
    assert!(renewed(&scene.once, "error").await > 0.0);
}
