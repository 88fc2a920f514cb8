//! The kind `connect`: every request comes on a connection of its own. Carried as bytes, each needs a connection with a handshake of
//! mutual TLS between the ends of the pair; as HTTP, the ends share theirs. The figure is connections for a second of the pair's
//! processor time.

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::comparison::Comparison;
use crate::contestant::{self, Carries, Contestant};
use crate::cpu;
use crate::line_up::Run;
use crate::load::{self, Load};

/// How the kind `connect` is run.
#[derive(Debug, Args)]
pub struct Settings {
    #[command(flatten)]
    pub run: Run,
    /// Clients, each with one connection at a time
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1024))]
    clients: u32,
}

/// Measures.
pub fn run(settings: &Settings) -> Result<Vec<Comparison>> {
    let kinds = [(Carries::Tcp, "new TCP connections, a handshake each"), (Carries::Http, "new HTTP connections")];
    kinds.into_iter().map(|(carries, title)| compare(settings, carries, title)).collect()
}

fn compare(settings: &Settings, carries: Carries, title: &str) -> Result<Comparison> {
    let run = &settings.run;
    let line_up = run.line_up(carries, false)?;
    for contestant in &line_up.contestants {
        contestant.wait_until_it_answers()?;
        turn(settings, contestant, 1)?;
    }
    let unit = "connections per proxy CPU second";
    Comparison::measure(title.to_owned(), unit, 0, run.rounds, line_up.names(), |n| {
        turn(settings, &line_up.contestants[n], run.seconds)
    })
}

fn turn(settings: &Settings, contestant: &Contestant, seconds: u64) -> Result<f64> {
    let pids = contestant.pids();
    let before = cpu::used(&pids)?;
    let load = Load {
        target: contestant.target,
        host: contestant::HOST.to_owned(),
        connections: settings.clients as usize,
        seconds,
        fresh: true,
    };
    let measured = load::own(settings.run.load_core, load).with_context(|| contestant.name.to_owned())?;
    let used = cpu::used(&pids)? - before;
    ensure!(!used.is_zero(), "{} used no processor time", contestant.name);
    Ok(measured.requests as f64 / used.as_secs_f64())
}
