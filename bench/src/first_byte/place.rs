//! Where it is measured: four hosts on one wire, two of them with intercepting sidecars, and a control plane.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::network::{Namespace, Network};
use crate::process::{Running, find};

/// Where the greeter listens: a port whose protocol nobody could guess.
const PORT: u16 = 4321;
/// How long the mesh may take until the first greeting comes through.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the measurement is set up with.
pub struct Setup<'a> {
    /// The folder of the programs.
    pub bin: &'a Path,
    /// The core of the sidecars.
    pub proxy_core: usize,
    /// The core of everything else.
    pub load_core: usize,
    /// How long every frame is kept on the wire, if at all.
    pub delay: Option<Duration>,
}

/// A client and the server that it reaches: one way to measure.
pub struct Way {
    client: Namespace,
    target: SocketAddr,
}

/// The hosts and all that runs in them.
pub struct Place {
    /// Directly, and through the sidecars.
    pub ways: [Way; 2],
    load_core: usize,
    // In the order in which they end.
    _running: Vec<Running>,
    _network: Network,
    _dir: tempfile::TempDir,
}

impl Place {
    /// Sets everything up, and waits until the server is reached through the sidecars.
    pub fn new(setup: &Setup<'_>) -> Result<Self> {
        let dir = tempfile::TempDir::with_prefix("leno-bench-")?;
        // The sidecars are not root when they open their state folders.
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o711))?;
        let mut network = Network::new()?;
        let mut builder = Builder { setup, dir: dir.path(), running: Vec::new() };
        let hosts = ["plane", "client", "server", "mclient", "mserver"].map(|name| network.host(name));
        let [plane, client, server, meshed_client, meshed_server] = hosts;
        let (plane, meshed_client, meshed_server) = (plane?, meshed_client?, meshed_server?);
        if let Some(delay) = setup.delay {
            builder.delay(network.bridge(), delay)?;
        }
        let direct = Way { client: client?, target: builder.greeter(&server?)? };
        let through = Way { target: builder.greeter(&meshed_server)?, client: meshed_client };
        let context = builder.control_plane(&plane)?;
        builder.sidecar(&plane, &context, &meshed_server, "greeter")?;
        builder.sidecar(&plane, &context, &through.client, "client")?;
        let running = builder.running;
        let place = Self {
            ways: [direct, through],
            load_core: setup.load_core,
            _running: running,
            _network: network,
            _dir: dir,
        };
        let start = Instant::now();
        while let Err(error) = place.measure(&place.ways[1], 5) {
            ensure!(start.elapsed() < PATIENCE, "no greeting comes through the mesh: {error:#}");
        }
        Ok(place)
    }

    /// Connects `count` times by `way`; gives the sorted microseconds until the first byte.
    pub fn measure(&self, way: &Way, count: u32) -> Result<Vec<u64>> {
        let mut command = Command::new("taskset");
        command.args(["-c", &self.load_core.to_string()]).args(inside(&way.client, &std::env::current_exe()?));
        command.args(["wait-for-greeting", "--target", &way.target.to_string(), "--count", &count.to_string()]);
        let text = succeeded(&mut command)?;
        let mut times = text.lines().map(|line| line.parse().context("microseconds")).collect::<Result<Vec<u64>>>()?;
        ensure!(times.len() == count as usize, "{} of {count} greetings came", times.len());
        times.sort_unstable();
        Ok(times)
    }
}

struct Builder<'a> {
    setup: &'a Setup<'a>,
    dir: &'a Path,
    running: Vec<Running>,
}

impl Builder<'_> {
    /// Starts `program` in `host`; gives its first line.
    fn start(&mut self, name: &str, core: usize, host: &Namespace, program: &Path, args: &[&str]) -> Result<String> {
        let ip = find("ip").context("ip is not installed; install iproute2")?;
        let mut all = inside(host, program).split_off(1);
        all.extend(args.iter().map(|arg| (*arg).to_owned()));
        let mut running = Running::start(name, core, &ip, &all, self.dir)?;
        let line = running.first_line();
        self.running.push(running);
        line
    }

    /// Puts a hub that keeps every frame for `delay` in the bridge's place.
    fn delay(&mut self, bridge: &Namespace, delay: Duration) -> Result<()> {
        let script = self.dir.join("cable.py");
        std::fs::write(&script, include_str!("cable.py"))?;
        let ports: Vec<String> = (2..=6).map(|port| format!("v{port}")).collect();
        bridge.ip(&ports.iter().map(|port| format!("link set {port} nomaster\n")).collect::<String>())?;
        let python = find("python3").context("python3 is not installed")?;
        let delay = delay.as_millis().to_string();
        let mut args = vec![script.to_str().context("a path in UTF-8")?, &delay];
        args.extend(ports.iter().map(String::as_str));
        self.start("cable", self.setup.load_core, bridge, &python, &args)?;
        Ok(())
    }

    fn greeter(&mut self, host: &Namespace) -> Result<SocketAddr> {
        let listen = SocketAddr::new(host.v4().into(), PORT);
        let me = std::env::current_exe()?;
        let args = ["greet", "--listen", &format!("0.0.0.0:{PORT}")];
        self.start(&format!("greeter-{listen}"), self.setup.load_core, host, &me, &args)?;
        Ok(listen)
    }

    /// Starts the control plane; gives the file with its credential.
    fn control_plane(&mut self, host: &Namespace) -> Result<PathBuf> {
        let (state, xds) = (self.dir.join("control-plane"), xds(host));
        let args = ["--state-dir", text(&state)?, "--xds-addr", &xds];
        let program = self.setup.bin.join("leno-control-plane");
        self.start("control-plane", self.setup.load_core, host, &program, &args)?;
        Ok(state.join("admin.yaml"))
    }

    fn sidecar(&mut self, plane: &Namespace, context: &Path, host: &Namespace, service: &str) -> Result<()> {
        let mut create = plane.command(self.setup.bin.join("leno"));
        create.args(["token", "create", "--service-account", service, "-o", "json", "--context"]).arg(context);
        let answer: Value = serde_json::from_str(&succeeded(&mut create)?).context("leno token create")?;
        let token = answer["token"].as_str().context("a token")?;
        let (state, xds) = (self.dir.join(service), xds(plane));
        let args = ["--control-plane", &xds, "--token", token, "--service", service, "--state-dir", text(&state)?];
        let program = self.setup.bin.join("leno-proxy");
        let args = [&args[..], &["--workers", "1", "--intercept"]].concat();
        self.start(&format!("leno-{service}"), self.setup.proxy_core, host, &program, &args)?;
        Ok(())
    }
}

/// Where the control plane in `host` is reached.
fn xds(host: &Namespace) -> String {
    format!("{}:15010", host.v4())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path in UTF-8")
}

/// The words that run `program` inside `host`.
fn inside(host: &Namespace, program: &Path) -> Vec<String> {
    let command = host.command(program);
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect()
}

fn succeeded(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
