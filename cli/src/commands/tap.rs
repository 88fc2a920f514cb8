//! `leno tap`: requests as they end, live.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Deserialize;

use crate::args::Global;
use crate::client::{SeenRequest, account, segment};
use crate::failure::{Exit, Failure};
use crate::output::{self, Format, printable};

/// Show requests of a service as they end: who asked, who answered, how long it took, and why it failed
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The service, NAME or NAMESPACE/NAME; without it every service
    #[arg(value_name = "SERVICE")]
    pub service: Option<String>,
    /// Only this path, or what begins with it and `*`
    #[arg(long)]
    pub path: Option<String>,
    /// Only this method
    #[arg(long)]
    pub method: Option<String>,
    /// Only these statuses: 503, 5xx or 400-499
    #[arg(long)]
    pub status: Option<String>,
    /// Only requests that failed: by a sidecar's word, or with a status of 500 and above
    #[arg(long)]
    pub failures: bool,
    /// Most requests a second of each sidecar
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub per_second: u32,
    /// How long to look
    #[arg(long = "for", value_name = "DURATION", default_value = "60s")]
    pub how_long: String,
    /// End after this many requests
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
}

const EXAMPLES: &str = "Examples:
  leno tap web
  leno tap web --path '/cart*' --status 5xx --for 10m
  leno tap shop/checkout --failures --count 1 -o json

Each request is shown by the caller's sidecar (->) and by the called app's (<-). With -o json each is one line. Nothing is kept, and
nothing is paid when nobody looks. Needs the role operator.";

/// One line of the answer.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Line {
    request: Option<SeenRequest>,
    sidecar: String,
    missed: u64,
}

/// Runs the command.
///
/// # Errors
/// The control plane could not be asked, or refuses.
pub async fn run(args: Args, global: &Global) -> Result<(), Failure> {
    let client = super::client(global)?;
    let path = asked(&args, global)?;
    let (mut shown, mut missed) = (0, BTreeMap::<String, u64>::new());
    let looking = client.lines(&path, |line| {
        let json = global.output != Format::Table;
        let line_of: Line = serde_json::from_value(line.clone()).unwrap_or_default();
        if line_of.missed > 0 {
            *missed.entry(line_of.sidecar).or_default() += line_of.missed;
        }
        let Some(request) = line_of.request else { return Ok(true) };
        output::exactly(&if json { format!("{}\n", line["request"]) } else { text(&request) })?;
        shown += 1;
        Ok(args.count.is_none_or(|most| shown < most))
    });
    tokio::select! {
        ended = looking => ended?,
        _ = tokio::signal::ctrl_c() => {}
    }
    for (sidecar, missed) in missed {
        eprintln!(
            "{}: {missed} more were not shown; narrow what is asked for, or give --per-second",
            printable(&sidecar)
        );
    }
    Ok(())
}

fn asked(args: &Args, global: &Global) -> Result<String, Failure> {
    let wrong = |why: String| Failure::new(Exit::Usage, format!("--for: {why}"), "write 30s or 10m");
    let time: Duration = leno_proxy::settings::parse_duration(&args.how_long).map_err(wrong)?;
    let mut path = format!("/v1/tap?seconds={}&perSecond={}", time.as_secs().max(1), args.per_second);
    let service = args.service.as_ref().map(|service| match service.split_once('/') {
        Some(_) => service.clone(),
        None => format!("{}/{service}", global.namespace()),
    });
    let given = [("service", &service), ("path", &args.path), ("method", &args.method), ("status", &args.status)];
    for (name, value) in given {
        if let Some(value) = value {
            let _ = write!(path, "&{name}={}", segment(value));
        }
    }
    if args.failures {
        path.push_str("&failures=true");
    }
    Ok(path)
}

/// One line of text.
fn text(request: &SeenRequest) -> String {
    let (arrow, who) = match request.direction.as_str() {
        "inbound" => ("<-", printable(&account(&request.caller))),
        _ => ("->", printable(&request.sidecar)),
    };
    let time = request.ended.split_once('T').map_or(request.ended.as_str(), |(_, time)| time);
    let mut line = format!(
        "{time:<13} {who} {arrow} {} {} {}{} {:.1} ms",
        printable(&request.service),
        printable(&request.method),
        printable(&request.host),
        printable(&request.path),
        request.took_ms,
    );
    let _ = write!(line, " {}", request.status);
    if !request.reason.is_empty() {
        let _ = write!(line, " {}", printable(&request.reason));
    }
    if !request.tapped.endpoint.is_empty() {
        let _ = write!(line, " by {}", printable(&request.tapped.endpoint));
    }
    if request.tapped.attempts > 1 {
        let _ = write!(line, " after {} attempts", request.tapped.attempts);
    }
    let _ = write!(line, " {} B", request.tapped.bytes);
    if !request.id.is_empty() {
        let _ = write!(line, " id={}", printable(&request.id));
    }
    if !request.tapped.trace_id.is_empty() {
        let _ = write!(line, " trace={}", printable(&request.tapped.trace_id));
    }
    line + "\n"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_says_who_asked_whom_and_what_came_of_it() {
        let line: Line = serde_json::from_value::<Line>(json!({"kind": "request", "request": {
            "sidecar": "default/frontend-1", "direction": "outbound", "ended": "2026-01-02T03:04:05.678Z", "method": "GET",
            "host": "web", "path": "/a", "service": "default/web", "status": 503, "reason": "connect_failed", "tookMs": 1.25,
            "id": "00000000000000ff", "tapped": {"endpoint": "default/web-1", "attempts": 3, "bytes": 7, "traceId": "abc"}}}))
        .unwrap();
        assert_eq!(
            text(&line.request.unwrap()),
            "03:04:05.678Z default/frontend-1 -> default/web GET web/a 1.2 ms 503 connect_failed by default/web-1 \
             after 3 attempts 7 B id=00000000000000ff trace=abc\n"
        );
    }

    #[test]
    fn what_a_peer_said_draws_nothing_on_the_terminal() {
        let request = SeenRequest { path: "/\u{1b}[2J".to_owned(), ..SeenRequest::default() };
        assert!(!text(&request).contains('\u{1b}'));
    }
}
