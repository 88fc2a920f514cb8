//! The interactive demo in a terminal.

mod board;
mod draw;

use std::time::Duration;

use crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers};
use tokio::sync::{mpsc, watch};
use tokio::time::interval;

use super::director::{Action, Stage, direct};
use super::mesh::{Mesh, status};
use crate::client::{Client, Status};
use crate::failure::{Exit, Failure};

use board::Board;

/// How often the screen is drawn.
const FRAME: Duration = Duration::from_millis(100);
/// How often the control plane is asked who is there.
const LOOK: Duration = Duration::from_secs(1);

/// Runs until the user quits.
///
/// # Errors
/// The terminal cannot be used.
pub async fn run(mesh: &mut Mesh) -> Result<(), Failure> {
    // It restores the terminal in a panic too.
    let terminal = ratatui::try_init().map_err(|e| {
        Failure::new(Exit::Failed, format!("cannot use the terminal: {e}"), "pipe it for plain lines: leno demo | cat")
    })?;
    let _restore = Restore;
    let (stage, _) = watch::channel(Stage::first());
    let (say, said) = mpsc::unbounded_channel();
    let _ = say.send(format!("the mesh is up: {} processes, every request over mutual TLS", mesh.processes()));
    let _ = say.send(format!("in another terminal: LENO_CONTEXT={} leno status", mesh.context_file().display()));
    let (keys, mut actions) = mpsc::channel(16);
    listen(keys);
    let view = View {
        stage: stage.subscribe(),
        said,
        ticks: mesh.traffic.ticks(),
        statuses: watch_status(mesh.client.clone()),
    };
    tokio::select! {
        ended = direct(mesh, &mut actions, &stage, &say) => ended,
        ended = view.show(terminal) => ended,
    }
}

/// Gives the terminal back, however the demo ends.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// What is shown comes from here.
struct View {
    stage: watch::Receiver<Stage>,
    said: mpsc::UnboundedReceiver<String>,
    ticks: tokio::sync::broadcast::Receiver<super::traffic::Report>,
    statuses: watch::Receiver<Option<Status>>,
}

impl View {
    async fn show(mut self, mut terminal: ratatui::DefaultTerminal) -> Result<(), Failure> {
        let mut board = Board::default();
        let mut frames = interval(FRAME);
        loop {
            tokio::select! {
                Some(line) = self.said.recv() => board.say(line),
                tick = self.ticks.recv() => if let Ok(tick) = tick { board.tick(tick) },
                _ = frames.tick() => {
                    let stage = self.stage.borrow().clone();
                    let status = self.statuses.borrow();
                    let drawn = terminal.draw(|frame| draw::draw(frame, &board, &stage, status.as_ref()));
                    drawn.map_err(|e| Failure::new(Exit::Failed, format!("cannot draw: {e}"), ""))?;
                }
            }
        }
    }
}

/// Asks the control plane who is there; None while it is away.
fn watch_status(client: Client) -> watch::Receiver<Option<Status>> {
    let (sender, receiver) = watch::channel(None);
    tokio::spawn(async move {
        let mut looks = interval(LOOK);
        while !sender.is_closed() {
            looks.tick().await;
            let status = status(&client).await.ok();
            sender.send_replace(status);
        }
    });
    receiver
}

/// Reads keys, in a thread since crossterm blocks. It ends with the process.
fn listen(actions: mpsc::Sender<Action>) {
    std::thread::spawn(move || {
        while let Ok(event) = crossterm::event::read() {
            let Event::Key(key) = event else { continue };
            if key.kind != KeyEventKind::Press {
                continue;
            }
            // In raw mode Ctrl-C is a key like any other.
            let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
            let action =
                if is_control && key.code == KeyCode::Char('c') { Some(Action::Quit) } else { action(key.code) };
            match action {
                // Keys pressed while something is being done are not piled up.
                Some(Action::Quit) => drop(actions.blocking_send(Action::Quit)),
                Some(action) => drop(actions.try_send(action)),
                None => {}
            }
        }
    });
}

fn action(key: KeyCode) -> Option<Action> {
    match key {
        KeyCode::Char('q') | KeyCode::Esc => Some(Action::Quit),
        KeyCode::Char('+' | '=') | KeyCode::Right | KeyCode::Up => Some(Action::Shift(10)),
        KeyCode::Char('-') | KeyCode::Left | KeyCode::Down => Some(Action::Shift(-10)),
        KeyCode::Char('1') => Some(Action::Split(0)),
        KeyCode::Char('2') => Some(Action::Split(10)),
        KeyCode::Char('3') => Some(Action::Split(50)),
        KeyCode::Char('4') => Some(Action::Split(90)),
        KeyCode::Char('5') => Some(Action::Split(100)),
        KeyCode::Char('b') => Some(Action::Break),
        KeyCode::Char('c') => Some(Action::ControlPlane),
        KeyCode::Char('p') => Some(Action::Intrude),
        _ => None,
    }
}
