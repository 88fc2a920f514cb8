//! A compose project in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::{Compose, Docker, text, until};
use crate::{binaries, tools};

/// A project. Whatever becomes of its test, its containers, networks and volumes are gone when it is dropped.
pub struct Project<'a> {
    docker: &'a Docker,
    compose: Compose,
    dir: TempDir,
    name: String,
    /// Where the control plane's API is published on the host.
    api_port: u16,
}

/// A container of a project.
#[derive(Debug, Clone)]
pub struct Container {
    pub id: String,
    /// The compose service that it is of.
    pub service: String,
    /// Its first process, as the host sees it; 0 when it does not run.
    pub pid: u32,
    pub running: bool,
    /// `healthy`, `starting`, `unhealthy`, or nothing when it has no health check.
    pub health: String,
    /// How often the engine has started it again.
    pub restarts: u64,
}

impl<'a> Project<'a> {
    /// A project whose folder holds a copy of `folder`.
    pub fn of_folder(docker: &'a Docker, compose: &Compose, folder: &Path) -> Self {
        let project = Self::empty(docker, compose);
        copy(folder, project.dir());
        project
    }

    /// A project whose folder holds this compose file.
    pub fn of_text(docker: &'a Docker, compose: &Compose, compose_file: &str) -> Self {
        let project = Self::empty(docker, compose);
        std::fs::write(project.file(), compose_file).expect("a compose file");
        project
    }

    fn empty(docker: &'a Docker, compose: &Compose) -> Self {
        let dir = TempDir::with_prefix("leno-compose-").expect("a temporary folder");
        // Unique on the machine, and in the letters that Compose takes.
        let name = format!("leno{}{:x}", std::process::id(), fastrand::u32(..));
        Self { docker, compose: compose.clone(), dir, name, api_port: free_port() }
    }

    /// A port of the host that nobody has now.
    pub fn free_port(&self) -> u16 {
        free_port()
    }

    /// The project's folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its compose file.
    pub fn file(&self) -> PathBuf {
        self.dir().join("docker-compose.yml")
    }

    /// The network that its services are in.
    pub fn network(&self) -> String {
        format!("{}_default", self.name)
    }

    /// Runs Compose, which must succeed.
    pub fn compose(&self, args: &[&str]) -> String {
        text(&format!("docker-compose {} {}", self.compose.version, args.join(" ")), self.compose_output(args))
    }

    /// Runs Compose, whatever comes of it.
    pub fn compose_output(&self, args: &[&str]) -> Output {
        let mut command = self.docker.command(&self.compose.program);
        command.args(["--project-name", &self.name]).args(args).current_dir(self.dir());
        command.env("LENO_API_PORT", self.api_port.to_string());
        command.output().unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"))
    }

    /// `leno ARGS` in the project's folder, which must succeed.
    pub fn leno(&self, args: &[&str]) -> String {
        text(&format!("leno {}", args.join(" ")), self.leno_output(args))
    }

    /// `leno ARGS` in the project's folder, with the context of the project's control plane.
    pub fn leno_output(&self, args: &[&str]) -> Output {
        let mut command = Command::new(binaries::leno());
        command.args(args).current_dir(self.dir()).env("NO_COLOR", "1");
        command.env("LENO_CONTEXT", ".leno/control-plane/admin.yaml");
        command.output().unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"))
    }

    /// Its containers, also those that do not run.
    pub fn containers(&self) -> Vec<Container> {
        let label = format!("label=com.docker.compose.project={}", self.name);
        let ids = self.docker.run(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &label]);
        let ids: Vec<&str> = ids.split_whitespace().collect();
        if ids.is_empty() {
            return Vec::new();
        }
        let args = [&["container", "inspect"][..], &ids].concat();
        // One that was removed in between is only missing from the answer.
        let output = self.docker.output(&args);
        let inspected: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        inspected.as_array().map(|all| all.iter().map(container).collect()).unwrap_or_default()
    }

    /// The container of a service.
    pub fn container(&self, service: &str) -> Container {
        let found = self.containers().into_iter().find(|container| container.service == service);
        found.unwrap_or_else(|| panic!("{service} has no container\n{}", self.state()))
    }

    /// Kills a container as a power cut would.
    pub fn kill(&self, container: &Container) {
        self.docker.run(&["kill", &container.id]);
    }

    /// What the container of a service has printed since `since`, a time as Docker reads it; empty: ever.
    pub fn log(&self, service: &str, since: &str) -> String {
        let id = self.container(service).id;
        let args = if since.is_empty() { vec!["logs", &id] } else { vec!["logs", "--since", since, &id] };
        let output = self.docker.output(&args);
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat()
    }

    /// Waits until every container runs and none is unhealthy or starting.
    pub fn settled(&self, deadline: Duration) {
        let well = |c: &Container| c.running && matches!(c.health.as_str(), "" | "healthy");
        let all = || {
            let containers = self.containers();
            (!containers.is_empty() && containers.iter().all(well)).then_some(())
        };
        until("every container runs and is healthy", deadline, all, || self.state());
    }

    /// One GET by a container of its own, with the arguments of `docker run` that say where.
    pub fn get_by(&self, args: &[&str], url: &str) -> Output {
        let get = [&["run", "--rm"][..], args, &["leno", "demo-app", "get", url]].concat();
        self.docker.output(&get)
    }

    /// One GET by the app of a service, as its users' code would do it.
    pub fn get_in(&self, service: &str, url: &str) -> Output {
        self.docker.output(&["exec", &self.container(service).id, "/leno", "demo-app", "get", url])
    }

    /// What is known of it, for whoever reads why a test failed.
    pub fn state(&self) -> String {
        let mut state = String::new();
        for container in self.containers() {
            let Container { service, running, health, restarts, .. } = &container;
            state.push_str(&format!("{service}: running={running} health={health:?} restarts={restarts}\n"));
            let output = self.docker.output(&["logs", "--tail", "15", &container.id]);
            let log = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
            state.extend(log.lines().map(|line| format!("    {line}\n")));
        }
        state
    }

    /// Ends it, and looks that nothing of it is left in the engine.
    pub fn down(&self) {
        self.compose(&["down", "--timeout", "20"]);
        assert_eq!(self.left(), Vec::<String>::new(), "docker-compose down left something behind");
    }

    /// What the engine has of this project.
    fn left(&self) -> Vec<String> {
        let label = format!("label=com.docker.compose.project={}", self.name);
        let list = |kind: &[&str]| {
            let listed = self.docker.run(&[kind, &["--quiet", "--filter", &label]].concat());
            listed.split_whitespace().map(|id| format!("{} {id}", kind.join(" "))).collect::<Vec<_>>()
        };
        [list(&["ps", "--all"]), list(&["network", "ls"]), list(&["volume", "ls"])].concat()
    }
}

impl Drop for Project<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tools::note(&self.state());
        }
        let _ = self.compose_output(&["down", "--volumes", "--remove-orphans", "--timeout", "1"]);
    }
}

fn container(inspected: &Value) -> Container {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let state = &inspected["State"];
    Container {
        id: text(&inspected["Id"]),
        service: text(&inspected["Config"]["Labels"]["com.docker.compose.service"]),
        pid: state["Pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).unwrap_or_default(),
        running: state["Running"].as_bool().unwrap_or_default(),
        health: text(&state["Health"]["Status"]),
        restarts: inspected["RestartCount"].as_u64().unwrap_or_default(),
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    listener.expect("a free port").port()
}

/// Copies a folder with what is in it.
fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())) {
        let entry = entry.expect("an entry");
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            std::fs::create_dir_all(&target).expect("a folder");
            copy(&source, &target);
        } else {
            std::fs::copy(&source, &target).expect("a copy");
        }
    }
}
