//! `leno top`: what each service is doing now, live.

mod rows;

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::time::Duration;

use crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers};
use http::Method;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::Stylize;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Row, Table as Grid};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval};

use crate::args::Global;
use crate::client::{Client, Edges, Traffic, read};
use crate::failure::{Exit, Failure};
use crate::output::{self, Format, Table, printable};
use rows::{All, Counts, Key, View, cells, grouped, heading, value, widths};

/// Between two looks. Sidecars tell every 5 s what they saw.
const LOOK: Duration = Duration::from_secs(1);
/// Over which rates and times are taken while it runs.
const WINDOW: Duration = Duration::from_secs(15);

/// Show live what each service, or each rule of a route, is doing: requests a second, success, times, retries, and the share with
/// mutual TLS
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Of all namespaces and not only of the one of --namespace
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Print once what the last minute was, and end; so it is without a terminal, too
    #[arg(long)]
    pub once: bool,
    /// By the rules that callers' requests are sent by, with the time until answers begin; the key r changes to and fro
    #[arg(long)]
    pub routes: bool,
}

const EXAMPLES: &str = "Examples:
  leno top                    q ends it, r shows routes
  leno top --routes --once    Which rule is slow, and which retries
  leno top -A --once
  leno top -A -o json | jq '.services[] | select(.success < 0.99)'";

/// Runs the command.
///
/// # Errors
/// The control plane could not be asked, or the terminal cannot be used.
pub async fn run(args: Args, global: &Global) -> Result<(), Failure> {
    let client = super::client(global)?;
    let namespace = (!args.all_namespaces).then(|| global.namespace().to_owned());
    let live = !args.once && global.output == Format::Table && std::io::stdout().is_terminal();
    let view = if args.routes { View::Routes } else { View::Services };
    if live {
        return show(&client, namespace.as_deref(), view).await;
    }
    let all = counts(&client, namespace.as_deref(), 1).await?;
    if global.output != Format::Table {
        return output::value(&value(&all), global.output);
    }
    if !all.keys().any(|key| key.is_of(view)) {
        eprintln!("No call was seen in the last minute. Sidecars tell every 5 s what they saw.");
        return Ok(());
    }
    let mut table = Table::new(&heading(view));
    for (key, counts) in all.iter().filter(|(key, _)| key.is_of(view)) {
        table.row(cells(key, counts, Duration::from_secs(60)));
    }
    table.print()
}

async fn counts(client: &Client, namespace: Option<&str>, minutes: u8) -> Result<All, Failure> {
    let edges: Edges = read(&client.expect(Method::GET, &format!("/v1/edges?minutes={minutes}"), None).await?)?;
    let traffic = client.expect(Method::GET, &format!("/v1/traffic?minutes={minutes}"), None).await?;
    let traffic: Traffic = read(&traffic)?;
    Ok(grouped(&edges, &traffic, namespace))
}

/// What was counted lately, for rates.
#[derive(Default)]
struct Recent(VecDeque<(Instant, All)>);

impl Recent {
    fn push(&mut self, now: Instant, all: All) {
        self.0.push_back((now, all));
        while self.0.len() > 2 && now - self.0[1].0 >= WINDOW {
            self.0.pop_front();
        }
    }

    /// What came within the window, and how long that is.
    fn lately(&self) -> (All, Duration) {
        let (Some((first, before)), Some((last, now))) = (self.0.front(), self.0.back()) else {
            return Default::default();
        };
        let none = Counts::default();
        let since = |(key, counts): (&Key, &Counts)| (key.clone(), counts.since(before.get(key).unwrap_or(&none)));
        (now.iter().map(since).collect(), *last - *first)
    }
}

async fn show(client: &Client, namespace: Option<&str>, mut view: View) -> Result<(), Failure> {
    let mut recent = Recent::default();
    // Before the terminal is taken: what is wrong is said on a plain line.
    recent.push(Instant::now(), counts(client, namespace, 60).await?);
    let failed =
        |why: std::io::Error| Failure::new(Exit::Failed, format!("cannot use the terminal: {why}"), "add --once");
    let mut terminal = ratatui::try_init().map_err(failed)?;
    let _restore = Restore;
    let mut lost: Option<String> = None;
    let (mut keys, mut looks) = (keys(), interval(LOOK));
    loop {
        let looked = async {
            looks.tick().await;
            counts(client, namespace, 60).await
        };
        let looked = tokio::select! {
            looked = looked => Some(looked),
            pressed = keys.recv() => match pressed {
                Some(Pressed::View) => None,
                Some(Pressed::Quit) | None => return Ok(()),
            },
        };
        match looked {
            Some(Ok(all)) => {
                recent.push(Instant::now(), all);
                lost = None;
            }
            Some(Err(why)) => lost = Some(why.to_string()),
            None => view = if view == View::Services { View::Routes } else { View::Services },
        }
        let (all, over) = recent.lately();
        terminal.draw(|frame| draw(frame, &all, view, over, lost.as_deref())).map_err(failed)?;
    }
}

/// Gives the terminal back, however it ends.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// What the user wants.
#[derive(Debug, Clone, Copy)]
enum Pressed {
    Quit,
    View,
}

/// The keys that mean something. Read in a thread, since crossterm blocks; it ends with the process.
fn keys() -> mpsc::Receiver<Pressed> {
    let (sender, keys) = mpsc::channel(1);
    std::thread::spawn(move || {
        while let Ok(event) = crossterm::event::read() {
            let Event::Key(key) = event else { continue };
            let control_c = key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
            let pressed = match key.code {
                _ if control_c => Pressed::Quit,
                KeyCode::Char('q') | KeyCode::Esc => Pressed::Quit,
                KeyCode::Char('r') => Pressed::View,
                _ => continue,
            };
            if key.kind == KeyEventKind::Press && sender.blocking_send(pressed).is_err() {
                return;
            }
        }
    });
    keys
}

fn draw(frame: &mut ratatui::Frame<'_>, all: &All, view: View, over: Duration, lost: Option<&str>) {
    let [head, body] = Layout::vertical([Constraint::Length(2), Constraint::Min(1)]).areas(frame.area());
    let mut title = vec![
        Span::from(" leno top ").bold().reversed(),
        Span::from(format!(
            "  the last {} s; r shows {}, q ends it",
            over.as_secs(),
            if view == View::Services { "routes" } else { "services" }
        )),
    ];
    if let Some(why) = lost {
        title.push(Span::from(format!("   the control plane does not answer: {}", printable(why))).red());
    } else if !all.keys().any(|key| key.is_of(view)) {
        title.push(Span::from("   no call was seen yet").yellow());
    }
    frame.render_widget(Line::from(title), head);
    let rows = all.iter().filter(|(key, _)| key.is_of(view)).map(|(key, counts)| {
        let row = Row::new(cells(key, counts, over));
        if counts.failures > 0 { row.red() } else { row }
    });
    let widths = widths(view).into_iter().map(Constraint::Max);
    frame.render_widget(Grid::new(rows, widths).header(Row::new(heading(view)).bold()), body);
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    use super::*;

    pub(super) fn edges(requests: u64, failures: u64) -> Edges {
        read(&json!({"minutes": 60, "edges": [
            {"source": "spiffe://t/ns/default/sa/a", "mtls": true, "port": 80, "protocol": "http", "requests": requests, "failures": failures,
             "times": [0, 0, requests],
             "destination": {"namespace": "default", "labels": {"version": "v1"}, "services": ["default/web"]}},
            {"source": "10.0.0.1", "mtls": false, "port": 80, "protocol": "http", "requests": requests, "failures": 0, "times": [requests],
             "destination": {"namespace": "default", "labels": {"version": "v1"}, "services": ["default/web"]}},
            {"source": "x", "mtls": true, "port": 1, "protocol": "tcp", "requests": 1,
             "destination": {"namespace": "other", "identity": "spiffe://t/ns/other/sa/lone"}}]}))
        .unwrap()
    }

    pub(super) fn traffic(requests: u64) -> Traffic {
        read(&json!({"minutes": 60, "rules": [
            {"route": "HTTPRoute/default/split", "rule": "checkout", "requests": requests, "failures": requests.min(1), "retries": 7, "times": [0, requests]}],
            "services": [{"service": "default/web", "retries": 7}, {"service": "other/web", "retries": 1}]}))
        .unwrap()
    }

    #[test]
    fn rates_are_of_the_last_seconds_and_never_below_nothing() {
        let (mut recent, mut now) = (Recent::default(), Instant::now());
        for n in 0..100_u64 {
            now += LOOK;
            recent.push(now, grouped(&edges(n * 10, 0), &traffic(0), Some("default")));
        }
        let (all, over) = recent.lately();
        let services = |all: &All| all.iter().find(|(key, _)| key.is_of(View::Services)).unwrap().1.requests;
        let requests = services(&all);
        assert_eq!((requests, over), (2 * 10 * 15, WINDOW));
        // The control plane has started anew and counts from nothing.
        recent.push(now + LOOK, grouped(&edges(1, 0), &traffic(0), Some("default")));
        assert_eq!(services(&recent.lately().0), 0);
    }

    #[test]
    fn the_screen_names_services_and_says_when_nobody_answers() {
        let all = grouped(&edges(60, 6), &traffic(9), None);
        let mut terminal = Terminal::new(TestBackend::new(120, 8)).unwrap();
        let mut shows = |view, parts: &[&str]| {
            terminal.draw(|frame| draw(frame, &all, view, WINDOW, Some("refused"))).unwrap();
            let screen = terminal.backend().to_string();
            parts.iter().for_each(|part| assert!(screen.contains(part), "{part} is not on\n{screen}"));
        };
        shows(View::Services, &["SERVICE", "web", "95.0%", "does not answer: refused", "lone"]);
        shows(View::Routes, &["ROUTE", "split", "checkout", "r shows services"]);
    }
}
