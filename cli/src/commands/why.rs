//! `leno why`: why a request failed or took long, as the sidecars on its way remember it.

use std::fmt::Write as _;

use http::Method;
use leno_proxy::error::Reason;
use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;

use crate::args::Global;
use crate::client::{Client, SeenRequest, read};
use crate::failure::{Exit, Failure};
use crate::output::{self, Format, printable};
use crate::spans::relative;

/// Say why a request failed or took long: its hops and attempts, the rule it went by, and what to do
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The request's number: the header leno-request-id of its answer
    #[arg(value_name = "REQUEST-ID", required_unless_present_any = ["last_error", "slow"])]
    pub id: Option<String>,
    /// Instead of a number, the newest failure of this service, NAME or NAMESPACE/NAME
    #[arg(long, value_name = "SERVICE", conflicts_with_all = ["id", "slow"])]
    pub last_error: Option<String>,
    /// Instead of a number, the newest request of this service that took a second or longer
    #[arg(long, value_name = "SERVICE", conflicts_with = "id")]
    pub slow: Option<String>,
}

const EXAMPLES: &str = "Examples:
  curl -sD- -o/dev/null -x 127.0.0.1:15001 http://web/ | grep -i leno-request-id
  leno why 5f3a9c0d11e2b478
  leno why --last-error web
  leno why --slow shop/checkout -o json

Each sidecar remembers its last 256 failures and its last 64 slow requests; the codes are explained in docs/reasons.md.";

/// What the control plane answers.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Requests {
    asked: usize,
    answered: usize,
    requests: Vec<SeenRequest>,
}

/// Runs the command.
///
/// # Errors
/// Nobody remembers such a request, or the control plane could not be asked.
pub async fn run(args: Args, global: &Global) -> Result<(), Failure> {
    let client = super::client(global)?;
    let id = match (&args.id, &args.last_error, &args.slow) {
        (Some(id), ..) => id.trim().to_ascii_lowercase(),
        (None, Some(service), _) => newest(&client, "failuresOf", service, global).await?,
        (None, None, service) => newest(&client, "slowOf", service.as_deref().unwrap_or_default(), global).await?,
    };
    if id.len() != 16 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
        let what = format!("{:?} is no number of a request", printable(&id));
        return Err(Failure::new(
            Exit::Usage,
            what,
            "give the 16 digits of the header leno-request-id, or --last-error SERVICE",
        ));
    }
    let answer = client.expect(Method::GET, &format!("/v1/requests?id={id}"), None).await?;
    let mut requests: Requests = read(&answer)?;
    if requests.requests.is_empty() {
        return Err(forgotten(&format!("the request {id}"), &requests));
    }
    if global.output != Format::Table {
        return output::value(&with_advice(answer), global.output);
    }
    // As the request went: the caller's sidecar, then the app's. Along a chain the outermost hop ended last.
    requests.requests.sort_by(|a, b| b.ended.cmp(&a.ended).then_with(|| b.direction.cmp(&a.direction)));
    output::exactly(&text(&requests, OffsetDateTime::now_utc()))
}

async fn newest(client: &Client, of: &str, service: &str, global: &Global) -> Result<String, Failure> {
    let service = match service.split_once('/') {
        Some(_) => service.to_owned(),
        None => format!("{}/{service}", global.namespace()),
    };
    let answer = client.expect(Method::GET, &format!("/v1/requests?{of}={service}"), None).await?;
    let requests: Requests = read(&answer)?;
    match requests.requests.first() {
        Some(newest) => Ok(newest.id.clone()),
        None => Err(forgotten(&format!("a request to {} that did so", printable(&service)), &requests)),
    }
}

fn forgotten(what: &str, requests: &Requests) -> Failure {
    let silent = requests.asked - requests.answered.min(requests.asked);
    let mut message = format!("none of {} sidecars remembers {what}", requests.answered);
    if silent > 0 {
        let _ = write!(message, "; {silent} did not answer");
    }
    let hint = "they keep 256 failures and 64 slow requests each, and nothing of a request that went well; try again soon after it fails";
    Failure::new(Exit::Failed, message, hint)
}

fn reason(code: &str) -> Option<Reason> {
    Reason::ALL.iter().copied().find(|reason| reason.code() == code)
}

/// For machines: each request's reason with its meaning and advice.
fn with_advice(mut answer: Value) -> Value {
    for request in answer["requests"].as_array_mut().into_iter().flatten() {
        if let Some(reason) = request["reason"].as_str().and_then(reason) {
            request["meaning"] = reason.meaning().into();
            request["fault"] = reason.fault().label().into();
            request["advice"] = reason.advice().into();
        }
    }
    answer
}

fn text(requests: &Requests, now: OffsetDateTime) -> String {
    let mut text = String::new();
    if let Some(first) = requests.requests.first() {
        let when = relative(&first.ended, now);
        let _ = writeln!(
            text,
            "{} {} http://{}{}  ({when})",
            first.id,
            first.method,
            printable(&first.host),
            printable(&first.path)
        );
    }
    for (n, hop) in requests.requests.iter().enumerate() {
        let _ = writeln!(text, "\n{}. {}", n + 1, headline(hop));
        for (name, value) in [("service", &hop.service), ("rule", &hop.rule), ("caller", &hop.caller)] {
            if !value.is_empty() {
                let _ = writeln!(text, "   {name:<9}{}", printable(value));
            }
        }
        let _ = writeln!(text, "   {:<9}{}", "result", result(hop));
        let _ = writeln!(text, "   {:<9}{:.1} ms, by configuration of revision {}", "took", hop.took_ms, hop.revision);
        for (n, tried) in hop.tries.iter().enumerate() {
            let what = if tried.reason.is_empty() { tried.status.to_string() } else { printable(&tried.reason) };
            let name = if n == 0 { "attempts" } else { "" };
            let (workload, address) = (printable(&tried.workload), printable(&tried.address));
            let _ = writeln!(text, "   {name:<9}{what} by {workload} at {address} after {:.1} ms", tried.after_ms);
        }
        if hop.retry_denied {
            let _ = writeln!(
                text,
                "   {:<9}another attempt was not granted: the retry budget is used up, so too much fails",
                ""
            );
        }
    }
    // Who said it first knows best: the innermost hop with a reason.
    let known = requests.requests.iter().rev().find_map(|hop| reason(&hop.reason));
    let _ = match known {
        Some(reason) => writeln!(
            text,
            "\nWhy: {}\nWhose fault: {}. Trying again is {}.\nWhat to do: {}",
            reason.meaning(),
            reason.fault().label(),
            if reason.unseen() { "safe" } else { "safe if the request is idempotent" },
            reason.advice()
        ),
        None => writeln!(text, "\nWhy: the app answered so; the mesh carried it. Look at the app's own log."),
    };
    text
}

fn headline(hop: &SeenRequest) -> String {
    let sidecar = printable(&hop.sidecar);
    match hop.direction.as_str() {
        "inbound" => format!("the app's sidecar, {sidecar}"),
        _ => format!("the caller's sidecar, {sidecar}"),
    }
}

fn result(hop: &SeenRequest) -> String {
    match hop.reason.as_str() {
        "" => hop.status.to_string(),
        reason => format!("{} {}", hop.status, printable(reason)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_hops_are_told_in_order_with_what_to_do() {
        let requests: Requests = serde_json::from_value(json!({"asked": 2, "answered": 2, "requests": [
            {"id": "00000000000000ff", "sidecar": "default/frontend-1", "direction": "outbound", "method": "GET", "host": "web",
             "path": "/a", "service": "default/web", "rule": "HTTPRoute/default/web", "status": 403, "reason": "denied", "tookMs": 1.25,
             "revision": 7, "tries": [{"workload": "default/web-1", "address": "10.0.0.1:15008", "reason": "denied", "afterMs": 1.0}]},
            {"id": "00000000000000ff", "sidecar": "default/web-1", "direction": "inbound", "method": "GET", "host": "web",
             "path": "/a", "caller": "spiffe://t/ns/default/sa/frontend", "status": 403, "reason": "denied", "revision": 7}]}))
        .unwrap();
        let text = text(&requests, OffsetDateTime::UNIX_EPOCH);
        for part in [
            "00000000000000ff GET http://web/a",
            "1. the caller's sidecar, default/frontend-1",
            "denied by default/web-1 at 10.0.0.1:15008 after 1.0 ms",
            "2. the app's sidecar, default/web-1",
            "caller   spiffe://t/ns/default/sa/frontend",
            "result   403 denied",
            "1.2 ms, by configuration of revision 7",
            "What to do: `leno policy test",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }

    #[test]
    fn an_apps_own_failure_is_not_called_the_meshs() {
        let requests: Requests =
            serde_json::from_value(json!({"requests": [{"id": "1", "status": 500, "direction": "outbound"}]})).unwrap();
        assert!(text(&requests, OffsetDateTime::UNIX_EPOCH).contains("the app answered so"));
    }
}
