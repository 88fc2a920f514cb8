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
use crate::findings::Findings;
use crate::line_up::{Besides, LineUp, Run};
use crate::summary::percentile;

/// Clients; each has its own share of the arrivals, and its own connection.
const CLIENTS: u32 = 16;
/// How long the run without pauses is that says what a contestant can do.
const CALIBRATION: Duration = Duration::from_secs(2);
const PERCENTILES: [(&str, f64); 3] = [("p50", 50.0), ("p99", 99.0), ("p99.9", 99.9)];

/// How the kind `latency` is run.
#[derive(Debug, Args)]
pub struct Settings {
    #[command(flatten)]
    pub run: Run,
    /// Requests a second; may be given again
    #[arg(long = "rate", default_values_t = [200, 2_000])]
    rates: Vec<u32>,
    /// As a share of what each contestant can do at most, which a short run without pauses says; may be given again
    #[arg(long = "percent", default_values_t = [60], value_parser = clap::value_parser!(u32).range(1..=100))]
    percents: Vec<u32>,
}

/// Measures: of each rate the percentiles of everybody, the server alone included.
pub fn run(settings: &Settings) -> Result<Findings> {
    let cast = settings.run.cast(Carries::Http, Besides { direct: true, ..Besides::default() })?;
    let mut findings = Findings::of("latency", cast.peers.clone());
    let line_up = settings.run.line_up(&cast, 128)?;
    line_up.answers()?;
    for rate in &settings.rates {
        let rates = vec![f64::from(*rate); line_up.contestants.len()];
        for compared in compare(settings, &line_up, &format!("{rate}/s"), &rates)? {
            compared.found(&mut findings);
            if let Some(added) = compared.over_the_last(1.0) {
                added.found(&mut findings);
            }
        }
    }
    for percent in &settings.percents {
        let rates = shares(settings, &line_up, *percent)?;
        let shown = Comparison::of(
            format!("{percent} % of what each can do with {CLIENTS} connections; the server alone has Leno's rate"),
            "requests a second",
            0,
            line_up.names(),
            rates.iter().map(|rate| vec![*rate]).collect(),
        );
        shown.found(&mut findings);
        for compared in compare(settings, &line_up, &format!("{percent} % of its own capacity"), &rates)? {
            compared.found(&mut findings);
        }
    }
    Ok(findings)
}

/// What everybody is asked at such a share of its capacity. The server alone, the last one, is asked as often as Leno, the first one, to
/// which it is compared.
fn shares(settings: &Settings, line_up: &LineUp, percent: u32) -> Result<Vec<f64>> {
    let mut rates = Vec::new();
    for contestant in &line_up.contestants {
        let capacity = turn(settings, contestant.target, None, CALIBRATION)?.len() as f64 / CALIBRATION.as_secs_f64();
        rates.push(capacity * f64::from(percent) / 100.0);
    }
    if let (Some(first), Some(last)) = (rates.first().copied(), rates.last_mut()) {
        *last = first;
    }
    Ok(rates)
}

/// A comparison for each percentile. Every turn is measured once and read three times.
fn compare(settings: &Settings, line_up: &LineUp, name: &str, rates: &[f64]) -> Result<Vec<Comparison>> {
    let mut figures = vec![vec![Vec::new(); line_up.contestants.len()]; PERCENTILES.len()];
    let length = settings.run.turn;
    let unit = "us until the answer was read";
    Comparison::measure(format!("latency at {name}"), unit, 0, settings.run.rounds, line_up.names(), |n| {
        let times = turn(settings, line_up.contestants[n].target, Some(rates[n]), length)?;
        for (of, (_, percent)) in figures.iter_mut().zip(PERCENTILES) {
            let time = percentile(&times, percent).context("no request was answered")?;
            of[n].push(time.as_secs_f64() * 1e6);
        }
        Ok(times.len() as f64)
    })?;
    let of = |((percentile, _), figures)| {
        Comparison::of(format!("latency {percentile} at {name}"), unit, 0, line_up.names(), figures)
    };
    Ok(PERCENTILES.into_iter().zip(figures).map(of).collect())
}

/// All times, the least first. Without a rate each client asks as soon as it has its answer.
fn turn(settings: &Settings, target: SocketAddr, rate: Option<f64>, length: Duration) -> Result<Vec<Duration>> {
    let (begin, core) = (Instant::now() + Duration::from_millis(50), settings.run.load_core);
    let ask = move |client| ask(core, target, &Arrivals { begin, length, rate }, client);
    let clients: Vec<_> = (0..CLIENTS).map(|client| std::thread::spawn(move || ask(client))).collect();
    let mut times = Vec::new();
    for client in clients {
        times.extend(client.join().ok().context("a client failed")??);
    }
    times.sort_unstable();
    Ok(times)
}

/// When requests come, of all clients together.
struct Arrivals {
    begin: Instant,
    length: Duration,
    rate: Option<f64>,
}

impl Arrivals {
    /// When the request `n` is due; nothing after the end.
    fn due(&self, n: u32) -> Option<Instant> {
        let due = match self.rate {
            Some(rate) => self.begin + Duration::from_secs_f64(f64::from(n) / rate),
            None => Instant::now().max(self.begin),
        };
        (due < self.begin + self.length).then_some(due)
    }
}

fn ask(core: usize, target: SocketAddr, arrivals: &Arrivals, client: u32) -> Result<Vec<Duration>> {
    cpu::pin_this_thread(core)?;
    let mut stream = TcpStream::connect(target)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", contestant::HOST);
    let mut times = Vec::new();
    for n in (client..).step_by(CLIENTS as usize) {
        let Some(due) = arrivals.due(n) else { break };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_by_the_rate_until_the_end_whenever_they_are_asked_for() {
        let begin = Instant::now();
        let arrivals = Arrivals { begin, length: Duration::from_secs(1), rate: Some(200.0) };
        assert_eq!(arrivals.due(0), Some(begin));
        assert_eq!(arrivals.due(10), Some(begin + Duration::from_millis(50)));
        assert_eq!(arrivals.due(200), None);
    }
}
