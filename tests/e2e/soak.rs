//! Under churn no request fails and memory stays flat: endpoints join and leave all the time, routes change, traffic goes on.

use std::time::{Duration, Instant};

use http::Method;
use leno_tests::mesh::service;
use leno_tests::{HttpApp, Load, Mesh, tools};

/// How long it goes on when `LENO_SOAK` (`10m`, `90s`) does not say.
const TIME: Duration = Duration::from_secs(60);
/// Between two changes of endpoints.
const CHURN: Duration = Duration::from_millis(100);
/// Instances of the app, of which some are always there.
const APPS: usize = 6;
/// What a program may grow by after the first fifth of the time. Caches are full by then.
const GROWTH: u64 = 24 << 20;

fn instance(n: usize, app: &HttpApp) -> String {
    format!(
        "apiVersion: leno.dev/v1alpha1\nkind: Workload\nmetadata: {{name: web-{n}, namespace: default, labels: {{app: web}}}}\n\
         spec: {{address: 127.0.0.1, ports: {{http: {}}}}}\n---\n",
        app.addr().port()
    )
}

fn route(n: usize) -> String {
    let weight = n % 9 + 1;
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: web, namespace: default}}\nspec:\n  \
         parentRefs: [{{kind: Service, group: \"\", name: web, port: 80}}]\n  rules:\n  \
         - matches: [{{path: {{type: PathPrefix, value: /v{n}}}}}]\n    backendRefs: [{{name: web, port: 80}}]\n  \
         - backendRefs: [{{name: web, port: 80, weight: {weight}}}, {{name: meshed, port: 80, weight: {}}}]\n---\n",
        10 - weight
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_and_memory_stays_flat_while_everything_changes() {
    let mut mesh = Mesh::start().await;
    let mut apps = Vec::new();
    for n in 0..APPS {
        apps.push(HttpApp::start(&format!("web-{n}")).await);
    }
    let (first, second) = (HttpApp::start("meshed-1").await, HttpApp::start("meshed-2").await);
    mesh.apply(&(service("web", "app: web", 80, "http") + &service("meshed", "app: meshed", 80, "http"))).await;
    mesh.apply(&(instance(0, &apps[0]) + &route(0))).await;
    let mut meshed = mesh.sidecar("meshed-1", "meshed").await.port("http", first.addr()).start().await;
    let mut comes_and_goes = mesh.sidecar("meshed-2", "meshed").await.port("http", second.addr()).start().await;
    let mut frontend = mesh.sidecar("frontend", "frontend").await.start().await;
    mesh.connected(3).await;
    mesh.reachable(&frontend, "http://web/").await;
    mesh.reachable(&frontend, "http://meshed/").await;

    let (proxy, time, start) = (frontend.http_proxy(), tools::soak_time(TIME), Instant::now());
    let pause = Duration::from_millis(4);
    let loads = [
        Load::new(proxy, "http://web/").clients(4).pause(pause).start(),
        Load::new(proxy, "http://web/").clients(2).post(1000).pause(pause).start(),
        Load::new(proxy, "http://meshed/").clients(2).pause(pause).start(),
    ];
    let api = mesh.control_plane.api();
    let (mut changes, mut restarts, mut early) = ([0usize; 2], 0, None);
    let mut ticks = tokio::time::interval(CHURN);
    while start.elapsed() < time {
        ticks.tick().await;
        let n = changes[0] % (APPS - 1) + 1;
        // In turns: all but the first come, then all of those go.
        let comes = (changes[0] / (APPS - 1)).is_multiple_of(2);
        let (status, answer) = if comes {
            api.apply(&instance(n, &apps[n])).await.unwrap()
        } else {
            api.call(Method::DELETE, &format!("/v1/objects/Workload/default/web-{n}"), None).await.unwrap()
        };
        assert!((200..300).contains(&status), "{status} {answer}");
        changes[0] += 1;
        if start.elapsed().as_secs() as usize > changes[1] {
            changes[1] += 1;
            let (status, answer) = api.apply(&route(changes[1])).await.unwrap();
            assert!((200..300).contains(&status), "{status} {answer}");
        }
        // A sidecar that ends in good order and comes back.
        if start.elapsed().as_secs() as usize / 15 > restarts {
            restarts += 1;
            comes_and_goes.stop().await;
            comes_and_goes.start_again().await;
        }
        if early.is_none() && start.elapsed() > time / 5 {
            early = Some(memory([mesh.control_plane.process(), frontend.process(), meshed.process()]));
        }
    }
    let late = memory([mesh.control_plane.process(), frontend.process(), meshed.process()]);
    let early = early.unwrap();
    let (mut total, mut slowest) = (0, Duration::ZERO);
    for load in loads {
        let report = load.stop().await;
        report.assert_no_failure();
        (total, slowest) = (total + report.total(), slowest.max(report.slowest()));
    }
    let mb = |memory: [u64; 3]| memory.map(|bytes| format!("{:.1}", bytes as f64 / 1e6)).join(", ");
    tools::note(&format!(
        "FIGURE soak: {total} requests in {:.0} s, none failed, slowest {slowest:?}; {} changes of endpoints, {} of routes, \
         {restarts} restarts of a sidecar; MB of control plane, frontend and app's sidecar {} after a fifth, {} at the end",
        start.elapsed().as_secs_f64(),
        changes[0],
        changes[1],
        mb(early),
        mb(late)
    ));
    for (early, late) in early.iter().zip(late) {
        assert!(late < early + GROWTH, "memory grew from {early} to {late} bytes");
    }
}

fn memory(processes: [&mut leno_tests::Process; 3]) -> [u64; 3] {
    processes.map(|process| process.memory())
}
