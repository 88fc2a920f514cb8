//! The kind `connect`: every request comes on a connection of its own. Carried as bytes, each needs a connection with a handshake of
//! mutual TLS between the ends of the pair; as HTTP, the ends share theirs. The figure is connections for a second of the pair's
//! processor time.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use crate::comparison::Comparison;
use crate::contestant::{self, Carries, Contestant};
use crate::findings::Findings;
use crate::line_up::{Besides, Cast, Run};
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
pub fn run(settings: &Settings) -> Result<Findings> {
    let kinds = [(Carries::Tcp, "new TCP connections, a handshake each"), (Carries::Http, "new HTTP connections")];
    let mut findings = Findings::of("connect", BTreeMap::new());
    for (carries, title) in kinds {
        let cast = settings.run.cast(carries, Besides::default())?;
        compare(settings, &cast, title)?.found(&mut findings);
        findings.peers.extend(cast.peers);
    }
    Ok(findings)
}

fn compare(settings: &Settings, cast: &Cast, title: &str) -> Result<Comparison> {
    let run = &settings.run;
    let line_up = run.line_up(cast, 128)?;
    line_up.answers()?;
    for contestant in &line_up.contestants {
        turn(settings, contestant, Duration::from_secs(1))?;
    }
    let unit = "connections per proxy CPU second";
    Comparison::measure(title.to_owned(), unit, 0, run.rounds, line_up.names(), |n| {
        turn(settings, &line_up.contestants[n], run.turn)
    })
}

fn turn(settings: &Settings, contestant: &Contestant, length: Duration) -> Result<f64> {
    let load = Load {
        target: contestant.target,
        host: contestant::HOST.to_owned(),
        connections: settings.clients as usize,
        length,
        requests_each: 1,
    };
    let (measured, used) = contestant.pays(|| load::own(settings.run.load_core, load))?;
    Ok(measured.requests as f64 / used.as_secs_f64())
}
