//! A sidecar as a process.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use serde_json::Value;

use crate::client::{self, Reply};
use crate::control_plane::address;
use crate::metrics::Metrics;
use crate::{Process, binaries};

/// What a sidecar is started with.
#[derive(Debug, Clone)]
pub struct SidecarBuilder {
    dir: PathBuf,
    name: String,
    service: String,
    service_account: String,
    control_plane: SocketAddr,
    token: String,
    token_file: Option<PathBuf>,
    labels: Vec<String>,
    ports: Vec<String>,
    upstreams: Vec<String>,
    more: Vec<String>,
}

impl SidecarBuilder {
    /// A sidecar called `name` (its log and state folder are in `dir`) of `service`.
    pub fn new(dir: &Path, name: &str, service: &str, control_plane: SocketAddr) -> Self {
        Self {
            dir: dir.to_owned(),
            name: name.to_owned(),
            service: service.to_owned(),
            service_account: service.to_owned(),
            control_plane,
            token: String::new(),
            token_file: None,
            labels: Vec::new(),
            ports: Vec::new(),
            upstreams: Vec::new(),
            more: Vec::new(),
        }
    }

    /// The service account, when it is not the service's name.
    pub fn service_account(mut self, name: &str) -> Self {
        name.clone_into(&mut self.service_account);
        self
    }

    /// The join token.
    pub fn token(mut self, token: &str) -> Self {
        token.clone_into(&mut self.token);
        self
    }

    /// A file with what it joins by, instead of a token.
    pub fn token_file(mut self, path: &Path) -> Self {
        self.token_file = Some(path.to_owned());
        self
    }

    /// Another label.
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.push(format!("{key}={value}"));
        self
    }

    /// A port of the local app.
    pub fn port(mut self, name: &str, app: SocketAddr) -> Self {
        self.ports.push(format!("{name}={app}"));
        self
    }

    /// A local port that leads to `target` (HOST:PORT).
    pub fn upstream(mut self, target: &str) -> Self {
        self.upstreams.push(target.to_owned());
        self
    }

    /// Further arguments as they are.
    pub fn args(mut self, args: &[&str]) -> Self {
        self.more.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// Its service account.
    pub fn account(&self) -> &str {
        &self.service_account
    }

    /// The command, with the given addresses for mesh, HTTP proxy and admin port and for each upstream.
    fn command(&self, at: &Bound) -> Command {
        let mut command = Command::new(binaries::proxy());
        command.args(["--control-plane", &self.control_plane.to_string()]);
        match &self.token_file {
            Some(file) => command.arg("--token-file").arg(file),
            None => command.args(["--token", &self.token]),
        };
        command.args(["--service", &self.service, "--service-account", &self.service_account]);
        command.args(["--mesh-addr", &at.mesh.to_string(), "--http-proxy-addr", &at.http_proxy.to_string()]);
        command.args(["--admin-addr", &at.admin.to_string(), "--output", "json"]);
        // One worker, unless the test says otherwise.
        if !self.more.iter().any(|arg| arg == "--workers") {
            command.args(["--workers", "1"]);
        }
        command.arg("--state-dir").arg(self.state_dir());
        for label in &self.labels {
            command.args(["--label", label]);
        }
        for port in &self.ports {
            command.args(["--port", port]);
        }
        for upstream in &self.upstreams {
            let listen = at.upstreams.get(upstream).copied().unwrap_or_else(any_port);
            command.args(["--upstream", &format!("{upstream}={listen}")]);
        }
        command.args(&self.more);
        command
    }

    /// Its state folder.
    pub fn state_dir(&self) -> PathBuf {
        self.dir.join(format!("{}.state", self.name))
    }

    /// Starts it without waiting, for a test of how it fails.
    pub fn spawn(self) -> Process {
        Process::spawn(&self.name, &mut self.command(&Bound::default()), &self.dir)
    }

    /// Starts it and waits until it serves.
    pub async fn start(self) -> Sidecar {
        let mut sidecar = Sidecar { builder: self, process: None, bound: Bound::default() };
        sidecar.start_again().await;
        sidecar
    }
}

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// What a sidecar has bound.
#[derive(Debug, Clone)]
struct Bound {
    mesh: SocketAddr,
    http_proxy: SocketAddr,
    admin: SocketAddr,
    upstreams: BTreeMap<String, SocketAddr>,
    gateway: BTreeMap<String, SocketAddr>,
}

impl Default for Bound {
    fn default() -> Self {
        Self {
            mesh: any_port(),
            http_proxy: any_port(),
            admin: any_port(),
            upstreams: BTreeMap::new(),
            gateway: BTreeMap::new(),
        }
    }
}

impl Bound {
    fn from_ready(line: &str) -> Self {
        let ready: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(ready["event"], "ready", "{line}");
        let places = |of: &str| {
            let places = ready[of].as_object().cloned().unwrap_or_default();
            places.keys().map(|key| (key.clone(), address(&ready[of], key))).collect()
        };
        Self {
            mesh: address(&ready, "mesh"),
            http_proxy: address(&ready, "http_proxy"),
            admin: address(&ready, "admin"),
            upstreams: places("upstreams"),
            gateway: places("gateway"),
        }
    }
}

/// A `leno-proxy`. Started again it takes the same ports and the same state folder.
pub struct Sidecar {
    builder: SidecarBuilder,
    process: Option<Process>,
    bound: Bound,
}

impl Sidecar {
    /// Starts it after it was stopped or killed, and waits until it serves.
    pub async fn start_again(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.builder.name);
        let mut command = self.builder.command(&self.bound);
        let mut process = Process::spawn(&self.builder.name, &mut command, &self.builder.dir);
        self.bound = Bound::from_ready(&process.first_line().await);
        self.process = Some(process);
    }

    /// Its process; panics when it does not run.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the sidecar runs")
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        self.process.take().expect("the sidecar runs").kill();
    }

    /// Waits until its snapshot on disk holds everything that is in force.
    pub async fn saved(&self) {
        crate::wait::eventually("the snapshot is saved", crate::wait::DEADLINE, async || {
            (self.metrics().await.sum("leno_snapshot_unsaved_changes", &[]) == 0.0).then_some(())
        })
        .await;
    }

    /// Ends it with SIGTERM; it must exit 0.
    pub async fn stop(&mut self) {
        let mut process = self.process.take().expect("the sidecar runs");
        let status = process.terminate().await;
        assert!(status.success(), "{} ended with {status}\n{}", self.builder.name, process.tail());
    }

    /// Everything that it and its earlier processes logged.
    pub fn log(&self) -> String {
        let file = self.builder.dir.join(format!("{}.log", self.builder.name));
        std::fs::read_to_string(file).unwrap_or_default()
    }

    /// The mesh port.
    pub fn mesh(&self) -> SocketAddr {
        self.bound.mesh
    }

    /// The HTTP proxy port.
    pub fn http_proxy(&self) -> SocketAddr {
        self.bound.http_proxy
    }

    /// The admin port.
    pub fn admin(&self) -> SocketAddr {
        self.bound.admin
    }

    /// The local port that leads to `target`.
    pub fn upstream(&self, target: &str) -> SocketAddr {
        *self.bound.upstreams.get(target).unwrap_or_else(|| panic!("no upstream {target} in {:?}", self.bound))
    }

    /// Where a port of the Gateway is served.
    pub fn gateway(&self, port: u16) -> SocketAddr {
        let place = self.bound.gateway.get(&port.to_string());
        *place.unwrap_or_else(|| panic!("no port {port} in {:?}", self.bound))
    }

    /// Its state folder.
    pub fn state_dir(&self) -> PathBuf {
        self.builder.state_dir()
    }

    /// Its metrics now.
    pub async fn metrics(&self) -> Metrics {
        Metrics::fetch(self.admin()).await
    }

    /// GET `uri` through its HTTP proxy port.
    pub async fn get(&self, uri: &str) -> Result<Reply> {
        client::get(self.http_proxy(), uri).await
    }
}
