//! The kind `instructions`: how many instructions of its own a request costs each sidecar of a pair, counted by callgrind on the built
//! programs. What the kernel does is not in it, and no neighbour on the machine can move it: so it may be asserted.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::contestant::{HOST, Mesh};
use crate::figures::{Figure, Figures};
use crate::findings::Findings;
use crate::line_up::Run;
use crate::{http1, process};

/// Requests of the shorter run and of the longer one; the difference of the two is without the start and the end of a sidecar.
const REQUESTS: [u64; 2] = [1_000, 4_000];
/// What a change may add before the check fails.
const MOST: f64 = 1.03;
/// What was counted last: `SIDE INSTRUCTIONS`, and by which compiler.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.txt");
const CONFIG: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: default}\nspec:\n  selector: {app: web}\n  \
                      ports: [{name: http, port: 80, targetPort: http, appProtocol: http}]\n";
const SIDES: [&str; 2] = ["outbound", "inbound"];

/// How the kind `instructions` is run.
#[derive(Debug, Args)]
pub struct Settings {
    #[command(flatten)]
    pub run: Run,
    /// Exit 1 when a request costs over 3 % more than what stands in bench/instructions.txt
    #[arg(long)]
    check: bool,
    /// Write bench/instructions.txt anew
    #[arg(long, conflicts_with = "check")]
    bless: bool,
}

/// Counts.
pub fn run(settings: &Settings) -> Result<Findings> {
    let valgrind = process::find("valgrind").context("valgrind is not installed")?;
    let bin = settings.run.bin()?;
    let [short, long] = REQUESTS.map(|requests| count(settings, &valgrind, &bin, requests));
    let (short, long) = (short?, long?);
    let more = (REQUESTS[1] - REQUESTS[0]) as f64;
    let counted = [0, 1].map(|side| long[side].saturating_sub(short[side]) as f64 / more);
    let mut figures = Figures::new("instructions of a request, one connection, 128 B".to_owned());
    for (side, counted) in SIDES.into_iter().zip(counted) {
        figures.push(Figure::one(&format!("the sidecar of the {side} side"), "instructions", 0, counted));
    }
    let mut findings = Findings::of("instructions", [("valgrind", process::version(&valgrind, "--version"))].into());
    figures.found(&mut findings);
    if settings.bless {
        std::fs::write(FILE, written(&compiler(), counted)).with_context(|| format!("write {FILE}"))?;
    }
    if settings.check {
        let before = std::fs::read_to_string(FILE).with_context(|| format!("read {FILE}"))?;
        findings.problems = problems(&before, &compiler(), counted)?;
    }
    Ok(findings)
}

/// Instructions of both sidecars from their start to their end, for so many requests on one connection.
fn count(settings: &Settings, valgrind: &Path, bin: &Path, requests: u64) -> Result<[u64; 2]> {
    let dir = tempfile::TempDir::with_prefix("leno-bench-")?;
    let run = &settings.run;
    let (_backend, backend) = http1::start_backend(run.load_core, dir.path(), &[])?;
    let mesh = Mesh::start(dir.path(), run.load_core, bin, CONFIG)?;
    let start = |service: &str, more: &[&str]| {
        let mut under = vec![valgrind.display().to_string(), "--tool=callgrind".to_owned()];
        // A sidecar may write nowhere but in its own folder, and callgrind looks before the sidecar makes it.
        std::fs::DirBuilder::new().mode(0o700).create(mesh.state_of(service))?;
        let counts = mesh.state_of(service).join("callgrind.out");
        under.push(format!("--callgrind-out-file={}", counts.display()));
        let sidecar = mesh.sidecar_under(&under, run.proxy_core, service, &mesh.token(service)?, more)?;
        anyhow::Ok((sidecar, counts))
    };
    let (mut inbound, of_inbound) = start(HOST, &["--port", &format!("http={backend}")])?;
    let (mut outbound, of_outbound) = start("frontend", &[])?;
    ask(outbound.address("http_proxy")?, requests)?;
    for sidecar in [&mut outbound, &mut inbound] {
        sidecar.running.end();
    }
    let [one, other] = [of_outbound, of_inbound].map(|counts| total(&counts));
    Ok([one?, other?])
}

fn ask(proxy: SocketAddr, requests: u64) -> Result<()> {
    let mut stream = TcpStream::connect(proxy)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let (request, mut read) = (format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"), [0; 4_096]);
    for _ in 0..requests {
        stream.write_all(request.as_bytes())?;
        // Head and body come in one piece, or in two.
        let mut answer = stream.read(&mut read)?;
        ensure!(read[..answer].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&read[..answer]));
        while !read[..answer].ends_with(&[b'.'; 128]) {
            let n = stream.read(&mut read[answer..])?;
            ensure!(n > 0, "the connection was closed");
            answer += n;
        }
    }
    Ok(())
}

/// What callgrind says at the end of its file.
fn total(file: &Path) -> Result<u64> {
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let line = text.lines().rev().find_map(|line| line.strip_prefix("totals: "));
    Ok(line.context("callgrind says no total")?.trim().parse()?)
}

/// `rustc 1.90.0 …`
fn compiler() -> String {
    process::version(Path::new("rustc"), "--version")
}

fn written(compiler: &str, counted: [f64; 2]) -> String {
    let mut text = format!("# Instructions of a request, by `leno-bench instructions --bless`\n{compiler}\n");
    for (side, counted) in SIDES.into_iter().zip(counted) {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{side} {counted:.0}");
    }
    text
}

fn problems(before: &str, compiler: &str, counted: [f64; 2]) -> Result<Vec<String>> {
    if !before.lines().any(|line| line == compiler) {
        bail!(
            "{FILE} was written with another compiler than {compiler}; `leno-bench instructions --bless` writes it anew"
        );
    }
    let mut problems = Vec::new();
    for (side, counted) in SIDES.into_iter().zip(counted) {
        let line = before.lines().find_map(|line| line.strip_prefix(side)?.trim().parse::<f64>().ok());
        let before = line.with_context(|| format!("{FILE} says nothing of {side}"))?;
        if counted > before * MOST {
            problems.push(format!("{side}: {counted:.0} instructions a request, {before:.0} before"));
        }
    }
    Ok(problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_costs_over_three_percent_more_is_a_problem_and_another_compiler_is_said() {
        let before = written("rustc 1.0.0", [40_000.0, 30_000.0]);
        let problems = |counted| problems(&before, "rustc 1.0.0", counted).unwrap();
        assert!(problems([41_100.0, 20_000.0]).is_empty());
        assert_eq!(problems([41_300.0, 30_000.0]), ["outbound: 41300 instructions a request, 40000 before"]);
        assert!(super::problems(&before, "rustc 1.1.0", [1.0, 1.0]).is_err());
    }

    #[test]
    fn the_total_is_what_stands_last() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("callgrind.out");
        std::fs::write(&file, "events: Ir\nsummary: 0\nfn=(1) a\n1 5\n\ntotals: 4711\n").unwrap();
        assert_eq!(total(&file).unwrap(), 4_711);
    }
}
