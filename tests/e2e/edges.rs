//! Who calls whom is seen in the control plane, and becomes the policy that allows just that.

use std::time::Duration;

use http::Method;
use leno_proto::v1::EdgeReport;
use leno_proto::v1::reports_client::ReportsClient;
use leno_tests::mesh::service;
use leno_tests::{HttpApp, Mesh, Sidecar, client, light, wait};
use serde_json::Value;

/// Sidecars tell every 5 s.
const SOON: Duration = Duration::from_secs(30);

async fn status(sidecar: &Sidecar, method: Method, uri: &str) -> u16 {
    client::send(sidecar.http_proxy(), client::request(method, uri, &[], "")).await.unwrap().status
}

/// The edge of this caller at `web`, once it is as it should be.
async fn edge(mesh: &Mesh, caller: &str, is: impl Fn(&Value) -> bool) -> Value {
    wait::eventually(&format!("an edge of {caller}"), SOON, async || {
        let answer = mesh.control_plane.api().get("/v1/edges").await.ok()?;
        let own = |edge: &&Value| edge["source"].as_str().is_some_and(|id| id.ends_with(&format!("/sa/{caller}")));
        answer["edges"].as_array()?.iter().find(|edge| own(edge) && is(edge)).cloned()
    })
    .await
}

fn paths(edge: &Value) -> Vec<String> {
    let seen = edge["paths"].as_array().unwrap().iter();
    seen.map(|seen| format!("{} {}", seen["method"].as_str().unwrap(), seen["path"].as_str().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_observed_becomes_a_policy_that_lets_just_that_in() {
    let mut mesh = Mesh::start().await;
    let app = HttpApp::start("web").await;
    mesh.apply(&service("web", "app: web", 80, "http")).await;
    let _web = mesh.sidecar("web", "web").await.port("http", app.addr()).start().await;
    let friend = mesh.sidecar("friend", "friend").await.start().await;
    let other = mesh.sidecar("other", "other").await.start().await;
    mesh.reachable(&friend, "http://web/").await;
    mesh.reachable(&other, "http://web/health").await;
    let asked = [
        (Method::GET, "http://web/orders/17?x=1"),
        (Method::GET, "http://web/orders/18/lines"),
        (Method::POST, "http://web/orders/4711"),
        (Method::GET, "http://web/api/v1/users"),
    ];
    for (method, uri) in &asked {
        assert_eq!(status(&friend, method.clone(), uri).await, 200, "{uri}");
    }
    let expected = ["GET /", "GET /api/v1/users", "GET /orders/*", "POST /orders/*"];
    let seen = edge(&mesh, "friend", |edge| edge["paths"].as_array().is_some_and(|paths| paths.len() == 4)).await;
    assert_eq!(paths(&seen), expected);
    assert!(seen["requests"].as_u64().unwrap() >= 5 && seen["mtls"] == true && seen["failures"] == 0, "{seen}");
    assert!(seen["p99Ms"].as_f64().is_some() && seen["destination"]["services"][0] == "default/web", "{seen}");
    edge(&mesh, "other", |edge| paths(edge) == ["GET /health"]).await;
    let table = String::from_utf8(mesh.leno(&["edges"]).await.stdout).unwrap();
    assert!(table.lines().any(|line| line.starts_with("default/friend ") && line.contains("default/web")), "{table}");

    // A control plane that begins anew hears of it again.
    mesh.control_plane.kill();
    mesh.control_plane.start_again().await;
    mesh.connected(3).await;
    edge(&mesh, "friend", |edge| paths(edge) == expected).await;
    edge(&mesh, "other", |edge| paths(edge) == ["GET /health"]).await;

    let suggested = mesh.leno(&["policy", "suggest", "--for", "web"]).await;
    let policy = String::from_utf8(suggested.stdout.clone()).unwrap();
    assert!(suggested.status.success(), "{suggested:?}");
    mesh.apply(&policy).await;
    for (method, uri) in &asked {
        assert_eq!(status(&friend, method.clone(), uri).await, 200, "{uri}\n{policy}");
    }
    assert_eq!(status(&other, Method::GET, "http://web/health").await, 200);
    for (sidecar, method, uri) in [
        (&friend, Method::DELETE, "http://web/orders/17"),
        (&friend, Method::GET, "http://web/health"),
        (&friend, Method::POST, "http://web/api/v1/users"),
        (&other, Method::GET, "http://web/orders/17"),
    ] {
        assert_eq!(status(sidecar, method.clone(), uri).await, 403, "{method} {uri}\n{policy}");
    }
    // What is refused is no evidence for what should be allowed.
    edge(&mesh, "other", |edge| edge["failures"].as_u64().is_some_and(|n| n > 0)).await;
    let again = String::from_utf8(mesh.leno(&["policy", "suggest", "--for", "web"]).await.stdout).unwrap();
    assert!(!again.contains("DELETE"), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_of_somebody_elses_workload_is_not_taken() {
    let mesh = Mesh::start().await;
    let app = HttpApp::start("web").await;
    mesh.apply(&service("web", "app: web", 80, "http")).await;
    let web = mesh.sidecar("web", "web").await.port("http", app.addr()).args(&["--name", "web"]);
    let _web = web.start().await;
    let api = mesh.control_plane.api();
    let xds = mesh.control_plane.xds();
    for (account, taken) in [("web", true), ("stranger", false)] {
        let token = api.token("default", account, 60).await.unwrap();
        let light = light::join(xds, "cluster.local", account, &token).await.unwrap();
        for workload in ["web", "nobody"] {
            let report = EdgeReport { workload: workload.to_owned(), ..EdgeReport::default() };
            let answer = ReportsClient::new(light.channel().await.unwrap()).report(report).await;
            assert_eq!(answer.is_ok(), taken && workload == "web", "{account} for {workload}: {answer:?}");
        }
    }
}

/// A terminal for a command: it is shown what it draws, and typed what it is told.
const TERMINAL: &str = "import os, pty, sys, time, select
pid, fd = pty.fork()
if pid == 0:
    os.environ['TERM'] = 'xterm'
    os.execvp(sys.argv[3], sys.argv[3:])
import fcntl, termios, struct
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 120, 0, 0))
wanted, end, seen = sys.argv[1].encode(), time.time() + float(sys.argv[2]), b''
while time.time() < end and wanted not in seen:
    if select.select([fd], [], [], 0.2)[0]:
        try: seen += os.read(fd, 65536)
        except OSError: break
os.write(fd, b'q')
while True:
    try:
        if not os.read(fd, 65536): break
    except OSError: break
_, status = os.waitpid(pid, 0)
sys.exit(os.waitstatus_to_exitcode(status) if wanted in seen else 99)
";

#[tokio::test(flavor = "multi_thread")]
async fn top_shows_what_each_version_of_a_service_does_live_and_once() {
    let mesh = Mesh::start().await;
    mesh.apply(&service("web", "app: web", 80, "http")).await;
    let app = HttpApp::start("v2").await;
    let _web = mesh.sidecar("web", "web").await.label("version", "v2").port("http", app.addr()).start().await;
    let caller = mesh.sidecar("caller", "caller").await.start().await;
    mesh.reachable(&caller, "http://web/").await;
    let load = leno_tests::Load::new(caller.http_proxy(), "http://web/").clients(1).start();
    let row = wait::eventually("the service is shown", SOON, async || {
        let out = mesh.leno(&["top", "-o", "json"]).await;
        let answer: Value = serde_json::from_slice(&out.stdout).ok()?;
        let row = answer["services"].as_array()?.iter().find(|row| row["service"] == "web")?.clone();
        (row["requests"].as_u64()? > 10).then_some(row)
    })
    .await;
    assert_eq!((&row["version"], &row["success"], &row["mtls"]), (&"v2".into(), &1.0.into(), &1.0.into()), "{row}");
    assert!(row["p99Ms"].as_f64().unwrap() > 0.0, "{row}");
    let table = String::from_utf8(mesh.leno(&["top", "--once"]).await.stdout).unwrap();
    assert!(table.contains("SERVICE") && table.contains("100.0%"), "{table}");
    // In a terminal it goes on until somebody leaves, and the rate is that of the last seconds.
    let mut command = std::process::Command::new("python3");
    command.args(["-c", TERMINAL, "100.0%", "30"]).arg(leno_tests::binaries::leno()).arg("top");
    command.env("LENO_CONTEXT", mesh.control_plane.context());
    let status = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert_eq!(status.status.code(), Some(0), "{}", String::from_utf8_lossy(&status.stderr));
    drop(load.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn top_shows_each_rule_of_a_route_and_how_often_callers_try_again() {
    let mesh = Mesh::start().await;
    let app = HttpApp::start("v1").await;
    mesh.apply(&service("web", "app: web", 80, "http")).await;
    let route = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: shop, namespace: default}\nspec:\n  \
                 parentRefs: [{kind: Service, group: \"\", name: web, port: 80}]\n  rules:\n  - name: checkout\n    \
                 matches: [{path: {type: PathPrefix, value: /checkout}}]\n    retry: {attempts: 2, codes: [503]}\n    \
                 backendRefs: [{name: web, port: 80}]\n  - name: rest\n    backendRefs: [{name: web, port: 80}]\n";
    mesh.apply(route).await;
    let _web = mesh.sidecar("web", "web").await.port("http", app.addr()).start().await;
    let caller = mesh.sidecar("caller", "caller").await.start().await;
    mesh.reachable(&caller, "http://web/").await;
    app.set(leno_tests::Behaviour::Status(503));
    let load = leno_tests::Load::new(caller.http_proxy(), "http://web/checkout/1").clients(1).start();
    let answer = wait::eventually("the rule and its retries are shown", SOON, async || {
        let out = mesh.leno(&["top", "--routes", "-o", "json"]).await;
        let answer: Value = serde_json::from_slice(&out.stdout).ok()?;
        let rule = answer["routes"].as_array()?.iter().find(|row| row["rule"] == "checkout")?;
        (rule["failures"].as_u64()? > 5 && rule["retries"].as_u64()? > 5).then_some(answer)
    })
    .await;
    let rule = answer["routes"].as_array().unwrap().iter().find(|row| row["rule"] == "checkout").unwrap();
    assert_eq!(
        (&rule["namespace"], &rule["route"], &rule["success"]),
        (&"default".into(), &"HTTPRoute/shop".into(), &0.0.into())
    );
    assert!(rule["p99Ms"].as_f64().unwrap() > 0.0, "{rule}");
    let web = answer["services"].as_array().unwrap().iter().find(|row| row["service"] == "web").unwrap();
    assert!(web["retries"].as_u64().unwrap() > 5, "{web}");
    let table = String::from_utf8(mesh.leno(&["top", "--routes", "--once"]).await.stdout).unwrap();
    assert!(table.contains("RETRIES") && table.contains("checkout"), "{table}");
    let _ = load.stop().await;
}
