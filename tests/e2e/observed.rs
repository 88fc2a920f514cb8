//! What is written down of requests: traces, the access log, and taps.

mod logs;
mod many;
mod taps;
mod traces;

use std::path::PathBuf;

use leno_tests::mesh::service;
use leno_tests::{HttpApp, Mesh, Sidecar};
use serde_json::Value;

/// A caller and an app, each with its sidecar, and where their access logs are.
struct Pair {
    mesh: Mesh,
    frontend: Sidecar,
    web: Sidecar,
    app: HttpApp,
}

impl Pair {
    /// Both sidecars get these arguments, and a file for their access logs.
    async fn start(args: &[&str]) -> Self {
        let mesh = Mesh::start().await;
        mesh.apply(&service("web", "app: web", 80, "http")).await;
        let app = HttpApp::start("web").await;
        let log = |name: &str| mesh.dir().join(format!("{name}.access")).to_str().unwrap().to_owned();
        let web = mesh.sidecar("web", "web").await.port("http", app.addr());
        let web = web.args(args).args(&["--access-log-file", &log("web")]).start().await;
        let frontend = mesh.sidecar("frontend", "frontend").await;
        let frontend = frontend.args(args).args(&["--access-log-file", &log("frontend")]).start().await;
        mesh.connected(2).await;
        mesh.reachable(&frontend, "http://web/warm").await;
        Self { mesh, frontend, web, app }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.mesh.dir().join(format!("{name}.access"))
    }

    /// The whole lines of an access log, of which those are left out that the start made.
    fn lines(&self, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.file(name)).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().filter(|line| !line.contains("/warm")).map(str::to_owned).collect()
    }

    fn json(&self, name: &str) -> Vec<Value> {
        let read = |line: String| serde_json::from_str(&line).unwrap_or_else(|why| panic!("{line}: {why}"));
        self.lines(name).into_iter().map(read).collect()
    }
}
