//! The load: wrk where it is installed, else a small generator of our own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use clap::Args;
use http::{Request, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use crate::line_up::seconds;
use crate::process::{self, pinned};
use crate::summary::percentile;

/// What makes the requests.
pub enum Generator {
    /// wrk, by its path.
    Wrk(PathBuf),
    /// This program's hidden subcommand.
    Own,
}

/// What one run of the load saw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Requests that were answered.
    pub requests: u64,
    /// How long it ran.
    pub seconds: f64,
    /// Median latency, microseconds.
    pub p50_us: f64,
    /// 99th percentile, microseconds.
    pub p99_us: f64,
}

impl Generator {
    /// Takes wrk when it is there, and for whole seconds, which is what it knows.
    pub fn choose(turn: Duration) -> Self {
        process::find("wrk").filter(|_| turn.subsec_nanos() == 0).map_or(Self::Own, Self::Wrk)
    }

    /// Name and version.
    pub fn describe(&self) -> String {
        match self {
            Self::Wrk(path) => process::version(path, "--version").split('[').next().unwrap_or("wrk").trim().to_owned(),
            Self::Own => "the generator of this program (wrk was not found, or knows no such time)".to_owned(),
        }
    }

    /// Runs for so long on `core`; every answer must be a 2xx.
    pub fn run(
        &self,
        core: usize,
        target: SocketAddr,
        host: &str,
        connections: usize,
        length: Duration,
    ) -> Result<Measured> {
        match self {
            Self::Wrk(path) => {
                let mut command = pinned(core, path);
                command.args([
                    "-t",
                    "1",
                    "-c",
                    &connections.to_string(),
                    "-d",
                    &format!("{}s", length.as_secs()),
                    "--latency",
                ]);
                command.args(["-H", &format!("Host: {host}"), &format!("http://{target}/")]);
                let output = command.output().context("run wrk")?;
                ensure!(output.status.success(), "wrk: {}", String::from_utf8_lossy(&output.stderr));
                parse_wrk(&String::from_utf8_lossy(&output.stdout))
            }
            Self::Own => own(core, Load { target, host: host.to_owned(), connections, length, requests_each: 0 }),
        }
    }
}

/// What our own generator does.
#[derive(Debug, Clone, Args)]
pub struct Load {
    #[arg(long)]
    pub target: SocketAddr,
    #[arg(long)]
    pub host: String,
    /// Clients, each with one request at a time.
    #[arg(long)]
    pub connections: usize,
    #[arg(long = "seconds", value_parser = seconds)]
    pub length: Duration,
    /// Requests on each connection before the next one takes its place; 0 for all.
    #[arg(long)]
    pub requests_each: u32,
}

/// Runs it as a process of its own on `core`; every answer must be a 2xx.
pub fn own(core: usize, load: Load) -> Result<Measured> {
    let mut command = pinned(core, &std::env::current_exe()?);
    command.args(["load", "--target", &load.target.to_string(), "--host", &load.host]);
    command.args(["--connections", &load.connections.to_string(), "--seconds", &load.length.as_secs_f64().to_string()]);
    command.args(["--requests-each", &load.requests_each.to_string()]);
    let output = command.output().context("run the load generator")?;
    ensure!(output.status.success(), "load: {}", String::from_utf8_lossy(&output.stderr));
    parse_own(&String::from_utf8_lossy(&output.stdout))
}

fn parse_wrk(text: &str) -> Result<Measured> {
    for bad in ["Non-2xx", "Socket errors"] {
        let line = text.lines().find(|line| line.contains(bad));
        ensure!(line.is_none(), "wrk saw failures: {}", line.unwrap_or_default().trim());
    }
    let latency = |percent: &str| {
        let line = text.lines().map(str::trim).find(|line| line.starts_with(percent));
        line.and_then(|line| microseconds(line.split_whitespace().nth(1)?)).context("a latency of wrk")
    };
    let total = text.lines().map(str::trim).find(|line| line.contains(" requests in ")).context("wrk's total")?;
    let mut words = total.split([' ', ',']).filter(|word| !word.is_empty());
    let requests = words.next().and_then(|n| n.parse().ok()).context("wrk's count")?;
    let seconds = words.nth(2).and_then(microseconds).context("wrk's time")? / 1e6;
    Ok(Measured { requests, seconds, p50_us: latency("50%")?, p99_us: latency("99%")? })
}

/// A time as wrk writes it, `12.34us`, `1.2ms`, `3.01s` or `1.00m`.
fn microseconds(text: &str) -> Option<f64> {
    let units = [("us", 1.0), ("ms", 1e3), ("s", 1e6), ("m", 60e6)];
    units.iter().find_map(|(unit, factor)| Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * factor))
}

fn parse_own(text: &str) -> Result<Measured> {
    let value: Value = serde_json::from_str(text)?;
    let number = |name: &str| value[name].as_f64().with_context(|| format!("field {name}"));
    Ok(Measured {
        requests: value["requests"].as_u64().context("field requests")?,
        seconds: number("seconds")?,
        p50_us: number("p50_us")?,
        p99_us: number("p99_us")?,
    })
}

/// Our own generator: clients with one request after the other each, for so many seconds. Prints a JSON object.
pub fn generate(load: &Load) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let start = Instant::now();
    let end = start + load.length;
    let mut latencies = LocalSet::new().block_on(&runtime, async {
        let clients: Vec<_> =
            (0..load.connections).map(|_| tokio::task::spawn_local(client(load.clone(), end))).collect();
        let mut all = Vec::new();
        for client in clients {
            all.extend(client.await??);
        }
        anyhow::Ok(all)
    })?;
    let seconds = start.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let at = |percent| percentile(&latencies, percent).map_or(0.0, |time| time.as_secs_f64() * 1e6);
    let (p50, p99) = (at(50.0), at(99.0));
    println!("{}", json!({"requests": latencies.len(), "seconds": seconds, "p50_us": p50, "p99_us": p99}));
    Ok(())
}

async fn client(load: Load, end: Instant) -> Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    let (mut kept, mut asked) = (None, 0);
    while Instant::now() < end {
        let start = Instant::now();
        let mut sender = match kept.take() {
            Some(sender) => sender,
            None => connect(load.target).await?,
        };
        let request = Request::get("/").header(header::HOST, &load.host).body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        ensure!(response.status().is_success(), "an answer was {}", response.status());
        response.into_body().collect().await?;
        latencies.push(start.elapsed());
        asked += 1;
        kept = Some(sender).filter(|_| load.requests_each == 0 || asked % load.requests_each != 0);
    }
    Ok(latencies)
}

async fn connect(target: SocketAddr) -> Result<SendRequest<Empty<Bytes>>> {
    let stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the sender.
    tokio::task::spawn_local(connection);
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRK: &str = "Running 3s test @ http://127.0.0.1:1/\n  1 threads and 64 connections\n  \
        Thread Stats   Avg      Stdev     Max   +/- Stdev\n    Latency     1.83ms  105.19us   3.13ms   79.35%\n  \
        Latency Distribution\n     50%  950.00us\n     75%    1.86ms\n     90%    1.93ms\n     99%    2.20ms\n  \
        108107 requests in 3.10s, 22.00MB read\nRequests/sec:  34873.22\nTransfer/sec:      7.10MB\n";

    #[test]
    fn wrks_report_is_read() {
        let expected = Measured { requests: 108_107, seconds: 3.1, p50_us: 950.0, p99_us: 2200.0 };
        assert_eq!(parse_wrk(WRK).unwrap(), expected);
    }

    #[test]
    fn a_run_with_failures_counts_for_nothing() {
        let failed = format!("{WRK}  Non-2xx or 3xx responses: 7\n");
        assert!(parse_wrk(&failed).unwrap_err().to_string().contains("7"));
    }
}
