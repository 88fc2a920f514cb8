//! Everything that changes trust, one after the other, under requests, a gRPC stream, and connections of bytes.

use std::time::{Duration, Instant};

use leno_tests::mesh::{Trio, service};
use leno_tests::peers::{Server, grpc_script};
use leno_tests::{Mesh, Process, tools, wait};

use super::import::Own;
use super::{Traffic, leno, ping};

/// How long it goes on, at least one round: `LENO_SOAK`, as `5m`; without it one.
fn time() -> Duration {
    tools::soak_time(Duration::ZERO)
}

/// Whoever is `frontend` may call everything here, and `third` too until that is said otherwise.
fn allowed(accounts: &str) -> String {
    format!(
        "apiVersion: leno.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {{name: callers, namespace: default}}\nspec:\n  \
         targetRefs: [{{group: \"\", kind: Namespace, name: default}}]\n  action: ALLOW\n  rules:\n  - from: [{{serviceAccounts: [{accounts}]}}]\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn renewals_a_policy_a_rotation_an_import_and_a_revocation_harm_nobody_who_stays_allowed() {
    if !tools::python_has("grpc") {
        return tools::skip("the Python module grpc is not installed");
    }
    let mesh = Mesh::start_with(&["--leaf-ttl", "10s"]).await;
    let trio = Trio::start(&mesh).await;
    let server = Server::grpc(mesh.dir()).await;
    mesh.apply(
        &service("greeter", "app: greeter", 50051, "grpc")
            .replace("port: 50051", "port: 50051, appProtocol: kubernetes.io/h2c"),
    )
    .await;
    let _greeter = mesh.sidecar("greeter", "greeter").await.port("grpc", server.addr).start().await;
    let third = mesh.sidecar("third", "third").await.args(&["--name", "third-1"]).upstream("store:7000").start().await;
    mesh.connected(5).await;
    mesh.reachable(&third, "http://web/").await;

    let traffic = Traffic::start(&trio.frontend).await;
    let over = mesh.dir().join("over");
    let mut command = std::process::Command::new("python3");
    let proxy = trio.frontend.http_proxy().to_string();
    command.arg(grpc_script()).args(["talk", &proxy, "greeter:50051"]).arg(&over);
    let mut talk = Process::spawn("grpc-talk", &mut command, mesh.dir());

    let (begun, mut rounds) = (Instant::now(), 0);
    let renewals = async || trio.web.metrics().await.sum("leno_certificate_renewals_total", &[("result", "ok")]);
    loop {
        let before = renewals().await;
        wait::eventually("leaves are renewed twice", wait::DEADLINE * 2, async || {
            (renewals().await >= before + 2.0).then_some(())
        })
        .await;
        mesh.apply(&allowed(["default/frontend, default/third", "default/third, default/frontend"][rounds % 2])).await;
        leno(&mesh, &["ca", "rotate"]).await;
        rounds += 1;
        if begun.elapsed() >= time() {
            break;
        }
    }
    let own = Own::make(mesh.dir(), "own");
    leno(&mesh, &["ca", "import", "--certificates", &own.path("chain.pem"), "--key", &own.path("mesh.key")]).await;
    let mut bytes = tokio::net::TcpStream::connect(third.upstream("store:7000")).await.unwrap();
    ping(&mut bytes).await.unwrap();
    leno(&mesh, &["revoke", "workload", "third-1"]).await;
    wait::eventually("the third party is out", wait::DEADLINE, async || {
        let reply = third.get("http://web/").await.ok()?;
        (reply.reason() == Some("revoked") && ping(&mut bytes).await.is_err()).then_some(())
    })
    .await;
    mesh.apply(&allowed("default/frontend")).await;

    traffic.unharmed().await;
    std::fs::write(&over, "").unwrap();
    assert!(talk.wait(Duration::from_secs(20)).await.success(), "the gRPC stream broke: {}", talk.log());
    let answers: usize = talk.stdout().trim().parse().unwrap();
    assert!(answers > 500, "{answers}");
    tools::note(&format!(
        "FIGURE trust that changes under load: {:.0} s, {} renewals of one sidecar, {rounds} rotations, an import, a revocation; \
         no request, call or connection failed; {answers} answers on one gRPC stream",
        begun.elapsed().as_secs_f64(),
        renewals().await
    ));
}
