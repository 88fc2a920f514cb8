//! Without its control plane the mesh goes on, and when it is back nothing is sent twice and nothing is lost.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use leno_tests::mesh::{service, split, web_services};
use leno_tests::{Behaviour, HttpApp, Load, Mesh, Sidecar, wait};
use serde_json::Value;

const URI: &str = "http://web/";
const RETRY: &str = "    retry: {attempts: 2, codes: [503]}\n";

struct Parts {
    frontend: Sidecar,
    one: Sidecar,
    _two: Sidecar,
    _apps: [HttpApp; 2],
    // Last, so that its folder with the logs is there until the others have ended.
    mesh: Mesh,
}

async fn start() -> Parts {
    let mesh = Mesh::start().await;
    mesh.apply(&(web_services() + &split(50, 50, RETRY))).await;
    let apps = [HttpApp::start("v1").await, HttpApp::start("v2").await];
    let one = mesh.sidecar("web-v1", "web").await.label("version", "v1").port("http", apps[0].addr()).start().await;
    let two = mesh.sidecar("web-v2", "web").await.label("version", "v2").port("http", apps[1].addr()).start().await;
    let frontend = mesh.sidecar("frontend", "frontend").await.start().await;
    mesh.connected(3).await;
    mesh.reachable(&frontend, URI).await;
    Parts { mesh, frontend, one, _two: two, _apps: apps }
}

/// How many resources were sent to all sidecars since the control plane's start.
async fn sent(mesh: &Mesh) -> f64 {
    mesh.control_plane.metrics().await.sum("leno_xds_resources_sent_total", &[])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_killed_and_started_again_under_load_fails_no_request_and_sends_nothing_twice() {
    let mut parts = start().await;
    assert!(sent(&parts.mesh).await >= 3.0, "the resources that were sent are not counted");
    let load = Load::new(parts.frontend.http_proxy(), URI).clients(4).start();
    load.more(500).await;
    for _ in 0..3 {
        parts.mesh.control_plane.kill();
        load.more(1000).await;
        parts.mesh.control_plane.start_again().await;
        parts.mesh.connected(3).await;
        load.more(500).await;
        // The counter began at zero with the new process: everything it has is a resend of something unchanged.
        assert_eq!(sent(&parts.mesh).await, 0.0, "{}", parts.mesh.control_plane.metrics().await.text());
    }
    // And the sidecars follow the new process.
    parts.mesh.apply(&split(0, 100, RETRY)).await;
    let now = std::time::Instant::now();
    load.more(500).await;
    let report = load.stop().await;
    report.assert_no_failure();
    let after = report.started_after(now);
    assert_eq!(after.answered_by("v2"), after.total());
    assert_eq!(sent(&parts.mesh).await, 1.0, "one route changed, and one sidecar uses it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_restarts_while_the_control_plane_is_gone_serves_from_its_snapshot() {
    let mut parts = start().await;
    parts.frontend.saved().await;
    parts.one.saved().await;
    parts.mesh.control_plane.kill();

    parts.frontend.kill();
    parts.frontend.start_again().await;
    let reply = parts.frontend.get(URI).await.expect("an answer");
    assert_eq!(reply.status, 200, "the first request after the restart: {} {:?}", reply.text(), reply.reason());
    // An inbound sidecar comes back on its mesh port, too.
    parts.one.kill();
    parts.one.start_again().await;
    let report = Load::new(parts.frontend.http_proxy(), URI).clients(4).limit(1000).run().await;
    report.assert_no_failure();
    assert!(report.answered_by("v1") > 0 && report.answered_by("v2") > 0);

    parts.mesh.control_plane.start_again().await;
    parts.mesh.connected(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_and_balancing_go_on_while_the_control_plane_is_gone() {
    let mut mesh = Mesh::start().await;
    mesh.apply(
        &(service("web", "app: web", 80, "http")
            + "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: web, namespace: default}\n"
            + "spec:\n  parentRefs: [{kind: Service, group: \"\", name: web}]\n  rules:\n"
            + "  - backendRefs: [{name: web, port: 80}]\n    retry: {attempts: 2, codes: [503]}\n"),
    )
    .await;
    let apps = [HttpApp::start("a").await, HttpApp::start("b").await];
    let _one = mesh.sidecar("web-a", "web").await.port("http", apps[0].addr()).start().await;
    let _two = mesh.sidecar("web-b", "web").await.port("http", apps[1].addr()).start().await;
    let frontend = mesh.sidecar("frontend", "frontend").await.start().await;
    mesh.connected(3).await;
    mesh.reachable(&frontend, URI).await;
    mesh.control_plane.kill();
    let report = Load::new(frontend.http_proxy(), URI).clients(4).limit(500).run().await;
    report.assert_no_failure();
    assert!(report.answered_by("a") > 100 && report.answered_by("b") > 100, "the balance is lost");
    apps[1].set(Behaviour::Status(503));
    Load::new(frontend.http_proxy(), URI).clients(4).limit(500).run().await.assert_no_failure();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledged_write_survives_a_kill_at_any_moment() {
    const KILLS: usize = 20;
    let mut mesh = Mesh::start().await;
    let mut acknowledged = BTreeSet::new();
    let mut next = 0;
    for _ in 0..KILLS {
        let stop = Arc::new(AtomicBool::new(false));
        let writer = tokio::spawn(write(mesh.control_plane.api(), next, Arc::clone(&stop)));
        // Not a wait for anything: the moment of the kill is to be a random one.
        tokio::time::sleep(Duration::from_millis(fastrand::u64(5..150))).await;
        mesh.control_plane.kill();
        stop.store(true, Ordering::Relaxed);
        let (names, tried) = writer.await.unwrap();
        acknowledged.extend(names);
        next = tried;
        mesh.control_plane.start_again().await;
        assert_all_there(&mesh, &acknowledged).await;
    }
    assert!(acknowledged.len() >= KILLS, "only {} writes were acknowledged", acknowledged.len());
    assert_history_has_no_gap(&mesh).await;
}

/// Applies one Service after the other until the control plane is gone; gives the acknowledged names and the next number.
async fn write(api: leno_tests::api::Api, first: usize, stop: Arc<AtomicBool>) -> (Vec<String>, usize) {
    let mut names = Vec::new();
    for n in first.. {
        let name = format!("s{n}");
        match api.apply(&service(&name, "app: x", 80, "http")).await {
            Ok((200, _)) => names.push(name),
            Ok((status, answer)) => panic!("{name}: {status} {answer}"),
            Err(_) if stop.load(Ordering::Relaxed) => return (names, n + 1),
            // Killed a moment before `stop` is set: the next round knows.
            Err(_) => tokio::task::yield_now().await,
        }
    }
    (names, first)
}

async fn assert_all_there(mesh: &Mesh, acknowledged: &BTreeSet<String>) {
    let list = mesh.control_plane.api().get("/v1/objects/services").await.unwrap();
    let there: BTreeSet<String> = names(&list["items"]).collect();
    let lost: Vec<_> = acknowledged.difference(&there).collect();
    assert!(lost.is_empty(), "acknowledged writes were lost: {lost:?}");
}

fn names(items: &Value) -> impl Iterator<Item = String> + '_ {
    let items = items.as_array().expect("a list").iter();
    items.map(|item| item["metadata"]["name"].as_str().expect("a name").to_owned())
}

async fn assert_history_has_no_gap(mesh: &Mesh) {
    let history = mesh.control_plane.api().get("/v1/history?limit=100").await.unwrap();
    let revisions: Vec<u64> =
        history["revisions"].as_array().unwrap().iter().map(|r| r["revision"].as_u64().unwrap()).collect();
    assert!(revisions.windows(2).all(|pair| pair[0] == pair[1] + 1), "{revisions:?}");
    let out = mesh.leno(&["history", "-o", "json"]).await;
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    wait::until("leno history prints JSON", wait::DEADLINE, || serde_json::from_slice::<Value>(&out.stdout).is_ok())
        .await;
}
