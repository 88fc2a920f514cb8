//! Memory while new connections come all the time, ask a few times, and go. All pairs have their turn at once, so that an hour is an hour.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;

use super::pss;
use crate::chart::{Bar, Panel};
use crate::contestant;
use crate::findings::Findings;
use crate::line_up::{Cast, Run};
use crate::load::{self, Load, Measured};
use crate::progress::Progress;
use crate::summary::summarise;

/// Clients of a pair, each with one connection at a time.
const CLIENTS: usize = 16;
/// Requests of a connection.
const REQUESTS: u32 = 10;
/// Times at which memory is read, beside the beginning.
const LOOKS: u32 = 10;

/// What each pair held at each look.
pub struct Churn {
    length: Duration,
    held: Vec<Held>,
}

struct Held {
    name: &'static str,
    /// In MiB: before, and then after each part of the time.
    memory: Vec<f64>,
    requests: u64,
}

/// Loads all pairs for so long.
pub fn measure(run: &Run, cast: &Cast, length: Duration) -> Result<Churn> {
    let line_up = run.line_up(cast, 128)?;
    line_up.answers()?;
    let contestants = &line_up.contestants;
    let mut held: Vec<Held> =
        contestants.iter().map(|one| Held { name: one.name, memory: Vec::new(), requests: 0 }).collect();
    let (begun, progress) = (Instant::now(), Progress::of("churn", LOOKS as usize));
    let loads: Vec<_> = contestants
        .iter()
        .map(|one| {
            let load = Load {
                target: one.target,
                host: contestant::HOST.to_owned(),
                connections: CLIENTS,
                // Memory is read for the last time while they still come.
                length: length + Duration::from_secs(1),
                requests_each: REQUESTS,
            };
            let core = run.load_core;
            std::thread::spawn(move || load::own(core, load))
        })
        .collect();
    for look in 0..=LOOKS {
        let due = length * look / LOOKS;
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
        for (of, contestant) in held.iter_mut().zip(contestants) {
            of.memory.push(pss(contestant)?);
        }
        progress.step();
    }
    for (of, load) in held.iter_mut().zip(loads) {
        let measured: Measured = load.join().ok().context("a load failed")?.with_context(|| of.name.to_owned())?;
        of.requests = measured.requests;
    }
    Ok(Churn { length, held })
}

impl Held {
    /// From the first look under load to the last one: what is needed once is there by the first.
    fn growth(&self) -> f64 {
        let first = self.memory.get(1).copied().unwrap_or_default();
        self.memory.last().map_or(0.0, |last| last - first)
    }
}

impl Churn {
    /// Adds it to what came of its kind.
    pub fn found(&self, findings: &mut Findings) {
        let title = format!("memory of the pair while connections come and go for {} s", self.length.as_secs());
        let unit = "MiB";
        let every = (self.length / LOOKS).as_secs();
        let mut table = format!(
            "{title} ({unit}), before and then every {every} s; growth since the first of these; connections\n"
        );
        for of in &self.held {
            let looks: String = of.memory.iter().map(|mib| format!(" {mib:>6.1}")).collect();
            let connections = of.requests / u64::from(REQUESTS);
            // Writing to a string does not fail.
            let _ = writeln!(table, "  {:<12}{looks}   {:>+6.1}   {connections}", of.name, of.growth());
        }
        let json =
            |of: &Held| json!({"name": of.name, "memory": of.memory, "growth": of.growth(), "requests": of.requests});
        let held: Vec<_> = self.held.iter().map(json).collect();
        let bar = |of: &Held| {
            let value = summarise(of.memory.iter().skip(1).copied())?;
            Some(Bar { name: of.name.to_owned(), value, digits: 1, ours: of.name == "leno" })
        };
        let bars = self.held.iter().filter_map(bar).collect();
        let result = json!({"title": title, "unit": unit, "everySeconds": every, "contestants": held});
        findings.add(table, result, [Panel { title, unit: unit.to_owned(), bars }]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_begins_when_the_load_has_been_there() {
        let held = |memory: &[f64]| Held { name: "leno", memory: memory.to_vec(), requests: 0 };
        assert_eq!(held(&[10.0, 15.0, 15.5, 16.0]).growth(), 1.0);
        assert_eq!(held(&[10.0, 15.0]).growth(), 0.0);
    }
}
