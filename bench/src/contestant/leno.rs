//! Leno itself: a real control plane, join tokens, and two sidecars with one worker each.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Contestant, Place, text};
use crate::metrics;
use crate::process::Running;

/// The service that the load asks for.
pub const HOST: &str = "web";

const CONFIG: &str = "\
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: http, appProtocol: http}]
---
apiVersion: v1
kind: Service
metadata: {name: plain, namespace: default}
spec:
  selector: {app: web}
  ports: [{name: tcp, port: 7000, targetPort: http, appProtocol: tcp}]
";
/// As many as one file of a configuration folder is given.
const OBJECTS_A_FILE: usize = 1_000;
/// The same app as bytes.
const PLAIN: &str = "plain:7000";

/// The pair of the programs in `bin`, with these objects besides the service.
pub fn leno(place: &Place<'_>, bin: &Path, name: &'static str, more: &str) -> Result<Contestant> {
    Ok(leno_with(place, bin, name, more, &[])?.0)
}

/// The same pair, both of which get these arguments besides, and their admin ports.
pub fn leno_with(
    place: &Place<'_>,
    bin: &Path,
    name: &'static str,
    more: &str,
    both: &[&str],
) -> Result<(Contestant, Vec<SocketAddr>)> {
    let pair = pair(place, bin, name, &format!("{CONFIG}---\n{more}"), both)?;
    Ok((pair.contestant, pair.admins))
}

/// The same pair, before an app that speaks HTTP/2.
pub fn leno_http2(place: &Place<'_>, bin: &Path, name: &'static str) -> Result<Contestant> {
    let config = CONFIG.replace("appProtocol: http}", "appProtocol: kubernetes.io/h2c}");
    Ok(pair(place, bin, name, &config, &[])?.contestant)
}

/// The same pair, loaded where connections are carried as bytes, each in one of its own between the ends.
pub fn leno_tcp(place: &Place<'_>, bin: &Path, name: &'static str) -> Result<Contestant> {
    let pair = pair(place, bin, name, CONFIG, &[])?;
    Ok(Contestant { target: pair.bytes, ..pair.contestant })
}

/// What is known of a pair.
struct Pair {
    contestant: Contestant,
    /// Where it takes bytes.
    bytes: SocketAddr,
    admins: Vec<SocketAddr>,
}

/// The pair of a mesh with these objects.
fn pair(place: &Place<'_>, bin: &Path, name: &'static str, objects: &str, both: &[&str]) -> Result<Pair> {
    let mesh = Mesh::start(place.dir, place.load_core, bin, objects)?;
    let backend = format!("http={}", place.backend);
    let at = place.proxy_core;
    let inbound = mesh.sidecar(at, HOST, HOST, &mesh.token(HOST)?, &[&["--port", &backend], both].concat())?;
    let bytes = format!("{PLAIN}=127.0.0.1:0");
    let args = [&["--upstream", &bytes], both].concat();
    let outbound = mesh.sidecar(at, "frontend", "frontend", &mesh.token("frontend")?, &args)?;
    let (target, bytes) = (outbound.address("http_proxy")?, outbound.upstream()?);
    let admins = vec![outbound.address("admin")?, inbound.address("admin")?];
    let pair = vec![outbound.running, inbound.running];
    let contestant = Contestant { name, target, pair, _others: vec![mesh.plane] };
    Ok(Pair { contestant, bytes, admins })
}

/// A control plane, for sidecars.
pub struct Mesh {
    plane: Running,
    /// What it said when it was ready.
    ready: String,
    xds: SocketAddr,
    context: PathBuf,
    bin: PathBuf,
    dir: PathBuf,
}

/// A sidecar that is ready.
pub struct Sidecar {
    pub running: Running,
    /// What it said then.
    ready: String,
}

impl Mesh {
    /// On this core, of the programs in `bin`, with these objects, which are parted by `---`.
    pub fn start(dir: &Path, core: usize, bin: &Path, objects: &str) -> Result<Self> {
        let (config, state) = (dir.join("config"), dir.join("control-plane"));
        std::fs::create_dir(&config)?;
        // A file has a bound.
        let objects: Vec<&str> = objects.split("---\n").collect();
        for (n, some) in objects.chunks(OBJECTS_A_FILE).enumerate() {
            std::fs::write(config.join(format!("{n:03}.yaml")), some.join("---\n"))?;
        }
        let ports = ["xds", "api", "admin"].map(|port| (port, "127.0.0.1:0".to_owned()));
        let (plane, ready) = plane(dir, core, bin, &ports)?;
        let xds = address(&ready, "xds")?;
        Ok(Self { plane, ready, xds, context: state.join("admin.yaml"), bin: bin.to_owned(), dir: dir.to_owned() })
    }

    /// The same, of which sidecars are told that its control plane is elsewhere.
    pub fn reached_at(self, xds: SocketAddr) -> Self {
        Self { xds, ..self }
    }

    /// Kills the control plane, and starts it again where it was.
    pub fn restarted(mut self, core: usize) -> Result<Self> {
        let ports = ["xds", "api", "admin"].map(|port| (port, address(&self.ready, port).map(|at| at.to_string())));
        let ports = ports.map(|(port, at)| (port, at.unwrap_or_default()));
        self.plane.kill();
        (self.plane, self.ready) = plane(&self.dir, core, &self.bin, &ports)?;
        Ok(self)
    }

    /// The administrator's context.
    pub fn context(&self) -> &Path {
        &self.context
    }

    /// Where sidecars reach it.
    pub fn xds(&self) -> SocketAddr {
        self.xds
    }

    /// The sum of a metric's series.
    pub fn metric(&self, name: &str) -> Result<f64> {
        metrics::sum(address(&self.ready, "admin")?, name)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.plane.pid()
    }

    /// A join token.
    pub fn token(&self, account: &str) -> Result<String> {
        let output = Command::new(self.bin.join("leno"))
            .args(["token", "create", "--service-account", account, "-o", "json", "--context"])
            .arg(&self.context)
            .output()
            .context("run leno token create")?;
        ensure!(output.status.success(), "leno token create: {}", String::from_utf8_lossy(&output.stderr));
        let answer: Value = serde_json::from_slice(&output.stdout).context("the answer of leno token create")?;
        answer["token"].as_str().map(str::to_owned).context("a token")
    }

    /// A sidecar of `service`, whose state is kept under `name`.
    pub fn sidecar(&self, core: usize, service: &str, name: &str, token: &str, more: &[&str]) -> Result<Sidecar> {
        let (program, state) = (self.bin.join("leno-proxy"), self.state_of(name));
        let args = self.arguments(service, &state, token, more);
        let mut running = Running::start_sidecar(&format!("leno-{name}"), core, &program, &args, &self.dir, &state)?;
        let ready = running.first_line()?;
        Ok(Sidecar { running, ready })
    }

    /// One that is started by another program, which is given with its own arguments.
    pub fn sidecar_under(
        &self,
        under: &[String],
        core: usize,
        service: &str,
        token: &str,
        more: &[&str],
    ) -> Result<Sidecar> {
        let (program, own) = under.split_first().context("a program")?;
        let sidecar = arguments(&[&text(&self.bin.join("leno-proxy"))]);
        let args = [own, &sidecar, &self.arguments(service, &self.state_of(service), token, more)].concat();
        let mut running = Running::start(&format!("leno-{service}"), core, Path::new(program), &args, &self.dir)?;
        let ready = running.first_line()?;
        Ok(Sidecar { running, ready })
    }

    /// Where a sidecar keeps its state.
    pub fn state_of(&self, name: &str) -> PathBuf {
        self.dir.join(format!("leno-{name}"))
    }

    fn arguments(&self, service: &str, state: &Path, token: &str, more: &[&str]) -> Vec<String> {
        let mut args = arguments(&["--control-plane", &self.xds.to_string(), "--token", token, "--service", service]);
        args.extend(arguments(&["--service-account", service, "--state-dir", &text(state)]));
        args.extend(arguments(&["--mesh-addr", "127.0.0.1:0", "--http-proxy-addr", "127.0.0.1:0"]));
        args.extend(arguments(&["--admin-addr", "127.0.0.1:0", "--workers", "1", "--output", "json"]));
        args.extend(arguments(more));
        args
    }
}

/// A control plane on these ports, of the folders that are there, and what it says when it is ready.
fn plane(dir: &Path, core: usize, bin: &Path, ports: &[(&str, String)]) -> Result<(Running, String)> {
    let (config, state) = (text(&dir.join("config")), text(&dir.join("control-plane")));
    let mut args = arguments(&["--config-dir", &config, "--state-dir", &state, "--output", "json"]);
    args.extend(ports.iter().flat_map(|(port, at)| [format!("--{port}-addr"), at.clone()]));
    let mut plane = Running::start("leno-control-plane", core, &bin.join("leno-control-plane"), &args, dir)?;
    let ready = plane.first_line()?;
    Ok((plane, ready))
}

impl Sidecar {
    /// Where it has bound one of its ports.
    pub fn address(&self, port: &str) -> Result<SocketAddr> {
        address(&self.ready, port)
    }

    fn upstream(&self) -> Result<SocketAddr> {
        upstream(&self.ready)
    }
}

fn arguments(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}

fn address(ready: &str, name: &str) -> Result<SocketAddr> {
    let value: Value = serde_json::from_str(ready).with_context(|| format!("the ready line {ready}"))?;
    value[name].as_str().and_then(|addr| addr.parse().ok()).with_context(|| format!("{name} in {ready}"))
}

fn upstream(ready: &str) -> Result<SocketAddr> {
    let value: Value = serde_json::from_str(ready).with_context(|| format!("the ready line {ready}"))?;
    value["upstreams"][PLAIN].as_str().and_then(|addr| addr.parse().ok()).with_context(|| format!("{PLAIN} in {ready}"))
}
