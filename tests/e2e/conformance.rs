//! What the Gateway API's conformance suite asks of a mesh, asked of real sidecars: an app `echo` in two versions, callers that
//! name a Service, and HTTPRoutes and GRPCRoutes that are attached to it.

mod grpc;
mod invalid;
mod matching;
mod redirects;
mod rewrites;
mod services;
mod timeouts;
mod tls;

use bytes::Bytes;
use http::Method;
use leno_tests::app::Seen;
use leno_tests::{HttpApp, Mesh, Reply, Sidecar, client};

/// The mesh that the cases are tried in. Each version answers with its name.
pub struct Stage {
    pub client: Sidecar,
    pub v1: HttpApp,
    pub v2: HttpApp,
    pub mesh: Mesh,
    _sidecars: [Sidecar; 2],
}

/// Headers of a request, or of what is expected.
pub type Headers<'a> = &'a [(&'a str, &'a str)];

fn service(name: &str, selector: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  selector: {{{selector}}}\n  ports:\n  \
         - {{name: http, port: 80, targetPort: http}}\n  - {{name: http-alt, port: 8080, targetPort: http}}\n  \
         - {{name: grpc, port: 7070, targetPort: http}}\n---\n"
    )
}

/// A route of `kind` called `name` to Service `parent`; `rules` is its list of rules, indented by two.
pub fn route(kind: &str, name: &str, parent: &str, rules: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  \
         parentRefs: [{{group: \"\", kind: Service, {parent}}}]\n  rules:\n{rules}---\n"
    )
}

impl Stage {
    /// Starts everything, with these objects in force.
    pub async fn start(yaml: &str) -> Self {
        let mesh = Mesh::start().await;
        let services = service("echo", "app: echo")
            + &service("echo-v1", "app: echo, version: v1")
            + &service("echo-v2", "app: echo, version: v2");
        mesh.apply(&services).await;
        let (v1, v2) = (HttpApp::start("echo-v1").await, HttpApp::start("echo-v2").await);
        let sidecar = async |version: &str, app: &HttpApp| {
            let builder = mesh.sidecar(&format!("echo-{version}"), "echo").await.label("version", version);
            builder.port("http", app.addr()).start().await
        };
        let sidecars = [sidecar("v1", &v1).await, sidecar("v2", &v2).await];
        let client = mesh.sidecar("client", "client").await.upstream("echo-v1:80").upstream("echo-v2:80").start().await;
        mesh.connected(3).await;
        for name in ["echo", "echo-v1", "echo-v2"] {
            mesh.reachable(&client, &format!("http://{name}/")).await;
        }
        if !yaml.is_empty() {
            mesh.apply(yaml).await;
        }
        Self { client, v1, v2, mesh, _sidecars: sidecars }
    }

    /// GET by HTTP/1.1.
    pub async fn get(&self, uri: &str, headers: Headers<'_>) -> Reply {
        self.ask(Method::GET, uri, headers).await
    }

    /// A request without a body by HTTP/1.1.
    pub async fn ask(&self, method: Method, uri: &str, headers: Headers<'_>) -> Reply {
        client::send(self.client.http_proxy(), client::request(method, uri, headers, Bytes::new())).await.unwrap()
    }

    /// The same by HTTP/2 with prior knowledge.
    pub async fn ask_http2(&self, method: Method, uri: &str, headers: Headers<'_>) -> Reply {
        client::send_http2(self.client.http_proxy(), client::request(method, uri, headers, Bytes::new())).await.unwrap()
    }

    /// GET by both; the answers must have the same status, and where an app answered it must be `app`. Gives what the apps saw.
    pub async fn both(&self, uri: &str, headers: Headers<'_>, status: u16, app: &str) -> Vec<Seen> {
        self.v1.forget();
        self.v2.forget();
        let replies = [self.get(uri, headers).await, self.ask_http2(Method::GET, uri, headers).await];
        for reply in replies {
            let by = if app.is_empty() { String::new() } else { reply.text() };
            assert_eq!((reply.status, by.as_str()), (status, app), "{uri} {headers:?}: {reply:?}");
        }
        let mut seen = self.v1.seen();
        seen.extend(self.v2.seen());
        seen
    }
}
