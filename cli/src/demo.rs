//! `leno demo`: a whole mesh on this machine. The control plane and the sidecars are the real programs, as child processes; the
//! apps are small servers and clients of our own. Whatever is said about them was counted at them.

pub mod app;
pub mod counts;

mod binaries;
mod director;
mod fact;
mod folder;
mod intruder;
mod live;
mod mesh;
mod plain;
mod process;
mod scrape;
mod story;
mod traffic;
mod weights;

use std::io::IsTerminal;
use std::time::Duration;

use crate::failure::{Exit, Failure};
use crate::output::{self, Format};
use crate::progress::spinner;

use mesh::Mesh;

/// Where the intruder of the demo asks; no one else does.
const INTRUDER_PATH: &str = "/intruder";

/// How the demo is to go.
#[derive(Debug, Clone)]
pub struct Options {
    /// Unattended, for so long in all.
    pub length: Option<Duration>,
    /// Requests a second of the frontend.
    pub rate: u32,
    /// JSON is for the unattended demo only.
    pub format: Format,
}

/// Runs the demo. However it ends, its processes and its folder are gone.
///
/// # Errors
/// The mesh did not come up, or a promise of the unattended demo did not hold.
pub async fn run(options: Options) -> Result<(), Failure> {
    if options.length.is_none() && options.format != Format::Table {
        return Err(Failure::new(Exit::Usage, "-o json is for the unattended demo", "add --for 30s"));
    }
    tokio::select! {
        ended = play(&options) => ended,
        why = interrupted() => {
            // The mesh is dropped with the other branch, and takes its processes with it.
            let failure = Failure::new(Exit::Failed, format!("stopped by {why}"), "");
            if options.length.is_some() { Err(failure) } else { Ok(()) }
        }
    }
}

async fn play(options: &Options) -> Result<(), Failure> {
    let programs = binaries::find()?;
    // Building them is not the story.
    let start = tokio::time::Instant::now();
    let mut mesh = Mesh::start(programs, options.rate).await?;
    let ended = match options.length {
        Some(length) => unattended(&mut mesh, start + length, options.format).await,
        None if std::io::stdout().is_terminal() => live::run(&mut mesh).await,
        None => plain::run(&mut mesh).await,
    };
    mesh.stop().await;
    ended
}

async fn unattended(mesh: &mut Mesh, end: tokio::time::Instant, format: Format) -> Result<(), Failure> {
    let began = tokio::time::Instant::now();
    let spinner = spinner("");
    let mut print = |event: story::Event<'_>| {
        match event {
            story::Event::Begins(name) => spinner.set_message(name.to_owned()),
            story::Event::Known(fact) if format == Format::Table => {
                return spinner.suspend(|| output::line(fact.line()));
            }
            story::Event::Known(_) => {}
        }
        Ok(())
    };
    let facts = story::tell(mesh, end, &mut print).await?;
    spinner.finish_and_clear();
    if format != Format::Table {
        output::value(&fact::to_json(&facts, began.elapsed()), format)?;
    }
    let broken: Vec<&str> = facts.iter().filter(|f| !f.held).map(|f| f.name.as_str()).collect();
    match broken.as_slice() {
        [] if format == Format::Table => {
            output::line(format!("\nAll {} held. Without --for the demo is yours to play with: leno demo", facts.len()))
        }
        [] => Ok(()),
        broken => Err(Failure::new(Exit::Failed, format!("did not hold: {}", broken.join(", ")), "")),
    }
}

/// Resolves when the user or the system wants the demo to end.
async fn interrupted() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let of = |kind: SignalKind| async move {
        match signal(kind) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = of(SignalKind::interrupt()) => "Ctrl-C",
        () = of(SignalKind::terminate()) => "SIGTERM",
        () = of(SignalKind::hangup()) => "SIGHUP",
    }
}
