//! The kind `memory`: what a pair holds of memory of its own and shared with nobody or by share (PSS, `/proc/PID/smaps_rollup`), idle,
//! with connections that have each asked once and stay, and while connections come and go.

mod churn;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;

use crate::comparison::Comparison;
use crate::contestant::{self, Carries, Contestant};
use crate::findings::Findings;
use crate::line_up::{Besides, Cast, Run};
use crate::{cpu, http1, process};

/// Files that this program, and a proxy, have open besides connections.
const OTHER_FILES: u64 = 500;

/// How the kind `memory` is run.
#[derive(Debug, Args)]
pub struct Settings {
    #[command(flatten)]
    pub run: Run,
    /// Connections that stay; may be given again
    #[arg(long = "connections", default_values_t = [0, 1_000, 10_000])]
    connections: Vec<usize>,
    /// How long connections come and go, for all contestants at once; 60 for a full run, 0 for none
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=10_080))]
    churn_minutes: u64,
}

/// Measures. Every round has pairs of its own: what a pair once needed it may keep.
pub fn run(settings: &Settings) -> Result<Findings> {
    let cast = settings.run.cast(Carries::Http, Besides::default())?;
    let mut findings = Findings::of("memory", cast.peers.clone());
    for connections in &settings.connections {
        with(&settings.run, &cast, *connections)?.found(&mut findings);
    }
    if settings.churn_minutes > 0 {
        let length = Duration::from_secs(60 * settings.churn_minutes);
        churn::measure(&settings.run, &cast, length)?.found(&mut findings);
    }
    Ok(findings)
}

fn with(run: &Run, cast: &Cast, connections: usize) -> Result<Comparison> {
    let files = process::most_open_files();
    ensure!(
        connections as u64 + OTHER_FILES <= files,
        "{connections} connections need as many open files, {files} are allowed; raise the limit (ulimit -Hn) or choose by --connections"
    );
    let dir = tempfile::TempDir::with_prefix("leno-bench-")?;
    let (_backend, at) = http1::start_backend(run.load_core, dir.path(), &[])?;
    let title = match connections {
        0 => "memory of the pair, idle".to_owned(),
        n => format!("memory of the pair, {n} connections"),
    };
    Comparison::measure(title, "MiB, less is better", 1, run.rounds, cast.names(), |n| {
        let line_up = run.line_up_before(at, cast, &cast.entrants[n..=n])?;
        line_up.answers()?;
        let contestant = &line_up.contestants[0];
        let held: Vec<TcpStream> = (0..connections).map(|_| open(contestant.target)).collect::<Result<_>>()?;
        let memory = pss(contestant)?;
        drop(held);
        Ok(memory)
    })
}

/// A connection that has asked once.
fn open(target: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(target)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    // In one piece: the rest of a request would wait for the acknowledgement of its first bytes.
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", contestant::HOST).as_bytes())?;
    let mut read = [0; 4_096];
    let n = stream.read(&mut read)?;
    ensure!(read[..n].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&read[..n]));
    Ok(stream)
}

/// Of all processes of the pair, in MiB.
fn pss(contestant: &Contestant) -> Result<f64> {
    contestant.pids().into_iter().map(cpu::pss).sum()
}
