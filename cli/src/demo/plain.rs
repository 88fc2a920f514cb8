//! The interactive demo without a terminal: a line a second, and commands on standard input.

use std::io::BufRead;

use tokio::sync::{mpsc, watch};

use super::counts::Counts;
use super::director::{Action, Stage, direct};
use super::mesh::Mesh;
use crate::failure::Failure;
use crate::output;

/// Ticks of a quarter of a second in one line.
const TICKS: usize = 4;

/// Runs until `quit`, or until it is stopped.
///
/// # Errors
/// Standard output cannot be written.
pub async fn run(mesh: &mut Mesh) -> Result<(), Failure> {
    output::line(format!("The mesh is up: {} processes. Commands: {HELP}", mesh.processes()))?;
    output::line(format!("In another terminal: LENO_CONTEXT={} leno status", mesh.context_file().display()))?;
    let mut ticks = mesh.traffic.ticks();
    let (stage, _) = watch::channel(Stage::first());
    let (say, mut said) = mpsc::unbounded_channel();
    let mut actions = commands(say.clone());
    let lines = async {
        let (mut sum, mut n, mut seconds) = (Counts::default(), 0, 0.0);
        loop {
            tokio::select! {
                Some(line) = said.recv() => output::line(line)?,
                tick = ticks.recv() => {
                    if let Ok(tick) = tick {
                        sum.add(&tick.counts);
                        seconds += tick.seconds;
                        n += 1;
                    }
                    if n == TICKS {
                        output::line(line(&sum, seconds))?;
                        (sum, n, seconds) = (Counts::default(), 0, 0.0);
                    }
                }
            }
        }
    };
    tokio::select! {
        ended = direct(mesh, &mut actions, &stage, &say) => ended,
        ended = lines => ended,
    }
}

const HELP: &str = "0 to 100 (percent to v2), break, control-plane, intrude, quit";

fn line(counts: &Counts, seconds: f64) -> String {
    let rate = counts.requests() as f64 / seconds.max(0.001);
    let failed = match counts.failed {
        0 => "0 failed".to_owned(),
        n => format!("{n} failed ({})", counts.why()),
    };
    format!(
        "{rate:.0} requests/s, {failed}, p50 {:.1} ms, p99 {:.1} ms, v1 {}, v2 {}, store {} ok",
        counts.p50_micros as f64 / 1000.0,
        counts.p99_micros as f64 / 1000.0,
        counts.of_version("v1"),
        counts.of_version("v2"),
        counts.store_ok,
    )
}

/// What standard input asks for. Its end is not the end of the demo: it may have been closed from the start.
fn commands(say: mpsc::UnboundedSender<String>) -> mpsc::Receiver<Action> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let sent = match parse(line.trim()) {
                Some(action) => sender.blocking_send(action).is_ok(),
                None => say.send(format!("{:?} is no command; there are {HELP}", output::printable(&line))).is_ok(),
            };
            if !sent {
                return;
            }
        }
        // Held open for ever, since the end of the channel would be the end of the demo.
        std::mem::forget(sender);
    });
    receiver
}

fn parse(word: &str) -> Option<Action> {
    match word {
        "break" => Some(Action::Break),
        "control-plane" => Some(Action::ControlPlane),
        "intrude" => Some(Action::Intrude),
        "quit" => Some(Action::Quit),
        number => number.parse().ok().filter(|v2| *v2 <= 100).map(Action::Split),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_words_or_a_share() {
        assert_eq!(parse("50"), Some(Action::Split(50)));
        assert_eq!(parse("break"), Some(Action::Break));
        for wrong in ["101", "-1", "", "x"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
