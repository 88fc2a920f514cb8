//! `leno top`: what each service is doing now, live.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::IsTerminal;
use std::time::Duration;

use crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers};
use http::Method;
use leno_control_plane::observed::quantile_ms;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::Stylize;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Row, Table as Grid};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval};

use crate::args::Global;
use crate::client::{Client, Edges, read};
use crate::failure::{Exit, Failure};
use crate::output::{self, Format, Table, printable};

/// Between two looks. Sidecars tell every 5 s what they saw.
const LOOK: Duration = Duration::from_secs(1);
/// Over which rates and times are taken while it runs.
const WINDOW: Duration = Duration::from_secs(15);

/// Show live what each service is doing: requests a second, success, times, and the share with mutual TLS
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Of all namespaces and not only of the one of --namespace
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Print once what the last minute was, and end; so it is without a terminal, too
    #[arg(long)]
    pub once: bool,
}

const EXAMPLES: &str = "Examples:
  leno top                    q ends it
  leno top -A --once
  leno top -A -o json | jq '.services[] | select(.success < 0.99)'";

/// Alike workloads of a service, at one port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    namespace: String,
    service: String,
    version: String,
    port: u16,
    protocol: String,
}

/// What was counted of it.
#[derive(Debug, Clone, Default, PartialEq)]
struct Counts {
    requests: u64,
    failures: u64,
    encrypted: u64,
    times: Vec<u64>,
    callers: BTreeSet<String>,
}

type All = BTreeMap<Key, Counts>;

impl Counts {
    fn add(&mut self, edge: &crate::client::Edge) {
        self.requests += edge.requests;
        self.failures += edge.failures;
        self.encrypted += if edge.mtls { edge.requests } else { 0 };
        self.callers.insert(edge.source.clone());
        if self.times.len() < edge.times.len() {
            self.times.resize(edge.times.len(), 0);
        }
        for (sum, more) in self.times.iter_mut().zip(&edge.times) {
            *sum += more;
        }
    }

    /// What has come since; what the control plane has forgotten meanwhile is no less than nothing.
    fn since(&self, before: &Self) -> Self {
        let at = |n: usize| before.times.get(n).copied().unwrap_or_default();
        Self {
            requests: self.requests.saturating_sub(before.requests),
            failures: self.failures.saturating_sub(before.failures),
            encrypted: self.encrypted.saturating_sub(before.encrypted),
            times: self.times.iter().enumerate().map(|(n, now)| now.saturating_sub(at(n))).collect(),
            callers: self.callers.clone(),
        }
    }

    fn quantile_ms(&self, share: f64) -> Option<f64> {
        quantile_ms(&self.times, share)
    }

    fn share(&self, of: u64) -> Option<f64> {
        (self.requests > 0).then(|| of as f64 / self.requests as f64)
    }
}

/// Runs the command.
///
/// # Errors
/// The control plane could not be asked, or the terminal cannot be used.
pub async fn run(args: Args, global: &Global) -> Result<(), Failure> {
    let client = super::client(global)?;
    let namespace = (!args.all_namespaces).then(|| global.namespace().to_owned());
    let live = !args.once && global.output == Format::Table && std::io::stdout().is_terminal();
    if live {
        return show(&client, namespace.as_deref()).await;
    }
    let all = counts(&client, namespace.as_deref(), 1).await?;
    if global.output != Format::Table {
        return output::value(&value(&all), global.output);
    }
    if all.is_empty() {
        eprintln!("No call was seen in the last minute. Sidecars tell every 5 s what they saw.");
        return Ok(());
    }
    let mut table = Table::new(&HEADING);
    for (key, counts) in &all {
        table.row(cells(key, counts, Duration::from_secs(60)));
    }
    table.print()
}

async fn counts(client: &Client, namespace: Option<&str>, minutes: u8) -> Result<All, Failure> {
    let edges: Edges = read(&client.expect(Method::GET, &format!("/v1/edges?minutes={minutes}"), None).await?)?;
    Ok(grouped(&edges, namespace))
}

fn grouped(edges: &Edges, namespace: Option<&str>) -> All {
    let mut all = All::new();
    let wanted =
        |edge: &&crate::client::Edge| namespace.is_none_or(|namespace| edge.destination.namespace == namespace);
    for edge in edges.edges.iter().filter(wanted) {
        let to = &edge.destination;
        let names: Vec<&str> = to.services.iter().map(|name| name.rsplit('/').next().unwrap_or(name)).collect();
        // Who is in no Service is named by what he proves to be.
        let service = if names.is_empty() {
            to.identity.rsplit('/').next().unwrap_or_default().to_owned()
        } else {
            names.join(",")
        };
        let version = to.labels.get("version").cloned().unwrap_or_default();
        let (namespace, protocol) = (to.namespace.clone(), edge.protocol.clone());
        all.entry(Key { namespace, service, version, port: edge.port, protocol }).or_default().add(edge);
    }
    all
}

const HEADING: [&str; 10] =
    ["NAMESPACE", "SERVICE", "VERSION", "PORT", "CALLERS", "PER-SECOND", "SUCCESS", "P50", "P99", "MTLS"];

fn cells(key: &Key, counts: &Counts, over: Duration) -> [String; 10] {
    // Rounded down: 100 % is without any failure.
    let percent =
        |share: Option<f64>| share.map_or_else(String::new, |share| format!("{:.1}%", (share * 1000.0).floor() / 10.0));
    let millis = |share| counts.quantile_ms(share).map_or_else(String::new, |ms| format!("{ms} ms"));
    [
        printable(&key.namespace),
        printable(&key.service),
        printable(&key.version),
        format!("{}/{}", key.port, printable(&key.protocol)),
        counts.callers.len().to_string(),
        format!("{:.1}", counts.requests as f64 / over.as_secs_f64().max(0.001)),
        percent(counts.share(counts.requests.saturating_sub(counts.failures))),
        millis(0.5),
        millis(0.99),
        percent(counts.share(counts.encrypted)),
    ]
}

fn value(all: &All) -> Value {
    let one = |(key, counts): (&Key, &Counts)| {
        json!({
            "namespace": key.namespace, "service": key.service, "version": key.version, "port": key.port,
            "protocol": key.protocol, "callers": counts.callers, "requests": counts.requests, "failures": counts.failures,
            "perSecond": counts.requests as f64 / 60.0,
            "success": counts.share(counts.requests.saturating_sub(counts.failures)),
            "p50Ms": counts.quantile_ms(0.5), "p99Ms": counts.quantile_ms(0.99), "mtls": counts.share(counts.encrypted),
        })
    };
    json!({"seconds": 60, "services": all.iter().map(one).collect::<Vec<_>>()})
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

async fn show(client: &Client, namespace: Option<&str>) -> Result<(), Failure> {
    let mut recent = Recent::default();
    // Before the terminal is taken: what is wrong is said on a plain line.
    recent.push(Instant::now(), counts(client, namespace, 60).await?);
    let failed =
        |why: std::io::Error| Failure::new(Exit::Failed, format!("cannot use the terminal: {why}"), "add --once");
    let mut terminal = ratatui::try_init().map_err(failed)?;
    let _restore = Restore;
    let (mut keys, mut looks) = (quit_keys(), interval(LOOK));
    loop {
        let looked = async {
            looks.tick().await;
            counts(client, namespace, 60).await
        };
        let looked = tokio::select! {
            looked = looked => looked,
            _ = keys.recv() => return Ok(()),
        };
        let lost = match looked {
            Ok(all) => {
                recent.push(Instant::now(), all);
                None
            }
            Err(why) => Some(why.to_string()),
        };
        let (all, over) = recent.lately();
        terminal.draw(|frame| draw(frame, &all, over, lost.as_deref())).map_err(failed)?;
    }
}

/// Gives the terminal back, however it ends.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Something comes when the user wants to leave. Read in a thread, since crossterm blocks; it ends with the process.
fn quit_keys() -> mpsc::Receiver<()> {
    let (sender, keys) = mpsc::channel(1);
    std::thread::spawn(move || {
        while let Ok(event) = crossterm::event::read() {
            let Event::Key(key) = event else { continue };
            let control_c = key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
            let quit = control_c || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc);
            if key.kind == KeyEventKind::Press && quit && sender.blocking_send(()).is_err() {
                return;
            }
        }
    });
    keys
}

fn draw(frame: &mut ratatui::Frame<'_>, all: &All, over: Duration, lost: Option<&str>) {
    let [head, body] = Layout::vertical([Constraint::Length(2), Constraint::Min(1)]).areas(frame.area());
    let mut title = vec![
        Span::from(" leno top ").bold().reversed(),
        Span::from(format!("  the last {} s; q ends it", over.as_secs())),
    ];
    if let Some(why) = lost {
        title.push(Span::from(format!("   the control plane does not answer: {}", printable(why))).red());
    } else if all.is_empty() {
        title.push(Span::from("   no call was seen yet").yellow());
    }
    frame.render_widget(Line::from(title), head);
    let rows = all.iter().map(|(key, counts)| {
        let row = Row::new(cells(key, counts, over));
        if counts.failures > 0 { row.red() } else { row }
    });
    let widths = [14, 24, 10, 12, 8, 11, 9, 9, 9, 7].map(Constraint::Max);
    frame.render_widget(Grid::new(rows, widths).header(Row::new(HEADING).bold()), body);
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn edges(requests: u64, failures: u64) -> Edges {
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

    #[test]
    fn callers_of_a_service_are_added_up_and_times_are_those_of_all() {
        let all = grouped(&edges(60, 6), Some("default"));
        assert_eq!(all.len(), 1);
        let (key, counts) = all.iter().next().unwrap();
        let cells = cells(key, counts, Duration::from_secs(60));
        assert_eq!(
            cells,
            ["default", "web", "v1", "80/http", "2", "2.0", "95.0%", "0.25 ms", "1 ms", "50.0%"].map(str::to_owned)
        );
        assert_eq!(
            grouped(&edges(1, 0), None).keys().map(|key| key.service.as_str()).collect::<Vec<_>>(),
            ["web", "lone"]
        );
    }

    #[test]
    fn rates_are_of_the_last_seconds_and_never_below_nothing() {
        let (mut recent, mut now) = (Recent::default(), Instant::now());
        for n in 0..100_u64 {
            now += LOOK;
            recent.push(now, grouped(&edges(n * 10, 0), Some("default")));
        }
        let (all, over) = recent.lately();
        let requests = all.values().next().unwrap().requests;
        assert_eq!((requests, over), (2 * 10 * 15, WINDOW));
        // The control plane has started anew and counts from nothing.
        recent.push(now + LOOK, grouped(&edges(1, 0), Some("default")));
        assert_eq!(recent.lately().0.values().next().unwrap().requests, 0);
    }

    #[test]
    fn the_screen_names_services_and_says_when_nobody_answers() {
        let all = grouped(&edges(60, 6), None);
        let mut terminal = Terminal::new(TestBackend::new(120, 8)).unwrap();
        terminal.draw(|frame| draw(frame, &all, WINDOW, Some("refused"))).unwrap();
        let screen = terminal.backend().to_string();
        for part in ["SERVICE", "web", "95.0%", "does not answer: refused", "lone"] {
            assert!(screen.contains(part), "{part} is not on\n{screen}");
        }
    }
}
