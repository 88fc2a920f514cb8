//! Leno measured beside its peers: every contestant does the same work in turns, in one run on one machine, and only ratios
//! within a run are claims. `cargo run --release -p leno-bench -- http1`, and `-- first-byte` (as root).
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod all;
mod backend;
mod bulk;
mod certificates;
mod chart;
mod collector;
mod comparison;
mod connect;
mod contestant;
mod cpu;
mod features;
mod figures;
mod findings;
mod first_byte;
mod http1;
mod http2;
mod instructions;
mod latency;
mod line_up;
mod load;
mod memory;
mod metrics;
mod process;
mod progress;
mod push;
mod report;
mod size;
mod summary;

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use findings::{Findings, Form};
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
    /// Instructions of a request, counted by callgrind: no timing, so it may be asserted.
    Instructions(instructions::Settings),
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
    // Of this program and of those that it starts: a contestant must not refuse what it could take.
    process::raise_open_files()?;
    if let Some(form) = kind.form() {
        let findings = kind.measure()?.unwrap_or_default();
        return findings.give(form);
    }
    match kind {
        Kind::All(settings) => return all::run(&settings),
        Kind::FirstByte(settings) => return first_byte::run(&settings),
        Kind::Greet { listen } => first_byte::greet(listen)?,
        Kind::WaitForGreeting { target, count } => first_byte::wait(target, count)?,
        Kind::Backend(settings) => backend::run(&settings)?,
        Kind::LoadHttp2(load) => http2::generate(&load)?,
        Kind::Load(load) => load::generate(&load)?,
        _ => {}
    }
    Ok(true)
}

impl Kind {
    /// How its findings are given, where it has any.
    fn form(&self) -> Option<&Form> {
        let run = match self {
            Self::Http1(settings) => &settings.run,
            Self::Http2(settings) | Self::Grpc(settings) => &settings.run,
            Self::Connect(settings) => &settings.run,
            Self::Latency(settings) => &settings.run,
            Self::Bulk(settings) => &settings.run,
            Self::Memory(settings) => &settings.run,
            Self::Config(settings) => &settings.run,
            Self::Push(settings) => &settings.run,
            Self::Features(settings) => &settings.run,
            Self::Instructions(settings) => &settings.run,
            _ => return None,
        };
        Some(&run.form)
    }

    /// What comes of it.
    fn measure(&self) -> Result<Option<Findings>> {
        let found = match self {
            Self::Http1(settings) => http1::run(settings)?,
            Self::Http2(settings) => http2::run(settings, "http2", &[(Call::Plain, "http2")])?,
            Self::Grpc(settings) => {
                let calls = [(Call::Unary, "grpc, unary"), (Call::Streaming, "grpc, streams of 100 messages")];
                http2::run(settings, "grpc", &calls)?
            }
            Self::Connect(settings) => connect::run(settings)?,
            Self::Latency(settings) => latency::run(settings)?,
            Self::Bulk(settings) => bulk::run(settings)?,
            Self::Memory(settings) => memory::run(settings)?,
            Self::Config(settings) => size::run(settings)?,
            Self::Push(settings) => push::run(settings)?,
            Self::Features(settings) => features::run(settings)?,
            Self::Instructions(settings) => instructions::run(settings)?,
            _ => return Ok(None),
        };
        Ok(Some(found))
    }
}
