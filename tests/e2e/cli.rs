//! The command line against a real mesh: what it shows is what is, and it waits for exactly those it should.

use std::process::Output;
use std::time::{Duration, Instant};

use leno_proto::Registration;
use leno_proto::resource::Resource;
use leno_proto::v1::HttpRoute;
use leno_tests::light;
use leno_tests::mesh::{split, web_services};
use leno_tests::{HttpApp, Mesh, Sidecar, wait};
use serde_json::Value;

const URI: &str = "http://web/";

struct Parts {
    frontend: Sidecar,
    _web: [Sidecar; 2],
    _apps: [HttpApp; 2],
    mesh: Mesh,
}

async fn start(v1: u32, v2: u32) -> Parts {
    let mesh = Mesh::start().await;
    mesh.apply(&(web_services() + &split(v1, v2, ""))).await;
    let apps = [HttpApp::start("v1").await, HttpApp::start("v2").await];
    let one = mesh.sidecar("web-v1", "web").await.label("version", "v1").port("http", apps[0].addr()).start().await;
    let two = mesh.sidecar("web-v2", "web").await.label("version", "v2").port("http", apps[1].addr()).start().await;
    let frontend = mesh.sidecar("frontend", "frontend").await.start().await;
    mesh.connected(3).await;
    mesh.reachable(&frontend, URI).await;
    Parts { frontend, _web: [one, two], _apps: apps, mesh }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

async fn ok(mesh: &Mesh, args: &[&str]) -> String {
    let output = mesh.leno(args).await;
    assert!(output.status.success(), "leno {args:?}: {}\n{}", output.status, text(&output));
    String::from_utf8(output.stdout).unwrap()
}

async fn json(mesh: &Mesh, args: &[&str]) -> Value {
    let out = ok(mesh, &[args, &["-o", "json"]].concat()).await;
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("leno {args:?}: {error}\n{out}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn status_shows_each_sidecar_with_identity_revision_and_ack() {
    let parts = start(90, 10).await;
    let table = ok(&parts.mesh, &["status"]).await;
    for account in ["web", "frontend"] {
        let identity = format!("spiffe://cluster.local/ns/default/sa/{account}");
        assert!(table.contains(&identity), "{identity} is not in\n{table}");
    }
    let acked = table.lines().filter(|line| line.contains("spiffe://") && line.contains(" ACK ")).count();
    assert_eq!(acked, 3, "{table}");
    let status = json(&parts.mesh, &["status"]).await;
    let sidecars = status["sidecars"].as_array().unwrap();
    assert_eq!(sidecars.len(), 3);
    for sidecar in sidecars {
        assert_eq!((&sidecar["connected"], &sidecar["ack"]), (&Value::from(true), &Value::from("ACK")), "{sidecar}");
        assert_eq!(sidecar["revision"], status["controlPlane"]["revision"], "{sidecar}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn history_tells_what_changed_and_rollback_brings_it_back_into_force() {
    let parts = start(100, 0).await;
    parts.mesh.apply(&split(0, 100, "")).await;
    assert_eq!(parts.frontend.get(URI).await.unwrap().text(), "v2");
    let history = json(&parts.mesh, &["history"]).await;
    let revisions = history["revisions"].as_array().unwrap();
    assert!(revisions.len() >= 2 && revisions[0]["changes"].to_string().contains("HTTPRoute"), "{history}");

    let first = revisions.last().unwrap()["revision"].to_string();
    ok(&parts.mesh, &["rollback", &first, "--wait"]).await;
    for _ in 0..20 {
        assert_eq!(parts.frontend.get(URI).await.unwrap().text(), "v1", "after the rollback returned");
    }
    let after = json(&parts.mesh, &["history"]).await;
    // A rollback is a revision of its own: nothing is ever taken out of the log.
    assert_eq!(after["revisions"].as_array().unwrap().len(), revisions.len() + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn get_gives_back_what_was_applied_and_delete_takes_it_away() {
    let parts = start(100, 0).await;
    let route = json(&parts.mesh, &["get", "httproute", "web"]).await;
    assert_eq!(route["spec"]["rules"][0]["backendRefs"][0]["weight"], 100, "{route}");
    let workloads = ok(&parts.mesh, &["get", "workloads"]).await;
    assert_eq!(workloads.matches("web-").count(), 2, "{workloads}");

    let file = parts.mesh.dir().join("route.yaml");
    let yaml = ok(&parts.mesh, &["get", "httproute", "web", "-o", "yaml"]).await;
    std::fs::write(&file, yaml).unwrap();
    let again = ok(&parts.mesh, &["apply", "--wait", "-f", file.to_str().unwrap()]).await;
    assert!(again.contains("unchanged"), "what get gives cannot be applied as it is: {again}");
    ok(&parts.mesh, &["delete", "--wait", "-f", file.to_str().unwrap()]).await;
    let gone = parts.mesh.leno(&["get", "httproute", "web"]).await;
    assert!(!gone.status.success(), "{}", text(&gone));
    // Without the route the Service's own workloads answer, both versions.
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..40 {
        seen.insert(parts.frontend.get(URI).await.unwrap().text());
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["v1", "v2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn apply_wait_does_not_return_before_a_paused_sidecar_has_the_change() {
    let mut parts = start(100, 0).await;
    parts.frontend.process().pause();
    let file = parts.mesh.dir().join("route.yaml");
    std::fs::write(&file, split(0, 100, "")).unwrap();
    let file = file.to_str().unwrap();
    let start = Instant::now();
    let output = parts.mesh.leno(&["apply", "--wait", "--timeout", "2s", "-f", file]).await;
    assert!(start.elapsed() >= Duration::from_secs(2), "it returned after {:?}", start.elapsed());
    assert!(!output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("default/frontend"), "the late sidecar is not named: {}", text(&output));
    parts.frontend.process().resume();
    // The change is in force all the same, as soon as the sidecar wakes up.
    wait::eventually("the woken sidecar follows", wait::DEADLINE, async || {
        (parts.frontend.get(URI).await.ok()?.text() == "v2").then_some(())
    })
    .await;
    ok(&parts.mesh, &["apply", "--wait", "-f", file]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nack_is_printed_with_the_sidecar_and_its_reason_and_stays_in_status() {
    let parts = start(100, 0).await;
    let token = parts.mesh.control_plane.api().token("default", "critic", 60).await.unwrap();
    let light = light::join(parts.mesh.control_plane.xds(), "cluster.local", "critic", &token).await.unwrap();
    let registration = Registration::local("critic", "default", "critic", 1);
    let mut stream = light.stream(&registration).await.unwrap();
    stream.subscribe(HttpRoute::TYPE_URL, &["HTTPRoute/default/web"]).await.unwrap();
    let first = stream.next().await.unwrap();
    stream.ack(&first).await.unwrap();
    let critic = tokio::spawn(async move {
        while let Ok(answer) = stream.next().await {
            stream.nack(&answer, "weights of this kind are not to my taste").await.unwrap();
        }
    });
    let output = parts.mesh.apply_output(&split(50, 50, "")).await;
    assert!(!output.status.success(), "{}", text(&output));
    for words in ["default/critic", "not to my taste"] {
        assert!(text(&output).contains(words), "no {words:?} in: {}", text(&output));
    }
    let status = ok(&parts.mesh, &["status"]).await;
    assert!(status.contains("NACK") && status.contains("not to my taste"), "{status}");
    assert_eq!(parts.mesh.control_plane.metrics().await.sum("leno_xds_nacks_total", &[]), 1.0);
    critic.abort();
}
