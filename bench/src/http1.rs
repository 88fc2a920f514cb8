//! The kind `http1`: keep-alive connections, by default 64 with answers of 128 bytes, both proxies of a pair on one core, load and backend on
//! another. The figure is requests per second of the pair's processor time.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::contestant::{self, Carries, Contestant};
use crate::findings::Findings;
use crate::line_up::{Besides, LineUp, Run};
use crate::load::Generator;
use crate::process::Running;
use crate::progress::Progress;
use crate::report::{Report, Sample};

/// How long the load runs before anything is measured.
const WARM_UP: Duration = Duration::from_secs(1);
/// How long a contestant may take until it answers its first request.
const PATIENCE: Duration = Duration::from_secs(30);

/// How the kind `http1` is run.
#[derive(Debug, Args)]
pub struct Settings {
    #[command(flatten)]
    pub run: Run,
    /// Keep-alive connections; may be given again
    #[arg(long, default_values_t = [64], value_parser = clap::value_parser!(u32).range(1..=4096))]
    connections: Vec<u32>,
    /// Bytes of an answer; may be given again
    #[arg(long, default_values_t = [128], value_parser = clap::value_parser!(u32).range(0..=1 << 20))]
    bytes: Vec<u32>,
    /// A built program that is run as the floor: `BINARY in|out LISTEN UPSTREAM h2 CERT_DIR`
    #[arg(long, value_name = "BINARY")]
    floor: Option<PathBuf>,
    /// Exit 1 unless the pair does more requests per CPU second than HAProxy's (as it comes, HTTP/1.1 between the ends), and at
    /// least 0.65 of the floor's where that is given
    #[arg(long)]
    check: bool,
}

/// Measures every number of connections with every size of an answer.
pub fn run(settings: &Settings) -> Result<Findings> {
    let besides =
        Besides { direct: true, haproxy_h2: true, no_nginx: settings.check, floor: settings.floor.as_deref() };
    let cast = settings.run.cast(Carries::Http, besides)?;
    let mut findings = Findings::of("http1", cast.peers.clone());
    for bytes in &settings.bytes {
        let line_up = settings.run.line_up(&cast, *bytes)?;
        for connections in &settings.connections {
            let report = measure(&settings.run, &line_up, *connections, *bytes)?;
            report.found(&mut findings);
            if settings.check {
                findings.problems.extend(report.check());
            }
        }
    }
    Ok(findings)
}

fn measure(run: &Run, line_up: &LineUp, connections: u32, bytes: u32) -> Result<Report> {
    let generator = Generator::choose(run.turn);
    let mut report = Report::new(run.rounds, run.turn, (connections, bytes), generator.describe());
    let turn = Turn { core: run.load_core, connections: connections as usize, length: run.turn };
    let contestants = &line_up.contestants;
    for contestant in contestants {
        turn.warm_up(&generator, contestant)?;
    }
    let progress = Progress::of("http1", run.rounds as usize * contestants.len());
    for round in 0..run.rounds {
        // The first place moves on, so that none always follows the same one.
        for place in 0..contestants.len() {
            let contestant = &contestants[(place + round as usize) % contestants.len()];
            progress.begins(contestant.name);
            report.add(contestant.name, round, turn.measure(&generator, contestant)?);
            progress.step();
        }
    }
    Ok(report)
}

/// The server behind every contestant.
pub fn start_backend(core: usize, dir: &Path, more: &[String]) -> Result<(Running, SocketAddr)> {
    let args = [&["backend".to_owned()], more].concat();
    let mut running = Running::start("backend", core, &std::env::current_exe()?, &args, dir)?;
    let addr = running.first_line()?.trim().parse().context("the backend's address")?;
    Ok((running, addr))
}

/// How a contestant is loaded in its turn.
pub struct Turn {
    /// Of load and backend.
    pub core: usize,
    /// Keep-alive connections.
    pub connections: usize,
    /// How long it takes.
    pub length: Duration,
}

impl Turn {
    /// Waits until requests get through, then runs the load for a second.
    pub fn warm_up(&self, generator: &Generator, contestant: &Contestant) -> Result<()> {
        let start = Instant::now();
        loop {
            match generator.run(self.core, contestant.target, contestant::HOST, self.connections, WARM_UP) {
                Ok(_) => return Ok(()),
                Err(error) if start.elapsed() > PATIENCE => {
                    return Err(error.context(format!("{} does not answer", contestant.name)));
                }
                Err(_) => {}
            }
        }
    }

    /// What the load saw, and what the pair used for it.
    pub fn measure(&self, generator: &Generator, contestant: &Contestant) -> Result<Sample> {
        let (measured, used) = contestant
            .pays(|| generator.run(self.core, contestant.target, contestant::HOST, self.connections, self.length))?;
        Ok(Sample { measured, cpu: (!contestant.pair.is_empty()).then_some(used) })
    }
}

/// Builds the three programs as they are shipped, which is quick when they are fresh.
pub fn build() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace")?;
    let flags = said(&mut Command::new(workspace.join("images/flags")))?;
    let rustc = said(Command::new("rustc").arg("-vV"))?;
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names its host")?;
    let status = Command::new(cargo)
        .args([
            "build",
            "--release",
            "--target",
            host,
            "-p",
            "leno-cli",
            "-p",
            "leno-proxy",
            "-p",
            "leno-control-plane",
        ])
        .env("RUSTFLAGS", flags.trim())
        .current_dir(workspace)
        .status()
        .context("run cargo build")?;
    if !status.success() {
        bail!("the release build failed");
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    Ok(target.join(host).join("release"))
}

fn said(command: &mut Command) -> Result<String> {
    // What is said of flags that are left out is for whoever measures.
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("run {command:?}"))?;
    ensure!(output.status.success(), "{command:?} failed");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
