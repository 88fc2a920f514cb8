//! `leno demo`: a whole mesh on this machine.

use std::time::Duration;

use crate::args::Global;
use crate::demo::{self, Options};
use crate::failure::Failure;
use crate::reactor::block_on;
use crate::spans::duration;

/// Run a whole mesh on this machine: control plane, sidecars and apps as real processes, and play with it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Tell the story unattended in about this time, check every claim, and end 0 only if each held
    #[arg(long = "for", value_parser = story_length, value_name = "TIME")]
    pub length: Option<Duration>,
    /// Requests a second that the frontend sends
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000), value_name = "N")]
    pub rate: u32,
}

const EXAMPLES: &str = "Examples:
  leno demo                                  Live: move weights, break an instance, kill the control plane, intrude
  leno demo --for 30s                        The same story unattended, with counted facts
  leno demo --for 10s -o json                For scripts

It needs no root, no containers and no network, uses free ports of 127.0.0.1, and leaves nothing behind.";

/// Shorter, and too few requests would be counted for the claims to mean anything.
fn story_length(text: &str) -> Result<Duration, String> {
    let length = duration(text)?;
    if length < Duration::from_secs(5) || length > Duration::from_secs(24 * 3600) {
        return Err("give a time from 5s to 24h".to_owned());
    }
    Ok(length)
}

/// Runs the command.
///
/// # Errors
/// The mesh did not come up, or a claim did not hold.
pub fn run(args: Args, global: &Global) -> Result<(), Failure> {
    block_on(demo::run(Options { length: args.length, rate: args.rate, format: global.output }))
}
