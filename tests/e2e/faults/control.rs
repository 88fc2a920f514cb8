//! Faults of the control plane and of what it is given.

use leno_proto::Registration;
use leno_proto::resource::Resource;
use leno_proto::v1::HttpRoute;
use leno_tests::light;
use leno_tests::mesh::{service, split, web_services};
use leno_tests::{Mesh, tools, wait};

use super::{Scene, check_finds};
use crate::disk::Disk;

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_is_gone_fails_no_request_and_is_named() {
    let mut scene = Scene::start().await;
    scene.mesh.control_plane.kill();
    wait::eventually("the sidecar notices", wait::DEADLINE, async || {
        (scene.caller.metrics().await.sum("leno_xds_connected", &[]) == 0.0).then_some(())
    })
    .await;
    assert_eq!(scene.ask("http://web/", &[]).await.status, 200);
    let out = scene.mesh.leno(&["check"]).await;
    let why = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(69), "{why}");
    assert!(why.contains("cannot reach the control plane") && why.contains("hint:"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_a_sidecar_refuses_is_named_with_its_reason() {
    let mesh = Mesh::start().await;
    mesh.apply(&(web_services() + &split(100, 0, ""))).await;
    let token = mesh.control_plane.api().token("default", "critic", 60).await.unwrap();
    let light = light::join(mesh.control_plane.xds(), "cluster.local", "critic", &token).await.unwrap();
    let mut stream = light.stream(&Registration::local("critic", "default", "critic", 1)).await.unwrap();
    stream.subscribe(HttpRoute::TYPE_URL, &["HTTPRoute/default/web"]).await.unwrap();
    let first = stream.next().await.unwrap();
    stream.nack(&first, "not to my taste").await.unwrap();
    check_finds(&mesh, "nack").await;
    let out = mesh.leno(&["check"]).await;
    let found = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(found.contains("not to my taste") && found.contains("default/critic"), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_control_plane_is_named_and_costs_no_request() {
    let dir = tempfile::TempDir::with_prefix("leno-test-").unwrap();
    let Some(disk) = Disk::mount(dir.path().join("state"), "12m") else {
        return tools::skip("a small file system cannot be mounted here");
    };
    let plane = leno_tests::ControlPlane::start(dir.path(), &[]).await;
    assert_eq!(plane.api().apply(&service("web", "app: web", 80, "http")).await.unwrap().0, 200);
    disk.fill();
    let mut command = std::process::Command::new(leno_tests::binaries::leno());
    command.env("LENO_CONTEXT", plane.context()).args(["check", "-o", "json"]);
    let out = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(String::from_utf8_lossy(&out.stdout).contains("disk_full"), "{out:?}");
    assert_eq!(out.status.code(), Some(1), "it is an error");
}
