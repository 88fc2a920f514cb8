//! A sidecar that intercepts a whole namespace, whether it makes the rules itself or finds them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::mesh::metrics;
use super::{Namespace, connect};
use crate::client::{self, Reply};
use crate::metrics::Metrics;
use crate::{Process, binaries};

/// The user and group that an intercepting sidecar becomes, whose own traffic is not intercepted.
pub const SIDECAR_UID: u32 = 15008;
/// The sidecar's admin port, on loopback in its namespace.
const ADMIN_PORT: u16 = 15000;

/// A `leno-proxy --intercept` in a namespace, with every port at its default. Started again it keeps its state folder.
pub struct Intercepting {
    unprivileged: bool,
    name: String,
    dir: PathBuf,
    host: Namespace,
    args: Vec<String>,
    process: Option<Process>,
}

impl Intercepting {
    pub(super) fn new(
        dir: &Path,
        name: &str,
        host: &Namespace,
        service: &str,
        control_plane: SocketAddr,
        token_file: &Path,
    ) -> Self {
        let state = dir.join(format!("{name}.state")).display().to_string();
        let (plane, token) = (control_plane.to_string(), token_file.display().to_string());
        let args = ["--control-plane", &plane, "--token-file", &token, "--service", service, "--state-dir", &state];
        let more = ["--workers", "1", "--output", "json"];
        let args = args.iter().chain(&more).map(|arg| (*arg).to_owned()).collect();
        let (name, dir, host) = (name.to_owned(), dir.to_owned(), host.clone());
        Self { unprivileged: false, name, dir, host, args, process: None }
    }

    /// Runs as in a pod: the rules are there already, and it has neither root nor any capability from the start.
    pub fn unprivileged(mut self) -> Self {
        self.unprivileged = true;
        let state = self.state_dir();
        std::fs::create_dir(&state).expect("a state folder");
        for file in [state, self.token_file()] {
            std::os::unix::fs::chown(file, Some(SIDECAR_UID), Some(SIDECAR_UID)).expect("a file of ours");
        }
        // The folder of the programs may be closed to other users.
        std::fs::copy(binaries::proxy(), self.own_program()).expect("a copy of the program");
        self
    }

    fn own_program(&self) -> PathBuf {
        self.dir.join(format!("{}.program", self.name))
    }

    /// The value of the argument `--name`.
    fn file(&self, name: &str) -> PathBuf {
        let at = self.args.iter().position(|arg| arg == name).expect("the argument");
        PathBuf::from(&self.args[at + 1])
    }

    /// Its state folder.
    pub fn state_dir(&self) -> PathBuf {
        self.file("--state-dir")
    }

    fn token_file(&self) -> PathBuf {
        self.file("--token-file")
    }

    /// Further arguments.
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// Starts it and waits until it serves.
    pub async fn start(mut self) -> Self {
        self.start_again().await;
        self
    }

    /// Starts it after it was stopped or killed, and waits until it serves.
    pub async fn start_again(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        let mut process = Process::spawn(&self.name, &mut self.command(), &self.dir);
        process.first_line().await;
        self.process = Some(process);
    }

    /// The command that starts it in its namespace.
    pub fn command(&self) -> Command {
        let mut command;
        if self.unprivileged {
            let id = SIDECAR_UID.to_string();
            command = self.host.command("setpriv");
            command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]);
            command.args(["--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]);
            command.arg(self.own_program()).arg("--transparent");
        } else {
            command = self.host.command(binaries::proxy());
            command.arg("--intercept");
        }
        command.args(&self.args);
        command
    }

    /// Its process; panics when it does not run.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the sidecar runs")
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        self.process.take().expect("the sidecar runs").kill();
    }

    /// Ends it with SIGTERM; it must exit 0.
    pub async fn stop(&mut self) {
        let mut process = self.process.take().expect("the sidecar runs");
        let status = process.terminate().await;
        assert!(status.success(), "{} ended with {status}\n{}", self.name, process.tail());
    }

    /// Everything that it and its earlier processes logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join(format!("{}.log", self.name))).unwrap_or_default()
    }

    /// Its metrics now.
    pub async fn metrics(&self) -> Metrics {
        metrics(&self.host, ADMIN_PORT).await
    }

    /// GET `path` from its admin port.
    pub async fn admin(&self, path: &str) -> Reply {
        let addr = SocketAddr::from(([127, 0, 0, 1], ADMIN_PORT));
        let stream = connect(&self.host, addr).await.expect("a connection to the admin port");
        client::get_over(stream, path).await.expect("an answer")
    }
}
