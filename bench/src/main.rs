//! Leno measured beside its peers: every contestant does the same work in turns, in one run on one machine, and only ratios
//! within a run are claims. `cargo run --release -p leno-bench -- http1`, and `-- first-byte` (as root).
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod all;
mod backend;
mod bulk;
mod certificates;
mod collector;
mod comparison;
mod connect;
mod contestant;
mod cpu;
mod features;
mod figures;
mod first_byte;
mod http1;
mod http2;
mod latency;
mod line_up;
mod load;
mod memory;
mod metrics;
mod process;
mod push;
mod report;
mod size;
mod summary;

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use serde_json::Value;

use comparison::Comparison;
use figures::Figures;
use http1::Output;
use http2::Call;

/// Measures Leno beside its peers.
#[derive(Debug, Parser)]
#[command(name = "leno-bench", version)]
struct Args {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// Every kind that needs no root, one after the other, with what the machine is.
    All(all::Settings),
    /// Small HTTP/1.1 requests over keep-alive connections, through a pair of proxies with mutual TLS between them.
    Http1(http1::Settings),
    /// Requests over HTTP/2, many at a time on each connection.
    Http2(http2::Settings),
    /// Calls of gRPC: with one message, and with many.
    Grpc(http2::Settings),
    /// New connections through the pair: of TCP, each with a handshake of mutual TLS between its ends, and of HTTP.
    Connect(connect::Settings),
    /// Requests at a fixed rate: what a pair adds to the server's own time.
    Latency(latency::Settings),
    /// One and eight answers without an end, carried as bytes.
    Bulk(bulk::Settings),
    /// Memory of the pair, idle and with connections that stay.
    Memory(memory::Settings),
    /// A sidecar in meshes of different sizes, of which it uses three services: memory, and how soon it is ready.
    Config(size::Settings),
    /// Changes that many connected sidecars hear of, and how soon all are back when the control plane was killed.
    Push(push::Settings),
    /// What a feature costs: the same load through a pair with it and through one without.
    Features(features::Settings),
    /// The wait for the first byte of a server that speaks first, directly and through intercepting sidecars. Needs root.
    FirstByte(first_byte::Settings),
    /// The server behind every contestant.
    #[command(hide = true)]
    Backend(backend::Settings),
    /// The load, where wrk is not installed.
    #[command(hide = true)]
    Load(load::Load),
    /// The load of the kinds `http2` and `grpc`.
    #[command(hide = true)]
    LoadHttp2(http2::Load),
    /// A server that speaks first.
    #[command(hide = true)]
    Greet {
        #[arg(long)]
        listen: SocketAddr,
    },
    /// Its client.
    #[command(hide = true)]
    WaitForGreeting {
        #[arg(long)]
        target: SocketAddr,
        #[arg(long)]
        count: u32,
    },
}

fn main() -> ExitCode {
    match run(Args::parse().kind) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Does it, and says whether what was to be checked held.
fn run(kind: Kind) -> Result<bool> {
    match kind {
        Kind::All(settings) => all::run(&settings),
        Kind::Http1(settings) => http1::run(&settings),
        Kind::Http2(settings) => compared(settings.run.output, &http2::run(&settings, &[(Call::Plain, "http2")])?),
        Kind::Grpc(settings) => {
            let calls = [(Call::Unary, "grpc, unary"), (Call::Streaming, "grpc, a stream of 100 messages")];
            compared(settings.run.output, &http2::run(&settings, &calls)?)
        }
        Kind::Connect(settings) => compared(settings.run.output, &connect::run(&settings)?),
        Kind::Latency(settings) => compared(settings.run.output, &latency::run(&settings)?),
        Kind::Bulk(settings) => compared(settings.run.output, &bulk::run(&settings)?),
        Kind::Memory(settings) => compared(settings.run.output, &memory::run(&settings)?),
        Kind::Config(settings) => listed(settings.run.output, &size::run(&settings)?),
        Kind::Push(settings) => listed(settings.run.output, &push::run(&settings)?),
        Kind::Features(settings) => features::run(&settings),
        Kind::FirstByte(settings) => first_byte::run(&settings),
        Kind::Greet { listen } => first_byte::greet(listen).map(|()| true),
        Kind::WaitForGreeting { target, count } => first_byte::wait(target, count).map(|()| true),
        Kind::Backend(settings) => backend::run(&settings).map(|()| true),
        Kind::LoadHttp2(load) => http2::generate(&load).map(|()| true),
        Kind::Load(load) => load::generate(&load).map(|()| true),
    }
}

fn compared(output: Output, comparisons: &[Comparison]) -> Result<bool> {
    let tables = || comparisons.iter().map(Comparison::table).collect::<Vec<_>>().join("\n");
    printed(output, tables, || comparisons.iter().map(Comparison::json).collect())
}

fn listed(output: Output, figures: &[Figures]) -> Result<bool> {
    let tables = || figures.iter().map(Figures::table).collect::<Vec<_>>().join("\n");
    printed(output, tables, || figures.iter().map(Figures::json).collect())
}

fn printed(output: Output, table: impl FnOnce() -> String, json: impl FnOnce() -> Value) -> Result<bool> {
    let text = match output {
        Output::Table => table(),
        Output::Json => format!("{:#}\n", json()),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(true)
}
