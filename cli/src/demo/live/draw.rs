//! The screen.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Gauge, Paragraph, Row, Sparkline, Table};
use time::OffsetDateTime;

use super::board::Board;
use crate::client::{Sidecar, Status};
use crate::demo::director::Stage;
use crate::output::{printable, thousands};
use crate::spans::relative;

/// Fits a terminal of 80 columns.
const KEYS: &[(&str, &str)] =
    &[("1-5 + -", "weights"), ("b", "break, heal"), ("c", "control plane -9"), ("p", "intruder"), ("q", "quit")];

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, board: &Board, stage: &Stage, status: Option<&Status>) {
    let [head, numbers, split, sidecars, log, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(6),
        Constraint::Length(4),
        Constraint::Length(8),
        Constraint::Min(4),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    header(frame, head, stage, status);
    traffic(frame, numbers, board);
    versions(frame, split, board, stage);
    table(frame, sidecars, status);
    events(frame, log, board);
    let spans = KEYS.iter().flat_map(|(key, what)| [Span::from(*key).bold().cyan(), Span::from(format!(" {what}   "))]);
    frame.render_widget(Line::from_iter(spans), keys);
}

fn header(frame: &mut Frame<'_>, area: Rect, stage: &Stage, status: Option<&Status>) {
    let mut spans = vec![Span::from(" Leno ").bold().reversed(), Span::from("  control plane ")];
    spans.push(match (stage.control_plane, status) {
        (false, _) => Span::from("killed; sidecars go on without it").bold().red(),
        (true, None) => Span::from("coming").yellow(),
        (true, Some(s)) => Span::from(format!("up, revision {}", s.control_plane.revision)).green(),
    });
    if let Some(how) = stage.broken {
        spans.push(Span::from(format!("   web-v2-1 {how}")).bold().red());
    }
    if let Some(doing) = stage.busy {
        spans.push(Span::from(format!("   {doing} …")).yellow());
    }
    frame.render_widget(Line::from(spans), area);
}

fn block(title: &str) -> Block<'_> {
    Block::bordered().border_style(Style::new().dim()).title(Span::from(format!(" {title} ")).bold())
}

fn traffic(frame: &mut Frame<'_>, area: Rect, board: &Board) {
    let recent = board.recent();
    let [left, right] = Layout::horizontal([Constraint::Length(44), Constraint::Min(10)]).areas(area);
    let success = format!("{:.2} %", recent.success());
    let success =
        if recent.counts.failed == 0 { Span::from(success).green() } else { Span::from(success).bold().red() };
    let millis = |micros: u64| format!("{:.1} ms", micros as f64 / 1000.0);
    let lines = vec![
        Line::from(vec![Span::from(format!("{:>9.0} requests/s   success ", recent.rate())), success]),
        Line::from(format!(
            "      p50 {}   p99 {}",
            millis(recent.counts.p50_micros),
            millis(recent.counts.p99_micros)
        )),
        Line::from(format!(
            "{:>9} requests, {} failed",
            thousands(board.total.requests()),
            thousands(board.total.failed)
        )),
        Line::from(format!(
            "{:>9} store calls, {} failed",
            thousands(board.total.store_ok),
            thousands(board.total.store_failed)
        )),
    ];
    frame.render_widget(Paragraph::new(lines).block(block("frontend → web, store, over mutual TLS")), left);
    let rates = board.rates(usize::from(right.width.saturating_sub(2)));
    let top = rates.iter().max().copied().unwrap_or(0);
    let title = format!("requests/s, highest {}", thousands(top));
    frame.render_widget(Sparkline::default().data(rates).style(Style::new().cyan()).block(block(&title)), right);
}

fn versions(frame: &mut Frame<'_>, area: Rect, board: &Board, stage: &Stage) {
    let recent = board.recent();
    let outer = block("split per version, last 2 s");
    let inner = outer.inner(area);
    frame.render_widget(outer, area);
    let rows = Layout::vertical([Constraint::Length(1); 2]).split(inner);
    for (row, (version, asked, color)) in
        rows.iter().zip([("v1", 100 - stage.v2, Color::Blue), ("v2", stage.v2, Color::Magenta)])
    {
        let share = recent.share(version).clamp(0.0, 1.0);
        let label = format!("{version}  {:.1} % (weight {asked})", share * 100.0);
        let gauge = Gauge::default().ratio(share).label(label).gauge_style(Style::new().fg(color)).use_unicode(true);
        frame.render_widget(gauge, *row);
    }
}

fn table(frame: &mut Frame<'_>, area: Rect, status: Option<&Status>) {
    let now = OffsetDateTime::now_utc();
    let rows = status.into_iter().flat_map(|s| &s.sidecars).map(|s| row(s, now));
    let widths = [
        Constraint::Length(28),
        Constraint::Min(36),
        Constraint::Length(14),
        Constraint::Length(9),
        Constraint::Length(8),
        Constraint::Length(12),
    ];
    let headings = Row::new(["SIDECAR", "IDENTITY", "STATE", "REVISION", "ACK", "CERTIFICATE"]).bold();
    let title = if status.is_some() { "sidecars" } else { "sidecars (the control plane does not answer)" };
    frame.render_widget(Table::new(rows, widths).header(headings).block(block(title)), area);
}

fn row(sidecar: &Sidecar, now: OffsetDateTime) -> Row<'static> {
    let state = if sidecar.connected { printable(&sidecar.state) } else { "disconnected".to_owned() };
    let cells = [
        printable(&sidecar.workload),
        printable(&sidecar.identity),
        state,
        sidecar.revision.to_string(),
        printable(&sidecar.ack),
        relative(&sidecar.certificate_expires, now),
    ];
    let style = if sidecar.connected && sidecar.ack != "NACK" { Style::new() } else { Style::new().red() };
    Row::new(cells.map(Cell::from)).style(style)
}

fn events(frame: &mut Frame<'_>, area: Rect, board: &Board) {
    let room = usize::from(area.height.saturating_sub(2));
    let line = |text: &str| {
        let is_bad = text.starts_with("error") || text.starts_with("failed") || text.contains("TAKEN");
        let style = if is_bad { Style::new().fg(Color::Red).add_modifier(Modifier::BOLD) } else { Style::new() };
        Line::styled(printable(text), style)
    };
    let lines: Vec<Line<'_>> = board.lines(room).map(line).collect();
    frame.render_widget(Paragraph::new(lines).block(block("what happened")), area);
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn screen(width: u16, height: u16, status: Option<&Status>) -> String {
        let mut board = Board::default();
        board.say("the mesh is up".to_owned());
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, &board, &Stage::first(), status)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn the_screen_shows_split_sidecars_and_keys() {
        let sidecar = Sidecar { workload: "default/web-1".into(), connected: true, ..Sidecar::default() };
        let status = Status { sidecars: vec![sidecar], ..Status::default() };
        let screen = screen(80, 24, Some(&status));
        for text in ["requests/s", "weight 90", "default/web-1", "the mesh is up", "q quit"] {
            assert!(screen.contains(text), "{text} is missing in\n{screen}");
        }
    }

    #[test]
    fn a_tiny_terminal_is_survived() {
        for (width, height) in [(1, 1), (20, 5), (300, 3)] {
            screen(width, height, None);
        }
    }
}
