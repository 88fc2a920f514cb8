//! Faults that a request meets.

use std::time::Duration;

use http::Method;
use leno_certs::JoinSecret;
use leno_tests::client::{request, send};
use leno_tests::collector::{Collected, Collector};
use leno_tests::mesh::service;
use leno_tests::{Behaviour, HttpApp, Mesh, TcpEcho, wait};
use tokio::net::TcpListener;

use super::{Scene, log_of, observed, policy, route};

const LONG: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn what_an_app_does_is_told_by_its_reason_everywhere() {
    let scene = Scene::start().await;
    // It resets.
    scene.app.set(Behaviour::ResetBefore);
    let reply = send(scene.caller.http_proxy(), request(Method::POST, "http://web/pay", &[], "x")).await.unwrap();
    scene.on_every_surface(&reply, "app_reset").await;
    // It is slow: the route's limit, and the caller's own.
    scene.app.set(Behaviour::Delay(LONG));
    let limited = "backendRefs: [{name: web, port: 80}], timeouts: {request: 200ms}";
    scene.mesh.apply(&route("web", "web", limited)).await;
    let reply = scene.fails("http://web/slow", &[], "timeout").await;
    scene.on_every_surface(&reply, "timeout").await;
    scene.mesh.leno(&["delete", "httproute", "web", "--wait"]).await;
    let reply = scene.fails("http://web/slow", &[("leno-timeout-ms", "150")], "deadline_exceeded").await;
    scene.on_every_surface(&reply, "deadline_exceeded").await;
    // Its caller goes away: nobody is there to be answered, and it is written down all the same.
    let gone = tokio::time::timeout(Duration::from_millis(300), scene.ask("http://web/gone", &[])).await;
    assert!(gone.is_err());
    let why = wait::eventually("it is remembered", wait::DEADLINE, async || {
        let out = scene.mesh.leno(&["why", "--last-error", "web"]).await;
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        text.contains("/gone").then_some(text)
    })
    .await;
    assert!(why.contains("downstream_reset") && why.contains("What to do:"), "{why}");
    let log = std::fs::read_to_string(log_of(&scene.mesh, "caller")).unwrap();
    assert!(log.lines().any(|line| line.contains("/gone") && line.contains("downstream_reset")), "{log}");
    let given_up = scene.caller.metrics().await.sum("leno_requests_total", &[("code", "499")]);
    assert!(given_up > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_is_down_or_speaks_something_else_is_told_apart() {
    let scene = Scene::start().await;
    let mesh = &scene.mesh;
    let (echo, closed) = (TcpEcho::start().await, TcpListener::bind("127.0.0.1:0").await.unwrap());
    let nobody = closed.local_addr().unwrap();
    drop(closed);
    mesh.apply(&(service("down", "app: down", 80, "http") + &service("mute", "app: mute", 80, "http"))).await;
    let down = mesh.sidecar("down", "down").await.port("http", nobody);
    let down = observed(mesh, &scene.collector, "down", down).start().await;
    let mute = mesh.sidecar("mute", "mute").await.port("http", echo.addr());
    let mute = observed(mesh, &scene.collector, "mute", mute).start().await;
    scene.askable(4).await;
    let reply = scene.fails("http://down/", &[], "app_connect_failed").await;
    scene.on_every_surface_of(&down, &reply, "app_connect_failed").await;
    let reply = scene.fails("http://mute/", &[], "upstream_protocol_error").await;
    scene.on_every_surface_of(&mute, &reply, "upstream_protocol_error").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_configuration_says_is_told_by_its_reason_everywhere() {
    let scene = Scene::start().await;
    // A wrong port, and a name that nobody has.
    for uri in ["http://web:81/", "http://nowhere/"] {
        let reply = scene.ask(uri, &[]).await;
        scene.on_every_surface(&reply, "unknown_service").await;
    }
    // A route to nothing.
    scene.mesh.apply(&route("web", "web", "backendRefs: [{name: nobody, port: 80}]")).await;
    let reply = scene.fails("http://web/", &[], "invalid_backend").await;
    scene.on_every_surface(&reply, "invalid_backend").await;
    scene.check_finds("not_accepted").await;
    // A split to a version of which there is none.
    scene.mesh.apply(&service("web-v9", "app: web, version: v9", 80, "http")).await;
    scene.mesh.apply(&route("web", "web", "backendRefs: [{name: web-v9, port: 80}]")).await;
    let reply = scene.fails("http://web/", &[], "no_endpoints").await;
    scene.on_every_surface(&reply, "no_endpoints").await;
    scene.check_finds("no_endpoints").await;
    scene.mesh.leno(&["delete", "httproute", "web", "--wait"]).await;
    // Nobody may.
    let closed = "apiVersion: leno.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {name: closed, namespace: default}\n\
        spec:\n  targetRefs: [{group: \"\", kind: Service, name: web}]\n  action: ALLOW\n  rules: [{to: [{paths: [/open]}]}]\n";
    scene.mesh.apply(closed).await;
    let reply = scene.fails("http://web/secret", &[], "denied").await;
    scene.on_every_surface(&reply, "denied").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_told_by_their_reason_everywhere() {
    let scene = Scene::start().await;
    // A head that is too large.
    let large = "x".repeat(70 << 10);
    let reply = scene.ask("http://web/large", &[("x-large", &large)]).await;
    scene.on_every_surface(&reply, "head_too_large").await;
    // The circuit breaker.
    scene.app.set(Behaviour::Delay(LONG));
    scene.mesh.apply(&policy("web", "circuitBreaker: {maxRequests: 1}")).await;
    let proxy = scene.caller.http_proxy();
    let held = tokio::spawn(async move { send(proxy, request(Method::GET, "http://web/held", &[], "")).await });
    wait::until("the app has the first one", wait::DEADLINE, || {
        scene.app.seen().iter().any(|seen| seen.path == "/held")
    })
    .await;
    let reply = scene.fails("http://web/one-more", &[("leno-timeout-ms", "2000")], "overloaded").await;
    scene.on_every_surface(&reply, "overloaded").await;
    held.abort();
    scene.app.set(Behaviour::Answer);
    // The rate limit.
    scene.mesh.apply(&policy("web", "rateLimits: [{requests: 1, per: 60s}]")).await;
    let reply = scene.fails("http://web/", &[], "rate_limited").await;
    scene.on_every_surface(&reply, "rate_limited").await;
    // The retry budget: what failed is told, and that it was not tried again.
    scene.mesh.apply(&policy("web", "retryBudget: {percent: 1, minRetriesPerSecond: 1}")).await;
    scene.app.set(Behaviour::ResetBefore);
    let told = wait::eventually("a retry is not granted", wait::DEADLINE, async || {
        let reply = scene.ask("http://web/again", &[]).await;
        (reply.reason() == Some("app_reset")).then_some(())?;
        let why = scene.why(reply.headers["leno-request-id"].to_str().unwrap()).await;
        why.contains("another attempt was not granted").then_some((reply, why))
    })
    .await;
    assert!(told.1.contains("retry budget"), "{}", told.1);
    scene.on_every_surface(&told.0, "app_reset").await;
    assert!(scene.caller.metrics().await.sum("leno_retries_denied_total", &[("service", "default/web")]) > 0.0);
    let denied = |of: &Collected| of.attribute("leno.retry_denied") == "budget";
    wait::until("it stands in the span", wait::DEADLINE, || scene.collector.spans().iter().any(denied)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_leaf_and_a_wrong_clock_are_named() {
    let (secrets, secret) = (tempfile::tempdir().unwrap(), JoinSecret::generate().unwrap());
    let file = secrets.path().join("default.caller");
    std::fs::write(&file, secret.to_text().as_bytes()).unwrap();
    let (mesh, clock) = Mesh::start_with_clock(&["--join-secrets", secrets.path().to_str().unwrap()]).await;
    let (collector, app) = (Collector::grpc().await, HttpApp::start("web").await);
    mesh.apply(&service("web", "app: web", 80, "http")).await;
    // The caller can join again; the app's sidecar cannot, since its token was good once.
    let web = mesh.sidecar("web", "web").await.port("http", app.addr());
    let web = observed(&mesh, &collector, "web", web).start().await;
    let caller = mesh.sidecar("caller", "caller").await.token_file(&file);
    let caller = observed(&mesh, &collector, "caller", caller).start().await;
    mesh.reachable(&caller, "http://web/").await;
    let scene = Scene { mesh, collector, caller, web, app };
    scene.askable(2).await;

    // The control plane's machine is ahead of the one that looks.
    clock.set(120);
    let mut command = std::process::Command::new(leno_tests::binaries::leno());
    command.env("LENO_CONTEXT", scene.mesh.control_plane.context()).args(["check", "-o", "json"]);
    let out = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(String::from_utf8_lossy(&out.stdout).contains("clock_skew"), "{out:?}");

    clock.set(25 * 3600);
    scene.check_finds("certificate_expired").await;
    let reply = wait::eventually("new connections are refused", Duration::from_secs(60), async || {
        let reply = scene.ask("http://web/", &[]).await;
        (reply.reason() == Some("tls_failed")).then_some(reply)
    })
    .await;
    scene.on_every_surface(&reply, "tls_failed").await;
}
