//! A control plane as a process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::api::Api;
use crate::metrics::Metrics;
use crate::{Process, binaries};

/// A `leno-control-plane` with its own state folder. Started again it takes the same ports, so that its sidecars find it.
pub struct ControlPlane {
    process: Option<Process>,
    dir: PathBuf,
    args: Vec<String>,
    xds: SocketAddr,
    api: SocketAddr,
    admin: SocketAddr,
    federation: Option<SocketAddr>,
}

/// A port that the kernel chooses.
fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

impl ControlPlane {
    /// Starts one in `dir` with further `args`, and waits until it serves.
    pub async fn start(dir: &Path, args: &[&str]) -> Self {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let mut plane = Self {
            process: None,
            dir: dir.to_owned(),
            args,
            xds: any_port(),
            api: any_port(),
            admin: any_port(),
            federation: None,
        };
        plane.start_again().await;
        plane
    }

    /// Starts it after it was stopped or killed, and waits until it serves.
    pub async fn start_again(&mut self) {
        assert!(self.process.is_none(), "the control plane runs already");
        let mut process = Process::spawn("control-plane", &mut self.command(), &self.dir);
        let line = process.first_line().await;
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(ready["event"], "ready", "{line}");
        self.xds = address(&ready, "xds");
        self.api = address(&ready, "api");
        self.admin = address(&ready, "admin");
        self.federation = ready.get("federation").map(|_| address(&ready, "federation"));
        self.process = Some(process);
    }

    fn command(&self) -> Command {
        let mut command = Command::new(binaries::control_plane());
        command.arg("--state-dir").arg(self.state_dir());
        command.args(["--xds-addr", &self.xds.to_string(), "--api-addr", &self.api.to_string()]);
        command.args(["--admin-addr", &self.admin.to_string(), "--output", "json"]).args(&self.args);
        command
    }

    /// Where other meshes learn its roots; panics when it tells nobody.
    pub fn federation(&self) -> SocketAddr {
        self.federation.expect("it was started without --federation-addr")
    }

    /// Its process; panics when it does not run.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the control plane runs")
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        self.process.take().expect("the control plane runs").kill();
    }

    /// Ends it with SIGTERM; it must exit 0.
    pub async fn stop(&mut self) {
        let mut process = self.process.take().expect("the control plane runs");
        let status = process.terminate().await;
        assert!(status.success(), "the control plane ended with {status}\n{}", process.tail());
    }

    /// Everything that it and its earlier processes logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("control-plane.log")).unwrap_or_default()
    }

    /// Where sidecars connect.
    pub fn xds(&self) -> SocketAddr {
        self.xds
    }

    /// The REST API.
    pub fn api_addr(&self) -> SocketAddr {
        self.api
    }

    /// The admin port.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Its state folder.
    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// The context file that it wrote.
    pub fn context(&self) -> PathBuf {
        self.state_dir().join("admin.yaml")
    }

    /// The mesh's root certificates, PEM.
    pub fn roots(&self) -> String {
        let context = std::fs::read_to_string(self.context()).expect("the context that the control plane wrote");
        let context: Value = serde_yaml_ng::from_str(&context).expect("YAML");
        context["certificateAuthority"].as_str().expect("certificates").to_owned()
    }

    /// A client of its REST API.
    pub fn api(&self) -> Api {
        Api::from_context(&self.context()).expect("the context that the control plane wrote")
    }

    /// Its metrics now.
    pub async fn metrics(&self) -> Metrics {
        Metrics::fetch(self.admin).await
    }
}

/// Field `name` of a ready line as an address.
pub fn address(ready: &Value, name: &str) -> SocketAddr {
    let text = ready[name].as_str().unwrap_or_else(|| panic!("no {name} in {ready}"));
    text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}"))
}
