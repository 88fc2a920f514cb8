//! The frontend as the demo sees it: what it counts, second by second and phase by phase.

use serde::Deserialize;
use tokio::io::{AsyncWriteExt, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Duration, timeout};

use super::counts::Counts;
use super::process::Process;
use crate::failure::Failure;

/// A request under way has at most five seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the frontend says: a tick, or a phase that is over.
#[derive(Debug, Clone, Deserialize)]
pub struct Report {
    event: String,
    /// How long it was.
    #[serde(default)]
    pub seconds: f64,
    /// What was counted.
    #[serde(default)]
    pub counts: Counts,
}

/// The running frontend.
#[derive(Debug)]
pub struct Traffic {
    process: Process,
    commands: Option<ChildStdin>,
    phases: mpsc::UnboundedReceiver<Report>,
    ticks: broadcast::Sender<Report>,
    /// Everything that was counted in phases that are over.
    pub total: Counts,
}

impl Traffic {
    /// Begins to listen to a frontend that was just started.
    pub fn new(mut process: Process) -> Self {
        let (commands, lines) = process.talk();
        // Unbounded, but it holds one report for each command that was given.
        let (phase_sender, phases) = mpsc::unbounded_channel();
        let (ticks, _) = broadcast::channel(64);
        if let Some(lines) = lines {
            tokio::spawn(listen(lines, phase_sender, ticks.clone()));
        }
        Self { process, commands, phases, ticks, total: Counts::default() }
    }

    /// What happens, every quarter of a second.
    pub fn ticks(&self) -> broadcast::Receiver<Report> {
        self.ticks.subscribe()
    }

    /// The process, to stop it.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Begins a new phase, and gives what was counted in the one before: every request that began in it, until its end.
    ///
    /// # Errors
    /// The frontend is gone.
    pub async fn phase(&mut self, name: &str) -> Result<Report, Failure> {
        let line = format!("phase {name}\n");
        let gone = |process: &Process| process.failure("does not answer any more");
        match &mut self.commands {
            Some(commands) => {
                let written = async {
                    commands.write_all(line.as_bytes()).await?;
                    commands.flush().await
                };
                written.await.map_err(|_| gone(&self.process))?;
            }
            None => return Err(gone(&self.process)),
        }
        match timeout(PATIENCE, self.phases.recv()).await {
            Ok(Some(report)) => {
                self.total.add(&report.counts);
                Ok(report)
            }
            _ => Err(gone(&self.process)),
        }
    }
}

async fn listen(
    mut lines: Lines<BufReader<ChildStdout>>,
    phases: mpsc::UnboundedSender<Report>,
    ticks: broadcast::Sender<Report>,
) {
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str::<Report>(&line) {
            // Nobody listens to the ticks in the unattended demo.
            Ok(report) if report.event == "tick" => drop(ticks.send(report)),
            Ok(report) if report.event == "phase" => drop(phases.send(report)),
            _ => {}
        }
    }
}
