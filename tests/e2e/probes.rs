//! Kubelet's probes, answered by the sidecar.

use leno_tests::mesh::service;
use leno_tests::{Behaviour, HttpApp, Mesh, client, peers};

#[tokio::test(flavor = "multi_thread")]
async fn kubelet_hears_from_the_sidecar_how_the_app_is() {
    let mesh = Mesh::start().await;
    mesh.apply(&service("web", "app: web", 80, "http")).await;
    let app = HttpApp::start("web").await;
    let health = peers::free_port();
    let probes = format!(
        r#"{{"web/liveness":{{"tcpSocket":{{"port":{port}}}}},"web/readiness":{{"httpGet":{{"path":"/healthz?full","port":{port}}}}}}}"#,
        port = app.addr().port()
    );
    let args = ["--probes", &probes, "--health-addr", &health.to_string()];
    let mut web = mesh.sidecar("web", "web").await.port("http", app.addr()).args(&args).start().await;
    let ask = async |path: &str| {
        let reply = client::get_direct(health, path).await.expect("an answer");
        (reply.status, reply.text())
    };
    assert_eq!(ask("/ready").await.0, 200);
    assert_eq!(ask("/probe/web/liveness").await.0, 200);
    assert_eq!(ask("/probe/web/readiness").await.0, 200);
    assert_eq!(app.seen().last().unwrap().path, "/healthz?full");

    app.set(Behaviour::Status(500));
    let (status, reason) = ask("/probe/web/readiness").await;
    assert!(status == 503 && reason.contains("was answered with 500"), "{status} {reason}");
    assert_eq!(ask("/probe/web/liveness").await.0, 200, "the port still takes connections");
    assert_eq!(ask("/probe/web/startup").await.0, 404);
    web.stop().await;
}
