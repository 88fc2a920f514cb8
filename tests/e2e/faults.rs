//! Twenty faults, one by one: for each the reason is the right one in the answer, the metrics, the access log, the trace and `leno why`, or
//! `leno check` names the cause; and both say what mends it. `docs/troubleshooting.md` is printed from the table here.

mod control;
mod requests;
mod table;

use std::path::PathBuf;

use http::Method;
use leno_tests::client::{request, send};
use leno_tests::collector::Collector;
use leno_tests::mesh::service;
use leno_tests::{HttpApp, Mesh, Reply, Sidecar, SidecarBuilder, wait};
use serde_json::Value;

/// A caller whose requests are all written down everywhere, and an app.
struct Scene {
    mesh: Mesh,
    collector: Collector,
    caller: Sidecar,
    web: Sidecar,
    app: HttpApp,
}

fn log_of(mesh: &Mesh, name: &str) -> PathBuf {
    mesh.dir().join(format!("{name}.access"))
}

fn observed(mesh: &Mesh, collector: &Collector, name: &str, builder: SidecarBuilder) -> SidecarBuilder {
    let (url, log) = (collector.url(), log_of(mesh, name).to_str().unwrap().to_owned());
    let traces = ["--otlp-endpoint", &url, "--trace-percent", "100", "--traces-per-second", "10000"];
    builder.args(&traces).args(&["--access-log", "all", "--access-log-file", &log])
}

impl Scene {
    async fn start() -> Self {
        let (mesh, collector, app) = (Mesh::start().await, Collector::grpc().await, HttpApp::start("web").await);
        mesh.apply(&service("web", "app: web", 80, "http")).await;
        let web = mesh.sidecar("web", "web").await.port("http", app.addr());
        let web = observed(&mesh, &collector, "web", web).start().await;
        let caller = observed(&mesh, &collector, "caller", mesh.sidecar("caller", "caller").await).start().await;
        mesh.reachable(&caller, "http://web/").await;
        let scene = Self { mesh, collector, caller, web, app };
        scene.askable(2).await;
        scene
    }

    /// Until `leno why` can ask so many sidecars.
    async fn askable(&self, n: usize) {
        wait::eventually("sidecars can be asked", wait::DEADLINE, async || {
            let api = self.mesh.control_plane.api();
            let (_, answer) = api.call(Method::GET, "/v1/requests?id=0000000000000001", None).await.ok()?;
            (answer["answered"].as_u64()? >= n as u64).then_some(())
        })
        .await;
    }

    async fn ask(&self, uri: &str, headers: &[(&str, &str)]) -> Reply {
        send(self.caller.http_proxy(), request(Method::GET, uri, headers, "")).await.unwrap()
    }

    /// The first answer with this reason.
    async fn fails(&self, uri: &str, headers: &[(&str, &str)], reason: &str) -> Reply {
        wait::eventually(&format!("{uri} fails with {reason}"), wait::DEADLINE, async || {
            let reply = self.ask(uri, headers).await;
            (reply.reason() == Some(reason)).then_some(reply)
        })
        .await
    }

    /// The reason is the same wherever somebody looks.
    async fn on_every_surface(&self, reply: &Reply, reason: &str) {
        self.on_every_surface_of(&self.web, reply, reason).await;
    }

    /// Of a request that went to the app of another sidecar.
    async fn on_every_surface_of(&self, called: &Sidecar, reply: &Reply, reason: &str) {
        assert_eq!(reply.reason(), Some(reason), "the answer's header");
        let id = reply.headers["leno-request-id"].to_str().unwrap().to_owned();
        let counted =
            async |sidecar: &Sidecar| sidecar.metrics().await.sum("leno_failures_total", &[("reason", reason)]);
        assert!(counted(&self.caller).await + counted(called).await > 0.0, "{reason} in the metrics");
        self.written_down(&id, reason).await;
        let why = self.why(&id).await;
        assert!(why.contains(reason) && why.contains("What to do:"), "{why}");
    }

    async fn written_down(&self, id: &str, reason: &str) {
        wait::eventually(&format!("{reason} in the access log"), wait::DEADLINE, async || {
            let text = std::fs::read_to_string(log_of(&self.mesh, "caller")).unwrap_or_default();
            let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let of_it = |line: &Value| line["attributes"]["leno.request_id"] == id;
            lines.filter(of_it).any(|line| line["attributes"]["leno.reason"] == reason).then_some(())
        })
        .await;
        wait::eventually(&format!("{reason} in the trace"), wait::DEADLINE, async || {
            let spans = self.collector.spans();
            let is = |attribute: &str, value: &str| {
                spans.iter().any(|of| of.attribute("leno.request_id") == id && of.attribute(attribute) == value)
            };
            (is("leno.reason", reason) && is("error.type", reason)).then_some(())
        })
        .await;
    }

    async fn why(&self, id: &str) -> String {
        wait::eventually("somebody remembers it", wait::DEADLINE, async || {
            let out = self.mesh.leno(&["why", id]).await;
            out.status.success().then(|| String::from_utf8_lossy(&out.stdout).into_owned())
        })
        .await
    }

    /// `leno check` finds it, and says what mends it.
    async fn check_finds(&self, code: &str) {
        check_finds(&self.mesh, code).await;
    }
}

async fn check_finds(mesh: &Mesh, code: &str) {
    wait::eventually(&format!("leno check finds {code}"), wait::DEADLINE, async || {
        let out = mesh.leno(&["check", "-o", "json"]).await;
        let found: Value = serde_json::from_slice(&out.stdout).ok()?;
        let one = found["findings"].as_array()?.iter().find(|finding| finding["code"] == code)?.clone();
        (!one["mend"].as_str()?.is_empty()).then_some(())
    })
    .await;
}

fn route(name: &str, of: &str, rule: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  \
         parentRefs: [{{kind: Service, group: \"\", name: {of}, port: 80}}]\n  rules: [{{{rule}}}]\n---\n"
    )
}

fn policy(of: &str, spec: &str) -> String {
    format!(
        "apiVersion: leno.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: {of}, namespace: default}}\nspec:\n  \
         targetRefs: [{{group: \"\", kind: Service, name: {of}}}]\n  {spec}\n---\n"
    )
}
