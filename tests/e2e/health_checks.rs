//! An app is checked by its own sidecar, and what that finds holds for every client of the mesh.

use leno_tests::mesh::service;
use leno_tests::peers::Server;
use leno_tests::{Behaviour, HttpApp, Mesh, Sidecar, tools, wait};

const URI: &str = "http://web/";

fn policy(check: &str) -> String {
    format!(
        "apiVersion: leno.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: web, namespace: default}}\nspec:\n  \
         targetRefs: [{{kind: Service, group: \"\", name: web}}]\n  \
         outlierDetection: {{consecutiveFailures: 1000000}}\n  healthCheck: {{{check}}}\n---\n"
    )
}

struct Web {
    clients: [Sidecar; 2],
    apps: Vec<HttpApp>,
    sidecars: Vec<Sidecar>,
    mesh: Mesh,
}

async fn web(check: &str) -> Web {
    let mesh = Mesh::start().await;
    mesh.apply(&(service("web", "app: web", 80, "http") + &policy(check))).await;
    let (mut apps, mut sidecars) = (Vec::new(), Vec::new());
    for i in 0..2 {
        let app = HttpApp::start(&i.to_string()).await;
        sidecars.push(mesh.sidecar(&format!("web-{i}"), "web").await.port("http", app.addr()).start().await);
        apps.push(app);
    }
    let clients = [mesh.sidecar("one", "one").await.start().await, mesh.sidecar("two", "two").await.start().await];
    mesh.connected(4).await;
    let web = Web { clients, apps, sidecars, mesh };
    web.answered_by(&["0", "1"]).await;
    web
}

impl Web {
    /// Waits until each client's requests are answered by all of these and by nobody else, without a failure.
    async fn answered_by(&self, apps: &[&str]) {
        for client in &self.clients {
            wait::eventually(&format!("only {apps:?} answer"), wait::DEADLINE, async || {
                let mut seen = std::collections::BTreeSet::new();
                for _ in 0..40 {
                    let reply = client.get(URI).await.ok()?;
                    (reply.status == 200).then_some(())?;
                    seen.insert(reply.text());
                }
                seen.iter().map(String::as_str).eq(apps.iter().copied()).then_some(())
            })
            .await;
        }
    }

    async fn healthy(&self, of: usize) -> f64 {
        self.sidecars[of].metrics().await.sum("leno_app_healthy", &[])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_fails_its_http_check_gets_nothing_from_anyone_until_it_passes_again() {
    let web = web("interval: 100ms, http: {path: '/healthz?deep', expectedStatuses: [200]}").await;
    // Only the app's own sidecar asks, and it asks what it was told to.
    let asked = |app: &HttpApp| app.seen().iter().filter(|seen| seen.path == "/healthz?deep").count();
    wait::until("both are checked", wait::DEADLINE, || web.apps.iter().all(|app| asked(app) > 3)).await;
    web.apps[0].set(Behaviour::Status(204));
    wait::eventually("its sidecar has seen it", wait::DEADLINE, async || (web.healthy(0).await == 0.0).then_some(()))
        .await;
    web.answered_by(&["1"]).await;
    web.apps[0].forget();
    for _ in 0..50 {
        assert_eq!(web.clients[0].get(URI).await.unwrap().text(), "1");
    }
    assert_eq!(web.apps[0].seen().iter().filter(|seen| seen.path == "/").count(), 0);
    assert_eq!(web.healthy(1).await, 1.0);
    web.apps[0].set(Behaviour::Answer);
    web.answered_by(&["0", "1"]).await;
    let checks = web.sidecars[0].metrics().await;
    assert!(checks.sum("leno_health_checks_total", &[("service", "default/web"), ("result", "failed")]) >= 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_takes_no_connections_is_out_by_its_tcp_check_and_a_check_that_is_taken_back_holds_nobody_out() {
    let mut web = web("interval: 100ms, tcp: {}").await;
    let gone = web.apps.remove(0).addr();
    web.answered_by(&["1"]).await;
    let what = format!("nobody listens on {gone}");
    wait::eventually(&what, wait::DEADLINE, async || (web.healthy(0).await == 0.0).then_some(())).await;
    web.mesh.leno(&["delete", "TrafficPolicy", "web"]).await;
    wait::eventually("it counts as healthy", wait::DEADLINE, async || (web.healthy(0).await == 1.0).then_some(()))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_checked_as_its_sidecars_command_line_says() {
    let mesh = Mesh::start().await;
    mesh.apply(&service("web", "app: web", 80, "http")).await;
    let app = HttpApp::start("web").await;
    app.set(Behaviour::Status(500));
    let check = format!("http://{}/healthz", app.addr());
    let web = mesh.sidecar("web", "web").await.port("http", app.addr()).args(&["--health-check", &check]).start().await;
    let client = mesh.sidecar("client", "client").await.start().await;
    out(&client).await;
    assert_eq!(web.metrics().await.sum("leno_app_healthy", &[]), 0.0);
    assert!(app.seen().iter().any(|seen| seen.path == "/healthz"));
    app.set(Behaviour::Answer);
    mesh.reachable(&client, URI).await;
}

/// grpcio's server and the check by a TrafficPolicy; what the server says of itself and of one service are two things.
#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_out_as_long_as_a_grpc_health_server_says_that_it_does_not_serve() {
    if !tools::python_has("grpc") {
        return tools::skip("Python has no module grpc");
    }
    const SERVING: u8 = 1;
    const NOT_SERVING: u8 = 2;
    let mesh = Mesh::start().await;
    let file = mesh.dir().join("health");
    let say = |shop: Option<u8>| {
        let shop = shop.map_or(String::new(), |status| format!("shop.Cart {status}\n"));
        // In one step, so that the server never reads half of it.
        let new = file.with_extension("new");
        std::fs::write(&new, format!("- {NOT_SERVING}\n{shop}")).unwrap();
        std::fs::rename(&new, &file).unwrap();
    };
    say(Some(SERVING));
    let health = Server::grpc_health(mesh.dir(), &file).await;
    let ports = "{name: http, port: 80, targetPort: http}, {name: health, port: 81, targetPort: health}";
    let web = service("web", "app: web", 80, "http").replace("{name: http, port: 80, targetPort: http}", ports);
    mesh.apply(&(web + &policy("interval: 100ms, port: 81, grpc: {service: shop.Cart}"))).await;
    let app = HttpApp::start("web").await;
    let builder = mesh.sidecar("web", "web").await.port("http", app.addr()).port("health", health.addr);
    let web = builder.start().await;
    let client = mesh.sidecar("client", "client").await.start().await;
    mesh.reachable(&client, URI).await;
    // It says that it does not serve; that it does not know the service; nothing any more.
    for gone in [Some(NOT_SERVING), None] {
        say(gone);
        out(&client).await;
        assert_eq!(web.metrics().await.sum("leno_app_healthy", &[]), 0.0);
        say(Some(SERVING));
        mesh.reachable(&client, URI).await;
    }
    drop(health);
    out(&client).await;
}

/// Waits until nobody serves.
async fn out(client: &Sidecar) {
    wait::eventually("nobody is sent there", wait::DEADLINE, async || {
        let reply = client.get(URI).await.ok()?;
        (reply.reason() == Some("no_endpoints")).then_some(())
    })
    .await;
}
