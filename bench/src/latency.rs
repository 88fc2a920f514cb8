//! The kind `latency`: requests that arrive at a fixed rate, whatever becomes of those before them. A time begins when its request was due
//! and not when somebody was free to send it (coordinated omission). The figure is what a pair adds to the server's own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::comparison::Comparison;
use crate::contestant::{self, Carries};
use crate::cpu;
use crate::line_up::Run;
use crate::summary::percentile;

/// Clients; each has its own share of the arrivals, and its own connection.
const CLIENTS: u32 = 16;
const PERCENTILES: [(&str, f64); 3] = [("p50", 50.0), ("p99", 99.0), ("p99.9", 99.9)];

/// How the kind `latency` is run.
#[derive(Debug, Args)]
pub struct Settings {
    #[command(flatten)]
    pub run: Run,
    /// Requests a second; may be given again
    #[arg(long = "rate", default_values_t = [200, 2_000])]
    rates: Vec<u32>,
}

/// Measures: of each rate the percentiles of everybody, the server alone included.
pub fn run(settings: &Settings) -> Result<Vec<Comparison>> {
    let line_up = settings.run.line_up(Carries::Http, true)?;
    for contestant in &line_up.contestants {
        contestant.wait_until_it_answers()?;
    }
    let mut comparisons = Vec::new();
    for rate in &settings.rates {
        // By contestant, by round: each turn is measured once and read three times.
        let mut turns: Vec<Vec<Vec<Duration>>> = vec![Vec::new(); line_up.contestants.len()];
        for (which, (name, percent)) in PERCENTILES.into_iter().enumerate() {
            let mut round = vec![0; line_up.contestants.len()];
            let title = format!("latency {name} at {rate}/s");
            let unit = "us until the answer was read";
            comparisons.push(Comparison::measure(title, unit, 0, settings.run.rounds, line_up.names(), |n| {
                if which == 0 {
                    turns[n].push(turn(settings, line_up.contestants[n].target, *rate)?);
                }
                let times = &turns[n][round[n]];
                round[n] += 1;
                let time = percentile(times, percent).context("no request was answered")?;
                Ok(time.as_secs_f64() * 1e6)
            })?);
        }
    }
    Ok(comparisons)
}

/// All times, the least first.
fn turn(settings: &Settings, target: SocketAddr, rate: u32) -> Result<Vec<Duration>> {
    let (begin, length) = (Instant::now() + Duration::from_millis(50), Duration::from_secs(settings.run.seconds));
    let core = settings.run.load_core;
    let clients: Vec<_> =
        (0..CLIENTS).map(|client| std::thread::spawn(move || ask(core, target, begin, length, client, rate))).collect();
    let mut times = Vec::new();
    for client in clients {
        times.extend(client.join().ok().context("a client failed")??);
    }
    times.sort_unstable();
    Ok(times)
}

fn ask(
    core: usize,
    target: SocketAddr,
    begin: Instant,
    length: Duration,
    client: u32,
    rate: u32,
) -> Result<Vec<Duration>> {
    cpu::pin_this_thread(core)?;
    let mut stream = TcpStream::connect(target)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", contestant::HOST);
    let mut times = Vec::new();
    for n in (client..).step_by(CLIENTS as usize) {
        let after = Duration::from_secs_f64(f64::from(n) / f64::from(rate));
        if after >= length {
            return Ok(times);
        }
        let due = begin + after;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        stream.write_all(request.as_bytes())?;
        answer(&mut stream)?;
        times.push(due.elapsed());
    }
    Ok(times)
}

/// Reads one answer to its end.
fn answer(stream: &mut TcpStream) -> Result<()> {
    let mut read = Vec::with_capacity(1_024);
    loop {
        let mut buffer = [0; 4_096];
        let n = stream.read(&mut buffer)?;
        ensure!(n > 0, "the connection was closed");
        read.extend_from_slice(&buffer[..n]);
        let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
        ensure!(head.starts_with("http/1.1 200"), "{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
        if read.len() >= end + 4 + length.context("an answer without a length")? {
            return Ok(());
        }
    }
}
