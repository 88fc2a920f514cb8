//! The kind `memory`: what a pair holds of memory of its own and shared with nobody or by share (PSS, `/proc/PID/smaps_rollup`), idle and
//! with connections that have each asked once and stay.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;

use crate::comparison::Comparison;
use crate::contestant::{self, Carries, Contestant};
use crate::line_up::Run;
use crate::{cpu, process};

/// How the kind `memory` is run.
#[derive(Debug, Args)]
pub struct Settings {
    #[command(flatten)]
    pub run: Run,
    /// Connections that stay; may be given again
    #[arg(long = "connections", default_values_t = [0, 1_000])]
    connections: Vec<usize>,
}

/// Measures. Every round has pairs of its own: what a pair once needed it may keep.
pub fn run(settings: &Settings) -> Result<Vec<Comparison>> {
    process::raise_open_files()?;
    let compare = |connections: &usize| {
        let names = settings.run.line_up(Carries::Http, false)?.names();
        let title = match connections {
            0 => "memory of the pair, idle".to_owned(),
            n => format!("memory of the pair, {n} connections"),
        };
        Comparison::measure(title, "MiB, less is better", 1, settings.run.rounds, names, |n| {
            let line_up = settings.run.line_up(Carries::Http, false)?;
            let contestant = &line_up.contestants[n];
            contestant.wait_until_it_answers()?;
            let held: Vec<TcpStream> = (0..*connections).map(|_| open(contestant.target)).collect::<Result<_>>()?;
            let memory = pss(contestant)?;
            drop(held);
            Ok(memory)
        })
    };
    settings.connections.iter().map(compare).collect()
}

/// A connection that has asked once.
fn open(target: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(target)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET / HTTP/1.1\r\nHost: {}\r\n\r\n", contestant::HOST)?;
    let mut read = [0; 4_096];
    let n = stream.read(&mut read)?;
    ensure!(read[..n].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&read[..n]));
    Ok(stream)
}

/// Of all processes of the pair, in MiB.
fn pss(contestant: &Contestant) -> Result<f64> {
    contestant.pids().into_iter().map(cpu::pss).sum()
}
