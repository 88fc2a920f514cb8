//! The kind `first-byte`: how long a client waits for the first byte of a server that speaks first, directly and through a
//! pair of intercepting sidecars that cannot know the protocol. Every connection is a new one. On a wire without delay the
//! ratio is one of processor time; on a long wire it is one of round trips, and says whether anybody stalls.

mod peer;
mod place;
// The namespaces of the tests, which are a crate that nothing else of this one needs.
#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/src/netns/network.rs"]
mod network;

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::findings::Output;
use crate::summary::{Summary, percentile, summarise};
use crate::{http1, process};
use place::{Place, Setup, Way};

pub use peer::{greet, wait};

/// How long a frame is kept on the long wire, each way.
const DELAY: Duration = Duration::from_millis(10);
/// A wait that some timeout has made: none may be so long.
const STEP: Duration = Duration::from_secs(1);
/// A sidecar that waits for a silent client before it asks the server would wait as long.
const STALL: Duration = Duration::from_millis(20);
/// What the mesh may cost on the long wire, as a ratio. Directly it is two round trips until the first byte; the mesh adds the
/// one of its TLS handshake.
const MOST_ROUND_TRIPS: f64 = 2.0;

/// How the kind `first-byte` is run.
#[derive(Debug, Args)]
pub struct Settings {
    /// Rounds; in each, both ways have one turn
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Connections of a turn, one after the other
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    connections: u32,
    /// Three rounds of 50 connections
    #[arg(long, conflicts_with_all = ["rounds", "connections"])]
    quick: bool,
    /// The core of the sidecars
    #[arg(long, default_value_t = 0)]
    proxy_core: usize,
    /// The core of everything else
    #[arg(long, default_value_t = 1)]
    load_core: usize,
    /// Folder with leno, leno-proxy and leno-control-plane; without it a release build is made
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
    /// Exit 1 when any connection waited for a second, the median one for as long as a stalled detection, or the long wire
    /// shows more than a few round trips
    #[arg(long)]
    check: bool,
    /// Form of the report
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Measures, prints, and says whether what was to be checked held.
pub fn run(settings: &Settings) -> Result<bool> {
    let missing = network::unavailable().or_else(|| {
        let missing = ["taskset", "python3"].into_iter().find(|program| process::find(program).is_none())?;
        Some(format!("{missing} is not installed"))
    });
    if let Some(reason) = missing {
        ensure!(std::env::var("LENO_NO_SKIP").as_deref() != Ok("1"), "first-byte may not be skipped, but {reason}");
        eprintln!("SKIPPED first-byte: {reason}");
        return Ok(true);
    }
    let bin = match &settings.bin_dir {
        Some(dir) => std::path::absolute(dir)?,
        None => http1::build()?,
    };
    let (rounds, connections) = if settings.quick { (3, 50) } else { (settings.rounds, settings.connections) };
    let mut wires = Vec::new();
    for delay in [None, Some(DELAY)] {
        let setup = Setup { bin: &bin, proxy_core: settings.proxy_core, load_core: settings.load_core, delay };
        wires.push(Wire::measure(&setup, rounds, connections)?);
    }
    match settings.output {
        Output::Table => {
            println!(
                "first-byte: {connections} connections a turn, {rounds} rounds, median (least … greatest) of rounds"
            );
            wires.iter().for_each(|wire| print!("{}", wire.table()));
        }
        Output::Json => {
            let wires: Vec<Value> = wires.iter().map(Wire::json).collect();
            println!(
                "{:#}",
                json!({"kind": "first-byte", "connections": connections, "rounds": rounds, "wires": wires})
            );
        }
    }
    let problems: Vec<String> = wires.iter().flat_map(Wire::problems).collect();
    if settings.check {
        problems.iter().for_each(|problem| eprintln!("check failed: {problem}"));
    }
    Ok(!settings.check || problems.is_empty())
}

/// One turn: waits for the first byte, in microseconds.
#[derive(Debug, Clone, Copy)]
struct Turn {
    median: f64,
    p99: f64,
    worst: f64,
}

/// What was measured over one kind of wire.
struct Wire {
    delay: Option<Duration>,
    /// Turns directly and through the mesh, round by round.
    rounds: Vec<[Turn; 2]>,
}

impl Wire {
    fn measure(setup: &Setup<'_>, rounds: u32, connections: u32) -> Result<Self> {
        let place = Place::new(setup)?;
        let turn = |way: &Way| {
            let times = place.measure(way, connections)?;
            let at = |percent| percentile(&times, percent).map_or(0.0, |micros| micros as f64);
            Ok::<_, anyhow::Error>(Turn { median: at(50.0), p99: at(99.0), worst: at(100.0) })
        };
        let mut wire = Self { delay: setup.delay, rounds: Vec::new() };
        for round in 0..rounds {
            let [direct, leno] = &place.ways;
            // Each is the first one in every other round.
            wire.rounds.push(if round % 2 == 0 {
                let first = turn(direct)?;
                [first, turn(leno)?]
            } else {
                let first = turn(leno)?;
                [turn(direct)?, first]
            });
        }
        eprintln!("the wire with {} is done", wire.name());
        Ok(wire)
    }

    fn name(&self) -> String {
        self.delay.map_or_else(|| "no delay".to_owned(), |delay| format!("{} ms each way", delay.as_millis()))
    }

    fn over_rounds(&self, figure: impl Fn(&[Turn; 2]) -> f64) -> Summary {
        summarise(self.rounds.iter().map(figure)).unwrap_or(Summary { median: 0.0, min: 0.0, max: 0.0 })
    }

    /// The median wait through the mesh over the direct one, round by round.
    fn ratio(&self) -> Summary {
        self.over_rounds(|[direct, leno]| leno.median / direct.median)
    }

    fn problems(&self) -> Vec<String> {
        let (name, mut problems) = (self.name(), Vec::new());
        let worst = self.over_rounds(|[_, leno]| leno.worst).max;
        if worst >= STEP.as_micros() as f64 {
            problems.push(format!("{name}: a connection waited {worst:.0} us, less than {STEP:?} is claimed"));
        }
        match self.delay {
            None => {
                let median = self.over_rounds(|[_, leno]| leno.median).median;
                if median >= STALL.as_micros() as f64 {
                    problems.push(format!("{name}: the median wait is {median:.0} us, less than {STALL:?} is claimed"));
                }
            }
            Some(_) => {
                let ratio = self.ratio().median;
                if ratio > MOST_ROUND_TRIPS {
                    problems.push(format!("{name}: leno/direct is {ratio:.3}, {MOST_ROUND_TRIPS} at most is claimed"));
                }
            }
        }
        problems
    }

    fn table(&self) -> String {
        let mut out = String::new();
        let mut line = |text: String| {
            let _ = writeln!(out, "{text}"); // Writing to a string does not fail.
        };
        line(format!("{:<16} {:>30} {:>10} {:>10}", self.name(), "p50 us", "p99 us", "worst us"));
        for (at, name) in ["direct", "leno"].into_iter().enumerate() {
            let p50 = self.over_rounds(|turns| turns[at].median);
            let p50 = format!("{:.0} ({:.0} … {:.0})", p50.median, p50.min, p50.max);
            let (p99, worst) = (self.over_rounds(|turns| turns[at].p99), self.over_rounds(|turns| turns[at].worst));
            line(format!("{name:<16} {p50:>30} {:>10.0} {:>10.0}", p99.median, worst.max));
        }
        let ratio = self.ratio();
        line(format!("leno/direct: {:.3} ({:.3} … {:.3})", ratio.median, ratio.min, ratio.max));
        if let Some(delay) = self.delay {
            let trip = 2.0 * delay.as_micros() as f64;
            let more = self.over_rounds(|[direct, leno]| (leno.median - direct.median) / trip);
            line(format!("round trips more: {:.2} ({:.2} … {:.2})", more.median, more.min, more.max));
        }
        out
    }

    fn json(&self) -> Value {
        let summary = |s: Summary| json!({"median": s.median, "min": s.min, "max": s.max});
        let way = |at: usize| {
            json!({
                "p50Microseconds": summary(self.over_rounds(|turns| turns[at].median)),
                "p99Microseconds": summary(self.over_rounds(|turns| turns[at].p99)),
                "worstMicroseconds": summary(self.over_rounds(|turns| turns[at].worst)),
            })
        };
        json!({
            "delayMilliseconds": self.delay.map_or(0, |delay| delay.as_millis() as u64),
            "direct": way(0), "leno": way(1), "ratio": summary(self.ratio()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(delay: Option<Duration>, direct: f64, leno: f64, worst: f64) -> Wire {
        let turn = |median, worst| Turn { median, p99: worst, worst };
        Wire { delay, rounds: vec![[turn(direct, direct), turn(leno, worst)]; 3] }
    }

    #[test]
    fn a_second_and_a_stall_are_found() {
        assert_eq!(wire(None, 60.0, 2000.0, 9000.0).problems(), Vec::<String>::new());
        assert!(wire(None, 60.0, 2000.0, 1_000_900.0).problems()[0].contains("1000900 us"));
        assert!(wire(None, 60.0, 21_000.0, 23_000.0).problems()[0].contains("median"));
    }

    #[test]
    fn on_a_long_wire_round_trips_count() {
        assert_eq!(wire(Some(DELAY), 40_000.0, 62_000.0, 70_000.0).problems(), Vec::<String>::new());
        assert!(wire(Some(DELAY), 40_000.0, 90_000.0, 91_000.0).problems()[0].contains("2.250"));
        assert!(wire(Some(DELAY), 40_000.0, 60_000.0, 61_000.0).table().contains("round trips more: 1.00"));
    }
}
