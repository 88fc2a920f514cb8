//! `leno`: the command line tool of the Leno service mesh.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod args;
mod client;
mod commands;
mod context;
mod demo;
mod failure;
mod inject;
mod output;
mod progress;
mod reactor;
mod sources;
mod spans;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = args::Cli::parse();
    match commands::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
