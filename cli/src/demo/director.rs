//! Does to the mesh what the user of the interactive demo asks for, one thing at a time, and says what came of it.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::intruder::Outcome;
use super::mesh::{Break, Mesh};
use crate::failure::Failure;

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// So many percent of the requests to the second version.
    Split(u8),
    /// So many percent more (or less).
    Shift(i8),
    /// Break an instance, or heal it.
    Break,
    /// Kill the control plane, or start it again.
    ControlPlane,
    /// Send plaintext to the mesh ports.
    Intrude,
    /// End the demo.
    Quit,
}

/// How things stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Percent of the requests that go to the second version.
    pub v2: u8,
    /// Whether an instance is broken, and how.
    pub broken: Option<&'static str>,
    /// Whether the control plane runs.
    pub control_plane: bool,
    /// What is being done now.
    pub busy: Option<&'static str>,
}

impl Stage {
    /// As the shipped canary has it.
    pub fn first() -> Self {
        Self { v2: 10, broken: None, control_plane: true, busy: None }
    }
}

/// Acts until `Quit`, or until nobody asks any more.
///
/// # Errors
/// None; what fails is said.
pub async fn direct(
    mesh: &mut Mesh,
    actions: &mut mpsc::Receiver<Action>,
    stage: &watch::Sender<Stage>,
    say: &mpsc::UnboundedSender<String>,
) -> Result<(), Failure> {
    while let Some(action) = actions.recv().await {
        if action == Action::Quit {
            break;
        }
        let mut now = stage.borrow().clone();
        stage.send_modify(|s| s.busy = Some(doing(action, &now)));
        match act(mesh, action, &mut now).await {
            Ok(lines) => lines.into_iter().for_each(|line| drop(say.send(line))),
            Err(failure) => drop(say.send(failure.to_string().replace('\n', "; "))),
        }
        now.busy = None;
        stage.send_replace(now);
    }
    Ok(())
}

fn doing(action: Action, stage: &Stage) -> &'static str {
    match action {
        Action::Split(_) | Action::Shift(_) => "applying the weights",
        Action::Break if stage.broken.is_some() => "healing the instance",
        Action::Break => "breaking an instance",
        Action::ControlPlane if stage.control_plane => "killing the control plane",
        Action::ControlPlane => "starting the control plane",
        Action::Intrude => "intruding",
        Action::Quit => "ending",
    }
}

async fn act(mesh: &mut Mesh, action: Action, stage: &mut Stage) -> Result<Vec<String>, Failure> {
    match action {
        Action::Split(v2) => split(mesh, v2.min(100), stage).await,
        Action::Shift(by) => {
            let v2 = (i16::from(stage.v2) + i16::from(by)).clamp(0, 100);
            split(mesh, u8::try_from(v2).unwrap_or(0), stage).await
        }
        Action::Break => breaking(mesh, stage).await,
        Action::ControlPlane => control_plane(mesh, stage).await,
        Action::Intrude => {
            let attempts = mesh.intrude().await?;
            let seen = mesh.intruders_seen().await?;
            let mut lines: Vec<String> = attempts
                .into_iter()
                .map(|a| match a.outcome {
                    Outcome::Refused(how) => format!("{} to {}'s mesh port: refused ({how})", a.how, a.at),
                    Outcome::Taken(how) => format!("{} to {}'s mesh port: TAKEN ({how})", a.how, a.at),
                })
                .collect();
            lines.push(format!("{seen} of the intruder's requests reached an app"));
            Ok(lines)
        }
        Action::Quit => Ok(Vec::new()),
    }
}

async fn split(mesh: &Mesh, v2: u8, stage: &mut Stage) -> Result<Vec<String>, Failure> {
    if !stage.control_plane {
        return Ok(vec!["the weights cannot move while the control plane is down; start it first".to_owned()]);
    }
    let start = Instant::now();
    let applied = mesh.split(v2).await?;
    stage.v2 = v2;
    let millis = start.elapsed().as_millis();
    let (revision, acked) = (applied.revision, crate::output::count(applied.acked, "sidecar"));
    Ok(vec![format!("v1 {} %, v2 {v2} %: revision {revision} in force at {acked} after {millis} ms", 100 - v2)])
}

/// Well → answers 503 → resets connections → well.
async fn breaking(mesh: &Mesh, stage: &mut Stage) -> Result<Vec<String>, Failure> {
    let (next, how, text) = match stage.broken {
        None => (Some("answers 503"), Break::Refuse, "web-v2-1 answers 503 from now on; its callers should not notice"),
        Some("answers 503") => (Some("resets"), Break::Reset, "web-v2-1 resets connections from now on"),
        Some(_) => (None, Break::Off, "web-v2-1 is well again"),
    };
    mesh.break_instance(how).await?;
    stage.broken = next;
    let mut lines = vec![text.to_owned()];
    if next.is_none() {
        let broken = mesh.broken().await?;
        let retries = mesh.retries().await?;
        lines.push(format!(
            "it answered {} times 503 and reset {} times; {retries} retries so far",
            broken.refused, broken.resets
        ));
    }
    Ok(lines)
}

async fn control_plane(mesh: &mut Mesh, stage: &mut Stage) -> Result<Vec<String>, Failure> {
    if stage.control_plane {
        mesh.kill_control_plane().await;
        stage.control_plane = false;
        return Ok(vec!["the control plane was killed with -9; sidecars go on with what they have".to_owned()]);
    }
    let start = Instant::now();
    mesh.start_control_plane().await?;
    stage.control_plane = true;
    let status = mesh.joined().await?;
    let took: Duration = start.elapsed();
    let sidecars = crate::output::count(status.sidecars.len() as u64, "sidecar");
    Ok(vec![format!("the control plane is back; {sidecars} resumed after {:.1} s", took.as_secs_f64())])
}
