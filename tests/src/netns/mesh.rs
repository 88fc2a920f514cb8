//! A mesh over namespaces: a control plane in one of its own, and whatever hosts a test asks for.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use tempfile::TempDir;

use super::{Intercepting, MESH_PORT, Namespace, Network, XDS_PORT, connect};
use crate::capture::Capture;
use crate::metrics::Metrics;
use crate::{Process, binaries, client, wait};

/// The control plane's admin port, on loopback in its namespace.
const ADMIN_PORT: u16 = 15014;

/// A network with room for a control plane, and the folder in which all parts of one test live.
pub struct NetMesh {
    plane: Option<Process>,
    plane_host: Namespace,
    /// Where the hosts are.
    pub network: Network,
    // After the parts, so that it is removed when they have ended.
    dir: TempDir,
}

impl NetMesh {
    /// A network whose control plane does not run yet: apps reach each other directly.
    pub fn without_plane() -> Self {
        let dir = TempDir::with_prefix("leno-netns-").expect("a temporary folder");
        // Sidecars and servers that are not root pass through it to what is theirs.
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o711)).expect("a folder of ours");
        let mut network = Network::new().expect("a network");
        let plane_host = network.host("plane").expect("a namespace");
        Self { plane: None, plane_host, network, dir }
    }

    /// A network with a control plane.
    pub async fn start() -> Self {
        let mut mesh = Self::without_plane();
        mesh.start_plane().await;
        mesh
    }

    /// Another host.
    pub fn host(&mut self, name: &str) -> Namespace {
        self.network.host(name).expect("a namespace")
    }

    /// The test's folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where sidecars connect.
    pub fn xds(&self) -> SocketAddr {
        SocketAddr::new(self.plane_host.v4().into(), XDS_PORT)
    }

    /// The control plane's state folder.
    fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// Starts the control plane, for the first time or again, and waits until it serves.
    pub async fn start_plane(&mut self) {
        assert!(self.plane.is_none(), "the control plane runs already");
        let mut command = self.plane_host.command(binaries::control_plane());
        command.arg("--state-dir").arg(self.state_dir());
        command.args(["--xds-addr", &self.xds().to_string(), "--output", "json"]);
        let mut process = Process::spawn("control-plane", &mut command, self.dir.path());
        process.first_line().await;
        self.plane = Some(process);
    }

    /// Kills the control plane with SIGKILL.
    pub fn kill_plane(&mut self) {
        self.plane.take().expect("the control plane runs").kill();
    }

    /// The control plane's metrics now.
    pub async fn plane_metrics(&self) -> Metrics {
        metrics(&self.plane_host, ADMIN_PORT).await
    }

    /// Runs `leno` beside the control plane, with its context.
    pub async fn leno(&self, args: &[&str]) -> Output {
        let mut command = self.plane_host.command(binaries::leno());
        command.env("LENO_CONTEXT", self.state_dir().join("admin.yaml")).env("NO_COLOR", "1").args(args);
        output(command).await
    }

    /// [`leno`](Self::leno) that must succeed; gives its standard output.
    pub async fn leno_ok(&self, args: &[&str]) -> String {
        succeeded(&format!("leno {args:?}"), self.leno(args).await)
    }

    /// Applies `yaml` with `leno apply --wait`; it must succeed.
    pub async fn apply(&self, yaml: &str) {
        let file = tempfile::Builder::new().suffix(".yaml").tempfile_in(self.dir()).expect("a file");
        std::fs::write(file.path(), yaml).expect("a file");
        self.leno_ok(&["apply", "--wait", "-f", file.path().to_str().expect("a path in UTF-8")]).await;
    }

    /// An intercepting sidecar of `service` in `host`, not started yet, with a join token of its own.
    pub async fn sidecar(&self, host: &Namespace, service: &str) -> Intercepting {
        let token = self.leno_ok(&["token", "create", "--service-account", service, "--ttl", "10m"]).await;
        let name = host.name().rsplit('-').next().unwrap_or("host").to_owned() + "-sidecar";
        let file = self.dir().join(format!("{name}.token"));
        // Readable by root only: the sidecar reads it before it gives up its user.
        std::fs::write(&file, token).expect("a file");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("a file of ours");
        Intercepting::new(self.dir(), &name, host, service, self.xds(), &file)
    }

    /// Captures every packet between the hosts from now on. Only the mesh port and the control plane's stream may be used. The
    /// latter is left out when it runs already, since every connection is to be seen from its beginning.
    pub async fn capture(&self) -> Capture {
        let without = if self.plane.is_some() { format!("not tcp port {XDS_PORT}") } else { String::new() };
        Capture::wire(self.dir(), self.network.bridge(), &without, &[MESH_PORT, XDS_PORT]).await
    }

    /// Waits until the control plane lists `n` connected sidecars.
    pub async fn connected(&self, n: usize) {
        wait::eventually(&format!("{n} sidecars are connected"), Duration::from_secs(60), || async {
            let sum = self.plane_metrics().await.sum("leno_sidecars_connected", &[]);
            (sum == n as f64).then_some(())
        })
        .await;
    }
}

/// The metrics page on port `admin` of loopback inside `host`.
pub async fn metrics(host: &Namespace, admin: u16) -> Metrics {
    let stream =
        connect(host, SocketAddr::from(([127, 0, 0, 1], admin))).await.expect("a connection to the admin port");
    let reply = client::get_over(stream, "/metrics").await.expect("a metrics page");
    assert_eq!(reply.status, 200, "{}", reply.text());
    Metrics::parse(&reply.text())
}

/// Runs a client to its end, away from the test's own threads.
pub async fn output(mut command: Command) -> Output {
    let run = move || command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    tokio::task::spawn_blocking(run).await.expect("no panic")
}

/// The standard output of a program that must have succeeded.
pub fn succeeded(what: &str, output: Output) -> String {
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{what}: {}\n{out}\n{error}", output.status);
    out.into_owned()
}
