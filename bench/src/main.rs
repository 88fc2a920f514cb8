//! Leno measured beside its peers: every contestant does the same work in turns, in one run on one machine, and only ratios
//! within a run are claims. `cargo run --release -p leno-bench -- http1`, and `-- first-byte` (as root).
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod backend;
mod certificates;
mod collector;
mod connect;
mod contestant;
mod cpu;
mod features;
mod first_byte;
mod http1;
mod load;
mod process;
mod report;
mod summary;

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measures Leno beside its peers.
#[derive(Debug, Parser)]
#[command(name = "leno-bench", version)]
struct Args {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// Small HTTP/1.1 requests over keep-alive connections, through a pair of proxies with mutual TLS between them.
    Http1(http1::Settings),
    /// New connections through the pair: of TCP, each with a handshake of mutual TLS between its ends, and of HTTP.
    Connect(connect::Settings),
    /// What a feature costs: the same load through a pair with it and through one without.
    Features(features::Settings),
    /// The wait for the first byte of a server that speaks first, directly and through intercepting sidecars. Needs root.
    FirstByte(first_byte::Settings),
    /// The server behind every contestant.
    #[command(hide = true)]
    Backend,
    /// The load, where wrk is not installed.
    #[command(hide = true)]
    Load(load::Load),
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
    let result = match Args::parse().kind {
        Kind::Http1(settings) => http1::run(&settings),
        Kind::Connect(settings) => connect::run(&settings),
        Kind::Features(settings) => features::run(&settings),
        Kind::FirstByte(settings) => first_byte::run(&settings),
        Kind::Greet { listen } => first_byte::greet(listen).map(|()| true),
        Kind::WaitForGreeting { target, count } => first_byte::wait(target, count).map(|()| true),
        Kind::Backend => backend::run().map(|()| true),
        Kind::Load(load) => load::generate(&load).map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
