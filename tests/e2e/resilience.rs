//! Resilience that is safe by construction, each rule against a server that really fails: what the app saw, and what the client
//! saw.

mod breaker;
mod deadlines;
mod faults;
mod half_close;
mod hedging;
mod hops;
mod overload;
mod rates;
mod retries;
mod streaming;
mod upgrades;

use std::time::Duration;

use http::Method;
use leno_tests::mesh::service;
use leno_tests::raw::{READY, RawApp};
use leno_tests::wait::eventually;
use leno_tests::{Mesh, Reply, Sidecar, client};

/// Service `web` with an instance an app, and a frontend that calls it.
struct Web {
    mesh: Mesh,
    frontend: Sidecar,
    instances: Vec<Sidecar>,
}

impl Web {
    async fn start(apps: &[&RawApp], policies: &str) -> Self {
        let mesh = Mesh::start().await;
        mesh.apply(&format!("{}{policies}", service("web", "app: web", 80, "http"))).await;
        let mut instances = Vec::new();
        for (n, app) in apps.iter().enumerate() {
            let sidecar = mesh.sidecar(&format!("web-{n}"), "web").await.port("http", app.addr()).start().await;
            instances.push(sidecar);
        }
        let frontend = mesh.sidecar("frontend", "frontend").await.start().await;
        mesh.connected(apps.len() + 1).await;
        let web = Self { mesh, frontend, instances };
        eventually("every instance is reached", Duration::from_secs(30), async || {
            web.get(READY).await;
            apps.iter().all(|app| app.is_ready()).then_some(())
        })
        .await;
        web
    }

    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Reply {
        let body = if method == Method::POST { "a body" } else { "" };
        let request = client::request(method, &format!("http://web{path}"), headers, body);
        client::send(self.frontend.http_proxy(), request).await.unwrap()
    }

    async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, &[]).await
    }

    async fn post(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.send(Method::POST, path, headers).await
    }
}

/// A TrafficPolicy of Service `web`; `spec` is further fields in flow style or lines of two spaces.
fn policy(spec: &str) -> String {
    format!(
        "apiVersion: leno.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: web, namespace: default}}\nspec:\n  \
         targetRefs: [{{group: \"\", kind: Service, name: web}}]\n{spec}\n---\n"
    )
}

/// A TrafficPolicy of the rule `rule` of HTTPRoute `web`.
fn rule_policy(rule: &str, spec: &str) -> String {
    format!(
        "apiVersion: leno.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: web-{rule}, namespace: default}}\nspec:\n  \
         targetRefs: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, name: web, sectionName: {rule}}}]\n{spec}\n---\n"
    )
}

/// HTTPRoute `web` with a rule `said` for the path prefix /said, which has `more`, and a rule `other`.
fn route(more: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: web, namespace: default}}\nspec:\n  \
         parentRefs: [{{kind: Service, group: \"\", name: web, port: 80}}]\n  rules:\n  - name: said\n    \
         matches: [{{path: {{type: PathPrefix, value: /said}}}}]\n    backendRefs: [{{name: web, port: 80}}]\n{more}  \
         - name: other\n    backendRefs: [{{name: web, port: 80}}]\n---\n"
    )
}

fn field<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
    reply.headers.get(name)?.to_str().ok()
}
