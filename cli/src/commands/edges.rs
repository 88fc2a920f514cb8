//! `leno edges`: who calls whom.

use http::Method;
use time::OffsetDateTime;

use crate::args::Global;
use crate::client::{Edge, Edges, read};
use crate::failure::Failure;
use crate::output::{self, Format, Table, thousands};
use crate::spans::relative;

/// Show who calls whom: how often, how it goes, and whether with mutual TLS
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Of all namespaces and not only to the one of --namespace
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Count the last so many minutes, 60 at most
    #[arg(long, default_value_t = 60, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=60))]
    pub minutes: u8,
}

const EXAMPLES: &str = "Examples:
  leno edges                                 Calls to the namespace default, of the last hour
  leno edges -A --minutes 5
  leno edges -A -o json | jq '.edges[] | select(.mtls | not)'   Who still sends plaintext";

/// Runs the command.
///
/// # Errors
/// The control plane could not be asked.
pub async fn run(args: Args, global: &Global) -> Result<(), Failure> {
    let path = format!("/v1/edges?minutes={}", args.minutes);
    let mut answer = super::client(global)?.expect(Method::GET, &path, None).await?;
    if !args.all_namespaces
        && let Some(edges) = answer["edges"].as_array_mut()
    {
        edges.retain(|edge| edge["destination"]["namespace"] == global.namespace());
    }
    if global.output != Format::Table {
        return output::value(&answer, global.output);
    }
    let edges: Edges = read(&answer)?;
    if edges.edges.is_empty() {
        eprintln!("No call was seen yet. Sidecars tell every 5 s what they saw.");
        return Ok(());
    }
    table(&edges, OffsetDateTime::now_utc()).print()
}

fn table(edges: &Edges, now: OffsetDateTime) -> Table {
    let heading = ["FROM", "TO", "PORT", "PROTOCOL", "MTLS", "REQUESTS", "PER-SECOND", "SUCCESS", "P50", "P99", "LAST"];
    let mut table = Table::new(&heading);
    for edge in &edges.edges {
        let per_second = edge.requests as f64 / (edges.minutes.max(1) * 60) as f64;
        let share = |edge: &Edge| {
            let well = 1.0 - edge.failures as f64 / edge.requests as f64;
            // Rounded down: 100 % is without any failure.
            if edge.requests > 0 { format!("{:.1}%", (well * 1000.0).floor() / 10.0) } else { String::new() }
        };
        let time = |time: Option<f64>| time.map(|ms| format!("≤{ms}ms")).unwrap_or_default();
        table.row([
            edge.who(),
            edge.whom(),
            edge.port.to_string(),
            edge.protocol.clone(),
            if edge.mtls { "yes" } else { "no" }.to_owned(),
            thousands(edge.requests),
            format!("{per_second:.2}"),
            share(edge),
            time(edge.p50_ms),
            time(edge.p99_ms),
            relative(&edge.last_seen, now),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_edge_is_a_line_with_rate_success_and_times() {
        let edges: Edges = read(&json!({"minutes": 1, "edges": [
            {"source": "spiffe://cluster.local/ns/shop/sa/frontend", "mtls": true, "port": 8080, "protocol": "http",
             "destination": {"namespace": "default", "identity": "spiffe://cluster.local/ns/default/sa/web",
                             "labels": {"app": "web"}, "services": ["default/web"]},
             "requests": 1200, "failures": 1, "p50Ms": 0.5, "p99Ms": 4.0, "lastSeen": "1970-01-01T00:00:00Z"},
            {"source": "10.0.0.9", "mtls": false, "port": 6379, "protocol": "tcp",
             "destination": {"identity": "spiffe://cluster.local/ns/default/sa/store"}, "requests": 2, "failures": 2},
        ]}))
        .unwrap();
        let lines = table(&edges, OffsetDateTime::from_unix_timestamp(10).unwrap()).lines();
        let cells = |line: &str| {
            line.split("   ").map(str::trim).filter(|c| !c.is_empty()).map(str::to_owned).collect::<Vec<_>>()
        };
        let web = [
            "shop/frontend",
            "default/web",
            "8080",
            "http",
            "yes",
            "1,200",
            "20.00",
            "99.9%",
            "≤0.5ms",
            "≤4ms",
            "10s ago",
        ];
        assert_eq!(cells(&lines[1]), web);
        assert_eq!(cells(&lines[2])[..8], ["10.0.0.9", "default/store", "6379", "tcp", "no", "2", "0.03", "0.0%"]);
    }
}
