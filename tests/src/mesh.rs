//! A whole mesh in a temporary folder.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use tempfile::TempDir;

use crate::clock::{self, FakeClock};
use crate::{ControlPlane, HttpApp, Sidecar, SidecarBuilder, TcpEcho, binaries, wait};

/// A control plane, and the folder in which all parts of one test live.
pub struct Mesh {
    /// The control plane.
    pub control_plane: ControlPlane,
    // After the parts, so that it is removed when they have ended.
    dir: TempDir,
}

impl Mesh {
    /// A mesh whose configuration comes from the REST API only.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// A mesh whose control plane gets further arguments.
    pub async fn start_with(args: &[&str]) -> Self {
        let dir = TempDir::with_prefix("leno-test-").expect("a temporary folder");
        let control_plane = ControlPlane::start(dir.path(), args).await;
        Self { control_plane, dir }
    }

    /// A mesh of which every process goes by a clock that can be set. What the test itself asks of the API goes by the machine's.
    pub async fn start_with_clock(args: &[&str]) -> (Self, FakeClock) {
        let dir = TempDir::with_prefix("leno-test-").expect("a temporary folder");
        let clock = FakeClock::new(dir.path());
        let control_plane = ControlPlane::start(dir.path(), args).await;
        (Self { control_plane, dir }, clock)
    }

    /// A mesh with a watched configuration folder, [`config_dir`](Self::config_dir), that holds `files` at the start.
    pub async fn start_with_config(files: &[(&str, &str)]) -> Self {
        let dir = TempDir::with_prefix("leno-test-").expect("a temporary folder");
        let config = dir.path().join("config");
        std::fs::create_dir(&config).expect("a config folder");
        for (name, content) in files {
            std::fs::write(config.join(name), content).expect("a config file");
        }
        let config = config.to_str().expect("a path in UTF-8").to_owned();
        let control_plane = ControlPlane::start(dir.path(), &["--config-dir", &config]).await;
        Self { control_plane, dir }
    }

    /// The test's folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The watched configuration folder.
    pub fn config_dir(&self) -> PathBuf {
        self.dir.path().join("config")
    }

    /// A sidecar called `name` of `service`, with a fresh join token.
    pub async fn sidecar(&self, name: &str, service: &str) -> SidecarBuilder {
        let token = self.control_plane.api().token("default", service, 600).await.expect("a join token");
        SidecarBuilder::new(self.dir(), name, service, self.control_plane.xds()).token(&token)
    }

    /// Runs `leno` with the control plane's context.
    pub async fn leno(&self, args: &[&str]) -> Output {
        let mut command = Command::new(binaries::leno());
        clock::wear(&mut command, self.dir());
        command.env("LENO_CONTEXT", self.control_plane.context()).env("NO_COLOR", "1").args(args);
        tokio::task::spawn_blocking(move || command.output().expect("leno can be run")).await.expect("no panic")
    }

    /// Applies `yaml` with `leno apply --wait`; it must succeed.
    pub async fn apply(&self, yaml: &str) {
        let output = self.apply_output(yaml).await;
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "leno apply --wait: {}\n{text}\n{yaml}", output.status);
    }

    /// Applies `yaml` with `leno apply --wait`, whatever comes of it.
    pub async fn apply_output(&self, yaml: &str) -> Output {
        let file = tempfile::Builder::new().suffix(".yaml").tempfile_in(self.dir()).expect("a file");
        std::fs::write(file.path(), yaml).expect("a file");
        self.leno(&["apply", "--wait", "-f", file.path().to_str().expect("a path in UTF-8")]).await
    }

    /// Waits until `sidecar` answers 200 to GET `uri`: the mesh knows the way there.
    pub async fn reachable(&self, sidecar: &Sidecar, uri: &str) {
        let what = format!("a 200 for {uri}");
        wait::eventually(&what, wait::DEADLINE, || async {
            let reply = sidecar.get(uri).await.ok()?;
            (reply.status == 200).then_some(())
        })
        .await;
    }

    /// Waits until the control plane lists `n` connected sidecars.
    pub async fn connected(&self, n: usize) {
        wait::eventually(&format!("{n} sidecars are connected"), Duration::from_secs(60), || async {
            let sum = self.control_plane.metrics().await.sum("leno_sidecars_connected", &[]);
            (sum == n as f64).then_some(())
        })
        .await;
    }
}

/// A frontend's sidecar that reaches `web`, which speaks HTTP, and at a port of its own `store`, which echoes bytes.
pub struct Trio {
    /// The callers' sidecar; its upstream is `store:7000`.
    pub frontend: Sidecar,
    /// The web app's.
    pub web: Sidecar,
    /// The store's.
    pub store: Sidecar,
    /// What answers for `web`.
    pub app: HttpApp,
    /// What answers for `store`.
    pub echo: TcpEcho,
}

impl Trio {
    /// Starts them in a mesh, and waits until the frontend can reach `web`.
    pub async fn start(mesh: &Mesh) -> Self {
        let store = service("store", "app: store", 7000, "tcp").replace("port: 7000", "port: 7000, appProtocol: tcp");
        mesh.apply(&(service("web", "app: web", 80, "http") + &store)).await;
        let (app, echo) = (HttpApp::start("web").await, TcpEcho::start().await);
        let web = mesh.sidecar("web", "web").await.port("http", app.addr()).start().await;
        let store = mesh.sidecar("store", "store").await.port("tcp", echo.addr()).start().await;
        let frontend = mesh.sidecar("frontend", "frontend").await.upstream("store:7000").start().await;
        mesh.connected(3).await;
        mesh.reachable(&frontend, "http://web/").await;
        Self { frontend, web, store, app, echo }
    }
}

/// A Service `name` whose port `port` leads to the target port `target` of the workloads with `selector` (`k: v, k: v`).
pub fn service(name: &str, selector: &str, port: u16, target: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  selector: {{{selector}}}\n  \
         ports: [{{name: {target}, port: {port}, targetPort: {target}}}]\n---\n"
    )
}

/// The HTTPRoute `web` that splits port 80 of Service `web` over `web-v1` and `web-v2`; `more` goes into its rule.
pub fn split(v1: u32, v2: u32, more: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: web, namespace: default}}\nspec:\n  \
         parentRefs: [{{kind: Service, group: \"\", name: web, port: 80}}]\n  rules:\n  - backendRefs:\n    \
         - {{name: web-v1, port: 80, weight: {v1}}}\n    - {{name: web-v2, port: 80, weight: {v2}}}\n{more}---\n"
    )
}

/// The Services `web`, `web-v1` and `web-v2`.
pub fn web_services() -> String {
    service("web", "app: web", 80, "http")
        + &service("web-v1", "app: web, version: v1", 80, "http")
        + &service("web-v2", "app: web, version: v2", 80, "http")
}
